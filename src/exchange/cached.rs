//! A request on a route that caches: answered at once if it can be, else by the owner of its key's
//! word: an entry, somebody's fetch to follow, or a fetch of its own.

use std::rc::Rc;
use std::sync::Arc;

use super::deliver::{self, Order, Parcel};
use super::fill::{Fill, Taken};
use super::forward::{self, To};
use super::guard::Guard;
use super::place::Place;
use super::refresh;
use super::side::Downstream;
use crate::base::error::{Kind, Result};
use crate::base::id::ClusterId;
use crate::base::limits::DISK_PATIENCE;
use crate::base::limits::{FILL_CLIENTS_MAX, FILL_WAITS_MAX};
use crate::cache::directive::{self, Directives};
use crate::cache::entry::Entry;
use crate::cache::flow::{Flow, Node, Start};
use crate::cache::freshness::Use;
use crate::cache::part::{Found, Question, Seen};
use crate::cache::policy::Asked;
use crate::cache::status::{Forward, Status};
use crate::cache::validate::{self, Answer};
use crate::cache::{key, vary};
use crate::config::cache::{Cached, Rule};
use crate::config::model::Route;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, RequestHead, Version};
use crate::message::name::Name;
use crate::net::body::BodyWriter;
use crate::net::buffer::{Shared, Size};
use crate::observe::record::Record;
use crate::shard::{Shard, Workspace};

/// A request on its way through the cache.
pub struct Visit<'a> {
    pub route: &'a Route,
    pub cached: &'a Cached,
    pub cluster: ClusterId,
}

impl<'a> Visit<'a> {
    /// Where a fetch for it goes.
    pub fn to<'b>(&self, fill: &'b Fill<'b>) -> To<'b>
    where
        'a: 'b,
    {
        To { route: self.route, cluster: self.cluster, fill: Some(fill), is_prepared: false }
    }
}

/// How a request may use the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Looked up, and stored.
    Open,
    /// Not at all: the answer is not everybody's.
    Bypass,
    /// It changes what is stored.
    Unsafe,
}

fn way(request: &RequestHead, rule: &Rule) -> Way {
    match request.method {
        Method::Get | Method::Head => {}
        method if method.is_safe(request.method_text()) => return Way::Bypass,
        _ => return Way::Unsafe,
    }
    // A GET with a body is answered by what the body says (RELIABILITY E06).
    let is_plain = request.framing == Framing::None
        && request.upgrade().is_empty()
        && !validate::is_for_origin(&request.fields)
        && !key::is_unkeyed(&request.fields)
        && !key::has_any(request, &rule.bypass);
    if is_plain { Way::Open } else { Way::Bypass }
}

/// The answer to a request that can be answered at once.
#[must_use]
pub fn at_once(
    shard: &Shard,
    cached: &Cached,
    work: &mut Workspace,
    down: &Downstream<'_>,
) -> Option<Result<Parcel>> {
    let Workspace { request, key, .. } = work;
    if way(request, &cached.rule) != Way::Open {
        return None;
    }
    let frame = frame(shard, cached.digest, down);
    key::write(request, frame, &cached.rule, key);
    let hash = shard.desk.hash(key);
    let wants = wants(&request.fields, &cached.rule);
    let now = shard.now();
    shard.desk.quick((hash, key), &request.fields, &wants, now, |entry| {
        let is_get = request.method == Method::Get;
        let answer = validate::answer(entry, &request.fields, is_get, entry.body_len());
        let ttl = Some(entry.freshness().ttl(now));
        let status = Status { is_hit: true, ttl, ..Status::default() };
        deliver::parcel(
            shard,
            down,
            Order { entry, request, answer: &answer, status, growing: None, own: b"" },
        )
    })
}

fn wants(fields: &Fields, rule: &Rule) -> Directives {
    if rule.ignore_clients { Directives::default() } else { directive::of_request(fields) }
}

