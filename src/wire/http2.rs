//! HTTP/2 heads to the one canonical head and back. Frames and HPACK are h2's; what it hands over has
//! passed RFC 9113 section 8 once, and passes our own reading of a head after that: what HTTP/1.1 could
//! not say is not passed on.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};

use crate::base::error::{Kind, Result};
use crate::base::limits::{TRAILER_FIELDS_MAX, TRAILERS_MAX};
use crate::message::fields::{Fields, is_token_byte};
use crate::message::head::Method;

/// Fields that belong to an HTTP/1 connection (RFC 9113 section 8.2.2).
pub(super) const CONNECTION: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Fields that most heads have room for at once.
const FIELDS_EXPECTED: usize = 12;

/// Writes a request as a head of HTTP/1.1. `has_body` says that its stream goes on.
///
/// # Errors
/// It has no authority, or two.
pub fn request_head(request: &Request<()>, has_body: bool, out: &mut Vec<u8>) -> Result<()> {
    let protocol = request.extensions().get::<h2::ext::Protocol>();
    let method = if protocol.is_some() { "GET" } else { request.method().as_str() };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    let uri = request.uri();
    match uri.path_and_query() {
        Some(target) => out.extend_from_slice(target.as_str().as_bytes()),
        // CONNECT: refused by whoever reads this.
        None => out.extend_from_slice(uri.to_string().as_bytes()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, b"Host", authority(request)?);
    let fields = request.headers();
    cookies(fields, out);
    for (name, value) in fields {
        let is_early = has_body && *name == http::header::CONTENT_LENGTH && value == "0";
        if *name != http::header::HOST && *name != http::header::COOKIE && !is_early {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if let Some(protocol) = protocol {
        // h2 looks at no octet of it.
        let is_token = protocol.as_str().bytes().all(is_token_byte);
        if !is_token || protocol.as_str().is_empty() {
            return Err(Kind::Field);
        }
        // RFC 8441 section 5: what HTTP/1.1 asks for with an upgrade.
        line(out, b"Connection", b"upgrade");
        line(out, b"Upgrade", protocol.as_str().as_bytes());
    } else if has_body && fields.get(http::header::CONTENT_LENGTH).is_none_or(|len| len == "0") {
        line(out, b"Transfer-Encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// RFC 9113 section 8.3.1: one authority, however it is said.
fn authority(request: &Request<()>) -> Result<&[u8]> {
    let pseudo = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = request.headers().get_all(http::header::HOST).iter();
    let (host, other) = (hosts.next().map(HeaderValue::as_bytes), hosts.next());
    match (pseudo, host) {
        _ if other.is_some() => Err(Kind::Host),
        (Some(pseudo), Some(host)) if !pseudo.eq_ignore_ascii_case(host) => Err(Kind::Host),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(Kind::Host),
    }
}

/// RFC 9113 section 8.2.3: crumbs are put together.
fn cookies(fields: &HeaderMap, out: &mut Vec<u8>) {
    let mut crumbs = fields.get_all(http::header::COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    out.extend_from_slice(b"Cookie: ");
    out.extend_from_slice(first.as_bytes());
    for crumb in crumbs {
        out.extend_from_slice(b"; ");
        out.extend_from_slice(crumb.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Writes a response as a head of HTTP/1.1. `is_all` says that its stream has ended with it;
/// `asked` what it answers.
pub fn response_head<T>(response: &Response<T>, is_all: bool, asked: Method, out: &mut Vec<u8>) {
    let status = response.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" \r\n");
    for (name, value) in response.headers() {
        let is_early = !is_all && *name == http::header::CONTENT_LENGTH && value == "0";
        if !is_early || asked == Method::Head {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let has_length = response.headers().contains_key(http::header::CONTENT_LENGTH);
    let may_have = asked != Method::Head && !matches!(status.as_u16(), 100..=199 | 204 | 304);
    if is_all && may_have && !has_length {
        line(out, b"content-length", b"0");
    }
    out.extend_from_slice(b"\r\n");
}

/// What a response's head of ours says.
#[derive(Debug)]
pub struct Said<T> {
    pub head: T,
    /// Octets of the head's text.
    pub len: usize,
    pub length: Option<u64>,
}

/// Reads a response's head that was written for HTTP/1.1 by us.
#[must_use]
pub fn response(text: &[u8]) -> Option<Said<Response<()>>> {
    let (first, lines, len) = split(text)?;
    let status = StatusCode::from_bytes(first.get(9..12)?).ok()?;
    let mut head = Response::new(());
    // RFC 8441 section 5: a tunnel begins with 200, not with a change of protocols.
    let is_switched = status == StatusCode::SWITCHING_PROTOCOLS;
    *head.status_mut() = if is_switched { StatusCode::OK } else { status };
    let length =
        fields(lines, head.headers_mut(), |name| is_switched && name == "sec-websocket-accept")?;
    if length == Some(0) && head.headers().contains_key("grpc-status") {
        // A head that is all of an answer of gRPC has no length.
        head.headers_mut().remove(http::header::CONTENT_LENGTH);
    }
    Some(Said { head, len, length })
}

/// Reads a request's head that was written for HTTP/1.1 by us.
#[must_use]
pub fn request(text: &[u8], is_secure: bool) -> Option<Said<Request<()>>> {
    let (first, lines, len) = split(text)?;
    let mut parts = first.split(|byte| *byte == b' ');
    let (method, target) = (parts.next()?, parts.next()?);
    let mut head = Request::new(());
    let length = fields(lines, head.headers_mut(), |_| false)?;
    let host = head.headers_mut().remove(http::header::HOST)?;
    *head.method_mut() = http::Method::from_bytes(method).ok()?;
    let scheme = if is_secure { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes());
    let uri = if target.iter().any(|byte| is_refused(*byte)) {
        uri.path_and_query(escaped(target))
    } else {
        uri.path_and_query(target)
    };
    *head.uri_mut() = uri.build().ok()?;
    // We pass trailers on, and gRPC servers want to be told.
    head.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
    *head.version_mut() = http::Version::HTTP_2;
    Some(Said { head, len, length })
}

/// Octets of a target that we pass on and the library does not take.
const fn is_refused(byte: u8) -> bool {
    matches!(byte, b'`' | b'"' | b'<' | b'>' | 0x80..)
}

/// The same target without them.
fn escaped(target: &[u8]) -> String {
    let mut out = String::with_capacity(target.len() + 16);
    for byte in target {
        if is_refused(*byte) {
            out.push_str(&format!("%{byte:02X}"));
        } else {
            out.push(char::from(*byte));
        }
    }
    out
}

/// A tunnel that was asked for (RFC 8441).
#[derive(Debug)]
pub struct Upgrade {
    protocol: String,
    /// What the client of HTTP/1.1 wants to see answered.
    key: Option<Vec<u8>>,
}

/// Makes an extended CONNECT of a request that asks for an upgrade.
#[must_use]
pub fn upgrade(text: &[u8], head: &mut Request<()>) -> Option<Upgrade> {
    let (_, lines, _) = split(text)?;
    let value = |name: &[u8]| {
        let mut all = lines.split(|byte| *byte == b'\n');
        let line = all.find(|line| {
            line.len() > name.len()
                && line[..name.len()].eq_ignore_ascii_case(name)
                && line[name.len()] == b':'
        })?;
        Some(line[name.len() + 1..].trim_ascii().to_vec())
    };
    let protocol = String::from_utf8(value(b"upgrade")?).ok()?;
    let key = value(b"sec-websocket-key");
    head.headers_mut().remove("sec-websocket-key");
    *head.method_mut() = http::Method::CONNECT;
    head.extensions_mut().insert(h2::ext::Protocol::from(protocol.as_str()));
    Some(Upgrade { protocol, key })
}

impl Upgrade {
    /// The text of the answer that grants it, as HTTP/1.1 has it.
    pub fn granted<T>(&self, response: &Response<T>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        line(out, b"Connection", b"upgrade");
        line(out, b"Upgrade", self.protocol.as_bytes());
        if let Some(key) = &self.key {
            let accept = tungstenite::handshake::derive_accept_key(key);
            line(out, b"Sec-WebSocket-Accept", accept.as_bytes());
        }
        for (name, value) in response.headers() {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// First line, field lines, length of both.
fn split(text: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let first = line_end(text)?;
    let mut at = first + 2;
    loop {
        match line_end(&text[at..])? {
            0 => return Some((&text[..first], &text[first + 2..at], at + 2)),
            end => at += end + 2,
        }
    }
}

/// Where a line's CRLF is. What we write has no CR but there.
fn line_end(text: &[u8]) -> Option<usize> {
    memchr::memchr(b'\r', text).filter(|at| text.get(at + 1) == Some(&b'\n'))
}

/// Adds field lines to a map; returns what Content-Length says.
fn fields(
    lines: &[u8],
    map: &mut HeaderMap,
    is_left_out: impl Fn(&str) -> bool,
) -> Option<Option<u64>> {
    *map = HeaderMap::with_capacity(FIELDS_EXPECTED);
    // All values lie in one piece.
    let shared = Bytes::copy_from_slice(lines);
    let (mut length, mut rest) = (None, &shared[..]);
    while let Some(end) = line_end(rest) {
        let (one, more) = (&rest[..end], &rest[end + 2..]);
        rest = more;
        let colon = memchr::memchr(b':', one)?;
        let name = HeaderName::from_bytes(&one[..colon]).ok()?;
        if CONNECTION.contains(&name.as_str()) || is_left_out(name.as_str()) {
            continue;
        }
        let value = shared.slice_ref(one[colon + 1..].trim_ascii());
        let value = HeaderValue::from_maybe_shared(value).ok()?;
        if name == http::header::CONTENT_LENGTH {
            length = crate::message::target::parse_digits(value.as_bytes());
        }
        map.append(name, value);
    }
    Some(length)
}

/// Trailers as fields; what may not be one is left out. `None` if they are more than HTTP/1.1 may have.
#[must_use]
pub fn trailers(map: &HeaderMap) -> Option<Fields> {
    let mut out = Fields::default();
    let octets: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if octets > TRAILERS_MAX || map.len() > TRAILER_FIELDS_MAX {
        return None;
    }
    for (name, value) in map {
        if crate::message::hop::is_trailer_allowed(name.as_str().as_bytes()) {
            out.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    Some(out)
}

/// Fields as trailers.
#[must_use]
pub fn trailer_map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in fields.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value))
        {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(request: &Request<()>, has_body: bool) -> Result<String> {
        let mut out = Vec::new();
        request_head(request, has_body, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn requests_become_one_head() {
        let request = Request::post("https://a.example/x?y=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-one", "1")
            .body(())
            .unwrap();
        let text = rendered(&request, true).unwrap();
        assert_eq!(
            text,
            "POST /x?y=1 HTTP/1.1\r\nHost: a.example\r\nCookie: a=1; b=2\r\nx-one: 1\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        let other =
            Request::get("https://a.example/").header("host", "b.example").body(()).unwrap();
        assert_eq!(rendered(&other, false), Err(Kind::Host));
        let none = Request::get("/").body(()).unwrap();
        assert_eq!(rendered(&none, false), Err(Kind::Host));
    }

    #[test]
    fn a_protocol_is_a_token() {
        for (text, is_good) in [("websocket", true), ("x\r\nContent-Length: 1", false), ("", false)]
        {
            let mut request = Request::new(());
            *request.method_mut() = http::Method::CONNECT;
            *request.uri_mut() = "https://a.example/x".parse().unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from(text));
            assert_eq!(rendered(&request, true).is_ok(), is_good, "{}", text.escape_debug());
        }
    }

    #[test]
    fn what_we_write_is_read_back_without_the_connections_own() {
        let text =
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nX-A: b c\r\n\r\nhello";
        let said = response(text).unwrap();
        assert_eq!((said.head.status().as_u16(), said.length), (200, Some(5)));
        assert_eq!(said.len, text.len() - 5);
        assert_eq!(said.head.headers().len(), 2);
        let text =
            b"GET /a?b HTTP/1.1\r\nHost: a.example:8080\r\nTransfer-Encoding: chunked\r\n\r\n";
        let said = request(text, false).unwrap();
        assert_eq!(said.head.uri().to_string(), "http://a.example:8080/a?b");
        assert_eq!(said.head.headers().len(), 1);
        assert!(response(b"HTTP/1.1 200 OK\r\n").is_none());
        assert_eq!(response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().head.headers().len(), 0);
    }
}
