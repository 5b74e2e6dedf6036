//! The only way between threads: a bounded queue and a notifier that wakes the other side's ring.

use std::io;

use super::notifier::{Notified, Notifier};
use crate::base::limits::MAILBOX;

/// Sends to one worker.
#[derive(Debug)]
pub struct Sender<T> {
    queue: crossbeam_channel::Sender<T>,
    notifier: Notifier,
}

/// A worker's mailbox before it is on its worker.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: crossbeam_channel::Receiver<T>,
    notifier: Notifier,
}

/// A worker's mailbox on its worker.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: crossbeam_channel::Receiver<T>,
    notified: Notified,
}

/// Both ends.
///
/// # Errors
/// What the system says.
pub fn channel<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    channel_of(MAILBOX)
}

/// Both ends, for so many messages.
///
/// # Errors
/// What the system says.
pub fn channel_of<T>(most: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = crossbeam_channel::bounded(most);
    let notifier = Notifier::new()?;
    Ok((
        Sender { queue: sender, notifier: notifier.clone() },
        Receiver { queue: receiver, notifier },
    ))
}

impl<T> Sender<T> {
    /// Sends; hands the message back if the mailbox is full or its worker is gone.
    ///
    /// # Errors
    /// The message.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.queue.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner)?;
        self.notifier.notify();
        Ok(())
    }

    /// Wakes the other side without a message.
    pub fn notify(&self) {
        self.notifier.notify();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), notifier: self.notifier.clone() }
    }
}

impl<T> Receiver<T> {
    /// Opens the mailbox on its worker.
    ///
    /// # Errors
    /// What the driver says.
    pub fn open(self) -> io::Result<Mailbox<T>> {
        Ok(Mailbox { notified: self.notifier.listen()?, queue: self.queue })
    }
}

impl<T> Mailbox<T> {
    /// A message that is there.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// Waits until another thread wakes this one, with a message or without.
    pub async fn wait(&self) {
        self.notified.wait().await;
    }

    /// The next message; waits for one.
    pub async fn next(&self) -> T {
        loop {
            if let Ok(message) = self.queue.try_recv() {
                return message;
            }
            self.notified.wait().await;
        }
    }
}
