//! Where a core asks for entries of the cache: its own, those it keeps near, or by message those of
//! another core. Lives as long as the worker, whatever plan it serves.

mod follow;
mod follower;
mod purge;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::base::clock::{self, Moment};
use crate::base::id::ShardId;
use crate::base::limits::CACHE_ANSWER_PATIENCE;
use crate::base::limits::{CACHE_LATE_MAX, NEAR_ENTRIES, REFRESHES_MAX};
use crate::cache::directive::Directives;
use crate::cache::disk_index::{DiskNews, DiskOrder};
use crate::cache::entry::Entry;
use crate::cache::fill_stream::{FillStream, Start};
use crate::cache::freshness::StoredUse;
use crate::cache::key;
use crate::cache::ledger::Ledger;
use crate::cache::near::Near;
use crate::cache::policy::NotStored;
use crate::cache::purge::Purge;
use crate::cache::shard::{CacheRequest, CacheShard, Decision, Seen, Ticket};
use crate::cache::status::Forward;
use crate::message::fields::Fields;
use crate::net::disk::DiskHandle;
use crate::net::mailbox::Sender;
use follower::Follower;

/// What one core tells another about the cache.
#[derive(Debug)]
pub enum CacheMessage {
    Ask {
        question: Box<CacheRequest>,
        seen: Seen,
        from: ShardId,
        number: u64,
    },
    Decided {
        number: u64,
        found: Decision,
    },
    Commit {
        ticket: Ticket,
        entry: Arc<Entry>,
        is_same: bool,
    },
    Release {
        ticket: Ticket,
        why: NotStored,
        is_marked: bool,
    },
    Fail {
        ticket: Ticket,
    },
    Replace {
        hash: u64,
        old: Arc<Entry>,
        new: Option<Arc<Entry>>,
    },
    Purge {
        purge: Purge,
        on_disk: Option<u64>,
        from: ShardId,
        number: u64,
    },
    Purged {
        number: u64,
        count: Result<usize, Unsure>,
    },
    /// The disk has something to say.
    Disk(DiskNews),
}

/// Not every core has confirmed something in time.
#[derive(Clone, Copy, Debug)]
pub struct Unsure;

/// What shards tell each other by.
pub type Posts = Arc<[Sender<CacheMessage>]>;

/// An answer that a task waits for.
struct Waiting {
    waker: Waker,
    by: Moment,
    said: Option<CacheSaid>,
}

enum CacheSaid {
    Decided(Decision),
    Purged(Result<usize, Unsure>),
    Noted,
}

/// One core's disk to the cache.
pub struct CacheHandle {
    shard: ShardId,
    ledger: Arc<Ledger>,
    posts: Posts,
    disk: Option<DiskHandle>,
    part: RefCell<CacheShard>,
    near: RefCell<Near>,
    waiting: RefCell<HashMap<u64, Waiting, Xxh3DefaultBuilder>>,
    followers: RefCell<Vec<Follower>>,
    next: Cell<u64>,
    /// What found a full mailbox, for each shard in order.
    late: RefCell<Vec<VecDeque<CacheMessage>>>,
    /// Stale entries that are being fetched anew.
    refreshes: Cell<u32>,
    now: Cell<Moment>,
}

impl CacheHandle {
    /// With nothing stored. One post for each shard. `has_files`: it may have files.
    #[must_use]
    pub fn new(
        shard: ShardId,
        ledger: Arc<Ledger>,
        posts: Posts,
        disk: Option<DiskHandle>,
        has_files: bool,
    ) -> Rc<Self> {
        // One core has no other to be near to.
        let near = if posts.len() > 1 { NEAR_ENTRIES } else { 0 };
        let number = usize::from(shard.0);
        let books = disk.as_ref().filter(|_| has_files).map(|disk| {
            disk.list(number);
            Arc::clone(&disk.books)
        });
        // Another worker may have had this mailbox: answers to its questions are not ours.
        let first = clock::micros() << 12;
        let late = posts.iter().map(|_| VecDeque::new()).collect();
        Rc::new(Self {
            part: RefCell::new(CacheShard::new(number, Arc::clone(&ledger), books, first)),
            shard,
            ledger,
            posts,
            disk,
            near: RefCell::new(Near::new(near)),
            waiting: RefCell::default(),
            followers: RefCell::default(),
            next: Cell::new(first),
            late: RefCell::new(late),
            refreshes: Cell::new(0),
            now: Cell::new(clock::monotonic()),
        })
    }

