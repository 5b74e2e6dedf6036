//! One endpoint of a cluster as one shard sees it: an address, or the place of one of a name's addresses.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::http2::H2Pool;
use super::pool::Pool;
use crate::base::clock::Moment;
use crate::base::limits::COMPLAINTS_EVERY;
use crate::config::{model, tls};
use crate::health::CheckVerdict;
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

impl Duty {
    /// As it is written in paths and told by `/status`.
    pub const WORDS: [(&'static str, Self); 3] =
        [("ready", Self::Ready), ("drain", Self::Drain), ("down", Self::Down)];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }

    /// The duty that a word stands for.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(one, _)| *one == word).map(|(_, duty)| *duty)
    }
}

/// Where it is, what is thought of it, and its idle connections.
#[derive(Debug)]
pub struct Endpoint {
    /// For Host, under the policy `endpoint`.
    pub authority: Box<str>,
    /// The name that its certificate must be for.
    pub name: Option<ServerName<'static>>,
    pub pool: Pool,
    /// Connections that several requests share.
    pub shared: H2Pool,
    peer: RefCell<Option<Peer>>,
    /// What checks say.
    pub verdict: Cell<CheckVerdict>,
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
    /// An endpoint; a name has no address yet. `idle` counts the idle connections of its shard.
    #[must_use]
    pub fn new(
        model: &model::Endpoint,
        tls: Option<&tls::ClusterTls>,
        idle: &Rc<Cell<usize>>,
    ) -> Self {
        let endpoint = Self {
            authority: model.address.authority(tls.is_some()).into_boxed_str(),
            name: tls.and_then(|tls| trust::name_of(tls, &model.address)),
            pool: Pool::new(idle),
            shared: H2Pool::default(),
            peer: RefCell::new(Peer::of(&model.address)),
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
        self.peer.borrow().is_some()
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
        is_on_duty && self.verdict.get() != CheckVerdict::Down && self.is_reachable()
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

    /// Another address of its name stands here now, or none.
    pub fn placed(&self, address: Option<SocketAddr>) {
        self.peer.replace(address.map(Peer::Socket));
        self.verdict.set(CheckVerdict::Unknown);
        self.requests.set(0);
        self.failures.set(0);
        self.trust(self.is_trusted.get());
        self.part();
    }

    /// Uses none of its connections again: those under way end when their requests have.
    pub fn part(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.pool.clear();
        self.shared.clear();
    }

    /// Where to connect; `None` while its name has no address for this place.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.peer.borrow().clone()
    }

    /// Counts how often its address changed, or the certificates that we believe to be its own.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// Whether an operator may be told what is wrong: now and then is enough.
    pub fn take_complaint(&self, now: Moment) -> bool {
        let may =
            self.told.get() == Moment::default() || now.since(self.told.get()) >= COMPLAINTS_EVERY;
        if may {
            self.told.set(now);
        }
        may
    }
}