/// Serves a request that could not be answered at once.
///
/// # Errors
/// Why there was no answer, or no whole one.
pub async fn run(
    shard: &Rc<Shard>,
    visit: &Visit<'_>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    record: &mut Record,
) -> Result<()> {
    let rule = &visit.cached.rule;
    let way = way(&work.request, rule);
    let mut asked = Asked::of(&work.request.fields, rule);
    asked.has_authorization |= names_client(shard, &work.request.fields);
    let question = question(shard, visit, work, &asked, down);
    let fill = Fill::new(visit, &question, &asked, shard.now());
    let why = match way {
        Way::Open => Forward::UriMiss,
        Way::Bypass => Forward::Bypass,
        Way::Unsafe => Forward::Method,
    };
    down.answer.cache.set(Some(Status::forwarded(why)));
    let (waits, seen) = (0, Seen::default());
    let mut caller = Caller { shard, visit, question: &question, way, work, down, waits, seen };
    if way == Way::Bypass && asked.directives.only_if_cached {
        return Err(Kind::NotCached);
    }
    if way != Way::Open {
        fill.status.set(Status::forwarded(why));
        let to = visit.to(&fill);
        forward::run(shard, to, caller.work, caller.down, record).await?;
        return caller.give(&fill).await;
    }
    loop {
        match shard.desk.ask(&question, &caller.seen, shard.now()).await {
            Found::Follow(flow, front) => {
                if let Some(result) = caller.join(flow, front).await {
                    return result;
                }
            }
            Found::Load(flow) => {
                // Found or not, or not in time: the next answer goes without the disk.
                caller.seen.disk = true;
                let by = shard.now().after(DISK_PATIENCE);
                if let Some(Start::Looked(Some(entry))) = shard.desk.start(&flow, by).await
                    && caller.is_fresh(&entry)
                {
                    return caller.serve(&entry, caller.hit(&entry, Use::Fresh), b"").await;
                }
            }
            found => return caller.act(found, fill, record).await,
        }
    }
}

/// What of a key is not in the request.
pub fn frame<'a>(shard: &'a Shard, digest: u64, down: &Downstream<'_>) -> key::Frame<'a> {
    let (is_secure, reserved) = (down.client.is_secure, &shard.plan.config.reserved);
    key::Frame { digest, is_secure, reserved }
}

/// Whether a request says by its certificate whose it is: like `Authorization`, such a response is shared with
/// the origin's leave only (RELIABILITY R11).
pub fn names_client(shard: &Shard, fields: &Fields) -> bool {
    let reserved = &shard.plan.config.reserved;
    reserved.iter().any(|name| fields.values_named(name.as_bytes()).next().is_some())
}

fn question(
    shard: &Shard,
    visit: &Visit<'_>,
    work: &mut Workspace,
    asked: &Asked,
    down: &Downstream<'_>,
) -> Question {
    let Workspace { request, key, .. } = work;
    let rule = &visit.cached.rule;
    let frame = frame(shard, visit.cached.digest, down);
    key::write(request, frame, rule, key);
    let is_own = asked.has_authorization || (asked.has_cookie && !rule.cookies);
    Question {
        hash: shard.desk.hash(key),
        key: key.clone(),
        fields: asked.fields.clone(),
        wants: asked.directives.clone(),
        grace: rule.grace,
        may_share: !is_own && !asked.directives.no_store,
        is_partly: request.method == Method::Head || request.fields.has(Name::Range),
        has_range: request.method == Method::Get && request.fields.has(Name::Range),
    }
}

/// Whether an entry that somebody else's request brought answers this one.
fn suits(entry: &Entry, question: &Question) -> bool {
    !entry.is_partial() && vary::matches(entry.selecting(), &question.fields)
}

