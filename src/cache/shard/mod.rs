//! What one shard decides about the keys that it owns: answer, fetch, or wait for the one that fetches
//! already. One fetch at a time for a key in the whole process (exam E11), and none of what
//! was purged meanwhile is kept (E22).

mod disk;
mod purging;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::base::clock::Moment;
use crate::base::limits::FILLS_OF_URL_MAX;
use crate::base::limits::{FILL_ABANDONED, MARK_LASTS, MARKS_MAX, REFRESH_EVERY};
use crate::cache::directive::Directives;
use crate::cache::disk_index::{Books, DiskIndex};
use crate::cache::entry::Entry;
use crate::cache::fill_stream::{FillStream, Node, Start};
use crate::cache::freshness::{Stale, StoredUse};
use crate::cache::ledger::Ledger;
use crate::cache::policy::NotStored;
use crate::cache::purge::Log;
use crate::cache::status::Forward;
use crate::cache::store::Store;
use crate::cache::validate;
use crate::cache::vary::{Selecting, Selection};
use crate::message::fields::Fields;

/// A request, as far as it matters here.
#[derive(Clone, Debug)]
pub struct CacheRequest {
    pub key: Vec<u8>,
    pub hash: u64,
    /// As the client sent them.
    pub fields: Fields,
    pub wants: Directives,
    pub grace: u32,
    /// Its response may be for every client: others may wait for it.
    pub may_share: bool,
    /// HEAD, or a part: nothing is fetched for others.
    pub is_partly: bool,
    /// A part.
    pub has_range: bool,
}

impl CacheRequest {
    /// Whether the whole is fetched for it, beside what is stored: what a part would be taken from is
    /// asked about, not the part.
    #[must_use]
    pub fn wants_whole(&self, stale: Option<&Entry>) -> bool {
        let helps = |one: &Entry| !one.is_partial() && validate::can_validate(one);
        !self.is_partly || (self.has_range && stale.is_some_and(helps))
    }
}

/// What a request has been shown already, and had no use for.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// A response for the same key that did not suit it: others that are asked for may not either.
    pub other: Option<Arc<Entry>>,
    /// The disk was looked at.
    pub disk: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Serve this.
    Use(Arc<Entry>, StoredUse),
    /// Serve this, and fetch it anew meanwhile.
    Refresh(Arc<Entry>, Ticket),
    /// Fetch it, and ask whether what is stored is still good.
    Fetch { ticket: Ticket, stale: Option<Arc<Entry>>, why: Forward },
    /// Another request fetches it already: begin to read here.
    Follow(Arc<FillStream>, Arc<Node>),
    /// It may be on disk: ask again when this is known.
    Load(Arc<FillStream>),
    /// Ask the origin for yourself, and store nothing.
    Pass { stale: Option<Arc<Entry>>, why: Forward },
    /// The client wants no request to the origin.
    Absent,
}

impl Decision {
    /// The stored response that it names.
    #[must_use]
    pub const fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Use(entry, _) | Self::Refresh(entry, _) => Some(entry),
            Self::Fetch { stale, .. } | Self::Pass { stale, .. } => stale.as_ref(),
            Self::Follow(..) | Self::Load(_) | Self::Absent => None,
        }
    }
}

/// The right to fetch something.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub id: u64,
    pub hash: u64,
    pub stream: Arc<FillStream>,
    pub front: Arc<Node>,
    /// No other request is answered by it, but for what it leaves in the store.
    pub is_solo: bool,
}

/// A fetch under way.
#[derive(Debug)]
struct RunningFill {
    id: u64,
    key: Vec<u8>,
    fields: Fields,
    /// What its request has in the fields that were thought to select its response.
    asked: Selecting,
    stream: Arc<FillStream>,
    front: Arc<Node>,
    begun: Moment,
    /// The last wide purge before it began.
    purges: u32,
    /// Its URL was purged, or invalidated.
    is_doomed: bool,
    /// No request waits for it.
    is_solo: bool,
    /// It is the disk that is asked.
    is_load: bool,
}

impl RunningFill {
    /// What its request has in the fields that this names.
    fn like(&mut self, selecting: &[u8]) -> &[u8] {
        let mut asked = Selection::again(&self.fields, &mut self.asked);
        asked.like(selecting);
        &self.asked
    }
}

