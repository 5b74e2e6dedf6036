//! What one HTTP/2 connection holds of answers that its client has not taken: buffers between a server's
//! socket and h2, and the data that waits in h2. However many streams there are, and whatever windows the
//! client opens, that has one bound (exam R03). A stream that would hold more waits before it reads
//! from its server; a stream whose window is shut holds next to nothing.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use super::size::Size;
use super::wakers::Wakers;
use crate::base::limits::{
    BACKLOG_EASY, BACKLOG_FIRST, BACKLOG_MAX, BUFFER_SMALL, BUFFER_TINY, HEAD_COUNTED,
};

/// One connection's.
#[derive(Debug, Default)]
pub struct Backlog {
    held: Cell<usize>,
    waiting: Wakers,
    /// Large heads that h2 has and has not written, by their streams.
    heads: RefCell<Vec<(u32, Hold)>>,
}

/// A share of it, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    backlog: Weak<Backlog>,
    len: usize,
}

/// The share of a buffer, in one word, for buffers are moved a lot: its owner knows how much it is.
#[derive(Debug)]
pub struct BufferHold(Weak<Backlog>);

impl Hold {
    /// For a buffer of so many octets, all of which count from now on.
    #[must_use]
    pub fn of_buffer(mut self, len: usize) -> BufferHold {
        if let Some(backlog) = self.backlog.upgrade() {
            backlog.held.set(backlog.held.get() - self.len + len);
        }
        BufferHold(std::mem::take(&mut self.backlog))
    }
}

impl BufferHold {
    /// The buffer is let go.
    pub fn end(self, len: usize) {
        drop(Hold { backlog: self.0, len });
    }
}

impl Backlog {
    /// Holds so many octets more.
    #[must_use]
    pub fn hold(self: &Rc<Self>, len: usize) -> Hold {
        self.held.set(self.held.get() + len);
        Hold { backlog: Rc::downgrade(self), len }
    }

    /// Holds a head of so many octets until h2 has written it, or its stream is no more.
    pub fn hold_head(self: &Rc<Self>, stream: u32, len: usize) {
        if len >= HEAD_COUNTED {
            let hold = self.hold(len);
            self.heads.borrow_mut().push((stream, hold));
        }
    }

    /// A head is on its way, or will never be.
    pub fn drop_head(&self, stream: u32) {
        let mut heads = self.heads.borrow_mut();
        let at = heads.iter().position(|(of, _)| *of == stream);
        let hold = at.map(|at| heads.swap_remove(at));
        drop(heads);
        drop(hold);
    }

    /// Octets that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// Whether so many octets more would be too many; wakes the task when some are let go.
    pub fn poll_full(&self, len: usize, most: usize, context: &Context<'_>) -> bool {
        let is_full = self.held.get() > 0 && self.held.get() + len > most;
        if is_full {
            self.waiting.add(context.waker());
        }
        is_full
    }

    /// Waits until there is room for the beginning of an answer. While the connection is busy that is
    /// little: the beginnings of all its answers must fit.
    pub async fn first(self: &Rc<Self>) -> (Size, Hold) {
        if self.held.get() + BUFFER_SMALL <= BACKLOG_EASY {
            return (Size::Small, self.hold(BUFFER_SMALL));
        }
        poll_fn(|context| self.poll(BUFFER_TINY, BACKLOG_FIRST, context)).await;
        (Size::Tiny, self.hold(BUFFER_TINY))
    }

    /// Waits until another answer may begin.
    pub async fn drained(&self) {
        poll_fn(|context| self.poll(0, BACKLOG_FIRST, context)).await;
    }

    /// Waits until there is room for a piece of a body.
    pub async fn piece(self: &Rc<Self>) -> (Size, Hold) {
        poll_fn(|context| self.poll(BUFFER_SMALL, BACKLOG_MAX, context)).await;
        (Size::Small, self.hold(BUFFER_SMALL))
    }

    fn poll(&self, len: usize, most: usize, context: &Context<'_>) -> Poll<()> {
        if self.poll_full(len, most, context) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(backlog) = self.backlog.upgrade() else { return };
        let Backlog { held, waiting, .. } = &*backlog;
        held.set(held.get() - self.len);
        waiting.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn beginnings_fit_and_pieces_wait_for_room() {
        let backlog = Rc::new(Backlog::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut held = Vec::new();
        while let Poll::Ready((_, hold)) = pin!(backlog.first()).poll(&mut context) {
            held.push(hold);
        }
        assert!(held.len() >= 100, "{} beginnings", held.len());
        let mut pieces = Vec::new();
        while let Poll::Ready((_, hold)) = pin!(backlog.piece()).poll(&mut context) {
            pieces.push(hold);
        }
        assert!(pieces.len() >= 3 && backlog.held() <= BACKLOG_MAX, "{} pieces", pieces.len());
        let mut next = pin!(backlog.piece());
        assert!(next.as_mut().poll(&mut context).is_pending());
        pieces.pop();
        assert!(next.as_mut().poll(&mut context).is_ready());
        drop((held, pieces));
        assert_eq!(backlog.held(), 0, "what is let go is not owed");
    }
}
