//! What all shards know of one endpoint: one padded cache line with what is under way there and
//! how fast it answers. Everything that a choice compares is shared: shared counts beside private
//! averages would send every core to the same endpoint.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::base::clock::Micros;

/// A new sample counts for one part in so many: about the last hundred answers matter. Less would
/// make even endpoints look uneven.
const SHARE: u64 = 64;

/// After so many microseconds without a request, an endpoint counts as twice as fast as it was.
const FORGOTTEN: Micros = 10_000_000;

/// With so few under way, a request hardly waits for another.
const ALONE: u32 = 2;

/// One endpoint's load. Two adds and two stores an exchange, all relaxed: an update that is lost
/// to another core does no harm. 128 octets, for processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    in_flight: AtomicU32,
    /// Nanoseconds that one request of those under way takes: see `sample`. Zero before the first.
    each: Average,
    /// Nanoseconds that a request takes where there is hardly another: no answer is faster. Zero
    /// before the first such request.
    alone: Average,
    /// When it last completed something, or began after it had nothing to do.
    progress: AtomicU64,
}

impl Load {
    /// A request is sent there. Returns how many are under way, this one included. `now` may be
    /// zero where the clock is not read.
    pub fn begin(&self, now: Micros) -> u32 {
        let met = self.in_flight.fetch_add(1, Relaxed);
        if met == 0 && now > 0 {
            self.progress.store(now, Relaxed);
        }
        met + 1
    }

    /// As `begin`, unless `most` are under way already: `None` then.
    pub fn begin_within(&self, most: u32, now: Micros) -> Option<u32> {
        let room = |met: u32| (met < most).then(|| met + 1);
        let met = self.in_flight.fetch_update(Relaxed, Relaxed, room).ok()?;
        if met == 0 && now > 0 {
            self.progress.store(now, Relaxed);
        }
        Some(met + 1)
    }

    /// It is over, without a word about how long it took.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// What was answered after `took` microseconds, by an endpoint that had `depth` requests under
    /// way at its beginning. The sample is the time divided by that depth: what an endpoint needs
    /// for each of the requests that it works on, whether it works on one or on forty at a time.
    pub fn sample(&self, now: Micros, took: Micros, depth: u32) {
        self.progress.store(now, Relaxed);
        let took = took.saturating_mul(1000).max(1);
        self.each.add(took / u64::from(depth.max(1)));
        if depth <= ALONE {
            self.alone.add(took);
        }
    }

    /// Another address stands there now: how fast the old one was says nothing.
    pub fn forget(&self) {
        self.each.forget();
        self.alone.forget();
    }

    /// Requests under way, of all shards.
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Nanoseconds until one more request would be answered: what each takes, times those that
    /// would then be under way. An endpoint that completes nothing is at least as slow as it has
    /// been silent, so that a frozen one is left alone after a moment. What is known of one that has
    /// nothing to do fades, so that one that was slow is tried again. Zero if nothing is known.
    #[must_use]
    #[inline]
    pub fn expected(&self, now: Micros) -> u64 {
        let in_flight = u64::from(self.in_flight());
        let queue = self.each.get().saturating_mul(in_flight + 1);
        let expected = queue.max(self.alone.get());
        let silent = now.saturating_sub(self.progress.load(Relaxed));
        if in_flight == 0 {
            return expected >> (silent / FORGOTTEN).min(32);
        }
        expected.max(silent.saturating_mul(1000))
    }
}

/// A moving average that begins as a plain one, so that its first sample does not stay for long.
#[derive(Debug, Default)]
struct Average {
    value: AtomicU64,
    samples: AtomicU64,
}

impl Average {
    fn add(&self, sample: u64) {
        let (before, samples) = (self.get(), self.samples.load(Relaxed));
        let share = SHARE.min(samples + 1);
        self.value.store((before - before / share + sample / share).max(1), Relaxed);
        self.samples.store(samples + 1, Relaxed);
    }

    fn forget(&self) {
        self.value.store(0, Relaxed);
        self.samples.store(0, Relaxed);
    }

    fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_and_the_queue_multiplies() {
        let load = Load::default();
        for at in 1..500 {
            let depth = load.begin(at * 1000);
            load.sample(at * 1000 + 200, 200, depth);
            load.end();
        }
        assert!((190_000..=200_000).contains(&load.expected(500_000)), "{load:?}");
        load.begin(500_000);
        let two = load.expected(500_100);
        assert!((380_000..=400_000).contains(&two), "{two}");
    }

    #[test]
    fn silence_counts_only_while_something_is_under_way() {
        let load = Load::default();
        let depth = load.begin(1000);
        load.sample(2000, 1000, depth);
        assert_eq!(load.expected(900_000_000), (900_000_000 - 2000) * 1000);
        load.end();
        assert_eq!(load.expected(3000), 1_000_000, "it took a millisecond, and nothing waits");
        assert_eq!(load.expected(30_003_000), 125_000, "that was half a minute ago");
    }
}
