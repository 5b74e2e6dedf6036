//! Floor 7: the life of one request. Read `serve`, then `run`.

pub mod cached;
pub mod deliver;
mod failure;
pub mod fill;
pub mod forward;
pub mod grpc;
pub mod guard;
pub mod hedge;
pub mod lines;
pub mod place;
pub mod pump;
pub mod purge;
pub mod refresh;
pub mod relay;
pub mod replay;
pub mod respond;
pub mod secure;
pub mod side;
pub mod tunnel;

use std::rc::Rc;
use std::time::Duration;

use crate::base::clock;
use crate::base::error::{Kind, Result};
use crate::cache::key;
use crate::config::model::{Action, Route};
use crate::message::forwarded;
use crate::message::framing::Framing;
use crate::message::head::{RequestHead, Version};
use crate::message::hop;
use crate::message::name::Name;
use crate::observe::record::Record;
use crate::route::rewrite;
use crate::shard::{Shard, Workspace};
use crate::wire::http1::upgrade;
use cached::Visit;
use forward::To;
use side::{Downstream, Next};

/// Serves one request, whatever happens, and says what becomes of the client's connection. What could not be parsed
/// is refused; `work` holds as much of it as was understood.
pub async fn serve(
    shard: &Rc<Shard>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    record: &mut Record,
    parsed: Result<()>,
) -> Next {
    let result = match parsed {
        Ok(()) => {
            down.answer.body_done.set(work.request.framing.is_empty());
            down.answer.has_come.set(work.request.framing.is_empty());
            run(shard, work, down, record).await
        }
        Err(kind) => Err(kind),
    };
    close(shard, work, down, record, result).await
}

/// Takes down what is known of an exchange whose client has gone in the middle of it.
pub fn abandon(shard: &Shard, work: &Workspace, down: &Downstream<'_>, mut record: Record) {
    record.fault = Some(Kind::ClientGone);
    fill_in(&mut record, down);
    shard.observe(&mut record, &work.request);
}

async fn run(
    shard: &Rc<Shard>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    record: &mut Record,
) -> Result<()> {
    if shard.plan.may_panic {
        test_hook(work);
    }
    let listener = shard.listener(down.listener);
    if down.client.is_trusted {
        forwarded::unify(&mut work.request, down.client.is_secure);
    } else {
        hop::distrust(&mut work.request);
    }
    record.client = hop::client_address(&work.request, down.client, |ip| listener.trusts(ip));
    if down.secured.is_some() || !shard.plan.config.reserved.is_empty() {
        secure::check(shard, &mut work.request, down)?;
    }
    let route = shard.find_route(down.listener, &work.request);
    if listener.redirect_https.is_some() && secure::must_redirect(shard, route, down) {
        return secure::redirect(shard, work, down).await;
    }
    let route = route?;
    record.route_line = Some(route.line);
    if matches!(work.request.framing, Framing::Length(length) if route.body.is_some_and(|most| length > most))
    {
        return Err(Kind::BodyTooLarge);
    }
    if hop::ends_here(&mut work.request) {
        return respond::options(shard, work, down).await;
    }
    match &route.action {
        Action::Forward(cluster) => {
            record.cluster = Some(*cluster);
            if work.request.version == Version::Http2 {
                refuse_protocol(&work.request, route)?;
            }
            if route.path_as_received {
                work.request.send_as_received();
            }
            rewrite::path(&mut work.request, &route.rewrite);
            if purge::is_one(shard, &work.request) {
                let (cached, client) = (route.cache.as_ref(), record.client);
                return Box::pin(purge::run(shard, cached, client, work, down)).await;
            }
            if let Some(cached) = &route.cache {
                key::take_unkeyed(&mut work.request.fields, &cached.rule);
                if let Some(parcel) = cached::at_once(shard, cached, work, down) {
                    return deliver::send(shard, parcel?, down).await;
                }
                shard.may_forward()?;
                let visit = Visit { route, cached, cluster: *cluster };
                return Box::pin(cached::run(shard, &visit, work, down, record)).await;
            }
            shard.may_forward()?;
            let to = To { route, cluster: *cluster, fill: None, is_prepared: false };
            forward::run(shard, to, work, down, record).await
        }
        Action::Redirect(redirect) => {
            respond::redirect(shard, redirect, Some(route), work, down).await
        }
        Action::Respond(canned) => respond::canned(shard, canned, route, work, down).await,
    }
}

/// RFC 8441 section 4: what cannot be spoken is refused. Passed on as a GET it would be another request.
fn refuse_protocol(request: &RequestHead, route: &Route) -> Result<()> {
    let is_refused = !request.upgrade().is_empty() && !upgrade::is_wanted(request, &route.upgrade);
    if is_refused { Err(Kind::ProtocolRefused) } else { Ok(()) }
}

/// What is known of an exchange before it begins.
#[must_use]
pub fn open(shard: &Shard, down: &Downstream<'_>) -> Record {
    let started = if shard.is_logging() { clock::precise() } else { Duration::ZERO };
    Record::open(down.client.peer, started)
}

/// The one place where a fault becomes an answer, or, too late for that, an end that nobody can
/// take for a complete one.
async fn close(
    shard: &Rc<Shard>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    record: &mut Record,
    mut result: Result<()>,
) -> Next {
    if let Err(kind) = result {
        record.fault = Some(kind);
        if !down.answer.begun.get() {
            if kind.is_clients() {
                down.may_keep = false;
            }
            result = respond::error(shard, kind, work, down).await;
        }
    }
    fill_in(record, down);
    shard.observe(record, &work.request);
    down.next(result.is_ok())
}

fn fill_in(record: &mut Record, down: &Downstream<'_>) {
    let answer = down.answer;
    record.cache = answer.cache.get().map(|status| status.word());
    record.status = answer.status.get();
    record.detail = answer.detail.get().filter(|_| record.fault.is_some());
    record.bytes_in = answer.received.get();
    record.bytes_out = answer.sent.get();
}

/// A debug build under `MILLRACE_TEST=panic` panics on request (RELIABILITY P02).
fn test_hook(work: &Workspace) {
    let asks = |field: &crate::message::fields::Field<'_>| {
        field.known == Name::Other && field.name.eq_ignore_ascii_case(b"x-millrace-panic")
    };
    assert!(!work.request.fields.iter().any(|field| asks(&field)), "asked to panic");
}
