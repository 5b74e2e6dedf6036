//! One address of a cluster as one shard sees it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::pool::Pool;
use crate::base::clock::Moment;
use crate::base::limits::{ADDRESSES_MAX, ENDPOINT_REST};
use crate::config::model;
use crate::health::Verdict;
use crate::net::connect::Peer;

/// Where it is, whether it rests, and its idle connections.
#[derive(Debug)]
pub struct Endpoint {
    /// For Host, under the policy `endpoint`.
    pub authority: Box<str>,
    pub pool: Pool,
    peers: RefCell<Rc<[Peer]>>,
    /// Which of several addresses comes first.
    first: Cell<usize>,
    resting_until: Cell<Moment>,
    /// What checks say.
    pub verdict: Cell<Verdict>,
    /// Whether its cluster would send requests there, by the checks.
    is_trusted: Cell<bool>,
    /// Trusted, and with an address: all that a choice looks at.
    is_ready: Cell<bool>,
    generation: Cell<u32>,
}

impl Endpoint {
    /// An endpoint; a name has no addresses yet.
    #[must_use]
    pub fn new(model: &model::Endpoint) -> Self {
        let endpoint = Self {
            authority: model.address.authority().into_boxed_str(),
            pool: Pool::default(),
            peers: RefCell::new(Peer::of(&model.address).into_iter().collect()),
            first: Cell::new(0),
            resting_until: Cell::new(Moment(0)),
            verdict: Cell::default(),
            is_trusted: Cell::new(true),
            is_ready: Cell::new(false),
            generation: Cell::new(0),
        };
        endpoint.trust(true);
        endpoint
    }

    /// Its cluster would send requests there, or not, by the checks.
    pub fn trust(&self, is_trusted: bool) {
        self.is_trusted.set(is_trusted);
        self.is_ready.set(is_trusted && self.is_reachable());
    }

    /// Checks have nothing against it and there is an address to connect to.
    #[must_use]
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.is_ready.get()
    }

    /// There is an address to connect to.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        !self.peers.borrow().is_empty()
    }

    /// It refused a connection a moment ago.
    #[must_use]
    pub fn is_resting(&self, now: Moment) -> bool {
        self.resting_until.get() > now
    }

    /// It could not be connected to: others come first for a while.
    pub fn rest(&self, now: Moment) {
        self.resting_until.set(now.after(ENDPOINT_REST));
    }

    /// It took a connection.
    pub fn wake(&self) {
        self.resting_until.set(Moment(0));
    }

    /// What its name resolves to now.
    pub fn resolved(&self, addresses: &[SocketAddr]) {
        let peers = addresses.iter().take(ADDRESSES_MAX).map(|address| Peer::Socket(*address));
        self.peers.replace(peers.collect());
        self.trust(self.is_trusted.get());
        self.first.set(0);
        self.generation.set(self.generation.get().wrapping_add(1));
        self.pool.clear();
    }

    /// Its addresses, and the one to begin with.
    #[must_use]
    pub fn peers(&self) -> (Rc<[Peer]>, usize) {
        (Rc::clone(&self.peers.borrow()), self.first.get())
    }

    /// Counts how often its addresses changed.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// The next dial begins with this address.
    pub fn begin_at(&self, first: usize) {
        self.first.set(first);
    }
}
