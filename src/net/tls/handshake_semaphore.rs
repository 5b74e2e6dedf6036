//! Whose handshake is next: its cryptography takes as long as a dozen requests, so only a few
//! are done before every other task on the core gets a turn (exam L11).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::base::limits::{TLS_QUEUE, TLS_TURNS};

/// A shard's turns.
#[derive(Debug, Default)]
pub struct HandshakeSemaphore {
    taken: Cell<u32>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// One turn, until it is dropped: while the cryptography is done, and then until the loop has gone round.
#[derive(Debug)]
pub struct Turn(Rc<HandshakeSemaphore>);

impl HandshakeSemaphore {
    /// Waits for a turn. `None` if too many wait already.
    pub async fn take(self: &Rc<Self>) -> Option<Turn> {
        if self.waiting.borrow().len() >= TLS_QUEUE {
            return None;
        }
        poll_fn(|context| {
            if self.taken.get() < TLS_TURNS {
                self.taken.set(self.taken.get() + 1);
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push_back(context.waker().clone());
            Poll::Pending
        })
        .await;
        Some(Turn(Rc::clone(self)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        let next = self.0.waiting.borrow_mut().pop_front();
        if let Some(next) = next {
            next.wake();
        }
    }
}
