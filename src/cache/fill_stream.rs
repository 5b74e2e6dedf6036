//! A response on its way into the cache, as all its readers on all cores see it: the head, once it
//! is there, and then the body, piece by piece. Nothing is ever changed once it is said: one
//! writes, each reader goes on from where it was.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crossbeam_channel::{Receiver, Sender};

use super::entry::Entry;
use super::octets::{Chunk, Octets};
use super::policy::NotStored;
use crate::base::clock::Moment;
use crate::base::error::Kind;
use crate::base::limits::FLOW_READERS;

/// What became of a fetch.
#[derive(Clone, Debug)]
pub enum Start {
    /// It is stored already, whole.
    Stored(Arc<Entry>),
    /// There was no answer, and what is stored may stand in for it.
    Stands(Arc<Entry>),
    /// It will be, if its body comes whole. What there is of it follows `Link` by `Link`.
    Growing(Arc<Entry>),
    /// It is not for other clients: ask for yourself.
    Released(NotStored),
    /// There was no answer.
    Failed(Kind),
    /// The disk was looked into, and this was there: ask again if it does not suit.
    Looked(Option<Arc<Entry>>),
}

/// What follows a piece.
#[derive(Debug)]
pub enum Link {
    Data(Arc<Node>),
    /// Of a body that will not be stored: it is kept for a while only. A reader that comes too late is cut off.
    Passing(Weak<Node>),
    /// The body ended by its framing.
    End,
    /// It did not.
    Cut,
}

/// A piece of the body.
#[derive(Debug)]
pub struct Node {
    pub data: Chunk,
    /// Octets of the body up to its end.
    at: u64,
    next: OnceLock<Link>,
}

impl Node {
    /// What follows; `None` if it is not known yet.
    #[must_use]
    pub fn next(&self) -> Option<&Link> {
        self.next.get()
    }

    /// Octets of the body up to its end.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One after the other: a long chain would overflow the stack.
        let mut next = self.next.take();
        while let Some(Link::Data(node)) = next {
            let Some(mut node) = Arc::into_inner(node) else { return };
            next = node.next.take();
        }
    }
}

/// A list of readers that have come.
type Joining = (Sender<Position>, Receiver<Position>);

/// One fetch, shared by its fetcher and the requests that follow it.
#[derive(Debug)]
pub struct FillStream {
    pub id: u64,
    start: OnceLock<Start>,
    /// Moves with all that is said.
    version: AtomicU32,
    /// Which shards have a request that follows.
    followed: Box<[AtomicBool]>,
    /// The writer waits for its readers.
    is_waiting: AtomicBool,
    /// When it did so last, in milliseconds.
    waited: AtomicU64,
    /// Moves with all that readers do.
    progress: AtomicU64,
    /// Readers that have come since the writer looked last. Nearly always the first list is enough.
    joining: [OnceLock<Joining>; FLOW_READERS.len()],
}

impl FillStream {
    /// Nothing is known yet. Returns the place where the body will begin.
    #[must_use]
    pub fn new(id: u64, shards: usize) -> (Arc<Self>, Arc<Node>) {
        let none: Chunk = Octets::plain(Vec::new());
        let next = OnceLock::new();
        let front = Arc::new(Node { data: none, at: 0, next });
        let stream = Self {
            id,
            start: OnceLock::new(),
            version: AtomicU32::new(0),
            followed: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            is_waiting: AtomicBool::new(false),
            waited: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            joining: [const { OnceLock::new() }; FLOW_READERS.len()],
        };
        (Arc::new(stream), front)
    }

    /// What became of it; `None` if it is still being asked for.
    #[must_use]
    pub fn start(&self) -> Option<&Start> {
        self.start.get()
    }

