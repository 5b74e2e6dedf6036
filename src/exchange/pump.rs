//! Reads a body into the cache, at the origin's speed, whoever reads along: a client that is slow, or
//! leaves, holds up nobody else.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::guard::Guard;
use crate::base::error::{Kind, Result};
use crate::base::id::{ClusterId, EndpointId};
use crate::base::limits::FLOW_WINDOW;
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
        let mut writer = Tail { flow: Arc::clone(&flow), last };
        for data in std::mem::take(&mut self.chunks) {
            self.push(&mut writer, &mut guard, data);
        }
        let result = self.read(&mut connection, progress, &mut writer, &mut guard).await;
        flow.end(&writer.last, result.is_ok());
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
            if !self.is_stored && !self.readers_keep_up(&tail.flow).await {
                return Err(Kind::ClientGone);
            }
        }
        Ok(())
    }

    fn push(&mut self, tail: &mut Tail, guard: &mut Option<Guard>, data: Chunk) {
        let len = data.len() as u64;
        let ledger = self.shard.desk.ledger();
        let total = self.counted + len;
        if self.is_stored && total <= ledger.object && ledger.take(len) {
            self.counted = total;
            self.chunks.push(Arc::clone(&data));
        } else if self.is_stored {
            // Too large after all. Those who read it go on; nobody joins them, for what they have
            // read is let go behind them.
            self.is_stored = false;
            self.chunks = Vec::new();
            self.settle();
            if let Some(guard) = guard.take() {
                guard.release(Refused::TooLarge, true);
            }
        }
        tail.last = tail.flow.push(&tail.last, data);
        self.shard.desk.tell(&tail.flow);
    }

    /// What cannot be stored may not run ahead of its readers (RELIABILITY F14). False if there are
    /// none any more.
    async fn readers_keep_up(&self, flow: &Arc<Flow>) -> bool {
        while flow.outstanding() > FLOW_WINDOW {
            flow.set_waiting(true);
            let by = self.shard.now().after(self.idle);
            if !self.shard.desk.room(flow, FLOW_WINDOW / 2, by).await {
                return false;
            }
            flow.set_waiting(false);
        }
        // Two are ours.
        Arc::strong_count(flow) > 2
    }

    /// The entry of the whole body.
    pub fn finished(&mut self) -> Arc<Entry> {
        let chunks = std::mem::take(&mut self.chunks);
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
        let is_same = *of == total && old.etag() == Some(etag);
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

/// The end of a flow, where its pump writes.
struct Tail {
    flow: Arc<Flow>,
    last: Arc<Node>,
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
