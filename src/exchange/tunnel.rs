//! After a 101 that was asked for.

use super::fetched::Fetched;
use super::reply::{self, Opening};
use super::state::Exchange;
use crate::base::error::{Kind, Result};
use crate::message::framing::{BodySize, Framing};
use crate::protocol::line::Line;
use crate::protocol::pace::Pace;
use crate::protocol::reply::To;
use crate::protocol::request::RequestBody;
use crate::protocol::tunnel::{End, Moved, Sink, TunnelSource, TunnelTimeouts, both_ways};
use crate::protocol::with::With;

/// Passes the 101 on and moves octets until both directions have ended.
///
/// # Errors
/// An end that was not orderly: a reset, or silence for too long.
pub async fn run(ex: &mut Exchange<'_>, fetched: &mut Fetched<'_>) -> Result<()> {
    let (shard, timeouts) = (ex.shard, &fetched.target.route.timeouts);
    ex.may_keep = false;
    ex.traffic.is_tunnel.set(true);
    let opening = Opening::new(BodySize::Empty);
    let opened = reply::open(ex, opening, With::First(None, false))?;
    ex.reply.begin(opened).await?;
    let mut loan = ex.body.lend().ok_or(Kind::Internal)?;
    let sender = fetched.writer.take().and_then(|writer| writer.into_sender());
    let client = client_end(&ex.reply, &mut loan.get().body)?;
    let endpoint = match &mut fetched.line {
        Line::Http1(line) => {
            let (transport, inbound) = line.raw();
            End {
                source: TunnelSource::Transport(transport, inbound),
                sink: Sink::Transport(transport),
            }
        }
        Line::Http2(line) => {
            let idle = timeouts.tunnel_idle;
            let pace = Pace { idle, total_by: crate::base::clock::Moment::NEVER, rate: 0 };
            line.begin_body(Framing::UntilClose, pace);
            let source = line.body().map_or(TunnelSource::None, TunnelSource::Stream);
            End { source, sink: sender.as_deref().map_or(Sink::None, Sink::Stream) }
        }
    };
    let sent = std::cell::Cell::new(0);
    let moved = Moved { received: &ex.traffic.received, sent: &sent };
    let patience = TunnelTimeouts { silence: timeouts.tunnel_idle, stall: timeouts.body_idle };
    let now = || shard.now();
    let result = both_ways(&shard.buffers, &now, (client, endpoint), patience, moved).await;
    ex.reply.count(sent.get());
    result
}

fn client_end<'t>(
    reply: &'t crate::protocol::reply::Reply<'_>,
    body: &'t mut RequestBody<'_>,
) -> Result<End<'t>> {
    let sink = match reply.to() {
        To::Http1(one) => Sink::Transport(one.transport()),
        To::Http2(one) => Sink::Stream(one.sender()),
        To::Discard => return Err(Kind::Internal),
    };
    let source = match body {
        RequestBody::Http1(body) => TunnelSource::Transport(body.transport, body.inbound),
        RequestBody::Http2(body) => {
            body.into_tunnel();
            TunnelSource::Stream(body)
        }
        RequestBody::None => TunnelSource::None,
    };
    Ok(End { source, sink })
}
