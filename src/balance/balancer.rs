//! What every balancer is, and what it may know.

use super::load::Load;
use super::places::Places;
use crate::base::clock::Micros;
use crate::base::id::EndpointId;
use crate::base::random::Random;

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
    pub(super) fn candidates(&self) -> impl Iterator<Item = usize> + Clone {
        (0..self.weights.len()).filter(|at| (self.eligible)(*at))
    }

    /// Requests under way with one more, for each unit of weight. Fixed point, so that weights up
    /// to 100,000 (1000 in a slow start) compare exactly enough.
    pub(super) fn busyness(&self, at: usize) -> u64 {
        ((u64::from(self.loads[at].in_flight()) + 1) << 32) / u64::from(self.weights[at])
    }

    /// Expected time for each unit of weight, in 1024ths of a nanosecond.
    pub(super) fn slowness(&self, at: usize) -> u64 {
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

/// The endpoint that costs least; of equal ones each with the same chance.
pub(super) fn least<C: Ord>(
    view: &View<'_>,
    random: &mut Random,
    cost: impl Fn(usize) -> C,
) -> Option<usize> {
    view.candidates().min_by_key(|at| (cost(*at), random.bits()))
}
