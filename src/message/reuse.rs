//! May this connection carry another message? A connection is reused only by proof
//! (exam, rule 4).

use crate::message::head::{Options, Version};

/// Whether the peer wants to keep the connection (RFC 9112 section 9.3).
#[must_use]
pub const fn peer_keeps(version: Version, options: Options) -> bool {
    match version {
        _ if options.close => false,
        Version::Http11 | Version::Http2 => true,
        Version::Http10 => options.keep_alive,
    }
}

/// Everything that must be true of an upstream connection after an exchange, beside what the connection itself
/// knows: no octet was read beyond the response. Made where the facts are known; only a proof puts a connection into
/// the pool.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a list of conditions, all of which must hold")]
pub struct Proof {
    /// The whole request was written.
    pub request_written: bool,
    /// The response ended by its framing, not by the connection's end.
    pub response_complete: bool,
    /// The upstream keeps the connection.
    pub peer_keeps: bool,
    /// Nothing about the head made us distrust the connection.
    pub untainted: bool,
}

impl Proof {
    /// All of it holds.
    #[must_use]
    pub const fn holds(self) -> bool {
        self.request_written && self.response_complete && self.peer_keeps && self.untainted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_their_defaults() {
        let none = Options::default();
        let close = Options { close: true, keep_alive: true, upgrade: false };
        let keep = Options { keep_alive: true, ..none };
        assert!(peer_keeps(Version::Http11, none) && !peer_keeps(Version::Http10, none));
        assert!(peer_keeps(Version::Http10, keep) && !peer_keeps(Version::Http10, close));
        assert!(!peer_keeps(Version::Http11, close));
    }
}
