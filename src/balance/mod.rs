//! Floor 3: which endpoint an attempt goes to. Pure: what a choice needs is handed in.

pub mod balancer;
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

use crate::config::model::{Balance, Cluster};
pub use balancer::{Balancer, View};
use load::Load;
use places::Places;

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
