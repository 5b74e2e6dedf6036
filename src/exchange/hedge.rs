//! Hedging: a request that is slower than most is sent to a second endpoint as well, and the first
//! answer counts (Dean, Barroso: "The Tail at Scale", 2013). Only requests that ask and change
//! nothing, and only as many as the retry budget allows.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::relay::{Hop, Target};
use crate::base::clock::micros;
use crate::message::head::Method;
use crate::net::body::BodyWriter;
use crate::net::stream::Stream;
use crate::upstream::attempt;
use crate::upstream::choose::Ask;
use crate::upstream::flight::Flight;
use crate::upstream::http1::Connection;
use crate::upstream::retry::Tries;

/// The second endpoint has answered first.
pub struct Won<'a> {
    pub flight: Flight<'a>,
    pub connection: Box<Connection>,
}

/// Whether this request is one that may be hedged.
pub fn is_wanted(hop: &Hop<'_, '_>) -> bool {
    let Target { cluster, ask, .. } = hop.target;
    cluster.pace.is_some()
        && ask.tries.is_empty()
        && hop.upgrade.is_none()
        && hop.request.framing.is_empty()
        && matches!(hop.request.method, Method::Get | Method::Head | Method::Options)
}

/// Waits for the first octet of an answer on `first`; when that takes longer than usual, asks a
/// second endpoint. `None`: the first has something to say, or there is nobody else.
pub async fn race<'c>(hop: &Hop<'_, 'c>, first: &Stream) -> Option<Won<'c>> {
    let cluster = hop.target.cluster;
    let begun = micros();
    let patience = cluster.pace.as_ref().and_then(|pace| pace.get().get());
    let mut answer = pin!(first.readable());
    let won = match patience {
        None => either(&mut answer, std::future::pending()).await,
        Some(patience) => either(&mut answer, second(hop, patience)).await,
    };
    if let Some(pace) = &cluster.pace {
        // Of one that was overtaken it is known that it takes longer than this.
        let mut quantile = pace.get();
        quantile.sample(micros().saturating_sub(begun));
        pace.set(quantile);
    }
    match won {
        Some(None) => {
            // Nobody else: the first it is.
            answer.await;
            None
        }
        Some(won) => won,
        None => None,
    }
}

/// After a while, the answer of another endpoint; `None` if none is to be had.
async fn second<'c>(hop: &Hop<'_, 'c>, patience: Duration) -> Option<Won<'c>> {
    let (shard, Target { cluster, id, ask, client, .. }) = (hop.shard, hop.target);
    shard.alarms.after(patience).await;
    let other = Ask { tries: Tries::besides(id), ..*ask };
    if !cluster.has_other(&ask.tries, id) || !cluster.may_retry() {
        return None;
    }
    let mut flight = cluster.begin(&other).ok().flatten()?;
    shard.count(|counters| counters.hedges += 1);
    let timeouts = hop.target.timeouts;
    let needs = shard.needs(timeouts, client, false);
    let mut attempt = attempt::open(&mut flight, &other, needs).await.ok()?;
    let connection = &mut attempt.connection;
    let head =
        super::forward::head_bytes(shard, cluster, flight.id, hop.request, false, connection);
    let stream = &connection.stream;
    let framing = hop.request.framing;
    let mut writer = BodyWriter::upstream(stream, &shard.buffers, framing, timeouts.body_idle);
    writer.raw(head.ok()?, shard.now()).await.ok()?;
    stream.read_by(hop.first_byte_by());
    stream.readable().await;
    // A pooled connection that was closed meanwhile has nothing to say.
    (!stream.is_hung_up()).then_some(Won { flight, connection: attempt.connection })
}

/// `None` if the first is ready first.
async fn either<T>(
    first: &mut (impl Future<Output = ()> + Unpin),
    second: impl Future<Output = T>,
) -> Option<T> {
    let mut second = pin!(second);
    poll_fn(|context| {
        if std::pin::Pin::new(&mut *first).poll(context).is_ready() {
            return Poll::Ready(None);
        }
        second.as_mut().poll(context).map(Some)
    })
    .await
}
