//! Start line and fields of a request and of a response: the one canonical message. The codec
//! fills it in; nothing of the wire's own bytes can be reached through it.

use crate::base::limits;
use crate::message::fields::{Fields, Span};
use crate::message::framing::{BodySize, Framing};

/// A request method (RFC 9110 section 9). Case matters: `get` is not `GET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// Any other token; its bytes are in the head.
    Other,
}

impl Method {
    /// Recognises a method.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// As it is written; nothing if it is none of these.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "",
        }
    }

    /// Asks, and changes nothing (RFC 9110 section 9.2.1; the IANA registry of methods).
    #[must_use]
    pub fn is_safe(self, text: &[u8]) -> bool {
        match self {
            Self::Get | Self::Head | Self::Options | Self::Trace => true,
            Self::Other => matches!(text, b"PROPFIND" | b"REPORT" | b"SEARCH" | b"QUERY"),
            _ => false,
        }
    }

    /// Doing it twice is the same as doing it once (RFC 9110 section 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

/// The version a peer speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

/// What the Connection field said, apart from naming fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `close`
    pub close: bool,
    /// `keep-alive`
    pub keep_alive: bool,
    /// `upgrade`
    pub upgrade: bool,
}

/// A request's start line and fields. The framing fields and the hop-by-hop fields are not among
/// the fields: they became `framing`, `options` and `upgrade`.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// What the client speaks.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// What the Connection field said.
    pub options: Options,
    /// `Expect: 100-continue` was sent.
    pub expects_continue: bool,
    /// Every field that is passed on.
    pub fields: Fields,
    method_text: Span,
    path: Span,
    query: Option<Span>,
    authority: Span,
    name_len: usize,
    upgrade: Span,
    original: (Span, Option<Span>),
    /// The path octet for octet, where that is not its normal form.
    received: Option<Span>,
    sends_received: bool,
}

impl RequestHead {
    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        // Each by name, so that none is forgotten: taken whole and put back a head costs twice as much.
        let Self {
            method,
            version,
            framing,
            options,
            expects_continue,
            fields,
            method_text,
            path,
            query,
            authority,
            name_len,
            upgrade,
            original,
            received,
            sends_received,
        } = self;
        fields.clear(limits::BUFFER_SMALL);
        (*method, *version, *framing, *options) = Default::default();
        (*expects_continue, *sends_received, *name_len) = Default::default();
        (*method_text, *path, *query, *authority) = Default::default();
        (*upgrade, *original, *received) = Default::default();
    }

    /// The method as it was written.
    #[must_use]
    pub fn method_text(&self) -> &[u8] {
        self.fields.text(self.method_text)
    }

    /// The path in its one normal form, or `*`. What is routed is what is forwarded.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.fields.text(self.path)
    }

    /// The path that is forwarded.
    #[must_use]
    pub fn path_to_send(&self) -> &[u8] {
        self.fields.text(self.received.filter(|_| self.sends_received).unwrap_or(self.path))
    }

    /// From here on the path is forwarded octet for octet; routes and keys see its normal form.
    pub const fn send_as_received(&mut self) {
        self.sends_received = true;
    }

    /// For the codec: the path as it came, which is not its normal form.
    pub fn set_received(&mut self, path: &[u8]) {
        self.received = Some(self.fields.store(path));
    }

    /// The query without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        self.query.map(|span| self.fields.text(span))
    }

    /// Whether a request of this method without a body says that it has none (RFC 9110 section 8.6).
    #[must_use]
    pub const fn says_empty(&self) -> bool {
        matches!(self.method, Method::Post | Method::Put | Method::Patch)
    }

    /// Host name and port, from the absolute form or from Host. Empty for HTTP/1.0 without Host.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        self.fields.text(self.authority)
    }

    /// The authority without its port.
    #[must_use]
    pub fn host(&self) -> &[u8] {
        &self.authority()[..self.name_len]
    }

    /// The protocol that the client asks to switch to; empty if none.
    #[must_use]
    pub fn upgrade(&self) -> &[u8] {
        self.fields.text(self.upgrade)
    }

    /// The path and query as the client asked for them, before any rewrite.
    #[must_use]
    pub fn original(&self) -> (&[u8], Option<&[u8]>) {
        (self.fields.text(self.original.0), self.original.1.map(|span| self.fields.text(span)))
    }

    /// For the codec: the method.
    pub fn set_method(&mut self, token: &[u8]) {
        self.method = Method::of(token);
        self.method_text = self.fields.store(token);
    }

    /// For the codec: path and query, normalised.
    pub fn set_target(&mut self, path: &[u8], query: Option<&[u8]>) {
        self.path = self.fields.store(path);
        self.query = query.map(|query| self.fields.store(query));
        self.original = (self.path, self.query);
    }

    /// For the log of a request that could not be read: what it seems to ask for.
    pub fn set_glimpse(&mut self, method: &[u8], target: &[u8], host: &[u8]) {
        self.method_text = self.fields.store(method);
        self.original = (self.fields.store(target), None);
        self.authority = self.fields.store(host);
        self.name_len = host.len();
    }

    /// For rewriting: another path, the query as it was.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.fields.store(path);
    }

    /// For the codec and the host policy: the authority, of which `name_len` octets are the name.
    pub fn set_authority(&mut self, authority: &[u8], name_len: usize) {
        self.authority = self.fields.store(authority);
        self.name_len = name_len;
    }

    /// For the codec: the protocol of an Upgrade field that a Connection field vouched for.
    pub fn set_upgrade(&mut self, protocol: &[u8]) {
        self.upgrade = self.fields.store(protocol);
    }
}

