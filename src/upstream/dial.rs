//! A new connection to an endpoint. Where that is one of several addresses of a name, another one is tried
//! beside it when it takes long (RFC 8305 section 5), or at once when it refuses (RELIABILITY R35).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Cluster;
use super::attempt::{Dialled, Needs};
use crate::base::clock::monotonic;
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::base::limits::{ADDRESS_AFTER, ADDRESSES_TRIED};
use crate::net::connect::{Peer, connect};
use crate::net::stream::Stream;

/// Connects to an endpoint, or to another address of its name.
///
/// # Errors
/// What the last of them said; `NoAddress` if there is none.
pub async fn dial(cluster: &Cluster, id: EndpointId, needs: Needs<'_>) -> Result<Dialled> {
    let Some(peer) = cluster.endpoint(id).peer() else { return Err(Kind::NoAddress) };
    let siblings = cluster.siblings(id, ADDRESSES_TRIED - 1);
    if !siblings.is_empty() {
        return Box::pin(race(cluster, id, siblings, needs)).await;
    }
    // A dial is rare enough to read the clock: each address has a deadline of its own.
    let deadline = monotonic().after(needs.timeouts.connect);
    let generation = cluster.endpoint(id).generation();
    let stream = connect(&peer, needs.sweep, deadline).await?;
    Ok(Dialled { id, stream, peer, generation })
}

/// The first address that takes the connection. What is found out about the others on the way is held against
/// them, but for the last fault of all, which is the caller's.
async fn race(
    cluster: &Cluster,
    id: EndpointId,
    mut waiting: Vec<EndpointId>,
    needs: Needs<'_>,
) -> Result<Dialled> {
    waiting.push(id);
    waiting.rotate_right(1);
    waiting.reverse();
    let (running, alarm, faults) = (Vec::new(), None, Vec::new());
    let mut race = Race { cluster, needs, waiting, running, alarm, faults };
    let result = poll_fn(|context| race.poll(context)).await;
    for (other, kind) in race.faults {
        // An address that takes no connection in time while another does has had its chance.
        if kind.is_endpoints() && (result.is_ok() || other != id) {
            cluster.failed(other, kind);
        }
    }
    result
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Stream>> + 'a>>;
type Alarm<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One address that is being tried.
struct Runner<'a> {
    id: EndpointId,
    peer: Peer,
    generation: u32,
    connecting: Connecting<'a>,
}

struct Race<'a> {
    cluster: &'a Cluster,
    needs: Needs<'a>,
    /// Those that are still to be tried, the next one last.
    waiting: Vec<EndpointId>,
    running: Vec<Runner<'a>>,
    alarm: Option<Alarm<'a>>,
    /// The addresses that did not take the connection, and why.
    faults: Vec<(EndpointId, Kind)>,
}

impl Race<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Dialled>> {
        loop {
            if let Poll::Ready(result) = self.poll_running(context) {
                return Poll::Ready(result);
            }
            let is_late = match &mut self.alarm {
                Some(alarm) => alarm.as_mut().poll(context).is_ready(),
                None => true,
            };
            if is_late && let Some(next) = self.waiting.pop() {
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
    fn poll_running(&mut self, context: &mut Context<'_>) -> Poll<Result<Dialled>> {
        let mut at = 0;
        while at < self.running.len() {
            let Poll::Ready(result) = self.running[at].connecting.as_mut().poll(context) else {
                at += 1;
                continue;
            };
            let Runner { id, peer, generation, .. } = self.running.remove(at);
            match result {
                Ok(stream) => {
                    // Those that began earlier have had their time.
                    let earlier = self.running[..at].iter();
                    self.faults.extend(earlier.map(|one| (one.id, Kind::ConnectTimeout)));
                    return Poll::Ready(Ok(Dialled { id, stream, peer, generation }));
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
        let deadline = monotonic().after(timeouts.connect);
        let endpoint = self.cluster.endpoint(id);
        let Some(peer) = endpoint.peer() else { return };
        let to = peer.clone();
        let connecting = Box::pin(async move { connect(&to, sweep, deadline).await });
        let generation = endpoint.generation();
        self.running.push(Runner { id, peer, generation, connecting });
        self.alarm = (!self.waiting.is_empty())
            .then(|| -> Alarm<'_> { Box::pin(alarms.after(ADDRESS_AFTER)) });
    }
}
