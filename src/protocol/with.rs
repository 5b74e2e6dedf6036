//! What goes out with the head of an answer, in every version.

use crate::net::buffer::Buffer;

/// What goes out with a head.
pub enum With<'w> {
    /// The first data of the body, and whether it is the last.
    First(Option<Buffer>, bool),
    /// The whole body, in pieces.
    Whole(&'w [&'w [u8]]),
}

impl With<'_> {
    /// Octets of the body that it has.
    #[must_use]
    pub fn octets(&self) -> u64 {
        match self {
            Self::First(first, _) => first.as_ref().map_or(0, Buffer::len) as u64,
            Self::Whole(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }
}
