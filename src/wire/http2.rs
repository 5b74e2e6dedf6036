//! HTTP/2 heads to the one canonical head and back. Frames and HPACK are h2's; what it hands over has
//! passed RFC 9113 section 8 once, and is judged by what judges every version after that (`wire::head`).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};

use super::framing::FramingFacts;
use super::head::{finish_request, finish_response, take_request_line, takes_field};
use crate::base::error::{Kind, Result};
use crate::base::limits::{TRAILER_FIELDS_MAX, TRAILERS_MAX};
use crate::message::fields::{FieldPlace, Fields, is_token_byte};
use crate::message::framing::{BodySize, Framing};
use crate::message::head::{FinalHead, Method, RequestHead, ResponseHead, Version};
use crate::message::limits::HeadLimits;
use crate::message::name::Name;

/// Fields that belong to an HTTP/1 connection (RFC 9113 section 8.2.2).
pub(super) const CONNECTION: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Fields that most heads have room for at once.
const FIELDS_EXPECTED: usize = 12;

// === what comes ===

/// Takes a client's request over. `has_body` says that its stream goes on. `head` must be clear.
///
/// # Errors
/// The rule that was broken; `head` then has a glimpse of what was asked for.
pub fn take_request(
    request: &Request<()>,
    has_body: bool,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<()> {
    let taken = try_take_request(request, has_body, limits, head);
    if taken.is_err() {
        head.clear();
        let uri = request.uri();
        let target = uri.path_and_query().map_or_else(|| uri.to_string(), ToString::to_string);
        let host = authority(request).unwrap_or_default();
        head.set_glimpse(request.method().as_str().as_bytes(), target.as_bytes(), host);
    }
    head.version = Version::Http2;
    taken
}

fn try_take_request(
    request: &Request<()>,
    has_body: bool,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<()> {
    let protocol = request.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    // RFC 8441 section 5: what HTTP/1.1 asks for by a GET with an upgrade.
    let method = if protocol.is_some() { "GET" } else { request.method().as_str() };
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let host = authority(request)?;
    let target =
        take_request_line(head, Version::Http2, method.as_bytes(), target.as_bytes(), limits)?;
    let mut facts = FramingFacts::default();
    facts.add_host(host);
    take_cookies(request.headers(), limits, &mut head.fields)?;
    let is_taken = |name: &HeaderName| *name != HOST && *name != COOKIE;
    // A length of 0 in front of a body that comes all the same says nothing.
    let is_early = |value: &HeaderValue| has_body && value == "0";
    take_fields(request.headers(), limits, (is_taken, is_early), &mut facts, &mut head.fields)?;
    if let Some(protocol) = protocol {
        // h2 looks at no octet of it.
        if protocol.is_empty() || !protocol.bytes().all(is_token_byte) {
            return Err(Kind::Field);
        }
        head.options.upgrade = true;
        head.set_upgrade(protocol.as_bytes());
    } else if has_body && facts.lengths == 0 {
        facts.add_coding(b"chunked");
    }
    finish_request(head, &target, &facts)
}

/// Takes an endpoint's response over. `is_all` says that its stream has ended with it; `asked` what it answers.
/// `head` must be clear.
///
/// # Errors
/// `UpstreamHead`, `UpstreamHeadTooLarge`.
pub fn take_response<T>(
    response: &Response<T>,
    is_all: bool,
    asked: Method,
    head: &mut ResponseHead,
) -> Result<()> {
    let status = response.status().as_u16();
    head.version = Version::Http2;
    let mut facts = FramingFacts::default();
    let is_early = |value: &HeaderValue| !is_all && asked != Method::Head && value == "0";
    let limits = HeadLimits::RESPONSE;
    let filters = (|_: &HeaderName| true, is_early);
    take_fields(response.headers(), &limits, filters, &mut facts, &mut head.fields).map_err(
        |kind| match kind {
            Kind::HeadTooLarge => Kind::UpstreamHeadTooLarge,
            _ => Kind::UpstreamHead,
        },
    )?;
    let may_have = asked != Method::Head && !matches!(status, 100..=199 | 204 | 304);
    if is_all && may_have && facts.lengths == 0 {
        facts.add_length(b"0");
    }
    finish_response(head, status, asked, &facts)
}

/// Takes fields over, but for those that frame the body: those become facts and nothing else.
fn take_fields<'a>(
    map: &'a HeaderMap,
    limits: &HeadLimits,
    (is_taken, is_early): (impl Fn(&HeaderName) -> bool, impl Fn(&HeaderValue) -> bool),
    facts: &mut FramingFacts<'a>,
    fields: &mut Fields,
) -> Result<()> {
    let octets: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if map.len() > limits.fields || octets > limits.head {
        return Err(Kind::HeadTooLarge);
    }
    for (name, value) in map {
        if !is_taken(name) {
            continue;
        }
        let (name, octets) = (name.as_str().as_bytes(), value.as_bytes().trim_ascii());
        if name.len() + octets.len() + 2 > limits.field {
            return Err(Kind::HeadTooLarge);
        }
        match Name::of(name) {
            Name::ContentLength if is_early(value) => {}
            Name::ContentLength => facts.add_length(octets),
            Name::TransferEncoding => facts.add_coding(octets),
            known if takes_field(known, name, limits)? => fields.push_known(known, name, octets),
            _ => {}
        }
    }
    Ok(())
}

/// RFC 9113 section 8.3.1: one authority, however it is said.
fn authority(request: &Request<()>) -> Result<&[u8]> {
    let pseudo = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, other) = (hosts.next().map(HeaderValue::as_bytes), hosts.next());
    match (pseudo, host) {
        _ if other.is_some() => Err(Kind::Host),
        (Some(pseudo), Some(host)) if !pseudo.eq_ignore_ascii_case(host) => Err(Kind::Host),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(Kind::Host),
    }
}

