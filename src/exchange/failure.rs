//! What follows when a try at an endpoint fails: another, or the error.

use super::fetched::Fetched;
use super::state::Exchange;
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::message::head::Method;
use crate::upstream::cluster::Cluster;
use crate::upstream::retry::{self, Cause, Tries};

/// Why a try failed; `lost` if nothing of an answer was seen, so that another may be possible.
pub struct Failure {
    pub kind: Kind,
    lost: Option<retry::LostTry>,
    /// It counts against the endpoint.
    is_blamed: bool,
}

impl Failure {
    /// Of a try whose answer had not begun for the client.
    #[must_use]
    pub fn of(ex: &Exchange<'_>, fetched: &mut Fetched<'_>, kind: Kind) -> Self {
        // Where the body was lent to, it is given back.
        fetched.upload = None;
        let cause = match kind {
            Kind::UpstreamGone if fetched.line.is_refused() => Some(Cause::Refused),
            Kind::UpstreamGone => Some(Cause::Lost),
            Kind::FirstByteTimeout if fetched.target.is_impatient(ex) => Some(Cause::Timeout),
            Kind::UpstreamStatus => Some(Cause::Status),
            _ => None,
        };
        let has_octets = fetched.line.has_octets() || ex.work.response.status != 0;
        let lost = cause.filter(|_| !ex.reply.has_begun()).map(|cause| retry::LostTry {
            cause,
            was_pooled: fetched.was_pooled,
            has_answer: has_octets && cause != Cause::Status,
            has_body: !is_repeatable(ex),
        });
        Self { kind, lost, is_blamed: ex.blames_endpoint(kind) }
    }
}

/// The request's body is still here, as far as it was sent.
fn is_repeatable(ex: &Exchange<'_>) -> bool {
    let is_whole = || ex.body.lend().is_some_and(|mut loan| loan.get().is_whole());
    ex.work.request.framing.is_empty() || is_whole()
}

/// What follows where no connection could be opened: another endpoint, or the error. Returns what
/// the client is told if there is none.
///
/// # Errors
/// What the client is told at once.
pub fn not_connected(
    cluster: &Cluster,
    id: EndpointId,
    kind: Kind,
    tries: &mut Tries,
) -> Result<Kind> {
    // That it was dead was known before: this is no news, and there is no other.
    let told = if cluster.is_on_trial(id) { Kind::NoEndpoint } else { kind };
    if kind.blames_endpoint() {
        cluster.failed(id, kind);
    }
    let may = tries.take_another(id, kind, &cluster.model.resilience.retry);
    if may { Ok(told) } else { Err(told) }
}

/// What follows a lost request: the same endpoint once more, on a fresh connection (`true`),
/// another one, or the error.
///
/// # Errors
/// The request is not sent again.
pub fn retry(
    cluster: &Cluster,
    id: EndpointId,
    failure: &Failure,
    method: Method,
    tries: &mut Tries,
) -> Result<bool> {
    let Failure { kind, lost, is_blamed } = *failure;
    if lost.is_some_and(|lost| tries.take_refresh(lost, method)) {
        return Ok(true);
    }
    if is_blamed {
        cluster.failed(id, kind);
    }
    let policy = &cluster.model.resilience.retry;
    match lost {
        Some(lost) if tries.take_move(id, lost, method, policy, || cluster.spend_retry()) => {
            Ok(false)
        }
        _ => Err(kind),
    }
}
