//! The tasks that serve requests of HTTP/2. One that is through waits for the next request, of whatever connection of
//! this core.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::base::limits::H2_TASKS_KEPT;
use crate::net::runtime::spawn;

/// Those of one core. `Work` is what they are given.
pub struct TaskPool<Work> {
    idle: RefCell<Vec<Rc<IdleTask<Work>>>>,
}

/// Where one of them waits.
struct IdleTask<Work> {
    work: Cell<Option<Work>>,
    waker: Cell<Option<Waker>>,
}

impl<Work: 'static> TaskPool<Work> {
    /// A pool without tasks.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default() })
    }

    /// A task does this: one that waits, or a new one, which does everything as `act` says.
    pub fn give<Act, Acting>(self: &Rc<Self>, work: Work, act: Act)
    where
        Act: Fn(Work) -> Acting + 'static,
        Acting: Future<Output = ()>,
    {
        let task = self.idle.borrow_mut().pop();
        if let Some(task) = task {
            task.work.set(Some(work));
            if let Some(waker) = task.waker.take() {
                waker.wake();
            }
            return;
        }
        let pool = Rc::clone(self);
        spawn(async move {
            let task = Rc::new(IdleTask { work: Cell::new(Some(work)), waker: Cell::default() });
            while let Some(work) = pool.next(&task).await {
                act(work).await;
            }
        });
    }

    /// What comes next for one of them; `None` if enough others wait.
    async fn next(&self, task: &Rc<IdleTask<Work>>) -> Option<Work> {
        let mut is_waiting = false;
        poll_fn(|context| {
            if let Some(work) = task.work.take() {
                return Poll::Ready(Some(work));
            }
            if !is_waiting {
                let mut idle = self.idle.borrow_mut();
                if idle.len() >= H2_TASKS_KEPT {
                    return Poll::Ready(None);
                }
                idle.push(Rc::clone(task));
                is_waiting = true;
            }
            task.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    fn task(work: Option<u8>) -> Rc<IdleTask<u8>> {
        Rc::new(IdleTask { work: Cell::new(work), waker: Cell::default() })
    }

    #[test]
    fn who_waits_is_given_work_and_not_too_many_wait() {
        let (pool, mut context) = (TaskPool::new(), Context::from_waker(Waker::noop()));
        let no_new_task = |_: u8| async { unreachable!("a task waits") };
        let one = task(Some(1));
        assert_eq!(pin!(pool.next(&one)).poll(&mut context), Poll::Ready(Some(1)));
        let mut next = pin!(pool.next(&one));
        assert_eq!(next.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(next.as_mut().poll(&mut context), Poll::Pending);
        pool.give(2, no_new_task);
        assert_eq!(next.as_mut().poll(&mut context), Poll::Ready(Some(2)));
        for _ in 0..H2_TASKS_KEPT {
            assert_eq!(pin!(pool.next(&task(None))).poll(&mut context), Poll::Pending);
        }
        assert_eq!(pin!(pool.next(&task(None))).poll(&mut context), Poll::Ready(None));
    }
}
