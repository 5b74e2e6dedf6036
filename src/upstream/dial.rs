//! A new connection to an endpoint. Where that is one of several addresses of a name, another one is tried
//! beside it when it takes long (RFC 8305 section 5), or at once when it refuses (exam R35).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::ask::Ask;
use super::cluster::Cluster;
use super::flight::Flight;
use super::needs::{Dialled, Needs};
use crate::base::clock::{Moment, monotonic};
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::base::limits::{ADDRESS_AFTER, ADDRESSES_TRIED};
use crate::net::connect::{Peer, connect};
use crate::net::transport::Transport;

/// Connects to the flight's endpoint, or to another address of its name, to which the flight moves then.
///
/// # Errors
/// What the last of them said; `NoAddress` if there is none.
pub async fn dial<'c>(flight: &mut Flight<'c>, ask: &Ask, needs: Needs<'_>) -> Result<Dialled> {
    let (cluster, id) = (flight.cluster(), flight.id);
    let siblings = cluster.siblings(id, ask, ADDRESSES_TRIED - 1);
    let endpoint = cluster.endpoint(id);
    match endpoint.peer() {
        // A dial is rare enough to read the clock: each address has a deadline of its own.
        Some(peer) if siblings.is_empty() => {
            let deadline = monotonic().after(needs.timeouts.connect);
            let generation = endpoint.generation();
            let transport = connect(&peer, needs.sweep, deadline).await?;
            Ok(Dialled { transport, peer, generation })
        }
        // DNS has just taken it away.
        None if siblings.is_empty() => Err(Kind::NoAddress),
        _ => Box::pin(race(flight, siblings, needs)).await,
    }
}

/// The first address that takes the connection. What is found out about the others on the way is held against
/// them, but for what ends it all, which is the caller's.
async fn race<'c>(
    flight: &mut Flight<'c>,
    mut waiting: Vec<EndpointId>,
    needs: Needs<'_>,
) -> Result<Dialled> {
    let (cluster, id) = (flight.cluster(), flight.id);
    waiting.push(id);
    waiting.rotate_right(1);
    waiting.reverse();
    let (running, alarm, faults) = (Vec::new(), None, Vec::new());
    let mut race = Race { cluster, own: id, needs, waiting, running, alarm, faults };
    let result = poll_fn(|context| race.poll(context)).await;
    for (other, kind) in race.faults {
        if kind.blames_endpoint() && (result.is_ok() || other != id) {
            cluster.failed(other, kind);
        }
    }
    let (dialled, moved) = result?;
    if let Some(moved) = moved {
        *flight = moved;
    }
    Ok(dialled)
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Transport>> + 'a>>;
type Alarm<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
/// A connection, and the flight at the endpoint that took it, if it is another one.
type WonDial<'c> = (Dialled, Option<Flight<'c>>);

/// One address that is being tried.
struct Runner<'a, 'c> {
    id: EndpointId,
    /// Its place at an endpoint that was not chosen: it counts there while it is tried.
    flight: Option<Flight<'c>>,
    peer: Peer,
    generation: u32,
    begun: Moment,
    connecting: Connecting<'a>,
}

struct Race<'a, 'c> {
    cluster: &'c Cluster,
    /// The one that was chosen.
    own: EndpointId,
    needs: Needs<'a>,
    /// Those that are still to be tried, the next one last.
    waiting: Vec<EndpointId>,
    running: Vec<Runner<'a, 'c>>,
    alarm: Option<Alarm<'a>>,
    /// The addresses that did not take the connection, and why.
    faults: Vec<(EndpointId, Kind)>,
}

impl<'c> Race<'_, 'c> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<WonDial<'c>>> {
        loop {
            if let Poll::Ready(result) = self.poll_running(context) {
                return Poll::Ready(result);
            }
            let is_late = match &mut self.alarm {
                Some(alarm) => alarm.as_mut().poll(context).is_ready(),
                None => true,
            };
            if is_late && let Some(next) = self.waiting.pop() {
                self.alarm = None;
                self.begin(next);
                continue;
            }
            if self.running.is_empty() {
                let last = self.faults.last().map_or(Kind::NoAddress, |(_, kind)| *kind);
                return Poll::Ready(Err(last));
            }
            return Poll::Pending;
        }
    }

    /// Ready when there is a connection, or when trying is of no use any more.
    fn poll_running(&mut self, context: &mut Context<'_>) -> Poll<Result<WonDial<'c>>> {
        let mut at = 0;
        while at < self.running.len() {
            let Poll::Ready(result) = self.running[at].connecting.as_mut().poll(context) else {
                at += 1;
                continue;
            };
            let Runner { id, flight, peer, generation, .. } = self.running.remove(at);
            match result {
                Ok(transport) => {
                    // An address that began earlier has had its time, unless a refusal cut that short.
                    let now = monotonic();
                    let had = |one: &&Runner<'_, '_>| now.since(one.begun) >= ADDRESS_AFTER;
                    let late = self.running[..at].iter().filter(had);
                    self.faults.extend(late.map(|one| (one.id, Kind::ConnectTimeout)));
                    return Poll::Ready(Ok((Dialled { transport, peer, generation }, flight)));
                }
                // Our own shortage will not get better at another address.
                Err(kind @ (Kind::LocalPorts | Kind::OpenFiles)) => return Poll::Ready(Err(kind)),
                Err(kind) => {
                    self.faults.push((id, kind));
                    self.alarm = None;
                }
            }
        }
        Poll::Pending
    }

    fn begin(&mut self, id: EndpointId) {
        let Needs { sweep, alarms, timeouts, .. } = self.needs;
        let endpoint = self.cluster.endpoint(id);
        let Some(peer) = endpoint.peer() else { return };
        let mut flight = None;
        if id != self.own {
            flight = self.cluster.begin_at_sibling(id);
            if flight.is_none() {
                // It has filled up.
                return;
            }
        }
        let (begun, to) = (monotonic(), peer.clone());
        let deadline = begun.after(timeouts.connect);
        let connecting = Box::pin(async move { connect(&to, sweep, deadline).await });
        let generation = endpoint.generation();
        self.running.push(Runner { id, flight, peer, generation, begun, connecting });
        self.alarm = (!self.waiting.is_empty())
            .then(|| -> Alarm<'_> { Box::pin(alarms.after(ADDRESS_AFTER)) });
    }
}