/// What one shard owns of the cache.
#[derive(Debug)]
pub struct CacheShard {
    shard: usize,
    ledger: Arc<Ledger>,
    pub store: Store,
    /// What is on disk, if anything is ever written there.
    pub disk_index: Option<DiskIndex>,
    fills: HashMap<u64, Vec<RunningFill>, Xxh3DefaultBuilder>,
    marks: HashMap<u64, Moment, Xxh3DefaultBuilder>,
    mark_order: VecDeque<u64>,
    /// What was fetched anew a moment ago, well or not.
    refreshes: HashMap<u64, Moment, Xxh3DefaultBuilder>,
    purges: Log,
    /// The last purge that all entries had been held against when the sweep began.
    sweeping: u32,
    next_id: u64,
    /// Memory for what a request has in the fields that select responses.
    asked: Selecting,
}

impl CacheShard {
    /// An empty one. Its fetches are numbered from `first` on, so that none is taken for one of a part
    /// that was there before.
    #[must_use]
    pub fn new(shard: usize, ledger: Arc<Ledger>, books: Option<Arc<Books>>, first: u64) -> Self {
        Self {
            shard,
            disk_index: books.map(|books| DiskIndex::new(shard, books)),
            store: Store::new(ledger.seed),
            ledger,
            fills: HashMap::default(),
            marks: HashMap::default(),
            mark_order: VecDeque::new(),
            refreshes: HashMap::default(),
            purges: Log::default(),
            sweeping: 0,
            next_id: first,
            asked: Selecting::new(),
        }
    }

    /// The entry for a request, if one is stored, and whether others are under the same key.
    pub fn find(
        &mut self,
        hash: u64,
        key: &[u8],
        fields: &Fields,
        now: Moment,
    ) -> (Option<&Arc<Entry>>, bool) {
        if !self.purges.is_empty() {
            self.hold_against_purges(hash, key, now);
        }
        self.store.find(hash, key, fields)
    }

    /// What is to be done for a request.
    pub fn ask(&mut self, question: &CacheRequest, seen: &Seen, now: Moment) -> Decision {
        let CacheRequest { key, hash, fields, wants, grace, .. } = question;
        let (entry, has_others) = self.find(*hash, key, fields, now);
        let entry = entry.map(Arc::clone);
        let miss = if has_others { Forward::VaryMiss } else { Forward::UriMiss };
        let Some(entry) = entry else {
            if !seen.disk
                && let Some(stream) = self.look_on_disk(question, now)
            {
                return Decision::Load(stream);
            }
            let hint = seen.other.as_ref();
            let other = self.store.variants(*hash, key).find(|one| one.key() == key).cloned();
            let hint = hint.or(other.as_ref()).map(|one| one.selecting());
            return self.fetch(question, None, miss, hint, now);
        };
        let hint = Some(entry.selecting());
        if entry.is_partial() {
            let is_fresh = entry.freshness().judge(wants, 0, now) == StoredUse::Fresh;
            if is_fresh && question.has_range && validate::has_part(&entry, fields) {
                entry.warm();
                return Decision::Use(entry, StoredUse::Fresh);
            }
            return self.fetch(question, Some(entry.clone()), Forward::Partial, hint, now);
        }
        match entry.freshness().judge(wants, *grace, now) {
            StoredUse::Validate => {
                let freshness = entry.freshness();
                let is_fresh = freshness.ttl(now) > 0 && freshness.stale != Stale::Always;
                let why = if is_fresh { Forward::Request } else { Forward::Stale };
                self.fetch(question, Some(entry.clone()), why, hint, now)
            }
            StoredUse::WhileRevalidating => {
                let is_tried = self.refreshes.get(hash).is_some_and(|until| now < *until);
                let is_tried = is_tried || self.is_crowded(*hash);
                if is_tried || self.fill_for(question, hint, now).is_some() {
                    return Decision::Use(entry, StoredUse::WhileRevalidating);
                }
                self.refreshes.insert(*hash, now.after(REFRESH_EVERY));
                let ticket = self.begin(question, false, now);
                Decision::Refresh(entry, ticket)
            }
            good => {
                entry.warm();
                Decision::Use(entry, good)
            }
        }
    }

