//! Waiting for news of a fill stream, from this core or another.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::CacheHandle;
use super::follower::Follower;
use crate::base::clock::Moment;
use crate::cache::fill_stream::{FillStream, Link, Node, Start};

impl CacheHandle {
    /// Waits until it is known what became of a fetch; `None` after `by`.
    pub async fn start(&self, stream: &Arc<FillStream>, by: Moment) -> Option<Start> {
        self.follow(stream, by, || stream.start().cloned()).await
    }

    /// Waits for what follows a piece: another one, or the end (`Ok(None)`).
    ///
    /// # Errors
    /// The body was cut off, or nothing came for so long, and no slow client holds it back.
    pub async fn next(
        &self,
        stream: &Arc<FillStream>,
        node: &Node,
        idle: Duration,
    ) -> Result<Option<Arc<Node>>, ()> {
        let link = || match node.next() {
            None => None,
            Some(Link::Data(next)) => Some(Ok(Some(Arc::clone(next)))),
            Some(Link::Passing(next)) => Some(next.upgrade().map(Some).ok_or(())),
            Some(Link::End) => Some(Ok(None)),
            Some(Link::Cut) => Some(Err(())),
        };
        let mut by = self.now.get().after(idle);
        loop {
            if let Some(next) = self.follow(stream, by, link).await {
                return next;
            }
            // As long as its writer waits for other readers it is not the origin that is silent.
            let now = self.now.get();
            by = stream.waited(now).after(idle);
            if by <= now {
                return Err(());
            }
        }
    }

    /// Waits until a fetch's readers are where its writer wants them; false if that is not before `by`.
    pub async fn until(
        &self,
        stream: &Arc<FillStream>,
        by: Moment,
        is_so: impl Fn() -> bool,
    ) -> bool {
        self.follow(stream, by, || is_so().then_some(())).await.is_some()
    }

    async fn follow<T>(
        &self,
        stream: &Arc<FillStream>,
        by: Moment,
        look: impl Fn() -> Option<T>,
    ) -> Option<T> {
        stream.follow(usize::from(self.shard.0));
        poll_fn(|context| {
            // The version is read before the look: what is said in between wakes us again.
            let seen = stream.version();
            if let Some(found) = look() {
                return Poll::Ready(Some(found));
            }
            if self.now.get() >= by {
                return Poll::Ready(None);
            }
            let (stream, waker) = (Arc::clone(stream), context.waker().clone());
            self.followers.borrow_mut().push(Follower { stream, seen, by, waker });
            Poll::Pending
        })
        .await
    }

    /// Wakes those whose stream has moved.
    pub fn wake_followers(&self) {
        self.wake_if(|one| one.stream.version() != one.seen);
    }

    pub(super) fn wake_if(&self, is_due: impl Fn(&Follower) -> bool) {
        self.followers.borrow_mut().retain(|one| {
            let is_due = is_due(one);
            if is_due {
                one.waker.wake_by_ref();
            }
            !is_due
        });
    }
}
