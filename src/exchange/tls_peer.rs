//! What a client's TLS connection lets it ask for.

use std::sync::Arc;

use crate::net::tls::handshake::HandshakeInfo;
use crate::net::tls::server::TlsServer;

/// A secure client: what it said, and by which certificates it was answered.
pub struct TlsPeer {
    pub greeting: HandshakeInfo,
    pub server: Arc<TlsServer>,
}

impl TlsPeer {
    /// Whether this connection may ask for this host: the name that it was opened for, or another
    /// that its certificate speaks for (RFC 9110 section 15.5.20; exam L04).
    #[must_use]
    pub fn leads_to(&self, host: &[u8]) -> bool {
        let Some(name) = self.greeting.name.as_deref() else { return true };
        let trimmed = |text: &[u8]| text.strip_suffix(b".").unwrap_or(text).to_ascii_lowercase();
        // Nearly always the same, and in lower case.
        if name.as_bytes() == host || host.is_empty() {
            return true;
        }
        let (name, host) = (trimmed(name.as_bytes()), trimmed(host));
        let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
        name == host || self.server.covers(&text(name), &text(host))
    }
}