    /// Says what became of it. Only the first word counts.
    pub fn begin(&self, start: Start) {
        if self.start.set(start).is_ok() {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Puts a piece behind the last one, and returns it: kept by the one before it, or by the writer
    /// alone, which lets it go when it likes.
    #[must_use]
    pub fn push(&self, last: &Node, data: Chunk, is_passing: bool) -> Arc<Node> {
        let next = OnceLock::new();
        let at = last.at + data.len() as u64;
        let node = Arc::new(Node { data, at, next });
        let link = if is_passing {
            Link::Passing(Arc::downgrade(&node))
        } else {
            Link::Data(Arc::clone(&node))
        };
        let is_first = last.next.set(link).is_ok();
        debug_assert!(is_first, "one writes");
        self.version.fetch_add(1, Ordering::Release);
        node
    }

    /// Ends the body, or cuts it off.
    pub fn end(&self, last: &Node, is_whole: bool) {
        let is_first = last.next.set(if is_whole { Link::End } else { Link::Cut }).is_ok();
        debug_assert!(is_first, "one writes");
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Moves with all that is said.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// A request on this shard follows.
    pub fn follow(&self, shard: usize) {
        if let Some(followed) = self.followed.get(shard) {
            followed.store(true, Ordering::SeqCst);
        }
    }

    /// The shards where a request follows.
    pub fn followers(&self) -> impl Iterator<Item = usize> {
        let all = self.followed.iter().enumerate();
        all.filter(|(_, followed)| followed.load(Ordering::SeqCst)).map(|(at, _)| at)
    }

    /// The writer waits for its readers, or does not any more.
    pub fn set_waiting(&self, is_waiting: bool, now: Moment) {
        self.waited.store(now.0, Ordering::SeqCst);
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    /// Until when its writer has waited for readers, and not for the origin: now, if it does.
    #[must_use]
    pub fn waited(&self, now: Moment) -> Moment {
        if self.is_waiting() { now } else { Moment(self.waited.load(Ordering::SeqCst)) }
    }

    fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::SeqCst)
    }

    /// One more reads it, from the beginning on. `None` if it has as many readers as it may have.
    #[must_use]
    pub fn joined(&self) -> Option<Position> {
        let position = Position::default();
        let mut joining = position.clone();
        for (list, room) in self.joining.iter().zip(FLOW_READERS) {
            let (sender, receiver) = list.get_or_init(|| crossbeam_channel::bounded(room));
            let Err(back) = sender.try_send(joining) else { return Some(position) };
            joining = back.into_inner();
            // Readers that have left make room: coming and going must not add up.
            for _ in 0..room {
                let staying = receiver.try_recv().ok().filter(|one| one.get().is_some());
                if let Some(Err(back)) = staying.map(|one| sender.try_send(one)) {
                    // Another core has been faster. This one is seen in the next list.
                    if !self.joins_behind(room, back.into_inner()) {
                        return None;
                    }
                }
            }
            let Err(back) = sender.try_send(joining) else { return Some(position) };
            joining = back.into_inner();
        }
        None
    }

    /// Puts a reader into a list behind the one with so much room.
    fn joins_behind(&self, room: usize, mut joining: Position) -> bool {
        let lists = self.joining.iter().zip(FLOW_READERS).filter(|(_, other)| *other > room);
        for (list, room) in lists {
            let (sender, _) = list.get_or_init(|| crossbeam_channel::bounded(room));
            match sender.try_send(joining) {
                Ok(()) => return true,
                Err(back) => joining = back.into_inner(),
            }
        }
        false
    }

    /// A reader has come, got on, or left. True if the writer waits for that, and has to be told.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.progress.fetch_add(1, Ordering::SeqCst);
        let is_waiting = self.is_waiting();
        if is_waiting {
            self.version.fetch_add(1, Ordering::Release);
        }
        is_waiting
    }

    /// Moves with all that readers do.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::SeqCst)
    }

    /// The requests that have come since this was asked last. For the writer.
    pub fn newcomers(&self) -> impl Iterator<Item = Position> {
        self.joining.iter().filter_map(OnceLock::get).flat_map(|(_, receiver)| receiver.try_iter())
    }
}

/// How far a reader is, as its writer sees it.
#[derive(Clone, Debug, Default)]
pub struct Position(Arc<AtomicU64>);

/// It has left.
const LEFT: u64 = u64::MAX;

