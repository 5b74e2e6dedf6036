//! One exchange: everything that is known of a request and its answer, in one place. Each step is a function of
//! its own file that takes it and returns what comes of the step.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::tls_peer::TlsPeer;
use super::upload::ClientBody;
use crate::base::clock::Moment;
use crate::base::error::{Detail, Kind, Result};
use crate::base::id::ListenerId;
use crate::cache::status::Status;
use crate::config::model::{Route, Timeouts};
use crate::filter::Chain;
use crate::message::hop::Client;
use crate::message::introduce::{self, Added};
use crate::message::name::Name;
use crate::observe::record::Record;
use crate::protocol::reply::{Reply, To};
use crate::shard::{Heads, Shard};

/// What is known of a client's connection, for all of its requests.
pub struct ClientFacts {
    pub listener: ListenerId,
    pub client: Client,
    /// What its TLS handshake said.
    pub tls: Option<Box<TlsPeer>>,
}

/// How far the two directions of an exchange have come. Cells: they move at once, and the task that serves the
/// connection looks on.
#[derive(Debug, Default)]
pub struct Traffic {
    /// All of the request has come, passed on or not.
    pub has_come: Cell<bool>,
    /// The whole request body was read, and passed on.
    pub is_written: Cell<bool>,
    /// The final head of an upstream's answer has come.
    pub is_answered: Cell<bool>,
    /// The connection became a tunnel.
    pub is_tunnel: Cell<bool>,
    /// Octets of the request's body.
    pub received: Cell<u64>,
    /// What exactly went wrong, if that is known.
    pub detail: Cell<Option<Detail>>,
}

/// A request on its way, and its answer.
pub struct Exchange<'a> {
    pub shard: &'a Rc<Shard>,
    pub client: &'a ClientFacts,
    /// The heads of request and answer, and the request's key in the cache.
    pub work: &'a mut Heads,
    /// The request's body; lent to the upload while there is one.
    pub body: &'a Home<ClientBody<'a>>,
    pub traffic: &'a Traffic,
    pub reply: Reply<'a>,
    pub record: Record,
    /// The route, once it is found: its rules hold for every answer from then on.
    pub route: Option<&'a Route>,
    /// What the route decides.
    pub filters: Option<&'a Chain>,
    /// Those of a call that brings its own along.
    pub own_timeouts: Option<Box<Timeouts>>,
    /// What the cache did, where it was asked.
    pub cache: Option<Status>,
    /// Nothing but this exchange speaks against keeping the client's connection.
    pub may_keep: bool,
    /// The client was told that its connection stays.
    pub keeps: bool,
    /// The request was rewritten into what the upstream gets.
    pub is_prepared: bool,
    /// What the client may not say of itself was taken out.
    pub is_admitted: bool,
}

impl Traffic {
    /// Of a request of which all has come, or not.
    #[must_use]
    pub fn new(has_come: bool) -> Self {
        let has_come = Cell::new(has_come);
        Self { is_written: has_come.clone(), has_come, ..Self::default() }
    }
}

/// What an exchange is opened with.
pub struct Parts<'a> {
    pub shard: &'a Rc<Shard>,
    pub client: &'a ClientFacts,
    pub work: &'a mut Heads,
    pub body: &'a Home<ClientBody<'a>>,
    pub traffic: &'a Traffic,
    pub to: To<'a>,
    /// Nothing but this exchange will speak against keeping the client's connection.
    pub may_keep: bool,
}

impl<'a> Exchange<'a> {
    /// Opens one, of which nothing is known beside its request.
    #[must_use]
    pub fn new(parts: Parts<'a>) -> Self {
        let Parts { shard, client, work, body, traffic, to, may_keep } = parts;
        let started = shard.stopwatch();
        Self {
            shard,
            client,
            work,
            body,
            traffic,
            reply: Reply::new(to, &shard.buffers),
            record: Record {
                listener: Some(client.listener),
                tls: client.tls.as_ref().map(|peer| peer.greeting.terms),
                ..Record::open(client.client.peer(), started)
            },
            route: None,
            filters: None,
            own_timeouts: None,
            cache: None,
            may_keep,
            keeps: false,
            is_prepared: false,
            is_admitted: false,
        }
    }

