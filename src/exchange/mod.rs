//! Floor 8: the life of one request. Read `serve`, then `run`; `state` has what they work on, and each step is a
//! file.

pub mod admit;
pub mod answer;
pub mod cursor;
pub mod failure;
pub mod fetch;
pub mod fetched;
pub mod fill;
pub mod grpc;
pub mod guard;
pub mod hedge;
pub mod lines;
pub mod lookup;
pub mod pump;
pub mod purge;
pub mod refresh;
pub mod relay;
pub mod replay;
pub mod reply;
pub mod respond;
pub mod state;
pub mod stored;
pub mod target;
pub mod tls_peer;
pub mod trace;
pub mod tunnel;
pub mod upload;
pub mod visit;

use crate::base::error::{Kind, Result};
use crate::base::id::ClusterId;
use crate::cache::key;
use crate::cache::validate;
use crate::config::model::{Action, Route};
use crate::filter::Verdict;
use crate::message::head::Method;
use crate::shard::Heads;
use fill::{Fill, Judged};
use lookup::Lookup;
use state::{Exchange, Next};
use stored::StoredReply;
use visit::Visit;

/// Serves one request, whatever happens, and says what becomes of the client's connection. What could not be parsed
/// is refused; `work` holds as much of it as was understood.
pub async fn serve(ex: &mut Exchange<'_>, parsed: Result<()>) -> Next {
    let result = match parsed {
        Ok(()) => run(ex).await,
        Err(kind) => Err(kind),
    };
    close(ex, result).await
}

/// Takes down what is known of an exchange whose client has gone in the middle of it. A client that has ended its own
/// side alone may still read: it must not take what it has for the whole.
pub fn abandon(ex: &mut Exchange<'_>) {
    ex.reply.cut_off();
    ex.note(Some(Kind::ClientGone));
}

async fn run(ex: &mut Exchange<'_>) -> Result<()> {
    let shard = ex.shard;
    if shard.plan.may_panic {
        test_hook(ex.work);
    }
    let facts = admit::facts(ex);
    admit::check(ex, &facts)?;
    ex.is_admitted = true;
    if let Some(model) = &shard.plan.config.trace {
        trace::begin(ex, model);
    }
    let found = shard.find_route(ex.client.listener, &ex.work.request);
    if let Some(port) = admit::https_port(ex, found.map(|(_, route, _)| route)) {
        return admit::redirect(ex, port).await;
    }
    let (id, route, filters) = found?;
    (ex.route, ex.filters) = (Some(route), Some(filters));
    ex.record.route = Some(id);
    match filters.on_request(&mut ex.work.request, &facts) {
        Verdict::Go => {}
        Verdict::Refuse(kind) => return Err(kind),
        Verdict::Options => return respond::options(ex).await,
    }
    match &route.action {
        Action::Forward(cluster) => forward(ex, route, *cluster).await,
        Action::Redirect(redirect) => respond::redirect(ex, redirect).await,
        Action::Respond(fixed) => respond::fixed(ex, fixed).await,
    }
}

/// A request that an upstream answers, or the cache in its place.
async fn forward<'a>(ex: &mut Exchange<'a>, route: &'a Route, cluster: ClusterId) -> Result<()> {
    ex.record.cluster = Some(cluster);
    let request = &mut ex.work.request;
    if purge::is_one(ex.shard, request) {
        return Box::pin(purge::run(ex, route.cache.as_ref())).await;
    }
    if let Some(cached) = &route.cache {
        key::take_unkeyed(&mut request.fields, &cached.rule);
        if let Some((entry, how)) = lookup::at_once(ex, cached) {
            return stored::serve(ex, &entry, &how).await;
        }
        ex.shard.may_forward()?;
        return Box::pin(through_cache(ex, Visit { route, cached, cluster })).await;
    }
    ex.shard.may_forward()?;
    let mut fetched = fetch::run(ex, route, cluster).await?;
    relay::run(ex, &mut fetched).await?;
    fetched.land(ex);
    Ok(())
}

