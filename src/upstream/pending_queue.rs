//! Where requests wait for an endpoint to have room. Each shard has its own queue; which one gets the
//! next room is agreed on in a line that all shards share, and the other shard is woken by its notifier.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Waker;

use super::ask::{Ask, Begun};
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::ShardId;
use crate::config::resilience::{self, Priority};
use crate::limit::queue::Queue;
use crate::net::notifier::Notifier;

/// What the shards share of a cluster's queues.
#[derive(Debug)]
pub struct Turns {
    /// How many wait, by shard.
    waiting: Box<[AtomicU32]>,
    turn: AtomicU32,
    pub(super) notifiers: Arc<[Notifier]>,
}

impl Turns {
    /// An empty queue. One notifier for each shard.
    #[must_use]
    pub fn new(notifiers: Arc<[Notifier]>) -> Self {
        let waiting = notifiers.iter().map(|_| AtomicU32::new(0)).collect();
        Self { waiting, turn: AtomicU32::new(0), notifiers }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.waiting.len()
    }

    /// How many wait in all.
    fn all(&self) -> u32 {
        self.waiting.iter().map(|one| one.load(Relaxed)).sum()
    }

    /// The shard whose turn it is; they take turns, as long as a request waits there.
    pub(super) fn next(&self) -> Option<usize> {
        if self.all() == 0 {
            return None;
        }
        let shards = self.waiting.len();
        let first = self.turn.fetch_add(1, Relaxed) as usize;
        let mut all = (0..shards).map(|at| (first + at) % shards);
        all.find(|at| self.waiting[*at].load(Relaxed) > 0)
    }
}

/// One shard's queue of a cluster.
#[derive(Debug)]
pub struct PendingQueue {
    pub(super) shard: ShardId,
    pub(super) turns: Arc<Turns>,
    max: usize,
    pub(super) queue: RefCell<Queue<Rc<Waiter>>>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ask: Ask,
    pub(super) state: Cell<WaiterState>,
    pub(super) waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum WaiterState {
    Waiting,
    /// There is room, which is counted as taken already.
    Granted(Begun),
    Refused(Kind),
}

impl Waiter {
    pub(super) fn tell(&self, state: WaiterState) {
        self.state.set(state);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl PendingQueue {
    /// An empty one.
    #[must_use]
    pub fn new(shard: ShardId, turns: Arc<Turns>, policy: resilience::Queue) -> Self {
        Self { shard, turns, max: policy.max, queue: RefCell::new(Queue::new(policy.timeout)) }
    }

    /// A request waits on this shard.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    pub(super) fn count(&self) {
        let len = u32::try_from(self.queue.borrow().len()).unwrap_or(u32::MAX);
        self.turns.waiting[usize::from(self.shard.0)].store(len, Relaxed);
    }

    pub(super) fn enter(&self, ask: Ask, priority: Priority, now: Moment) -> Result<Rc<Waiter>> {
        if self.turns.all() as usize >= self.max {
            let evicted = self.queue.borrow_mut().evict(priority).ok_or(Kind::QueueFull)?;
            evicted.tell(WaiterState::Refused(Kind::QueueFull));
        }
        let waiter = Rc::new(Waiter {
            ask,
            state: Cell::new(WaiterState::Waiting),
            waker: RefCell::default(),
        });
        self.queue.borrow_mut().push(priority, now, Rc::clone(&waiter));
        self.count();
        Ok(waiter)
    }

    /// A request that has waited for too long is refused.
    pub fn expire(&self, now: Moment) {
        if self.is_busy() {
            let late = self.queue.borrow_mut().expire(now);
            self.count();
            late.iter().for_each(|waiter| waiter.tell(WaiterState::Refused(Kind::QueueTimeout)));
        }
    }
}
