//! A request on a route that caches: answered at once if it can be, else by what the owner of its key says: an
//! entry, another request's fetch to follow, or a fetch of its own.

use std::rc::Rc;
use std::sync::Arc;

use super::cursor::Cursor;
use super::fill::Fill;
use super::guard::FillGuard;
use super::refresh;
use super::state::Exchange;
use super::stored::{self, StoredReply};
use super::visit::{Visit, frame, names_client};
use crate::base::error::{Kind, Result};
use crate::base::limits::{DISK_PATIENCE, FILL_CLIENTS_MAX, FILL_WAITS_MAX};
use crate::cache::directive::{self, Directives};
use crate::cache::entry::Entry;
use crate::cache::fill_stream::{FillStream, Node, Start};
use crate::cache::freshness::StoredUse;
use crate::cache::policy::StorableRequest;
use crate::cache::shard::{CacheRequest, Decision, Seen};
use crate::cache::status::{Forward, Status};
use crate::cache::validate;
use crate::cache::{key, vary};
use crate::config::cache::{CacheRule, Cached};
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, RequestHead};
use crate::message::name::Name;
use crate::shard::Heads;

/// What the cache says.
pub enum Lookup<'a> {
    /// An entry answers it.
    Serve(Arc<Entry>, StoredReply),
    /// What another request fetches answers it; without a cursor, its head does.
    Follow(Arc<Entry>, Option<Cursor>, StoredReply),
    /// The origin is asked, and the cache wants to see the answer.
    Fetch(Box<Fill<'a>>),
}

/// How a request may use the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheUse {
    /// Looked up, and stored.
    Open,
    /// Not at all: the answer is this client's alone.
    Bypass,
    /// It changes what is stored.
    Unsafe,
}

fn way(request: &RequestHead, rule: &CacheRule) -> CacheUse {
    match request.method {
        Method::Get | Method::Head => {}
        method if method.is_safe(request.method_text()) => return CacheUse::Bypass,
        _ => return CacheUse::Unsafe,
    }
    // A GET with a body is answered by what the body says (exam E06).
    let is_plain = request.framing == Framing::None
        && request.upgrade().is_empty()
        && !validate::is_for_origin(&request.fields)
        && !key::is_unkeyed(&request.fields)
        && !key::has_any(request, &rule.bypass);
    if is_plain { CacheUse::Open } else { CacheUse::Bypass }
}

/// The entry that answers a request at once.
#[must_use]
pub fn at_once(ex: &mut Exchange<'_>, cached: &Cached) -> Option<(Arc<Entry>, StoredReply)> {
    let shard = ex.shard;
    let is_secure = ex.client.client.is_secure;
    let Heads { request, key, .. } = &mut *ex.work;
    if way(request, &cached.rule) != CacheUse::Open {
        return None;
    }
    key::write(request, frame(shard, cached.digest, is_secure), &cached.rule, key);
    let hash = shard.cache.hash(key);
    let wants = wants(&request.fields, &cached.rule);
    let now = shard.now();
    shard.cache.quick((hash, key), &request.fields, &wants, now, |entry| {
        let ttl = Some(entry.freshness().ttl(now));
        let status = Status { is_hit: true, ttl, ..Status::default() };
        let is_get = request.method == Method::Get;
        let answer = validate::answer(entry, &request.fields, is_get, entry.body_len());
        (Arc::clone(entry), StoredReply { status, answer, own: Vec::new() })
    })
}

fn wants(fields: &Fields, rule: &CacheRule) -> Directives {
    if rule.ignore_clients { Directives::default() } else { directive::of_request(fields) }
}

/// Looks up what could not be answered at once.
///
/// # Errors
/// What the client wants of the cache cannot be had; another request's fetch has failed for all.
pub async fn find<'a>(ex: &mut Exchange<'_>, visit: Visit<'a>) -> Result<Lookup<'a>> {
    let (shard, rule) = (ex.shard, &visit.cached.rule);
    let way = way(&ex.work.request, rule);
    let mut asked = StorableRequest::of(&ex.work.request.fields, rule);
    asked.has_authorization |= names_client(shard, &ex.work.request.fields);
    let question = question(ex, visit.cached, &asked);
    let why = match way {
        CacheUse::Open => Forward::UriMiss,
        CacheUse::Bypass => Forward::Bypass,
        CacheUse::Unsafe => Forward::Method,
    };
    let status = Status::forwarded(why);
    ex.cache = Some(status);
    if way == CacheUse::Bypass && asked.directives.only_if_cached {
        return Err(Kind::NotCached);
    }
    let mut fill = Box::new(Fill::new(visit, question, asked, status, shard.now()));
    fill.is_open = way == CacheUse::Open;
    if way != CacheUse::Open {
        return Ok(Lookup::Fetch(fill));
    }
    let (waits, seen) = (0, Seen::default());
    Search { ex, visit, fill, waits, seen }.run().await
}