    /// The books that all cores share.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Places a key.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        key::hash(key, self.ledger.seed)
    }

    fn owner(&self, hash: u64) -> usize {
        key::owner(hash, self.posts.len())
    }

    fn is_own(&self, hash: u64) -> bool {
        self.owner(hash) == usize::from(self.shard.0)
    }

    // === asking ===

    /// Hands an entry that can be served at once to `serve`: one of this core, or one that it keeps
    /// near. Neither waits nor allocates.
    pub fn quick<T>(
        &self,
        (hash, key): (u64, &[u8]),
        fields: &Fields,
        wants: &Directives,
        now: Moment,
        serve: impl FnOnce(&Arc<Entry>) -> T,
    ) -> Option<T> {
        let (mut part, mut near);
        let entry = if self.is_own(hash) {
            part = self.part.borrow_mut();
            part.find(hash, key, fields, now).0
        } else {
            near = self.near.borrow_mut();
            near.find(hash, key, fields, self.ledger.epoch())
        };
        let entry = entry.filter(|entry| !entry.is_partial())?;
        let is_good = entry.freshness().judge(wants, 0, now) == StoredUse::Fresh;
        is_good.then(|| {
            entry.warm();
            serve(entry)
        })
    }

    /// What is to be done for a request.
    pub async fn ask(&self, question: &CacheRequest, seen: &Seen, now: Moment) -> Decision {
        if self.is_own(question.hash) {
            return self.own(|part| part.ask(question, seen, now));
        }
        let epoch = self.ledger.epoch();
        let number = self.number(now);
        let (from, question_copy) = (self.shard, Box::new(question.clone()));
        let seen = seen.clone();
        let message = CacheMessage::Ask { question: question_copy, seen, from, number };
        let pass = Decision::Pass { stale: None, why: Forward::Bypass };
        if self.post(self.owner(question.hash), message).is_err() {
            self.waiting.borrow_mut().remove(&number);
            return pass;
        }
        match self.answer(number).await {
            Some(CacheSaid::Decided(found)) => {
                if found.entry().is_some_and(|entry| entry.key() != question.key) {
                    // It answers another question.
                    self.refuse(found);
                    return pass;
                }
                if let Decision::Use(entry, _) = &found {
                    self.near.borrow_mut().offer(question.hash, entry, epoch);
                }
                found
            }
            _ => pass,
        }
    }

    /// The right to store something that no request has asked for; `None` if one has already.
    pub async fn reserve(&self, question: &CacheRequest, now: Moment) -> Option<Ticket> {
        let alone = CacheRequest { is_partly: true, ..question.clone() };
        let seen = Seen { disk: true, ..Seen::default() };
        match self.ask(&alone, &seen, now).await {
            Decision::Fetch { ticket, .. } => Some(ticket),
            found => {
                self.refuse(found);
                None
            }
        }
    }

    /// What was to be fetched will not be.
    fn refuse(&self, found: Decision) {
        if let Decision::Fetch { ticket, .. } | Decision::Refresh(_, ticket) = found {
            ticket.stream.begin(Start::Failed(crate::base::error::Kind::ClientGone));
            self.fail(&ticket);
        }
    }

    /// One more stale entry is fetched anew; false if there are enough.
    #[must_use]
    pub fn take_refresh(&self) -> bool {
        let may = self.refreshes.get() < REFRESHES_MAX;
        self.refreshes.set(self.refreshes.get() + u32::from(may));
        may
    }

    /// One less.
    pub fn refreshed(&self) {
        self.refreshes.set(self.refreshes.get().saturating_sub(1));
    }

    /// The number of a message whose answer will be waited for.
    fn number(&self, now: Moment) -> u64 {
        let number = self.next.get() + 1;
        self.next.set(number);
        let (by, waker) = (now.after(CACHE_ANSWER_PATIENCE), Waker::noop().clone());
        self.waiting.borrow_mut().insert(number, Waiting { waker, by, said: None });
        number
    }

    /// Waits for the answer; `None` if it does not come in time.
    async fn answer(&self, number: u64) -> Option<CacheSaid> {
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            let Some(one) = waiting.get_mut(&number) else { return Poll::Ready(None) };
            if one.said.is_none() && self.now.get() < one.by {
                one.waker.clone_from(context.waker());
                return Poll::Pending;
            }
            Poll::Ready(waiting.remove(&number).and_then(|one| one.said))
        })
        .await
    }

    // === fetching ===

    /// A fetch has brought a whole entry; `is_same` if it has only confirmed one. What others see of
    /// it first is this.
    pub fn commit(&self, ticket: &Ticket, entry: Arc<Entry>, is_same: bool) {
        ticket.stream.begin(Start::Stored(Arc::clone(&entry)));
        if self.is_own(ticket.hash) {
            let now = self.now.get();
            self.own(|part| part.commit(ticket, &entry, is_same, now));
        } else {
            let message = CacheMessage::Commit { ticket: ticket.clone(), entry, is_same };
            self.send(self.owner(ticket.hash), message);
        }
        self.tell(&ticket.stream);
    }

    /// A fetch has brought what cannot be stored.
    pub fn release(&self, ticket: &Ticket, why: NotStored, is_marked: bool) {
        if self.is_own(ticket.hash) {
            let now = self.now.get();
            self.part.borrow_mut().release(ticket.hash, ticket.id, why, is_marked, now);
        } else {
            let message = CacheMessage::Release { ticket: ticket.clone(), why, is_marked };
            self.send(self.owner(ticket.hash), message);
        }
        ticket.stream.begin(Start::Released(why));
        self.tell(&ticket.stream);
    }

    /// A fetch has come to nothing. A request from now on begins anew.
    pub fn fail(&self, ticket: &Ticket) {
        if self.is_own(ticket.hash) {
            self.part.borrow_mut().fail(ticket.hash, ticket.id);
        } else {
            self.send(self.owner(ticket.hash), CacheMessage::Fail { ticket: ticket.clone() });
        }
        self.tell(&ticket.stream);
    }

    /// Something else takes an entry's place, or nothing.
    pub fn replace(&self, hash: u64, old: &Arc<Entry>, new: Option<Arc<Entry>>) {
        if self.is_own(hash) {
            self.own(|part| part.replace(hash, old, new));
        } else {
            self.send(self.owner(hash), CacheMessage::Replace { hash, old: Arc::clone(old), new });
        }
    }

    /// There is news of a fill stream: wakes the requests that follow it, here and elsewhere.
    pub fn tell(&self, stream: &FillStream) {
        for shard in stream.followers() {
            if shard == usize::from(self.shard.0) {
                self.wake_followers();
            } else {
                self.posts[shard].notify();
            }
        }
    }

    // === the disk ===

    /// Does something to our own part, and hands over what it orders of the disk.
    fn own<T>(&self, act: impl FnOnce(&mut CacheShard) -> T) -> T {
        let mut part = self.part.borrow_mut();
        let result = act(&mut part);
        let mut heard = Vec::new();
        if let (Some(disk), Some(disk_index)) = (&self.disk, &mut part.disk_index)
            && disk_index.has_orders()
        {
            let mut is_full = false;
            for order in disk_index.take_orders() {
                if is_full {
                    disk_index.put_back(order);
                    continue;
                }
                match disk.order(usize::from(self.shard.0), order) {
                    Ok(()) => {}
                    Err(DiskOrder::Load(load)) => heard.push(load),
                    Err(DiskOrder::Write { hash, .. }) => disk_index.not_written(hash),
                    Err(order @ DiskOrder::Remove { .. }) => {
                        is_full = true;
                        disk_index.put_back(order);
                    }
                }
            }
        }
        for load in heard {
            // The disk is too busy to be asked.
            if let Some(stream) = part.not_loaded(load.hash, load.id) {
                self.tell(&stream);
            }
        }
        result
    }

    // === other cores ===

    /// Sends what must arrive: later, if there is no room now, and in order.
    fn send(&self, shard: usize, message: CacheMessage) {
        let late = &mut self.late.borrow_mut()[shard];
        let sent = if late.is_empty() { self.posts[shard].send(message) } else { Err(message) };
        if let Err(message) = sent
            && late.len() < CACHE_LATE_MAX
        {
            late.push_back(message);
        }
    }

    /// Sends what is of no use later.
    fn post(&self, shard: usize, message: CacheMessage) -> Result<(), CacheMessage> {
        self.posts[shard].send(message)
    }

    /// Sends again what found no room.
    fn send_late(&self) {
        for (post, late) in self.posts.iter().zip(self.late.borrow_mut().iter_mut()) {
            while let Some(message) = late.pop_front() {
                if let Err(message) = post.send(message) {
                    late.push_front(message);
                    break;
                }
            }
        }
    }

    /// Does what another core asks, or hears its answer.
    pub fn hear(&self, message: CacheMessage) {
        let now = self.now.get();
        match message {
            CacheMessage::Ask { question, seen, from, number } => {
                let found = self.own(|part| part.ask(&question, &seen, now));
                let answer =
                    self.post(usize::from(from.0), CacheMessage::Decided { number, found });
                if let Err(CacheMessage::Decided { found, .. }) = answer {
                    self.refuse(found);
                }
            }
            CacheMessage::Decided { number, found } => self.said(number, CacheSaid::Decided(found)),
            CacheMessage::Commit { ticket, entry, is_same } => {
                self.own(|part| part.commit(&ticket, &entry, is_same, now));
            }
            CacheMessage::Release { ticket, why, is_marked } => {
                self.part.borrow_mut().release(ticket.hash, ticket.id, why, is_marked, now);
            }
            CacheMessage::Fail { ticket } => self.part.borrow_mut().fail(ticket.hash, ticket.id),
            CacheMessage::Replace { hash, old, new } => {
                self.own(|part| part.replace(hash, &old, new));
            }
            CacheMessage::Purge { purge, on_disk, from, number } => {
                let count = self.purge_own(&purge, on_disk, now);
                self.send(usize::from(from.0), CacheMessage::Purged { number, count });
            }
            CacheMessage::Purged { number, count } => self.said(number, CacheSaid::Purged(count)),
            CacheMessage::Disk(DiskNews::Noted { number }) => self.said(number, CacheSaid::Noted),
            CacheMessage::Disk(news) => {
                let stream = self.own(|part| part.hear(news, now));
                stream.into_iter().for_each(|stream| self.tell(&stream));
            }
        }
    }

    fn said(&self, number: u64, said: CacheSaid) {
        if let Some(one) = self.waiting.borrow_mut().get_mut(&number) {
            one.said = Some(said);
            one.waker.wake_by_ref();
        } else if let CacheSaid::Decided(found) = said {
            // The task that asked has given up.
            self.refuse(found);
        }
    }

    /// The request that waited has gone in the middle of it: what it was to do will not be done.
    fn forget_the_gone(&self, now: Moment) {
        let is_gone = |_: &u64, one: &mut Waiting| one.by.after(CACHE_ANSWER_PATIENCE) <= now;
        let gone: Vec<Waiting> =
            self.waiting.borrow_mut().extract_if(is_gone).map(|(_, one)| one).collect();
        for one in gone {
            if let Some(CacheSaid::Decided(found)) = one.said {
                self.refuse(found);
            }
        }
    }

    /// Ten times a second.
    pub fn tick(&self, now: Moment) {
        self.now.set(now);
        self.send_late();
        self.own(|part| part.tick(now));
        self.wake_if(|one| one.by <= now || one.stream.version() != one.seen);
        for one in self.waiting.borrow().values().filter(|one| one.by <= now) {
            one.waker.wake_by_ref();
        }
        self.forget_the_gone(now);
        if now.0 % 1000 < 100 {
            self.near.borrow_mut().sweep(self.ledger.epoch());
        }
    }
}
