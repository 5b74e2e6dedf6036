//! Wakes another thread's loop: an eventfd. Many rings cost one write, as long as nobody has woken.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use monoio::net::TcpStream;

use super::socket::into_monoio;
use super::sys;

/// A bell; its clones ring at the same ear.
#[derive(Clone, Debug)]
pub struct Notifier {
    fd: Arc<OwnedFd>,
    is_rung: Arc<AtomicBool>,
}

/// Who hears a bell, on its own thread.
#[derive(Debug)]
pub struct Notified {
    ready: TcpStream,
    is_rung: Arc<AtomicBool>,
}

impl Notifier {
    /// A silent one.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: Arc::new(sys::eventfd()?), is_rung: Arc::default() })
    }

    /// Rings, unless it still does.
    pub fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            sys::ring(self.fd.as_raw_fd());
        }
    }

    /// Whether it rang since the last time, for those who look now and then instead of listening.
    #[must_use]
    pub fn take(&self) -> bool {
        self.is_rung.swap(false, Ordering::AcqRel)
    }

    /// Listens, on this thread.
    ///
    /// # Errors
    /// What the driver says.
    pub fn listen(&self) -> io::Result<Notified> {
        let ready = into_monoio(self.fd.try_clone()?)?;
        Ok(Notified { ready, is_rung: Arc::clone(&self.is_rung) })
    }
}

impl Notified {
    /// Waits until it rings. What was done before the ring is seen after it.
    pub async fn wait(&self) {
        let _ = self.ready.readable(false).await;
        sys::silence(self.ready.as_raw_fd());
        // Only now may it ring again; what was sent before is found by the next look.
        self.is_rung.store(false, Ordering::Release);
    }
}
