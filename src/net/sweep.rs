//! Ends what is overdue: ten times a second the shard looks at its wheel and shuts those sockets
//! down, so that the operation which waits on them returns. No operation is ever dropped for a
//! timeout, and none has a timer of its own (net, rule 4).

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::deadline::{Class, DeadlineSlot, Due, SlotId, Wheel};
use super::sys::{self, Directions, PeerState};
use crate::base::clock::{Moment, monotonic};
use crate::base::limits::{LEFT_EVERY, LOOKS_AT_ONCE};

/// A shard's watched sockets.
#[derive(Debug)]
pub struct Sweep {
    wheel: RefCell<Wheel>,
    /// The time at the last tick.
    now: Cell<Moment>,
    /// Those whose peers are looked at now.
    looks: RefCell<Vec<(SlotId, RawFd)>>,
    /// How long a client that has ended its side may be without an octet of its answer.
    half_closed: Duration,
    /// Octets a second that a client must take; less is a slow-read attack.
    rate: u64,
}

impl Sweep {
    /// Watches nothing yet.
    #[must_use]
    pub fn new(now: Moment, rate: u64, half_closed: Duration) -> Rc<Self> {
        let (wheel, looks) = (RefCell::new(Wheel::new(now)), RefCell::default());
        Rc::new(Self { wheel, now: Cell::new(now), looks, half_closed, rate })
    }

    /// The monotonic clock as it was at the last tick.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Moment {
        self.now.get()
    }

    /// It is so late now.
    pub fn set_now(&self, now: Moment) {
        self.now.set(now);
    }

    /// Ends every connection: their tasks are gone, and nothing else would.
    pub fn end_all(&self) {
        if let Ok(wheel) = self.wheel.try_borrow() {
            wheel.all().for_each(|slot| sys::shutdown(slot.fd, Directions::Both));
        }
    }

    /// Watches a socket for as long as the guard lives, which must be shorter than the socket.
    #[must_use]
    pub fn watch(self: &Rc<Self>, fd: RawFd, class: Class) -> SocketWatch {
        let id = self.wheel.borrow_mut().insert(fd, class);
        SocketWatch { sweep: Rc::clone(self), id }
    }

    /// Ends what is overdue.
    pub fn run(&self, now: Moment) {
        let rate = self.rate;
        let mut looks = self.looks.borrow_mut();
        let mut wheel = self.wheel.borrow_mut();
        wheel.advance(now, |id, slot, due| match due {
            Due::Read => end_read(slot),
            Due::Write => look_at_write(slot, now, rate),
            Due::Look if slot.presence.is_served => looks.push((id, slot.fd)),
            Due::Look => {}
        });
        for some in looks.chunks(LOOKS_AT_ONCE) {
            let peers = sys::peers(some.iter().map(|(_, fd)| *fd));
            for ((id, _), peer) in some.iter().zip(peers) {
                self.look_at_peer(&mut wheel, *id, peer, now);
            }
        }
        looks.clear();
    }

    /// A client that is gone is told of at once; one that has ended its side alone may still want its answer,
    /// and is given up when nothing was written for a while (exam R20).
    fn look_at_peer(&self, wheel: &mut Wheel, id: SlotId, peer: PeerState, now: Moment) {
        let Some(slot) = wheel.slot(id) else { return };
        let written = slot.written;
        let presence = &mut slot.presence;
        let is_silent = presence.silent_since != Moment::NEVER && presence.written == written;
        match peer {
            PeerState::HalfClosed if presence.is_sending => presence.silent_since = Moment::NEVER,
            PeerState::Here => presence.silent_since = Moment::NEVER,
            PeerState::HalfClosed if !is_silent => {
                (presence.silent_since, presence.written) = (now, written);
            }
            PeerState::HalfClosed => {
                presence.has_left = now.since(presence.silent_since) >= self.half_closed;
            }
            PeerState::Gone => presence.has_left = true,
        }
        if presence.has_left {
            presence.waker.iter().for_each(Waker::wake_by_ref);
        } else {
            wheel.look_at(id, now.after(LEFT_EVERY));
        }
    }

    /// Ends the client connections that have idled longest: called when descriptors run out.
    /// Returns how many (exam F07).
    pub fn end_idle(&self, now: Moment, most: usize) -> usize {
        let mut wheel = self.wheel.borrow_mut();
        let idle = wheel.longest_idle(now, most);
        let count = idle.len();
        idle.into_iter().for_each(end_read);
        count
    }
}

/// A client gets a last word, so only its direction is shut; with an upstream we are through.
fn end_read(slot: &mut DeadlineSlot) {
    slot.expired = Some(Due::Read);
    if let Some(waker) = slot.waker.take() {
        return waker.wake();
    }
    let how = if slot.class == Class::Downstream { Directions::Read } else { Directions::Both };
    sys::shutdown(slot.fd, how);
}

/// A write waits for room in the send queue. If the peer takes enough of what was written it is
/// slow but alive; the kernel knows, and is asked only when a write has waited a whole period.
fn look_at_write(slot: &mut DeadlineSlot, now: Moment, rate: u64) {
    let queued = sys::send_queue(slot.fd).unwrap_or(0);
    let taken = slot.written.wrapping_sub(queued);
    let wanted = match slot.class {
        Class::Downstream => (rate.saturating_mul(u64::from(slot.write_period)) / 1000).max(1),
        Class::Upstream => 1,
    };
    let is_alive = slot.taken.is_none_or(|before| u64::from(taken.wrapping_sub(before)) >= wanted);
    if is_alive {
        slot.taken = Some(taken);
        slot.write_by = now.after(Duration::from_millis(u64::from(slot.write_period)));
    } else {
        slot.expired = Some(Due::Write);
        match slot.waker.take() {
            Some(waker) => waker.wake(),
            None => sys::shutdown(slot.fd, Directions::Both),
        }
    }
}

