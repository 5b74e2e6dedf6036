//! A panic in a connection's task ends that connection. Without this it would end the core: the
//! runtime does not catch (exam P02).

#![expect(unsafe_code, reason = "pin projection")]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls a future and catches its panic.
#[derive(Debug)]
pub struct Caught<F>(pub F);

impl<F: Future> Future for Caught<F> {
    /// `Err` if it panicked.
    type Output = Result<F::Output, ()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the field is pinned when the whole is, and never moved out.
        let inner = unsafe { self.map_unchecked_mut(|whole| &mut whole.0) };
        // What the future borrows from the shard is in cells whose methods borrow, act and release;
        // a panic inside one leaves the value whole and unborrowed.
        match catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}
