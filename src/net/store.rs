//! Memory for futures, handed out last in, first out: what the last request used is still in the processor's caches
//! when the next one comes, and a connection that waits for its client's next request holds none of it.

#![expect(unsafe_code, reason = "futures are made in memory that outlives them")]

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::base::limits::{FUTURE_BYTES, FUTURES_KEPT};

/// Room for one future.
#[repr(C, align(64))]
struct Block([MaybeUninit<u8>; FUTURE_BYTES]);

/// A shard's blocks that are free.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "futures in blocks are pinned")]
pub struct FutureStore(RefCell<Vec<Box<Block>>>);

impl std::fmt::Debug for FutureStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("free", &self.0.borrow().len()).finish()
    }
}

/// A future in a block of the store, which gets it back when this is dropped.
pub struct Stored<F: Future> {
    block: NonNull<Block>,
    store: Rc<FutureStore>,
    future: PhantomData<F>,
}

impl FutureStore {
    /// Makes a future in a block. It must fit, which the compiler checks.
    #[inline]
    pub fn put<F: Future>(self: &Rc<Self>, make: impl FnOnce() -> F) -> Stored<F> {
        const {
            assert!(size_of::<F>() <= FUTURE_BYTES, "FUTURE_BYTES has room for it");
            assert!(align_of::<F>() <= align_of::<Block>(), "a block is aligned for it");
        }
        let free = self.0.borrow_mut().pop();
        let block = free.unwrap_or_else(|| Box::new(Block([const { MaybeUninit::uninit() }; _])));
        let block = NonNull::from(Box::leak(block));
        // SAFETY: the block is ours alone, large enough and aligned, and holds nothing that would have to be dropped.
        unsafe { block.cast::<F>().write(make()) };
        Stored { block, store: Rc::clone(self), future: PhantomData }
    }

    /// Lets go of half of what is free: called now and then, so that a rush is paid back.
    pub fn trim(&self) {
        let mut free = self.0.borrow_mut();
        let keep = free.len() / 2;
        free.truncate(keep);
    }
}

impl<F: Future> Future for Stored<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut block = self.block.cast::<F>();
        // SAFETY: `put` has written the future there, and nothing else refers to it.
        let future = unsafe { block.as_mut() };
        // SAFETY: it is never moved: the block stays where it is until the future is dropped, with `self`.
        unsafe { Pin::new_unchecked(future) }.poll(context)
    }
}

impl<F: Future> Drop for Stored<F> {
    fn drop(&mut self) {
        // SAFETY: the future is there, and this is the only place that drops it.
        unsafe { self.block.cast::<F>().drop_in_place() };
        // SAFETY: it came out of a box in `put`, and nothing else has it.
        let block = unsafe { Box::from_raw(self.block.as_ptr()) };
        let mut free = self.store.0.borrow_mut();
        if free.len() < FUTURES_KEPT {
            free.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn a_future_lives_in_its_block_and_gives_it_back() {
        struct Dropped<'a>(&'a Cell<u32>);
        impl Drop for Dropped<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let (store, dropped) = (Rc::new(FutureStore::default()), Cell::new(0));
        let mut context = Context::from_waker(Waker::noop());
        let work = || {
            let guard = Dropped(&dropped);
            async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            }
        };
        let first = {
            let mut stored = pin!(store.put(work));
            assert!(stored.as_mut().poll(&mut context).is_pending());
            stored.block
        };
        assert_eq!(dropped.get(), 1, "what is under way is dropped with it");
        let stored = store.put(async || 7);
        assert_eq!(stored.block, first, "last in, first out");
        let other = store.put(async || 8);
        assert_ne!(other.block, first);
        assert_eq!(pin!(stored).poll(&mut context), Poll::Ready(7));
        drop(other);
        assert_eq!(store.0.borrow().len(), 2);
    }

    #[test]
    fn a_panic_drops_what_was_there_and_loses_no_block() {
        let store = Rc::new(FutureStore::default());
        let stored = store.put(async || panic!("as asked"));
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pin!(stored).poll(&mut Context::from_waker(Waker::noop()))
        }));
        assert!(polled.is_err());
        assert_eq!(store.0.borrow().len(), 1);
    }
}
