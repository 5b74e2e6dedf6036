//! Smooth weighted round robin: with weights 5, 1, 1 it gives a a b a c a a, not a a a a a b c.
//! (The algorithm is nginx's, described in its commit 52327e0627f4.)

use super::balancer::{Balancer, View};
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Current credit of each endpoint.
#[derive(Debug)]
pub struct RoundRobin {
    credit: Vec<i64>,
    /// Where ties are broken, among so many: elsewhere on each shard.
    first: (usize, usize),
    seed: u64,
}

impl RoundRobin {
    /// For so many endpoints at most.
    #[must_use]
    pub fn new(endpoints: usize, seed: u64) -> Self {
        Self { credit: vec![0; endpoints], first: (0, 0), seed }
    }
}

impl Balancer for RoundRobin {
    fn pick(&mut self, view: &View<'_>, _random: &mut Random) -> Option<EndpointId> {
        debug_assert!(view.weights.len() <= self.credit.len(), "one credit an endpoint");
        let count = view.weights.len();
        let mut total = 0;
        let mut best: Option<usize> = None;
        if self.first.1 != count {
            let first = self.seed % u64::try_from(count.max(1)).unwrap_or(1);
            self.first = (usize::try_from(first).unwrap_or(0), count);
        }
        let mut at = self.first.0;
        for _ in 0..count {
            if (view.eligible)(at) {
                let weight = i64::from(view.weights[at]);
                total += weight;
                self.credit[at] += weight;
                if best.is_none_or(|best| self.credit[at] > self.credit[best]) {
                    best = Some(at);
                }
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        let best = best?;
        self.credit[best] -= total;
        EndpointId::at(best)
    }

    fn rescaled(&mut self) {
        self.credit.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(weights: &[u32], closed: Option<usize>, rounds: usize) -> String {
        let mut balancer = RoundRobin::new(weights.len(), 0);
        let eligible = |at| Some(at) != closed;
        let view = View { weights, loads: &[], eligible: &eligible, now: 0, key: 0 };
        let picks = (0..rounds).filter_map(|_| balancer.pick(&view, &mut Random::new(0)));
        picks.map(|id| char::from(b"abc"[usize::from(id.0)])).collect()
    }

    #[test]
    fn weights_are_kept_smoothly() {
        assert_eq!(run(&[1, 1, 1], None, 6), "abcabc");
        assert_eq!(run(&[5, 1, 1], None, 7), "aabacaa");
    }

    #[test]
    fn who_is_not_eligible_is_passed_over() {
        assert_eq!(run(&[1, 1, 1], Some(1), 4), "acac");
        assert_eq!(run(&[1], Some(0), 4), "");
    }

    /// A slow start weighs in hundredths: what its end left over was paid back in fifty requests in a row.
    #[test]
    fn another_unit_is_a_new_beginning() {
        let mut balancer = RoundRobin::new(2, 0);
        let picks = |weights: &[u32], balancer: &mut RoundRobin| -> String {
            let view = View { weights, loads: &[], eligible: &|_| true, now: 0, key: 0 };
            let pick = |_| balancer.pick(&view, &mut Random::new(0)).unwrap().0;
            (0..7).map(pick).map(|at| char::from(b"ab"[usize::from(at)])).collect()
        };
        picks(&[100, 37], &mut balancer);
        balancer.rescaled();
        assert_eq!(picks(&[1, 1], &mut balancer), "abababa");
    }

    #[test]
    fn shards_start_at_different_places() {
        let view = View { weights: &[1; 3], loads: &[], eligible: &|_| true, now: 0, key: 0 };
        let first = |seed| RoundRobin::new(3, seed).pick(&view, &mut Random::new(0));
        assert_ne!(first(0), first(1));
    }
}
