//! Which endpoints fail more often than the others: requests and failures are counted over a window, and an
//! endpoint that stands out is put out. One that fails no more than all the others stays in: then
//! it is not the endpoint that is at fault.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// With fewer requests in a window an endpoint is not judged.
const ENOUGH: u32 = 20;

/// Requests and failures of one endpoint in this window, from all shards.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Window {
    requests: AtomicU32,
    failures: AtomicU32,
}

/// What a window counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub requests: u32,
    pub failures: u32,
}

impl Window {
    /// Adds what a shard has counted since it last did.
    pub fn add(&self, count: Count) {
        self.requests.fetch_add(count.requests, Relaxed);
        self.failures.fetch_add(count.failures, Relaxed);
    }

    /// Begins anew.
    pub fn take(&self) -> Count {
        Count { requests: self.requests.swap(0, Relaxed), failures: self.failures.swap(0, Relaxed) }
    }
}

/// Whether an endpoint fails at least so often, in percent, and twice as often as the others of its
/// cluster together. An endpoint that is alone does not stand out.
#[must_use]
pub fn is_outlier(counts: &[Count], at: usize, percent: u32) -> bool {
    let own = counts[at];
    let (mut requests, mut failures) = (0_u64, 0_u64);
    for (_, other) in counts.iter().enumerate().filter(|(other, _)| *other != at) {
        requests += u64::from(other.requests);
        failures += u64::from(other.failures);
    }
    let (own_requests, own_failures) = (u64::from(own.requests), u64::from(own.failures));
    percent > 0
        && own.requests >= ENOUGH
        && requests >= u64::from(ENOUGH)
        && own_failures * 100 >= own_requests * u64::from(percent)
        && own_failures * requests >= 2 * failures * own_requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stands_out_is_put_out() {
        let count = |requests, failures| Count { requests, failures };
        let bad = |counts: &[Count]| is_outlier(counts, 0, 30);
        assert!(bad(&[count(100, 50), count(100, 1)]));
        assert!(bad(&[count(100, 30), count(100, 15)]));
        assert!(!bad(&[count(100, 29), count(100, 0)]), "too seldom");
        assert!(!bad(&[count(100, 50), count(100, 40)]), "the others fail as well");
        assert!(!bad(&[count(19, 19), count(100, 0)]), "too few to tell");
        assert!(!bad(&[count(100, 90)]), "alone");
        assert!(!bad(&[count(100, 90), count(3, 0)]), "none to compare it with");
        assert!(!is_outlier(&[count(100, 90), count(100, 0)], 0, 0), "not asked for");
    }
}
