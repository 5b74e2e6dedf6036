//! The endpoint that is expected to answer first: what it needs for each request, times the
//! requests under way, and at least as long as it has been silent. Reaches a dispatcher that
//! knows everything to within a few percent (`tests/simulation`).

use super::balancer::{Balancer, View};
use super::least_connections::SCANNED;
use super::random::choose;
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Of more endpoints than are compared one by one, so many are, by chance.
const SAMPLED: usize = 4;

/// Up to so many times the least expected time is as good as the least: averages of few samples are
/// no more exact, and among even endpoints the less busy one shall win. With 1.5 the busiest of ten
/// even endpoints gets up to 1.7 of its share; with 2 it is 1.04, and the tail is the same.
const AS_GOOD: u64 = 2;

/// Has no state of its own: what is under way, and how fast, is shared.
#[derive(Debug)]
pub struct LeastResponseTime;

impl Balancer for LeastResponseTime {
    fn pick(&mut self, view: &View<'_>, random: &mut Random) -> Option<EndpointId> {
        if view.weights.len() <= SCANNED {
            return fastest(view, view.candidates(), random).and_then(EndpointId::at);
        }
        let mut some = [None; SAMPLED];
        some.fill_with(|| choose(view, random, usize::MAX));
        fastest(view, some.into_iter().flatten(), random).and_then(EndpointId::at)
    }

    fn reads_clock(&self) -> bool {
        true
    }
}

/// Of those that are about as fast as the fastest, the least busy; of equals, any.
fn fastest(
    view: &View<'_>,
    candidates: impl Iterator<Item = usize> + Clone,
    random: &mut Random,
) -> Option<usize> {
    let least = candidates.clone().map(|at| view.slowness(at)).min()?;
    let most = least.saturating_mul(AS_GOOD);
    let fast = candidates.filter(|at| view.slowness(*at) <= most);
    fast.min_by_key(|at| (view.busyness(*at), random.bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::load::Load;

    #[test]
    fn the_fast_one_gets_more_and_the_frozen_one_nothing() {
        let loads = [(); 3].map(|()| Load::default());
        for (load, took) in loads.iter().zip([1000, 1000, 4000]) {
            let depth = load.begin(1);
            load.sample(10_000, took, depth);
            load.end();
        }
        // Frozen: something is under way, and nothing comes back.
        loads[0].begin(10_000);
        let all = |_| true;
        let view = View { weights: &[1; 3], loads: &loads, eligible: &all, now: 60_000, key: 0 };
        let mut balancer = LeastResponseTime;
        let mut random = Random::new(1);
        for _ in 0..10 {
            let picked = balancer.pick(&view, &mut random).unwrap();
            loads[usize::from(picked.0)].begin(60_000);
        }
        let [frozen, fast, slow] = loads.each_ref().map(Load::in_flight);
        assert_eq!(frozen, 1);
        assert!(fast >= 2 * slow && slow > 0, "{fast} and {slow}");
    }
}
