//! Idle connections of one endpoint on one shard: last in, first out, so that the others can age
//! and go. Only proof puts one in; a look into the socket decides whether it comes out.

use std::cell::RefCell;
use std::net::SocketAddr;

use super::http1::Connection;
use crate::base::clock::Moment;
use crate::config::model;
use crate::net::socket::Peek;
use crate::wire::http1::reuse::Proof;

/// Idle connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Moment,
}

impl Pool {
    /// A connection for this client identity (`None` but for clusters that are told the client's
    /// address by PROXY protocol) that is open and quiet.
    #[must_use]
    pub fn take(
        &self,
        identity: Option<SocketAddr>,
        now: Moment,
        bounds: &model::Pool,
    ) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let at = idle.iter().rposition(|one| one.connection.identity == identity)?;
            let one = idle.remove(at);
            let is_young =
                now.since(one.since) < bounds.idle && now.since(one.connection.born) < bounds.age;
            // A byte that nobody asked for, or an end: never to be used again (RELIABILITY D06).
            if is_young && one.connection.stream.peek() == Peek::Quiet {
                return Some(one.connection);
            }
        }
    }

    /// Keeps a connection, if the proof holds and there is room; closes it otherwise.
    pub fn keep(
        &self,
        mut connection: Box<Connection>,
        proof: Proof,
        now: Moment,
        bounds: &model::Pool,
    ) {
        let mut idle = self.idle.borrow_mut();
        let is_young = now.since(connection.born) < bounds.age;
        if proof.holds() && is_young && idle.len() < bounds.size {
            debug_assert!(connection.inbound.is_empty(), "the proof says so");
            connection.inbound.read_for(None);
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes everything.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes what is too old, or was closed or stirred by the endpoint.
    pub fn prune(&self, now: Moment, bounds: &model::Pool) {
        self.idle.borrow_mut().retain(|one| {
            now.since(one.since) < bounds.idle
                && now.since(one.connection.born) < bounds.age
                && one.connection.stream.peek() == Peek::Quiet
        });
    }
}
