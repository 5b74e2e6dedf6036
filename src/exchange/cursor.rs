//! Where one reader of a body that is still coming stands.

use std::rc::Rc;
use std::sync::Arc;

use crate::cache::fill_stream::{FillStream, Node, Position};
use crate::shard::cache_handle::CacheHandle;

/// A reader's place in a stream. The writer is told when it moves and when it goes: it may be waiting for that.
pub struct Cursor {
    cache: Rc<CacheHandle>,
    pub stream: Arc<FillStream>,
    pub node: Arc<Node>,
    /// As its writer sees it.
    position: Position,
}

impl Cursor {
    /// At its beginning. `None` if there are as many readers as there may be.
    #[must_use]
    pub fn new(cache: &Rc<CacheHandle>, stream: Arc<FillStream>, node: Arc<Node>) -> Option<Self> {
        let position = stream.joined()?;
        let cursor = Self { cache: Rc::clone(cache), stream, node, position };
        cursor.moved();
        Some(cursor)
    }

    /// Moves on.
    pub fn go(&mut self, next: Arc<Node>) {
        self.node = next;
    }

    /// Has written what is there.
    pub fn passed(&self) {
        self.position.set(self.node.at());
        self.moved();
    }

    fn moved(&self) {
        if self.stream.moved() {
            self.cache.tell(&self.stream);
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.position.leave();
        self.moved();
    }
}
