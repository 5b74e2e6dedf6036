//! The fetcher's side of the cache: what becomes of the answer to a request that was asked for
//! all, or that changes what is stored.

use std::rc::Rc;
use std::sync::Arc;

use super::cursor::Cursor;
use super::fetched::Fetched;
use super::guard::FillGuard;
use super::lines::{part_of, same_origin, sorted};
use super::pump::{Coming, Pump};
use super::relay::silence_of;
use super::state::Exchange;
use super::visit::Visit;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::ClusterId;
use crate::cache::entry::{Bulk, Draft, Entry, Large};
use crate::cache::fill_stream::Start;
use crate::cache::freshness::Freshness;
use crate::cache::octets::Octets;
use crate::cache::policy::{self, NotStored, Storable, StorableRequest, Times};
use crate::cache::purge::{Purge, What};
use crate::cache::shard::CacheRequest;
use crate::cache::status::Status;
use crate::cache::{directive, key, validate};
use crate::config::cache::CacheRule;
use crate::config::model::Route;
use crate::filter::Answering;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, RequestHead, ResponseHead};
use crate::message::name::Name;
use crate::message::reuse::Proof;
use crate::protocol::line::Line;
use crate::protocol::pace::Pace;
use crate::shard::Shard;
use crate::upstream::attempt::body_failed;

/// A fetch for the cache, while its answer is awaited.
pub struct Fill<'a> {
    pub rule: &'a CacheRule,
    pub route: &'a Route,
    pub cluster: ClusterId,
    pub question: CacheRequest,
    pub asked: StorableRequest,
    /// What is stored already, and whether the origin was asked about it.
    pub stale: Option<Arc<Entry>>,
    pub has_asked: bool,
    /// The cache may answer it: its conditions are ours to judge.
    pub is_open: bool,
    pub began: Moment,
    pub ticket: Option<FillGuard>,
    pub status: Status,
    /// Field lines for the client that asked, and for no other.
    pub own: Vec<u8>,
}

/// What the client is answered with.
pub enum Judged<'a> {
    /// What was fetched: it is this client's alone.
    Relay(Box<Fetched<'a>>),
    /// An entry.
    Serve(Arc<Entry>),
    /// What is on its way into one.
    Follow(Arc<Entry>, Cursor),
    /// The origin spoke of something else: it must be asked without conditions.
    Again,
    /// Nothing: there is no client, and the cache has no use for it.
    Nothing,
}

impl<'a> Fill<'a> {
    /// For a request that may be answered by the cache, or change it.
    #[must_use]
    pub const fn new(
        visit: Visit<'a>,
        question: CacheRequest,
        asked: StorableRequest,
        status: Status,
        began: Moment,
    ) -> Self {
        Self {
            rule: &visit.cached.rule,
            route: visit.route,
            cluster: visit.cluster,
            question,
            asked,
            stale: None,
            has_asked: false,
            is_open: false,
            began,
            ticket: None,
            status,
            own: Vec::new(),
        }
    }
}