    fn fetch(
        &mut self,
        question: &CacheRequest,
        stale: Option<Arc<Entry>>,
        why: Forward,
        hint: Option<&[u8]>,
        now: Moment,
    ) -> Decision {
        if question.wants.only_if_cached {
            return Decision::Absent;
        }
        if self.is_crowded(question.hash) {
            return Decision::Pass { stale, why };
        }
        if !question.wants_whole(stale.as_deref()) {
            let ticket = self.begin(question, true, now);
            return Decision::Fetch { ticket, stale, why };
        }
        // A client that wants it from the origin does not want what another asked for a while ago.
        let may_follow = why != Forward::Request;
        if may_follow && let Some(fill) = self.fill_for(question, hint, now) {
            return Decision::Follow(Arc::clone(&fill.stream), Arc::clone(&fill.front));
        }
        let is_marked = self.marks.get(&question.hash).is_some_and(|until| now < *until);
        let is_solo = is_marked || !question.may_share || !may_follow;
        let ticket = self.begin(question, is_solo, now);
        Decision::Fetch { ticket, stale, why }
    }

    /// A fetch that a request can wait for.
    fn fill_for(
        &mut self,
        question: &CacheRequest,
        hint: Option<&[u8]>,
        now: Moment,
    ) -> Option<&RunningFill> {
        let last = self.purges.last();
        let mut asked = Selection::new(&question.fields, &mut self.asked);
        let fills = self.fills.get_mut(&question.hash)?;
        let at = fills.iter_mut().rposition(|fill| {
            let is_open = !fill.is_solo && !fill.is_load && !fill.is_doomed;
            // What began before a wide purge may be what it means.
            is_open
                && fill.key == question.key
                && fill.purges == last
                && match fill.stream.start() {
                    None => {
                        now < fill.begun.after(FILL_ABANDONED)
                            && hint.is_none_or(|hint| asked.like(hint) == fill.like(hint))
                    }
                    Some(Start::Growing(entry)) => asked.suits(entry.selecting()),
                    // Its end has not come here yet, or was lost: what it has brought ages.
                    Some(Start::Stored(entry)) => {
                        asked.suits(entry.selecting())
                            && entry.freshness().judge(&question.wants, 0, now) == StoredUse::Fresh
                    }
                    Some(
                        Start::Released(_) | Start::Failed(_) | Start::Stands(_) | Start::Looked(_),
                    ) => false,
                }
        })?;
        fills.get(at)
    }

    /// There are as many fetches of this URL under way as there may be.
    fn is_crowded(&self, hash: u64) -> bool {
        self.fills.get(&hash).is_some_and(|fills| fills.len() >= FILLS_OF_URL_MAX)
    }

    fn begin(&mut self, question: &CacheRequest, is_solo: bool, now: Moment) -> Ticket {
        self.next_id += 1;
        let id = self.next_id;
        let (stream, front) = FillStream::new(id, self.ledger.shards());
        let fill = RunningFill {
            id,
            key: question.key.clone(),
            fields: question.fields.clone(),
            asked: Selecting::new(),
            stream: Arc::clone(&stream),
            front: Arc::clone(&front),
            begun: now,
            purges: self.purges.last(),
            is_doomed: false,
            is_solo,
            is_load: false,
        };
        self.fills.entry(question.hash).or_default().push(fill);
        Ticket { id, hash: question.hash, stream, front, is_solo }
    }

    fn end(&mut self, hash: u64, id: u64) -> Option<RunningFill> {
        let fills = self.fills.get_mut(&hash)?;
        let at = fills.iter().position(|fill| fill.id == id)?;
        let fill = fills.swap_remove(at);
        if fills.is_empty() {
            self.fills.remove(&hash);
        }
        Some(fill)
    }

    /// A fetch has brought a whole entry; `is_same` if it has only confirmed one. False if it is not
    /// kept: it was purged meanwhile.
    pub fn commit(
        &mut self,
        ticket: &Ticket,
        entry: &Arc<Entry>,
        is_same: bool,
        now: Moment,
    ) -> bool {
        let hash = ticket.hash;
        if !self.accept(hash, ticket.id, entry, now) {
            entry.kill();
            return false;
        }
        self.marks.remove(&hash);
        if entry.is_partial() && self.has_whole_of(hash, entry) {
            entry.kill();
            return false;
        }
        self.store.put(hash, Arc::clone(entry));
        if let Some(disk_index) = &mut self.disk_index {
            disk_index.store(hash, entry, is_same, now);
        }
        self.trim();
        entry.is_live()
    }