impl Position {
    /// Octets that it has taken; `None` if it has left.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|at| *at != LEFT)
    }

    /// It has taken all up to there.
    pub fn set(&self, at: u64) {
        self.0.store(at, Ordering::SeqCst);
    }

    /// It has left.
    pub fn leave(&self) {
        self.set(LEFT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Chunk {
        Octets::plain(vec![7; len])
    }

    #[test]
    fn readers_go_at_their_own_pace_and_pieces_are_let_go_behind_them() {
        let (stream, front) = FillStream::new(1, 4);
        stream.follow(2);
        assert_eq!(stream.followers().collect::<Vec<_>>(), [2]);
        let first = stream.push(&front, piece(10), false);
        let last = stream.push(&first, piece(20), false);
        let behind = Arc::downgrade(&first);
        drop(first);
        let mut reader = Arc::clone(&front);
        drop(front);
        let mut seen = 0;
        while let Some(Link::Data(next)) = reader.next() {
            let next = Arc::clone(next);
            reader = next;
            seen += reader.data.len();
        }
        assert!(seen == 30 && behind.upgrade().is_none(), "what all have read is let go");
        let version = stream.version();
        stream.end(&last, true);
        assert!(stream.version() > version && matches!(reader.next(), Some(Link::End)));
    }

    #[test]
    fn what_passes_is_kept_by_its_writer_alone() {
        let (stream, front) = FillStream::new(1, 1);
        let first = stream.push(&front, piece(10), false);
        let second = stream.push(&first, piece(20), true);
        assert_eq!((first.at(), second.at()), (10, 30));
        let Some(Link::Passing(weak)) = first.next() else { panic!("passing") };
        assert!(weak.upgrade().is_some());
        drop(second);
        assert!(weak.upgrade().is_none(), "too late");
        // Its writer knows where readers are.
        let (one, other) = (stream.joined().unwrap(), stream.joined().unwrap());
        one.set(30);
        other.leave();
        let seen: Vec<Option<u64>> = stream.newcomers().map(|one| one.get()).collect();
        assert_eq!(seen, [Some(30), None]);
        assert!(stream.newcomers().next().is_none());
        let before = stream.progress();
        assert!(!stream.moved() && stream.progress() > before, "no request waits for it");
        stream.set_waiting(true, Moment(5));
        assert!(stream.moved() && stream.waited(Moment(7)) == Moment(7));
        stream.set_waiting(false, Moment(8));
        assert_eq!(stream.waited(Moment(9)), Moment(8));
    }

    #[test]
    fn readers_that_come_and_go_do_not_add_up() {
        let (stream, _front) = FillStream::new(1, 1);
        let stays = stream.joined().unwrap();
        (0..10_000).for_each(|_| stream.joined().unwrap().leave());
        assert!(stream.joining[1].get().is_none(), "the first list is enough");
        let all: Vec<Position> = std::iter::from_fn(|| stream.joined()).take(20_000).collect();
        let seen = stream.newcomers().filter(|one| one.get().is_some()).count();
        assert_eq!((all.len() + 1, seen), (FLOW_READERS.iter().sum(), all.len() + 1));
        assert!(stream.joined().is_some() && stays.get().is_some());
    }

    #[test]
    fn only_the_first_word_counts() {
        let (stream, _front) = FillStream::new(1, 1);
        stream.begin(Start::Failed(Kind::UpstreamGone));
        stream.begin(Start::Released(NotStored::NoStore));
        assert!(matches!(stream.start(), Some(Start::Failed(Kind::UpstreamGone))));
    }

    #[test]
    fn a_long_body_is_let_go_without_recursion() {
        let (stream, front) = FillStream::new(1, 1);
        let mut last = Arc::clone(&front);
        let first = stream.push(&front, piece(1), false);
        let behind = Arc::downgrade(&first);
        last.clone_from(&first);
        drop(first);
        for _ in 0..1_000_000 {
            last = stream.push(&last, piece(1), false);
        }
        drop((front, last));
        assert!(behind.upgrade().is_none());
    }
}
