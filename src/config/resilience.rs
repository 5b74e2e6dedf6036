//! How a cluster bears it when endpoints die, slow down or come back. `resilience = "auto"` is
//! `Resilience::AUTO`, `"off"` is `OFF`; tables in the cluster change single values of either.

use std::time::Duration;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resilience {
    pub passive: Passive,
    pub retry: Retry,
    pub queue: Queue,
    /// How long an endpoint that came back takes to its full share. Zero: it has it at once.
    pub slow_start: Duration,
    pub adaptive: Option<Adaptive>,
    /// `[cluster.hedge]`: the percentage of answers after whose time a second endpoint is asked.
    pub hedge: Option<u32>,
}

/// `[cluster.adaptive]`: a limit of requests under way that is found out, of all cores together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// So many are always let in.
    pub min: u32,
    /// More never are.
    pub max: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { min: 8, max: 1000 }
    }
}

/// `[cluster.passive]`: what requests meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Failures in a row after which an endpoint is put out. Zero: never.
    pub failures: u32,
    /// Percentage of failed requests from which on an endpoint is put out, if it fails twice as
    /// often as the others. Zero: never.
    pub failure_rate: u32,
    /// So long is the first ejection; each further one takes twice as long.
    pub ejection: Duration,
    /// No ejection is longer.
    pub ejection_max: Duration,
    /// No larger percentage of a cluster is put out at a time.
    pub share: u32,
}

/// `[cluster.retry]`: when a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, the first included.
    pub attempts: u32,
    /// Percentage of the cluster's requests that may be sent again.
    pub budget: u32,
    pub on: RetryOn,
    /// How long a try waits for the head of an answer while there could be another one;
    /// `Duration::MAX` for no limit but `first_byte`.
    pub try_timeout: Duration,
}

/// What is followed by another try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection: for any request.
    pub connect: bool,
    /// The connection was lost before the first octet of an answer: for requests that may be
    /// executed twice.
    pub lost: bool,
    /// No answer within `try_timeout`: likewise.
    pub timeout: bool,
    /// An answer with one of these: likewise.
    pub statuses: Statuses,
}

/// A set of statuses from 400 to 599.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses([u64; 4]);

impl Statuses {
    /// Puts a status in. Others than 400 to 599 are left out.
    #[must_use]
    pub const fn with(mut self, status: u16) -> Self {
        if status >= 400 && status < 600 {
            let at = status - 400;
            self.0[(at / 64) as usize] |= 1 << (at % 64);
        }
        self
    }

    /// Whether a status is in it.
    #[must_use]
    #[inline]
    pub const fn contains(&self, status: u16) -> bool {
        if status < 400 || status >= 600 {
            return false;
        }
        let at = status - 400;
        self.0[(at / 64) as usize] >> (at % 64) & 1 == 1
    }
}

/// `[cluster.queue]`: which requests wait while every endpoint has all the requests that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests that wait, of all cores together; more are refused at once.
    pub max: usize,
    /// How long one waits before it is refused.
    pub timeout: Duration,
}

/// `[cluster.sticky]`: a client stays with its endpoint, by a sealed cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    pub cookie: String,
    /// How long a client is remembered; zero for as long as its session.
    pub ttl: Duration,
    /// What the seal's key is made of; `None` for a random one, which is new at each start.
    pub key: Option<String>,
}

/// Whose turn it is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

impl Priority {
    /// Names in the configuration.
    pub const NAMES: [(&'static str, Self); 3] =
        [("low", Self::Low), ("normal", Self::Normal), ("high", Self::High)];
}

impl Resilience {
    /// The set that most clusters want.
    pub const AUTO: Self = Self {
        passive: Passive {
            failures: 5,
            failure_rate: 30,
            ejection: Duration::from_secs(1),
            ejection_max: Duration::from_secs(60),
            share: 50,
        },
        retry: Retry {
            attempts: 3,
            budget: 20,
            on: RetryOn {
                connect: true,
                lost: true,
                timeout: true,
                statuses: Statuses([0; 4]).with(502).with(503),
            },
            try_timeout: Duration::MAX,
        },
        queue: Queue { max: 1024, timeout: Duration::from_millis(150) },
        slow_start: Duration::from_secs(10),
        adaptive: None,
        hedge: None,
    };

    /// Nothing of it: each request has one try, at whatever endpoint the balancer names.
    pub const OFF: Self = Self {
        passive: Passive { failures: 0, failure_rate: 0, ..Self::AUTO.passive },
        retry: Retry {
            attempts: 1,
            on: RetryOn { connect: false, lost: false, timeout: false, statuses: Statuses([0; 4]) },
            ..Self::AUTO.retry
        },
        queue: Self::AUTO.queue,
        slow_start: Duration::ZERO,
        adaptive: None,
        hedge: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_a_set_of_errors() {
        let some = Statuses::default().with(400).with(503).with(599).with(200).with(600);
        let found: Vec<u16> = (0..1000).filter(|status| some.contains(*status)).collect();
        assert_eq!(found, [400, 503, 599]);
    }
}
