//! The endpoint with the fewest requests under way for its weight.

use super::balancer::{Balancer, View, least};
use super::random_two;
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Up to so many endpoints all are compared; of more, a few by chance: the walk over other cores'
/// cache lines would cost more than it gains.
pub const SCANNED: usize = 32;

/// Has no state of its own: what is under way is shared.
#[derive(Debug)]
pub struct LeastConnections;

impl Balancer for LeastConnections {
    fn pick(&mut self, view: &View<'_>, random: &mut Random) -> Option<EndpointId> {
        if view.weights.len() > SCANNED {
            return random_two::pick(view, random, |at| view.busyness(at)).and_then(EndpointId::at);
        }
        least(view, random, |at| view.busyness(at)).and_then(EndpointId::at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::load::Load;

    #[test]
    fn weights_count() {
        let loads = [(); 3].map(|()| Load::default());
        let all = |_| true;
        let view = View { weights: &[1, 1, 2], loads: &loads, eligible: &all, now: 0, key: 0 };
        let mut random = Random::new(1);
        for _ in 0..8 {
            let picked = LeastConnections.pick(&view, &mut random).unwrap();
            loads[usize::from(picked.0)].begin(0);
        }
        assert_eq!(loads.each_ref().map(Load::in_flight), [2, 2, 4]);
    }
}
