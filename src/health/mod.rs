//! Floor 3: who may be sent requests. Active checks judge from outside, passive ones by what
//! requests meet. No I/O and no clock here.

pub mod active;
pub mod http;
pub mod passive;

use passive::Standing;

/// What active checks say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
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
pub struct Table(Box<[Standing]>);

impl Table {
    /// All in good standing.
    #[must_use]
    pub fn new(endpoints: usize) -> Self {
        Self((0..endpoints).map(|_| Standing::default()).collect())
    }

    /// One endpoint's.
    #[must_use]
    #[inline]
    pub fn of(&self, at: usize) -> &Standing {
        &self.0[at]
    }

    /// Whether one more may be put out: never more than half, so that passive checks cannot take
    /// a cluster down.
    #[must_use]
    pub fn may_eject(&self) -> bool {
        let out = self.0.iter().filter(|one| one.is_out()).count();
        (out + 1) * 100 <= self.0.len() * PANIC_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_no_panic_and_less_is() {
        assert!(!is_panic(0, 1) && is_panic(1, 1));
        assert!(!is_panic(1, 2) && is_panic(2, 2));
        assert!(!is_panic(5, 10) && is_panic(6, 10));
    }
}
