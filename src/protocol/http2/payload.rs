//! What h2 sends: our own buffers, which go back to their pool when it is through with them.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use crate::base::limits::H2_FRAME_COST;
use crate::net::backlog::{Backlog, Hold};
use crate::net::buffer::{Buffer, Buffers};
use crate::net::size::Size;

/// Octets of a DATA frame.
#[derive(Debug)]
pub struct Payload {
    octets: PayloadOctets,
    /// Where they count until h2 is through with them.
    _hold: Option<Hold>,
}

#[derive(Debug)]
enum PayloadOctets {
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
    pub fn copy(octets: &[u8], buffers: &Rc<Buffers>, backlog: Option<&Rc<Backlog>>) -> Self {
        let hold = |len: usize| backlog.map(|backlog| backlog.hold(len + H2_FRAME_COST));
        if octets.len() <= LITTLE {
            let hold = hold(octets.len());
            return Self {
                octets: PayloadOctets::Small(Bytes::copy_from_slice(octets)),
                _hold: hold,
            };
        }
        let mut buffer = buffers.take(Size::fitting(octets.len()));
        let hold = hold(buffer.space());
        buffer.append(octets);
        Self { octets: PayloadOctets::Pooled(Some(buffer), Rc::clone(buffers)), _hold: hold }
    }

    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self { octets: PayloadOctets::Small(Bytes::new()), _hold: None }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match &self.octets {
            PayloadOctets::Pooled(buffer, _) => buffer.as_ref().map_or(&[], Buffer::data),
            PayloadOctets::Small(bytes) => bytes,
        }
    }

    fn advance(&mut self, len: usize) {
        match &mut self.octets {
            PayloadOctets::Pooled(Some(buffer), _) => buffer.consume(len),
            PayloadOctets::Pooled(None, _) => debug_assert!(len == 0, "there is nothing"),
            PayloadOctets::Small(bytes) => bytes.advance(len),
        }
    }
}

impl Drop for PayloadOctets {
    fn drop(&mut self) {
        if let Self::Pooled(buffer, buffers) = self
            && let Some(buffer) = buffer.take()
        {
            buffers.give(buffer);
        }
    }
}
