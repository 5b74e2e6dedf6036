//! A request to an upstream, up to the final head of its answer: which endpoint, how often, and when to give up is
//! decided here and nowhere else. What was fetched is a value; what becomes of it is said elsewhere.

use super::answer;
use super::failure::{Failure, not_connected, retry};
use super::fetched::Fetched;
use super::grpc;
use super::hedge;
use super::state::{Exchange, Loan, Traffic};
use super::target::TryTarget;
use super::upload::{AnswerBy, ClientBody, Upload, beside, finish};
use crate::base::clock::{Micros, Moment};
use crate::base::error::{Kind, Result};
use crate::base::id::ClusterId;
use crate::config::model::{Route, Timeouts};
use crate::message::head::Version;
use crate::message::upgrade;
use crate::net::buffer::Buffer;
use crate::net::size::Size;
use crate::protocol::line::{Line, RequestWriter};
use crate::protocol::pace::Pace;
use crate::shard::Shard;
use crate::upstream::ask::Ask;
use crate::upstream::attempt::{self, Attempt};
use crate::upstream::cluster::Cluster;
use crate::upstream::flight::Flight;
use std::pin::pin;
use std::rc::Rc;

/// Fetches the answer to `work.request` from a cluster; its head is in `work.response` then.
///
/// # Errors
/// Why there was no answer.
pub async fn run<'a>(
    ex: &mut Exchange<'a>,
    route: &'a Route,
    cluster: ClusterId,
) -> Result<Fetched<'a>> {
    ex.prepare()?;
    let shard = ex.shard;
    let cluster = shard.cluster(cluster);
    let total_by = begin_patience(ex, route);
    let mut last_fault = None;
    let mut held: Option<Flight<'_>> = None;
    let upgrades = wants_upgrade(ex, route);
    cluster.pay_in();
    let mut ask = cluster.ask(&ex.work.request, ex.record.client, shard.wall());
    loop {
        if shard.now() >= total_by {
            return Err(Kind::TotalTimeout);
        }
        let is_fresh = held.is_some();
        let begun = match held.take() {
            Some(flight) => Ok(flight),
            None => begin(ex, cluster, &ask, route).await,
        };
        let mut flight = begun.map_err(|kind| last_fault.unwrap_or(kind))?;
        ex.record.try_at(flight.id);
        let pooled = || attempt::pooled(&flight, ex.client.client.address, shard.now());
        let attempt = match if is_fresh { None } else { pooled() } {
            Some(attempt) => attempt,
            None => match Box::pin(connect(ex, &mut flight, &ask, route, is_fresh)).await {
                Ok(attempt) => attempt,
                Err(kind) => {
                    let told = not_connected(cluster, flight.id, kind, &mut ask.tries)?;
                    last_fault = Some(told);
                    continue;
                }
            },
        };
        note(ex, &flight, &attempt);
        let target = TryTarget { cluster, id: flight.id, ask, total_by, route, upgrades };
        // In its place from the start: as an argument it would be copied at each step.
        let Attempt { line, was_pooled } = attempt;
        let mut fetched = Fetched { target, line, flight, was_pooled, upload: None, writer: None };
        let Err(failure) = once(ex, &mut fetched).await else {
            ex.record.upstream = shard.since(ex.record.started);
            return Ok(fetched);
        };
        let flight = fetched.flight;
        let (method, detail) = (ex.work.request.method, ex.traffic.detail.get());
        detail.inspect(|detail| attempt::complain(cluster, flight.id, detail));
        let is_same = retry(cluster, flight.id, &failure, method, &mut ask.tries)?;
        shard.count(|counters| counters.retries += 1);
        held = is_same.then_some(flight);
        last_fault = Some(failure.kind);
    }
}

/// Chooses an endpoint, and waits for one with room if there is none.
async fn begin<'a>(
    ex: &mut Exchange<'a>,
    cluster: &'a Cluster,
    ask: &Ask,
    route: &Route,
) -> Result<Flight<'a>> {
    match cluster.begin(ask)? {
        Some(flight) => Ok(flight),
        None => Box::pin(wait(ex, cluster, ask, route)).await,
    }
}

/// A connection to the endpoint, or to another address of its name. In a box: nearly always one idles.
async fn connect(
    ex: &mut Exchange<'_>,
    flight: &mut Flight<'_>,
    ask: &Ask,
    route: &Route,
    is_fresh: bool,
) -> Result<Attempt> {
    let needs = ex.shard.needs(ex.timeouts(route), ex.client.client.address, is_fresh);
    let begun = ex.shard.stopwatch();
    let attempt = attempt::open(flight, ask, needs).await;
    let took = ex.shard.since(begun);
    ex.record.connecting = in_all(ex.record.connecting, took);
    attempt.inspect_err(|_| ex.shard.count(|counters| counters.dial_failures += 1))
}