/// A request with all that it takes to serve it.
struct Caller<'a, 'd> {
    shard: &'a Rc<Shard>,
    visit: &'a Visit<'a>,
    question: &'a Question,
    way: Way,
    work: &'a mut Workspace,
    down: &'a mut Downstream<'d>,
    /// How often it has waited for somebody else's fetch.
    waits: u32,
    seen: Seen,
}

impl Caller<'_, '_> {
    /// Does what the owner of the key has said.
    async fn act(&mut self, found: Found, mut fill: Fill<'_>, record: &mut Record) -> Result<()> {
        let desk = &self.shard.desk;
        let (stale, why) = match found {
            Found::Use(entry, how) => {
                return self.serve(&entry, self.hit(&entry, how), b"").await;
            }
            Found::Refresh(entry, ticket) => {
                let guard = Guard::new(Rc::clone(desk), ticket);
                let (shard, visit, question) = (self.shard, self.visit, self.question);
                refresh::start(shard, visit, guard, &entry, question, self.work, self.down)?;
                return self.serve(&entry, self.hit(&entry, Use::WhileRevalidating), b"").await;
            }
            Found::Absent | Found::Follow(..) | Found::Load(_) => return Err(Kind::NotCached),
            Found::Pass { .. } if self.question.wants.only_if_cached => {
                return Err(Kind::NotCached);
            }
            Found::Pass { stale, why } => (stale, why),
            Found::Fetch { ticket, stale, why } => {
                fill.ticket.replace(Some(Guard::new(Rc::clone(desk), ticket)));
                (stale, why)
            }
        };
        fill.stale = stale;
        fill.status.set(Status::forwarded(why));
        self.down.answer.cache.set(Some(fill.status.get()));
        self.fetch(fill, record).await
    }

    /// Waits for what somebody else fetches. `None`: it is not for this request after all. Then
    /// it is known what such requests are told apart by.
    async fn join(&mut self, flow: Arc<Flow>, node: Arc<Node>) -> Option<Result<()>> {
        self.waits += 1;
        let by = self.shard.now().after(self.visit.route.timeouts.first_byte);
        match self.shard.desk.start(&flow, by).await {
            Some(Start::Stored(entry)) if suits(&entry, self.question) => {
                Some(self.serve(&entry, self.collapsed(&entry), b"").await)
            }
            Some(Start::Growing(entry)) if suits(&entry, self.question) => {
                let status = self.collapsed(&entry);
                if !self.reads_body(&entry) {
                    // Nothing of it is waited for, so nothing of it is held (RELIABILITY R06).
                    return Some(self.begin_growing(&entry, status, b"").await);
                }
                let Some(place) = Place::new(&self.shard.desk, flow, node) else {
                    return Some(Err(Kind::Overloaded));
                };
                Some(self.follow(&entry, place, status, b"").await)
            }
            Some(Start::Stands(entry)) if self.stands(&entry) => {
                let detail = Some("stale-if-error");
                let status = Status { detail, ..self.collapsed(&entry) };
                Some(self.serve(&entry, status, b"").await)
            }
            Some(Start::Stored(entry) | Start::Growing(entry)) => {
                self.seen.other = Some(entry);
                None
            }
            // Its client has gone, and nobody else's: there may be another who fetches already.
            Some(Start::Failed(kind)) if kind.is_clients() && self.waits < FILL_CLIENTS_MAX => None,
            // Everybody had one more chance: they fail together, not one after the other.
            Some(Start::Failed(kind)) if self.waits >= FILL_WAITS_MAX => Some(Err(kind)),
            None => Some(Err(Kind::FirstByteTimeout)),
            _ if self.waits > FILL_CLIENTS_MAX => Some(Err(Kind::UpstreamGone)),
            _ => None,
        }
    }

    /// Whether an entry can be served at once.
    fn is_fresh(&self, entry: &Entry) -> bool {
        let judged = entry.freshness().judge(&self.question.wants, 0, self.shard.now());
        suits(entry, self.question) && judged == Use::Fresh
    }

