//! Waits of milliseconds, for the few tasks that cannot wait for a tick of the sweep. One clock for all of
//! them, which runs only while a task waits.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::runtime::{Ticker, spawn};
use crate::base::clock::micros;
use crate::base::limits::ALARM_EVERY;

/// A shard's alarms.
#[derive(Debug, Default)]
pub struct Alarms {
    /// When, and which task is to be woken.
    due: RefCell<Vec<(u64, Waker)>>,
    is_running: Cell<bool>,
}

impl Alarms {
    /// Waits for a while, and at most a tick longer. Where there is no descriptor for a clock it
    /// waits for ever.
    pub async fn after(self: &Rc<Self>, wait: Duration) {
        let end = micros().saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
        let mut is_set = false;
        poll_fn(|context| {
            if is_set && micros() >= end {
                return Poll::Ready(());
            }
            if !is_set {
                is_set = true;
                self.due.borrow_mut().push((end, context.waker().clone()));
                self.start();
            }
            Poll::Pending
        })
        .await;
    }

    fn start(self: &Rc<Self>) {
        if self.is_running.replace(true) {
            return;
        }
        let alarms = Rc::clone(self);
        spawn(async move {
            if let Ok(ticker) = Ticker::new(ALARM_EVERY) {
                while !alarms.due.borrow().is_empty() {
                    ticker.tick().await;
                    alarms.wake(micros());
                }
            }
            alarms.is_running.set(false);
        });
    }

    fn wake(&self, now: u64) {
        let mut due = std::mem::take(&mut *self.due.borrow_mut());
        due.retain(|(end, waker)| {
            let is_due = *end <= now;
            if is_due {
                waker.wake_by_ref();
            }
            !is_due
        });
        self.due.borrow_mut().append(&mut due);
    }
}
