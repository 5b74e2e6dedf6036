//! A task that waits for something to be said about a stream.

use std::sync::Arc;
use std::task::Waker;

use crate::base::clock::Moment;
use crate::cache::fill_stream::FillStream;

/// A stream that a task waits on.
pub(super) struct Follower {
    pub(super) stream: Arc<FillStream>,
    pub(super) seen: u32,
    pub(super) by: Moment,
    pub(super) waker: Waker,
}
