//! Balancers, health, retries and queues together under a virtual clock, with faults injected:
//! thousands of short lives, each from a seed of its own, and after each step the invariants.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millrace::balance::SharedLoads;
use millrace::balance::places::Places;
use millrace::base::clock::Moment;
use millrace::base::error::{Kind, Result};
use millrace::base::id::{EndpointId, ShardId};
use millrace::base::limits::OUTLIER_WINDOW as WINDOW;
use millrace::base::random::Random;
use millrace::config::lower::lower;
use millrace::config::model::{self, Balance};
use millrace::config::resilience::Priority;
use millrace::health::active::Checked;
use millrace::health::passive::{PassiveState, Why};
use millrace::health::{CheckVerdict, HealthTable, is_panic};
use millrace::limit::budget::Budget;
use millrace::message::head::Method;
use millrace::net::notifier::Notifier;
use millrace::upstream::ask::Ask;
use millrace::upstream::cluster::{Cluster, ClusterShared};
use millrace::upstream::flight::Flight;
use millrace::upstream::pending_queue::Turns;
use millrace::upstream::retry::{Cause, LostTry};

/// Faults are injected for so long; then everything works, and must be as new after a while.
const FAULTS: u64 = 20_000;
const CALM: u64 = 90_000;
const END: u64 = FAULTS + CALM + 5_000;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

fn micros() -> u64 {
    NOW.get() * 1000
}

/// Runs so many seeds on two threads; `MILLRACE_SEED` runs a single one.
pub(crate) fn run(seeds: u64) {
    if let Some(seed) = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return life(seed);
    }
    let (next, requests) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let result = std::panic::catch_unwind(|| life(seed));
                    if result.is_err() {
                        println!("seed {seed} failed: MILLRACE_SEED={seed} runs it alone");
                        next.store(seeds, Relaxed);
                        std::process::exit(1);
                    }
                    requests.fetch_add(1, Relaxed);
                }
            });
        }
    });
    println!("\n{seeds} lives of a cluster with faults: every invariant held");
}

fn life(seed: u64) {
    let mut random = Random::new(seed);
    let model = model(&mut random);
    if std::env::var_os("MILLRACE_SEED").is_some() {
        println!("seed {seed}: {model:#?}");
    }
    let shards = 1 + random.below(4) as usize;
    let bells: Arc<[Notifier]> =
        (0..shards).map(|_| Notifier::new().expect("an eventfd")).collect();
    let common = ClusterShared {
        balance: SharedLoads::new(&model),
        health: Arc::new(HealthTable::new(model.endpoints.len())),
        turns: Arc::new(Turns::new(Arc::clone(&bells))),
        seal: None,
        places: Places::new(&model),
    };
    NOW.set(1);
    let new = |at| {
        let idle = std::rc::Rc::default();
        Cluster::new(&model, &common, ShardId(at), seed + u64::from(at), micros, &idle)
    };
    let clusters: Vec<Cluster> = (0..shards as u16).map(new).collect();
    Life::new(&model, &clusters, &common, &bells, random).run();
}

fn model(random: &mut Random) -> model::Cluster {
    let mut endpoints = 1 + random.below(6);
    let (name, balance) = Balance::NAMES[random.below(8) as usize];
    if balance == Balance::Maglev {
        // Its table takes longer to build than a life to live.
        endpoints = endpoints.min(2);
    }
    let mut text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\n\
         balance = \"{name}\"\n"
    );
    if random.below(2) == 0 {
        let (most, max) = (1 + random.below(4), random.below(20));
        text += &format!("max_connections = {most}\nqueue = {{ max = {max} }}\n");
    }
    if random.below(4) == 0 {
        text += "adaptive = { min = 2, max = 50 }\n";
    }
    if random.below(4) == 0 {
        text += "retry = { try_timeout = \"50ms\" }\n";
    }
    for at in 0..endpoints {
        text += &format!("[[cluster.endpoint]]\naddress = \"10.0.0.{}:80\"\n", at + 1);
    }
    let (config, problems) = lower(&text);
    let config = config.unwrap_or_else(|| panic!("{}", problems.render("simulation", &text)));
    config.clusters[0].clone()
}

