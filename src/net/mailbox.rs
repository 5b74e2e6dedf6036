//! The only door between threads: a bounded queue and an eventfd that wakes the other side's
//! ring. Many sends cost one write, as long as the receiver has not woken.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use monoio::net::TcpStream;

use super::socket;
use super::stream::into_monoio;
use crate::base::limits::MAILBOX;

/// Sends to one worker.
#[derive(Debug)]
pub struct Sender<T> {
    queue: crossbeam_channel::Sender<T>,
    bell: Arc<OwnedFd>,
    is_rung: Arc<AtomicBool>,
}

/// A worker's mailbox before it is on its worker.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: crossbeam_channel::Receiver<T>,
    bell: Arc<OwnedFd>,
    is_rung: Arc<AtomicBool>,
}

/// A worker's mailbox on its worker.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: crossbeam_channel::Receiver<T>,
    ready: TcpStream,
    is_rung: Arc<AtomicBool>,
}

/// Both ends.
///
/// # Errors
/// What the system says.
pub fn channel<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = crossbeam_channel::bounded(MAILBOX);
    let bell = Arc::new(socket::eventfd()?);
    let is_rung = Arc::new(AtomicBool::new(false));
    let sender = Sender { queue: sender, bell: Arc::clone(&bell), is_rung: Arc::clone(&is_rung) };
    Ok((sender, Receiver { queue: receiver, bell, is_rung }))
}

impl<T> Sender<T> {
    /// Sends; hands the message back if the mailbox is full or its worker is gone.
    ///
    /// # Errors
    /// The message.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.queue.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner)?;
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            socket::ring(self.bell.as_raw_fd());
        }
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Opens the mailbox on its worker.
    ///
    /// # Errors
    /// What the driver says.
    pub fn open(self) -> io::Result<Mailbox<T>> {
        let bell = self.bell.try_clone()?;
        Ok(Mailbox { queue: self.queue, ready: into_monoio(bell)?, is_rung: self.is_rung })
    }
}

impl<T> Mailbox<T> {
    /// The next message; waits for one.
    pub async fn next(&self) -> T {
        loop {
            if let Ok(message) = self.queue.try_recv() {
                return message;
            }
            let _ = self.ready.readable(false).await;
            socket::silence(self.ready.as_raw_fd());
            // Only now may a sender ring again; what it sent before is found by the next look.
            self.is_rung.store(false, Ordering::Release);
        }
    }
}
