//! Random choice by weight.

use super::{Balancer, Candidate, id};
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Has no state of its own.
#[derive(Debug)]
pub struct WeightedRandom;

impl Balancer for WeightedRandom {
    fn pick(&mut self, candidates: &[Candidate], random: &mut Random) -> Option<EndpointId> {
        let eligible = || candidates.iter().enumerate().filter(|(_, one)| one.is_eligible);
        let total: u32 = eligible().map(|(_, one)| one.weight).sum();
        let mut point = random.below(total);
        for (at, one) in eligible() {
            if point < one.weight {
                return id(at);
            }
            point -= one.weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_weights() {
        let candidates = [
            Candidate { weight: 1, is_eligible: true },
            Candidate { weight: 9, is_eligible: false },
            Candidate { weight: 3, is_eligible: true },
        ];
        let mut random = Random::new(1);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            let id = WeightedRandom.pick(&candidates, &mut random).unwrap();
            counts[usize::from(id.0)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((7_200..7_800).contains(&counts[2]), "{counts:?}");
    }
}
