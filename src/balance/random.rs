//! Random choice by weight.

use super::balancer::{Balancer, View};
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Has no state of its own.
#[derive(Debug)]
pub struct WeightedRandom;

impl Balancer for WeightedRandom {
    fn pick(&mut self, view: &View<'_>, random: &mut Random) -> Option<EndpointId> {
        choose(view, random, usize::MAX).and_then(EndpointId::at)
    }
}

/// Chooses by weight among the eligible endpoints other than `not`.
pub fn choose(view: &View<'_>, random: &mut Random, not: usize) -> Option<usize> {
    // Nearly always most are eligible: a few throws of the dice spare the walk over all.
    let count = u32::try_from(view.weights.len()).unwrap_or(u32::MAX);
    let heaviest = view.weights.iter().copied().max().unwrap_or(1);
    for _ in 0..8 {
        let at = random.below(count) as usize;
        if at != not && random.below(heaviest) < view.weights[at] && (view.eligible)(at) {
            return Some(at);
        }
    }
    let candidates = || view.candidates().filter(|at| *at != not);
    let total: u32 = candidates().map(|at| view.weights[at]).sum();
    let mut point = random.below(total);
    for at in candidates() {
        if point < view.weights[at] {
            return Some(at);
        }
        point -= view.weights[at];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::load::Load;

    #[test]
    fn shares_follow_weights() {
        let loads = [(); 3].map(|()| Load::default());
        let eligible = |at| at != 1;
        let view = View { weights: &[1, 9, 3], loads: &loads, eligible: &eligible, now: 0, key: 0 };
        let mut random = Random::new(1);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            let id = WeightedRandom.pick(&view, &mut random).unwrap();
            counts[usize::from(id.0)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((7_200..7_800).contains(&counts[2]), "{counts:?}");
        assert_eq!(choose(&View { eligible: &|at| at == 2, ..view }, &mut random, 2), None);
    }
}
