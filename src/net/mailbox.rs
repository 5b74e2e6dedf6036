//! The only door between threads: a bounded queue and a bell that wakes the other side's ring.

use std::io;

use super::notifier::{Notified, Notifier};
use crate::base::limits::MAILBOX;

/// Sends to one worker.
#[derive(Debug)]
pub struct Sender<T> {
    queue: crossbeam_channel::Sender<T>,
    bell: Notifier,
}

/// A worker's mailbox before it is on its worker.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: crossbeam_channel::Receiver<T>,
    bell: Notifier,
}

/// A worker's mailbox on its worker.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: crossbeam_channel::Receiver<T>,
    ear: Notified,
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
    let bell = Notifier::new()?;
    Ok((Sender { queue: sender, bell: bell.clone() }, Receiver { queue: receiver, bell }))
}

impl<T> Sender<T> {
    /// Sends; hands the message back if the mailbox is full or its worker is gone.
    ///
    /// # Errors
    /// The message.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.queue.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner)?;
        self.bell.ring();
        Ok(())
    }

    /// Wakes the other side without a message.
    pub fn ring(&self) {
        self.bell.ring();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Receiver<T> {
    /// Opens the mailbox on its worker.
    ///
    /// # Errors
    /// What the driver says.
    pub fn open(self) -> io::Result<Mailbox<T>> {
        Ok(Mailbox { ear: self.bell.listen()?, queue: self.queue })
    }
}

impl<T> Mailbox<T> {
    /// A message that is there.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// Waits until somebody rings, with a message or without.
    pub async fn wait(&self) {
        self.ear.wait().await;
    }

    /// The next message; waits for one.
    pub async fn next(&self) -> T {
        loop {
            if let Ok(message) = self.queue.try_recv() {
                return message;
            }
            self.ear.wait().await;
        }
    }
}
