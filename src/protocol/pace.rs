//! What every version holds a body to: how long it may take, and what its faults are called.

use std::time::Duration;

use crate::base::clock::{Moment, millis};
use crate::base::error::Kind;

/// Which faults a body's reader or writer reports.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub cut_short: Kind,
    pub timeout: Kind,
    pub chunk: Kind,
    pub trailer: Kind,
    /// What people call it.
    pub part: &'static str,
}

/// Faults of a request's body.
pub static REQUEST: Faults = Faults {
    cut_short: Kind::BodyCutShort,
    timeout: Kind::BodyTimeout,
    chunk: Kind::Chunk,
    trailer: Kind::Trailer,
    part: "request body",
};

/// Faults of a response's body.
pub static RESPONSE: Faults = Faults {
    cut_short: Kind::UpstreamBodyCutShort,
    timeout: Kind::UpstreamBodyTimeout,
    chunk: Kind::UpstreamChunk,
    trailer: Kind::UpstreamChunk,
    part: "answer body",
};

/// How long a body may take. Absolute: a byte now and then does not buy time for ever.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Without a byte.
    pub idle: Duration,
    /// The exchange's own end.
    pub total_by: Moment,
    /// Octets a second on average, after `idle` for a start; zero for no minimum.
    pub rate: u64,
}

impl Pace {
    /// No bound yet.
    pub const NONE: Self = Self { idle: Duration::MAX, total_by: Moment::NEVER, rate: 0 };

    /// When the next octet must have come, for a body that began then and of which so much was received.
    #[must_use]
    pub fn deadline(&self, now: Moment, began: Moment, received: u64) -> Moment {
        let idle = now.after(self.idle).min(self.total_by);
        if self.rate == 0 {
            return idle;
        }
        let earned = Duration::from_millis(received.saturating_mul(1000) / self.rate);
        idle.min(began.after(self.idle.saturating_add(earned)))
    }
}

/// The period, in milliseconds, for a peer that may take nothing for so long: the sweep gives a write two periods
/// at the least.
#[must_use]
pub fn period(idle: Duration) -> u32 {
    u32::try_from(millis(idle) / 2).unwrap_or(u32::MAX)
}
