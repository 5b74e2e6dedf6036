//! One address of a cluster as one shard sees it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::http2::Lines;
use super::pool::Pool;
use crate::base::clock::Moment;
use crate::base::limits::COMPLAINTS_EVERY;
use crate::base::limits::{ADDRESS_REST, ADDRESSES_MAX};
use crate::config::{model, tls};
use crate::health::Verdict;
use crate::health::outlier::Count;
use crate::net::connect::Peer;
use crate::net::tls::trust::{self, ServerName};

/// What an operator says of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// It serves.
    #[default]
    Ready,
    /// It finishes what it has, and keeps the clients that stick to it.
    Drain,
    /// It gets nothing any more.
    Down,
}

/// Where it is, what is thought of it, and its idle connections.
#[derive(Debug)]
pub struct Endpoint {
    /// For Host, under the policy `endpoint`.
    pub authority: Box<str>,
    /// Whom its certificate must be for.
    pub name: Option<ServerName<'static>>,
    pub pool: Pool,
    /// Connections that several requests share.
    pub lines: Lines,
    peers: RefCell<Rc<[Peer]>>,
    /// Which of several addresses comes first.
    first: Cell<usize>,
    /// Until when each of them is tried last.
    resting: RefCell<Vec<Moment>>,
    /// What checks say.
    pub verdict: Cell<Verdict>,
    /// What an operator says.
    pub duty: Cell<Duty>,
    /// Requests and failures that were not yet added to what all shards have counted.
    requests: Cell<u32>,
    failures: Cell<u32>,
    /// Whether its cluster would send requests there, by the checks.
    is_trusted: Cell<bool>,
    /// Trusted, and with an address: all that a choice looks at.
    is_ready: Cell<bool>,
    generation: Cell<u32>,
    /// When an operator was last told what is wrong with it.
    told: Cell<Moment>,
}

impl Endpoint {
    /// An endpoint; a name has no addresses yet.
    #[must_use]
    pub fn new(model: &model::Endpoint, tls: Option<&tls::Client>) -> Self {
        let endpoint = Self {
            authority: model.address.authority(tls.is_some()).into_boxed_str(),
            name: tls.and_then(|tls| trust::name_of(tls, &model.address)),
            pool: Pool::default(),
            lines: Lines::default(),
            peers: RefCell::new(Peer::of(&model.address).into_iter().collect()),
            first: Cell::new(0),
            resting: RefCell::default(),
            verdict: Cell::default(),
            duty: Cell::default(),
            requests: Cell::default(),
            failures: Cell::default(),
            is_trusted: Cell::new(true),
            is_ready: Cell::new(false),
            generation: Cell::new(0),
            told: Cell::default(),
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

    /// Whether requests that could go elsewhere may go there, as far as an operator is concerned.
    #[must_use]
    pub fn takes_new(&self) -> bool {
        self.duty.get() == Duty::Ready
    }

    /// Whether clients that stick to it may go there.
    #[must_use]
    pub fn serves_old(&self) -> bool {
        let is_on_duty = self.duty.get() != Duty::Down;
        is_on_duty && self.verdict.get() != Verdict::Down && self.is_reachable()
    }

    /// Counts a request.
    #[inline]
    pub fn count(&self, is_failure: bool) {
        self.requests.set(self.requests.get().wrapping_add(1));
        if is_failure {
            self.failures.set(self.failures.get().wrapping_add(1));
        }
    }

    /// What was counted since the last time, if anything was.
    pub fn take_count(&self) -> Option<Count> {
        let count = Count { requests: self.requests.take(), failures: self.failures.take() };
        (count.requests > 0).then_some(count)
    }

    /// What its name resolves to now.
    pub fn resolved(&self, addresses: &[SocketAddr]) {
        let peers = addresses.iter().take(ADDRESSES_MAX).map(|address| Peer::Socket(*address));
        self.peers.replace(peers.collect());
        self.trust(self.is_trusted.get());
        self.first.set(0);
        self.resting.take();
        self.part();
    }

    /// Uses none of its connections again: those under way end when their requests have.
    pub fn part(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.pool.clear();
        self.lines.clear();
    }

    /// Its addresses.
    #[must_use]
    pub fn peers(&self) -> Rc<[Peer]> {
        Rc::clone(&self.peers.borrow())
    }

    /// The order in which they are tried: in turn, those that did not answer lately last.
    #[must_use]
    pub fn order(&self, now: Moment) -> Vec<usize> {
        let (count, first) = (self.peers.borrow().len(), self.first.get());
        let mut order: Vec<usize> = (0..count).map(|at| (first + at) % count).collect();
        let resting = self.resting.borrow();
        let until = |at: usize| resting.get(at).copied().filter(|until| *until > now);
        order.sort_by_key(|at| until(*at));
        order
    }

    /// One of its addresses did not answer.
    pub fn pass_over(&self, at: usize, now: Moment) {
        let mut resting = self.resting.borrow_mut();
        let count = self.peers.borrow().len();
        if at < count {
            resting.resize(count, Moment::default());
            resting[at] = now.after(ADDRESS_REST);
        }
    }

    /// One of its addresses did.
    pub fn reached(&self, at: usize) {
        if let Some(until) = self.resting.borrow_mut().get_mut(at) {
            *until = Moment::default();
        }
    }

    /// Counts how often its addresses changed, or whom we believe to be it.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// Whether an operator may be told what is wrong: now and then is enough.
    pub fn may_complain(&self, now: Moment) -> bool {
        let may =
            self.told.get() == Moment::default() || now.since(self.told.get()) >= COMPLAINTS_EVERY;
        if may {
            self.told.set(now);
        }
        may
    }

    /// The next dial begins with this address.
    pub fn begin_at(&self, first: usize) {
        self.first.set(first);
    }
}
