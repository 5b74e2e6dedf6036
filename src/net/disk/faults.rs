//! Faults on purpose, in debug builds: `MILLRACE_TEST=disk-full`, `disk-broken`, `disk-slow`, or
//! `disk-dies-N`, which ends the process before the N-th step of writing (exam Q02, Q03).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What is to go wrong.
#[derive(Debug, Default)]
pub(super) struct DiskFaults {
    is_full: bool,
    is_broken: bool,
    is_slow: bool,
    /// Steps until the end; zero for none.
    dies: AtomicU64,
}

impl DiskFaults {
    /// What the environment asks for.
    pub(super) fn from_env() -> Self {
        let asked = if cfg!(debug_assertions) { std::env::var("MILLRACE_TEST").ok() } else { None };
        let Some(asked) = asked else { return Self::default() };
        let dies = asked.strip_prefix("disk-dies-").and_then(|number| number.parse().ok());
        Self {
            is_full: asked == "disk-full",
            is_broken: asked == "disk-broken",
            is_slow: asked == "disk-slow",
            dies: AtomicU64::new(dies.unwrap_or(0)),
        }
    }

    /// Before each step of writing.
    pub(super) fn step(&self) -> io::Result<()> {
        self.slow();
        if self.dies.load(Relaxed) > 0 && self.dies.fetch_sub(1, Relaxed) == 1 {
            std::process::abort();
        }
        if self.is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Before reading.
    pub(super) fn read(&self) -> io::Result<()> {
        self.slow();
        if self.is_broken { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn slow(&self) {
        if self.is_slow {
            std::thread::park_timeout(Duration::from_secs(1));
        }
    }
}
