//! A request to an upstream and its response back, with as many tries as are safe.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::relay::{self, Ended, Hop};
use super::side::Downstream;
use super::tunnel;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::{ClusterId, EndpointId};
use crate::config::model::{HostPolicy, Route};
use crate::message::head::{Method, RequestHead, ResponseHead};
use crate::message::hop::{self, Added};
use crate::net::body::{self, BodyReader, BodyWriter, Pace};
use crate::net::buffer::Buffer;
use crate::observe::record::Record;
use crate::route::rewrite;
use crate::shard::{Shard, Workspace};
use crate::upstream::Cluster;
use crate::upstream::attempt::{self, Attempt, Needs};
use crate::upstream::http1::Connection;
use crate::upstream::retry::{Lost, Tries};
use crate::wire::http1::reuse::{Proof, peer_keeps};
use crate::wire::http1::upgrade;
use crate::wire::http1::write::RequestConnection;

/// Forwards a request.
///
/// # Errors
/// Why there was no answer, or no whole one.
pub async fn run(
    shard: &Rc<Shard>,
    route: &Route,
    cluster_id: ClusterId,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    record: &mut Record,
) -> Result<()> {
    let cluster = shard.cluster(cluster_id);
    prepare(shard, route, &mut work.request, down)?;
    let total_by = shard.now().after(route.timeouts.total);
    let mut tries = Tries::default();
    let mut last_fault = None;
    let mut again: Option<EndpointId> = None;
    cluster.pay_in();
    let key = cluster.key(&work.request, record.client, &mut shard.random.borrow_mut());
    loop {
        if shard.now() >= total_by {
            return Err(Kind::TotalTimeout);
        }
        let fresh = again.is_some();
        let picked = again.take().map_or_else(
            || cluster.pick(&tries, key, shard.now(), &mut shard.random.borrow_mut()),
            Ok,
        );
        let id = picked.map_err(|kind| last_fault.unwrap_or(kind))?;
        record.endpoint = Some(id);
        record.attempts = record.attempts.saturating_add(1);
        let needs = Needs {
            sweep: &shard.sweep,
            now: shard.now(),
            timeouts: &route.timeouts,
            client: down.address,
            fresh,
        };
        let flight = cluster.flight(id);
        let attempt = match attempt::open(cluster, id, needs).await {
            Ok(attempt) => attempt,
            Err(kind) => {
                cluster.endpoint(id).rest(shard.now());
                blame(shard, cluster, id, kind);
                if !tries.may_try_another(id, kind) {
                    return Err(kind);
                }
                last_fault = Some(kind);
                continue;
            }
        };
        let was_pooled = attempt.was_pooled;
        record.reused = was_pooled;
        shard.count(|counters| if was_pooled { counters.reuses += 1 } else { counters.dials += 1 });
        match once(shard, route, cluster, id, attempt, work, down, total_by).await {
            Ok(()) => {
                cluster.passed(id);
                cluster.landed(flight);
                return Ok(());
            }
            Err(failure) => {
                let method = work.request.method;
                again = retry(shard, cluster, id, &failure, method, &mut tries)?;
                last_fault = Some(failure.kind);
            }
        }
    }
}

/// What follows a lost request: the same endpoint once more, on a fresh connection, another one,
/// or the error.
fn retry(
    shard: &Shard,
    cluster: &Cluster,
    id: EndpointId,
    failure: &Failure,
    method: Method,
    tries: &mut Tries,
) -> Result<Option<EndpointId>> {
    let Failure { kind, lost } = *failure;
    if lost.is_some_and(|lost| tries.may_refresh(lost, method)) {
        return Ok(Some(id));
    }
    blame(shard, cluster, id, kind);
    match lost {
        Some(lost) if tries.may_move(id, lost, method, || cluster.may_retry()) => Ok(None),
        _ => Err(kind),
    }
}

/// Counts a failure against an endpoint, if it is the endpoint's.
fn blame(shard: &Shard, cluster: &Cluster, id: EndpointId, kind: Kind) {
    if kind.is_endpoints() {
        cluster.failed(id, shard.now());
    }
}

/// Why a try failed; `lost` if nothing of an answer was seen, so that another may be possible.
struct Failure {
    kind: Kind,
    lost: Option<Lost>,
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self { kind, lost: None }
    }
}

/// Rewrites the request into what the upstream gets: the route's changes, then ours.
fn prepare(
    shard: &Shard,
    route: &Route,
    request: &mut RequestHead,
    down: &mut Downstream<'_>,
) -> Result<()> {
    rewrite::path(request, &route.rewrite);
    let random = shard.random.borrow_mut().ten_bytes();
    let id = uuid::Builder::from_unix_timestamp_millis(shard.wall(), &random).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = id.hyphenated().encode_lower(&mut text);
    let added = Added { client: down.client, via: &shard.plan.name, request_id: id.as_bytes() };
    hop::forward_request(request, &added, down.kept)?;
    rewrite::fields(&mut request.fields, &route.request_headers);
    Ok(())
}

