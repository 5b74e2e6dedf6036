//! Lives of a cache: shards as actors whose messages come late, clients, fetches that end well or
//! badly, purges, evictions, a disk, and processes that are killed. Checked at each answer: it is the
//! whole body of what was asked for, and nothing that was purged before it was asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use millrace::base::clock::Moment;
use millrace::base::error::Kind;
use millrace::base::random::Random;
use millrace::cache::directive::Directives;
use millrace::cache::disk_index::{Books, DiskNews, DiskOrder};
use millrace::cache::entry::{Draft, Entry, Large};
use millrace::cache::file::When;
use millrace::cache::fill_stream::{FillStream, Link, Node, Start};
use millrace::cache::freshness::{Freshness, StoredUse};
use millrace::cache::ledger::Ledger;
use millrace::cache::near::Near;
use millrace::cache::octets::{Chunk, Octets, joined};
use millrace::cache::policy::NotStored;
use millrace::cache::purge::{Purge, What};
use millrace::cache::shard::{CacheRequest, CacheShard, Decision, Seen, Ticket};
use millrace::cache::{key, vary};
use millrace::message::fields::Fields;

use crate::disk::{Change, Disk, Wrote};

const SEED: u64 = 5;
const URLS: u32 = 12;
const KINDS: u32 = 3;
const EVENTS: usize = 2_500;
/// Milliseconds that a life begins at, on the wall.
const WALL: u64 = 1_000_000_000;

pub(crate) fn run(lives: u64) {
    let only = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..lives, |seed: u64| seed..seed + 1);
    let mut sum = Sum::default();
    for seed in seeds {
        let life = std::panic::catch_unwind(|| World::new(seed).live());
        match life {
            Ok(one) => sum.add(&one),
            Err(_) => panic!("the cache failed with seed {seed}: MILLRACE_SEED={seed} repeats it"),
        }
    }
    println!("\n{lives} lives of a cache: {sum:?}");
    assert!(only.is_some() || sum.is_telling(), "{sum:?}");
}

/// What happened, so that an idle simulation is not taken for a good one.
#[derive(Clone, Debug, Default)]
struct Sum {
    hits: u64,
    near: u64,
    from_disk: u64,
    collapsed: u64,
    fetches: u64,
    aborts: u64,
    purges: u64,
    crashes: u64,
    deaths: u64,
}

impl Sum {
    fn add(&mut self, one: &Self) {
        self.hits += one.hits;
        self.near += one.near;
        self.from_disk += one.from_disk;
        self.collapsed += one.collapsed;
        self.fetches += one.fetches;
        self.aborts += one.aborts;
        self.purges += one.purges;
        self.crashes += one.crashes;
        self.deaths += one.deaths;
    }

    fn is_telling(&self) -> bool {
        [self.hits, self.near, self.from_disk, self.collapsed, self.fetches, self.aborts]
            .iter()
            .chain(&[self.purges, self.crashes, self.deaths])
            .all(|count| *count > 100)
    }
}

/// What shards tell each other, as `shard::cache_handle` has it.
enum Message {
    Ask { client: usize, from: usize, epoch: u32 },
    Found { client: usize, found: Decision, epoch: u32 },
    Commit { ticket: Ticket, entry: Arc<Entry>, is_same: bool },
    Release { ticket: Ticket, is_marked: bool },
    Fail { ticket: Ticket },
    Purge { purge: usize },
    Purged { purge: usize },
    Disk(DiskNews),
}

enum Event {
    Client,
    Mail(usize, Message),
    /// A client looks whether its stream has moved.
    Look(usize),
    Fetch(Box<Fetch>),
    Purge,
    PurgeGoesOn(usize),
    Writer,
    Reader(usize, DiskOrder),
    Tick,
    Crash,
    /// One shard dies alone, and another takes its mailbox.
    Death,
}

struct Client {
    question: CacheRequest,
    at: usize,
    url: u32,
    /// Nothing older than this may be served to it.
    least: u64,
    seen: Seen,
    waits: u32,
    on: On,
}

enum On {
    Nothing,
    Load(Arc<FillStream>),
    FillStream(Arc<FillStream>, Arc<Node>, Vec<u8>),
}

