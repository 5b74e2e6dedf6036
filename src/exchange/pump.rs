//! Reads a body into the cache, at the origin's speed, whichever clients read along: a client that is slow, or
//! leaves, holds up no other.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::guard::FillGuard;
use crate::base::error::{Kind, Result};
use crate::base::id::{ClusterId, EndpointId};
use crate::base::limits::{FLOW_GRACE, FLOW_PATIENCE, FLOW_RATE, FLOW_WINDOW};
use crate::base::limits::{JOINED_MAX, PIECE_MIN};
use crate::cache::entry::{Draft, Entry, Large};
use crate::cache::fill_stream::{FillStream, Node, Position};
use crate::cache::octets::{self, Chunk, Octets};
use crate::cache::policy::NotStored;
use crate::cache::range;
use crate::message::name::Name;
use crate::message::reuse::Proof;
use crate::net::guard::Caught;
use crate::net::runtime::spawn;
use crate::protocol::line::Line;
use crate::shard::Shard;
use crate::upstream::attempt::body_failed;
use crate::upstream::flight::Layover;

/// Reads a body for all requests that follow it.
pub struct Pump {
    pub shard: Rc<Shard>,
    pub cluster: ClusterId,
    pub id: EndpointId,
    pub head: Arc<Entry>,
    /// First octet and whole length, of a part.
    pub part: Option<(u64, u64)>,
    /// What is stored of the same body already.
    pub old_part: Option<Arc<Entry>>,
    pub proof: Proof,
    pub idle: Duration,
    pub chunks: Vec<Chunk>,
    /// Small pieces behind these, which become a larger one.
    pub small: Vec<u8>,
    /// What is still to come.
    pub coming: Option<Coming>,
    pub is_stored: bool,
    /// Octets of it so far.
    pub octets: u64,
}

/// A body that did not come with its head.
pub struct Coming {
    pub guard: Option<FillGuard>,
    pub stream: Arc<FillStream>,
    /// Its last piece so far.
    pub last: Arc<Node>,
    pub line: Line,
}

impl Pump {
    /// Goes on reading, on a task of its own.
    pub fn start(self: Box<Self>, layover: Layover) {
        let shard = Rc::clone(&self.shard);
        spawn(async move {
            if Caught(self.run(layover)).await.is_err() {
                shard.count(|counters| counters.panics += 1);
            }
        });
    }

    /// Reads to the end, whether clients read along or not.
    async fn run(mut self: Box<Self>, layover: Layover) {
        let shard = Rc::clone(&self.shard);
        let cluster = shard.cluster(self.cluster);
        let flight = cluster.resume(layover);
        let Some(coming) = self.coming.take() else { return };
        let Coming { mut guard, stream, last, mut line } = coming;
        let mut writer = Tail::new(Arc::clone(&stream), last);
        for data in std::mem::take(&mut self.chunks) {
            self.push(&mut writer, &mut guard, data);
        }
        let result = self.read(&mut line, &mut writer, &mut guard).await;
        writer.end(result.is_ok());
        match result {
            Ok(()) => {
                self.keep(line);
                flight.landed();
                if let Some(guard) = guard {
                    guard.commit(self.finished());
                }
            }
            Err(kind) => {
                let blamed = kind.blames_endpoint().then_some(kind);
                body_failed(cluster, self.id, line.detail(), blamed);
                if let Some(guard) = guard {
                    guard.fail(kind);
                }
                // A client that still reads what there is keeps no other from the endpoint.
                drop((flight, line));
            }
        }
        shard.cache.tell(&stream);
        self.linger(writer).await;
    }

    /// What is not stored is kept until all clients that are waited for have read it.
    async fn linger(&self, mut tail: Tail) {
        if tail.passing.is_empty() {
            return;
        }
        let stream = Arc::clone(&tail.stream);
        stream.set_waiting(true, self.shard.now());
        while let Some((seen, _)) = self.who_reads(&mut tail).await
            && !tail.passing.is_empty()
        {
            self.progress(&stream, seen, self.idle).await;
        }
    }

    async fn read(
        &mut self,
        line: &mut Line,
        tail: &mut Tail,
        guard: &mut Option<FillGuard>,
    ) -> Result<()> {
        let shard = Rc::clone(&self.shard);
        while let Some(buffer) = line.next(&shard.buffers).await? {
            let data = Octets::counted(buffer.data(), &shard.cache.ledger().bodies);
            shard.buffers.give(buffer);
            self.push(tail, guard, data);
            if !self.is_stored && !self.readers_keep_up(tail).await {
                return Err(Kind::ClientGone);
            }
        }
        Ok(())
    }

