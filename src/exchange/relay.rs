//! Passes what was fetched on to the client. Data stays in the buffer that the kernel filled.

use std::pin::pin;
use std::time::Duration;

use super::fetched::Fetched;
use super::reply::{self, Opening};
use super::state::Exchange;
use super::tunnel;
use super::upload::beside;
use crate::base::error::Result;
use crate::config::model::Timeouts;
use crate::message::framing::BodySize;
use crate::message::head::ResponseHead;
use crate::message::name::Name;
use crate::net::buffer::Buffers;
use crate::protocol::line::Line;
use crate::protocol::pace::Pace;
use crate::protocol::reply::Reply;
use crate::protocol::with::With;

/// Answers with what was fetched. What fails is held against the endpoint; what does not is for the caller to land.
///
/// # Errors
/// There was no whole answer, or the client is gone.
pub async fn run<'a>(ex: &mut Exchange<'a>, fetched: &mut Fetched<'a>) -> Result<()> {
    // A client that asked for an upgrade may speak the other protocol already.
    ex.may_keep &= fetched.writer.is_none();
    let relayed = if ex.work.response.status == 101 {
        Box::pin(tunnel::run(ex, fetched)).await
    } else {
        relay(ex, fetched).await
    };
    if let Err(kind) = relayed {
        fetched.fail(ex, kind);
    }
    relayed
}

async fn relay<'a>(ex: &mut Exchange<'a>, fetched: &mut Fetched<'a>) -> Result<()> {
    let Fetched { target, line, upload, .. } = fetched;
    let timeouts = ex.timeouts(target.route);
    let pace = Pace { idle: timeouts.body_idle, total_by: target.total_by, rate: 0 };
    line.begin_body(ex.work.response.framing, pace);
    // What came with the head goes out with the head. A fault in it is found before anything has
    // been said, so that the client gets a proper error.
    let first = line.ready(&ex.shard.buffers).await;
    let first = first.inspect_err(|_| ex.traffic.detail.set(line.detail()))?;
    if !line.is_done() {
        line.may_be_silent(silence_of(&ex.work.response, ex.timeouts(target.route)));
    }
    let is_last = line.is_done() && !line.has_trailers();
    let size = BodySize::from(ex.work.response.framing);
    let cookie = cookie(ex, target);
    let opening = Opening { cookie, ..Opening::new(size) };
    let opened = reply::open(ex, opening, With::First(first, is_last))?;
    beside(upload, pin!(ex.reply.begin(opened))).await?;
    if is_last {
        return if size == BodySize::Unknown && ex.reply.sent() == 0 {
            ex.reply.end(None).await
        } else {
            Ok(())
        };
    }
    let (reply, buffers) = (&mut ex.reply, &ex.shard.buffers);
    let moved = beside(upload, pin!(rest(line, reply, buffers))).await;
    moved.inspect_err(|_| ex.traffic.detail.set(line.detail()))
}

/// Moves what is left of a body.
async fn rest(line: &mut Line, reply: &mut Reply<'_>, buffers: &Buffers) -> Result<()> {
    let mut is_ended = false;
    loop {
        if reply.is_http2() && !line.is_done() {
            line.limit(reply.room().await?);
        }
        line.pace_for(|len| reply.has_room(len));
        let Some(data) = line.next(buffers).await? else { break };
        is_ended = line.is_done() && !line.has_trailers();
        reply.data(data, is_ended).await?;
    }
    if !is_ended {
        let trailers = line.take_trailers();
        reply.end(trailers.as_ref()).await?;
    }
    Ok(())
}

/// What sends the client to the same endpoint next time, if the cluster is to do so.
fn cookie(ex: &Exchange<'_>, target: &super::target::TryTarget<'_>) -> Option<String> {
    let cluster = target.cluster;
    if !cluster.is_sticky() {
        return None;
    }
    cluster.cookie(&target.ask, target.id, ex.shard.wall(), ex.client.client.is_secure)
}

/// How long a body may be silent: one of events, or of a call, for as long as nothing happens.
#[must_use]
pub fn silence_of(response: &ResponseHead, timeouts: &Timeouts) -> Duration {
    silence_of_type(response.fields.values(Name::ContentType).next().unwrap_or_default(), timeouts)
}

/// The same by the value of Content-Type.
pub fn silence_of_type(kind: &[u8], timeouts: &Timeouts) -> Duration {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_stream = kind.eq_ignore_ascii_case(b"text/event-stream")
        || kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"));
    if is_stream { timeouts.stream_idle } else { timeouts.body_idle }
}
