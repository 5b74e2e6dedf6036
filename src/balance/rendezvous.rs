//! Highest random weight: each endpoint's score for a key is a hash of both, and the highest wins
//! (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998). When an
//! endpoint leaves, its own keys move and no other; when it comes back, they all return. With a
//! bound on the load (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads",
//! 2017) a key that many clients want goes on to its next endpoint.

use super::balancer::{Balancer, View};
use super::places::Places;
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// How much more than its fair share an endpoint may have under way, in percent of that share.
pub const BOUND: u64 = 125;

/// So many under way are always within the bound. When little is under way a fair share is less
/// than one request, and two pages opened at once would tear a user from their endpoint.
const ALWAYS: u64 = 16;

/// The hashes of the endpoints' names: the same on every shard, and after every restart.
#[derive(Debug)]
pub struct Rendezvous {
    names: Vec<u64>,
    bound: Option<u64>,
}

impl Rendezvous {
    /// Knows endpoints by the hashes of their names, so that their order does not matter.
    #[must_use]
    pub fn new(names: impl Iterator<Item = u64>, bound: Option<u64>) -> Self {
        Self { names: names.collect(), bound }
    }

    /// Weighted score, to be compared only: -weight / ln(hash as a fraction of one).
    fn score(&self, at: usize, view: &View<'_>) -> f64 {
        let hash = mix(self.names[at] ^ view.key);
        // 53 bits, never zero and never one.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let fraction = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(view.weights[at]) / fraction.ln()
    }

    fn best(&self, view: &View<'_>, may: impl Fn(usize) -> bool) -> Option<usize> {
        let scored = view.candidates().filter(|at| may(*at)).map(|at| (self.score(at, view), at));
        scored.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, at)| at)
    }
}

impl Balancer for Rendezvous {
    fn pick(&mut self, view: &View<'_>, _random: &mut Random) -> Option<EndpointId> {
        let best = self.best(view, |_| true)?;
        let Some(bound) = self.bound else { return EndpointId::at(best) };
        // Most of the time no endpoint is near the bound, and nothing else has to be looked at.
        if u64::from(view.loads[best].in_flight()) < ALWAYS {
            return EndpointId::at(best);
        }
        let (mut under_way, mut weights) = (1, 0);
        for at in view.candidates() {
            under_way += u64::from(view.loads[at].in_flight());
            weights += u64::from(view.weights[at]);
        }
        let has_room = |at: usize| {
            let fair = under_way * bound * u64::from(view.weights[at]);
            u64::from(view.loads[at].in_flight()) < fair.div_ceil(100 * weights).max(ALWAYS)
        };
        if has_room(best) {
            EndpointId::at(best)
        } else {
            self.best(view, has_room).or(Some(best)).and_then(EndpointId::at)
        }
    }

    fn placed(&mut self, places: &Places) {
        self.names = (0..self.names.len()).map(|at| places.name(at)).collect();
    }
}

/// The finisher of `SplitMix64`: every bit of the input changes about half of the output.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::load::Load;
    use crate::base::hash::stable;

    const KEYS: u64 = 20_000;

    fn map(balancer: &mut Rendezvous, loads: &[Load], weights: &[u32], gone: usize) -> Vec<usize> {
        let mut random = Random::new(1);
        let eligible = |at| at != gone;
        let mut pick = |key| {
            let key = stable(format!("key {key}").as_bytes());
            let view = View { weights, loads, eligible: &eligible, now: 0, key };
            usize::from(balancer.pick(&view, &mut random).unwrap().0)
        };
        (0..KEYS).map(&mut pick).collect()
    }

    #[test]
    fn only_the_keys_of_who_leaves_move_and_they_come_back() {
        let loads: Vec<Load> = (0..10).map(|_| Load::default()).collect();
        let mut balancer = Rendezvous::new(
            (0..10).map(|at| stable(format!("10.0.0.{at}:80").as_bytes())),
            Some(BOUND),
        );
        let before = map(&mut balancer, &loads, &[1; 10], 99);
        let without = map(&mut balancer, &loads, &[1; 10], 3);
        for (old, new) in before.iter().zip(&without) {
            assert!(old == new || *old == 3);
        }
        let moved = before.iter().zip(&without).filter(|(old, new)| old != new).count() as u64;
        assert!(moved < KEYS * 12 / 100, "{moved}");
        assert_eq!(before, map(&mut balancer, &loads, &[1; 10], 99));
    }

    #[test]
    fn shares_follow_weights() {
        let loads: Vec<Load> = (0..3).map(|_| Load::default()).collect();
        let mut balancer =
            Rendezvous::new((0..3).map(|at| stable(format!("h{at}:80").as_bytes())), None);
        let picked = map(&mut balancer, &loads, &[1, 1, 2], 99);
        let heavy = picked.iter().filter(|at| **at == 2).count() as u64;
        assert!((KEYS * 47 / 100..KEYS * 53 / 100).contains(&heavy), "{heavy}");
    }

    #[test]
    fn a_key_that_everybody_wants_spills_over() {
        let loads: Vec<Load> = (0..4).map(|_| Load::default()).collect();
        let mut balancer =
            Rendezvous::new((0..4).map(|at| stable(format!("h{at}:80").as_bytes())), Some(BOUND));
        let mut random = Random::new(1);
        let view = View { weights: &[1; 4], loads: &loads, eligible: &|_| true, now: 0, key: 7 };
        for _ in 0..100 {
            let picked = balancer.pick(&view, &mut random).unwrap();
            loads[usize::from(picked.0)].begin(0);
        }
        assert!(loads.iter().all(|load| load.in_flight() <= 32), "{loads:?}");
    }
}
