//! A new connection to an endpoint. Of several addresses of a name the next one is tried beside the first
//! when that takes long (RFC 8305), and one that did not answer is passed over for a while (RELIABILITY R35).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::attempt::{Dialled, Needs};
use super::endpoint::Endpoint;
use crate::base::clock::{Moment, monotonic};
use crate::base::error::{Kind, Result};
use crate::base::limits::{ADDRESS_AFTER, ADDRESSES_TRIED};
use crate::net::connect::{Peer, connect};
use crate::net::stream::Stream;

/// Tries the addresses of a name until one takes the connection.
///
/// # Errors
/// What the last of them said; `NoAddress` if there is none.
pub async fn dial(endpoint: &Endpoint, needs: Needs<'_>) -> Result<Dialled> {
    let (peers, generation) = (endpoint.peers(), endpoint.generation());
    let now = monotonic();
    let (at, stream) = match &*peers {
        [] => return Err(Kind::NoAddress),
        // A dial is rare enough to read the clock: each address has a deadline of its own.
        [one] => (0, connect(one, needs.sweep, now.after(needs.timeouts.connect)).await?),
        _ => Box::pin(race(endpoint, &peers, needs, now)).await?,
    };
    Ok(Dialled { stream, peer: peers[at].clone(), generation })
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Stream>> + 'a>>;
type Alarm<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

struct Race<'a> {
    endpoint: &'a Endpoint,
    peers: &'a Rc<[Peer]>,
    needs: Needs<'a>,
    /// Those that are still to be tried, the next one last.
    waiting: Vec<usize>,
    running: Vec<(usize, Connecting<'a>)>,
    alarm: Option<Alarm<'a>>,
    last: Kind,
}

/// The first address that takes the connection.
async fn race(
    endpoint: &Endpoint,
    peers: &Rc<[Peer]>,
    needs: Needs<'_>,
    now: Moment,
) -> Result<(usize, Stream)> {
    let mut waiting = endpoint.order(now);
    waiting.truncate(ADDRESSES_TRIED);
    // The next dial begins behind this one: addresses share the load.
    endpoint.begin_at((waiting.first().copied().unwrap_or(0) + 1) % peers.len());
    waiting.reverse();
    let (running, alarm) = (Vec::new(), None);
    let mut race = Race { endpoint, peers, needs, waiting, running, alarm, last: Kind::NoAddress };
    poll_fn(|context| race.poll(context)).await
}

impl Race<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(usize, Stream)>> {
        loop {
            let mut at = 0;
            while at < self.running.len() {
                let Poll::Ready(result) = self.running[at].1.as_mut().poll(context) else {
                    at += 1;
                    continue;
                };
                let (number, _) = self.running.remove(at);
                match result {
                    Ok(stream) => {
                        // Those that began earlier have had their time.
                        let earlier = self.running[..at].iter().map(|(other, _)| *other);
                        earlier.for_each(|other| self.endpoint.pass_over(other, monotonic()));
                        self.endpoint.reached(number);
                        return Poll::Ready(Ok((number, stream)));
                    }
                    // Our own shortage will not get better at another address.
                    Err(kind @ (Kind::LocalPorts | Kind::OpenFiles)) => {
                        return Poll::Ready(Err(kind));
                    }
                    Err(kind) => {
                        self.endpoint.pass_over(number, monotonic());
                        self.last = kind;
                        self.alarm = None;
                    }
                }
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
                return Poll::Ready(Err(self.last));
            }
            return Poll::Pending;
        }
    }

    fn begin(&mut self, number: usize) {
        let Needs { sweep, alarms, timeouts, .. } = self.needs;
        let deadline = monotonic().after(timeouts.connect);
        let peer = self.peers[number].clone();
        let connecting = async move { connect(&peer, sweep, deadline).await };
        self.running.push((number, Box::pin(connecting)));
        self.alarm = (!self.waiting.is_empty())
            .then(|| -> Alarm<'_> { Box::pin(alarms.after(ADDRESS_AFTER)) });
    }
}
