//! How a body ends. Deriving it from header fields is `wire::framing`'s work.

/// How a message's body ends. Decided once, from all values (exam, rule 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many octets.
    Length(u64),
    /// Until it ends by itself: by the last chunk, or with its stream.
    Chunked,
    /// Everything until the connection closes. Responses only.
    UntilClose,
}

impl Framing {
    /// There is nothing to relay.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// How much there is of a body, whatever the version: how its end is told is that of the version which writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// There is none, and cannot be.
    Empty,
    /// So many octets.
    Known(u64),
    /// Until it ends.
    Unknown,
}

impl From<Framing> for BodySize {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Empty,
            Framing::Length(length) => Self::Known(length),
            Framing::Chunked | Framing::UntilClose => Self::Unknown,
        }
    }
}
