//! A request to an upstream and its response back, with as many tries as are safe.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::failure::{Failure, failure, not_connected, of_strand, retry};
use super::fill::Fill;
use super::grpc;
use super::hedge;
use super::relay::{self, Ended, Hop, Target};
use super::side::Downstream;
use super::tunnel;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::{ClusterId, EndpointId};
use crate::base::request_id;
use crate::config::model::{HostPolicy, Route, Timeouts};
use crate::message::head::{RequestHead, ResponseHead, Version};
use crate::message::hop::{self, Added};
use crate::net::body::{self, BodyReader, BodyWriter, Pace};
use crate::net::buffer::Buffer;
use crate::observe::record::Record;
use crate::route::rewrite;
use crate::shard::{Shard, Workspace};
use crate::upstream::Cluster;
use crate::upstream::attempt::{self, Attempt};
use crate::upstream::choose::Ask;
use crate::upstream::flight::Flight;
use crate::upstream::http1::Connection;
use crate::wire::http1::reuse::{Proof, peer_keeps};
use crate::wire::http1::upgrade;
use crate::wire::http1::write::RequestConnection;

/// Where a request goes, and for whom.
#[derive(Clone, Copy)]
pub struct To<'a> {
    pub route: &'a Route,
    pub cluster: ClusterId,
    /// The cache wants to see the answer.
    pub fill: Option<&'a Fill<'a>>,
    /// It was rewritten already: this is once more.
    pub is_prepared: bool,
}

/// Forwards a request.
///
/// # Errors
/// Why there was no answer, or no whole one.
pub async fn run(
    shard: &Rc<Shard>,
    to: To<'_>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    record: &mut Record,
) -> Result<()> {
    let route = to.route;
    if !to.is_prepared {
        prepare(shard, route, &mut work.request, down)?;
    }
    let cluster = shard.cluster(to.cluster);
    let (own, total_by) = patience(shard, route, &work.request);
    let timeouts = own.as_deref().unwrap_or(&route.timeouts);
    let mut last_fault = None;
    let mut held: Option<Flight<'_>> = None;
    let replay = RefCell::default();
    cluster.pay_in();
    let mut ask = cluster.ask(&work.request, record.client, shard.wall());
    loop {
        if shard.now() >= total_by {
            return Err(Kind::TotalTimeout);
        }
        let fresh = held.is_some();
        let begun = match held.take().map_or_else(|| cluster.begin(&ask), |flight| Ok(Some(flight)))
        {
            Ok(Some(flight)) => Ok(flight),
            Ok(None) => Box::pin(wait(shard, cluster, &ask, route, down)).await,
            Err(kind) => Err(kind),
        };
        let mut flight = begun.map_err(|kind| last_fault.unwrap_or(kind))?;
        record.try_at(flight.id);
        let needs = shard.needs(timeouts, down.address, fresh);
        let attempt = match attempt::open(&mut flight, &ask, needs).await {
            Ok(attempt) => attempt,
            Err(kind) => {
                shard.count(|counters| counters.dial_failures += 1);
                last_fault = Some(not_connected(cluster, flight.id, kind, &mut ask.tries)?);
                continue;
            }
        };
        let id = flight.id;
        record.endpoint = Some(id);
        record.address = shard.noted_address(cluster, id);
        record.reused = attempt.was_pooled;
        count(shard, &attempt);
        let (client, is_secure) = (down.address, down.client.is_secure);
        let replay = &replay;
        let target =
            Target { cluster, id, ask: &ask, total_by, timeouts, replay, client, is_secure };
        let (won, result) = once(shard, to, target, attempt, work, down).await;
        let flight = won.unwrap_or(flight);
        record.endpoint = Some(flight.id);
        match result {
            Ok(()) => return landed(cluster, to, flight, down.answer.status.get()),
            Err(failure) => {
                let (method, detail) = (work.request.method, down.answer.detail.get());
                detail.inspect(|detail| attempt::complain(cluster, flight.id, detail));
                let is_same = retry(cluster, flight.id, &failure, method, &mut ask.tries)?;
                shard.count(|counters| counters.retries += 1);
                held = is_same.then_some(flight);
                last_fault = Some(failure.kind);
            }
        }
    }
}

