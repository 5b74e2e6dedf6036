//! Waiting for an endpoint to have room.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::ask::{Ask, Begun};
use super::cluster::Cluster;
use super::pending_queue::{Waiter, WaiterState};
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::config::resilience::Priority;

/// A place in the queue; leaving it is dropping it.
struct QueuePlace<'a> {
    cluster: &'a Cluster,
    waiter: Rc<Waiter>,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        match self.waiter.state.replace(WaiterState::Refused(Kind::ClientGone)) {
            WaiterState::Waiting => {
                let pending = &self.cluster.pending;
                pending.queue.borrow_mut().leave(|one| Rc::ptr_eq(one, &self.waiter));
                pending.count();
            }
            // The request was given room and is gone: the next request gets the room.
            WaiterState::Granted(begun) => self.cluster.leave(begun.id),
            WaiterState::Refused(_) => {}
        }
    }
}

impl Cluster {
    /// Waits for room at an endpoint.
    ///
    /// # Errors
    /// `QueueFull`, `QueueTimeout`, or whatever makes waiting useless.
    pub(super) async fn wait(&self, ask: Ask, priority: Priority, now: Moment) -> Result<Begun> {
        let place = QueuePlace { cluster: self, waiter: self.pending.enter(ask, priority, now)? };
        // Room may have come free on another core between the look and the entry.
        self.grant();
        poll_fn(|context| {
            let state = &place.waiter.state;
            match state.get() {
                WaiterState::Waiting => {
                    place.waiter.waker.replace(Some(context.waker().clone()));
                    Poll::Pending
                }
                WaiterState::Granted(begun) => {
                    state.set(WaiterState::Refused(Kind::ClientGone));
                    Poll::Ready(Ok(begun))
                }
                WaiterState::Refused(kind) => Poll::Ready(Err(kind)),
            }
        })
        .await
    }

    /// Lets as many requests of this shard in as there is room for.
    pub fn grant(&self) {
        while self.pending.is_busy() {
            let next = self.pending.queue.borrow_mut().next(self.now(), |waiter| {
                match self.try_begin(&waiter.ask) {
                    Ok(Some(begun)) => Some(WaiterState::Granted(begun)),
                    Ok(None) => None,
                    Err(kind) => Some(WaiterState::Refused(kind)),
                }
            });
            let Some((waiter, state)) = next else { return };
            self.pending.count();
            waiter.tell(state);
        }
    }

    /// There is room now: whose turn is it?
    pub(super) fn made_room(&self) {
        if self.adaptive.is_some() {
            // That limit is this shard's own.
            self.grant();
        }
        match self.pending.turns.next() {
            Some(shard) if shard == usize::from(self.pending.shard.0) => self.grant(),
            Some(shard) => self.pending.turns.notifiers[shard].notify(),
            None => {}
        }
    }
}
