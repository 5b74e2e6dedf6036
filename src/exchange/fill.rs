//! The fetcher's side of the cache: what becomes of the answer to a request that was asked for
//! everybody, or that changes what is stored.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::cached::Visit;
use super::guard::Guard;
use super::lines::{part_of, same_origin, sorted};
use super::place::Place;
use super::pump::{Coming, Pump};
use super::relay::{Ended, Hop, silence_of};
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::ClusterId;
use crate::cache::entry::{Bulk, Draft, Entry, Large};
use crate::cache::flow::Start;
use crate::cache::octets::Octets;
use crate::cache::part::Question;
use crate::cache::policy::{self, Asked, Refused, Storable, Times};
use crate::cache::purge::{Purge, What};
use crate::cache::status::Status;
use crate::cache::{directive, key, validate};
use crate::config::cache::Rule;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, ResponseHead};
use crate::message::name::Name;
use crate::net::body::{self, BodyReader, Pace};
use crate::route::rewrite;
use crate::shard::Shard;
use crate::upstream::http1::Connection;
use crate::wire::http1::reuse::peer_keeps;

/// A fetch for the cache, while its answer is awaited.
pub struct Fill<'a> {
    pub rule: &'a Rule,
    pub question: &'a Question,
    pub asked: &'a Asked,
    pub cluster: ClusterId,
    /// No client waits for the answer.
    pub is_alone: bool,
    /// What is stored already, and whether the origin was asked about it.
    pub stale: Option<Arc<Entry>>,
    pub has_asked: bool,
    pub began: Moment,
    pub ticket: RefCell<Option<Guard>>,
    pub status: Cell<Status>,
    pub taken: RefCell<Option<Taken>>,
    /// Field lines for the client that asked, and for nobody else.
    pub own: RefCell<Vec<u8>>,
    pub pump: RefCell<Option<Box<Pump>>>,
}

/// What the client is served from then.
pub enum Taken {
    /// An entry.
    Serve(Arc<Entry>),
    /// What is on its way into one.
    Follow(Arc<Entry>, Place),
    /// The origin spoke of something else: it must be asked without conditions.
    Again,
}

/// What becomes of an answer.
pub enum Judged {
    /// It goes to the client alone.
    Stream,
    /// It is (part of) what the client is served from; so its body ended.
    Taken(Ended),
}

impl<'a> Fill<'a> {
    /// For a request that may be answered by the cache, or change it.
    #[must_use]
    pub fn new(visit: &Visit<'a>, question: &'a Question, asked: &'a Asked, began: Moment) -> Self {
        Self {
            rule: &visit.cached.rule,
            question,
            asked,
            cluster: visit.cluster,
            is_alone: false,
            stale: None,
            has_asked: false,
            began,
            ticket: RefCell::default(),
            status: Cell::default(),
            taken: RefCell::default(),
            own: RefCell::default(),
            pump: RefCell::default(),
        }
    }
}

