//! A complete head's octets to a `RequestHead` or a `ResponseHead`. httparse finds the tokens;
//! everything it lets through that two servers could read differently is refused here.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::quick;
use crate::base::error::{Kind, Result};
use crate::base::limits::{FIELDS_MAX, RESPONSE_FIELDS_MAX};
use crate::message::fields::Fields;
use crate::message::head::{Method, RequestHead, ResponseHead, Version};
use crate::message::hop;
use crate::message::limits::HeadLimits;
use crate::message::name::Name;
use crate::wire::framing::FramingFacts;
use crate::wire::head::{finish_request, finish_response, take_request_line, takes_field};

/// The way of nearly every request: a whole head is there at once, and nothing is odd about it.
/// Returns its length. Anything else is `None`, and the scan and `request` say what it is; so that
/// a head is judged alike however it was cut.
pub fn request_at_once(bytes: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Option<usize> {
    let found = quick_request(bytes, limits, head);
    if found.is_none() {
        head.clear();
    }
    found
}

fn quick_request(bytes: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Option<usize> {
    let line = quick::request_line(bytes)?;
    let version = if line.is_http11 { Version::Http11 } else { Version::Http10 };
    let target = take_request_line(head, version, line.method, line.target, limits).ok()?;
    let (len, facts) =
        quick_fields(bytes, line.fields_at, limits, HeadKind::Request, &mut head.fields)?;
    finish_request(head, &target, &facts).ok()?;
    Some(len)
}

/// Whose head it is. Host means something in a request only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeadKind {
    Request,
    Response,
}

/// Takes the fields of a head in the usual form over.
fn quick_fields<'a>(
    bytes: &'a [u8],
    start: usize,
    limits: &HeadLimits,
    side: HeadKind,
    fields: &mut Fields,
) -> Option<(usize, FramingFacts<'a>)> {
    let mut facts = FramingFacts::default();
    let mut count = 0;
    let base = fields.begin_lines(start);
    let len = quick::fields(bytes, start, limits.field, |line| {
        count += 1;
        match Name::of(line.name) {
            Name::ContentLength => facts.add_length(line.value),
            Name::TransferEncoding => facts.add_coding(line.value),
            Name::Host if side == HeadKind::Request => facts.add_host(line.value),
            known => fields.add_line(base, line.at, line.name.len(), line.end, known),
        }
        (count <= limits.fields).then_some(())
    })?;
    fields.end_lines(&bytes[start..len]);
    (len <= limits.head).then_some((len, facts))
}

/// Fills `head` from the octets that a scan found. `head` must be clear.
///
/// # Errors
/// The rule that was broken.
pub fn request(bytes: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Result<()> {
    match request_prefix(bytes, limits, head)? {
        Some(len) if len == bytes.len() => Ok(()),
        _ => Err(Kind::RequestLine),
    }
}

fn request_prefix(
    bytes: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Option<usize>> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(bytes, &mut slots) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::Token | httparse::Error::NewLine) => return Err(Kind::RequestLine),
        Err(httparse::Error::Version) => return Err(version_fault(bytes)),
        Err(httparse::Error::TooManyHeaders) => return Err(Kind::HeadTooLarge),
        Err(_) => return Err(Kind::Field),
    };
    let bytes = &bytes[..len];
    let method = parsed.method.unwrap_or_default().as_bytes();
    let path = parsed.path.unwrap_or_default().as_bytes();
    let target = take_request_line(head, version(parsed.version), method, path, limits)?;
    let facts = take_fields(bytes, parsed.headers, limits, HeadKind::Request, &mut head.fields)?;
    finish_request(head, &target, &facts)?;
    Ok(Some(len))
}

/// The way of nearly every response, as `request_at_once`.
pub fn response_at_once(bytes: &[u8], asked: Method, head: &mut ResponseHead) -> Option<usize> {
    let found = quick_response(bytes, asked, head);
    if found.is_none() {
        head.clear();
    }
    found
}

fn quick_response(bytes: &[u8], asked: Method, head: &mut ResponseHead) -> Option<usize> {
    let line = quick::status_line(bytes)?;
    head.version = if line.is_http11 { Version::Http11 } else { Version::Http10 };
    head.set_reason(line.reason);
    let limits = HeadLimits::RESPONSE;
    let (len, facts) =
        quick_fields(bytes, line.fields_at, &limits, HeadKind::Response, &mut head.fields)?;
    finish_response(head, line.status, asked, &facts).ok()?;
    Some(len)
}

/// Fills `head` from the octets that a scan found. `asked` is the method that is being answered.
///
/// # Errors
/// `UpstreamHead` or `UpstreamHeadTooLarge`.
pub fn response(bytes: &[u8], asked: Method, head: &mut ResponseHead) -> Result<()> {
    match response_prefix(bytes, asked, head)? {
        Some(len) if len == bytes.len() => Ok(()),
        _ => Err(Kind::UpstreamHead),
    }
}

