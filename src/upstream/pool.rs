//! Idle connections of one endpoint on one shard: last in, first out, so that the others can age
//! and go. Only proof puts one in; a look into the socket decides whether it comes out. An endpoint keeps as
//! many as were in use at once lately, as long as the shard has fewer than the cluster's bound.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::base::clock::Moment;
use crate::config::model;
use crate::message::reuse::Proof;
use crate::net::sys::Peek;
use crate::protocol::http1::line::Line as Http1Line;
use crate::protocol::line::Line;

/// Idle connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// How many there are in the whole shard.
    all: Rc<Cell<usize>>,
    demand: Demand,
}

#[derive(Debug)]
struct Idle {
    line: Box<Http1Line>,
    since: Moment,
}

/// How many requests were under way at once, in this window of time and the one before.
#[derive(Debug, Default)]
struct Demand {
    now: Cell<u32>,
    most: Cell<u32>,
    before: Cell<u32>,
    begun: Cell<Moment>,
}

impl Pool {
    /// One of a shard's pools, which share the count of what they have.
    #[must_use]
    pub fn new(all: &Rc<Cell<usize>>) -> Self {
        Self { all: Rc::clone(all), ..Self::default() }
    }

    /// A request is sent to the endpoint.
    #[inline]
    pub fn request_begins(&self) {
        let now = self.demand.now.get() + 1;
        self.demand.now.set(now);
        if now > self.demand.most.get() {
            self.demand.most.set(now);
        }
    }

    /// It is over.
    #[inline]
    pub fn request_ends(&self) {
        self.demand.now.set(self.demand.now.get().saturating_sub(1));
    }

    /// A connection for this client identity (`None` but for clusters that are told the client's
    /// address by PROXY protocol) that is open and quiet.
    #[must_use]
    pub fn take(
        &self,
        identity: Option<SocketAddr>,
        now: Moment,
        bounds: &model::Pool,
    ) -> Option<Box<Http1Line>> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let at = idle.iter().rposition(|one| one.line.connection().identity == identity)?;
            let one = idle.remove(at);
            self.all.set(self.all.get() - 1);
            let is_young = now.since(one.since) < bounds.idle
                && now.since(one.line.connection().born) < bounds.age;
            // A byte that no request asked for, or an end: never to be used again (exam D06).
            if is_young && one.line.connection().transport.peek() == Peek::Quiet {
                return Some(one.line);
            }
        }
    }

    /// Keeps the connection of a line, if the proof holds and there is room; closes it otherwise.
    pub fn keep(&self, line: Line, proof: Proof, now: Moment, bounds: &model::Pool) {
        let Line::Http1(mut line) = line else { return };
        if !line.is_idle() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let is_young = now.since(line.connection().born) < bounds.age;
        let is_wanted = idle.len() < self.demand.wanted() && self.all.get() < bounds.size;
        if proof.holds() && is_young && is_wanted {
            idle.push(Idle { line, since: now });
            self.all.set(self.all.get() + 1);
        }
    }

    /// Closes everything.
    pub fn clear(&self) {
        self.retain(|_| false);
    }

    /// Closes what is too old, or was closed or stirred by the endpoint, and what is more than was wanted
    /// lately: those that have idled longest. Called once a second.
    pub fn prune(&self, now: Moment, bounds: &model::Pool) {
        if now.since(self.demand.begun.get()) >= bounds.idle {
            self.demand.turn(now);
        }
        self.retain(|one| {
            now.since(one.since) < bounds.idle
                && now.since(one.line.connection().born) < bounds.age
                && one.line.connection().transport.peek() == Peek::Quiet
        });
        let mut spare = self.idle.borrow().len().saturating_sub(self.demand.wanted());
        self.retain(|_| {
            let is_spare = spare > 0;
            spare -= usize::from(is_spare);
            !is_spare
        });
    }

    fn retain(&self, stays: impl FnMut(&Idle) -> bool) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        let mut stays = stays;
        idle.retain(|one| stays(one));
        self.all.set(self.all.get() - (before - idle.len()));
    }
}

impl Demand {
    fn wanted(&self) -> usize {
        // A connection is given back before its request is over, and one is always of use.
        self.most.get().max(self.before.get()).max(1) as usize
    }

    fn turn(&self, now: Moment) {
        self.before.set(self.most.replace(self.now.get()));
        self.begun.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_use_at_once_is_wanted_for_a_window_and_no_longer() {
        let pool = Pool::default();
        assert_eq!(pool.demand.wanted(), 1);
        (0..5).for_each(|_| pool.request_begins());
        (0..5).for_each(|_| pool.request_ends());
        pool.request_begins();
        assert_eq!(pool.demand.wanted(), 5);
        pool.demand.turn(Moment(1));
        assert_eq!(pool.demand.wanted(), 5);
        pool.demand.turn(Moment(2));
        assert_eq!(pool.demand.wanted(), 1);
    }
}