/// How long an exchange may take, and until when. A call of gRPC says so itself; its streams may be
/// as silent as a tunnel.
fn patience(
    shard: &Shard,
    route: &Route,
    request: &RequestHead,
) -> (Option<Box<Timeouts>>, Moment) {
    let total_by = shard.now().after(route.timeouts.total);
    if request.version != Version::Http2 || !grpc::is_call(request) {
        return (None, total_by);
    }
    let idle = route.timeouts.stream_idle;
    let timeouts = Timeouts { body_idle: idle, first_byte: idle, ..route.timeouts };
    (Some(Box::new(timeouts)), total_by.min(grpc::deadline(request, shard.now())))
}

/// The exchange is over, but for a body that is still read for the cache.
fn landed(cluster: &Cluster, to: To<'_>, flight: Flight<'_>, status: u16) -> Result<()> {
    cluster.answered(flight.id, status);
    match to.fill.and_then(|fill| fill.pump.take()) {
        None => flight.landed(),
        Some(pump) => pump.start(flight.pause()),
    }
    Ok(())
}

fn count(shard: &Shard, attempt: &Attempt) {
    shard.count(|counters| {
        if attempt.was_pooled {
            counters.reuses += 1;
        } else {
            counters.dials += 1;
        }
    });
}

/// Waits for an endpoint with room. Who is gone by then does not reach it (RELIABILITY H05): a
/// client that ended its side while it waited is taken to be gone.
async fn wait<'a>(
    shard: &Shard,
    cluster: &'a Cluster,
    ask: &Ask,
    route: &Route,
    down: &Downstream<'_>,
) -> Result<Flight<'a>> {
    let flight = cluster.begin_later(*ask, route.priority, shard.now()).await?;
    if down.stream.is_hung_up() {
        return Err(Kind::ClientGone);
    }
    Ok(flight)
}

/// Rewrites the request into what the upstream gets: the route's changes, then ours.
#[inline]
pub(super) fn prepare(
    shard: &Shard,
    route: &Route,
    request: &mut RequestHead,
    down: &Downstream<'_>,
) -> Result<()> {
    let random = {
        let mut random = shard.random.borrow_mut();
        [random.bits(), random.bits()]
    };
    let id = request_id::text(shard.wall(), random);
    let added = Added { client: down.client, via: &shard.plan.name, request_id: &id };
    hop::forward_request(request, &added, &mut down.kept.borrow_mut())?;
    rewrite::fields(&mut request.fields, &route.request_headers);
    Ok(())
}

/// One try on one connection.
async fn once<'c>(
    shard: &Rc<Shard>,
    to: To<'_>,
    target: Target<'_, 'c>,
    attempt: Attempt,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
) -> (Option<Flight<'c>>, std::result::Result<(), Failure>) {
    let Workspace { request, response, .. } = work;
    // What another try was answered says nothing about this one.
    response.status = 0;
    down.answer.detail.set(None);
    let Attempt { mut connection, was_pooled } = attempt;
    let route = to.route;
    let upgrade = Some(request.upgrade())
        .filter(|protocol| !protocol.is_empty() && upgrade::is_wanted(request, &route.upgrade));
    let (cluster, id) = (target.cluster, target.id);
    let head = match head_bytes(shard, cluster, id, request, upgrade.is_some(), &mut connection) {
        Ok(head) => head,
        Err(kind) => return (None, Err(kind.into())),
    };
    let hop = Hop {
        shard,
        route,
        fill: to.fill,
        stream: down.stream,
        answer: down.answer,
        may_keep: down.may_keep && upgrade.is_none(),
        request,
        upgrade,
        target,
        won: RefCell::default(),
    };
    let sides = Sides { hop: &hop, inbound: down.inbound, connection: &mut connection, response };
    let outcome = match exchange(sides, head).await {
        Ok(Ended::Whole | Ended::Answered) => {
            keep(&hop, connection, response);
            Ok(())
        }
        Ok(Ended::Dropped) => Ok(()),
        Ok(Ended::Stored) => match hop.fill {
            // What is read for the cache is counted there.
            Some(fill) => fill.absorb(&hop, connection, response.framing).map_err(Failure::from),
            None => Err(Kind::Internal.into()),
        },
        Ok(Ended::Switched) => {
            let ends = tunnel::Ends { stream: down.stream, inbound: down.inbound };
            Box::pin(tunnel::run(&hop, response, ends, *connection)).await.map_err(Failure::from)
        }
        Err(kind) => {
            let has_octets = !connection.inbound.is_empty() || response.status != 0;
            let (kind, is_refused) = of_strand(&connection, kind);
            Err(failure(&hop, kind, was_pooled, has_octets, is_refused))
        }
    };
    // Nobody is asked to race in most clusters.
    let won = if cluster.pace.is_some() { hop.won.take() } else { None };
    (won, outcome)
}

