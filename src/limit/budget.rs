//! How many requests may be sent again: a share of all requests, so that a cluster in trouble does
//! not get more of them than before (exam G09).

/// What one retry costs.
const RETRY: u32 = 100;

/// A retry budget. Each request pays a percentage of a retry in.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    percent: u32,
    saved: u32,
}

impl Budget {
    /// So many retries are allowed whatever the number of requests.
    pub const RESERVE: u32 = 10;
    /// No more are saved up.
    pub const MOST: u32 = 100;

    /// `percent` of requests may be sent again; with zero none, not even of the reserve.
    #[must_use]
    pub const fn new(percent: u32) -> Self {
        Self { percent, saved: if percent == 0 { 0 } else { Self::RESERVE * RETRY } }
    }

    /// A request has come.
    #[inline]
    pub const fn pay_in(&mut self) {
        let saved = self.saved + self.percent;
        self.saved = if saved < Self::MOST * RETRY { saved } else { Self::MOST * RETRY };
    }

    /// Takes out one retry, if there is one.
    #[must_use]
    pub const fn take(&mut self) -> bool {
        if self.saved < RETRY {
            return false;
        }
        self.saved -= RETRY;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_and_a_reserve() {
        let mut budget = Budget::new(20);
        let retries = (0..10_000).filter(|_| {
            budget.pay_in();
            budget.take()
        });
        assert_eq!(retries.count(), 2000 + Budget::RESERVE as usize);
    }

    #[test]
    fn savings_have_an_end() {
        let mut budget = Budget::new(20);
        (0..1_000_000).for_each(|_| budget.pay_in());
        assert_eq!((0..1000).filter(|_| budget.take()).count(), Budget::MOST as usize);
    }
}
