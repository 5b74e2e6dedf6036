//! A task that waits for something to be said about a flow.

use std::sync::Arc;
use std::task::Waker;

use crate::base::clock::Moment;
use crate::cache::fill_stream::FillStream;

/// A flow that a task waits on.
pub(super) struct Follower {
    pub(super) flow: Arc<FillStream>,
    pub(super) seen: u32,
    pub(super) by: Moment,
    pub(super) waker: Waker,
}
