//! A response on its way into the cache, as all its readers on all cores see it: the head, once it
//! is there, and then the body, piece by piece. Nothing is ever changed once it is said: one
//! writes, each reader goes on from where it was.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::entry::{Chunk, Entry};
use super::policy::Refused;
use crate::base::error::Kind;

/// What became of a fetch.
#[derive(Clone, Debug)]
pub enum Start {
    /// It is stored already, whole.
    Stored(Arc<Entry>),
    /// It will be, if its body comes whole. What there is of it follows `Link` by `Link`.
    Growing(Arc<Entry>),
    /// It is nobody else's: ask for yourself.
    Released(Refused),
    /// There was no answer.
    Failed(Kind),
    /// The disk was looked into: ask again.
    Looked,
}

/// What follows a piece.
#[derive(Debug)]
pub enum Link {
    Data(Arc<Node>),
    /// The body ended by its framing.
    End,
    /// It did not.
    Cut,
}

/// A piece of the body.
#[derive(Debug)]
pub struct Node {
    pub data: Chunk,
    next: OnceLock<Link>,
    outstanding: Arc<AtomicU64>,
}

impl Node {
    /// What follows; `None` if nobody knows yet.
    #[must_use]
    pub fn next(&self) -> Option<&Link> {
        self.next.get()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.outstanding.fetch_sub(self.data.len() as u64, Ordering::SeqCst);
        // One after the other: a long chain would overflow the stack.
        let mut next = self.next.take();
        while let Some(Link::Data(node)) = next {
            let Some(mut node) = Arc::into_inner(node) else { return };
            next = node.next.take();
        }
    }
}

/// One fetch, shared by its fetcher and those who follow it.
#[derive(Debug)]
pub struct Flow {
    pub id: u64,
    start: OnceLock<Start>,
    /// Moves with all that is said.
    version: AtomicU32,
    /// Which shards have somebody who follows.
    followed: Box<[AtomicBool]>,
    /// The writer waits for its readers.
    is_waiting: AtomicBool,
    /// Octets that somebody still holds.
    outstanding: Arc<AtomicU64>,
}

impl Flow {
    /// Nothing is known yet. Returns the place where the body will begin.
    #[must_use]
    pub fn new(id: u64, shards: usize) -> (Arc<Self>, Arc<Node>) {
        let outstanding = Arc::new(AtomicU64::new(0));
        let none: Chunk = Arc::from(Vec::new());
        let next = OnceLock::new();
        let front = Arc::new(Node { data: none, next, outstanding: Arc::clone(&outstanding) });
        let flow = Self {
            id,
            start: OnceLock::new(),
            version: AtomicU32::new(0),
            followed: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            is_waiting: AtomicBool::new(false),
            outstanding,
        };
        (Arc::new(flow), front)
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

    /// Puts a piece behind the last one, and returns it.
    #[must_use]
    pub fn push(&self, last: &Node, data: Chunk) -> Arc<Node> {
        self.outstanding.fetch_add(data.len() as u64, Ordering::SeqCst);
        let (next, outstanding) = (OnceLock::new(), Arc::clone(&self.outstanding));
        let node = Arc::new(Node { data, next, outstanding });
        let is_first = last.next.set(Link::Data(Arc::clone(&node))).is_ok();
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

    /// Somebody on this shard follows.
    pub fn follow(&self, shard: usize) {
        if let Some(followed) = self.followed.get(shard) {
            followed.store(true, Ordering::SeqCst);
        }
    }

    /// The shards where somebody follows.
    pub fn followers(&self) -> impl Iterator<Item = usize> {
        let all = self.followed.iter().enumerate();
        all.filter(|(_, followed)| followed.load(Ordering::SeqCst)).map(|(at, _)| at)
    }

    /// The writer waits until readers have let go of some of it, or does not any more.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    /// A reader has let go of a piece. True if the writer waits for that.
    #[must_use]
    pub fn went_on(&self) -> bool {
        let is_waiting = self.is_waiting.load(Ordering::SeqCst);
        if is_waiting {
            self.version.fetch_add(1, Ordering::Release);
        }
        is_waiting
    }

    /// Octets of the body that readers have not done with, or that are kept for new ones.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Chunk {
        Arc::from(vec![7; len])
    }

    #[test]
    fn readers_go_at_their_own_pace_and_pieces_are_let_go_behind_them() {
        let (flow, front) = Flow::new(1, 4);
        flow.follow(2);
        assert_eq!(flow.followers().collect::<Vec<_>>(), [2]);
        let first = flow.push(&front, piece(10));
        let last = flow.push(&first, piece(20));
        drop(first);
        assert_eq!(flow.outstanding(), 30);
        let mut reader = Arc::clone(&front);
        drop(front);
        let mut seen = 0;
        while let Some(Link::Data(next)) = reader.next() {
            let next = Arc::clone(next);
            reader = next;
            seen += reader.data.len();
        }
        assert_eq!((seen, flow.outstanding()), (30, 20));
        let version = flow.version();
        flow.end(&last, true);
        assert!(flow.version() > version && matches!(reader.next(), Some(Link::End)));
        drop((reader, last));
        assert_eq!(flow.outstanding(), 0);
    }

    #[test]
    fn only_the_first_word_counts() {
        let (flow, _front) = Flow::new(1, 1);
        flow.begin(Start::Failed(Kind::UpstreamGone));
        flow.begin(Start::Released(Refused::NoStore));
        assert!(matches!(flow.start(), Some(Start::Failed(Kind::UpstreamGone))));
    }

    #[test]
    fn a_long_body_is_let_go_without_recursion() {
        let (flow, front) = Flow::new(1, 1);
        let mut last = Arc::clone(&front);
        for _ in 0..1_000_000 {
            last = flow.push(&last, piece(1));
        }
        drop((front, last));
        assert_eq!(flow.outstanding(), 0);
    }
}