/// A client that is gone by then does not reach the endpoint (exam H05): one that ended its side while it
/// waited is taken to be gone.
async fn wait<'a>(
    ex: &mut Exchange<'a>,
    cluster: &'a Cluster,
    ask: &Ask,
    route: &Route,
) -> Result<Flight<'a>> {
    let begun = ex.shard.stopwatch();
    let flight = cluster.begin_later(*ask, route.priority, ex.now()).await;
    ex.record.queued = in_all(ex.record.queued, ex.shard.since(begun));
    let flight = flight?;
    if ex.reply.is_hung_up() {
        return Err(Kind::ClientGone);
    }
    Ok(flight)
}

/// With what more tries took.
fn in_all(before: u32, took: Micros) -> u32 {
    before.saturating_add(u32::try_from(took).unwrap_or(u32::MAX))
}

/// Until when an exchange may take. A call of gRPC says so itself; its streams may be as silent as a tunnel.
fn begin_patience(ex: &mut Exchange<'_>, route: &Route) -> Moment {
    let total_by = ex.now().after(route.timeouts.total);
    let request = &ex.work.request;
    if request.version != Version::Http2 || !grpc::is_call(request) {
        return total_by;
    }
    let idle = route.timeouts.stream_idle;
    let by = total_by.min(grpc::deadline(request, ex.now()));
    let own = Timeouts { body_idle: idle, first_byte: idle, ..route.timeouts };
    ex.own_timeouts = Some(Box::new(own));
    by
}

/// Takes down where the request goes.
fn note(ex: &mut Exchange<'_>, flight: &Flight<'_>, attempt: &Attempt) {
    note_endpoint(ex, flight);
    ex.record.reused = attempt.was_pooled;
    ex.record.upstream_version = Some(attempt.line.version());
    ex.shard.count(|counters| {
        if attempt.was_pooled {
            counters.reuses += 1;
        } else {
            counters.dials += 1;
        }
    });
}

fn note_endpoint(ex: &mut Exchange<'_>, flight: &Flight<'_>) {
    ex.record.endpoint = Some(flight.id);
    ex.record.choice = Some(flight.why);
    ex.record.address = ex.shard.noted_address(flight.cluster(), flight.id);
}

/// One try on one connection.
async fn once<'a>(
    ex: &mut Exchange<'a>,
    fetched: &mut Fetched<'a>,
) -> std::result::Result<(), Failure> {
    // What another try was answered says nothing about this one.
    ex.work.response.status = 0;
    ex.traffic.detail.set(None);
    let Err(kind) = ask_and_hear(ex, fetched).await else { return Ok(()) };
    if matches!(kind, Kind::FirstByteTimeout | Kind::TotalTimeout) {
        fetched.line.distrust();
    }
    let detail = ex.traffic.detail.get().or_else(|| fetched.line.detail());
    ex.traffic.detail.set(detail);
    Err(Failure::of(ex, fetched, kind))
}

/// Sends the request and waits for its final head, both at once if the body is not here yet: a server
/// may answer before it has read everything.
async fn ask_and_hear<'a>(ex: &mut Exchange<'a>, fetched: &mut Fetched<'a>) -> Result<()> {
    let written = send(ex, fetched).await?;
    let is_sent = written.is_ok() && fetched.upload.is_none();
    let target = &fetched.target;
    // What could not be written is not waited for longer than what was: the answer may have come before.
    let is_over = fetched.upload.is_none();
    let by = if is_over { target.answer_by(ex).from(ex.now()) } else { target.total_by };
    fetched.line.answer_by(by);
    if is_sent
        && hedge::is_wanted(ex, fetched)
        && let Some(won) = Box::pin(hedge::race(ex, fetched)).await
    {
        (fetched.line, fetched.flight) = won;
        fetched.target.id = fetched.flight.id;
        note_endpoint(ex, &fetched.flight);
    }
    let Fetched { line, upload, target, .. } = fetched;
    let heard = beside(upload, pin!(answer::final_head(ex, line, target))).await;
    match (heard, written) {
        // The head could not be written either: that says more than "no answer".
        (Err(Kind::UpstreamGone | Kind::FirstByteTimeout), Err(kind)) => return Err(kind),
        (heard, _) => heard?,
    }
    ex.traffic.is_answered.set(true);
    let status = ex.work.response.status;
    if status >= 400 && target.take_another(ex, status) {
        return Err(Kind::UpstreamStatus);
    }
    Ok(())
}

/// Writes the request's head with as much of its body as has come already, in one go if it fits; the rest is an
/// upload. Whether what was written went out: an endpoint that did not take it may have answered all the same.
async fn send<'a>(ex: &Exchange<'a>, fetched: &mut Fetched<'a>) -> Result<Result<()>> {
    fetched.line.read_for(ex.reply.backlog());
    if fetched.target.upgrades || !ex.work.request.framing.is_empty() {
        return Box::pin(send_with_body(ex, fetched)).await;
    }
    let Fetched { target, line, .. } = fetched;
    let written = line.send(&ex.shard.buffers, &ex.work.request, target.terms(ex)).await?;
    ex.traffic.is_written.set(written.is_ok());
    Ok(written)
}

