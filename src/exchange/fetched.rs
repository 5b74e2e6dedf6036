//! What was fetched: the final head of an answer has come, and its body waits.

use super::state::Exchange;
use super::target::TryTarget;
use super::upload::Upload;
use crate::base::error::Kind;
use crate::message::reuse::{Proof, peer_keeps};
use crate::protocol::line::{Line, RequestWriter};
use crate::upstream::attempt;
use crate::upstream::flight::Flight;

/// An answer whose head is in `work.response`.
pub struct Fetched<'a> {
    pub target: TryTarget<'a>,
    /// Where the body comes from.
    pub line: Line,
    /// It counts at its endpoint as long as this lives.
    pub flight: Flight<'a>,
    pub was_pooled: bool,
    /// The request's body, if that is still going up.
    pub upload: Option<Upload<'a>>,
    /// What a tunnel writes to.
    pub writer: Option<Box<RequestWriter>>,
}

impl Fetched<'_> {
    /// The answer has ended as it should: its connection goes back to the pool, if it may be used again.
    pub fn land(self, ex: &Exchange<'_>) {
        let (cluster, id) = (self.target.cluster, self.flight.id);
        let response = &ex.work.response;
        let endpoint = cluster.endpoint(id);
        let proof = Proof {
            request_written: ex.traffic.is_written.get(),
            response_complete: true,
            peer_keeps: peer_keeps(response.version, response.options),
            untainted: !response.tainted
                && response.status != 101
                && self.writer.is_none()
                && self.is_current(),
        };
        drop(self.upload);
        endpoint.pool.keep(self.line, proof, ex.now(), &cluster.model.pool);
        cluster.answered(id, response.status);
        self.flight.landed();
    }

    /// The connection leads to an address that is still its endpoint's.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let generation = self.target.cluster.endpoint(self.flight.id).generation();
        matches!(&self.line, Line::Http1(line) if line.connection().generation == generation)
    }

    /// The answer's body is of no use: its connection is closed.
    pub fn drop_body(self, status: u16) {
        let (cluster, id) = (self.target.cluster, self.flight.id);
        drop((self.upload, self.line));
        cluster.answered(id, status);
        self.flight.landed();
    }

    /// The answer did not end as it should.
    pub fn fail(&self, ex: &Exchange<'_>, kind: Kind) {
        let (cluster, id) = (self.target.cluster, self.flight.id);
        if let Some(detail) = ex.traffic.detail.get() {
            attempt::complain(cluster, id, &detail);
        }
        if ex.blames_endpoint(kind) {
            cluster.failed(id, kind);
        }
    }
}