/// What an endpoint does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Works,
    Refuses,
    /// Connections to it hang.
    Silent,
    /// It executes and resets.
    Resets,
    /// It answers 503.
    Busy,
    /// It answers nonsense.
    Broken,
    Slow,
}

const FAULTY: [Mode; 6] =
    [Mode::Refuses, Mode::Silent, Mode::Resets, Mode::Busy, Mode::Broken, Mode::Slow];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Done(usize),
    Tick,
    Fault,
    Check(usize),
    Judge { shard: usize, endpoint: usize, is_up: bool },
    Window,
}

type Wait<'a> = Pin<Box<dyn Future<Output = Result<Flight<'a>>> + 'a>>;

/// One request, as `exchange::forward` serves it.
struct Exchange<'a> {
    shard: usize,
    method: Method,
    ask: Ask,
    flight: Option<Flight<'a>>,
    waits: Option<Wait<'a>>,
    since: u64,
    was_pooled: bool,
    /// How often an endpoint may have executed it.
    executed: u32,
    tried: Vec<u16>,
    refreshed: bool,
    /// Ticks in a row at which there was room and it still waited.
    passed_over: Cell<u32>,
}

struct Life<'a> {
    model: &'a model::Cluster,
    clusters: &'a [Cluster],
    common: &'a ClusterShared,
    bells: &'a [Notifier],
    random: Random,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    modes: Vec<Mode>,
    checked: Vec<Checked>,
    /// Verdicts as each shard knows them.
    verdicts: Vec<Vec<CheckVerdict>>,
    /// Idle connections by shard and endpoint, and whether the endpoint has closed them.
    idle: BTreeMap<(usize, usize), (u32, bool)>,
    exchanges: BTreeMap<usize, Exchange<'a>>,
    arrived: Vec<u64>,
    retried: Vec<u64>,
    /// The last trial of each endpoint began then.
    trial: Vec<u64>,
    calm: (u64, u64),
}