fn response_prefix(bytes: &[u8], asked: Method, head: &mut ResponseHead) -> Result<Option<usize>> {
    let mut slots = [const { MaybeUninit::uninit() }; RESPONSE_FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut slots) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Kind::UpstreamHeadTooLarge),
        Err(_) => return Err(Kind::UpstreamHead),
    };
    let bytes = &bytes[..len];
    head.version = version(parsed.version);
    head.set_reason(parsed.reason.unwrap_or_default().as_bytes());
    let facts = take_fields(
        bytes,
        parsed.headers,
        &HeadLimits::RESPONSE,
        HeadKind::Response,
        &mut head.fields,
    )
    .map_err(|_| Kind::UpstreamHead)?;
    finish_response(head, parsed.code.unwrap_or_default(), asked, &facts)?;
    Ok(Some(len))
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

/// `HTTP/` and a digit, a dot and a digit is a version, if not one of ours; else it is noise.
fn version_fault(bytes: &[u8]) -> Kind {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let (_, _, version) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    if parts.next().is_some() {
        return Kind::RequestLine;
    }
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Kind::Version
        }
        _ => Kind::RequestLine,
    }
}

/// Takes the fields over, all but the two that frame the body: those become facts and nothing
/// else. httparse takes a bare line feed for the end of a line; this does not. `bytes` is the whole
/// head, of which the names are slices.
fn take_fields<'a>(
    bytes: &[u8],
    headers: &[Header<'a>],
    limits: &HeadLimits,
    side: HeadKind,
    fields: &mut Fields,
) -> Result<FramingFacts<'a>> {
    if headers.len() > limits.fields {
        return Err(Kind::HeadTooLarge);
    }
    let offset = |name: &str| (name.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    // The empty line at the end.
    let last = bytes.len().saturating_sub(2);
    let mut line = headers.first().map_or(last, |header| offset(header.name));
    check_line_end(bytes, line)?;
    check_line_end(bytes, bytes.len())?;
    let section = fields.begin_section(bytes.get(line..).unwrap_or_default());
    let mut facts = FramingFacts::default();
    for (at, header) in headers.iter().enumerate() {
        let next = headers.get(at + 1).map_or(last, |next| offset(next.name));
        check_line_end(bytes, next)?;
        if next - line > limits.field + 2 {
            return Err(Kind::HeadTooLarge);
        }
        line = next;
        let name = header.name.as_bytes();
        match Name::of(name) {
            Name::ContentLength => facts.add_length(header.value),
            Name::TransferEncoding => facts.add_coding(header.value),
            Name::Host if side == HeadKind::Request => facts.add_host(header.value),
            known => {
                if !takes_field(known, name, limits)? {
                    continue;
                }
                fields.push_section(&section, known, name, header.value);
            }
        }
    }
    Ok(facts)
}

/// What stands before a line is the end of the line before: CR and LF, never LF alone.
fn check_line_end(bytes: &[u8], line: usize) -> Result<()> {
    match bytes.get(..line) {
        Some([.., b'\r', b'\n']) => Ok(()),
        _ => Err(Kind::BareLineFeed),
    }
}

