//! Hit ratios on generated traces: ours on 1 and on 16 shards beside LRU, and what near sets save of
//! messages. Real parts, real books; only the origin is missing.

use std::collections::HashMap;
use std::sync::Arc;

use millrace::base::clock::Moment;
use millrace::base::random::Random;
use millrace::cache::directive::Directives;
use millrace::cache::entry::{Draft, Entry};
use millrace::cache::freshness::Freshness;
use millrace::cache::key;
use millrace::cache::ledger::Ledger;
use millrace::cache::near::Near;
use millrace::cache::shard::{CacheRequest, CacheShard, Decision, Seen, Ticket};
use millrace::message::fields::Fields;

const OBJECTS: u32 = 100_000;
const REQUESTS: usize = 400_000;
/// Entries that fit: a tenth of all objects.
const ROOM: usize = 10_000;
/// As 4,096 near entries are to a cache of 100,000.
const NEAR: usize = 400;

pub(crate) fn table() {
    println!(
        "\nhit ratios, {OBJECTS} objects, room for {ROOM}, {REQUESTS} requests\n{:22} {:>7} {:>7} {:>10} {:>10}",
        "trace", "LRU", "1 shard", "16 shards", "lost"
    );
    for (name, trace) in traces() {
        let lru = lru(&trace);
        let [one, many] = [1, 16].map(|shards| Cache::new(shards, 0).run(&trace).hits);
        let lost = 100.0 * (one - many);
        println!("{name:22} {lru:7.3} {one:7.3} {many:10.3} {lost:8.2} pt");
        // Where all that is popular is replaced at once, recency is the better guess, by a little.
        assert!(one >= lru - 0.005, "{name}: {one:.3}, LRU {lru:.3}");
        assert!(lost <= 0.5, "{name}: 16 shards lose {lost:.2} points");
    }
    near();
}

fn near() {
    let trace = zipf(1.0, 3);
    let one = Cache::new(1, 0).run(&trace);
    println!("\n8 shards, Zipf 1.0: hits that need no message");
    for (near, loses) in [(0, 0.5), (NEAR, 1.2)] {
        let found = Cache::new(8, near).run(&trace);
        let lost = 100.0 * (one.hits - found.hits);
        println!(
            "near set of {near:4}: {:5.1} % of hits, hit ratio {:.3} ({lost:.2} points below one cache)",
            100.0 * found.local,
            found.hits
        );
        assert!(lost <= loses, "{lost:.2} points lost");
        assert!(near == 0 || found.local >= 0.25, "{:.3}", found.local);
    }
}

fn traces() -> Vec<(&'static str, Vec<u32>)> {
    let mut random = Random::new(11);
    let popular = zipf(1.0, 5);
    let mut all =
        vec![("Zipf 0.8", zipf(0.8, 1)), ("Zipf 1.0", zipf(1.0, 2)), ("Zipf 1.2", zipf(1.2, 4))];
    // Something that is asked for once, each third time.
    let mut next = OBJECTS;
    let once = popular.iter().map(|one| {
        next += 1;
        if random.below(10) < 3 { next } else { *one }
    });
    all.push(("Zipf 1.0, 30 % once", once.collect()));
    // Now and then a client reads 20,000 in a row.
    let scan = |at: usize, one: u32| {
        let place = at % 100_000;
        if place < 20_000 { 2 * OBJECTS + u32::try_from(at).unwrap() } else { one }
    };
    all.push((
        "Zipf 1.0 and scans",
        popular.iter().enumerate().map(|(at, one)| scan(at, *one)).collect(),
    ));
    // Round and round, over more than there is room for, beside the usual.
    let mut turn = 0;
    let looping = popular.iter().enumerate().map(|(at, one)| {
        if at % 2 == 0 {
            turn = (turn + 1) % 12_000;
            4 * OBJECTS + turn
        } else {
            *one
        }
    });
    all.push(("loop beside Zipf 1.0", looping.collect()));
    // What is popular changes.
    let shifting = popular.iter().enumerate().map(|(at, one)| {
        let shift = u32::try_from(at / 2_000).unwrap() * 50;
        (one + shift) % OBJECTS
    });
    all.push(("shifting Zipf 1.0", shifting.collect()));
    all
}