    /// Whether what is stored may stand in for an answer that did not come, for this request too.
    fn stands(&self, entry: &Entry) -> bool {
        let (now, question) = (self.shard.now(), self.question);
        let freshness = entry.freshness();
        suits(entry, question)
            && (freshness.serves_errors(&question.wants, question.grace, now)
                || freshness.serves_cut_off(
                    &question.wants,
                    self.visit.cached.rule.grace_down,
                    now,
                ))
    }

    fn hit(&self, entry: &Entry, how: Use) -> Status {
        let ttl = Some(entry.freshness().ttl(self.shard.now()));
        let detail = match how {
            Use::WhileRevalidating => Some("stale-while-revalidate"),
            _ => self.seen.disk.then_some("disk"),
        };
        Status { is_hit: true, ttl, detail, is_collapsed: self.waits > 0, ..Status::default() }
    }

    fn collapsed(&self, entry: &Entry) -> Status {
        let ttl = Some(entry.freshness().ttl(self.shard.now()));
        Status { is_collapsed: true, ttl, ..Status::forwarded(Forward::UriMiss) }
    }

    /// Asks the origin, for everybody.
    async fn fetch(&mut self, mut fill: Fill<'_>, record: &mut Record) -> Result<()> {
        let (shard, visit) = (self.shard, self.visit);
        let wants_whole = self.question.wants_whole(fill.stale.as_deref());
        let may_share = self.question.may_share && wants_whole;
        // Where it is known that nothing will be stored, the client's conditions are the origin's.
        let is_for_all = |guard: &Guard| guard.ticket().is_some_and(|ticket| !ticket.is_solo);
        let is_shared = may_share && fill.ticket.borrow().as_ref().is_some_and(is_for_all);
        let stale = fill.stale.clone().filter(|one| validate::can_validate(one));
        let fields = &mut self.work.request.fields;
        // What is fetched for everybody is fetched whole; each client's conditions are ours to answer.
        if is_shared || (stale.is_some() && wants_whole) {
            validate::strip(fields);
            if let Some(stale) = &stale {
                validate::ask_about(stale, fields);
                fill.has_asked = true;
            }
        }
        let mut result = forward::run(shard, visit.to(&fill), self.work, self.down, record).await;
        if matches!(*fill.taken.borrow(), Some(Taken::Again)) {
            // The origin has confirmed what we do not have: once more, without conditions.
            fill.taken.replace(None);
            fill.has_asked = false;
            validate::strip(&mut self.work.request.fields);
            self.work.response.clear();
            let to = To { is_prepared: true, ..visit.to(&fill) };
            result = forward::run(shard, to, self.work, self.down, record).await;
        }
        if let Err(kind) = result {
            self.failed(&fill, kind)?;
        }
        self.give(&fill).await
    }

    /// Serves what the answer has become, if the cache took it.
    async fn give(&self, fill: &Fill<'_>) -> Result<()> {
        let (status, own) = (fill.status.get(), fill.own.take());
        let taken = fill.taken.take();
        match taken {
            None | Some(Taken::Again) => Ok(()),
            Some(Taken::Serve(entry)) => self.serve(&entry, status, &own).await,
            Some(Taken::Follow(entry, place)) => self.follow(&entry, place, status, &own).await,
        }
    }

    /// There was no answer: what is stored may stand in for it (RFC 5861 section 4).
    fn failed(&self, fill: &Fill<'_>, kind: Kind) -> Result<()> {
        let is_begun = self.down.answer.begun.get();
        if !is_begun && !kind.is_clients() && fill.serves_stale(self.shard.now()) {
            fill.take_stale(self.shard.now(), "stale-if-error");
            return Ok(());
        }
        if !is_begun && kind.is_cut_off() && fill.serves_cut_off(self.shard.now()) {
            fill.take_stale(self.shard.now(), "disconnected");
            return Ok(());
        }
        // RFC 9111 section 5.2.2.2: what cannot be confirmed must not be served.
        let is_unconfirmed = !is_begun && fill.stale.is_some() && kind.is_endpoints();
        let kind = if is_unconfirmed { Kind::NotValidated } else { kind };
        if let Some(guard) = fill.ticket.take() {
            guard.fail(kind);
        }
        Err(kind)
    }