/// RFC 9113 section 8.2.3: crumbs are put together.
fn take_cookies(map: &HeaderMap, limits: &HeadLimits, fields: &mut Fields) -> Result<()> {
    let mut crumbs = map.get_all(COOKIE).iter();
    let Some(first) = crumbs.next() else { return Ok(()) };
    let check = |value: &[u8]| match COOKIE.as_str().len() + value.len() + 2 > limits.field {
        true => Err(Kind::HeadTooLarge),
        false => Ok(()),
    };
    let Some(second) = crumbs.next() else {
        let value = first.as_bytes().trim_ascii();
        check(value)?;
        fields.push_known(Name::of(b"cookie"), b"cookie", value);
        return Ok(());
    };
    let mut all = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        all.extend_from_slice(b"; ");
        all.extend_from_slice(crumb.as_bytes());
    }
    check(all.trim_ascii())?;
    fields.push(b"cookie", all.trim_ascii());
    Ok(())
}

// === what goes ===

/// An endpoint's request.
#[derive(Debug)]
pub struct H2Request {
    pub head: Request<()>,
    pub upgrade: Option<Upgrade>,
}

/// Says a request in HTTP/2. `None` if it cannot be said.
#[must_use]
pub fn request(
    head: &RequestHead,
    authority: &[u8],
    is_secure: bool,
    upgrades: bool,
) -> Option<H2Request> {
    let mut request = Request::new(());
    *request.version_mut() = http::Version::HTTP_2;
    let scheme = if is_secure { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority);
    let (path, query) = (head.path_to_send(), head.query());
    let is_odd = path.iter().chain(query.unwrap_or_default()).any(|byte| is_refused(*byte));
    let target = if is_odd {
        escaped(path, query).into_bytes()
    } else {
        let mut target = Vec::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
        target.extend_from_slice(path);
        if let Some(query) = query {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        target
    };
    *request.uri_mut() = uri.path_and_query(target).build().ok()?;
    *request.method_mut() = http::Method::from_bytes(head.method_text()).ok()?;
    let mut map = HeaderMap::with_capacity(FIELDS_EXPECTED);
    put_fields(&head.fields, &mut map, |name| upgrades && name == "sec-websocket-key")?;
    if head.expects_continue {
        map.insert(http::header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    match head.framing {
        Framing::Length(length) => put_length(&mut map, length),
        // RFC 9110 section 8.6: of methods that have a body it is said that there is none.
        Framing::None if head.says_empty() => put_length(&mut map, 0),
        _ => {}
    }
    // We pass trailers on, and gRPC servers want to be told.
    map.insert(TE, HeaderValue::from_static("trailers"));
    *request.headers_mut() = map;
    let mut upgrade = None;
    if upgrades {
        let protocol = std::str::from_utf8(head.upgrade()).ok()?;
        let key = head.fields.values_named(b"sec-websocket-key").next().map(<[u8]>::to_vec);
        upgrade = Some(Upgrade { protocol: protocol.to_owned(), key });
        *request.method_mut() = http::Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    Some(H2Request { head: request, upgrade })
}

/// Octets of a target that we pass on and the library does not take.
const fn is_refused(byte: u8) -> bool {
    matches!(byte, b'`' | b'"' | b'<' | b'>' | 0x80..)
}

/// The same target without them.
fn escaped(path: &[u8], query: Option<&[u8]>) -> String {
    let mut out = String::with_capacity(path.len() + 32);
    let mark: &[u8] = if query.is_some() { b"?" } else { b"" };
    for byte in [path, mark, query.unwrap_or_default()].concat() {
        if is_refused(byte) {
            out.push_str(&format!("%{byte:02X}"));
        } else {
            out.push(char::from(byte));
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

impl Upgrade {
    /// Takes the answer that grants it over, as HTTP/1.1 has it. `head` must be clear.
    ///
    /// # Errors
    /// As `take_response`.
    pub fn take_granted<T>(&self, response: &Response<T>, head: &mut ResponseHead) -> Result<()> {
        if let Some(key) = &self.key {
            let accept = tungstenite::handshake::derive_accept_key(key);
            head.fields.push(b"Sec-WebSocket-Accept", accept.as_bytes());
        }
        take_response(response, false, Method::Get, head)?;
        head.status = 101;
        head.framing = Framing::None;
        head.set_upgrade(self.protocol.as_bytes());
        Ok(())
    }
}

/// Says an answer's final head in HTTP/2. `None` if it cannot be said.
#[must_use]
pub fn final_head(head: &FinalHead<'_>) -> Option<Response<()>> {
    let mut response = Response::new(());
    // RFC 8441 section 5: a tunnel begins with 200, not with a change of protocols.
    let is_switched = head.status == 101;
    let status = if is_switched { 200 } else { head.status };
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    let mut map = HeaderMap::with_capacity(FIELDS_EXPECTED);
    put_lines(head.stored, &mut map)?;
    put_fields(head.fields, &mut map, |name| is_switched && name == "sec-websocket-accept")?;
    if !head.date.is_empty() {
        map.insert(http::header::DATE, HeaderValue::from_bytes(head.date).ok()?);
    }
    let length = match (head.size, head.length_told) {
        (BodySize::Known(length), _) | (BodySize::Empty, Some(length)) => Some(length),
        _ => None,
    };
    // A head that is all of an answer of gRPC has no length.
    let is_call_end = length == Some(0) && map.contains_key("grpc-status");
    if let Some(length) = length.filter(|_| !is_call_end) {
        put_length(&mut map, length);
    }
    *response.headers_mut() = map;
    Some(response)
}

/// Says an interim head in HTTP/2. `None` if it cannot be said.
#[must_use]
pub fn interim(head: &ResponseHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    put_fields(&head.fields, response.headers_mut(), |_| false)?;
    Some(response)
}

fn put_length(map: &mut HeaderMap, length: u64) {
    map.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// Adds fields to a map. All values lie in one piece.
fn put_fields(
    fields: &Fields,
    map: &mut HeaderMap,
    is_left_out: impl Fn(&str) -> bool,
) -> Option<()> {
    if fields.is_empty() {
        return Some(());
    }
    let (octets, places) = fields.places();
    let shared = Bytes::copy_from_slice(octets);
    for FieldPlace { name, value } in places {
        put(map, &octets[name], shared.slice(value), &is_left_out)?;
    }
    Some(())
}

/// The same for the lines of a stored response.
fn put_lines(lines: &[u8], map: &mut HeaderMap) -> Option<()> {
    if lines.is_empty() {
        return Some(());
    }
    let shared = Bytes::copy_from_slice(lines);
    let mut at = 0;
    while at < lines.len() {
        let end = at + memchr::memchr(b'\r', &lines[at..])?;
        let colon = at + memchr::memchr(b':', &lines[at..end])?;
        let value = shared.slice((colon + 2).min(end)..end);
        put(map, &lines[at..colon], value, &|_| false)?;
        at = end + 2;
    }
    Some(())
}

fn put(
    map: &mut HeaderMap,
    name: &[u8],
    value: Bytes,
    is_left_out: &impl Fn(&str) -> bool,
) -> Option<()> {
    let name = HeaderName::from_bytes(name).ok()?;
    if !CONNECTION.contains(&name.as_str()) && !is_left_out(name.as_str()) {
        map.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(())
}

// === trailers ===

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

    fn taken(request: &Request<()>, has_body: bool) -> Result<RequestHead> {
        let mut head = RequestHead::default();
        take_request(request, has_body, &HeadLimits::default(), &mut head).map(|()| head)
    }

    #[test]
    fn requests_become_one_head() {
        let request = Request::post("https://a.example/x?y=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-one", "1")
            .body(())
            .unwrap();
        let head = taken(&request, true).unwrap();
        assert_eq!((head.path(), head.query()), (&b"/x"[..], Some(&b"y=1"[..])));
        assert_eq!((head.host(), head.framing), (&b"a.example"[..], Framing::Chunked));
        let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(fields, [(&b"cookie"[..], &b"a=1; b=2"[..]), (b"x-one", b"1")]);
        let other =
            Request::get("https://a.example/").header("host", "b.example").body(()).unwrap();
        assert_eq!(taken(&other, false).err(), Some(Kind::Host));
        let none = Request::get("/").body(()).unwrap();
        assert_eq!(taken(&none, false).err(), Some(Kind::Host));
    }

    #[test]
    fn a_protocol_is_a_token() {
        for (text, is_good) in [("websocket", true), ("x\r\nContent-Length: 1", false), ("", false)]
        {
            let mut request = Request::new(());
            *request.method_mut() = http::Method::CONNECT;
            *request.uri_mut() = "https://a.example/x".parse().unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from(text));
            let head = taken(&request, true);
            assert_eq!(head.is_ok(), is_good, "{}", text.escape_debug());
            assert!(head.is_err() || head.unwrap().upgrade() == b"websocket");
        }
    }

    #[test]
    fn what_is_said_has_nothing_of_a_connection() {
        let mut fields = Fields::default();
        fields.push(b"X-A", b"b c");
        fields.push(b"Connection", b"close");
        let head = FinalHead {
            status: 200,
            reason: b"",
            stored: b"ETag: \"x\"\r\nEmpty: \r\n",
            fields: &fields,
            date: b"",
            size: BodySize::Known(5),
            length_told: None,
            keeps: false,
            upgrade: b"",
        };
        let said = final_head(&head).unwrap();
        let text = |name: &str| said.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (text("etag"), text("empty"), text("x-a")),
            (Some("\"x\""), Some(""), Some("b c"))
        );
        assert_eq!((text("content-length"), text("connection")), (Some("5"), None));
        let mut head = RequestHead::default();
        head.set_method(b"GET");
        head.set_target(b"/a`", Some(b"b"));
        head.fields.push(b"Upgrade", b"h2c");
        let said = request(&head, b"a.example:8080", false, false).unwrap().head;
        assert_eq!(said.uri().to_string(), "http://a.example:8080/a%60?b");
        assert_eq!(said.headers().len(), 1);
    }
}
