//! What is known of a shared connection, and the count of the requests that it carries.

use std::cell::Cell;
use std::rc::Rc;

use super::io_adapter::ConnectionState;

/// What is known of it.
pub(super) struct LeaseState {
    pub(super) is_over: Cell<bool>,
    pub(super) streams: Cell<usize>,
    pub(super) most: usize,
    pub(super) is_secure: bool,
    pub(super) watched: Rc<ConnectionState>,
}

/// A request that a connection carries, until it is dropped.
pub struct Lease {
    pub(super) state: Rc<LeaseState>,
    /// What had been read when it began.
    pub(super) reads: u64,
}

impl Lease {
    /// Nothing came for it. If nothing came for any other stream either, the connection is dead.
    pub(super) fn distrust(&self) {
        if self.state.watched.reads.get() == self.reads {
            self.state.is_over.set(true);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.streams.set(self.state.streams.get() - 1);
        self.state.watched.wake();
    }
}
