//! Endpoints with four slots each, fed by shards that choose with their own balancers and share
//! what the proxy's shards share. Times are in microseconds; a mean service time is `UNIT`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use millrace::balance::places::Places;
use millrace::balance::{Balancer, SharedLoads, View, build};
use millrace::base::random::Random;
use millrace::config::lower::lower;
use millrace::config::model::{Balance, Cluster};

pub(crate) const UNIT: u64 = 10_000;
const SLOTS: usize = 4;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// `None` is the oracle.
    pub balance: Option<Balance>,
    pub endpoints: usize,
    pub shards: usize,
    /// Offered load as a share of what the endpoints can do together.
    pub load: f64,
    /// Share of the endpoints that work at a quarter of the speed.
    pub slow: f64,
    /// One endpoint stands still for so many service times out of every two hundred.
    pub stall: u64,
    pub requests: usize,
    pub seed: u64,
}

/// What came of it, in mean service times; `busiest` is the largest share of the requests that an
/// endpoint got, as a multiple of its fair share by speed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub busiest: f64,
}

struct Job {
    arrived: u64,
    work: u64,
    depth: u32,
}

struct Endpoint {
    /// How many times longer it takes than a fast one.
    pace: u64,
    running: usize,
    queue: VecDeque<Job>,
    served: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Done { endpoint: usize, arrived: u64, depth: u32 },
    Arrive,
}

/// A cluster of so many even endpoints with this balancer.
pub(crate) fn cluster(balance: Balance, endpoints: usize) -> Cluster {
    let name = Balance::NAMES.iter().find(|(_, one)| *one == balance).map_or("", |(name, _)| name);
    let mut text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\n\
         balance = \"{name}\"\n"
    );
    for at in 0..endpoints {
        text += &format!("[[cluster.endpoint]]\naddress = \"10.0.{}.{}:80\"\n", at / 250, at % 250);
    }
    let (config, problems) = lower(&text);
    let config = config.unwrap_or_else(|| panic!("{}", problems.render("simulation", &text)));
    config.clusters[0].clone()
}

pub(crate) fn run(case: Case) -> Outcome {
    Simulation::new(case).run()
}

struct Simulation {
    case: Case,
    random: Random,
    endpoints: Vec<Endpoint>,
    shared: Arc<SharedLoads>,
    balancers: Vec<Box<dyn Balancer>>,
    weights: Vec<u32>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    waits: Vec<u64>,
}

impl Simulation {
    fn new(case: Case) -> Self {
        let cluster = cluster(case.balance.unwrap_or(Balance::RoundRobin), case.endpoints);
        let shared = SharedLoads::new(&cluster);
        let slow = (case.endpoints as f64 * case.slow).round() as usize;
        let endpoint = |at: usize| Endpoint {
            pace: if at < slow { 4 } else { 1 },
            running: 0,
            queue: VecDeque::new(),
            served: 0,
        };
        Self {
            random: Random::new(case.seed),
            endpoints: (0..case.endpoints).map(endpoint).collect(),
            balancers: (0..case.shards)
                .map(|at| build(&cluster, &Places::new(&cluster), at as u64))
                .collect(),
            weights: vec![1; case.endpoints],
            shared,
            events: BinaryHeap::new(),
            numbers: 0,
            waits: Vec::with_capacity(case.requests),
            case,
        }
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        let fraction = ((self.random.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        (-fraction.ln() * mean) as u64 + 1
    }

    fn at(&mut self, time: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((time, self.numbers, event)));
    }

    fn run(mut self) -> Outcome {
        let capacity: f64 = self.endpoints.iter().map(|one| SLOTS as f64 / one.pace as f64).sum();
        let gap = UNIT as f64 / (capacity * self.case.load);
        let mut left = self.case.requests;
        self.at(1, Event::Arrive);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Arrive => {
                    self.arrive(now);
                    left -= 1;
                    if left > 0 {
                        let next = now + self.exponential(gap);
                        self.at(next, Event::Arrive);
                    }
                }
                Event::Done { endpoint, arrived, depth } => {
                    self.waits.push(now - arrived);
                    self.shared.loads[endpoint].sample(now, now - arrived, depth);
                    self.shared.loads[endpoint].end();
                    self.endpoints[endpoint].running -= 1;
                    self.feed(endpoint, now);
                }
            }
        }
        self.outcome(capacity)
    }

    fn arrive(&mut self, now: u64) {
        let at = self.choose(now);
        let depth = self.shared.loads[at].begin(now);
        let work = self.exponential(UNIT as f64);
        self.endpoints[at].served += 1;
        self.endpoints[at].queue.push_back(Job { arrived: now, work, depth });
        self.feed(at, now);
    }

    fn choose(&mut self, now: u64) -> usize {
        if self.case.balance.is_none() {
            return self.oracle(now);
        }
        let shard = self.random.below(self.case.shards as u32) as usize;
        let key = self.random.bits();
        let view = View {
            weights: &self.weights,
            loads: &self.shared.loads,
            eligible: &|_| true,
            now,
            key,
        };
        let picked = self.balancers[shard].pick(&view, &mut self.random);
        picked.map_or(0, |id| usize::from(id.0))
    }

    /// Knows speeds, slots and queues, and chooses the shortest expected time.
    fn oracle(&self, now: u64) -> usize {
        let expected = |(at, one): (usize, &Endpoint)| {
            let under_way = one.running + one.queue.len();
            let waits = (under_way + 1).saturating_sub(SLOTS) as f64 / SLOTS as f64;
            let stalled = self.stalled_until(at, now).saturating_sub(now) as f64 / UNIT as f64;
            (((1.0 + waits) * one.pace as f64 + stalled) * 1e6) as u64
        };
        let least = self.endpoints.iter().enumerate().min_by_key(|one| expected(*one));
        least.map_or(0, |(at, _)| at)
    }

    /// When the endpoint moves again; `now` if it does.
    fn stalled_until(&self, at: usize, now: u64) -> u64 {
        let (period, stall) = (200 * UNIT, self.case.stall * UNIT);
        let phase = now % period;
        if at + 1 == self.endpoints.len() && phase < stall { now - phase + stall } else { now }
    }

    fn feed(&mut self, at: usize, now: u64) {
        while self.endpoints[at].running < SLOTS {
            let Some(job) = self.endpoints[at].queue.pop_front() else { return };
            self.endpoints[at].running += 1;
            let done = self.stalled_until(at, now) + job.work * self.endpoints[at].pace;
            // What ends while it stands still ends when it moves again.
            let done = self.stalled_until(at, done);
            let event = Event::Done { endpoint: at, arrived: job.arrived, depth: job.depth };
            self.at(done, event);
        }
    }

    fn outcome(mut self, capacity: f64) -> Outcome {
        // At the beginning every bound has still to be learned.
        let mut waits = self.waits.split_off(self.waits.len() / 10);
        waits.sort_unstable();
        let at =
            |share: f64| waits[((waits.len() - 1) as f64 * share) as usize] as f64 / UNIT as f64;
        let busiest = self.endpoints.iter().map(|one| {
            let fair = SLOTS as f64 / one.pace as f64 / capacity;
            one.served as f64 / self.case.requests as f64 / fair
        });
        Outcome {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            busiest: busiest.fold(0.0, f64::max),
        }
    }
}