/// Puts a connection into its endpoint's pool, if it may be used again.
fn keep(hop: &Hop<'_, '_>, connection: Box<Connection>, response: &ResponseHead) {
    let cluster = hop.target.cluster;
    let endpoint = cluster.endpoint(hop.id());
    let proof = Proof {
        request_written: hop.answer.body_done.get(),
        response_complete: true,
        nothing_left: connection.inbound.is_empty(),
        peer_keeps: peer_keeps(response.version, response.options),
        untainted: !response.tainted
            && hop.upgrade.is_none()
            && connection.stream.as_strand().is_none()
            && connection.generation == endpoint.generation(),
    };
    endpoint.pool.keep(connection, proof, hop.shard.now(), &cluster.model.pool);
}

/// The head as this endpoint gets it.
///
/// # Errors
/// `Internal` if it has outgrown every bound.
#[inline]
pub(super) fn head_bytes(
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
struct Sides<'a, 'c> {
    hop: &'a Hop<'a, 'c>,
    inbound: &'a mut crate::net::inbound::Inbound,
    connection: &'a mut Connection,
    response: &'a mut ResponseHead,
}

/// Sends the request and relays the response, both at once if the body is not here yet: a server
/// may answer before it has read everything.
async fn exchange(sides: Sides<'_, '_>, head: Buffer) -> Result<Ended> {
    let Sides { hop, inbound, connection, response } = sides;
    let Connection { stream: up, inbound: up_inbound, .. } = connection;
    let (shard, timeouts, framing) = (hop.shard, hop.target.timeouts, hop.request.framing);
    // A call of gRPC, which has timeouts of its own, may be slow.
    let is_call = !std::ptr::eq(timeouts, &raw const hop.route.timeouts);
    let rate = if is_call { 0 } else { shard.plan.config.limits.body_rate };
    let pace = Pace { idle: timeouts.body_idle, total_by: hop.target.total_by, rate };
    let buffers = &shard.buffers;
    up_inbound.read_for(hop.stream.backlog());
    let again = hop.target.replay.borrow_mut().resume();
    let faults = body::REQUEST;
    let mut body =
        BodyReader::new(hop.stream, inbound, buffers, framing, faults, pace, shard.now());
    again.into_iter().for_each(|progress| body.go_on(*progress));
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
    hop.answer.has_come.set(body.is_done());
    hop.answer.received.set(body.received);
    up.read_by(if is_sent { hop.first_byte_by() } else { hop.target.total_by });
    if is_sent && hedge::is_wanted(hop) {
        if let Some(won) = Box::pin(hedge::race(hop, up)).await {
            *connection = *won.connection;
            hop.won.replace(Some(won.flight));
        }
        let Connection { stream: up, inbound: up_inbound, .. } = connection;
        return relay::response(hop, up, up_inbound, response).await;
    }
    let result = if is_sent || written.is_err() {
        relay::response(hop, up, up_inbound, response).await
    } else {
        // Pinned here, and so stored once.
        let upload = pin!(relay::request(hop, up, &mut body, &mut writer));
        let download = pin!(relay::response(hop, up, up_inbound, response));
        both(upload, download).await
    };
    if !framing.is_empty() && result == Err(Kind::UpstreamGone) {
        hop.target.replay.borrow_mut().pause(body);
    }
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