fn question(ex: &mut Exchange<'_>, cached: &Cached, asked: &StorableRequest) -> CacheRequest {
    let (shard, is_secure) = (ex.shard, ex.client.client.is_secure);
    let Heads { request, key, .. } = &mut *ex.work;
    let rule = &cached.rule;
    key::write(request, frame(shard, cached.digest, is_secure), rule, key);
    let is_own = asked.has_authorization || (asked.has_cookie && !rule.cookies);
    CacheRequest {
        hash: shard.cache.hash(key),
        key: key.clone(),
        fields: asked.fields.clone(),
        wants: asked.directives.clone(),
        grace: rule.grace,
        may_share: !is_own && !asked.directives.no_store,
        is_partly: request.method == Method::Head || request.fields.has(Name::Range),
        has_range: request.method == Method::Get && request.fields.has(Name::Range),
    }
}

/// Whether an entry that another request brought answers this one.
fn suits(entry: &Entry, question: &CacheRequest) -> bool {
    !entry.is_partial() && vary::matches(entry.selecting(), &question.fields)
}

/// A lookup that may have to wait.
struct Search<'s, 'x, 'a> {
    ex: &'s mut Exchange<'x>,
    visit: Visit<'a>,
    /// What becomes of it if the origin must be asked.
    fill: Box<Fill<'a>>,
    /// How often it has waited for another request's fetch.
    waits: u32,
    seen: Seen,
}

