//! Tasks of one shard that wait for the same thing.

use std::cell::RefCell;
use std::task::Waker;

/// The tasks that wait; each once, however often it looks.
#[derive(Debug, Default)]
pub struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    /// This task waits from now on.
    pub fn add(&self, waker: &Waker) {
        let mut all = self.0.borrow_mut();
        if !all.iter().any(|one| one.will_wake(waker)) {
            all.push(waker.clone());
        }
    }

    /// Wakes all of them: none waits any more.
    pub fn wake(&self) {
        if !self.0.borrow().is_empty() {
            self.0.take().into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_looks_again_waits_once() {
        let all = Wakers::default();
        (0..9).for_each(|_| all.add(Waker::noop()));
        assert_eq!(all.0.borrow().len(), 1);
        all.wake();
        assert!(all.0.borrow().is_empty());
    }
}
