//! May this connection carry another message? A connection is reused only by proof
//! (exam, rule 4).

use crate::message::head::{Options, ResponseHead, Version};

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
/// knows: no octet was read beyond the response, and its address is still its endpoint's. Made where the facts are
/// known, of a response that ended by its framing; only a proof puts a connection into the pool.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// The whole request was written.
    request_written: bool,
    /// The upstream keeps the connection, and nothing about the head made us distrust it.
    head_keeps: bool,
}

impl Proof {
    /// Of an exchange with this final head.
    #[must_use]
    pub fn after(response: &ResponseHead, request_written: bool) -> Self {
        let head_keeps = peer_keeps(response.version, response.options)
            && !response.tainted
            && response.status != 101;
        Self { request_written, head_keeps }
    }

    /// All of it holds.
    #[must_use]
    pub const fn holds(self) -> bool {
        self.request_written && self.head_keeps
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