impl Fill<'_> {
    /// What is fetched for all is fetched whole, and each client's conditions are ours to answer; the origin is asked
    /// about what is stored.
    pub fn ask_about_stale(&mut self, fields: &mut Fields) {
        let wants_whole = self.question.wants_whole(self.stale.as_deref());
        let may_share = self.question.may_share && wants_whole;
        // Where it is known that nothing will be stored, the client's conditions are the origin's.
        let is_for_all = |guard: &FillGuard| guard.ticket().is_some_and(|ticket| !ticket.is_solo);
        let is_shared = may_share && self.ticket.as_ref().is_some_and(is_for_all);
        let stale = self.stale.clone().filter(|one| validate::can_validate(one));
        if is_shared || (stale.is_some() && wants_whole) {
            validate::strip(fields);
            if let Some(stale) = &stale {
                validate::ask_about(stale, fields);
                self.has_asked = true;
            }
        }
    }

    /// The origin has confirmed what we do not have: it is asked once more, without conditions.
    pub fn ask_again(&mut self, fields: &mut Fields) {
        self.has_asked = false;
        validate::strip(fields);
    }

    /// Decides what becomes of the answer whose head has come. What it changes of what is stored has
    /// changed on every core when this returns.
    ///
    /// # Errors
    /// What is wrong with a body that came with its head.
    pub async fn judge<'f>(
        &mut self,
        ex: &mut Exchange<'_>,
        fetched: Fetched<'f>,
    ) -> Result<Judged<'f>> {
        let (method, status) = (ex.work.request.method, ex.work.response.status);
        if status == 101 {
            return Ok(Judged::Relay(Box::new(fetched)));
        }
        if !method.is_safe(ex.work.request.method_text()) {
            self.invalidate(ex).await;
        }
        if method == Method::Post && self.answers_get(ex) {
            self.reserve(ex.shard).await;
        } else if !matches!(method, Method::Get | Method::Head) {
            return Ok(Judged::Relay(Box::new(fetched)));
        }
        self.status.forward_status = Some(status);
        if status == 304 && self.has_asked {
            rule(ex);
            fetched.land(ex);
            return Ok(self.validated(ex.shard, &ex.work.response));
        }
        if matches!(status, 500 | 502 | 503 | 504) && self.serves_stale(ex.now()) {
            fetched.drop_body(status);
            return Ok(self.take_stale(ex.now(), "stale-if-error"));
        }
        self.status.forward_status = None;
        if method == Method::Head {
            self.head_came(ex.shard, &ex.work.response);
            return Ok(Judged::Relay(Box::new(fetched)));
        }
        match self.storable(ex.shard, &ex.work.response) {
            Ok(storable) => {
                rule(ex);
                let pump = self.begin(ex, &fetched, &storable);
                self.absorb(ex, fetched, pump).await
            }
            Err(why) => {
                self.status = self.status.refused(why);
                self.supersede(ex.shard, status);
                // What the client's own conditions brought says nothing of what others get.
                self.release(why, !matches!(status, 206 | 304 | 412 | 416));
                if ex.reply.has_client() {
                    return Ok(Judged::Relay(Box::new(fetched)));
                }
                // No client waits for it: the body is not even read.
                fetched.drop_body(status);
                Ok(Judged::Nothing)
            }
        }
    }

    /// There was no answer: what is stored may stand in for it (RFC 5861 section 4).
    ///
    /// # Errors
    /// Nothing may.
    pub fn failed<'f>(&mut self, ex: &Exchange<'_>, kind: Kind) -> Result<Judged<'f>> {
        let is_begun = ex.reply.has_begun();
        if !is_begun && !kind.blames_client() && self.serves_stale(ex.now()) {
            return Ok(self.take_stale(ex.now(), "stale-if-error"));
        }
        if !is_begun && kind.is_cut_off() && self.serves_cut_off(ex.now()) {
            return Ok(self.take_stale(ex.now(), "disconnected"));
        }
        // RFC 9111 section 5.2.2.2: what cannot be confirmed must not be served.
        let is_unconfirmed = !is_begun && self.stale.is_some() && kind.blames_endpoint();
        let kind = if is_unconfirmed { Kind::NotValidated } else { kind };
        if let Some(guard) = self.ticket.take() {
            guard.fail(kind);
        }
        Err(kind)
    }

    /// Whether what is stored may be served instead of an error.
    #[must_use]
    pub fn serves_stale(&self, now: Moment) -> bool {
        let stale = self.stale.as_ref().filter(|stale| !stale.is_partial());
        stale.is_some_and(|stale| {
            stale.freshness().serves_errors(&self.asked.directives, self.rule.grace, now)
        })
    }

    /// The same, where no server could be asked.
    #[must_use]
    pub fn serves_cut_off(&self, now: Moment) -> bool {
        let stale = self.stale.as_ref().filter(|stale| !stale.is_partial());
        stale.is_some_and(|stale| {
            stale.freshness().serves_cut_off(&self.asked.directives, self.rule.grace_down, now)
        })
    }

    /// Serves what is stored, for this reason.
    fn take_stale<'f>(&mut self, now: Moment, why: &'static str) -> Judged<'f> {
        let Some(stale) = self.stale.clone() else { return Judged::Nothing };
        let ttl = Some(stale.freshness().ttl(now));
        self.status = Status { ttl, detail: Some(why), ..self.status };
        // Others get it too, without asking again.
        if let Some(guard) = self.ticket.take() {
            guard.stands(&stale);
        }
        Judged::Serve(stale)
    }

    fn times(&self, shard: &Shard) -> Times {
        Times { now: shard.now(), wall: shard.wall(), asked: self.began }
    }

    fn storable(
        &self,
        shard: &Shard,
        response: &ResponseHead,
    ) -> std::result::Result<Storable, NotStored> {
        if self.ticket.is_none() {
            return Err(NotStored::Bypassed);
        }
        let is_asked_part = self.question.fields.has(Name::Range);
        if response.status == 206 && !(is_asked_part && part_of(response).is_some()) {
            return Err(NotStored::Status);
        }
        if response.status != 206 && response.fields.has(Name::ContentRange) {
            return Err(NotStored::Status);
        }
        if let Framing::Length(len) = response.framing
            && len > shard.cache.ledger().object()
        {
            return Err(NotStored::TooLarge);
        }
        policy::may_store(&self.asked, response, self.rule, self.times(shard))
    }

    /// Tells the requests that wait to ask for themselves. What the response alone decides is remembered.
    fn release(&mut self, why: NotStored, may_mark: bool) {
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
            shard.cache.replace(self.question.hash, stale, None);
        }
    }

    /// Whether it is the request that keeps the response from being stored, not the response.
    fn is_askers(&self, why: NotStored) -> bool {
        match why {
            NotStored::Authorization | NotStored::OddRequest | NotStored::Method => true,
            NotStored::Cookie => self.asked.has_cookie,
            NotStored::NoStore => self.asked.directives.no_store,
            _ => false,
        }
    }

    /// A response that will be stored: its head is known to all from here on.
    fn begin(
        &mut self,
        ex: &Exchange<'_>,
        fetched: &Fetched<'_>,
        storable: &Storable,
    ) -> Box<Pump> {
        let (shard, response) = (ex.shard, &ex.work.response);
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
        self.own = lines.own;
        self.status.is_stored = true;
        self.status.forward_status = None;
        self.status.ttl = Some(head.freshness().ttl(shard.now()));
        let part = part_of(response).filter(|_| response.status == 206);
        Box::new(Pump {
            shard: Rc::clone(shard),
            cluster: self.cluster,
            id: fetched.flight.id,
            head,
            part: part.map(|(first, _, total)| (first, total)),
            old_part: self.stale.clone().filter(|stale| stale.is_partial()),
            // Only a request without a body is stored for.
            proof: Proof::after(response, true),
            idle: silence_of(response, &self.route.timeouts),
            chunks: Vec::new(),
            small: Vec::new(),
            coming: None,
            is_stored: true,
            octets: 0,
        })
    }

    /// Takes of the body what has come already: most bodies come with their head. The rest is read by a task of its
    /// own.
    async fn absorb<'f>(
        &mut self,
        ex: &Exchange<'_>,
        fetched: Fetched<'f>,
        mut pump: Box<Pump>,
    ) -> Result<Judged<'f>> {
        let (shard, status) = (ex.shard, ex.work.response.status);
        let Some(guard) = self.ticket.take() else { return Err(Kind::Internal) };
        let total_by = fetched.target.total_by;
        let (cluster, id) = (fetched.target.cluster, fetched.flight.id);
        let Fetched { mut line, flight, .. } = fetched;
        line.read_for(None);
        let pace = Pace { idle: pump.idle, total_by, rate: 0 };
        line.begin_body(ex.work.response.framing, pace);
        if let Err(kind) = take_ready(shard, &mut line, &mut pump).await {
            ex.traffic.detail.set(line.detail());
            body_failed(cluster, id, line.detail(), kind.blames_endpoint().then_some(kind));
            self.ticket = Some(guard);
            return Err(kind);
        }
        cluster.answered(id, status);
        if line.is_done() {
            let fits = pump.held() <= shard.cache.ledger().object();
            let entry = pump.finished();
            pump.keep(line);
            if fits && shard.cache.ledger().may_take(0) {
                guard.commit(Arc::clone(&entry));
            } else {
                self.status.is_stored = false;
                self.status = self.status.refused(NotStored::TooLarge);
                guard.release(NotStored::TooLarge, !fits);
            }
            flight.landed();
            return Ok(Judged::Serve(entry));
        }
        let Some(ticket) = guard.ticket() else { return Err(Kind::Internal) };
        let (stream, front) = (Arc::clone(&ticket.stream), Arc::clone(&ticket.front));
        stream.begin(Start::Growing(Arc::clone(&pump.head)));
        shard.cache.tell(&stream);
        // Its reader is known before its first piece: the writer waits for no other.
        let cursor = Cursor::new(&shard.cache, Arc::clone(&stream), Arc::clone(&front));
        let cursor = cursor.ok_or(Kind::Internal)?;
        let head = Arc::clone(&pump.head);
        pump.coming = Some(Coming { guard: Some(guard), stream, last: front, line });
        pump.start(flight.pause());
        Ok(Judged::Follow(head, cursor))
    }

    /// What is stored is still good, with these fields (RFC 9111 section 4.3.4).
    fn validated<'f>(&mut self, shard: &Shard, response: &ResponseHead) -> Judged<'f> {
        let stale = self.stale.clone();
        let Some(stale) = stale.filter(|one| validate::confirms(one, &response.fields)) else {
            return Judged::Again;
        };
        self.own = sorted(shard, &response.fields, &self.withheld(&response.fields)).own;
        let fields = validate::updated(&stale, &response.fields);
        let refreshed = self.refreshed(shard, &stale, &fields);
        match (refreshed, self.ticket.take()) {
            (Ok(entry), Some(guard)) => {
                let entry = Arc::new(entry);
                self.status.is_stored = true;
                self.status.ttl = Some(entry.freshness().ttl(shard.now()));
                guard.confirm(Arc::clone(&entry));
                return Judged::Serve(entry);
            }
            (Err(why), guard) if self.is_askers(why) => {
                // It is as good as before, but not by this request's word.
                if let Some(guard) = guard {
                    guard.release(why, false);
                }
                self.status = self.status.refused(why);
            }
            (refreshed, guard) => {
                // It may not be kept any more, and answers this request all the same.
                shard.cache.replace(self.question.hash, &stale, None);
                if let (Err(why), Some(guard)) = (refreshed, guard) {
                    self.status = self.status.refused(why);
                    guard.release(why, true);
                }
            }
        }
        Judged::Serve(self.answered(shard, &stale, &fields))
    }

    /// The stored body under the fields of a 304, for the one client that asked.
    fn answered(&self, shard: &Shard, stale: &Arc<Entry>, fields: &Fields) -> Arc<Entry> {
        let lines = sorted(shard, fields, &self.withheld(fields));
        let freshness = Freshness { received: shard.now(), initial_age: 0, ..stale.freshness() };
        let draft = Draft {
            key: stale.key(),
            selecting: stale.selecting(),
            fields: &lines.stored,
            status: stale.status(),
            freshness,
            modified: stale.modified(),
        };
        with_body_of(&draft, stale).map_or_else(|| Arc::clone(stale), Arc::new)
    }

    /// The names of fields that only the client gets that asked.
    fn withheld(&self, fields: &Fields) -> Vec<Box<[u8]>> {
        let mut withheld = directive::of_response(fields).0.withheld;
        if !self.rule.cookies {
            withheld.push(Box::from(&b"set-cookie"[..]));
        }
        withheld
    }

    /// Whether the response to a POST is what a GET would be answered with (RFC 9110 section 9.3.3):
    /// it says so by its Content-Location, and for how long.
    fn answers_get(&self, ex: &Exchange<'_>) -> bool {
        let (own, request, response) = (&self.question.key, &ex.work.request, &ex.work.response);
        let place = response.fields.only(Name::ContentLocation);
        let place = place.and_then(|uri| same_origin(uri, own, request));
        let is_here = place.is_some_and(|target| {
            key::url(&key::sibling(own, &target, self.rule)) == key::url(own)
        });
        let is_keyed =
            !key::is_unkeyed(&self.asked.fields) && !key::has_any(request, &self.rule.bypass);
        // All of the request is sent: the connection is not needed for more of it.
        is_here
            && is_keyed
            && response.status == 200
            && ex.traffic.is_written.get()
            && policy::is_explicit(&response.fields)
    }

    /// The right to store what was not asked for yet.
    async fn reserve(&mut self, shard: &Rc<Shard>) {
        let ticket = shard.cache.reserve(&self.question, shard.now()).await;
        self.ticket = ticket.map(|ticket| FillGuard::new(Rc::clone(&shard.cache), ticket));
    }

    /// The same body under fields that have come now.
    fn refreshed(
        &self,
        shard: &Shard,
        stale: &Entry,
        fields: &Fields,
    ) -> std::result::Result<Entry, NotStored> {
        let mut head = ResponseHead::default();
        head.status = stale.status();
        head.fields = fields.clone();
        let mut storable = policy::may_store(&self.asked, &head, self.rule, self.times(shard))?;
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
        with_body_of(&draft, stale).ok_or(NotStored::Status)
    }

    /// The answer to a HEAD says something of what is stored (RFC 9111 section 4.3.5).
    fn head_came(&self, shard: &Shard, response: &ResponseHead) {
        let (Some(stale), true) = (&self.stale, response.status == 200) else {
            return self.supersede(shard, response.status);
        };
        let has_len = response.length_told;
        let is_same = validate::confirms(stale, &response.fields)
            && has_len.is_none_or(|len| stale.body_len() == Some(len));
        let new = is_same.then(|| validate::updated(stale, &response.fields));
        let new = match new.map(|fields| self.refreshed(shard, stale, &fields)) {
            // It is this request that keeps it from being stored, and not what is stored.
            Some(Err(why)) if self.is_askers(why) => return,
            new => new.and_then(std::result::Result::ok),
        };
        shard.cache.replace(self.question.hash, stale, new.map(Arc::new));
    }

    /// A method that is not safe has changed something (RFC 9111 section 4.4).
    async fn invalidate(&self, ex: &Exchange<'_>) {
        if !(200..400).contains(&ex.work.response.status) {
            return;
        }
        for url in self.changed(&ex.work.request, &ex.work.response) {
            let purge = Purge { what: What::Url(url), is_soft: false };
            // A core that does not answer in time does what it was told all the same.
            let _ = ex.shard.cache.invalidate(purge, None, ex.now()).await;
        }
    }

    fn changed(&self, request: &RequestHead, response: &ResponseHead) -> Vec<Vec<u8>> {
        let own = &self.question.key;
        let mut urls = vec![own.clone()];
        for name in [Name::Location, Name::ContentLocation] {
            let uri = response.fields.only(name);
            let target = uri.and_then(|uri| same_origin(uri, own, request));
            urls.extend(target.map(|target| key::sibling(own, &target, self.rule)));
        }
        urls
    }
}

/// An entry with the body of another; `None` if that has no whole one.
fn with_body_of(draft: &Draft<'_>, other: &Entry) -> Option<Entry> {
    match other.large() {
        None => Some(draft.small(other.small().unwrap_or_default())),
        Some(Large::Whole(bulk)) => {
            Some(draft.large(Large::Whole(Bulk::new(bulk.chunks().into()))))
        }
        Some(Large::Growing(_) | Large::Partial { .. }) => None,
    }
}

/// Takes of a body what can be had without waiting.
async fn take_ready(shard: &Rc<Shard>, line: &mut Line, pump: &mut Pump) -> Result<()> {
    while let Some(data) = line.ready(&shard.buffers).await? {
        pump.chunks.push(Octets::counted(data.data(), &shard.cache.ledger().bodies));
        shard.buffers.give(data);
    }
    Ok(())
}

/// What is stored has the route's rules.
fn rule(ex: &mut Exchange<'_>) {
    if let Some(filters) = ex.filters {
        let facts = Answering { cache_status: None, is_ruled: false };
        filters.on_response(&mut ex.work.response.fields, &facts);
    }
}
