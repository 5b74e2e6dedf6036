//! Everything that can end an exchange before its time, and ONE table that says what follows:
//! whose fault it is, whether it counts against the endpoint, what may still be done, status,
//! `Proxy-Status` error type (RFC 9209 section 2.3), log flag, sentence for the client.

/// The side that is at fault, as a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// The server behind us.
    Upstream,
    /// Ourselves: routes, limits, shutdown.
    Proxy,
}

/// Whether a fault counts against the endpoint that had the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Yes,
    No,
}

/// What may still be done for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Another endpoint may be asked, whatever the method: nothing was sent (RFC 9110 section
    /// 9.2.2). If there is none, a stored answer may be served, as for `Stored`.
    Elsewhere,
    /// A stored answer may be served although it is stale: no server has answered (RFC 9111
    /// section 4.2.4).
    Stored,
    None,
}

/// Why an exchange failed. Side, status and words are in [`Kind::row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    // === the client's request head ===
    BareLineFeed,
    RequestLine,
    Method,
    Target,
    Version,
    Field,
    Host,
    ContentLength,
    LengthAndChunked,
    TransferEncoding,
    TransferCoding,
    ConnectionOption,
    Expectation,
    ProtocolRefused,
    MethodRefused,
    TargetTooLong,
    HeadTooLarge,
    HeadTimeout,
    ProxyProtocol,
    PlainOnTls,
    Handshake,
    Http2,
    Http2Abuse,
    Misdirected,
    // === the client's request body ===
    Chunk,
    Trailer,
    BodyTooLarge,
    BodyTimeout,
    BodyCutShort,
    // === the client's connection ===
    ClientGone,
    ClientTooSlow,
    // === our own decisions ===
    NoHost,
    NoRoute,
    MethodNotRouted,
    Loop,
    NoEndpoint,
    NoAddress,
    TooManyConnections,
    QueueFull,
    QueueTimeout,
    Overloaded,
    NotCached,
    PurgeRefused,
    PurgeWord,
    PurgeUnsure,
    NotValidated,
    Internal,
    // === the upstream ===
    ConnectRefused,
    ConnectTimeout,
    ConnectFailed,
    UpstreamTls,
    UpstreamCertificate,
    NotInHttp2,
    LocalPorts,
    OpenFiles,
    /// Every connection of HTTP/2 to the endpoint carries as many requests as it may.
    NoStream,
    /// What was connected does not answer in HTTP/2.
    UpstreamHttp2,
    UpstreamGone,
    UpstreamHead,
    UpstreamHeadTooLarge,
    UpstreamInterim,
    UpstreamUpgrade,
    FirstByteTimeout,
    UpstreamWriteTimeout,
    UpstreamBodyTimeout,
    UpstreamBodyCutShort,
    UpstreamChunk,
    /// An answer whose status is followed by another try: seen only where there was none after all.
    UpstreamStatus,
    TotalTimeout,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The side that is at fault.
    pub side: Side,
    /// Status of the answer, if one can still be given.
    pub status: u16,
    pub blame: Blame,
    pub remedy: Remedy,
    /// RFC 9209 error type; empty where the fault is a plain routing decision.
    pub proxy_status: &'static str,
    /// The word in the access log.
    pub flag: &'static str,
    /// One sentence for the client. Names nothing internal.
    pub sentence: &'static str,
}

/// What exactly was wrong, beside the kind of fault: for the operator, in the access log and in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Of what, such as "answer head"; may be empty.
    pub part: &'static str,
    /// The line of it, from one; zero where lines do not count.
    pub line: u16,
    pub what: &'static str,
}

impl Detail {
    /// A fact that is of no place.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self { part: "", line: 0, what }
    }
}

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.part.is_empty() {
            write!(f, "{}: ", self.part)?;
        }
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(self.what)
    }
}

/// What the codec and the I/O return: small and `Copy`.
pub type Result<T> = std::result::Result<T, Kind>;

const fn row(
    side: Side,
    status: u16,
    blame: Blame,
    remedy: Remedy,
    proxy_status: &'static str,
    flag: &'static str,
    sentence: &'static str,
) -> Row {
    Row { side, status, blame, remedy, proxy_status, flag, sentence }
}

