//! Builds a worker's runtime, on the worker's own thread: the real ring with its flags, or epoll.
//! No probe ring: a small one can succeed where the real one is refused (exam P05).

use std::future::Future;
use std::io;
use std::time::Duration;

use monoio::net::TcpStream;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use super::socket::into_monoio;
use super::sys;

use crate::base::limits::{RING_COMPLETIONS, RING_ENTRIES};
use crate::config::model::{Driver, Ring};

/// A built runtime.
pub enum Loop {
    Ring(Runtime<IoUringDriver>),
    Epoll(Runtime<LegacyDriver>),
}

impl Loop {
    /// Builds what is asked for. With `Auto`, the error that made it epoll comes along.
    ///
    /// # Errors
    /// The ring or epoll cannot be had.
    pub fn build(driver: Driver, ring: Ring) -> io::Result<(Self, Option<io::Error>)> {
        match driver {
            Driver::Epoll => epoll().map(|built| (built, None)),
            Driver::IoUring => io_uring(ring).map(|built| (built, None)),
            Driver::Auto => match io_uring(ring) {
                Ok(built) => Ok((built, None)),
                Err(error) => epoll().map(|built| (built, Some(error))),
            },
        }
    }

    /// Runs a future and everything it spawns until it is through.
    pub fn run<F: Future>(self, future: F) -> F::Output {
        match self {
            Self::Ring(mut runtime) => runtime.block_on(future),
            Self::Epoll(mut runtime) => runtime.block_on(future),
        }
    }

    /// For messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ring(_) => "io_uring",
            Self::Epoll(_) => "epoll",
        }
    }
}

fn epoll() -> io::Result<Loop> {
    RuntimeBuilder::<LegacyDriver>::new().build().map(Loop::Epoll)
}

/// Whether `MILLRACE_TEST` asks for this: in debug builds only.
#[must_use]
pub fn is_under_test(hook: &str) -> bool {
    cfg!(debug_assertions) && std::env::var("MILLRACE_TEST").is_ok_and(|all| all.contains(hook))
}

/// Room for submissions and completions; a test has little of it (exam P08).
fn entries() -> (u32, u32) {
    if is_under_test("ring") { (256, 256) } else { (RING_ENTRIES, RING_COMPLETIONS) }
}

/// Without one of the task-run flags the ring costs a third more than epoll (net, rule 1);
/// older kernels know fewer of them.
fn io_uring(ring: Ring) -> io::Result<Loop> {
    let mut result = Err(io::ErrorKind::Unsupported.into());
    let (entries, completions) = entries();
    for flags in [Some(ring), Some(Ring::Coop), None] {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_cqsize(completions);
        match flags {
            Some(Ring::Defer) => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            Some(Ring::Coop) => {
                builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag();
            }
            None => {}
        }
        let runtime = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(entries)
            .uring_builder(builder)
            .build();
        match runtime {
            Ok(runtime) => return Ok(Loop::Ring(runtime)),
            // Anything but "this flag is unknown" will not get better with fewer flags.
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Runs a task beside the others of this worker, for as long as it takes.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// A clock that can be waited for. The kernel keeps it, so that the loop itself never has to ask
/// for the time: monoio's own timers read the clock on every turn.
#[derive(Debug)]
pub struct Ticker {
    timer: TcpStream,
}

impl Ticker {
    /// Ticks after each `period`.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(period: Duration) -> io::Result<Self> {
        sys::timer(period).and_then(into_monoio).map(|timer| Self { timer })
    }

    /// A clock that stands still until it is started; made while there are descriptors for it.
    ///
    /// # Errors
    /// What the system says.
    pub fn stopped() -> io::Result<Self> {
        Self::new(Duration::ZERO)
    }

    /// Ticks after each `period` from now on.
    pub fn start(&self, period: Duration) {
        use std::os::fd::AsRawFd;
        // The descriptor is a timer of ours and the period a valid one: this cannot fail.
        let _ = sys::arm(self.timer.as_raw_fd(), period);
    }

    /// Waits for a tick that is still to come.
    pub async fn pause(&self) {
        use std::os::fd::AsRawFd;
        sys::drain(self.timer.as_raw_fd());
        self.tick().await;
    }

    /// Waits for the next tick; ticks that were missed count as one.
    pub async fn tick(&self) {
        use std::os::fd::AsRawFd;
        let _ = self.timer.readable(false).await;
        sys::drain(self.timer.as_raw_fd());
    }
}
