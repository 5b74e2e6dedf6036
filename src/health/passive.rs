//! What requests meet: an endpoint that fails several times in a row, or cannot be connected to, is
//! put out for a while, and let in again by a single request, not by a herd.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::clock::{Moment, millis};
use crate::base::limits::ENDPOINT_REST;
use crate::base::limits::{FAILURES_FORGIVEN, TRIAL_LASTS};
use crate::config::resilience::Passive;

/// Whether requests may go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassiveState {
    In,
    /// Put out.
    Out,
    /// Its time is over: one request may try it.
    Trial,
}

/// Why an endpoint is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// It is not.
    In = 0,
    /// It took no connection: asking it again is of no use, whatever the others do.
    Unreachable = 1,
    /// It failed several times in a row.
    Failures = 2,
    /// It failed more often than the others.
    Rate = 3,
}

impl Why {
    const ALL: [Self; 4] = [Self::In, Self::Unreachable, Self::Failures, Self::Rate];
}

/// One endpoint's standing, for all shards. Written only when something fails, or works again;
/// otherwise every core reads its own copy of the line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Standing {
    /// Failures in a row; at least one while it is out.
    failures: AtomicU32,
    why: AtomicU8,
    /// A request is trying.
    on_trial: AtomicBool,
    /// Ejections that are not forgiven.
    ejections: AtomicU32,
    until: AtomicU64,
    /// When it came back; zero if it never was away.
    back: AtomicU64,
}

impl Standing {
    /// A request was answered. While an endpoint is out this says nothing, unless it was the one
    /// that tried: others were on their way before, and of one that fails too often most succeed.
    #[inline]
    pub fn passed(&self, now: Moment) {
        if self.failures.load(Relaxed) != 0
            && (self.is_on_trial() || self.state(now) != PassiveState::Out)
        {
            self.let_in(now);
        }
    }

    /// A connection was opened: what was held against it, if it was that, is over.
    #[inline]
    pub fn reached(&self, now: Moment) {
        if self.why() == Why::Unreachable {
            self.let_in(now);
        }
    }

    #[cold]
    fn let_in(&self, now: Moment) {
        self.failures.store(0, Relaxed);
        self.on_trial.store(false, Relaxed);
        if self.why.swap(Why::In as u8, Relaxed) != Why::In as u8 {
            self.came_back(now);
        }
    }

    /// Takes over what was held against the same endpoint under another plan.
    pub fn inherit(&self, from: &Self) {
        self.failures.store(from.failures.load(Relaxed), Relaxed);
        self.why.store(from.why.load(Relaxed), Relaxed);
        self.ejections.store(from.ejections.load(Relaxed), Relaxed);
        self.until.store(from.until.load(Relaxed), Relaxed);
        self.back.store(from.back.load(Relaxed), Relaxed);
    }

    /// Another address stands there now, against which nothing is held.
    pub fn forget(&self) {
        self.inherit(&Self::default());
        self.on_trial.store(false, Relaxed);
    }

    /// It works again, after it did not: from now on its share grows slowly.
    pub fn came_back(&self, now: Moment) {
        self.back.store(now.0.max(1), Relaxed);
    }

    /// When it came back; `None` if it never was away.
    #[must_use]
    pub fn back(&self) -> Option<Moment> {
        Some(Moment(self.back.load(Relaxed))).filter(|back| back.0 > 0)
    }

    /// A request failed, and the endpoint is to blame. Returns for how long it is put out, if now
    /// it is: after so many in a row, or when it failed on trial. `may_eject` is asked first.
    pub fn failed(
        &self,
        now: Moment,
        policy: &Passive,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if self.is_out() {
            return self.on_trial.swap(false, Relaxed).then(|| self.extend(now, policy));
        }
        let is_enough = policy.failures > 0 && failures >= policy.failures;
        (is_enough && may_eject()).then(|| self.eject(now, Why::Failures, policy))
    }

    /// Puts it out.
    pub fn eject(&self, now: Moment, why: Why, policy: &Passive) -> Duration {
        self.failures.fetch_max(1, Relaxed);
        self.why.store(why as u8, Relaxed);
        self.extend(now, policy)
    }

    /// No connection could be opened. One that refuses is asked again after a second, for that
    /// costs nothing; one that is silent costs a request its patience, and waits twice as long each
    /// time. Never capped: there is no server to talk to.
    pub fn unreachable(&self, now: Moment, is_silent: bool, policy: &Passive) {
        let was_on_trial = self.on_trial.swap(false, Relaxed);
        if self.why() == Why::Unreachable && !was_on_trial {
            // It was on its way when the first one failed: this says nothing new.
            return;
        }
        if is_silent {
            self.eject(now, Why::Unreachable, policy);
            return;
        }
        self.failures.fetch_max(1, Relaxed);
        self.why.store(Why::Unreachable as u8, Relaxed);
        self.until.store(now.after(ENDPOINT_REST).0, Relaxed);
    }