struct Fetch {
    ticket: Ticket,
    question: CacheRequest,
    url: u32,
    at: usize,
    stale: Option<Arc<Entry>>,
    /// Once the origin was asked: what it said, and how much has come.
    body: Option<(u64, Arc<Entry>, Vec<u8>, usize)>,
    last: Arc<Node>,
    pieces: Vec<Chunk>,
}

struct Purging {
    purge: Purge,
    at: usize,
    number: Option<u64>,
    waits_for: usize,
    /// What is asked for after its end is at least this new, by URL.
    least: BTreeMap<u32, u64>,
    is_broadcast: bool,
}

struct World {
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    by_number: BTreeMap<u64, Event>,
    next: u64,
    random: Random,
    ledger: Arc<Ledger>,
    books: Arc<Books>,
    parts: Vec<CacheShard>,
    near: Vec<Near>,
    clients: Vec<Client>,
    purges: Vec<Purging>,
    /// What the origin has, and what must be known of it.
    versions: BTreeMap<u32, u64>,
    least: BTreeMap<u32, u64>,
    disk: Disk,
    /// Milliseconds between purges, at most.
    calm: u64,
    sum: Sum,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shards = 1 + random.below(4) as usize;
        let random_calm = random.below(4) as usize;
        let ledger =
            Arc::new(Ledger::new(2_000 + u64::from(random.below(8_000)), 4_000, shards, SEED));
        let books = Arc::new(Books::new(6_000, shards, 0, Vec::new()));
        let mut world = Self {
            now: 0,
            events: BinaryHeap::new(),
            by_number: BTreeMap::new(),
            next: 0,
            random,
            parts: Vec::new(),
            near: Vec::new(),
            ledger,
            books,
            clients: Vec::new(),
            purges: Vec::new(),
            versions: (0..URLS).map(|url| (url, 1)).collect(),
            least: BTreeMap::new(),
            disk: Disk::default(),
            calm: [10, 120, 120, 400][random_calm],
            sum: Sum::default(),
        };
        world.start(shards);
        for event in
            [Event::Client, Event::Purge, Event::Writer, Event::Tick, Event::Crash, Event::Death]
        {
            world.later(event, 1);
        }
        world
    }

    fn start(&mut self, shards: usize) {
        let part = |shard| {
            let books = Some(Arc::clone(&self.books));
            CacheShard::new(shard, Arc::clone(&self.ledger), books, self.next)
        };
        self.parts = (0..shards).map(part).collect();
        self.near = (0..shards).map(|_| Near::new(4)).collect();
    }

    fn later(&mut self, event: Event, most: u64) {
        let delay = u64::from(self.random.below(u32::try_from(most + 1).unwrap()));
        self.next += 1;
        self.events.push(Reverse((self.now + delay, self.next)));
        self.by_number.insert(self.next, event);
    }

    fn all_listed(&mut self, shard: usize) {
        let now = self.now;
        self.now += 6;
        self.later(Event::Mail(shard, Message::Disk(DiskNews::AllListed)), 40);
        self.now = now;
    }

    fn now(&self) -> Moment {
        Moment(self.now)
    }

    fn when(&self) -> When {
        When { now: self.now(), wall: WALL + self.now }
    }

    fn live(mut self) -> Sum {
        for _ in 0..EVENTS {
            let Some(Reverse((at, number))) = self.events.pop() else { break };
            self.now = at;
            let Some(event) = self.by_number.remove(&number) else { continue };
            self.happen(event);
        }
        self.sum
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client => {
                self.client();
                self.later(Event::Client, 8);
            }
            Event::Mail(to, message) => self.hear(to, message),
            Event::Look(client) => self.look(client),
            Event::Fetch(fetch) => self.fetch(*fetch),
            Event::Purge => {
                self.purge();
                self.later(Event::Purge, self.calm);
            }
            Event::PurgeGoesOn(purge) => self.purge_goes_on(purge),
            Event::Writer => {
                let when = self.when();
                match self.disk.write(SEED, when, &mut self.random) {
                    Some(Wrote::News(shard, news)) => self.mail(shard, Message::Disk(news)),
                    Some(Wrote::Fence(purge)) => self.later(Event::PurgeGoesOn(purge), 3),
                    Some(Wrote::Sweep(number)) => {
                        self.disk.sweep(number);
                        for shard in 0..self.parts.len() {
                            self.mail(shard, Message::Disk(DiskNews::SweptAll { number }));
                        }
                    }
                    None => {}
                }
                self.later(Event::Writer, 6);
            }
            Event::Reader(shard, order) => {
                let DiskOrder::Load(load) = order else { panic!("a reader writes") };
                let news = self.disk.load(&load, SEED, self.when());
                self.mail(shard, Message::Disk(news));
            }
            Event::Tick => {
                let now = self.now();
                for shard in 0..self.parts.len() {
                    self.own(shard, |part| part.tick(now));
                }
                self.ledger.balance();
                self.later(Event::Tick, 200);
            }
            Event::Death => {
                if self.now > 0 && self.random.below(4) == 0 {
                    self.death();
                }
                self.later(Event::Death, 4_000);
            }
            Event::Crash => {
                if self.now > 0 && self.random.below(3) == 0 {
                    self.crash();
                }
                self.later(Event::Crash, 2_000);
            }
        }
    }

    /// Now and then a mailbox is full, and a message comes much later.
    fn mail(&mut self, to: usize, message: Message) {
        let is_late = !matches!(message, Message::Disk(_)) && self.random.below(100) == 0;
        self.later(Event::Mail(to, message), if is_late { 2_000 } else { 5 });
    }

    /// Does something to a part and hands over its orders to the disk, as the desk does.
    fn own<T>(&mut self, shard: usize, act: impl FnOnce(&mut CacheShard) -> T) -> T {
        let result = act(&mut self.parts[shard]);
        let Some(disk_index) = self.parts[shard].disk_index.as_mut() else { return result };
        for order in disk_index.take_orders() {
            match order {
                DiskOrder::Load(_) => self.later(Event::Reader(shard, order), 20),
                order => self.disk.orders.push_back((shard, Change::Order(order))),
            }
        }
        result
    }

    // === clients ===

    fn client(&mut self) {
        let url = self.random.below(URLS);
        let kind = self.random.below(KINDS);
        let at = self.random.below(u32::try_from(self.parts.len()).unwrap()) as usize;
        let question = question(url, kind);
        let least = self.least.get(&url).copied().unwrap_or(0);
        let (seen, on) = (Seen::default(), On::Nothing);
        self.clients.push(Client { question, at, url, least, seen, waits: 0, on });
        self.ask(self.clients.len() - 1);
    }

    fn owner(&self, hash: u64) -> usize {
        key::owner(hash, self.parts.len())
    }

    fn ask(&mut self, client: usize) {
        let now = self.now();
        let Client { question, at, seen, .. } = &self.clients[client];
        let (question, at, seen) = (question.clone(), *at, seen.clone());
        let (owner, epoch) = (self.owner(question.hash), self.ledger.epoch());
        if owner == at {
            let found = self.own(at, |part| part.ask(&question, &seen, now));
            return self.found(client, found, epoch);
        }
        let near = self.near[at].find(question.hash, &question.key, &question.fields, epoch);
        let is_fresh = |entry: &&Arc<Entry>| {
            entry.freshness().judge(&question.wants, 0, now) == StoredUse::Fresh
        };
        if let Some(entry) = near.filter(is_fresh).cloned() {
            self.sum.near += 1;
            return self.serve(client, &entry);
        }
        self.mail(owner, Message::Ask { client, from: at, epoch });
    }

    fn found(&mut self, client: usize, found: Decision, epoch: u32) {
        let Client { question, at, url, .. } = &self.clients[client];
        let (question, at, url) = (question.clone(), *at, *url);
        match found {
            Decision::Use(entry, _) => {
                self.sum.from_disk += u64::from(self.clients[client].seen.disk);
                if self.owner(question.hash) != at {
                    self.near[at].offer(question.hash, &entry, epoch);
                }
                self.serve(client, &entry);
            }
            Decision::Refresh(entry, ticket) => {
                self.serve(client, &entry);
                self.begin(ticket, question, url, at, Some(entry));
            }
            Decision::Fetch { ticket, stale, .. } => self.begin(ticket, question, url, at, stale),
            Decision::Follow(stream, node) => {
                self.clients[client].on = On::FillStream(stream, node, Vec::new());
                self.later(Event::Look(client), 5);
            }
            Decision::Load(stream) => {
                self.clients[client].on = On::Load(stream);
                self.later(Event::Look(client), 10);
            }
            Decision::Pass { .. } | Decision::Absent => {}
        }
    }

    fn look(&mut self, client: usize) {
        self.clients[client].waits += 1;
        let waits = self.clients[client].waits;
        match std::mem::replace(&mut self.clients[client].on, On::Nothing) {
            On::Nothing => {}
            On::Load(stream) => {
                if let Some(Start::Looked(Some(entry))) = stream.start()
                    && self.is_fresh(client, entry)
                {
                    self.sum.from_disk += 1;
                    return self.serve(client, &Arc::clone(entry));
                }
                if stream.start().is_none() && waits < 4 {
                    self.clients[client].on = On::Load(stream);
                    return self.later(Event::Look(client), 10);
                }
                self.clients[client].seen.disk = true;
                self.ask(client);
            }
            On::FillStream(stream, node, body) => self.follow(client, stream, node, body),
        }
    }

    fn is_fresh(&self, client: usize, entry: &Entry) -> bool {
        let Client { question, .. } = &self.clients[client];
        vary::matches(entry.selecting(), &question.fields)
            && entry.freshness().judge(&question.wants, 0, self.now()) == StoredUse::Fresh
    }

    fn follow(
        &mut self,
        client: usize,
        stream: Arc<FillStream>,
        mut node: Arc<Node>,
        mut body: Vec<u8>,
    ) {
        let suits = |entry: &Arc<Entry>| {
            vary::matches(entry.selecting(), &self.clients[client].question.fields)
        };
        match stream.start() {
            None => {}
            Some(Start::Stored(entry)) if suits(entry) => {
                self.sum.collapsed += 1;
                let entry = Arc::clone(entry);
                return self.serve(client, &entry);
            }
            Some(Start::Growing(entry)) if suits(entry) => {
                while let Some(link) = node.next() {
                    match link {
                        Link::Data(next) => {
                            body.extend_from_slice(&next.data);
                            let next = Arc::clone(next);
                            node = next;
                        }
                        Link::End => {
                            self.sum.collapsed += 1;
                            let entry = Arc::clone(entry);
                            return self.check(client, entry.key(), &body);
                        }
                        // The client sees that it was cut.
                        Link::Cut | Link::Passing(_) => return,
                    }
                }
            }
            Some(Start::Stored(entry) | Start::Growing(entry)) => {
                self.clients[client].seen.other = Some(Arc::clone(entry));
                return self.ask(client);
            }
            Some(Start::Failed(_) | Start::Stands(_)) => return,
            Some(Start::Released(_) | Start::Looked(_)) => return self.ask(client),
        }
        if self.clients[client].waits < 100 {
            self.clients[client].on = On::FillStream(stream, node, body);
            self.later(Event::Look(client), 5);
        }
    }

    fn serve(&mut self, client: usize, entry: &Arc<Entry>) {
        self.sum.hits += 1;
        let body = match entry.large() {
            None => entry.small().unwrap().to_vec(),
            Some(Large::Whole(bulk)) => joined(bulk.chunks()),
            Some(_) => panic!("a part is served"),
        };
        assert!(vary::matches(entry.selecting(), &self.clients[client].question.fields));
        self.check(client, entry.key(), &body);
    }

    fn check(&self, client: usize, key: &[u8], body: &[u8]) {
        let Client { question, url, least, .. } = &self.clients[client];
        assert_eq!(key, question.key, "a foreign response");
        let text = std::str::from_utf8(body).unwrap();
        let mut parts = text.split_ascii_whitespace();
        let mut next = || parts.next().unwrap_or_default().parse::<u64>().unwrap_or(0);
        let (of, version, len) = (next(), next(), next());
        assert_eq!(of, u64::from(*url), "a foreign body");
        assert_eq!(len, text.len() as u64, "an incomplete body");
        assert!(version >= *least, "version {version} of {url} was purged, {least} is the least");
    }

    // === fetches ===

    fn begin(
        &mut self,
        ticket: Ticket,
        question: CacheRequest,
        url: u32,
        at: usize,
        stale: Option<Arc<Entry>>,
    ) {
        self.sum.fetches += 1;
        let last = Arc::clone(&ticket.front);
        let fetch =
            Fetch { ticket, question, url, at, stale, body: None, last, pieces: Vec::new() };
        self.later(Event::Fetch(Box::new(fetch)), 20);
    }

    fn fetch(&mut self, mut fetch: Fetch) {
        let Some((version, head, body, come)) = fetch.body.take() else { return self.asked(fetch) };
        if self.random.below(30) == 0 {
            self.sum.aborts += 1;
            fetch.ticket.stream.end(&fetch.last, false);
            return self.failed(fetch);
        }
        let piece = &body[come..body.len().min(come + 700)];
        let data = Octets::plain(piece);
        fetch.pieces.push(Arc::clone(&data));
        fetch.last = fetch.ticket.stream.push(&fetch.last, data, false);
        let come = come + piece.len();
        if come < body.len() {
            fetch.body = Some((version, head, body, come));
            return self.later(Event::Fetch(Box::new(fetch)), 10);
        }
        fetch.ticket.stream.end(&fetch.last, true);
        let entry = draft(&head).whole(&fetch.pieces);
        self.commit(fetch.at, fetch.ticket, Arc::new(entry), false);
    }

    /// The origin says what it has.
    fn asked(&mut self, mut fetch: Fetch) {
        match self.random.below(20) {
            0 => {
                self.sum.aborts += 1;
                return self.failed(fetch);
            }
            1 => {
                let is_marked = self.random.below(2) == 0;
                fetch.ticket.stream.begin(Start::Released(NotStored::NoStore));
                let to = self.owner(fetch.ticket.hash);
                return self.mail(to, Message::Release { ticket: fetch.ticket, is_marked });
            }
            _ => {}
        }
        let version = self.versions[&fetch.url];
        if let Some(stale) = &fetch.stale
            && version_of(stale) == Some(version)
        {
            let fresh = self.freshness();
            let entry = match stale.large() {
                Some(Large::Whole(bulk)) => {
                    Draft { freshness: fresh, ..draft(stale) }.whole(bulk.chunks())
                }
                _ => Draft { freshness: fresh, ..draft(stale) }.small(stale.small().unwrap()),
            };
            return self.commit(fetch.at, fetch.ticket, Arc::new(entry), true);
        }
        let len = if self.random.below(3) == 0 { 2_500 } else { 60 };
        let body = format!("{} {version} {len} {}", fetch.url, "x".repeat(len));
        let body = body.as_bytes()[..len].to_vec();
        let mut says = Fields::default();
        if fetch.url.is_multiple_of(2) {
            says.push(b"Vary", b"Kind");
        }
        let selecting = vary::selecting(&says, &fetch.question.fields).unwrap();
        let draft = Draft {
            key: &fetch.question.key,
            selecting: &selecting,
            fields: if fetch.url < 6 { b"ETag: \"1\"\r\nCache-Tag: low\r\n" } else { b"" },
            status: 200,
            freshness: self.freshness(),
            modified: None,
        };
        if len < 100 {
            let entry = Arc::new(draft.small(&body));
            return self.commit(fetch.at, fetch.ticket, entry, false);
        }
        let head = Arc::new(draft.large(Large::Growing(Some(len as u64))));
        fetch.ticket.stream.begin(Start::Growing(Arc::clone(&head)));
        fetch.body = Some((version, head, body, 0));
        self.later(Event::Fetch(Box::new(fetch)), 10);
    }

    fn freshness(&mut self) -> Freshness {
        let lifetime = [1, 15, 60, 600][self.random.below(4) as usize];
        let while_revalidating = self.random.below(2) * 30;
        Freshness { received: self.now(), lifetime, while_revalidating, ..Freshness::default() }
    }

    fn commit(&mut self, at: usize, ticket: Ticket, entry: Arc<Entry>, is_same: bool) {
        ticket.stream.begin(Start::Stored(Arc::clone(&entry)));
        let owner = self.owner(ticket.hash);
        if owner == at {
            return self.hear(at, Message::Commit { ticket, entry, is_same });
        }
        self.mail(owner, Message::Commit { ticket, entry, is_same });
    }

    fn failed(&mut self, fetch: Fetch) {
        fetch.ticket.stream.begin(Start::Failed(Kind::UpstreamGone));
        let to = self.owner(fetch.ticket.hash);
        self.mail(to, Message::Fail { ticket: fetch.ticket });
    }

    fn hear(&mut self, at: usize, message: Message) {
        let now = self.now();
        match message {
            Message::Ask { client, from, epoch } => {
                let Client { question, seen, .. } = &self.clients[client];
                let (question, seen) = (question.clone(), seen.clone());
                let found = self.own(at, |part| part.ask(&question, &seen, now));
                self.mail(from, Message::Found { client, found, epoch });
            }
            Message::Found { client, found, epoch } => self.found(client, found, epoch),
            Message::Commit { ticket, entry, is_same } => {
                self.own(at, |part| part.commit(&ticket, &entry, is_same, now));
            }
            Message::Release { ticket, is_marked } => {
                let Ticket { hash, id, .. } = ticket;
                self.own(at, |part| part.release(hash, id, NotStored::NoStore, is_marked, now));
            }
            Message::Fail { ticket } => self.own(at, |part| part.fail(ticket.hash, ticket.id)),
            Message::Purge { purge } => {
                self.purge_own(at, purge);
                let to = self.purges[purge].at;
                self.mail(to, Message::Purged { purge });
            }
            Message::Purged { purge } => self.purge_goes_on(purge),
            Message::Disk(news) => {
                self.own(at, |part| part.hear(news, now));
            }
        }
    }

    // === purges ===

    fn purge(&mut self) {
        self.sum.purges += 1;
        let url = self.random.below(URLS);
        let question = question(url, 0);
        let (authority, target) = key::parts(&question.key);
        let (authority, target) = (authority.to_vec(), target.to_vec());
        let what = match self.random.below(6) {
            0..=2 => What::Url(question.key.clone()),
            3 => What::Prefix(authority, target),
            4 => What::Tags(vec![b"low".to_vec()]),
            _ => What::All,
        };
        // The origin has something new of all that is meant.
        let meant: Vec<u32> = (0..URLS)
            .filter(|one| match &what {
                What::Tags(_) => *one < 6,
                What::All => true,
                _ => *one == url,
            })
            .collect();
        for one in &meant {
            *self.versions.get_mut(one).unwrap() += 1;
        }
        let least = meant.into_iter().map(|one| (one, self.versions[&one])).collect();
        let at = self.random.below(u32::try_from(self.parts.len()).unwrap()) as usize;
        let is_wide = !matches!(what, What::Url(_));
        let purge = Purge { what, is_soft: false };
        let number = is_wide.then(|| self.books.next_purge());
        if let Some(number) = number {
            self.disk.last = self.disk.last.max(number);
            self.disk.unmet.push((number, purge.clone()));
        }
        let purging = Purging { purge, at, number, waits_for: 1, least, is_broadcast: false };
        self.purges.push(purging);
        self.later(Event::PurgeGoesOn(self.purges.len() - 1), 5);
    }

    fn purge_own(&mut self, at: usize, purge: usize) {
        let (now, Purging { purge, number, .. }) = (self.now(), &self.purges[purge]);
        let (purge, number) = (purge.clone(), *number);
        self.own(at, |part| {
            if let Some(number) = number {
                part.purge_disk(number, &purge);
            }
            part.purge(&purge, now)
        });
    }

    /// One more of those that it waited for has answered.
    fn purge_goes_on(&mut self, at: usize) {
        let one = &mut self.purges[at];
        one.waits_for = one.waits_for.saturating_sub(1);
        if one.waits_for > 0 {
            return;
        }
        if !one.is_broadcast {
            one.is_broadcast = true;
            let from = one.at;
            let hash = match &one.purge.what {
                What::Url(key) => Some(key::hash(key, SEED)),
                _ => None,
            };
            let only = hash.map(|hash| self.owner(hash));
            let all: Vec<usize> =
                (0..self.parts.len()).filter(|to| only.is_none_or(|it| it == *to)).collect();
            self.purges[at].waits_for = all.len();
            for to in all {
                if to == from {
                    self.purge_own(to, at);
                    self.later(Event::PurgeGoesOn(at), 0);
                } else {
                    self.mail(to, Message::Purge { purge: at });
                }
            }
            return;
        }
        let from = one.at;
        match one.number.take() {
            Some(number) => {
                self.ledger.next_epoch();
                self.disk.orders.push_back((from, Change::Sweep(number)));
            }
            None if matches!(one.purge.what, What::Url(_)) && one.waits_for == 0 => {
                // The answer waits until the files are gone.
                one.purge.what = What::All;
                one.waits_for = 1;
                return self.disk.orders.push_back((from, Change::Fence(at)));
            }
            None => {}
        }
        for (url, version) in std::mem::take(&mut self.purges[at].least) {
            let least = self.least.entry(url).or_default();
            *least = version.max(*least);
        }
    }

    /// What it had is gone; the disk is for shards that have known it from the start.
    fn death(&mut self) {
        let at = self.random.below(u32::try_from(self.parts.len()).unwrap()) as usize;
        self.sum.deaths += 1;
        self.parts[at] = CacheShard::new(at, Arc::clone(&self.ledger), None, self.next);
        self.near[at] = Near::new(4);
        self.ledger.next_epoch();
        self.disk.is_distrusted = true;
    }

    /// The process is killed, and another begins on the same disk, with as many shards or others.
    fn crash(&mut self) {
        self.sum.crashes += 1;
        self.disk.crash(&mut self.random);
        self.events.clear();
        self.by_number.clear();
        self.clients.clear();
        self.purges.clear();
        let shards = 1 + self.random.below(4) as usize;
        self.ledger = Arc::new(Ledger::new(4_000, 4_000, shards, SEED));
        let unmet = self.disk.unmet.clone();
        self.books = Arc::new(Books::new(6_000, shards, self.disk.last, unmet.clone()));
        self.start(shards);
        for (number, _) in unmet {
            self.disk.orders.push_back((0, Change::Sweep(number)));
        }
        for shard in 0..shards {
            let of = |one: &(u64, u64)| key::owner(one.0, shards) == shard;
            let own = self.disk.list().into_iter().filter(of).collect();
            self.mail(shard, Message::Disk(DiskNews::Listed(own)));
            // That the list is whole is known later: one thread says both.
            self.all_listed(shard);
        }
        for event in [Event::Client, Event::Purge, Event::Writer, Event::Tick, Event::Death] {
            self.later(event, 5);
        }
    }
}

fn question(url: u32, kind: u32) -> CacheRequest {
    let target = format!("/{url:02}");
    let mut key = vec![0; 17];
    key[13] = 3;
    key.extend_from_slice(target.as_bytes());
    let mut fields = Fields::default();
    fields.push(b"Kind", kind.to_string().as_bytes());
    CacheRequest {
        hash: key::hash(&key, SEED),
        key,
        fields,
        wants: Directives::default(),
        grace: 0,
        may_share: true,
        is_partly: false,
        has_range: false,
    }
}

fn draft(entry: &Entry) -> Draft<'_> {
    Draft {
        key: entry.key(),
        selecting: entry.selecting(),
        fields: entry.fields(),
        status: entry.status(),
        freshness: entry.freshness(),
        modified: entry.modified(),
    }
}

fn version_of(entry: &Entry) -> Option<u64> {
    let body = match entry.large() {
        None => entry.small()?.to_vec(),
        Some(Large::Whole(bulk)) => joined(bulk.chunks()),
        Some(_) => return None,
    };
    std::str::from_utf8(&body).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}