    fn push(&mut self, tail: &mut Tail, guard: &mut Option<FillGuard>, data: Chunk) {
        self.octets += data.len() as u64;
        let ledger = self.shard.cache.ledger();
        let fits = self.octets <= ledger.object();
        if self.is_stored && fits && ledger.may_take(0) {
            self.keep_piece(&data);
        } else if self.is_stored {
            // Too large after all, or there is too little memory. The requests that read it go on; no other joins
            // them, for what they have read is let go behind them.
            self.is_stored = false;
            (self.chunks, self.small) = (Vec::new(), Vec::new());
            if let Some(guard) = guard.take() {
                guard.release(NotStored::TooLarge, !fits);
            }
        }
        tail.push(data, !self.is_stored);
        tail.meet_readers();
        self.shard.cache.tell(&tail.stream);
    }

    /// Puts a piece behind the others. Small ones become larger as they come: each costs an allocation
    /// and a place in a send.
    fn keep_piece(&mut self, data: &Chunk) {
        if data.len() >= PIECE_MIN && self.small.is_empty() {
            return self.chunks.push(Arc::clone(data));
        }
        self.small.extend_from_slice(data);
        if self.small.len() >= PIECE_MIN {
            self.chunks.push(Octets::beside(data, self.small.as_slice()));
            self.small.clear();
        }
    }

    /// What cannot be stored may not run ahead of its readers (exam F14): it waits for the last
    /// of them. Each of them takes something in time, or leaves; but one that reads slowly must not hold up
    /// the rest: one that has kept the others waiting for too long is cut off. False if there is none any
    /// more.
    async fn readers_keep_up(&self, tail: &mut Tail) -> bool {
        let stream = Arc::clone(&tail.stream);
        stream.set_waiting(true, self.shard.now());
        let mut is_read = false;
        while let Some((seen, span)) = self.who_reads(tail).await {
            if tail.last.at() <= span.least + FLOW_WINDOW {
                is_read = true;
                break;
            }
            let is_starved = span.most >= tail.last.at();
            let begun = self.shard.now();
            let most = if is_starved { tail.patience } else { self.idle };
            self.progress(&stream, seen, most).await;
            if is_starved {
                tail.charge(self.shard.now().since(begun));
            }
        }
        stream.set_waiting(false, self.shard.now());
        is_read
    }

    /// Where its readers are, and when that was seen. Those that know of it and have not begun are given
    /// a moment.
    async fn who_reads(&self, tail: &mut Tail) -> Option<(u64, Spread)> {
        let (stream, by) = (Arc::clone(&tail.stream), self.shard.now().after(FLOW_GRACE));
        loop {
            let seen = stream.progress();
            if let Some(span) = tail.span() {
                return Some((seen, span));
            }
            if !self.shard.cache.until(&stream, by, || stream.progress() != seen).await {
                return None;
            }
        }
    }

    /// Waits until a reader gets on, or not longer than this.
    async fn progress(&self, stream: &Arc<FillStream>, seen: u64, most: Duration) {
        let by = self.shard.now().after(most);
        self.shard.cache.until(stream, by, || stream.progress() != seen).await;
    }

