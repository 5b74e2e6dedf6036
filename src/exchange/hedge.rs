//! Hedging: a request that is slower than most is sent to a second endpoint as well, and the first
//! answer counts (Dean, Barroso: "The Tail at Scale", 2013). Only requests that ask and change
//! nothing, and only as many as the retry budget allows.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::fetched::Fetched;
use super::state::Exchange;
use super::target::TryTarget;
use crate::base::clock::micros;
use crate::message::head::Method;
use crate::protocol::line::Line;
use crate::upstream::ask::Ask;
use crate::upstream::attempt;
use crate::upstream::flight::Flight;
use crate::upstream::retry::Tries;

/// A second endpoint has answered first.
type WonHedge<'a> = (Line, Flight<'a>);

/// Whether this request is one that may be hedged.
#[must_use]
pub fn is_wanted(ex: &Exchange<'_>, fetched: &Fetched<'_>) -> bool {
    let TryTarget { cluster, ask, .. } = &fetched.target;
    let request = &ex.work.request;
    cluster.pace.is_some()
        && ask.tries.is_empty()
        && fetched.writer.is_none()
        && request.framing.is_empty()
        && matches!(request.method, Method::Get | Method::Head | Method::Options)
}

/// Waits for the first octet of an answer; when that takes longer than usual, asks a second endpoint. `None`: the
/// first has something to say, or there is no other.
pub async fn race<'a>(ex: &Exchange<'a>, fetched: &mut Fetched<'a>) -> Option<WonHedge<'a>> {
    let target = fetched.target;
    let cluster = target.cluster;
    let begun = micros();
    let patience = cluster.pace.as_ref().and_then(|pace| pace.get().get());
    let mut answer = pin!(fetched.line.readable());
    let won = match patience {
        None => either(&mut answer, std::future::pending()).await,
        Some(patience) => either(&mut answer, second(ex, &target, patience)).await,
    };
    if let Some(pace) = &cluster.pace {
        // Of one that was overtaken it is known that it takes longer than this.
        let mut quantile = pace.get();
        quantile.sample(micros().saturating_sub(begun));
        pace.set(quantile);
    }
    match won {
        Some(None) => {
            // There is no other: the first it is.
            answer.await;
            None
        }
        Some(won) => won,
        None => None,
    }
}

/// After a while, the answer of another endpoint; `None` if none is to be had.
async fn second<'a>(
    ex: &Exchange<'a>,
    first: &TryTarget<'a>,
    patience: Duration,
) -> Option<WonHedge<'a>> {
    let (shard, TryTarget { cluster, id, ask, .. }) = (ex.shard, *first);
    shard.alarms.after(patience).await;
    let other = Ask { tries: Tries::besides(id), ..ask };
    if !cluster.has_other(&ask.tries, id) || !cluster.spend_retry() {
        return None;
    }
    let mut flight = cluster.begin(&other).ok().flatten()?;
    shard.count(|counters| counters.hedges += 1);
    let mut line = match attempt::pooled(&flight, ex.client.client.address, shard.now()) {
        Some(attempt) => attempt.line,
        None => {
            let needs = shard.needs(ex.timeouts(first.route), ex.client.client.address, false);
            attempt::open(&mut flight, &other, needs).await.ok()?.line
        }
    };
    let target = TryTarget { id: flight.id, ..*first };
    line.read_for(ex.reply.backlog());
    let terms = target.terms(ex);
    line.send(&shard.buffers, &ex.work.request, terms).await.ok()?.ok()?;
    line.answer_by(first.answer_by(ex).from(ex.now()));
    line.readable().await;
    // A pooled connection that was closed meanwhile has nothing to say.
    (!line.is_dead()).then_some((line, flight))
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