    /// The route's timeouts, or a call's own.
    #[must_use]
    pub fn timeouts<'t>(&'t self, route: &'t Route) -> &'t Timeouts {
        self.own_timeouts.as_deref().unwrap_or(&route.timeouts)
    }

    /// The client may take nothing of its answer for so long: the route's `body_idle`.
    #[must_use]
    pub fn stall(&self) -> Duration {
        match (&self.own_timeouts, self.route) {
            (Some(own), _) => own.body_idle,
            (None, Some(route)) => route.timeouts.body_idle,
            (None, None) => Timeouts::default().body_idle,
        }
    }

    /// The clock of this shard.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Moment {
        self.shard.now()
    }

    /// Gives the request an X-Request-Id if it has none that may be believed, for an answer that says it.
    pub fn name_request(&mut self) {
        let fields = &mut self.work.request.fields;
        if !self.is_admitted {
            fields.remove(Name::XRequestId);
        }
        if !fields.has(Name::XRequestId) {
            let id = self.shard.request_id();
            fields.push_known(Name::XRequestId, b"X-Request-Id", &id);
        }
    }

    /// Rewrites the request into what the upstream gets: what a proxy adds, then the route's changes. Once.
    ///
    /// # Errors
    /// `Loop`.
    #[inline]
    pub fn prepare(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_prepared, true) {
            return Ok(());
        }
        let shard = self.shard;
        let id = shard.request_id();
        let client = &self.client.client;
        let added = Added { client, via: &shard.plan.name, request_id: &id };
        let request = &mut self.work.request;
        introduce::forward_request(request, &added, &mut shard.introductions.borrow_mut())?;
        if let Some(filters) = self.filters {
            filters.on_forward(&mut request.fields);
        }
        Ok(())
    }

    /// Whether a fault counts against the endpoint of this exchange. An endpoint need not wait for ever for the rest of
    /// a request: that it ends such a connection says nothing against it (exam R09).
    #[must_use]
    pub fn blames_endpoint(&self, fault: Kind) -> bool {
        let is_closed = matches!(fault, Kind::UpstreamGone | Kind::UpstreamBodyCutShort);
        fault.blames_endpoint() && (!is_closed || self.traffic.has_come.get())
    }

    /// Takes down what became of it.
    pub fn note(&mut self, fault: Option<Kind>) {
        let record = &mut self.record;
        record.fault = fault;
        record.cache = self.cache.map(|status| status.word());
        record.status = self.reply.status();
        record.detail = self.traffic.detail.get().filter(|_| fault.is_some());
        record.bytes_in = self.traffic.received.get();
        record.bytes_out = self.reply.sent();
        self.shard.observe(record, &self.work.request);
    }
}

/// What becomes of a client's connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It may carry another request.
    Keep,
    /// It ends, and what the client still sends is read for a while, so that our last words are
    /// not lost to a reset (RFC 9112 section 9.6).
    Linger,
    /// It is closed at once.
    Close,
}

/// Where a value lives that is lent out now and then.
pub struct Home<T>(Cell<Option<T>>);

impl<T> Home<T> {
    /// It is here.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(Cell::new(Some(value)))
    }

    /// Lends it; `None` if it is lent already.
    #[must_use]
    pub fn lend(&self) -> Option<Loan<'_, T>> {
        self.0.take().map(|value| Loan { home: self, value: Some(value) })
    }
}

/// A value that goes home when it is dropped, whatever ends its use.
pub struct Loan<'a, T> {
    home: &'a Home<T>,
    value: Option<T>,
}

impl<T> Loan<'_, T> {
    /// The value.
    ///
    /// # Panics
    /// Never: it is there until the loan is dropped.
    pub fn get(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until it goes home")
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        self.home.0.set(self.value.take());
    }
}