/// One watched socket.
#[derive(Debug)]
pub struct SocketWatch {
    sweep: Rc<Sweep>,
    id: SlotId,
}

impl SocketWatch {
    /// The shard's clock.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Moment {
        self.sweep.now()
    }

    /// Nothing may arrive after this; `NEVER` for no deadline.
    #[inline]
    pub fn read_by(&self, deadline: Moment) {
        self.sweep.wheel.borrow_mut().read_by(self.id, deadline);
    }

    /// Nothing comes due for want of something to read until the guard is dropped: the deadline is moved by
    /// as long as that takes.
    #[must_use]
    pub fn pause_reading(&self) -> Paused<'_> {
        let mut wheel = self.sweep.wheel.borrow_mut();
        let deadline = wheel.slot(self.id).map_or(Moment::NEVER, |slot| slot.read_by);
        wheel.read_by(self.id, Moment::NEVER);
        Paused { watch: self, deadline, since: monotonic() }
    }

    /// Whether something has come due. If not, `context` is woken when it does: for tasks that have no
    /// socket that could be shut down.
    pub fn poll_due(&self, context: &Context<'_>) -> bool {
        let mut wheel = self.sweep.wheel.borrow_mut();
        let Some(slot) = wheel.slot(self.id) else { return true };
        // A task that waits on after one deadline is woken for the next.
        match &mut slot.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        slot.expired.is_some()
    }

    /// Counts as never having come due; nothing may arrive after this.
    pub fn again(&self, deadline: Moment) {
        let mut wheel = self.sweep.wheel.borrow_mut();
        if let Some(slot) = wheel.slot(self.id) {
            slot.expired = None;
        }
        wheel.read_by(self.id, deadline);
    }

    /// A write begins: it must progress within about two periods (milliseconds).
    #[inline]
    pub fn write_within(&self, period: u32) {
        let by = Moment(self.now().0.saturating_add(u64::from(period)));
        self.sweep.wheel.borrow_mut().write_by(self.id, by, period);
    }

    /// The kernel took so many octets of a write.
    #[inline]
    pub fn wrote(&self, len: usize) {
        if let Some(slot) = self.sweep.wheel.borrow_mut().slot(self.id) {
            slot.written = slot.written.wrapping_add(u32::try_from(len).unwrap_or(0));
        }
    }

    /// The kernel took the last octets of a write, or none of them any more.
    #[inline]
    pub fn write_done(&self, len: usize) {
        if let Some(slot) = self.sweep.wheel.borrow_mut().slot(self.id) {
            slot.written = slot.written.wrapping_add(u32::try_from(len).unwrap_or(0));
            slot.write_by = Moment::NEVER;
        }
    }

    /// What came due on this socket, if anything did.
    #[must_use]
    pub fn expired(&self) -> Option<Due> {
        self.sweep.wheel.borrow_mut().slot(self.id).and_then(|slot| slot.expired)
    }

    /// Whether the peer has left while its request is served. If not, `context` is woken when it has. While
    /// `is_sending` only a reset counts.
    pub fn has_left(&self, context: &Context<'_>, is_sending: bool) -> bool {
        let mut wheel = self.sweep.wheel.borrow_mut();
        let Some(slot) = wheel.slot(self.id) else { return true };
        let presence = &mut slot.presence;
        match &mut presence.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            waker => *waker = Some(context.waker().clone()),
        }
        (presence.is_served, presence.is_sending) = (true, is_sending);
        let has_left = presence.has_left;
        if presence.look_at == Moment::NEVER && !has_left {
            wheel.look_at(self.id, self.now().after(LEFT_EVERY));
        }
        has_left
    }

    /// No request is served any more.
    pub fn looks_no_more(&self) {
        if let Some(slot) = self.sweep.wheel.borrow_mut().slot(self.id) {
            slot.presence.is_served = false;
            slot.presence.silent_since = Moment::NEVER;
        }
    }

    /// A client is waited for, until then, and counts as idle since then, which may be later than now.
    #[inline]
    pub fn idles(&self, until: Moment, since: Moment) {
        let mut wheel = self.sweep.wheel.borrow_mut();
        if let Some(slot) = wheel.slot(self.id) {
            slot.idle_since = since;
        }
        wheel.read_by(self.id, until);
    }

    /// It has come.
    #[inline]
    pub fn is_busy(&self) {
        if let Some(slot) = self.sweep.wheel.borrow_mut().slot(self.id) {
            (slot.idle_since, slot.read_by) = (Moment::NEVER, Moment::NEVER);
        }
    }

    /// Counts as idle since then, which may be later than now; `NEVER` when a request has begun.
    pub fn idle_since(&self, since: Moment) {
        if let Some(slot) = self.sweep.wheel.borrow_mut().slot(self.id) {
            slot.idle_since = since;
        }
    }
}

/// A deadline that stands still.
pub struct Paused<'a> {
    watch: &'a SocketWatch,
    deadline: Moment,
    since: Moment,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let deadline = match self.deadline {
            Moment::NEVER => Moment::NEVER,
            deadline => deadline.after(monotonic().since(self.since)),
        };
        self.watch.read_by(deadline);
    }
}

impl Drop for SocketWatch {
    fn drop(&mut self) {
        self.sweep.wheel.borrow_mut().remove(self.id);
    }
}