impl Kind {
    /// The table.
    #[must_use]
    #[rustfmt::skip]
    #[expect(clippy::too_many_lines, reason = "one honest table")]
    pub const fn row(self) -> Row {
        use Blame::{No, Yes};
        use Remedy::{Elsewhere, None, Stored};
        use Side::{Downstream, Proxy, Upstream};
        match self {
            // whose fault, status, does it count against the endpoint, what may follow, error type, flag, sentence
            // === the client's request head ===
            Self::BareLineFeed         => row(Downstream, 400, No,  None,      "http_request_error", "bare_line_feed", "A line of the request head does not end in CRLF."),
            Self::RequestLine          => row(Downstream, 400, No,  None,      "http_request_error", "request_line", "The request line is malformed."),
            Self::Method               => row(Downstream, 400, No,  None,      "http_request_error", "method", "The request method is malformed."),
            Self::Target               => row(Downstream, 400, No,  None,      "http_request_error", "target", "The request target is malformed."),
            Self::Version              => row(Downstream, 505, No,  None,      "http_request_error", "version", "HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here."),
            Self::Field                => row(Downstream, 400, No,  None,      "http_request_error", "field", "A header field is malformed."),
            Self::Host                 => row(Downstream, 400, No,  None,      "http_request_error", "host", "The Host field is missing, repeated or malformed."),
            Self::ContentLength        => row(Downstream, 400, No,  None,      "http_request_error", "content_length", "Content-Length is malformed."),
            Self::LengthAndChunked     => row(Downstream, 400, No,  None,      "http_request_error", "length_and_chunked", "A request cannot have both Content-Length and Transfer-Encoding."),
            Self::TransferEncoding     => row(Downstream, 400, No,  None,      "http_request_error", "transfer_encoding", "Transfer-Encoding is malformed."),
            Self::TransferCoding       => row(Downstream, 501, No,  None,      "http_request_error", "transfer_coding", "The only transfer coding spoken here is chunked."),
            Self::ConnectionOption     => row(Downstream, 400, No,  None,      "http_request_error", "connection_option", "The Connection field names a field that is not hop-by-hop."),
            Self::Expectation          => row(Downstream, 417, No,  None,      "http_request_error", "expectation", "The only expectation is 100-continue."),
            Self::ProtocolRefused      => row(Proxy,      501, No,  None,      "http_request_denied", "protocol_refused", "The protocol that the extended CONNECT asks for is not served here."),
            Self::MethodRefused        => row(Downstream, 405, No,  None,      "http_request_error", "method_refused", "This method is not served here."),
            Self::TargetTooLong        => row(Downstream, 414, No,  None,      "http_request_error", "target_too_long", "The request target is too long."),
            Self::HeadTooLarge         => row(Downstream, 431, No,  None,      "http_request_error", "head_too_large", "The request's header fields are too large."),
            Self::HeadTimeout          => row(Downstream, 408, No,  None,      "http_request_error", "head_timeout", "The request head took too long."),
            Self::ProxyProtocol        => row(Downstream, 400, No,  None,      "http_request_error", "proxy_protocol", "The PROXY protocol header is missing or malformed."),
            Self::PlainOnTls           => row(Downstream, 400, No,  None,      "http_request_error", "plain_on_tls", "This port speaks HTTPS: write https:// in front of the address."),
            Self::Handshake            => row(Downstream, 400, No,  None,      "http_request_error", "tls_handshake", "The TLS handshake failed."),
            Self::Http2                => row(Downstream, 400, No,  None,      "http_request_error", "http2", "The frames are not HTTP/2 as RFC 9113 has it."),
            Self::Http2Abuse           => row(Downstream, 429, No,  None,      "http_request_error", "http2_abuse", "The connection made more work than its requests need."),
            Self::Misdirected          => row(Downstream, 421, No,  None,      "http_request_error", "misdirected", "This connection was opened for another host: open one for this one."),
            // === the client's request body ===
            Self::Chunk                => row(Downstream, 400, No,  None,      "http_request_error", "chunk", "The chunked request body is malformed."),
            Self::Trailer              => row(Downstream, 400, No,  None,      "http_request_error", "trailer", "The request's trailer section is malformed."),
            Self::BodyTooLarge         => row(Downstream, 413, No,  None,      "http_request_error", "body_too_large", "The request body is too large."),
            Self::BodyTimeout          => row(Downstream, 408, No,  None,      "http_request_error", "body_timeout", "The request body came too slowly."),
            Self::BodyCutShort         => row(Downstream, 400, No,  None,      "http_request_error", "body_cut_short", "The request body ended early."),
            // === the client's connection ===
            Self::ClientGone           => row(Downstream, 499, No,  None,      "http_request_error", "client_gone", "The client closed the connection."),
            Self::ClientTooSlow        => row(Downstream, 499, No,  None,      "http_request_error", "client_too_slow", "The client read too slowly."),
            // === our own decisions ===
            Self::NoHost               => row(Proxy,      421, No,  None,      "destination_not_found", "no_host", "No site with this name is served here."),
            Self::NoRoute              => row(Proxy,      404, No,  None,      "destination_not_found", "no_route", "No route matches this path."),
            Self::MethodNotRouted      => row(Proxy,      405, No,  None,      "destination_not_found", "method_not_routed", "A route matches this path, but not with this method."),
            Self::Loop                 => row(Proxy,      508, No,  None,      "proxy_loop_detected", "loop", "The request came back to the proxy."),
            Self::NoEndpoint           => row(Proxy,      503, No,  Stored,    "destination_unavailable", "no_endpoint", "No server is available."),
            Self::NoAddress            => row(Proxy,      503, No,  Elsewhere, "dns_error", "no_address", "The server's name has no address."),
            Self::TooManyConnections   => row(Proxy,      503, No,  None,      "connection_limit_reached", "too_many_connections", "Too many connections. Try again later."),
            Self::QueueFull            => row(Proxy,      503, No,  None,      "connection_limit_reached", "queue_full", "Too many requests are waiting. Try again later."),
            Self::QueueTimeout         => row(Proxy,      503, No,  None,      "connection_limit_reached", "queue_timeout", "All servers are busy. Try again later."),
            Self::Overloaded           => row(Proxy,      503, No,  None,      "proxy_internal_error", "overloaded", "The proxy is overloaded. Try again later."),
            Self::NotCached            => row(Proxy,      504, No,  None,      "", "not_cached", "The request wants a stored answer, and there is none."),
            Self::PurgeRefused         => row(Proxy,      403, No,  None,      "http_request_denied", "purge_refused", "Only addresses in cache.purge may purge."),
            Self::PurgeWord            => row(Downstream, 400, No,  None,      "http_request_error", "purge_word", "Millrace-Purge knows the words soft, prefix, pattern and all; of the last three, and of tags, one at a time."),
            Self::PurgeUnsure          => row(Proxy,      503, No,  None,      "proxy_internal_error", "purge_unsure", "Not every core, or not the disk, has confirmed the purge in time: send it again."),
            Self::NotValidated         => row(Upstream,   504, Yes, None,      "destination_unavailable", "not_validated", "What is stored has to be confirmed by the server, which does not answer."),
            Self::Internal             => row(Proxy,      500, No,  None,      "proxy_internal_error", "internal", "The proxy made a mistake."),
            // === the upstream ===
            Self::ConnectRefused       => row(Upstream,   502, Yes, Elsewhere, "connection_refused", "connect_refused", "The server refuses connections."),
            Self::ConnectTimeout       => row(Upstream,   504, Yes, Elsewhere, "connection_timeout", "connect_timeout", "The server could not be reached."),
            Self::ConnectFailed        => row(Upstream,   502, Yes, Elsewhere, "destination_ip_unroutable", "connect_failed", "The server could not be reached."),
            Self::UpstreamTls          => row(Upstream,   502, Yes, Elsewhere, "tls_protocol_error", "upstream_tls", "No secure connection to the server could be made."),
            Self::UpstreamCertificate  => row(Upstream,   502, Yes, Elsewhere, "tls_certificate_error", "upstream_certificate", "The server's certificate is not the one it should have."),
            Self::NotInHttp2           => row(Proxy,      502, No,  None,      "http_protocol_error", "not_in_http2", "The server speaks HTTP/2 only, in which this request cannot be made to it."),
            Self::LocalPorts           => row(Upstream,   503, No,  None,      "connection_limit_reached", "local_ports", "No more connections to the server can be opened."),
            Self::OpenFiles            => row(Proxy,      503, No,  None,      "connection_limit_reached", "open_files", "The proxy has no room for another connection. Try again later."),
            Self::NoStream             => row(Proxy,      503, No,  Elsewhere, "connection_limit_reached", "no_stream", "All connections to the server are busy. Try again later."),
            Self::UpstreamHttp2        => row(Upstream,   502, Yes, Elsewhere, "http_protocol_error", "upstream_http2", "The server does not answer in HTTP/2."),
            Self::UpstreamGone         => row(Upstream,   502, Yes, Stored,    "connection_terminated", "upstream_gone", "The server closed the connection before it answered."),
            Self::UpstreamHead         => row(Upstream,   502, Yes, None,      "http_protocol_error", "upstream_head", "The server's answer is malformed."),
            Self::UpstreamHeadTooLarge => row(Upstream,   502, Yes, None,      "http_response_header_section_size", "upstream_head_too_large", "The server's answer is malformed."),
            Self::UpstreamInterim      => row(Upstream,   502, Yes, None,      "http_protocol_error", "upstream_interim", "The server sent too many interim answers."),
            Self::UpstreamUpgrade      => row(Upstream,   502, Yes, None,      "http_upgrade_failed", "upstream_upgrade", "The server switched protocols without being asked."),
            Self::FirstByteTimeout     => row(Upstream,   504, Yes, Stored,    "http_response_timeout", "first_byte_timeout", "The server did not answer."),
            Self::UpstreamWriteTimeout => row(Upstream,   504, Yes, None,      "connection_write_timeout", "upstream_write_timeout", "The server did not take the request."),
            Self::UpstreamBodyTimeout  => row(Upstream,   504, Yes, None,      "connection_read_timeout", "upstream_body_timeout", "The server's answer stopped."),
            Self::UpstreamBodyCutShort => row(Upstream,   502, Yes, None,      "http_response_incomplete", "upstream_body_cut_short", "The server's answer ended early."),
            Self::UpstreamChunk        => row(Upstream,   502, Yes, None,      "http_response_transfer_coding", "upstream_chunk", "The server's answer is malformed."),
            Self::UpstreamStatus       => row(Upstream,   503, No,  None,      "destination_unavailable", "upstream_status", "The server cannot answer now."),
            Self::TotalTimeout         => row(Upstream,   504, No,  None,      "http_response_timeout", "total_timeout", "The exchange took longer than it may."),
        }
    }

