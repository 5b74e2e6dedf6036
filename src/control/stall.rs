//! Notices a worker that has stopped in the middle of something (exam P03), and has the others accept in its place: the
//! system goes on giving it its share of new connections.

use super::start::Workers;
use crate::base::clock::Moment;
use crate::base::limits::{STALL_AFTER, WATCH_EVERY};
use crate::net::notice;

/// What is known of each worker.
#[derive(Default)]
pub(super) struct StallWatch {
    /// Since when it stands still.
    since: Vec<Option<Stall>>,
    looked: Moment,
    /// How often one of them stood still.
    pub(super) seen: u64,
}

/// A worker that stands still.
#[derive(Clone, Copy)]
struct Stall {
    begun: Moment,
    /// When its sockets were lent, by `Workers::lending`.
    lent: u64,
}

impl StallWatch {
    /// The workers that stand still.
    pub(super) fn stalled(&self) -> Vec<usize> {
        let all = self.since.iter().enumerate();
        all.filter_map(|(at, since)| since.map(|_| at)).collect()
    }

    /// Looks at what the workers have written down, a few times a second.
    pub(super) fn look(&mut self, workers: &Workers, now: Moment) {
        self.since.resize(workers.count(), None);
        let pause = now.since(std::mem::replace(&mut self.looked, now));
        // The whole process was stopped, or this thread was kept from running: that says nothing of the workers.
        if pause > 2 * WATCH_EVERY {
            return;
        }
        for (at, since) in self.since.iter_mut().enumerate() {
            let beat = workers.beat(at);
            let stands_still = now.since(beat) >= STALL_AFTER;
            match since {
                None if stands_still => {
                    *since = Some(Stall { begun: beat, lent: workers.lending });
                    self.seen += 1;
                    let help = match workers.count() {
                        1 => "and there is no other: nothing is served",
                        _ => "the other workers accept in its place",
                    };
                    notice::warn(format_args!(
                        "worker {at} stands still: its connections wait, {help}"
                    ));
                    workers.lend(at);
                }
                Some(stall) if stands_still && stall.lent != workers.lending => {
                    stall.lent = workers.lending;
                    workers.take_back(at);
                    workers.lend(at);
                }
                Some(stall) if !stands_still => {
                    let took = beat.since(stall.begun).as_secs_f64();
                    notice::warn(format_args!(
                        "worker {at} goes on; it stood still for {took:.1} s"
                    ));
                    *since = None;
                    workers.take_back(at);
                }
                _ => {}
            }
        }
    }
}