/// One try on one connection.
#[expect(clippy::too_many_arguments, reason = "the whole situation, once")]
async fn once(
    shard: &Rc<Shard>,
    route: &Route,
    cluster: &Cluster,
    id: EndpointId,
    attempt: Attempt,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    total_by: Moment,
) -> std::result::Result<(), Failure> {
    let Workspace { request, response } = work;
    let Attempt { mut connection, was_pooled } = attempt;
    let upgrade = upgrade::is_wanted(request, &route.upgrade).then(|| request.upgrade());
    let head = head_bytes(shard, cluster, id, request, upgrade.is_some(), &mut connection)?;
    let hop = Hop {
        shard,
        route,
        stream: down.stream,
        answer: &down.answer,
        may_keep: down.may_keep && upgrade.is_none(),
        request,
        upgrade,
        total_by,
    };
    let sides = Sides { hop: &hop, inbound: down.inbound, connection: &mut connection, response };
    let ended = match exchange(sides, head).await {
        Ok(ended) => ended,
        Err(kind) => {
            let lost = Lost {
                was_pooled,
                has_answer: !connection.inbound.is_empty() || response.status != 0,
                has_body: !request.framing.is_empty(),
            };
            let is_lost = kind == Kind::UpstreamGone && !down.answer.begun.get();
            return Err(Failure { kind, lost: is_lost.then_some(lost) });
        }
    };
    match ended {
        Ended::Whole => {
            let proof = Proof {
                request_written: down.answer.body_done.get(),
                response_complete: true,
                nothing_left: connection.inbound.is_empty(),
                peer_keeps: peer_keeps(response.version, response.options),
                untainted: !response.tainted
                    && upgrade.is_none()
                    && connection.generation == cluster.endpoint(id).generation(),
            };
            let pool = &cluster.endpoint(id).pool;
            pool.keep(connection, proof, shard.now(), &cluster.model.pool);
            Ok(())
        }
        Ended::Switched => {
            let ends = tunnel::Ends { stream: down.stream, inbound: down.inbound };
            tunnel::run(&hop, response, ends, *connection).await.map_err(Failure::from)
        }
    }
}

fn head_bytes(
    shard: &Shard,
    cluster: &Cluster,
    id: EndpointId,
    request: &RequestHead,
    upgrades: bool,
    connection: &mut Connection,
) -> Result<Buffer> {
    let endpoint = cluster.endpoint(id);
    let authority = match &cluster.model.host {
        HostPolicy::Preserve if !request.authority().is_empty() => request.authority(),
        HostPolicy::Preserve | HostPolicy::Endpoint => endpoint.authority.as_bytes(),
        HostPolicy::Fixed(host) => host.as_bytes(),
    };
    let field = if upgrades {
        RequestConnection::Upgrade
    } else if cluster.model.pool.size == 0 {
        RequestConnection::Close
    } else {
        RequestConnection::Keep
    };
    connection.head_bytes(request, authority, field, &shard.buffers)
}

/// Both connections while one request goes up and one response comes down.
struct Sides<'a> {
    hop: &'a Hop<'a>,
    inbound: &'a mut crate::net::inbound::Inbound,
    connection: &'a mut Connection,
    response: &'a mut ResponseHead,
}

/// Sends the request and relays the response, both at once if the body is not here yet: a server
/// may answer before it has read everything.
async fn exchange(sides: Sides<'_>, head: Buffer) -> Result<Ended> {
    let Sides { hop, inbound, connection, response } = sides;
    let Connection { stream: up, inbound: up_inbound, .. } = connection;
    let (shard, timeouts, framing) = (hop.shard, &hop.route.timeouts, hop.request.framing);
    let pace = Pace {
        idle: timeouts.body_idle,
        total_by: hop.total_by,
        rate: shard.plan.config.limits.body_rate,
    };
    let buffers = &shard.buffers;
    let mut body =
        BodyReader::new(hop.stream, inbound, buffers, framing, body::REQUEST, pace, shard.now());
    body.most = hop.route.body.unwrap_or(u64::MAX);
    let mut writer = BodyWriter::upstream(up, buffers, framing, timeouts.body_idle);

    let written = if framing.is_empty() {
        writer.raw(head, shard.now()).await
    } else {
        relay::begin(hop, head, &mut body, &mut writer).await
    };
    if let Err(kind) = written
        && kind.is_clients()
    {
        return Err(kind);
    }
    let is_sent = written.is_ok() && body.is_done();
    hop.answer.body_done.set(is_sent);
    hop.answer.received.set(body.received);
    up.read_by(if is_sent { hop.first_byte_by() } else { hop.total_by });
    let result = if is_sent || written.is_err() {
        relay::response(hop, up, up_inbound, response).await
    } else {
        let upload = relay::request(hop, up, &mut body, &mut writer);
        both(upload, relay::response(hop, up, up_inbound, response)).await
    };
    match (result, written) {
        // The head could not be written either: that says more than "no answer".
        (Err(Kind::UpstreamGone), Err(kind)) => Err(kind),
        (result, _) => result,
    }
}

/// Runs the upload beside the download. A fault of the client's ends both; a fault of the
/// upstream's leaves the last word to the download, for there may be an early answer. An upload
/// that is not through when the answer is ends with its connections, which are both closed.
async fn both(
    upload: impl Future<Output = Result<()>>,
    download: impl Future<Output = Result<Ended>>,
) -> Result<Ended> {
    let (mut upload, mut download) = (pin!(upload), pin!(download));
    let mut uploaded = None;
    poll_fn(|context| {
        if uploaded.is_none()
            && let Poll::Ready(result) = upload.as_mut().poll(context)
        {
            match result {
                Err(kind) if kind.is_clients() => return Poll::Ready(Err(kind)),
                result => uploaded = Some(result),
            }
        }
        match (download.as_mut().poll(context), uploaded) {
            (Poll::Ready(Err(Kind::UpstreamGone)), Some(Err(kind))) => Poll::Ready(Err(kind)),
            (poll, _) => poll,
        }
    })
    .await
}