/// Ranks by Zipf's law.
fn zipf(skew: f64, seed: u64) -> Vec<u32> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=OBJECTS)
        .map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        })
        .collect();
    let mut random = Random::new(seed);
    let mut pick = || {
        let point = f64::from(random.below(1 << 30)) / f64::from(1 << 30) * sum;
        u32::try_from(sums.partition_point(|one| *one < point)).unwrap()
    };
    (0..REQUESTS).map(|_| pick()).collect()
}

fn lru(trace: &[u32]) -> f64 {
    let mut last: HashMap<u32, usize> = HashMap::new();
    let mut order: std::collections::BTreeMap<usize, u32> = std::collections::BTreeMap::new();
    let mut hits = 0;
    for (at, one) in trace.iter().enumerate() {
        if let Some(before) = last.insert(*one, at) {
            hits += 1;
            order.remove(&before);
        } else if last.len() > ROOM
            && let Some((_, oldest)) = order.pop_first()
        {
            last.remove(&oldest);
        }
        order.insert(at, *one);
    }
    f64::from(hits) / trace.len() as f64
}

struct Ratios {
    hits: f64,
    /// Of the hits, those without a message to another shard.
    local: f64,
}

struct Cache {
    ledger: Arc<Ledger>,
    parts: Vec<CacheShard>,
    near: Vec<Near>,
}

impl Cache {
    fn new(shards: usize, near: usize) -> Self {
        let budget = ROOM as u64 * entry(&question(0)).weight();
        let ledger = Arc::new(Ledger::new(budget, budget, shards, 9));
        let part = |shard| CacheShard::new(shard, Arc::clone(&ledger), None, 0);
        let parts = (0..shards).map(part).collect();
        Self { parts, near: (0..shards).map(|_| Near::new(near)).collect(), ledger }
    }

    fn run(mut self, trace: &[u32]) -> Ratios {
        let mut random = Random::new(1);
        let (mut hits, mut local) = (0, 0);
        let shards = u32::try_from(self.parts.len()).unwrap();
        for (at, one) in trace.iter().enumerate() {
            let question = question(*one);
            let now = Moment(at as u64);
            let here = random.below(shards) as usize;
            let owner = key::owner(question.hash, self.parts.len());
            let near = self.near[here].find(question.hash, &question.key, &question.fields, 0);
            if let Some(entry) = near {
                entry.warm();
                hits += 1;
                local += 1;
                continue;
            }
            match self.parts[owner].ask(&question, &Seen::default(), now) {
                Decision::Use(entry, _) => {
                    hits += 1;
                    local += u32::from(owner == here);
                    if owner != here {
                        self.near[here].offer(question.hash, &entry, 0);
                    }
                }
                Decision::Fetch { ticket, .. } => self.fetched(owner, &ticket, &question, now),
                other => panic!("{other:?}"),
            }
            if at % 1000 == 0 {
                self.parts.iter_mut().for_each(|part| part.tick(now));
            }
            if at % 10_000 == 0 {
                self.ledger.balance();
                self.near.iter_mut().for_each(|near| near.sweep(0));
            }
        }
        Ratios {
            hits: f64::from(hits) / trace.len() as f64,
            local: f64::from(local) / f64::from(hits),
        }
    }

    fn fetched(&mut self, owner: usize, ticket: &Ticket, question: &CacheRequest, now: Moment) {
        self.parts[owner].commit(ticket, &Arc::new(entry(question)), false, now);
    }
}

fn question(object: u32) -> CacheRequest {
    let target = format!("/{object:08}");
    let mut key = vec![0; 17];
    key[13] = 9;
    key.extend_from_slice(target.as_bytes());
    CacheRequest {
        hash: key::hash(&key, 9),
        key,
        fields: Fields::default(),
        wants: Directives::default(),
        grace: 0,
        may_share: true,
        is_partly: false,
        has_range: false,
    }
}

fn entry(question: &CacheRequest) -> Entry {
    let draft = Draft {
        key: &question.key,
        selecting: b"",
        fields: b"",
        status: 200,
        freshness: Freshness { lifetime: 1 << 30, ..Freshness::default() },
        modified: None,
    };
    draft.small(b"")
}