impl<'a> Life<'a> {
    fn new(
        model: &'a model::Cluster,
        clusters: &'a [Cluster],
        common: &'a ClusterShared,
        bells: &'a [Notifier],
        random: Random,
    ) -> Self {
        let (count, shards) = (model.endpoints.len(), clusters.len());
        Self {
            model,
            clusters,
            common,
            bells,
            random,
            now: 0,
            events: BinaryHeap::new(),
            number: 0,
            modes: vec![Mode::Works; count],
            checked: vec![Checked::default(); count],
            verdicts: vec![vec![CheckVerdict::Unknown; count]; shards],
            idle: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            arrived: vec![0; shards],
            retried: vec![0; shards],
            trial: vec![0; count],
            calm: (0, 0),
        }
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((self.now + wait, self.number, event)));
    }

    fn run(mut self) {
        self.after(0, Event::Tick);
        self.after(1, Event::Arrive);
        self.after(200, Event::Fault);
        self.after(WINDOW.as_millis() as u64, Event::Window);
        for at in 0..self.modes.len() {
            self.after(at as u64 * 7, Event::Check(at));
        }
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            self.now = now;
            NOW.set(now);
            self.step(event);
            self.listen();
            self.invariants(event);
        }
        assert!(self.exchanges.is_empty(), "every request has an end");
        let in_flight = self.common.balance.loads.iter().map(|load| load.in_flight()).sum::<u32>();
        assert_eq!(in_flight, 0, "nothing is left under way");
        assert!(self.calm.0 > 20 && self.calm.1 == 0, "{:?} of calm requests failed", self.calm);
        for (at, standing) in self.common.health.all().iter().enumerate() {
            let is_in = standing.state(Moment(self.now)) == PassiveState::In;
            let unused = standing.back().is_none();
            assert!(is_in || unused, "endpoint {at} is still out: {standing:?}");
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Done(number) => self.done(number),
            Event::Tick => {
                self.clusters.iter().for_each(|cluster| cluster.tick(Moment(self.now)));
                // Some requests stop waiting, and some of those have just been let in without knowing it.
                let waits = self.exchanges.iter().filter(|(_, one)| one.waits.is_some());
                let waits = waits.map(|(number, _)| *number).collect::<Vec<_>>();
                for number in waits {
                    if self.random.below(4) == 0 {
                        self.exchanges.remove(&number);
                    }
                }
                if self.now.is_multiple_of(1000) {
                    // Pools throw out what its endpoint has closed.
                    self.idle.retain(|_, (_, is_closed)| !*is_closed);
                }
                if self.now < END + 2000 {
                    self.after(100, Event::Tick);
                }
            }
            Event::Fault => self.fault(),
            Event::Check(at) => self.check(at),
            Event::Judge { shard, endpoint, is_up } => {
                let verdict = if is_up { CheckVerdict::Up } else { CheckVerdict::Down };
                self.verdicts[shard][endpoint] = verdict;
                self.clusters[shard].judged(id(endpoint), verdict);
            }
            Event::Window => {
                self.common.health.judge(Moment(self.now), &self.model.resilience.passive);
                if self.now < END {
                    self.after(WINDOW.as_millis() as u64, Event::Window);
                }
            }
        }
    }

    // === the world ===

    fn fault(&mut self) {
        if self.now >= FAULTS {
            self.modes.fill(Mode::Works);
            return;
        }
        let at = self.random.below(self.modes.len() as u32) as usize;
        let is_cured = self.random.below(3) == 0;
        let fault = FAULTY[self.random.below(FAULTY.len() as u32) as usize];
        self.modes[at] = if is_cured { Mode::Works } else { fault };
        // Whatever happened to it, its idle connections are gone.
        self.idle.iter_mut().filter(|((_, of), _)| *of == at).for_each(|(_, one)| one.1 = true);
        let wait = 50 + u64::from(self.random.below(1500));
        self.after(wait, Event::Fault);
    }

    fn check(&mut self, at: usize) {
        let policy = self.model.health.as_ref().expect("checks are on by default");
        let passed = !matches!(self.modes[at], Mode::Refuses | Mode::Silent);
        let changed = self.checked[at].result(passed, policy);
        let wait = self.checked[at].wait(policy, &mut self.random);
        if let Some(verdict) = changed {
            let is_up = verdict == CheckVerdict::Up;
            if is_up {
                self.common.health.of(at).reached(Moment(self.now));
            }
            for shard in 0..self.clusters.len() {
                let late = u64::from(self.random.below(50));
                self.after(late, Event::Judge { shard, endpoint: at, is_up });
            }
        }
        if self.now < END {
            self.after(wait.as_millis() as u64, Event::Check(at));
        }
    }

    // === requests ===

    fn arrive(&mut self) {
        if self.now >= END {
            return;
        }
        let shard = self.random.below(self.clusters.len() as u32) as usize;
        let method = if self.random.below(3) == 0 { Method::Post } else { Method::Get };
        self.arrived[shard] += 1;
        self.clusters[shard].pay_in();
        let key = self.random.bits();
        let exchange = Exchange {
            shard,
            method,
            ask: Ask { key, ..Ask::default() },
            flight: None,
            waits: None,
            since: self.now,
            was_pooled: false,
            executed: 0,
            tried: Vec::new(),
            refreshed: false,
            passed_over: Cell::new(0),
        };
        let number = self.number as usize;
        self.begin(number, exchange);
        // Faults are interesting under load; calm only has to be calm.
        let is_calm = (FAULTS..FAULTS + CALM).contains(&self.now);
        let most = if is_calm { 900 } else { 60 };
        let wait = u64::from(self.random.below(most));
        self.after(wait, Event::Arrive);
    }

    fn begin(&mut self, number: usize, mut exchange: Exchange<'a>) {
        let cluster = &self.clusters[exchange.shard];
        let good = self.good(&exchange);
        let trials = self.trials();
        match cluster.begin(&exchange.ask) {
            Ok(Some(flight)) => {
                self.chosen(&exchange, usize::from(flight.id.0), &good, &trials);
                exchange.flight = Some(flight);
                self.send(number, exchange);
            }
            Ok(None) => {
                let now = Moment(self.now);
                let wait = cluster.begin_later(exchange.ask, Priority::Normal, now);
                exchange.waits = Some(Box::pin(wait));
                exchange.since = self.now;
                self.exchanges.insert(number, exchange);
            }
            Err(kind) => {
                assert_eq!(kind, Kind::NoEndpoint);
                assert!(good.is_empty(), "503 while {good:?} are good");
                self.end(&exchange, false);
            }
        }
    }

    /// Endpoints with nothing against them, by an account of our own.
    fn good(&self, exchange: &Exchange<'_>) -> Vec<usize> {
        let verdicts = &self.verdicts[exchange.shard];
        let down = verdicts.iter().filter(|one| **one == CheckVerdict::Down).count();
        let is_panic = is_panic(down, verdicts.len());
        let is_good = |at: &usize| {
            let is_up = is_panic || verdicts[*at] != CheckVerdict::Down;
            let is_in = self.common.health.of(*at).why() == Why::In;
            is_up && is_in && !exchange.tried.contains(&(*at as u16))
        };
        (0..verdicts.len()).filter(is_good).collect()
    }

    /// Endpoints that may be tried again, now. Shards see a clock that is a tick old.
    fn trials(&self) -> Vec<bool> {
        let all = self.common.health.all().iter();
        all.map(|one| one.state(Moment(self.now)) == PassiveState::Trial).collect()
    }

    fn chosen(&mut self, exchange: &Exchange<'_>, at: usize, good: &[usize], trials: &[bool]) {
        assert!(!exchange.tried.contains(&(at as u16)), "endpoint {at} was tried before");
        if !good.contains(&at) && !good.is_empty() {
            let rooms = good.iter().any(|one| self.has_room(*one));
            assert!(trials[at] || !rooms, "endpoint {at} was chosen while {good:?} are good");
            if trials[at] {
                assert!(exchange.tried.is_empty(), "who has failed once does not try others out");
                let since = self.now - self.trial[at];
                assert!(since >= 900, "two trials of endpoint {at} within {since} ms");
                self.trial[at] = self.now;
            }
        }
    }

    fn has_room(&self, at: usize) -> bool {
        let most = self.model.endpoints[at].max_connections.unwrap_or(u32::MAX);
        self.common.balance.loads[at].in_flight() < most
    }

    fn send(&mut self, number: usize, mut exchange: Exchange<'a>) {
        let at = usize::from(exchange.flight.as_ref().expect("it was begun").id.0);
        let idle = self.idle.entry((exchange.shard, at)).or_default();
        exchange.was_pooled = idle.0 > 0 && !exchange.refreshed;
        idle.0 = idle.0.saturating_sub(1);
        let wait = match self.modes[at] {
            Mode::Refuses if !exchange.was_pooled => 0,
            Mode::Silent if !exchange.was_pooled => 2000,
            Mode::Silent => 400,
            Mode::Slow => 200 + u64::from(self.random.below(600)),
            _ => 1 + u64::from(self.random.below(40)),
        };
        self.exchanges.insert(number, exchange);
        self.after(wait, Event::Done(number));
    }

    /// A try is over. What follows is what `exchange::forward` does.
    fn done(&mut self, number: usize) {
        let Some(mut exchange) = self.exchanges.remove(&number) else { return };
        let flight = exchange.flight.take().expect("it was under way");
        let (at, shard) = (usize::from(flight.id.0), exchange.shard);
        let cluster = &self.clusters[shard];
        let policy = &self.model.resilience.retry;
        let idle = self.idle.entry((shard, at)).or_default();
        let is_stale = exchange.was_pooled && idle.1;
        let mode = self.modes[at];
        if !exchange.was_pooled && matches!(mode, Mode::Refuses | Mode::Silent) {
            let kind =
                if mode == Mode::Silent { Kind::ConnectTimeout } else { Kind::ConnectRefused };
            cluster.failed(id(at), kind);
            exchange.tried.push(at as u16);
            if exchange.ask.tries.take_another(id(at), kind, policy) {
                drop(flight);
                return self.begin(number, exchange);
            }
            drop(flight);
            return self.end(&exchange, false);
        }
        if !exchange.was_pooled {
            cluster.reached(id(at));
        }
        exchange.executed += u32::from(!is_stale);
        self.check_executions(&exchange);
        let (kind, cause) = match mode {
            _ if is_stale => (Kind::UpstreamGone, Cause::Lost),
            Mode::Resets | Mode::Refuses | Mode::Silent => (Kind::UpstreamGone, Cause::Lost),
            Mode::Busy => (Kind::UpstreamStatus, Cause::Status),
            Mode::Broken => {
                cluster.failed(id(at), Kind::UpstreamHead);
                drop(flight);
                return self.end(&exchange, false);
            }
            Mode::Works | Mode::Slow => {
                cluster.answered(id(at), 200);
                flight.landed();
                let idle = self.idle.entry((shard, at)).or_default();
                *idle = (idle.0 + 1, idle.1 && idle.0 > 0);
                return self.end(&exchange, true);
            }
        };
        let lost =
            LostTry { cause, was_pooled: exchange.was_pooled, has_answer: false, has_body: false };
        self.lost(number, exchange, flight, kind, lost);
    }

    fn lost(
        &mut self,
        number: usize,
        mut exchange: Exchange<'a>,
        flight: Flight<'a>,
        kind: Kind,
        lost: LostTry,
    ) {
        let (at, shard) = (usize::from(flight.id.0), exchange.shard);
        let cluster = &self.clusters[shard];
        let policy = &self.model.resilience.retry;
        if cause_is_status(kind) {
            cluster.answered(id(at), 503);
            let may = exchange.method.is_idempotent()
                && exchange.ask.tries.has_left(policy)
                && cluster.has_other(&exchange.ask.tries, id(at))
                && cluster.spend_retry();
            if !may {
                // The 503 goes to the client.
                drop(flight);
                return self.end(&exchange, true);
            }
            self.retried[shard] += 1;
        } else {
            if exchange.ask.tries.take_refresh(lost, exchange.method) {
                assert!(!exchange.refreshed, "a stale connection is replaced once");
                exchange.refreshed = true;
                exchange.flight = Some(flight);
                return self.send(number, exchange);
            }
            cluster.failed(id(at), kind);
        }
        let (mut granted, mut refused) = (0, false);
        let moves = exchange.ask.tries.take_move(id(at), lost, exchange.method, policy, || {
            let may = cluster.spend_retry();
            granted += u64::from(may);
            refused = !may;
            may
        });
        self.retried[shard] += granted;
        exchange.tried.push(at as u16);
        drop(flight);
        if moves {
            exchange.refreshed = false;
            return self.begin(number, exchange);
        }
        let is_legal = exchange.method.is_idempotent() && exchange.tried.len() < 3;
        assert!(!is_legal || refused, "a GET was given up that could have been sent again");
        self.end(&exchange, false);
    }

    fn end(&mut self, exchange: &Exchange<'_>, is_good: bool) {
        if exchange.since > FAULTS + CALM {
            self.calm.0 += 1;
            self.calm.1 += u64::from(!is_good);
        }
    }

    fn check_executions(&self, exchange: &Exchange<'_>) {
        let most = if exchange.method.is_idempotent() { 4 } else { 1 };
        assert!(exchange.executed <= most, "{} executed {} times", "a request", exchange.executed);
    }

    // === what wakes requests that wait ===

    fn listen(&mut self) {
        // The first look of a request that waits may be what lets another in.
        let mut quiet = 0;
        while quiet < 2 {
            for (cluster, bell) in self.clusters.iter().zip(self.bells) {
                if bell.take() {
                    cluster.grant();
                }
            }
            let mut context = Context::from_waker(Waker::noop());
            let ready = self.exchanges.iter_mut().find_map(|(number, exchange)| {
                match exchange.waits.as_mut()?.as_mut().poll(&mut context) {
                    Poll::Ready(result) => Some((*number, result)),
                    Poll::Pending => None,
                }
            });
            quiet += 1;
            let Some((number, result)) = ready else { continue };
            quiet = 0;
            let mut exchange = self.exchanges.remove(&number).expect("it waits");
            exchange.waits = None;
            let waited = self.now - exchange.since;
            match result {
                Ok(flight) if self.random.below(20) == 0 => {
                    // The client is gone: the next in the queue has the room.
                    drop(flight);
                    self.end(&exchange, true);
                }
                Ok(flight) => {
                    exchange.flight = Some(flight);
                    self.send(number, exchange);
                }
                Err(kind) => {
                    let most = self.model.resilience.queue.timeout.as_millis() as u64 + 200;
                    assert!(waited <= most, "refused after {waited} ms: {kind:?}");
                    // A burst is no fault.
                    self.end(&exchange, matches!(kind, Kind::QueueFull | Kind::QueueTimeout));
                }
            }
        }
    }

    // === invariants ===

    fn invariants(&self, event: Event) {
        for (at, load) in self.common.balance.loads.iter().enumerate() {
            let under_way = self.exchanges.values().filter_map(|one| one.flight.as_ref());
            let count = under_way.filter(|flight| usize::from(flight.id.0) == at).count();
            assert_eq!(
                load.in_flight() as usize,
                count,
                "endpoint {at} counts wrong after {event:?}"
            );
            let most = self.model.endpoints[at].max_connections.unwrap_or(u32::MAX);
            assert!(load.in_flight() <= most, "endpoint {at} has more than {most}");
        }
        let all = self.common.health.all();
        let put_out = all.iter().filter(|one| matches!(one.why(), Why::Failures | Why::Rate));
        assert!(put_out.count() * 2 <= all.len(), "more than half are put out");
        for (shard, retried) in self.retried.iter().enumerate() {
            let most = self.arrived[shard] / 5 + u64::from(Budget::RESERVE) + 1;
            assert!(*retried <= most, "{retried} of {} were sent again", self.arrived[shard]);
        }
        if event == Event::Tick {
            for exchange in self.exchanges.values().filter(|one| one.waits.is_some()) {
                let good = self.good(exchange);
                // A limit that was found out is the shard's own business.
                let is_known = self.model.resilience.adaptive.is_none();
                let free = good.iter().find(|at| is_known && self.has_room(**at));
                // Room that another core made is found at the next tick at the latest.
                let times = free.map_or(0, |_| exchange.passed_over.get() + 1);
                exchange.passed_over.set(times);
                assert!(times < 2, "somebody waits while {free:?} has room");
                let waited = self.now - exchange.since;
                let most = self.model.resilience.queue.timeout + Duration::from_millis(200);
                assert!(u128::from(waited) <= most.as_millis(), "{waited} ms in the queue");
            }
        }
    }
}

fn cause_is_status(kind: Kind) -> bool {
    kind == Kind::UpstreamStatus
}

fn id(at: usize) -> EndpointId {
    EndpointId(at as u16)
}