    fn extend(&self, now: Moment, policy: &Passive) -> Duration {
        let ended = Moment(self.until.load(Relaxed));
        let is_new = now.since(ended) > FAILURES_FORGIVEN;
        let before = if is_new { 0 } else { self.ejections.load(Relaxed) };
        self.ejections.store(before + 1, Relaxed);
        let wait = policy.ejection.saturating_mul(1 << before.min(10)).min(policy.ejection_max);
        self.until.store(now.after(wait).0, Relaxed);
        wait
    }

    /// It is put out, or on trial.
    #[inline]
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.why.load(Relaxed) != Why::In as u8
    }

    /// Why it is out.
    #[must_use]
    pub fn why(&self) -> Why {
        Why::ALL[usize::from(self.why.load(Relaxed)) % Why::ALL.len()]
    }

    /// A request is trying it.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.on_trial.load(Relaxed)
    }

    /// When its ejection ends.
    #[must_use]
    pub fn until(&self) -> Moment {
        Moment(self.until.load(Relaxed))
    }

    /// Whether requests may go there.
    #[inline]
    #[must_use]
    pub fn state(&self, now: Moment) -> PassiveState {
        if !self.is_out() {
            PassiveState::In
        } else if now < self.until() {
            PassiveState::Out
        } else {
            PassiveState::Trial
        }
    }

    /// Asks to be the one request that tries an endpoint. The one that gets it must call `passed`,
    /// `failed` or `unreachable`; should it do none of them, another may try after a while.
    #[must_use]
    pub fn claim(&self, now: Moment) -> bool {
        let until = self.until.load(Relaxed);
        let next = now.0.saturating_add(millis(TRIAL_LASTS));
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
    use crate::config::resilience::Resilience;

    const POLICY: Passive = Resilience::AUTO.passive;
    const EJECTION: Duration = POLICY.ejection;

    #[test]
    fn out_after_five_in_a_row_and_in_again_by_one_request() {
        let one = Standing::default();
        let mut now = Moment(100_000);
        let fail = |now| one.failed(now, &POLICY, || true);
        for _ in 0..4 {
            assert_eq!(fail(now), None);
        }
        one.passed(now);
        assert_eq!(one.back(), None, "it was never away");
        for _ in 0..4 {
            assert_eq!(fail(now), None);
        }
        assert_eq!(fail(now), Some(EJECTION));
        assert_eq!(one.state(now), PassiveState::Out);
        // What was on its way when it was put out counts for nothing.
        assert_eq!(fail(now), None);
        now = now.after(EJECTION);
        assert_eq!(one.state(now), PassiveState::Trial);
        assert!(one.claim(now) && !one.claim(now));
        assert_eq!(one.state(now), PassiveState::Out);
        // Each ejection takes longer.
        assert_eq!(fail(now), Some(EJECTION * 2));
        now = now.after(EJECTION * 2);
        assert!(one.claim(now));
        one.passed(now);
        assert_eq!((one.state(now), one.back()), (PassiveState::In, Some(now)));
        // A long time without fault is forgiveness.
        now = now.after(Duration::from_secs(100));
        let found: Vec<_> = (0..5).map(|_| fail(now)).collect();
        assert_eq!(found[4], Some(EJECTION));
    }

    #[test]
    fn answers_that_were_on_their_way_let_nobody_in() {
        let one = Standing::default();
        let now = Moment(100_000);
        let wait = one.eject(now, Why::Rate, &POLICY);
        one.passed(now);
        assert_eq!(one.state(now), PassiveState::Out);
        let now = now.after(wait);
        assert!(one.claim(now));
        one.passed(now);
        assert_eq!(one.state(now), PassiveState::In);
    }

    #[test]
    fn who_may_not_be_put_out_stays_in() {
        let one = Standing::default();
        let never = Passive { failures: 0, ..POLICY };
        for _ in 0..50 {
            assert_eq!(one.failed(Moment(1), &POLICY, || false), None);
            assert_eq!(one.failed(Moment(1), &never, || true), None);
        }
        assert_eq!(one.state(Moment(1)), PassiveState::In);
    }

    #[test]
    fn who_refuses_is_asked_each_second_and_who_is_silent_less_and_less() {
        let one = Standing::default();
        let mut now = Moment(100_000);
        for _ in 0..5 {
            one.unreachable(now, false, &POLICY);
            assert_eq!(one.state(now), PassiveState::Out);
            now = now.after(ENDPOINT_REST);
            assert!(one.claim(now));
        }
        let silent = Standing::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            silent.unreachable(now, true, &POLICY);
            // Those that were on their way as well.
            silent.unreachable(now, true, &POLICY);
            waits.push(silent.until().since(now).as_secs());
            now = silent.until();
            assert!(silent.claim(now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
