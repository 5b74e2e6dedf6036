//! How a body ends. Deriving it from header fields is `wire::http1::framing`'s work.

/// How a message's body ends. Decided once, from all values (RELIABILITY section 4, rule 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many octets.
    Length(u64),
    /// Chunks until the last one.
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
