//! Floor 3: which endpoints may be sent requests. Active checks judge from outside, passive ones by what
//! requests meet. No I/O and no clock here.

pub mod active;
pub mod grpc;
pub mod http;
pub mod outlier;
pub mod passive;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::base::clock::Moment;
use crate::config::resilience::Passive;
use outlier::{Count, Window};
use passive::{Standing, Why};

/// What active checks say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckVerdict {
    /// Not checked, or not yet.
    #[default]
    Unknown,
    Up,
    Down,
}

/// With fewer than this many percent of a cluster's endpoints up, checks are not believed: rather
/// is something wrong with them than with all servers, and spreading the load over what is left
/// would take that down too (Envoy calls it the panic threshold).
pub const PANIC_PERCENT: usize = 50;

/// Whether the verdicts are to be ignored.
#[must_use]
pub const fn is_panic(down: usize, all: usize) -> bool {
    (all - down) * 100 < all * PANIC_PERCENT
}

/// The standing of a cluster's endpoints, for all shards.
#[derive(Debug)]
pub struct HealthTable {
    standing: Box<[Standing]>,
    windows: Box<[Window]>,
    /// Places of names may be empty: so many are not.
    count: AtomicUsize,
}

impl HealthTable {
    /// All in good standing.
    #[must_use]
    pub fn new(endpoints: usize) -> Self {
        Self {
            standing: (0..endpoints).map(|_| Standing::default()).collect(),
            windows: (0..endpoints).map(|_| Window::default()).collect(),
            count: AtomicUsize::new(endpoints),
        }
    }

    /// One endpoint's.
    #[must_use]
    #[inline]
    pub fn of(&self, at: usize) -> &Standing {
        &self.standing[at]
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Standing] {
        &self.standing
    }

    /// Whether one more may be put out, with no more than `share` percent out at a time: passive
    /// checks must not take a cluster down.
    #[must_use]
    pub fn may_eject(&self, share: u32) -> bool {
        let out = self.standing.iter().filter(|one| one.is_out()).count();
        (out + 1) * 100 <= self.count.load(Relaxed) * share as usize
    }

    /// Another address stands there now, against which nothing is held.
    pub fn forget(&self, at: usize) {
        self.standing[at].forget();
        let _ = self.windows[at].take();
    }

    /// So many places are not empty now.
    pub fn set_count(&self, count: usize) {
        self.count.store(count, Relaxed);
    }

    /// What a shard has counted at an endpoint since it last did.
    pub fn count(&self, at: usize, count: Count) {
        self.windows[at].add(count);
    }

    /// A window is over: the endpoints that stood out in it are put out.
    pub fn judge(&self, now: Moment, policy: &Passive) {
        let counts: Vec<Count> = self.windows.iter().map(Window::take).collect();
        for (at, standing) in self.standing.iter().enumerate() {
            let is_bad = outlier::is_outlier(&counts, at, policy.failure_rate);
            if is_bad && !standing.is_out() && self.may_eject(policy.share) {
                standing.eject(now, Why::Rate, policy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resilience::Resilience;
    use passive::PassiveState;

    #[test]
    fn half_is_no_panic_and_less_is() {
        assert!(!is_panic(0, 1) && is_panic(1, 1));
        assert!(!is_panic(1, 2) && is_panic(2, 2));
        assert!(!is_panic(5, 10) && is_panic(6, 10));
    }

    #[test]
    fn who_stands_out_is_put_out_and_never_more_than_the_share() {
        let (table, policy) = (HealthTable::new(4), Resilience::AUTO.passive);
        for at in 0..4 {
            table.count(at, Count { requests: 100, failures: if at < 3 { 90 } else { 0 } });
        }
        table.judge(Moment(1), &policy);
        let out =
            table.all().iter().filter(|one| one.state(Moment(1)) == PassiveState::Out).count();
        assert_eq!(out, 0, "three of four fail alike: none of them stands out");
        for at in 0..4 {
            table.count(at, Count { requests: 100, failures: if at < 1 { 90 } else { 0 } });
        }
        table.judge(Moment(1), &policy);
        assert_eq!(table.of(0).why(), Why::Rate);
        assert!(table.may_eject(50) && !table.may_eject(25));
    }
}