impl<'a> Search<'_, '_, 'a> {
    async fn run(mut self) -> Result<Lookup<'a>> {
        let shard = self.ex.shard;
        loop {
            match shard.cache.ask(&self.fill.question, &self.seen, shard.now()).await {
                Decision::Follow(stream, front) => {
                    if let Some(found) = self.join(stream, front).await? {
                        return Ok(found);
                    }
                }
                Decision::Load(stream) => {
                    // Found or not, or not in time: the next answer goes without the disk.
                    self.seen.disk = true;
                    let by = shard.now().after(DISK_PATIENCE);
                    if let Some(Start::Looked(Some(entry))) = shard.cache.start(&stream, by).await
                        && self.is_fresh(&entry)
                    {
                        let status = self.hit(&entry, StoredUse::Fresh);
                        return Ok(self.serve(entry, status));
                    }
                }
                found => return self.act(found),
            }
        }
    }

    /// Does what the owner of the key has said.
    fn act(mut self, found: Decision) -> Result<Lookup<'a>> {
        let cache = &self.ex.shard.cache;
        let (stale, why) = match found {
            Decision::Use(entry, how) => {
                let status = self.hit(&entry, how);
                return Ok(self.serve(entry, status));
            }
            Decision::Refresh(entry, ticket) => {
                let guard = FillGuard::new(Rc::clone(cache), ticket);
                refresh::start(self.ex, &self.visit, guard, &entry, &self.fill.question)?;
                let status = self.hit(&entry, StoredUse::WhileRevalidating);
                return Ok(self.serve(entry, status));
            }
            Decision::Absent | Decision::Follow(..) | Decision::Load(_) => {
                return Err(Kind::NotCached);
            }
            Decision::Pass { .. } if self.fill.question.wants.only_if_cached => {
                return Err(Kind::NotCached);
            }
            Decision::Pass { stale, why } => (stale, why),
            Decision::Fetch { ticket, stale, why } => {
                self.fill.ticket = Some(FillGuard::new(Rc::clone(cache), ticket));
                (stale, why)
            }
        };
        self.fill.stale = stale;
        self.fill.status = Status::forwarded(why);
        self.ex.cache = Some(self.fill.status);
        self.fill.ask_about_stale(&mut self.ex.work.request.fields);
        Ok(Lookup::Fetch(self.fill))
    }

    fn serve(&self, entry: Arc<Entry>, status: Status) -> Lookup<'a> {
        let is_get = self.ex.work.request.method == Method::Get;
        let answer = validate::answer_of(&entry, &self.fill.question.fields, is_get);
        Lookup::Serve(entry, StoredReply { status, answer, own: Vec::new() })
    }

    /// Waits for what another request fetches. `None`: it is not for this request after all. Then
    /// it is known what such requests are told apart by.
    async fn join(
        &mut self,
        stream: Arc<FillStream>,
        node: Arc<Node>,
    ) -> Result<Option<Lookup<'a>>> {
        self.waits += 1;
        let shard = self.ex.shard;
        let by = shard.now().after(self.visit.route.timeouts.first_byte);
        match shard.cache.start(&stream, by).await {
            Some(Start::Stored(entry)) if suits(&entry, &self.fill.question) => {
                let status = self.collapsed(&entry);
                Ok(Some(self.serve(entry, status)))
            }
            Some(Start::Growing(entry)) if suits(&entry, &self.fill.question) => {
                self.follow(entry, stream, node).map(Some)
            }
            Some(Start::Stands(entry)) if self.stands(&entry) => {
                let detail = Some("stale-if-error");
                let status = Status { detail, ..self.collapsed(&entry) };
                Ok(Some(self.serve(entry, status)))
            }
            Some(Start::Stored(entry) | Start::Growing(entry)) => {
                self.seen.other = Some(entry);
                Ok(None)
            }
            // Its client has gone, and no other: another may be fetching already.
            Some(Start::Failed(kind)) if kind.blames_client() && self.waits < FILL_CLIENTS_MAX => {
                Ok(None)
            }
            // Each had one more chance: they fail together, not one after the other.
            Some(Start::Failed(kind)) if self.waits >= FILL_WAITS_MAX => Err(kind),
            None => Err(Kind::FirstByteTimeout),
            _ if self.waits > FILL_CLIENTS_MAX => Err(Kind::UpstreamGone),
            _ => Ok(None),
        }
    }

    fn follow(
        &self,
        entry: Arc<Entry>,
        stream: Arc<FillStream>,
        node: Arc<Node>,
    ) -> Result<Lookup<'a>> {
        let status = self.collapsed(&entry);
        let answer = validate::answer(&entry, &self.fill.question.fields, true, None);
        let how = StoredReply { status, answer, own: Vec::new() };
        if !stored::reads_body(self.ex.work.request.method, &how) {
            // Nothing of it is waited for, so nothing of it is held (exam R06).
            return Ok(Lookup::Follow(entry, None, how));
        }
        let cursor = Cursor::new(&self.ex.shard.cache, stream, node).ok_or(Kind::Overloaded)?;
        Ok(Lookup::Follow(entry, Some(cursor), how))
    }

    /// Whether an entry can be served at once.
    fn is_fresh(&self, entry: &Entry) -> bool {
        let question = &self.fill.question;
        let judged = entry.freshness().judge(&question.wants, 0, self.ex.now());
        suits(entry, question) && judged == StoredUse::Fresh
    }

    /// Whether what is stored may stand in for an answer that did not come, for this request too.
    fn stands(&self, entry: &Entry) -> bool {
        let (now, question) = (self.ex.now(), &self.fill.question);
        let freshness = entry.freshness();
        let grace_down = self.visit.cached.rule.grace_down;
        suits(entry, question)
            && (freshness.serves_errors(&question.wants, question.grace, now)
                || freshness.serves_cut_off(&question.wants, grace_down, now))
    }

    fn hit(&self, entry: &Entry, how: StoredUse) -> Status {
        let ttl = Some(entry.freshness().ttl(self.ex.now()));
        let detail = match how {
            StoredUse::WhileRevalidating => Some("stale-while-revalidate"),
            _ => self.seen.disk.then_some("disk"),
        };
        Status { is_hit: true, ttl, detail, is_collapsed: self.waits > 0, ..Status::default() }
    }

    fn collapsed(&self, entry: &Entry) -> Status {
        let ttl = Some(entry.freshness().ttl(self.ex.now()));
        Status { is_collapsed: true, ttl, ..Status::forwarded(Forward::UriMiss) }
    }
}
