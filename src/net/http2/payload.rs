//! What h2 sends: our own buffers, which go back to their pool when it is through with them.

use std::rc::Rc;

use bytes::Buf;

use crate::net::buffer::{Buffer, Buffers, Size};

/// Octets of a DATA frame.
#[derive(Debug)]
pub struct Payload {
    buffer: Option<Buffer>,
    buffers: Rc<Buffers>,
}

impl Payload {
    /// A copy of these octets.
    #[must_use]
    pub fn copy(octets: &[u8], buffers: &Rc<Buffers>) -> Self {
        let mut buffer = buffers.take(Size::fitting(octets.len()));
        buffer.append(octets);
        Self { buffer: Some(buffer), buffers: Rc::clone(buffers) }
    }

    /// Nothing.
    #[must_use]
    pub fn none(buffers: &Rc<Buffers>) -> Self {
        Self { buffer: None, buffers: Rc::clone(buffers) }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::data)
    }

    fn advance(&mut self, len: usize) {
        match &mut self.buffer {
            Some(buffer) => buffer.consume(len),
            None => debug_assert!(len == 0, "there is nothing"),
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.buffers.give(buffer);
        }
    }
}
