//! Floor 3: which endpoint an attempt goes to. Pure: what a choice needs is handed in.

pub mod random;
pub mod round_robin;

use crate::base::id::EndpointId;
use crate::base::random::Random;
use crate::config::model::Balance;

/// What a balancer may know about an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// At least one.
    pub weight: u32,
    /// May be chosen now: it has an address, is not resting, was not tried for this exchange.
    pub is_eligible: bool,
}

/// An algorithm with its state, which is one shard's.
pub trait Balancer {
    /// Chooses among `candidates`, whose index is their id. `None` if none is eligible.
    fn pick(&mut self, candidates: &[Candidate], random: &mut Random) -> Option<EndpointId>;
}

/// The balancer that a cluster asks for. `seed` differs from shard to shard, so that no herd
/// starts at the first endpoint.
#[must_use]
pub fn build(balance: Balance, endpoints: usize, seed: u64) -> Box<dyn Balancer> {
    match balance {
        Balance::RoundRobin => Box::new(round_robin::RoundRobin::new(endpoints, seed)),
        Balance::Random => Box::new(random::WeightedRandom),
    }
}

fn id(at: usize) -> Option<EndpointId> {
    u16::try_from(at).ok().map(EndpointId)
}