    /// Serves an entry.
    async fn serve(&self, entry: &Arc<Entry>, status: Status, own: &[u8]) -> Result<()> {
        let answer = match self.way {
            Way::Open => {
                let is_get = self.work.request.method == Method::Get;
                validate::answer_of(entry, &self.question.fields, is_get)
            }
            // The conditions of an unsafe request were the origin's to judge.
            Way::Bypass | Way::Unsafe => Answer::Whole,
        };
        let request = &self.work.request;
        let order = Order { entry, request, answer: &answer, status, growing: None, own };
        let parcel = deliver::parcel(self.shard, self.down, order)?;
        deliver::send(self.shard, parcel, self.down).await
    }

    /// How an answer from what is on its way into the cache is framed.
    fn growing_framing(&self, entry: &Entry) -> Framing {
        match (entry.body_len(), self.work.request.version) {
            (Some(len), _) => Framing::Length(len),
            (None, Version::Http10) => Framing::UntilClose,
            (None, _) => Framing::Chunked,
        }
    }

    /// What this client gets of what is on its way into the cache.
    fn growing_answer(&self, entry: &Entry) -> Answer {
        match self.way {
            Way::Open => validate::answer(entry, &self.question.fields, true, None),
            Way::Bypass | Way::Unsafe => Answer::Whole,
        }
    }

    fn reads_body(&self, entry: &Entry) -> bool {
        self.work.request.method != Method::Head && self.growing_answer(entry) == Answer::Whole
    }

    /// Sends the head of what is on its way into the cache.
    async fn begin_growing(&self, entry: &Arc<Entry>, status: Status, own: &[u8]) -> Result<()> {
        let (answer, request) = (self.growing_answer(entry), &self.work.request);
        let growing = Some(self.growing_framing(entry));
        let order = Order { entry, request, answer: &answer, status, growing, own };
        let parcel = deliver::parcel(self.shard, self.down, order)?;
        deliver::send(self.shard, parcel, self.down).await
    }

    /// Serves what is on its way into the cache, as it comes.
    async fn follow(
        &self,
        entry: &Arc<Entry>,
        mut place: Place,
        status: Status,
        own: &[u8],
    ) -> Result<()> {
        let (shard, framing) = (self.shard, self.growing_framing(entry));
        self.begin_growing(entry, status, own).await?;
        if !self.reads_body(entry) {
            return Ok(());
        }
        let idle = self.visit.route.timeouts.body_idle;
        let mut writer = BodyWriter::downstream(self.down.stream, &shard.buffers, framing, idle);
        loop {
            let next = shard.desk.next(&place.flow, &place.node, idle).await;
            let Some(next) = next.map_err(|()| Kind::UpstreamBodyCutShort)? else {
                return writer.end(None, shard.now()).await;
            };
            place.go(next);
            piece(shard, &mut writer, framing, &place.node).await?;
            place.passed();
            self.down.answer.sent.set(writer.sent);
        }
    }
}

/// One piece: from where it lies, if nothing has to stand around it.
async fn piece(
    shard: &Shard,
    writer: &mut BodyWriter<'_>,
    framing: Framing,
    node: &Node,
) -> Result<()> {
    if framing != Framing::Chunked {
        return writer.shared(Shared::new(&node.data, 0..node.data.len()), shard.now()).await;
    }
    for part in node.data.chunks(60 * 1024) {
        let mut buffer = shard.buffers.take(Size::fitting(part.len()));
        buffer.append(part);
        writer.data(buffer, false, shard.now()).await?;
    }
    Ok(())
}
