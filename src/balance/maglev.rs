//! A table of slots, filled so that every endpoint owns nearly the same number of them for its
//! weight (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer",
//! 2016, section 3.4). One look a request. The table does not change with health: a key whose
//! endpoint is gone goes on to the slots behind, so that no other key moves.

use std::sync::Arc;

use super::balancer::{Balancer, View};
use super::places::Places;
use super::slots::SlotTable;
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Looks keys up in the cluster's table, which all shards share.
#[derive(Debug)]
pub struct Maglev {
    table: Option<Arc<SlotTable>>,
}

impl Maglev {
    /// With the table of these places.
    #[must_use]
    pub fn new(places: &Places) -> Self {
        Self { table: places.table.clone() }
    }
}

impl Balancer for Maglev {
    fn pick(&mut self, view: &View<'_>, _random: &mut Random) -> Option<EndpointId> {
        let slots = &self.table.as_ref()?.slots;
        let mut at = usize::try_from(view.key % slots.len() as u64).unwrap_or(0);
        // Half of the endpoints gone, a look finds one with even odds; nearly all gone, the walk
        // over the endpoints is shorter than the one over the slots.
        for _ in 0..64 {
            let endpoint = usize::from(slots[at]);
            if (view.eligible)(endpoint) {
                return EndpointId::at(endpoint);
            }
            at = (at + 1) % slots.len();
        }
        let count = view.candidates().count() as u64;
        let nth = usize::try_from(view.key % count.max(1)).unwrap_or(0);
        view.candidates().nth(nth).and_then(EndpointId::at)
    }

    fn placed(&mut self, places: &Places) {
        self.table.clone_from(&places.table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::slots::SIZES;
    use crate::base::hash::stable;

    fn name(at: usize) -> u64 {
        stable(format!("h{at}:80").as_bytes())
    }

    fn shares(weights: &[u32]) -> Vec<usize> {
        let names: Vec<_> =
            weights.iter().enumerate().map(|(at, weight)| (at, name(at), *weight)).collect();
        let table = SlotTable::new(&names);
        let mut counts = vec![0; weights.len()];
        table.slots.iter().for_each(|at| counts[usize::from(*at)] += 1);
        counts
    }

    #[test]
    fn even_endpoints_have_even_shares() {
        for count in [1, 2, 10, 100, 600] {
            let counts = shares(&vec![1; count]);
            let mean = SIZES[0] / count;
            assert!(counts.iter().all(|own| own.abs_diff(mean) <= 1 + mean / 100), "{count}");
        }
        let counts = shares(&[1, 2, 5]);
        assert!(counts[2].abs_diff(SIZES[0] * 5 / 8) < SIZES[0] / 100, "{counts:?}");
    }

    #[test]
    fn a_table_without_one_endpoint_keeps_nearly_all_other_slots() {
        let names = |gone: usize| {
            (0..100).filter(|at| *at != gone).map(|at| (at, name(at), 1)).collect::<Vec<_>>()
        };
        let (all, without) = (SlotTable::new(&names(999)), SlotTable::new(&names(99)));
        let pairs = || all.slots.iter().zip(&without.slots);
        let moved = pairs().filter(|(old, new)| **old != 99 && old != new).count();
        // The figure of the issue: 0.6 % beyond the share of the one that left.
        assert!(moved * 1000 <= SIZES[0] * 30, "{moved} of {}", SIZES[0]);
    }
}