    /// The status that a client sees.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// Nothing of the request can have been executed: another endpoint may be tried for any method
    /// (RFC 9110 section 9.2.2).
    #[must_use]
    pub const fn is_before_request(self) -> bool {
        matches!(self.row().remedy, Remedy::Elsewhere)
    }

    /// The endpoint did not do what a server must, which counts against it. Not so what we could
    /// not do, nor an exchange that was too long altogether: its client may be slow.
    #[must_use]
    pub const fn blames_endpoint(self) -> bool {
        matches!(self.row().blame, Blame::Yes)
    }

    /// No server could be asked: there was no connection, or no answer on it.
    #[must_use]
    pub const fn is_cut_off(self) -> bool {
        !matches!(self.row().remedy, Remedy::None)
    }

    /// The client's own doing on the wire: after the answer nothing on this connection can be
    /// believed, so it closes.
    #[must_use]
    pub const fn blames_client(self) -> bool {
        matches!(self.row().side, Side::Downstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_blamed_for_its_own_faults_only() {
        for kind in [Kind::ConnectRefused, Kind::UpstreamGone, Kind::UpstreamHead] {
            assert!(kind.blames_endpoint(), "{kind:?}");
        }
        for kind in [Kind::ClientGone, Kind::OpenFiles, Kind::LocalPorts, Kind::TotalTimeout] {
            assert!(!kind.blames_endpoint(), "{kind:?}");
        }
    }

    #[test]
    fn statuses_are_errors_and_flags_are_words() {
        for kind in [Kind::Version, Kind::NoHost, Kind::Loop, Kind::TotalTimeout, Kind::ClientGone]
        {
            let row = kind.row();
            assert!((400..=599).contains(&row.status));
            assert!(row.flag.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }
}
