//! What follows when a try at an endpoint fails: another, or the error.

use super::relay::Hop;
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::message::head::Method;
use crate::upstream::Cluster;
use crate::upstream::http1::Connection;
use crate::upstream::retry::{Cause, Lost, Tries};

/// What follows where no connection could be opened: another endpoint, or the error. Returns what
/// the client is told if there is none.
pub(super) fn not_connected(
    cluster: &Cluster,
    id: EndpointId,
    kind: Kind,
    tries: &mut Tries,
) -> Result<Kind> {
    // That it was dead was known before: this is no news, and there is nobody else.
    let said = if cluster.is_on_trial(id) { Kind::NoEndpoint } else { kind };
    blame(cluster, id, kind);
    let may = tries.may_try_another(id, kind, &cluster.model.resilience.retry);
    if may { Ok(said) } else { Err(said) }
}

/// What follows a lost request: the same endpoint once more, on a fresh connection (`true`),
/// another one, or the error.
pub(super) fn retry(
    cluster: &Cluster,
    id: EndpointId,
    failure: &Failure,
    method: Method,
    tries: &mut Tries,
) -> Result<bool> {
    let Failure { kind, lost, is_blamed } = *failure;
    if lost.is_some_and(|lost| tries.may_refresh(lost, method)) {
        return Ok(true);
    }
    if is_blamed {
        blame(cluster, id, kind);
    }
    let policy = &cluster.model.resilience.retry;
    match lost {
        Some(lost) if tries.may_move(id, lost, method, policy, || cluster.may_retry()) => Ok(false),
        _ => Err(kind),
    }
}

/// Counts a failure against an endpoint, if it is the endpoint's.
pub(super) fn blame(cluster: &Cluster, id: EndpointId, kind: Kind) {
    if kind.is_endpoints() {
        cluster.failed(id, kind);
    }
}

/// Why a try failed; `lost` if nothing of an answer was seen, so that another may be possible.
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) lost: Option<Lost>,
    /// It may count against the endpoint.
    is_blamed: bool,
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self { kind, lost: None, is_blamed: true }
    }
}

/// What a stream of HTTP/2 knows more of a fault, and whether it was refused.
pub(super) fn of_strand(connection: &Connection, kind: Kind) -> (Kind, bool) {
    match (connection.stream.as_strand(), kind) {
        (Some(strand), Kind::UpstreamGone) if strand.is_unsayable() => (Kind::NotInHttp2, false),
        (Some(strand), Kind::FirstByteTimeout | Kind::TotalTimeout) => {
            strand.distrust();
            (kind, false)
        }
        (Some(strand), _) => (kind, strand.is_refused()),
        (None, _) => (kind, false),
    }
}

/// Whether a try that failed was lost before anything of an answer was seen.
pub(super) fn failure(
    hop: &Hop<'_, '_>,
    kind: Kind,
    was_pooled: bool,
    has_octets: bool,
    is_refused: bool,
) -> Failure {
    let cause = match kind {
        Kind::UpstreamGone if is_refused => Some(Cause::Refused),
        Kind::UpstreamGone => Some(Cause::Lost),
        Kind::FirstByteTimeout if hop.is_impatient() => Some(Cause::Timeout),
        Kind::UpstreamStatus => Some(Cause::Status),
        _ => None,
    };
    let lost = cause.filter(|_| !hop.answer.begun.get()).map(|cause| Lost {
        cause,
        was_pooled,
        has_answer: has_octets && cause != Cause::Status,
        has_body: !hop.target.replay.borrow().is_whole(hop.request.framing),
    });
    // An endpoint need not wait for ever for the rest of a request: that it ends such a connection says
    // nothing against it (RELIABILITY R09).
    let is_closed = matches!(kind, Kind::UpstreamGone | Kind::UpstreamBodyCutShort);
    let is_blamed = !is_closed || hop.answer.has_come.get();
    Failure { kind, lost, is_blamed }
}