/// A request on a route that caches, which could not be answered at once.
async fn through_cache<'a>(ex: &mut Exchange<'a>, visit: Visit<'a>) -> Result<()> {
    match lookup::find(ex, visit).await? {
        Lookup::Serve(entry, how) => stored::serve(ex, &entry, &how).await,
        Lookup::Follow(entry, cursor, how) => stored::follow(ex, &entry, cursor, &how).await,
        Lookup::Fetch(mut fill) => {
            let mut judged = fetch_for(ex, &mut fill).await?;
            if matches!(judged, Judged::Again) {
                fill.ask_again(&mut ex.work.request.fields);
                judged = fetch_for(ex, &mut fill).await?;
            }
            ex.cache = Some(fill.status);
            let own = std::mem::take(&mut fill.own);
            match judged {
                Judged::Relay(mut fetched) => {
                    relay::run(ex, &mut fetched).await?;
                    fetched.land(ex);
                    Ok(())
                }
                Judged::Serve(entry) => {
                    let how = how(ex, &fill, own, |fields, is_get| {
                        validate::answer_of(&entry, fields, is_get)
                    });
                    stored::serve(ex, &entry, &how).await
                }
                Judged::Follow(entry, cursor) => {
                    let how = how(ex, &fill, own, |fields, _| {
                        validate::answer(&entry, fields, true, None)
                    });
                    stored::follow(ex, &entry, Some(cursor), &how).await
                }
                Judged::Again | Judged::Nothing => Err(Kind::Internal),
            }
        }
    }
}

/// Asks the origin, and lets the cache judge.
async fn fetch_for<'a>(ex: &mut Exchange<'a>, fill: &mut Fill<'a>) -> Result<Judged<'a>> {
    let fetched = fetch::run(ex, fill.route, fill.cluster).await;
    let judged = match fetched {
        Ok(fetched) => fill.judge(ex, fetched).await,
        Err(kind) => Err(kind),
    };
    match judged {
        Ok(judged) => Ok(judged),
        Err(kind) => fill.failed(ex, kind),
    }
}

/// How what was fetched answers the request: the conditions of an unsafe one were the origin's to judge.
fn how(
    ex: &Exchange<'_>,
    fill: &Fill<'_>,
    own: Vec<u8>,
    answer: impl FnOnce(&crate::message::fields::Fields, bool) -> validate::StoredAnswer,
) -> StoredReply {
    let method = ex.work.request.method;
    let answer = if fill.is_open {
        answer(&fill.question.fields, method == Method::Get)
    } else {
        validate::StoredAnswer::Whole
    };
    StoredReply { status: fill.status, answer, own }
}

/// The one place where a fault becomes an answer, or, too late for that, an end that cannot be
/// taken for a complete one.
async fn close(ex: &mut Exchange<'_>, mut result: Result<()>) -> Next {
    let fault = result.err();
    if let Some(kind) = fault
        && !ex.reply.has_begun()
    {
        if kind.blames_client() {
            ex.may_keep = false;
        }
        result = respond::error(ex, kind).await;
    }
    ex.note(fault);
    if result.is_err() {
        ex.reply.cut_off();
        return Next::Close;
    }
    if ex.traffic.is_tunnel.get() {
        return Next::Close;
    }
    if ex.keeps { Next::Keep } else { Next::Linger }
}

/// A debug build under `MILLRACE_TEST=panic` panics on request (exam P02), or holds its core for so many milliseconds (exam P03).
fn test_hook(work: &Heads) {
    let asks = |name: &[u8]| work.request.fields.values_named(name).next().is_some();
    assert!(!asks(b"x-millrace-panic"), "asked to panic");
    if let Some(millis) = work.request.fields.values_named(b"x-millrace-stall").next() {
        let millis = std::str::from_utf8(millis).ok().and_then(|text| text.parse().ok());
        std::thread::park_timeout(std::time::Duration::from_millis(millis.unwrap_or_default()));
    }
}
