//! A request's body on its way up, beside the answer that may come before its end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::replay::Replay;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::message::fields::Fields;
use crate::protocol::line::RequestWriter;
use crate::protocol::request::RequestBody;
use crate::shard::Shard;

/// A request's body, and what was kept of it.
pub struct ClientBody<'a> {
    pub body: RequestBody<'a>,
    pub replay: Replay,
}

impl<'a> ClientBody<'a> {
    /// Of which nothing was sent.
    #[must_use]
    pub fn new(body: RequestBody<'a>) -> Self {
        Self { body, replay: Replay::default() }
    }

    /// What was sent of it can be sent once more, and what comes follows that without a gap.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.replay.is_whole() && !self.body.is_torn()
    }

    /// A request's trailers, without what only we may say: some servers put them among the fields.
    pub fn take_trailers(&mut self, shard: &Rc<Shard>) -> Option<Fields> {
        let mut trailers = self.body.take_trailers()?;
        self.replay.lose();
        for name in &shard.plan.config.reserved {
            trailers.remove_named(name.as_bytes());
        }
        Some(trailers)
    }

    /// The data that was had last ends the body.
    #[must_use]
    pub fn ends_here(&self) -> bool {
        self.body.is_done() && !self.body.has_trailers()
    }
}

/// An upload that runs. Dropped, it ends where it is.
pub struct Upload<'a> {
    running: Option<Pin<Box<dyn Future<Output = Result<()>> + 'a>>>,
    ended: Result<()>,
}

impl std::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl<'a> Upload<'a> {
    /// Begins. In a box: it outlives the step that begins it, and most requests have none.
    pub fn new(running: impl Future<Output = Result<()>> + 'a) -> Self {
        Self { running: Some(Box::pin(running)), ended: Ok(()) }
    }

    /// How it ended; `None` if it has not.
    fn poll(&mut self, context: &mut Context<'_>) -> Option<Result<()>> {
        if let Some(running) = &mut self.running {
            let Poll::Ready(ended) = running.as_mut().poll(context) else { return None };
            self.ended = ended;
            self.running = None;
        }
        Some(self.ended)
    }
}

/// Does something while the upload runs. A fault of the client's, and one of our own, ends both; a fault of the
/// upstream's leaves the last word to `other`, for there may be an early answer. `other` is pinned by the caller: by value it would be in
/// this future twice.
///
/// # Errors
/// As `other`, or why the upload cannot go on.
pub async fn beside<T>(
    upload: &mut Option<Upload<'_>>,
    mut other: Pin<&mut impl Future<Output = Result<T>>>,
) -> Result<T> {
    let Some(upload) = upload else { return other.await };
    poll_fn(|context| {
        let uploaded = upload.poll(context);
        if let Some(Err(kind)) = uploaded
            && !kind.blames_endpoint()
        {
            return Poll::Ready(Err(kind));
        }
        match (other.as_mut().poll(context), uploaded) {
            (Poll::Ready(Err(Kind::UpstreamGone | Kind::FirstByteTimeout)), Some(Err(kind))) => {
                Poll::Ready(Err(kind))
            }
            (poll, _) => poll,
        }
    })
    .await
}

/// When the answer must have come, counted from the end of the request.
#[derive(Clone, Copy, Debug)]
pub struct AnswerBy {
    pub first_byte: std::time::Duration,
    pub total_by: Moment,
}

impl AnswerBy {
    /// For a request that ends now.
    #[must_use]
    pub fn from(&self, now: Moment) -> Moment {
        now.after(self.first_byte).min(self.total_by)
    }
}

/// Writes the end of a body, if that did not go out with its last data.
///
/// # Errors
/// The endpoint is gone or does not read.
pub async fn finish(
    shard: &Rc<Shard>,
    body: &mut ClientBody<'_>,
    writer: &RequestWriter,
    is_ended: bool,
) -> Result<()> {
    if is_ended {
        return Ok(());
    }
    let trailers = body.take_trailers(shard);
    writer.end(&shard.buffers, trailers.as_ref()).await
}
