//! Octets in both directions until both have ended: after a 101 that was asked for, and on listeners that speak no
//! HTTP. What was read before stays in order in front of them.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::http1::write::Writing;
use super::http2::receive::H2Receiver;
use super::http2::send::H2Sender;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::net::buffer::{Buffer, Buffers};
use crate::net::inbound::Inbound;
use crate::net::size::Size;
use crate::net::transport::Transport;

/// Where octets come from.
pub enum TunnelSource<'a> {
    Transport(&'a Transport, &'a mut Inbound),
    Stream(&'a mut H2Receiver),
    /// Nothing comes.
    None,
}

/// Where they go.
pub enum Sink<'a> {
    Transport(&'a Transport),
    Stream(&'a H2Sender),
    /// Nothing goes.
    None,
}

/// One end of a tunnel.
pub struct End<'a> {
    pub source: TunnelSource<'a>,
    pub sink: Sink<'a>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct TunnelTimeouts {
    /// Silence in both directions for longer ends the tunnel.
    pub silence: Duration,
    /// An end that takes nothing for longer is gone.
    pub stall: Duration,
}

/// Where octets are counted.
#[derive(Clone, Copy)]
pub struct Moved<'a> {
    pub received: &'a Cell<u64>,
    pub sent: &'a Cell<u64>,
}

/// Moves octets in both directions until both have ended. The first fault ends both; an orderly end leaves the
/// other way open.
///
/// # Errors
/// An end that was not orderly: `ClientGone`, `UpstreamGone`, or an end that took nothing for too long.
pub async fn both_ways(
    buffers: &Buffers,
    now: &dyn Fn() -> Moment,
    (client, endpoint): (End<'_>, End<'_>),
    patience: TunnelTimeouts,
    moved: Moved<'_>,
) -> Result<()> {
    // Octets in either direction keep both alive.
    let active = Cell::new(now());
    let way = BothWays { buffers, now, silence: patience.silence, active: &active };
    let upward = TunnelPump {
        source: client.source,
        gone: Kind::ClientGone,
        sink: endpoint.sink,
        writing: Writing::upstream(patience.stall, false),
    };
    let downward = TunnelPump {
        source: endpoint.source,
        gone: Kind::UpstreamGone,
        sink: client.sink,
        writing: Writing::downstream(patience.stall),
    };
    both(way.run(upward, moved.received), way.run(downward, moved.sent)).await
}

/// What both ways have in common.
#[derive(Clone, Copy)]
struct BothWays<'a> {
    buffers: &'a Buffers,
    now: &'a dyn Fn() -> Moment,
    silence: Duration,
    /// When octets were moved last.
    active: &'a Cell<Moment>,
}

/// One way.
struct TunnelPump<'a> {
    source: TunnelSource<'a>,
    /// The source has gone.
    gone: Kind,
    sink: Sink<'a>,
    /// How the sink is written to, and what it is blamed for.
    writing: Writing,
}

impl BothWays<'_> {
    /// Moves octets one way until that way ends, and passes the end on.
    async fn run(&self, mut pump: TunnelPump<'_>, moved: &Cell<u64>) -> Result<()> {
        loop {
            self.active.set((self.now)());
            let by = self.active.get().after(self.silence);
            if let Sink::Transport(to) = &pump.sink {
                to.read_by(by);
            }
            let Some(data) = self.read(&mut pump, by).await? else {
                pump.end();
                return Ok(());
            };
            moved.set(moved.get() + data.len() as u64);
            pump.write(self.buffers, data).await?;
        }
    }

    async fn read(&self, pump: &mut TunnelPump<'_>, by: Moment) -> Result<Option<Buffer>> {
        let gone = pump.gone;
        match &mut pump.source {
            TunnelSource::Transport(from, inbound) => {
                from.read_by(by);
                if inbound.is_empty() {
                    let read = inbound.fill(from, self.buffers, Size::Small).await;
                    if from.expired().is_some() || read.map_err(|_| gone)? == 0 {
                        return if from.expired().is_some() { Err(gone) } else { Ok(None) };
                    }
                }
                Ok(inbound.take())
            }
            TunnelSource::None => Ok(None),
            TunnelSource::Stream(from) => {
                let mut by = by;
                loop {
                    from.read_by(by);
                    let octets = from.octets(self.buffers).await;
                    by = self.active.get().after(self.silence);
                    match octets {
                        Ok(data) => return Ok(data),
                        // The other way has moved something meanwhile.
                        Err(_) if from.is_late() && by > (self.now)() => {}
                        Err(_) => return Err(gone),
                    }
                }
            }
        }
    }
}

impl TunnelPump<'_> {
    async fn write(&self, buffers: &Buffers, data: Buffer) -> Result<()> {
        match &self.sink {
            Sink::Transport(to) => self.writing.buffer(to, buffers, data).await,
            Sink::Stream(to) => {
                let sent = to.data(data.data(), false, false, self.writing.period()).await;
                buffers.give(data);
                sent.map_err(|_| self.writing.fault(to.is_late()))
            }
            Sink::None => Err(self.writing.fault(false)),
        }
    }

    /// Says that nothing more comes. Where it cannot be said any more, nothing is there to hear it.
    fn end(&self) {
        match &self.sink {
            Sink::Transport(to) => to.shutdown_write(),
            Sink::Stream(to) => {
                let _ = to.end(None);
            }
            Sink::None => {}
        }
    }
}

/// Both ways at once.
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