/// Parses a trailer section, its empty line included.
///
/// # Errors
/// `Trailer` for anything that is not lines of fields.
pub fn trailers(bytes: &[u8]) -> Result<Fields> {
    let mut slots = [httparse::EMPTY_HEADER; crate::base::limits::TRAILER_FIELDS_MAX];
    let Ok(Status::Complete((len, headers))) = httparse::parse_headers(bytes, &mut slots) else {
        return Err(Kind::Trailer);
    };
    if len != bytes.len() {
        return Err(Kind::Trailer);
    }
    let mut fields = Fields::default();
    for header in headers.iter().filter(|header| hop::is_trailer_allowed(header.name.as_bytes())) {
        fields.push_known(Name::Other, header.name.as_bytes(), header.value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::framing::Framing;

    fn parse(text: &str) -> Result<RequestHead> {
        let mut head = RequestHead::default();
        request(text.as_bytes(), &HeadLimits::default(), &mut head).map(|()| head)
    }

    #[test]
    fn a_request_becomes_a_head_without_its_framing_fields() {
        let head = parse(
            "POST /a/../b?c=d HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\n\
             Connection: close\r\nX-Y:  z \r\nA_B: c\r\n\r\n",
        )
        .unwrap();
        assert_eq!(head.path(), b"/b");
        assert_eq!(head.query(), Some(&b"c=d"[..]));
        assert_eq!(head.host(), b"a.example");
        assert_eq!(head.framing, Framing::Length(3));
        assert!(head.options.close);
        let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(fields, [(&b"X-Y"[..], &b"z"[..])]);
    }

    #[test]
    fn faults_have_their_kind() {
        let long_method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(1024));
        for (text, kind) in [
            ("GET / HTTP/1.1\r\n\r\n", Kind::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Kind::Host),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Kind::Host),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Kind::Host),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Kind::Version),
            ("GET / HTTP/1.32\r\nHost: a\r\n\r\n", Kind::RequestLine),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", Kind::RequestLine),
            ("GET /\r\nHost: a\r\n\r\n", Kind::RequestLine),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Kind::RequestLine),
            ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Kind::RequestLine),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Kind::RequestLine),
            ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Kind::Target),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Kind::Target),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Kind::MethodRefused),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Kind::MethodRefused),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Kind::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Kind::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Kind::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", Kind::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", Kind::Expectation),
            (&long_method, Kind::Method),
        ] {
            assert_eq!(parse(text).map(|_| ()), Err(kind), "{}", text.escape_debug());
        }
    }

    #[test]
    fn control_characters_never_pass_in_values() {
        for byte in (0..=0x1f_u8).filter(|byte| *byte != b'\t').chain([0x7f]) {
            let mut text = b"GET / HTTP/1.1\r\nHost: a\r\nX: a".to_vec();
            text.push(byte);
            text.extend_from_slice(b"b\r\n\r\n");
            let mut head = RequestHead::default();
            assert!(request(&text, &HeadLimits::default(), &mut head).is_err(), "{byte:#x}");
        }
    }

    #[test]
    fn an_absolute_target_names_the_authority() {
        let head = parse("GET http://b.example/x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!((head.authority(), head.path()), (&b"b.example"[..], &b"/x"[..]));
    }

    /// Heads with faults at random places: what is taken at once is what the scan and the parser
    /// take together, and as they take it.
    #[test]
    fn at_once_and_bytewise_agree() {
        use crate::base::random::Random;
        use crate::wire::http1::scan::Scan;
        let seed = b"POST /a?b HTTP/1.1\r\nHost: a\r\nX: y z\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        let limits = HeadLimits { head: 120, field: 24, fields: 5, ..HeadLimits::default() };
        let mut random = Random::new(5);
        let mut taken = 0;
        for _ in 0..60_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..=random.below(2) {
                let at =
                    usize::try_from(random.below(u32::try_from(bytes.len()).unwrap())).unwrap();
                let pieces: [&[u8]; 8] =
                    [b"\n", b"\r\n", b" ", b":", b"", b"\0", b"X: z\r\n", b"\r"];
                let piece = pieces[usize::try_from(random.below(8)).unwrap()];
                let end = (at + usize::try_from(random.below(3)).unwrap()).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
            let (mut one, mut two) = (RequestHead::default(), RequestHead::default());
            let at_once = request_at_once(&bytes, &limits, &mut one);
            let scanned = Scan::default().request(&bytes, &limits);
            let slow = match scanned {
                Ok(Some(found)) => {
                    request(&bytes[found.start..found.end], &limits, &mut two).map(|()| found)
                }
                Ok(None) => continue,
                Err(kind) => Err(kind),
            };
            match (at_once, slow) {
                (Some(len), Ok(found)) => {
                    assert_eq!((0, len), (found.start, found.end));
                    let show = |head: &RequestHead| {
                        head.fields
                            .iter()
                            .map(|f| (f.name.to_vec(), f.value.to_vec()))
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(show(&one), show(&two));
                    assert_eq!(one.framing, two.framing);
                    taken += 1;
                }
                // The quick way gives up on what is merely unusual.
                (None, Ok(_) | Err(_)) => {}
                (Some(_), Err(kind)) => panic!("{kind:?}: {}", bytes.escape_ascii()),
            }
        }
        assert!(taken > 5_000, "{taken}");
    }

    #[test]
    fn responses_are_read_strictly() {
        let parse = |text: &str| {
            let mut head = ResponseHead::default();
            response(text.as_bytes(), Method::Get, &mut head).map(|()| head)
        };
        let head = parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Forwarded-For: a\r\n\r\n");
        let head = head.unwrap();
        assert_eq!((head.status, head.framing), (200, Framing::Length(2)));
        assert!(head.fields.is_empty());
        for bad in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 99 X\r\n\r\n",
            "HTTP/1.1 2000 X\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: x\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_debug());
        }
    }

    #[test]
    fn trailers_keep_only_what_is_allowed() {
        let fields = trailers(b"X-Sum: 1\r\nHost: evil\r\nContent-Length: 3\r\n\r\n").unwrap();
        assert_eq!(fields.len(), 1);
        assert!(trailers(b"nocolon\r\n\r\n").is_err());
    }
}
