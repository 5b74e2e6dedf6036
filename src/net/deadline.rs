//! The deadlines of a shard's sockets in one coarse wheel. Setting one is a store; a slot is moved
//! to another bucket only when its bucket comes up. Pure: the sweep does the shutting down.

use std::os::fd::RawFd;
use std::task::Waker;

use crate::base::clock::Moment;
use crate::base::limits::{SWEEP_EVERY, WHEEL_BUCKETS};

/// Which end of us a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Downstream,
    Upstream,
}

/// What came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Read,
    Write,
    /// It is time to look whether the peer has left.
    Look,
}

/// Whether a client whose request is served is still there.
#[derive(Debug)]
pub struct Presence {
    /// A request is served.
    pub is_served: bool,
    /// When to look next. It stays when the request is over, for the next one will want it too; a look in
    /// between sees nothing.
    pub look_at: Moment,
    /// Since when it has ended its side and nothing was written; `NEVER` if it has not.
    pub silent_since: Moment,
    /// Octets that were written by then.
    pub written: u32,
    /// Its request is still coming: that it ends its side then says nothing of whether it reads.
    pub is_sending: bool,
    /// It is gone, or has been silent for too long.
    pub has_left: bool,
    /// The task that serves it.
    pub waker: Option<Waker>,
}

impl Presence {
    const NONE: Self = Self {
        is_served: false,
        look_at: Moment::NEVER,
        silent_since: Moment::NEVER,
        written: 0,
        is_sending: false,
        has_left: false,
        waker: None,
    };
}

/// One socket's deadlines.
#[derive(Debug)]
pub struct DeadlineSlot {
    pub fd: RawFd,
    pub class: Class,
    /// Nothing may arrive after this.
    pub read_by: Moment,
    /// What is being written must have made progress by then.
    pub write_by: Moment,
    /// How much later the next look at a write in progress is.
    pub write_period: u32,
    /// Octets written so far; wraps.
    pub written: u32,
    /// Octets written, less those in the send queue, at the last look: what the peer had taken.
    /// `None` before the first look.
    pub taken: Option<u32>,
    /// What came due and was acted on.
    pub expired: Option<Due>,
    /// Since when a client's connection counts as idle; `NEVER` while it is busy.
    pub idle_since: Moment,
    /// The task that waits, where there is no descriptor to be shut down.
    pub waker: Option<Waker>,
    pub presence: Presence,
    generation: u32,
    scheduled: u64,
}

/// A slot, and which use of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId {
    at: u32,
    generation: u32,
}

/// All slots and the buckets that will look at them.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<DeadlineSlot>,
    free: Vec<u32>,
    buckets: Vec<Vec<SlotId>>,
    tick: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "a tenth of a second")]
const TICK: u64 = SWEEP_EVERY.as_millis() as u64;
/// Instead of a descriptor.
pub const NO_SOCKET: RawFd = -1;
const UNSCHEDULED: u64 = u64::MAX;

