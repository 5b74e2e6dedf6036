//! Reads a body into the cache, at the origin's speed, whoever reads along: a client that is slow, or
//! leaves, holds up nobody else.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::guard::Guard;
use crate::base::error::{Kind, Result};
use crate::base::id::{ClusterId, EndpointId};
use crate::base::limits::{FLOW_PATIENCE, FLOW_WINDOW};
use crate::cache::entry::{Chunk, Draft, Entry, Large};
use crate::cache::flow::{Flow, Node};
use crate::cache::policy::Refused;
use crate::cache::range;
use crate::message::name::Name;
use crate::net::body::{BodyReader, Progress};
use crate::net::guard::Caught;
use crate::net::runtime::spawn;
use crate::shard::Shard;
use crate::upstream::flight::Layover;
use crate::upstream::http1::Connection;
use crate::wire::http1::reuse::Proof;

/// Pieces of an entry are at least this large, but for the last.
const PIECE_MIN: usize = 64 * 1024;
/// What a piece costs beside its octets.
const PIECE_COST: usize = 112;
/// Larger parts are not put together: that would be copying.
const JOINED_MAX: usize = 8 * 1024 * 1024;

/// Reads a body for all who follow it.
pub struct Pump {
    pub shard: Rc<Shard>,
    pub cluster: ClusterId,
    pub id: EndpointId,
    pub head: Arc<Entry>,
    /// First octet and whole length, of a part.
    pub part: Option<(u64, u64)>,
    /// What is stored of the same body already.
    pub old_part: Option<Arc<Entry>>,
    pub peer_keeps: bool,
    pub idle: Duration,
    pub chunks: Vec<Chunk>,
    /// Small pieces that become a larger one.
    pub small: Vec<u8>,
    /// What is still to come.
    pub coming: Option<Coming>,
    pub is_stored: bool,
    /// Octets that the ledger counts as coming.
    pub counted: u64,
}

/// A body that did not come with its head.
pub struct Coming {
    pub guard: Option<Guard>,
    pub flow: Arc<Flow>,
    /// Its last piece so far.
    pub last: Arc<Node>,
    pub connection: Box<Connection>,
    pub progress: Progress,
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

    /// Reads to the end, whoever reads along.
    async fn run(mut self: Box<Self>, layover: Layover) {
        let shard = Rc::clone(&self.shard);
        let cluster = shard.cluster(self.cluster);
        let flight = cluster.resume(layover);
        let Some(coming) = self.coming.take() else { return };
        let Coming { mut guard, flow, last, mut connection, progress } = coming;
        // Whoever waits for the next piece does so for less than this.
        let patience = FLOW_PATIENCE.min(self.idle / 3);
        let mut writer = Tail::new(Arc::clone(&flow), last, patience);
        for data in std::mem::take(&mut self.chunks) {
            self.push(&mut writer, &mut guard, data);
        }
        let result = self.read(&mut connection, progress, &mut writer, &mut guard).await;
        writer.end(result.is_ok());
        match result {
            Ok(()) => {
                self.keep(connection);
                flight.landed();
                if let Some(guard) = guard {
                    guard.commit(self.finished());
                }
            }
            Err(kind) => {
                if kind.is_endpoints() {
                    cluster.failed(self.id, kind);
                }
                if let Some(guard) = guard {
                    guard.fail(kind);
                }
            }
        }
        shard.desk.tell(&flow);
        self.linger(&writer).await;
    }

    /// What nobody else keeps is kept until all have read it who do not take too long.
    async fn linger(&self, tail: &Tail) {
        if tail.passing.is_empty() {
            return;
        }
        tail.flow.set_waiting(true);
        let mut left = None;
        while tail.flow.readers() > 0 && left != Some(tail.flow.first()) {
            // As long as somebody gets on.
            left = Some(tail.flow.first());
            let by = self.shard.now().after(self.idle);
            self.shard.desk.until(&tail.flow, by, || tail.flow.readers() == 0).await;
        }
    }

    async fn read(
        &mut self,
        connection: &mut Connection,
        progress: Progress,
        tail: &mut Tail,
        guard: &mut Option<Guard>,
    ) -> Result<()> {
        let shard = Rc::clone(&self.shard);
        let Connection { stream, inbound, .. } = connection;
        let mut reader = BodyReader::resume(progress, stream, inbound, &shard.buffers);
        while let Some(buffer) = reader.next(|| shard.now()).await? {
            let data = Arc::from(buffer.data());
            shard.buffers.give(buffer);
            self.push(tail, guard, data);
            if !self.is_stored && !self.readers_keep_up(tail).await {
                return Err(Kind::ClientGone);
            }
        }
        Ok(())
    }