impl Fill<'_> {
    /// Decides what becomes of the answer whose head has come. What it changes of what is stored has
    /// changed on every core when this returns.
    pub async fn judge(&self, hop: &Hop<'_, '_>, response: &mut ResponseHead) -> Judged {
        let mut status = self.status.get();
        let rules = &hop.route.response_headers;
        let (method, text) = (hop.request.method, hop.request.method_text());
        if !method.is_safe(text) {
            self.invalidate(hop, response).await;
        }
        if method == Method::Post && self.answers_get(hop, response) {
            self.reserve(hop).await;
        } else if !matches!(method, Method::Get | Method::Head) {
            return Judged::Stream;
        }
        status.forward_status = Some(response.status);
        self.status.set(status);
        if response.status == 304 && self.has_asked {
            rewrite::fields(&mut response.fields, rules);
            return Judged::Taken(self.validated(hop, response));
        }
        if matches!(response.status, 500 | 502 | 503 | 504) && self.serves_stale(hop.shard.now()) {
            self.take_stale(hop.shard.now(), "stale-if-error");
            return Judged::Taken(Ended::Dropped);
        }
        status.forward_status = None;
        if hop.request.method == Method::Head {
            self.status.set(status);
            self.head_came(hop, response);
            return Judged::Stream;
        }
        match self.storable(hop, response) {
            Ok(storable) => {
                rewrite::fields(&mut response.fields, rules);
                self.begin(hop, response, storable);
                Judged::Taken(Ended::Stored)
            }
            Err(why) => {
                self.status.set(status.refused(why));
                self.supersede(hop.shard, response.status);
                // What the client's own conditions brought says nothing of what others get.
                self.release(why, !matches!(response.status, 206 | 304 | 412 | 416));
                // Nobody waits for it: the body is not even read.
                if self.is_alone { Judged::Taken(Ended::Dropped) } else { Judged::Stream }
            }
        }
    }

    /// Whether what is stored may be served instead of an error.
    #[must_use]
    pub fn serves_stale(&self, now: Moment) -> bool {
        let stale = self.stale.as_ref().filter(|stale| !stale.is_partial());
        stale.is_some_and(|stale| {
            stale.freshness().serves_errors(&self.asked.directives, self.rule.grace, now)
        })
    }

    /// The same, where nobody could be asked.
    #[must_use]
    pub fn serves_cut_off(&self, now: Moment) -> bool {
        let stale = self.stale.as_ref().filter(|stale| !stale.is_partial());
        stale.is_some_and(|stale| {
            stale.freshness().serves_cut_off(&self.asked.directives, self.rule.grace_down, now)
        })
    }

    /// Serves what is stored, for this reason.
    pub fn take_stale(&self, now: Moment, why: &'static str) {
        if let Some(stale) = &self.stale {
            let ttl = Some(stale.freshness().ttl(now));
            self.status.set(Status { ttl, detail: Some(why), ..self.status.get() });
            self.taken.replace(Some(Taken::Serve(Arc::clone(stale))));
            // Others get it too, without asking again.
            if let Some(guard) = self.ticket.take() {
                guard.stands(stale);
            }
        }
    }

    fn times(&self, shard: &Shard) -> Times {
        Times { now: shard.now(), wall: shard.wall(), asked: self.began }
    }

    fn storable(
        &self,
        hop: &Hop<'_, '_>,
        response: &ResponseHead,
    ) -> std::result::Result<Storable, Refused> {
        if self.ticket.borrow().is_none() {
            return Err(Refused::Bypassed);
        }
        let is_asked_part = self.question.fields.has(Name::Range);
        if response.status == 206 && !(is_asked_part && part_of(response).is_some()) {
            return Err(Refused::Status);
        }
        if response.status != 206 && response.fields.has(Name::ContentRange) {
            return Err(Refused::Status);
        }
        if let Framing::Length(len) = response.framing
            && len > hop.shard.desk.ledger().object
        {
            return Err(Refused::TooLarge);
        }
        policy::may_store(self.asked, response, self.rule, self.times(hop.shard))
    }

    /// Tells those who wait to ask for themselves. What the response alone decides is remembered.
    fn release(&self, why: Refused, may_mark: bool) {
        if let Some(guard) = self.ticket.take() {
            let may_mark = may_mark && !self.question.is_partly && !self.is_askers(why);
            guard.release(why, may_mark);
        }
    }

    /// A full answer below 500 says that what is stored is not what is there any more (RFC 9111
    /// section 4.3.3), whether or not it is stored itself.
    fn supersede(&self, shard: &Shard, status: u16) {
        let is_full = matches!(status, 200..500) && !matches!(status, 206 | 304 | 412 | 416);
        let may_be_askers = self.asked.is_odd && status >= 400;
        if let Some(stale) = self.stale.as_ref().filter(|_| is_full && !may_be_askers) {
            shard.desk.replace(self.question.hash, stale, None);
        }
    }

    /// Whether it is the request that keeps the response from being stored, not the response.
    fn is_askers(&self, why: Refused) -> bool {
        match why {
            Refused::Authorization | Refused::OddRequest | Refused::Method => true,
            Refused::Cookie => self.asked.has_cookie,
            Refused::NoStore => self.asked.directives.no_store,
            _ => false,
        }
    }

    /// A response that will be stored: its head is known to all from here on.
    fn begin(&self, hop: &Hop<'_, '_>, response: &ResponseHead, storable: Storable) {
        let shard = hop.shard;
        let len = match response.framing {
            Framing::Length(len) => Some(len),
            Framing::None => Some(0),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let lines = sorted(shard, &response.fields, &storable.withheld);
        let draft = Draft {
            key: &self.question.key,
            selecting: &storable.selecting,
            fields: &lines.stored,
            status: response.status,
            freshness: storable.freshness,
            modified: storable.modified,
        };
        let head = Arc::new(draft.large(Large::Growing(len)));
        self.own.replace(lines.own);
        let mut status = self.status.get();
        status.is_stored = true;
        status.forward_status = None;
        status.ttl = Some(head.freshness().ttl(shard.now()));
        self.status.set(status);
        let part = part_of(response).filter(|_| response.status == 206);
        let pump = Pump {
            shard: Rc::clone(shard),
            cluster: self.cluster,
            id: hop.id(),
            head,
            part: part.map(|(first, _, total)| (first, total)),
            old_part: self.stale.clone().filter(|stale| stale.is_partial()),
            peer_keeps: peer_keeps(response.version, response.options) && !response.tainted,
            idle: silence_of(response, hop.target.timeouts),
            chunks: Vec::new(),
            small: Vec::new(),
            coming: None,
            is_stored: true,
            octets: 0,
        };
        self.pump.replace(Some(Box::new(pump)));
    }

    /// The connection with the body of what `begin` began. What has come already is taken at once:
    /// most bodies come with their head.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub fn absorb(
        &self,
        hop: &Hop<'_, '_>,
        connection: Box<Connection>,
        framing: Framing,
    ) -> Result<()> {
        let (Some(mut pump), Some(guard)) = (self.pump.take(), self.ticket.take()) else {
            return Err(Kind::Internal);
        };
        let shard = hop.shard;
        let mut connection = connection;
        let pace = Pace { idle: pump.idle, total_by: hop.target.total_by, rate: 0 };
        let Connection { stream, inbound, .. } = &mut *connection;
        inbound.read_for(None);
        let mut reader = BodyReader::new(
            stream,
            inbound,
            &shard.buffers,
            framing,
            body::RESPONSE,
            pace,
            shard.now(),
        );
        loop {
            let ready = reader.ready();
            hop.answer.detail.set(reader.detail);
            let Some(data) = ready? else { break };
            pump.chunks.push(Octets::counted(data.data(), &shard.desk.ledger().bodies));
            shard.buffers.give(data);
        }
        let is_done = reader.is_done();
        let progress = reader.pause();
        if is_done {
            let entry = pump.finished();
            pump.keep(connection);
            guard.commit(Arc::clone(&entry));
            self.taken.replace(Some(Taken::Serve(entry)));
            return Ok(());
        }
        let Some(ticket) = guard.ticket() else { return Err(Kind::Internal) };
        let (flow, front) = (Arc::clone(&ticket.flow), Arc::clone(&ticket.front));
        flow.begin(Start::Growing(Arc::clone(&pump.head)));
        shard.desk.tell(&flow);
        // Its reader is known before its first piece: the writer waits for nobody else.
        let place = Place::new(&shard.desk, Arc::clone(&flow), Arc::clone(&front));
        let place = place.ok_or(Kind::Internal)?;
        let follow = Taken::Follow(Arc::clone(&pump.head), place);
        self.taken.replace(Some(follow));
        pump.coming = Some(Coming { guard: Some(guard), flow, last: front, connection, progress });
        self.pump.replace(Some(pump));
        Ok(())
    }

    /// What is stored is still good, with these fields (RFC 9111 section 4.3.4).
    fn validated(&self, hop: &Hop<'_, '_>, response: &ResponseHead) -> Ended {
        let Some(stale) =
            self.stale.as_ref().filter(|one| validate::confirms(one, &response.fields))
        else {
            self.taken.replace(Some(Taken::Again));
            return Ended::Answered;
        };
        let shard = hop.shard;
        self.own.replace(self.own_lines(shard, &response.fields));
        let fields = validate::updated(stale, &response.fields);
        let refreshed = self.refreshed(shard, stale, &fields);
        let mut status = self.status.get();
        match (refreshed, self.ticket.take()) {
            (Ok(entry), Some(guard)) => {
                let entry = Arc::new(entry);
                status.is_stored = true;
                status.ttl = Some(entry.freshness().ttl(shard.now()));
                guard.confirm(Arc::clone(&entry));
                self.taken.replace(Some(Taken::Serve(entry)));
            }
            (Err(why), guard) if self.is_askers(why) => {
                // It is as good as before, but not by this request's word.
                if let Some(guard) = guard {
                    guard.release(why, false);
                }
                status = status.refused(why);
                self.taken.replace(Some(Taken::Serve(self.answered(shard, stale, &fields))));
            }
            (refreshed, guard) => {
                // It may not be kept any more, and answers this request all the same.
                shard.desk.replace(self.question.hash, stale, None);
                if let (Err(why), Some(guard)) = (refreshed, guard) {
                    status = status.refused(why);
                    guard.release(why, true);
                }
                self.taken.replace(Some(Taken::Serve(self.answered(shard, stale, &fields))));
            }
        }
        self.status.set(status);
        Ended::Answered
    }

    /// The stored body under the fields of a 304, for the one client that asked.
    fn answered(&self, shard: &Shard, stale: &Arc<Entry>, fields: &Fields) -> Arc<Entry> {
        let mut withheld = directive::of_response(fields).0.withheld;
        if !self.rule.cookies {
            withheld.push(Box::from(&b"set-cookie"[..]));
        }
        let lines = sorted(shard, fields, &withheld);
        let freshness = crate::cache::freshness::Freshness {
            received: shard.now(),
            initial_age: 0,
            ..stale.freshness()
        };
        let draft = Draft {
            key: stale.key(),
            selecting: stale.selecting(),
            fields: &lines.stored,
            status: stale.status(),
            freshness,
            modified: stale.modified(),
        };
        Arc::new(match stale.large() {
            None => draft.small(stale.small().unwrap_or_default()),
            Some(Large::Whole(bulk)) => draft.large(Large::Whole(Bulk::new(bulk.chunks().into()))),
            Some(Large::Growing(_) | Large::Partial { .. }) => return Arc::clone(stale),
        })
    }

    /// What a 304 says to the one client that asked.
    fn own_lines(&self, shard: &Shard, fields: &Fields) -> Vec<u8> {
        let mut withheld = directive::of_response(fields).0.withheld;
        if !self.rule.cookies {
            withheld.push(Box::from(&b"set-cookie"[..]));
        }
        sorted(shard, fields, &withheld).own
    }

    /// Whether the response to a POST is what a GET would be answered with (RFC 9110 section 9.3.3):
    /// it says so by its Content-Location, and for how long.
    fn answers_get(&self, hop: &Hop<'_, '_>, response: &ResponseHead) -> bool {
        let own = &self.question.key;
        let place = response.fields.only(Name::ContentLocation);
        let place = place.and_then(|uri| same_origin(uri, own, hop.request));
        let is_here = place.is_some_and(|target| {
            key::url(&key::sibling(own, &target, self.rule)) == key::url(own)
        });
        let is_keyed =
            !key::is_unkeyed(&self.asked.fields) && !key::has_any(hop.request, &self.rule.bypass);
        // All of the request is sent: the connection is not needed for more of it.
        is_here
            && is_keyed
            && response.status == 200
            && hop.answer.body_done.get()
            && policy::is_explicit(&response.fields)
    }

    /// The right to store what nobody has asked for yet.
    async fn reserve(&self, hop: &Hop<'_, '_>) {
        let (shard, question) = (hop.shard, self.question);
        let ticket = shard.desk.reserve(question, shard.now()).await;
        let guard = ticket.map(|ticket| Guard::new(Rc::clone(&shard.desk), ticket));
        self.ticket.replace(guard);
    }

    /// The same body under fields that have come now.
    fn refreshed(
        &self,
        shard: &Shard,
        stale: &Entry,
        fields: &Fields,
    ) -> std::result::Result<Entry, Refused> {
        let mut head = ResponseHead::default();
        head.status = stale.status();
        head.fields = fields.clone();
        let mut storable = policy::may_store(self.asked, &head, self.rule, self.times(shard))?;
        // What selected it does so still, unless Vary says something new.
        if !fields.has(Name::Vary) {
            storable.selecting = stale.selecting().to_vec();
        }
        let lines = sorted(shard, fields, &storable.withheld);
        let draft = Draft {
            key: stale.key(),
            selecting: &storable.selecting,
            fields: &lines.stored,
            status: stale.status(),
            freshness: storable.freshness,
            modified: storable.modified,
        };
        Ok(match stale.large() {
            None => draft.small(stale.small().unwrap_or_default()),
            Some(Large::Whole(bulk)) => draft.large(Large::Whole(Bulk::new(bulk.chunks().into()))),
            Some(Large::Growing(_) | Large::Partial { .. }) => return Err(Refused::Status),
        })
    }

    /// The answer to a HEAD says something of what is stored (RFC 9111 section 4.3.5).
    fn head_came(&self, hop: &Hop<'_, '_>, response: &ResponseHead) {
        let (Some(stale), true) = (&self.stale, response.status == 200) else {
            return self.supersede(hop.shard, response.status);
        };
        let has_len = response.length_told;
        let is_same = validate::confirms(stale, &response.fields)
            && has_len.is_none_or(|len| stale.body_len() == Some(len));
        let new = is_same.then(|| validate::updated(stale, &response.fields));
        let new = match new.map(|fields| self.refreshed(hop.shard, stale, &fields)) {
            // It is this request that keeps it from being stored, and not what is stored.
            Some(Err(why)) if self.is_askers(why) => return,
            new => new.and_then(std::result::Result::ok),
        };
        hop.shard.desk.replace(self.question.hash, stale, new.map(Arc::new));
    }

    /// A method that is not safe has changed something (RFC 9111 section 4.4).
    async fn invalidate(&self, hop: &Hop<'_, '_>, response: &ResponseHead) {
        if !(200..400).contains(&response.status) {
            return;
        }
        let own = &self.question.key;
        let mut urls = vec![own.clone()];
        for name in [Name::Location, Name::ContentLocation] {
            let target =
                response.fields.only(name).and_then(|uri| same_origin(uri, own, hop.request));
            urls.extend(target.map(|target| key::sibling(own, &target, self.rule)));
        }
        for url in urls {
            let purge = Purge { what: What::Url(url), is_soft: false };
            // A core that does not answer in time does what it was told all the same.
            let _ = hop.shard.desk.invalidate(purge, None, hop.shard.now()).await;
        }
    }
}
