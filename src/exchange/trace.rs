//! Makes an exchange a step of a trace: of its client's, or of one that begins here (W3C Trace Context).

use super::state::Exchange;
use crate::config::access_log::ALL;
use crate::config::trace::Trace;
use crate::message::trace_context::TraceParent;

/// What names the step that a request comes from, and what vendors have added.
const PARENT: &[u8] = b"traceparent";
const STATE: &[u8] = b"tracestate";

/// Gives the request a `traceparent` of its own, and decides whether the step is recorded. A trusted client has decided
/// that already; from others it would be an invitation to record everything.
pub fn begin(ex: &mut Exchange<'_>, trace: &Trace) {
    let mut random = ex.shard.random.borrow_mut();
    let fields = &mut ex.work.request.fields;
    let mut said = fields.values_named(PARENT);
    let found = said.next().and_then(TraceParent::parse).filter(|_| said.next().is_none());
    drop(said);
    let is_decided = ex.client.client.is_trusted;
    let is_sampled = match found {
        Some(parent) if is_decided => parent.is_sampled,
        _ => random.below(ALL) < trace.sample,
    };
    // Zero would be no name.
    let mut name = || random.bits() | 1;
    let own = TraceParent {
        trace: found.map_or_else(|| u128::from(name()) << 64 | u128::from(name()), |one| one.trace),
        span: name(),
        is_sampled,
    };
    if found.is_none() {
        fields.remove_named(STATE);
    }
    fields.remove_named(PARENT);
    fields.push(PARENT, &own.text());
    ex.record.parent = found.map_or(0, |one| one.span);
    ex.record.is_sampled = is_sampled;
}
