//! What h2 sends: our own buffers, which go back to their pool when it is through with them.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use crate::net::buffer::{Buffer, Buffers, Size};

/// Octets of a DATA frame.
#[derive(Debug)]
pub enum Payload {
    Pooled(Option<Buffer>, Rc<Buffers>),
    /// A little, which is not worth a whole buffer: a peer that opens its window octet by octet must
    /// not fill our memory.
    Small(Bytes),
}

/// What is a little.
const LITTLE: usize = 2048;

impl Payload {
    /// A copy of these octets.
    #[must_use]
    pub fn copy(octets: &[u8], buffers: &Rc<Buffers>) -> Self {
        if octets.len() <= LITTLE {
            return Self::Small(Bytes::copy_from_slice(octets));
        }
        let mut buffer = buffers.take(Size::fitting(octets.len()));
        buffer.append(octets);
        Self::Pooled(Some(buffer), Rc::clone(buffers))
    }

    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self::Small(Bytes::new())
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Pooled(buffer, _) => buffer.as_ref().map_or(&[], Buffer::data),
            Self::Small(bytes) => bytes,
        }
    }

    fn advance(&mut self, len: usize) {
        match self {
            Self::Pooled(Some(buffer), _) => buffer.consume(len),
            Self::Pooled(None, _) => debug_assert!(len == 0, "there is nothing"),
            Self::Small(bytes) => bytes.advance(len),
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Self::Pooled(buffer, buffers) = self
            && let Some(buffer) = buffer.take()
        {
            buffers.give(buffer);
        }
    }
}
