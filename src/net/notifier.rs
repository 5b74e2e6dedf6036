//! Wakes another thread's loop: an eventfd. Many notifications cost one write, as long as the loop has not woken.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use monoio::net::TcpStream;

use super::socket::into_monoio;
use super::sys;

/// Wakes one thread; its clones wake the same one.
#[derive(Clone, Debug)]
pub struct Notifier {
    fd: Arc<OwnedFd>,
    is_notified: Arc<AtomicBool>,
}

/// The receiving side of a notifier, on its own thread.
#[derive(Debug)]
pub struct Notified {
    ready: TcpStream,
    is_notified: Arc<AtomicBool>,
}

impl Notifier {
    /// One that was not notified yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: Arc::new(sys::eventfd()?), is_notified: Arc::default() })
    }

    /// Wakes, unless it did and was not heard yet.
    pub fn notify(&self) {
        if !self.is_notified.swap(true, Ordering::AcqRel) {
            sys::notify(self.fd.as_raw_fd());
        }
    }

    /// Whether it was notified since the last time, for a thread that looks now and then instead of listening.
    #[must_use]
    pub fn take(&self) -> bool {
        self.is_notified.swap(false, Ordering::AcqRel)
    }

    /// Listens, on this thread.
    ///
    /// # Errors
    /// What the driver says.
    pub fn listen(&self) -> io::Result<Notified> {
        let ready = into_monoio(self.fd.try_clone()?)?;
        Ok(Notified { ready, is_notified: Arc::clone(&self.is_notified) })
    }
}

impl Notified {
    /// Waits until it is notified. What was done before that is seen after it.
    pub async fn wait(&self) {
        let _ = self.ready.readable(false).await;
        sys::drain(self.ready.as_raw_fd());
        // Only now may it be notified again; what was sent before is found by the next look.
        self.is_notified.store(false, Ordering::Release);
    }
}
