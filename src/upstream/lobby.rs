//! Where requests wait for an endpoint to have room. Each shard has its own queue; who gets the
//! next room is agreed on in a line that all shards share, and the other shard is woken by a bell.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Poll, Waker};

use super::Cluster;
use super::choose::{Ask, Begun};
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::ShardId;
use crate::config::resilience::{self, Priority};
use crate::limit::queue::Queue;
use crate::net::bell::Bell;

/// What the shards share of a cluster's queues.
#[derive(Debug)]
pub struct Turns {
    /// How many wait, by shard.
    waiting: Box<[AtomicU32]>,
    turn: AtomicU32,
    bells: Arc<[Bell]>,
}

impl Turns {
    /// Nobody waits. One bell for each shard.
    #[must_use]
    pub fn new(bells: Arc<[Bell]>) -> Self {
        let waiting = bells.iter().map(|_| AtomicU32::new(0)).collect();
        Self { waiting, turn: AtomicU32::new(0), bells }
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

    /// The shard whose turn it is; they take turns, as long as somebody waits there.
    fn next(&self) -> Option<usize> {
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
pub struct Lobby {
    shard: ShardId,
    turns: Arc<Turns>,
    max: usize,
    queue: RefCell<Queue<Rc<Waiter>>>,
}

/// Somebody who waits.
#[derive(Debug)]
struct Waiter {
    ask: Ask,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting,
    /// There is room, which is counted as taken already.
    Granted(Begun),
    Refused(Kind),
}

impl Waiter {
    fn tell(&self, state: State) {
        self.state.set(state);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Lobby {
    /// An empty one.
    #[must_use]
    pub fn new(shard: ShardId, turns: Arc<Turns>, policy: resilience::Queue) -> Self {
        Self { shard, turns, max: policy.max, queue: RefCell::new(Queue::new(policy.timeout)) }
    }

    /// Somebody waits on this shard.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    fn count(&self) {
        let len = u32::try_from(self.queue.borrow().len()).unwrap_or(u32::MAX);
        self.turns.waiting[usize::from(self.shard.0)].store(len, Relaxed);
    }

    fn enter(&self, ask: Ask, priority: Priority, now: Moment) -> Result<Rc<Waiter>> {
        if self.turns.all() as usize >= self.max {
            let evicted = self.queue.borrow_mut().evict(priority).ok_or(Kind::QueueFull)?;
            evicted.tell(State::Refused(Kind::QueueFull));
        }
        let waiter =
            Rc::new(Waiter { ask, state: Cell::new(State::Waiting), waker: RefCell::default() });
        self.queue.borrow_mut().push(priority, now, Rc::clone(&waiter));
        self.count();
        Ok(waiter)
    }

    /// Who has waited for too long is refused.
    pub fn expire(&self, now: Moment) {
        if self.is_busy() {
            let late = self.queue.borrow_mut().expire(now);
            self.count();
            late.iter().for_each(|waiter| waiter.tell(State::Refused(Kind::QueueTimeout)));
        }
    }
}

/// A place in the queue; leaving it is dropping it.
struct Place<'a> {
    cluster: &'a Cluster,
    waiter: Rc<Waiter>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        match self.waiter.state.replace(State::Refused(Kind::ClientGone)) {
            State::Waiting => {
                let lobby = &self.cluster.lobby;
                lobby.queue.borrow_mut().leave(|one| Rc::ptr_eq(one, &self.waiter));
                lobby.count();
            }
            // It was given room and is gone: the room is somebody else's.
            State::Granted(begun) => self.cluster.leave(begun.id),
            State::Refused(_) => {}
        }
    }
}

impl Cluster {
    /// Waits for room at an endpoint.
    ///
    /// # Errors
    /// `QueueFull`, `QueueTimeout`, or whatever makes waiting useless.
    pub(super) async fn wait(&self, ask: Ask, priority: Priority, now: Moment) -> Result<Begun> {
        let place = Place { cluster: self, waiter: self.lobby.enter(ask, priority, now)? };
        // Room may have come free on another core between the look and the entry.
        self.grant();
        poll_fn(|context| {
            let state = &place.waiter.state;
            match state.get() {
                State::Waiting => {
                    place.waiter.waker.replace(Some(context.waker().clone()));
                    Poll::Pending
                }
                State::Granted(begun) => {
                    state.set(State::Refused(Kind::ClientGone));
                    Poll::Ready(Ok(begun))
                }
                State::Refused(kind) => Poll::Ready(Err(kind)),
            }
        })
        .await
    }

    /// Lets those in for whom there is room, on this shard.
    pub fn grant(&self) {
        while self.lobby.is_busy() {
            let next = self.lobby.queue.borrow_mut().next(self.now(), |waiter| {
                match self.try_begin(&waiter.ask) {
                    Ok(Some(begun)) => Some(State::Granted(begun)),
                    Ok(None) => None,
                    Err(kind) => Some(State::Refused(kind)),
                }
            });
            let Some((waiter, state)) = next else { return };
            self.lobby.count();
            waiter.tell(state);
        }
    }

    /// There is room now: whose turn is it?
    pub(super) fn made_room(&self) {
        if self.adaptive.is_some() {
            // That limit is this shard's own.
            self.grant();
        }
        match self.lobby.turns.next() {
            Some(shard) if shard == usize::from(self.lobby.shard.0) => self.grant(),
            Some(shard) => self.lobby.turns.bells[shard].ring(),
            None => {}
        }
    }
}
