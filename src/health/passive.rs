//! What requests meet: an endpoint that fails several times in a row is put out for a while, and
//! let in again by a single request, not by a herd.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::clock::{Moment, millis};

/// So long is the first ejection; each further one takes twice as long.
pub const EJECTION: Duration = Duration::from_secs(1);
/// No ejection is longer.
pub const EJECTION_MOST: Duration = Duration::from_secs(60);
/// An endpoint that was good for so long after its last ejection begins anew.
const FORGIVEN: Duration = Duration::from_secs(60);

/// Whether requests may go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    In,
    /// Put out.
    Out,
    /// Its time is over: one request may try it.
    Trial,
}

/// One endpoint's standing, for all shards. Written only when something fails, or works again;
/// otherwise every core reads its own copy of the line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Standing {
    /// Failures in a row.
    failures: AtomicU32,
    is_out: AtomicBool,
    /// Somebody is trying.
    on_trial: AtomicBool,
    /// Ejections that are not forgiven.
    ejections: AtomicU32,
    until: AtomicU64,
}

impl Standing {
    /// A request was answered.
    #[inline]
    pub fn passed(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.on_trial.store(false, Relaxed);
            self.is_out.store(false, Relaxed);
        }
    }

    /// A request failed, and the endpoint is to blame. Returns for how long it is put out, if now
    /// it is: after `most` in a row, or when it failed on trial. `may_eject` is asked first.
    pub fn failed(
        &self,
        now: Moment,
        most: u32,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if self.is_out() {
            return self.on_trial.swap(false, Relaxed).then(|| self.eject(now));
        }
        if failures < most || !may_eject() {
            return None;
        }
        self.is_out.store(true, Relaxed);
        Some(self.eject(now))
    }

    fn eject(&self, now: Moment) -> Duration {
        let ended = Moment(self.until.load(Relaxed));
        let is_new = now.since(ended) > FORGIVEN;
        let before = if is_new { 0 } else { self.ejections.load(Relaxed) };
        self.ejections.store(before + 1, Relaxed);
        let wait = (EJECTION * (1 << before.min(10))).min(EJECTION_MOST);
        self.until.store(now.after(wait).0, Relaxed);
        wait
    }

    /// It is put out, or on trial.
    #[inline]
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.is_out.load(Relaxed)
    }

    /// Whether requests may go there.
    #[inline]
    #[must_use]
    pub fn state(&self, now: Moment) -> State {
        if !self.is_out() {
            State::In
        } else if now.0 < self.until.load(Relaxed) {
            State::Out
        } else {
            State::Trial
        }
    }

    /// Asks to be the one request that tries an endpoint. Whoever gets it must call `passed` or
    /// `failed`; should it do neither, another may try after a while.
    #[must_use]
    pub fn claim(&self, now: Moment) -> bool {
        let until = self.until.load(Relaxed);
        let next = now.0.saturating_add(millis(EJECTION));
        let is_ours =
            now.0 >= until && self.until.compare_exchange(until, next, Relaxed, Relaxed).is_ok();
        if is_ours {
            self.on_trial.store(true, Relaxed);
        }
        is_ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_after_five_in_a_row_and_in_again_by_one_request() {
        let one = Standing::default();
        let mut now = Moment(100_000);
        for _ in 0..4 {
            assert_eq!(one.failed(now, 5, || true), None);
        }
        one.passed();
        for _ in 0..4 {
            assert_eq!(one.failed(now, 5, || true), None);
        }
        assert_eq!(one.failed(now, 5, || true), Some(EJECTION));
        assert_eq!(one.state(now), State::Out);
        // What was on its way when it was put out counts for nothing.
        assert_eq!(one.failed(now, 5, || true), None);
        now = now.after(EJECTION);
        assert_eq!(one.state(now), State::Trial);
        assert!(one.claim(now) && !one.claim(now));
        assert_eq!(one.state(now), State::Out);
        // Each ejection takes longer.
        assert_eq!(one.failed(now, 5, || true), Some(EJECTION * 2));
        now = now.after(EJECTION * 2);
        assert!(one.claim(now));
        one.passed();
        assert_eq!(one.state(now), State::In);
        // A long time without fault is forgiveness.
        now = now.after(Duration::from_secs(100));
        let last = (0..5).map(|_| one.failed(now, 5, || true)).last();
        assert_eq!(last, Some(Some(EJECTION)));
    }

    #[test]
    fn who_may_not_be_put_out_stays_in() {
        let one = Standing::default();
        for _ in 0..50 {
            assert_eq!(one.failed(Moment(1), 5, || false), None);
        }
        assert_eq!(one.state(Moment(1)), State::In);
    }
}