async fn begin_line<'a>(
    ex: &Exchange<'a>,
    target: &TryTarget<'a>,
    line: &mut Line,
    first: Option<Buffer>,
    is_last: bool,
) -> Result<(RequestWriter, Result<()>)> {
    let request = &ex.work.request;
    let terms = target.terms(ex);
    line.begin(&ex.shard.buffers, request, terms, first, is_last).await
}

/// The same for a request that has a body, or wants to become a tunnel.
async fn send_with_body<'a>(ex: &Exchange<'a>, fetched: &mut Fetched<'a>) -> Result<Result<()>> {
    let (shard, traffic, target) = (ex.shard, ex.traffic, fetched.target);
    if target.upgrades {
        let (writer, written) = begin_line(ex, &target, &mut fetched.line, None, true).await?;
        traffic.is_written.set(written.is_ok());
        fetched.writer = Some(Box::new(writer));
        return Ok(written);
    }
    let mut loan = ex.body.lend().ok_or(Kind::Internal)?;
    let body = loan.get();
    // A call of gRPC, which has timeouts of its own, may be slow.
    let rate = if ex.own_timeouts.is_some() { 0 } else { shard.plan.config.limits.body_rate };
    let idle = ex.timeouts(target.route).body_idle;
    let pace = Pace { idle, total_by: target.total_by, rate };
    body.body.begin(ex.work.request.framing, pace, target.route.body.unwrap_or(u64::MAX));

    let is_again = !body.replay.sent().is_empty();
    let mut first = None;
    if !is_again {
        let ready = body.body.ready(&shard.buffers).await;
        traffic.detail.set(body.body.detail());
        first = ready?;
        if let Some(data) = &first {
            body.replay.keep(data.data(), fetched.line.is_stream());
        }
    }
    let mut is_ended = first.is_some() && body.ends_here();
    traffic.received.set(body.body.received());
    let line = &mut fetched.line;
    let (writer, mut written) = begin_line(ex, &target, line, first, is_ended).await?;
    if is_again && written.is_ok() {
        (is_ended, written) = send_again(shard, body, &writer).await;
    }
    traffic.has_come.set(body.body.is_done());
    if written.is_ok() && body.body.is_done() {
        written = finish(shard, body, &writer, is_ended).await;
    } else if written.is_ok() {
        let by = target.answer_by(ex);
        fetched.upload = Some(Upload::new(upload(shard, traffic, loan, writer, by)));
        return Ok(written);
    }
    ex.traffic.is_written.set(written.is_ok());
    Ok(written)
}

/// What the last try has sent goes out first. Whether that ended the body, and whether all went well.
async fn send_again(
    shard: &Rc<Shard>,
    body: &ClientBody<'_>,
    writer: &RequestWriter,
) -> (bool, Result<()>) {
    let rest = body.replay.sent();
    let mut from = 0;
    loop {
        let mut buffer = shard.buffers.take(Size::Small);
        let len = (rest.len() - from).min(buffer.space());
        buffer.append(&rest[from..from + len]);
        from += len;
        // Trailers that were sent are not kept: a body with some is not sent again.
        let is_last = from == rest.len();
        let is_end = is_last && body.ends_here();
        let written = writer.data(&shard.buffers, buffer, is_end).await;
        if is_last || written.is_err() {
            return (is_end, written);
        }
    }
}

/// Moves the rest of the request's body. Its last octet, and a fault of writing, start the wait for an answer.
async fn upload<'a>(
    shard: &'a Rc<Shard>,
    traffic: &'a Traffic,
    mut loan: Loan<'a, ClientBody<'a>>,
    writer: RequestWriter,
    by: AnswerBy,
) -> Result<()> {
    let moved = move_rest(shard, traffic, loan.get(), &writer).await;
    traffic.is_written.set(moved.is_ok());
    if !traffic.is_answered.get() {
        writer.answer_by(by.from(shard.now()));
    }
    moved
}

async fn move_rest<'a>(
    shard: &'a Rc<Shard>,
    traffic: &'a Traffic,
    client: &mut ClientBody<'a>,
    writer: &RequestWriter,
) -> Result<()> {
    let mut is_ended = false;
    loop {
        client.body.pace_for(|len| writer.has_room(len));
        let next = client.body.next(&shard.buffers).await;
        let next = next.inspect_err(|_| traffic.detail.set(client.body.detail()))?;
        let Some(data) = next else { break };
        is_ended = client.ends_here();
        traffic.has_come.set(client.body.is_done());
        if traffic.is_answered.get() {
            // There will be no other try.
            client.replay.lose();
        } else {
            client.replay.keep(data.data(), writer.is_stream());
        }
        writer.data(&shard.buffers, data, is_ended).await?;
        traffic.received.set(client.body.received());
    }
    traffic.has_come.set(true);
    finish(shard, client, writer, is_ended).await
}

/// Whether the request's upgrade is passed on.
#[inline]
fn wants_upgrade(ex: &Exchange<'_>, route: &Route) -> bool {
    let request = &ex.work.request;
    !request.upgrade().is_empty() && upgrade::is_wanted(request, &route.upgrade)
}