    /// A part of what is stored whole is no news (RFC 9111 section 3.4).
    fn has_whole_of(&self, hash: u64, part: &Entry) -> bool {
        self.store.variants(hash, part.key()).any(|one| {
            one.key() == part.key()
                && one.selecting() == part.selecting()
                && !one.is_partial()
                && validate::is_part_of(part, one)
        })
    }

    /// Ends a fetch. False if what it has brought was purged meanwhile, or is something else.
    fn accept(&mut self, hash: u64, id: u64, entry: &Entry, now: Moment) -> bool {
        let Some(fill) = self.end(hash, id) else { return false };
        let verdict = self.purges.verdict(entry, fill.purges);
        if fill.is_doomed || verdict == Some(false) {
            return false;
        }
        if verdict == Some(true) {
            entry.demote(now);
        }
        entry.set_purges(self.purges.last());
        fill.key == entry.key()
    }

    /// A fetch has brought something that cannot be stored; `is_marked` if that will be so again.
    pub fn release(&mut self, hash: u64, id: u64, why: NotStored, is_marked: bool, now: Moment) {
        if let Some(fill) = self.end(hash, id) {
            fill.stream.begin(Start::Released(why));
            if is_marked {
                self.mark(hash, now);
            }
        }
    }

    /// A fetch has failed; the stream tells those that follow.
    pub fn fail(&mut self, hash: u64, id: u64) {
        self.end(hash, id);
    }

    fn mark(&mut self, hash: u64, now: Moment) {
        if self.marks.insert(hash, now.after(MARK_LASTS)).is_none() {
            self.mark_order.push_back(hash);
        }
        while self.mark_order.len() > MARKS_MAX {
            if let Some(oldest) = self.mark_order.pop_front() {
                self.marks.remove(&oldest);
            }
        }
    }

    /// The answer to a HEAD has shown that what is stored is not what is there any more, or that it
    /// is, with these facts (RFC 9111 section 4.3.5).
    pub fn replace(&mut self, hash: u64, old: &Arc<Entry>, new: Option<Arc<Entry>>) {
        let dropped =
            self.store.drop_matching(hash, old.key(), |one| std::ptr::eq(one, old.as_ref()));
        let new = new.filter(|_| dropped > 0);
        if let (Some(disk_index), None) = (&mut self.disk_index, &new) {
            // What is on disk says the same as `old` at best.
            disk_index.remove(hash);
        }
        if let Some(new) = new {
            new.set_purges(old.purges());
            self.store.put(hash, new);
            self.trim();
        }
    }

    /// Tells the ledger how much is stored.
    fn say_used(&self) {
        self.ledger.set_used(self.shard, self.store.bytes(), self.store.large());
    }

    /// Lets entries go while there is too much.
    pub fn trim(&mut self) {
        self.say_used();
        if self.ledger.is_over(self.shard) {
            self.ledger.reclaim(self.shard);
        }
        while self.ledger.is_over(self.shard) && self.store.evict() {
            self.say_used();
        }
    }

    /// Ten times a second.
    pub fn tick(&mut self, now: Moment) {
        if !self.purges.is_empty() {
            self.go_round(now, &mut 0);
        }
        self.store.tidy();
        self.tick_shelf();
        self.refreshes.retain(|_, until| now < *until);
        self.ledger.regret(self.shard, self.store.take_regrets());
        self.trim();
        self.fills.retain(|_, fills| {
            // The tasks that began these are dead, or they would have ended by their own deadlines.
            let limit = |fill: &RunningFill| fill.begun.after(60 * FILL_ABANDONED);
            fills.retain(|fill| now < limit(fill) || Arc::strong_count(&fill.stream) > 1);
            !fills.is_empty()
        });
    }

    /// Fetches under way.
    #[must_use]
    pub fn fills(&self) -> usize {
        self.fills.values().map(Vec::len).sum()
    }
}
