//! The one reader of OS time. Everything else is handed a `Moment` or a wall time.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Microseconds on the monotonic clock.
pub type Micros = u64;

/// A point on the monotonic clock: milliseconds since the process first asked. Never goes back,
/// whatever happens to the wall clock (exam P11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than any deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment and a while. Saturates at `NEVER`.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// How long ago `earlier` was; zero if it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole milliseconds. Saturates.
#[must_use]
#[inline]
pub fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()))
}

/// Reads the monotonic clock.
#[must_use]
pub fn monotonic() -> Moment {
    static START: OnceLock<Micros> = OnceLock::new();
    let now = micros();
    Moment(now.saturating_sub(*START.get_or_init(|| now)) / 1000)
}

/// Reads the monotonic clock in microseconds since whatever moment: for differences. `Instant` costs three times as
/// many instructions.
#[must_use]
pub fn micros() -> Micros {
    // A system without this clock has no Instant either, and it is never negative.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec().cast_unsigned() * 1_000_000 + now.tv_nsec().cast_unsigned() / 1000
    })
}

/// Reads the wall clock: milliseconds since 1970. Zero for a clock set before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of OS time")]
pub fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long it is until then; zero if it is over.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of OS time")]
pub fn until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// An HTTP date of a wall time (RFC 9110 section 5.6.7, IMF-fixdate), 29 octets.
#[must_use]
pub fn http_date(wall: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_and_never_go_negative() {
        assert_eq!(Moment(5).after(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
        assert_eq!(Moment(1500).since(Moment(500)), Duration::from_secs(1));
    }

    #[test]
    fn http_date_has_the_preferred_form() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
