//! After a 101 that was asked for, and on listeners that speak no HTTP: bytes in both directions until
//! both have ended. What was read before stays in order in front of them.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::relay::Hop;
use crate::base::error::{Kind, Result};
use crate::config::model::Timeouts;
use crate::message::framing::Framing;
use crate::message::head::ResponseHead;
use crate::net::body::BodyWriter;
use crate::net::buffer::Size;
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::upstream::http1::Connection;
use crate::wire::http1::write::{self, ResponseConnection, Writer};

/// The client's end.
pub struct Ends<'a> {
    pub stream: &'a Stream,
    pub inbound: &'a mut Inbound,
}

/// Passes the 101 on and moves bytes until both directions have ended.
///
/// # Errors
/// An end that was not orderly: somebody reset, or was silent for too long.
pub async fn run(
    hop: &Hop<'_, '_>,
    response: &ResponseHead,
    down: Ends<'_>,
    mut connection: Connection,
) -> Result<()> {
    let shard = hop.shard;
    let mut buffer = shard.buffers.take(Size::fitting(response.fields.wire_len() + 256));
    let mut out = Writer::new(buffer.spare());
    let connection_field = ResponseConnection::Upgrade;
    write::response(response, Framing::None, b"", connection_field, &mut out);
    let len = out.finish().ok_or(Kind::UpstreamHeadTooLarge)?;
    buffer.filled(len);
    hop.answer.begun.set(true);
    hop.answer.status.set(101);
    hop.answer.was_tunnel.set(true);
    let idle = hop.route.timeouts.body_idle;
    let raw = Framing::UntilClose;
    BodyWriter::downstream(down.stream, &shard.buffers, raw, idle).raw(buffer, shard.now()).await?;

    let moved = Moved { received: &hop.answer.received, sent: &hop.answer.sent };
    both_ways(shard, &hop.route.timeouts, down, &mut connection, moved).await
}

/// Where octets are counted.
#[derive(Clone, Copy)]
pub struct Moved<'a> {
    pub received: &'a Cell<u64>,
    pub sent: &'a Cell<u64>,
}

/// Moves octets in both directions until both have ended.
///
/// # Errors
/// An end that was not orderly.
pub async fn both_ways(
    shard: &Shard,
    timeouts: &Timeouts,
    down: Ends<'_>,
    connection: &mut Connection,
    moved: Moved<'_>,
) -> Result<()> {
    let (raw, idle) = (Framing::UntilClose, timeouts.body_idle);
    let Connection { stream: up, inbound: up_inbound, .. } = connection;
    let to_up = BodyWriter::upstream(up, &shard.buffers, raw, idle);
    let to_down = BodyWriter::downstream(down.stream, &shard.buffers, raw, idle);
    let frame = Frame { shard, idle: timeouts.tunnel_idle };
    let from_down = (down.stream, down.inbound);
    let upward = pump(frame, from_down, (up, to_up), Kind::ClientGone, moved.received);
    let from_up = (&*up, up_inbound);
    let downward = pump(frame, from_up, (down.stream, to_down), Kind::UpstreamGone, moved.sent);
    both(pin!(upward), pin!(downward)).await
}

/// What both ways have in common.
#[derive(Clone, Copy)]
struct Frame<'a> {
    shard: &'a Shard,
    /// Silence for longer ends both.
    idle: Duration,
}

/// Moves bytes one way until that way ends, and passes the end on.
async fn pump(
    Frame { shard, idle }: Frame<'_>,
    (from, inbound): (&Stream, &mut Inbound),
    (to, mut writer): (&Stream, BodyWriter<'_>),
    gone: Kind,
    moved: &Cell<u64>,
) -> Result<()> {
    loop {
        // Bytes in either direction keep both alive.
        let deadline = shard.now().after(idle);
        from.read_by(deadline);
        to.read_by(deadline);
        if inbound.is_empty() {
            let read = inbound.fill(from, &shard.buffers, Size::Small).await;
            if from.expired().is_some() {
                return Err(gone);
            }
            if read.map_err(|_| gone)? == 0 {
                to.shutdown_write();
                return Ok(());
            }
        }
        if let Some(mut data) = inbound.take() {
            writer.frame(&mut data, false);
            writer.raw(data, shard.now()).await?;
            moved.set(writer.sent);
        }
    }
}

/// Both ways at once. The first fault ends both; an orderly end leaves the other way open.
async fn both(
    one: impl Future<Output = Result<()>>,
    other: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (false, false);
    poll_fn(|context| {
        if !first && let Poll::Ready(result) = one.as_mut().poll(context) {
            result?;
            first = true;
        }
        if !second && let Poll::Ready(result) = other.as_mut().poll(context) {
            result?;
            second = true;
        }
        if first && second { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
