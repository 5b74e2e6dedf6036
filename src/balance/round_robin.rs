//! Smooth weighted round robin: with weights 5, 1, 1 it gives a a b a c a a, not a a a a a b c.
//! (The algorithm is nginx's, described in its commit 52327e0627f4.)

use super::{Balancer, Candidate, id};
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Current credit of each endpoint.
#[derive(Debug)]
pub struct RoundRobin {
    credit: Vec<i64>,
    /// Where ties are broken; starts differently on each shard.
    first: usize,
}

impl RoundRobin {
    /// For so many endpoints.
    #[must_use]
    pub fn new(endpoints: usize, seed: u64) -> Self {
        let spread = u64::try_from(endpoints.max(1)).unwrap_or(1);
        Self { credit: vec![0; endpoints], first: usize::try_from(seed % spread).unwrap_or(0) }
    }
}

impl Balancer for RoundRobin {
    fn pick(&mut self, candidates: &[Candidate], _random: &mut Random) -> Option<EndpointId> {
        debug_assert_eq!(candidates.len(), self.credit.len(), "one credit an endpoint");
        let count = candidates.len();
        let mut total = 0;
        let mut best: Option<usize> = None;
        let mut at = self.first;
        for _ in 0..count {
            if candidates[at].is_eligible {
                let weight = i64::from(candidates[at].weight);
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
        id(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(weights: &[u32], closed: Option<usize>, rounds: usize) -> String {
        let mut balancer = RoundRobin::new(weights.len(), 0);
        let candidates: Vec<Candidate> = weights
            .iter()
            .enumerate()
            .map(|(at, weight)| Candidate { weight: *weight, is_eligible: Some(at) != closed })
            .collect();
        let picks = (0..rounds).filter_map(|_| balancer.pick(&candidates, &mut Random::new(0)));
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

    #[test]
    fn shards_start_at_different_places() {
        let candidates = [Candidate { weight: 1, is_eligible: true }; 3];
        let first = |seed| RoundRobin::new(3, seed).pick(&candidates, &mut Random::new(0));
        assert_ne!(first(0), first(1));
    }
}
