//! Which requests wait while every endpoint has all that it may have. Bounded in number and in time. First
//! come, first served, as long as the queue is short of time; once the oldest has waited for half
//! of what it may, the newest goes first: those behind it will not make it anyway, and what is
//! served is served while its client still waits (adaptive LIFO, after Facebook's "Fail at Scale",
//! 2015).

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::clock::Moment;
use crate::config::resilience::Priority;

/// How many that cannot go yet are passed over in favour of one that can: each may wait for an
/// endpoint of its own.
const LOOKED_AT: usize = 16;

/// A queue of one shard.
#[derive(Debug)]
pub struct Queue<T> {
    /// By priority.
    lanes: [VecDeque<Queued<T>>; 3],
    timeout: Duration,
}

#[derive(Debug)]
struct Queued<T> {
    since: Moment,
    waiter: T,
}

impl<T> Queue<T> {
    /// No request waits.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::new()), timeout }
    }

    /// Waiters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// No request waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// A request comes.
    pub fn push(&mut self, priority: Priority, now: Moment, waiter: T) {
        self.lanes[priority as usize].push_back(Queued { since: now, waiter });
    }

    /// Room for a request of this priority: the newest of those that are worth less.
    pub fn evict(&mut self, priority: Priority) -> Option<T> {
        let lower = self.lanes[..priority as usize].iter_mut().find(|lane| !lane.is_empty())?;
        lower.pop_back().map(|entry| entry.waiter)
    }

    /// The requests that have waited for too long.
    pub fn expire(&mut self, now: Moment) -> Vec<T> {
        let mut late = Vec::new();
        for lane in &mut self.lanes {
            while lane.front().is_some_and(|entry| now.since(entry.since) >= self.timeout) {
                late.extend(lane.pop_front().map(|entry| entry.waiter));
            }
        }
        late
    }

    /// Takes out the next request of those that can go, and what `go` says of it.
    pub fn next<R>(&mut self, now: Moment, mut go: impl FnMut(&T) -> Option<R>) -> Option<(T, R)> {
        let half = self.timeout / 2;
        for lane in self.lanes.iter_mut().rev() {
            let is_late = lane.front().is_some_and(|entry| now.since(entry.since) > half);
            for turn in 0..lane.len().min(LOOKED_AT) {
                let at = if is_late { lane.len() - 1 - turn } else { turn };
                if let Some(result) = go(&lane[at].waiter) {
                    return lane.remove(at).map(|entry| (entry.waiter, result));
                }
            }
        }
        None
    }

    /// Takes out a request that waits no more.
    pub fn leave(&mut self, is_it: impl Fn(&T) -> bool) {
        for lane in &mut self.lanes {
            if let Some(at) = lane.iter().position(|entry| is_it(&entry.waiter)) {
                lane.remove(at);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);

    fn next(queue: &mut Queue<u32>, now: u64) -> Option<u32> {
        queue.next(Moment(now), |_| Some(())).map(|(waiter, ())| waiter)
    }

    #[test]
    fn first_come_first_served_until_time_runs_out_then_the_newest() {
        let mut queue = Queue::new(TIMEOUT);
        for (at, waiter) in [(0, 1), (10, 2), (20, 3), (30, 4)] {
            queue.push(Priority::Normal, Moment(at), waiter);
        }
        assert_eq!(next(&mut queue, 50), Some(1));
        assert_eq!(next(&mut queue, 61), Some(4));
        assert_eq!(queue.expire(Moment(110)), [2]);
        assert_eq!(next(&mut queue, 110), Some(3));
        assert_eq!(next(&mut queue, 110), None);
    }

    #[test]
    fn the_more_important_go_first_and_may_take_a_place() {
        let mut queue = Queue::new(TIMEOUT);
        queue.push(Priority::Low, Moment(0), 1);
        queue.push(Priority::Low, Moment(0), 2);
        queue.push(Priority::High, Moment(1), 3);
        assert_eq!(queue.evict(Priority::Low), None);
        assert_eq!(queue.evict(Priority::Normal), Some(2));
        assert_eq!(next(&mut queue, 2), Some(3));
        assert_eq!(next(&mut queue, 2), Some(1));
        assert!(queue.is_empty());
    }

    #[test]
    fn who_cannot_go_does_not_hold_the_others_up() {
        let mut queue = Queue::new(TIMEOUT);
        for waiter in 0..40 {
            queue.push(Priority::Normal, Moment(0), waiter);
        }
        let odd = queue.next(Moment(0), |waiter| (waiter % 2 == 1).then_some(()));
        assert_eq!(odd.map(|(waiter, ())| waiter), Some(1));
        let late = queue.next(Moment(0), |waiter| (*waiter == 39).then_some(()));
        assert_eq!(late, None, "it is too far behind");
        queue.leave(|waiter| *waiter == 0);
        assert_eq!(next(&mut queue, 0), Some(2));
        assert_eq!(queue.len(), 37);
    }
}