    /// Octets of the body that it holds.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.chunks.iter().map(|one| one.len() as u64).sum()
    }

    /// The entry of the whole body.
    pub fn finished(&mut self) -> Arc<Entry> {
        let mut chunks = std::mem::take(&mut self.chunks);
        if !self.small.is_empty() {
            let small = std::mem::take(&mut self.small);
            chunks.push(Octets::counted(small, &self.shard.cache.ledger().bodies));
        }
        let head = &self.head;
        let draft = Draft {
            key: head.key(),
            selecting: head.selecting(),
            fields: head.fields(),
            status: head.status(),
            freshness: head.freshness(),
            modified: head.modified(),
        };
        match self.part {
            None => Arc::new(draft.whole(&chunks)),
            Some((first, total)) => {
                Arc::new(self.part_of(&draft, first, total, &octets::joined(&chunks)))
            }
        }
    }

    fn part_of(&self, draft: &Draft<'_>, first: u64, total: u64, data: &[u8]) -> Entry {
        let fields = without_content_range(draft.fields);
        let draft = Draft { fields: &fields, ..*draft };
        let (first, data) =
            self.joined(first, total, data).unwrap_or_else(|| (first, data.to_vec()));
        let is_whole = first == 0 && data.len() as u64 == total;
        let data = Octets::counted(data, &self.shard.cache.ledger().bodies);
        if is_whole {
            return Draft { status: 200, ..draft }.whole(&[data]);
        }
        draft.large(Large::Partial { first, data, total })
    }

    /// Together with what is stored already: only parts of the very same body (RFC 9111 section
    /// 3.4: by a strong validator).
    fn joined(&self, first: u64, total: u64, data: &[u8]) -> Option<(u64, Vec<u8>)> {
        let old = self.old_part.as_ref()?;
        let Some(Large::Partial { first: before, data: stored, total: of }) = old.large() else {
            return None;
        };
        let etag = self.head.etag().filter(|tag| !tag.starts_with(b"W/"))?;
        let is_small = data.len() + stored.len() <= JOINED_MAX;
        let is_same = is_small && *of == total && old.etag() == Some(etag);
        is_same.then(|| range::joined((first, data), (*before, stored))).flatten()
    }

    /// Puts the connection back, if it may be used again.
    pub fn keep(&self, line: Line) {
        self.shard.cluster(self.cluster).keep(self.id, line, self.proof, self.shard.now());
    }
}

/// The end of a stream, where its pump writes. Dropped before the end it cuts the stream off.
struct Tail {
    stream: Arc<FillStream>,
    last: Arc<Node>,
    /// Pieces that the store does not keep.
    passing: VecDeque<Arc<Node>>,
    /// The readers that are waited for.
    readers: Vec<Position>,
    /// How long some may still keep others waiting.
    patience: Duration,
    /// Octets that all readers had when that was charged last.
    charged_at: u64,
    is_ended: bool,
}

/// Where the last and the first of some readers are.
#[derive(Clone, Copy)]
struct Spread {
    least: u64,
    most: u64,
}

impl Tail {
    const fn new(stream: Arc<FillStream>, last: Arc<Node>) -> Self {
        Self {
            stream,
            last,
            passing: VecDeque::new(),
            readers: Vec::new(),
            patience: FLOW_PATIENCE,
            charged_at: 0,
            is_ended: false,
        }
    }

    fn push(&mut self, data: Chunk, is_passing: bool) {
        self.last = self.stream.push(&self.last, data, is_passing);
        if is_passing {
            self.passing.push_back(Arc::clone(&self.last));
        }
    }

    /// Takes note of readers that have come or left.
    fn meet_readers(&mut self) {
        self.readers.extend(self.stream.newcomers());
        self.readers.retain(|one| one.get().is_some());
    }

    /// Where its readers are; what all have is let go. `None` if there is no reader.
    fn span(&mut self) -> Option<Spread> {
        self.meet_readers();
        let places = || self.readers.iter().filter_map(Position::get);
        let (least, most) = (places().min()?, places().max()?);
        while self.passing.pop_front_if(|node| node.at() <= least).is_some() {}
        Some(Spread { least, most })
    }

    /// Some were kept waiting for so long. What the last ones have taken meanwhile speaks for them;
    /// if that is not enough, they are cut off.
    fn charge(&mut self, waited: Duration) {
        let Some(Spread { least, .. }) = self.span() else { return };
        let taken = least.saturating_sub(self.charged_at);
        self.charged_at = least;
        let earned = Duration::from_millis(taken.saturating_mul(1000) / FLOW_RATE);
        self.patience = (self.patience.saturating_sub(waited) + earned).min(FLOW_PATIENCE);
        if self.patience.is_zero() {
            let from = self.last.at().saturating_sub(FLOW_WINDOW);
            self.readers.retain(|one| one.get().is_some_and(|at| at >= from));
        }
    }

    fn end(&mut self, is_whole: bool) {
        self.is_ended = true;
        self.stream.end(&self.last, is_whole);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if !self.is_ended {
            self.end(false);
        }
    }
}

fn without_content_range(fields: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.len());
    for (at, line) in crate::cache::entry::lines(fields) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        if Name::of(&line[..colon]) != Name::ContentRange {
            out.extend_from_slice(&fields[at..at + line.len() + 2]);
        }
    }
    out
}