impl Wheel {
    /// An empty wheel at this moment.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        // A few places each, so that the first turn of the wheel allocates nothing either.
        let buckets =
            std::iter::repeat_with(|| Vec::with_capacity(4)).take(WHEEL_BUCKETS).collect();
        Self { slots: Vec::new(), free: Vec::new(), buckets, tick: now.0 / TICK }
    }

    /// Watches a socket. It has no deadline yet.
    pub fn insert(&mut self, fd: RawFd, class: Class) -> SlotId {
        let slot = DeadlineSlot {
            fd,
            class,
            read_by: Moment::NEVER,
            write_by: Moment::NEVER,
            write_period: 0,
            written: 0,
            taken: None,
            expired: None,
            idle_since: Moment::NEVER,
            waker: None,
            presence: Presence::NONE,
            generation: 0,
            scheduled: UNSCHEDULED,
        };
        if let Some(at) = self.free.pop() {
            let place = &mut self.slots[at as usize];
            let generation = place.generation;
            *place = DeadlineSlot { generation, ..slot };
            return SlotId { at, generation };
        }
        let at = u32::try_from(self.slots.len()).expect("fewer sockets than 2^32");
        self.slots.push(slot);
        SlotId { at, generation: 0 }
    }

    /// Forgets a socket; must happen before its descriptor is closed.
    pub fn remove(&mut self, id: SlotId) {
        if let Some(slot) = self.slot(id) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.fd = NO_SOCKET;
            slot.waker = None;
            slot.presence = Presence::NONE;
            slot.idle_since = Moment::NEVER;
            self.free.push(id.at);
        }
    }

    /// The slot, if this use of it is not over.
    pub fn slot(&mut self, id: SlotId) -> Option<&mut DeadlineSlot> {
        self.slots.get_mut(id.at as usize).filter(|slot| slot.generation == id.generation)
    }

    /// Nothing may arrive after this.
    #[inline]
    pub fn read_by(&mut self, id: SlotId, deadline: Moment) {
        if let Some(slot) = self.slot(id) {
            slot.read_by = deadline;
            self.schedule(id, deadline);
        }
    }

    /// A write begins, or (`NEVER`) is over.
    #[inline]
    pub fn write_by(&mut self, id: SlotId, deadline: Moment, period: u32) {
        if let Some(slot) = self.slot(id) {
            slot.write_by = deadline;
            slot.write_period = period;
            slot.taken = None;
            self.schedule(id, deadline);
        }
    }

    /// When to look whether the peer has left.
    #[inline]
    pub fn look_at(&mut self, id: SlotId, at: Moment) {
        if let Some(slot) = self.slot(id) {
            slot.presence.look_at = at;
            self.schedule(id, at);
        }
    }

    /// Makes sure that a bucket looks at the slot no later than the deadline.
    #[inline]
    fn schedule(&mut self, id: SlotId, deadline: Moment) {
        if deadline == Moment::NEVER {
            return;
        }
        let slot = &mut self.slots[id.at as usize];
        // A bucket before it looks at the slot in time, as nearly always: no division.
        if deadline.0 > slot.scheduled.saturating_sub(2).saturating_mul(TICK) {
            return;
        }
        // Up to a tick late, never early: the clock that deadlines are counted from is a tick old.
        let wanted = (deadline.0.div_ceil(TICK) + 1).max(self.tick + 1);
        if wanted < slot.scheduled {
            let tick = wanted.min(self.tick + WHEEL_BUCKETS as u64 - 1);
            slot.scheduled = tick;
            self.buckets[bucket(tick)].push(id);
        }
    }

    /// Goes on to this moment and calls `expire` for every deadline that has passed. It may set a
    /// new deadline in the slot it is given.
    pub fn advance(&mut self, now: Moment, mut expire: impl FnMut(SlotId, &mut DeadlineSlot, Due)) {
        while self.tick < now.0 / TICK {
            self.tick += 1;
            let tick = self.tick;
            let mut ids = std::mem::take(&mut self.buckets[bucket(tick)]);
            for id in ids.drain(..) {
                let Some(slot) = self.slot(id).filter(|slot| slot.scheduled == tick) else {
                    continue;
                };
                slot.scheduled = UNSCHEDULED;
                if slot.read_by.0 < now.0 {
                    slot.read_by = Moment::NEVER;
                    expire(id, slot, Due::Read);
                }
                if slot.write_by.0 < now.0 {
                    slot.write_by = Moment::NEVER;
                    expire(id, slot, Due::Write);
                }
                if slot.presence.look_at.0 < now.0 {
                    slot.presence.look_at = Moment::NEVER;
                    expire(id, slot, Due::Look);
                }
                let next = slot.read_by.min(slot.write_by).min(slot.presence.look_at);
                self.schedule(id, next);
            }
            // Nothing is ever rescheduled into the bucket that is being emptied; it keeps its memory.
            debug_assert!(self.buckets[bucket(tick)].is_empty(), "the next look is a tick away");
            self.buckets[bucket(tick)] = ids;
        }
    }

    /// Every socket that is watched.
    pub fn all(&self) -> impl Iterator<Item = &DeadlineSlot> {
        self.slots.iter().filter(|slot| slot.fd >= 0)
    }

    /// The client connections that have idled longest by now, at most `most` of them.
    pub fn longest_idle(&mut self, now: Moment, most: usize) -> Vec<&mut DeadlineSlot> {
        let mut idle: Vec<&mut DeadlineSlot> = self
            .slots
            .iter_mut()
            .filter(|slot| slot.idle_since <= now && slot.expired.is_none())
            .collect();
        idle.sort_by_key(|slot| slot.idle_since);
        idle.truncate(most);
        idle
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below WHEEL_BUCKETS")]
const fn bucket(tick: u64) -> usize {
    (tick % WHEEL_BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;
    use std::time::Duration;

    fn fired(wheel: &mut Wheel, now: u64) -> Vec<(RawFd, Due)> {
        let mut found = Vec::new();
        wheel.advance(Moment(now), |_, slot, due| found.push((slot.fd, due)));
        found
    }

    #[test]
    fn a_deadline_fires_once_and_not_early() {
        let mut wheel = Wheel::new(Moment(0));
        let id = wheel.insert(7, Class::Downstream);
        wheel.read_by(id, Moment(1000));
        assert!(fired(&mut wheel, 1000).is_empty());
        assert_eq!(fired(&mut wheel, 1200), [(7, Due::Read)]);
        assert!(fired(&mut wheel, 500_000).is_empty());
    }

    #[test]
    fn moving_a_deadline_works_both_ways() {
        let mut wheel = Wheel::new(Moment(0));
        let id = wheel.insert(7, Class::Downstream);
        wheel.read_by(id, Moment(60_000));
        wheel.read_by(id, Moment(500));
        wheel.read_by(id, Moment(2000));
        assert!(fired(&mut wheel, 1500).is_empty());
        wheel.write_by(id, Moment(1600), 100);
        assert_eq!(fired(&mut wheel, 1900), [(7, Due::Write)]);
        assert_eq!(fired(&mut wheel, 2300), [(7, Due::Read)]);
    }

    #[test]
    fn deadlines_beyond_the_wheel_wait_their_turn() {
        let mut wheel = Wheel::new(Moment(0));
        let id = wheel.insert(7, Class::Upstream);
        wheel.read_by(id, Moment(0).after(Duration::from_secs(3600)));
        assert!(fired(&mut wheel, 3_599_000).is_empty());
        assert_eq!(fired(&mut wheel, 3_601_000).len(), 1);
    }

    #[test]
    fn a_slot_used_again_has_nothing_of_its_past() {
        let mut wheel = Wheel::new(Moment(0));
        let old = wheel.insert(7, Class::Downstream);
        wheel.read_by(old, Moment(1000));
        wheel.remove(old);
        let new = wheel.insert(8, Class::Downstream);
        wheel.read_by(old, Moment(100));
        assert!(fired(&mut wheel, 5000).is_empty());
        assert!(wheel.slot(old).is_none() && wheel.slot(new).is_some());
    }

    #[test]
    fn every_deadline_fires_within_two_ticks_whatever_the_history() {
        let mut random = Random::new(3);
        for _ in 0..200 {
            let mut wheel = Wheel::new(Moment(0));
            let id = wheel.insert(1, Class::Downstream);
            let (mut now, mut deadline) = (0, u64::MAX);
            for _ in 0..50 {
                now += random.bits() % 3000;
                let due = !fired(&mut wheel, now).is_empty();
                assert_eq!(due, deadline.saturating_add(2 * TICK) <= now || due && deadline < now);
                deadline = if due { u64::MAX } else { deadline };
                if random.bits().is_multiple_of(2) {
                    deadline = now + random.bits() % 200_000;
                    wheel.read_by(id, Moment(deadline));
                }
            }
        }
    }
}
