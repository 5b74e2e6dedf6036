//! What was fetched: the final head of an answer has come, and its body waits.

use super::state::Exchange;
use super::target::TryTarget;
use super::upload::Upload;
use crate::base::error::Kind;
use crate::message::reuse::Proof;
use crate::protocol::line::{Line, RequestWriter};
use crate::upstream::attempt::body_failed;
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
        // What a tunnel was asked for on has no end that could be proved.
        let is_written = ex.traffic.is_written.get() && self.writer.is_none();
        let proof = Proof::after(response, is_written);
        drop(self.upload);
        cluster.keep(id, self.line, proof, ex.now());
        cluster.answered(id, response.status);
        self.flight.landed();
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
        let blamed = ex.blames_endpoint(kind).then_some(kind);
        body_failed(self.target.cluster, self.flight.id, ex.traffic.detail.get(), blamed);
    }
}
