//! Floor 3: which endpoint an attempt goes to. Pure: what a choice needs is handed in.

pub mod least_connections;
pub mod least_response_time;
pub mod load;
pub mod maglev;
pub mod places;
pub mod random;
pub mod random_two;
pub mod rendezvous;
pub mod round_robin;
pub mod slots;
pub mod slow_start;

use std::sync::Arc;

use crate::base::id::EndpointId;
use crate::base::random::Random;
use crate::config::model::{Balance, Cluster};
use load::{Load, Micros};
use places::Places;

/// What a balancer may know about the endpoints of its cluster, whose index is their id.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// At least one each.
    pub weights: &'a [u32],
    /// What all shards share.
    pub loads: &'a [Load],
    /// May be chosen now: it has an address, is well, was not tried for this exchange.
    pub eligible: &'a dyn Fn(usize) -> bool,
    /// Zero if the balancer does not read the clock.
    pub now: Micros,
    /// What a hash goes by; the same for requests that belong together.
    pub key: u64,
}

impl View<'_> {
    /// Endpoints that may be chosen now.
    fn candidates(&self) -> impl Iterator<Item = usize> + Clone {
        (0..self.weights.len()).filter(|at| (self.eligible)(*at))
    }

    /// Requests under way with one more, for each unit of weight. Fixed point, so that weights up
    /// to 100,000 (1000 in a slow start) compare exactly enough.
    fn busyness(&self, at: usize) -> u64 {
        ((u64::from(self.loads[at].in_flight()) + 1) << 32) / u64::from(self.weights[at])
    }

    /// Expected time for each unit of weight, in 1024ths of a nanosecond.
    fn slowness(&self, at: usize) -> u64 {
        self.loads[at].expected(self.now).saturating_mul(1024) / u64::from(self.weights[at])
    }
}

/// An algorithm with its state, which is one shard's.
pub trait Balancer {
    /// Chooses an endpoint. `None` if none is eligible.
    fn pick(&mut self, view: &View<'_>, random: &mut Random) -> Option<EndpointId>;

    /// Weights are in another unit from now on: what was kept in the old one is void.
    fn rescaled(&mut self) {}

    /// Other addresses stand at the places of names.
    fn placed(&mut self, _places: &Places) {}

    /// Whether choices depend on how long answers took.
    fn reads_clock(&self) -> bool {
        false
    }
}

/// What the shards of a cluster share: the loads.
#[derive(Debug)]
pub struct SharedLoads {
    pub loads: Box<[Load]>,
}

impl SharedLoads {
    /// Nothing under way.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self { loads: cluster.endpoints.iter().map(|_| Load::default()).collect() })
    }
}

/// The balancer that a cluster asks for. `seed` differs from shard to shard, so that no herd
/// starts at the first endpoint.
#[must_use]
pub fn build(cluster: &Cluster, places: &Places, seed: u64) -> Box<dyn Balancer> {
    let names = || (0..cluster.endpoints.len()).map(|at| places.name(at));
    match cluster.balance {
        Balance::RoundRobin => {
            Box::new(round_robin::RoundRobin::new(cluster.endpoints.len(), seed))
        }
        Balance::Random => Box::new(random::WeightedRandom),
        Balance::RandomTwo => Box::new(random_two::RandomTwo),
        Balance::LeastConnections => Box::new(least_connections::LeastConnections),
        Balance::LeastResponseTime => Box::new(least_response_time::LeastResponseTime),
        Balance::IpHash => Box::new(rendezvous::Rendezvous::new(names(), None)),
        Balance::ConsistentHash => {
            Box::new(rendezvous::Rendezvous::new(names(), Some(rendezvous::BOUND)))
        }
        Balance::Maglev => Box::new(maglev::Maglev::new(places)),
    }
}

/// The endpoint that costs least; of equal ones each with the same chance.
fn least<C: Ord>(view: &View<'_>, random: &mut Random, cost: impl Fn(usize) -> C) -> Option<usize> {
    view.candidates().min_by_key(|at| (cost(*at), random.bits()))
}
