//! A table of slots, filled so that every endpoint owns nearly the same number of them for its weight (Eisenbud and
//! others, "Maglev: A Fast and Reliable Software Network Load Balancer", 2016, section 3.4).

/// Primes for the number of slots; a hundred for each endpoint keep the shares within 1 %.
pub(super) const SIZES: [usize; 3] = [65_537, 655_373, 6_553_621];

/// The slots.
#[derive(Debug)]
pub struct SlotTable {
    pub(super) slots: Box<[u16]>,
}

impl SlotTable {
    /// Fills the table for endpoints: the index of each, the hash of its name, and its weight.
    #[must_use]
    pub fn new(endpoints: &[(usize, u64, u32)]) -> Self {
        let size = SIZES.into_iter().find(|size| *size >= 100 * endpoints.len());
        let size = size.unwrap_or(SIZES[SIZES.len() - 1]);
        let heaviest = endpoints.iter().map(|(_, _, weight)| *weight).max().unwrap_or(1);
        let mut walks: Vec<SlotWalk> =
            endpoints.iter().map(|(_, name, weight)| SlotWalk::new(*name, *weight, size)).collect();
        let mut slots = vec![u16::MAX; size].into_boxed_slice();
        let mut left = if endpoints.is_empty() { 0 } else { size };
        while left > 0 {
            for (at, walk) in walks.iter_mut().enumerate() {
                walk.credit += walk.weight;
                if walk.credit < heaviest || left == 0 {
                    continue;
                }
                walk.credit -= heaviest;
                let free = walk.next_free(&slots);
                slots[free] = u16::try_from(endpoints[at].0).unwrap_or(0);
                left -= 1;
            }
        }
        Self { slots }
    }
}

/// The order in which one endpoint would like to have the slots.
struct SlotWalk {
    next: usize,
    step: usize,
    weight: u32,
    credit: u32,
}

impl SlotWalk {
    fn new(hash: u64, weight: u32, size: usize) -> Self {
        let wide = size as u64;
        let place = |number: u64| usize::try_from(number).unwrap_or(0);
        let next = place((hash >> 32) % wide);
        let step = place((hash & 0xffff_ffff) % (wide - 1)) + 1;
        Self { next, step, weight, credit: 0 }
    }

    /// The number of slots is prime, so the walk comes to every one of them.
    fn next_free(&mut self, slots: &[u16]) -> usize {
        loop {
            let at = self.next;
            self.next = (self.next + self.step) % slots.len();
            if slots[at] == u16::MAX {
                return at;
            }
        }
    }
}