    fn push(&mut self, tail: &mut Tail, guard: &mut Option<Guard>, data: Chunk) {
        let len = (data.len() + PIECE_COST) as u64;
        let ledger = self.shard.desk.ledger();
        let total = self.counted + len;
        if self.is_stored && total <= ledger.object && ledger.take(len) {
            self.counted = total;
            self.keep_piece(&data);
        } else if self.is_stored {
            // Too large after all. Those who read it go on; nobody joins them, for what they have
            // read is let go behind them.
            self.is_stored = false;
            (self.chunks, self.small) = (Vec::new(), Vec::new());
            self.settle();
            if let Some(guard) = guard.take() {
                guard.release(Refused::TooLarge, true);
            }
        }
        tail.push(data, !self.is_stored);
        self.shard.desk.tell(&tail.flow);
    }

    /// Puts a piece behind the others; small ones become larger, for each costs an allocation and a
    /// place in a send.
    pub fn keep_piece(&mut self, data: &Chunk) {
        if data.len() >= PIECE_MIN && self.small.is_empty() {
            return self.chunks.push(Arc::clone(data));
        }
        self.small.extend_from_slice(data);
        if self.small.len() >= PIECE_MIN {
            self.chunks.push(Arc::from(self.small.as_slice()));
            self.small.clear();
        }
    }

    /// What cannot be stored may not run ahead of its readers (RELIABILITY F14): it waits for the first
    /// of them, and a while for the others. Who lags behind after that is cut off, for one who does not
    /// read must not hold up the rest. False if there is nobody any more.
    async fn readers_keep_up(&self, tail: &mut Tail) -> bool {
        let (desk, flow) = (&self.shard.desk, Arc::clone(&tail.flow));
        let now = || self.shard.now();
        flow.set_waiting(true);
        let is_near = || flow.readers() == 0 || tail.last.at() <= flow.first() + FLOW_WINDOW;
        let is_read = is_near() || desk.until(&flow, now().after(self.idle), is_near).await;
        while let Some(oldest) = tail.passing.front()
            && oldest.at() + FLOW_WINDOW < tail.last.at()
        {
            let begun = now();
            let has_all = || flow.have_passed(oldest);
            if !has_all() && tail.patience > Duration::ZERO {
                desk.until(&flow, begun.after(tail.patience), has_all).await;
                tail.patience = tail.patience.saturating_sub(now().since(begun));
            }
            tail.passing.pop_front();
        }
        flow.set_waiting(false);
        is_read && flow.readers() > 0
    }

    /// The entry of the whole body.
    pub fn finished(&mut self) -> Arc<Entry> {
        let mut chunks = std::mem::take(&mut self.chunks);
        if !self.small.is_empty() {
            chunks.push(Arc::from(std::mem::take(&mut self.small)));
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
            Some((first, total)) => Arc::new(self.part_of(&draft, first, total, &chunks.concat())),
        }
    }

    fn part_of(&self, draft: &Draft<'_>, first: u64, total: u64, data: &[u8]) -> Entry {
        let fields = without_content_range(draft.fields);
        let draft = Draft { fields: &fields, ..*draft };
        let (first, data) =
            self.joined(first, total, data).unwrap_or_else(|| (first, data.to_vec()));
        if first == 0 && data.len() as u64 == total {
            return Draft { status: 200, ..draft }.whole(&[Arc::from(data)]);
        }
        draft.large(Large::Partial { first, data: Arc::from(data), total })
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
    pub fn keep(&mut self, connection: Box<Connection>) {
        self.settle();
        let cluster = self.shard.cluster(self.cluster);
        let endpoint = cluster.endpoint(self.id);
        let proof = Proof {
            request_written: true,
            response_complete: true,
            nothing_left: connection.inbound.is_empty(),
            peer_keeps: self.peer_keeps,
            untainted: connection.generation == endpoint.generation(),
        };
        endpoint.pool.keep(connection, proof, self.shard.now(), &cluster.model.pool);
    }

    /// What was counted as coming is an entry now, or nothing.
    fn settle(&mut self) {
        self.shard.desk.ledger().give(std::mem::take(&mut self.counted));
    }
}

/// The end of a flow, where its pump writes. Dropped before the end it cuts the flow off.
struct Tail {
    flow: Arc<Flow>,
    last: Arc<Node>,
    /// Pieces that nobody else keeps.
    passing: VecDeque<Arc<Node>>,
    /// How long laggards may still be waited for.
    patience: Duration,
    is_ended: bool,
}

impl Tail {
    const fn new(flow: Arc<Flow>, last: Arc<Node>, patience: Duration) -> Self {
        Self { flow, last, passing: VecDeque::new(), patience, is_ended: false }
    }

    fn push(&mut self, data: Chunk, is_passing: bool) {
        self.last = self.flow.push(&self.last, data, is_passing);
        if is_passing {
            self.passing.push_back(Arc::clone(&self.last));
        }
    }

    fn end(&mut self, is_whole: bool) {
        self.is_ended = true;
        self.flow.end(&self.last, is_whole);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if !self.is_ended {
            self.end(false);
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.settle();
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