/// A response's status line and fields, without framing and hop-by-hop fields.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    /// What the upstream speaks.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// What the Connection field said.
    pub options: Options,
    /// The connection must not carry another exchange, whatever else it says.
    pub tainted: bool,
    /// Content-Length of an answer without a body (to HEAD, or 304): passed on, never waited for.
    pub length_told: Option<u64>,
    /// Every field that is passed on.
    pub fields: Fields,
    reason: Span,
    upgrade: Span,
}

impl ResponseHead {
    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        let Self {
            status,
            version,
            framing,
            options,
            tainted,
            length_told,
            fields,
            reason,
            upgrade,
        } = self;
        fields.clear(limits::BUFFER_SMALL);
        (*status, *version, *framing, *options) = Default::default();
        (*tainted, *length_told, *reason, *upgrade) = Default::default();
    }

    /// The reason phrase; may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.fields.text(self.reason)
    }

    /// For the codec.
    pub fn set_reason(&mut self, reason: &[u8]) {
        self.reason = self.fields.store(reason);
    }

    /// The protocol that the upstream switches to; empty if none.
    #[must_use]
    pub fn upgrade(&self) -> &[u8] {
        self.fields.text(self.upgrade)
    }

    /// For the codec.
    pub fn set_upgrade(&mut self, protocol: &[u8]) {
        self.upgrade = self.fields.store(protocol);
    }

    /// The same as its client gets it: the connection stays, and nothing is added.
    #[must_use]
    pub fn as_final(&self) -> FinalHead<'_> {
        FinalHead {
            status: self.status,
            reason: self.reason(),
            stored: b"",
            fields: &self.fields,
            date: b"",
            size: BodySize::from(self.framing),
            length_told: self.length_told,
            keeps: true,
            upgrade: if self.status == 101 { self.upgrade() } else { b"" },
        }
    }

    /// An interim response (RFC 9110 section 15.2).
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// The final head of an answer as its client gets it, for the version that writes it. How the connection and the
/// body end is said here, not in fields.
#[derive(Clone, Copy, Debug)]
pub struct FinalHead<'a> {
    /// 101, or 200 to 999.
    pub status: u16,
    /// What the upstream calls a status that has no name.
    pub reason: &'a [u8],
    /// Field lines of a stored response, each with its CRLF.
    pub stored: &'a [u8],
    /// Fields of this answer alone.
    pub fields: &'a Fields,
    /// The Date of an answer that has none; empty if it has one.
    pub date: &'a [u8],
    pub size: BodySize,
    /// Content-Length of an answer that has no body (to HEAD, or 304).
    pub length_told: Option<u64>,
    /// The connection may carry another request.
    pub keeps: bool,
    /// The protocol that a 101 switches to.
    pub upgrade: &'a [u8],
}
