//! Request targets and authorities: which are well-formed, and the one normal form of a path that
//! routes, cache keys and upstreams all see.

use crate::base::error::{Kind, Result};
use crate::base::limits::AUTHORITY_MAX;

/// A request target taken apart (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    /// The authority of the absolute form.
    pub authority: Option<&'a [u8]>,
    /// The path as it came: begins with `/`, or is `*`.
    pub path: &'a [u8],
    /// The query without its `?`.
    pub query: Option<&'a [u8]>,
    /// The path is in its normal form, as nearly all are.
    pub is_normal: bool,
}

/// Takes a target apart: origin form, absolute form with `http`, or `*` for OPTIONS.
///
/// # Errors
/// `Target` for anything else, the authority form of CONNECT included.
pub fn parse(target: &[u8], is_options: bool) -> Result<RequestTarget<'_>> {
    if target.first() == Some(&b'/') {
        return split(None, target);
    }
    if target == b"*" && is_options {
        return Ok(RequestTarget { authority: None, path: target, query: None, is_normal: true });
    }
    // RFC 9112 section 3.2.2. A server that is not an https listener does not serve https URIs.
    let scheme_len = b"http://".len();
    let has_scheme =
        target.len() > scheme_len && target[..scheme_len].eq_ignore_ascii_case(b"http://");
    if !has_scheme {
        return Err(Kind::Target);
    }
    let rest = &target[scheme_len..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if rest.is_empty() && is_options {
        // RFC 9112 section 3.2.4: of the server as a whole.
        return Ok(RequestTarget {
            authority: Some(authority),
            path: b"*",
            query: None,
            is_normal: true,
        });
    }
    split(Some(authority), rest)
}

fn split<'a>(authority: Option<&'a [u8]>, rest: &'a [u8]) -> Result<RequestTarget<'a>> {
    let (mut mark, mut before, mut is_odd) = (0, 0, false);
    for byte in rest {
        if PARTS[usize::from(*byte)] & PATH == 0 {
            break;
        }
        is_odd |= (*byte == b'%') | ((*byte == b'.') & (before == b'/'));
        (mark, before) = (mark + 1, *byte);
    }
    let (path, query) = match rest[mark..].split_first() {
        None => (rest, None),
        Some((b'?', query)) => (&rest[..mark], Some(query)),
        Some(_) => return Err(Kind::Target),
    };
    let of_query = |left: u8, byte: &u8| left & PARTS[usize::from(*byte)];
    if query.is_some_and(|query| query.iter().fold(QUERY, of_query) == 0) {
        return Err(Kind::Target);
    }
    let path: &[u8] = if path.is_empty() { b"/" } else { path };
    Ok(RequestTarget { authority, path, query, is_normal: !is_odd })
}

/// RFC 3986 characters, and `[ ] ^ { | }` and the backtick, which clients send as they are. Not `"`, `<`,
/// `>`, `\` and `#`, about which servers disagree in a path.
const fn is_path_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'@'..=b'[' | b']'..=b'~')
}

/// A query is its application's: whatever cannot end a line or a target is passed on as it came.
const fn is_query_byte(byte: u8) -> bool {
    !matches!(byte, 0..=b' ' | b'#' | 0x7f)
}

/// The normal form of a path (RFC 3986 section 6.2.2): unreserved characters decoded, hexadecimal
/// digits in upper case, dot segments resolved. An encoded slash stays encoded, a double slash
/// stays double: both can mean something.
///
/// # Errors
/// `Target` for a `%` without two hexadecimal digits, for `%00`, and for a path that climbs above
/// its root.
pub fn normalise(path: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    decode_unreserved(path, out)?;
    if out.windows(2).any(|pair| pair == b"/.") {
        resolve_dots(out)?;
    }
    Ok(())
}

fn decode_unreserved(path: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (tail.first().and_then(hex), tail.get(1).and_then(hex))
        else {
            return Err(Kind::Target);
        };
        rest = &tail[2..];
        match high << 4 | low {
            0 => return Err(Kind::Target),
            plain if is_unreserved(plain) => out.push(plain),
            _ => out.extend_from_slice(&[b'%', HEX[high as usize], HEX[low as usize]]),
        }
    }
    Ok(())
}

/// RFC 3986 section 5.2.4, in place; but climbing above the root is refused, not forgiven.
fn resolve_dots(path: &mut Vec<u8>) -> Result<()> {
    let mut kept = 0;
    let mut at = 0;
    while at < path.len() {
        debug_assert_eq!(path[at], b'/', "segments begin at a slash");
        let end = memchr::memchr(b'/', &path[at + 1..]).map_or(path.len(), |next| at + 1 + next);
        let is_last = end == path.len();
        match &path[at + 1..end] {
            b"." if is_last => kept = keep(path, at..=at, kept),
            b"." => {}
            b".." => {
                let parent = memchr::memrchr(b'/', &path[..kept]).ok_or(Kind::Target)?;
                kept = parent;
                if is_last {
                    path[kept] = b'/';
                    kept += 1;
                }
            }
            _ => kept = keep(path, at..=end - 1, kept),
        }
        at = end;
    }
    path.truncate(kept);
    if path.is_empty() {
        path.push(b'/');
    }
    Ok(())
}

fn keep(path: &mut [u8], segment: std::ops::RangeInclusive<usize>, kept: usize) -> usize {
    let len = segment.clone().count();
    path.copy_within(segment, kept);
    kept + len
}

/// Checks a host and an optional port, and returns the length of the host (RFC 9110 section 7.2).
/// Names are what DNS and certificates can hold: letters, digits, `-`, `.`, `_`; no user
/// information, no percent-encoding, no empty port.
///
/// # Errors
/// `Host` for anything else.
pub fn check_authority(authority: &[u8]) -> Result<usize> {
    if authority.is_empty() || authority.len() > AUTHORITY_MAX {
        return Err(Kind::Host);
    }
    let name_len = if authority[0] == b'[' {
        let end = memchr::memchr(b']', authority).ok_or(Kind::Host)?;
        let literal = std::str::from_utf8(&authority[1..end]).map_err(|_| Kind::Host)?;
        literal.parse::<std::net::Ipv6Addr>().map_err(|_| Kind::Host)?;
        end + 1
    } else {
        name_end(authority)?
    };
    match authority[name_len..].split_first() {
        None => Ok(name_len),
        Some((b':', port)) => parse_port(port).map(|_| name_len).ok_or(Kind::Host),
        Some(_) => Err(Kind::Host),
    }
}

/// Where a name ends. What else stops it than the colon before a port is for the caller to refuse.
fn name_end(authority: &[u8]) -> Result<usize> {
    // A label is never empty: behind its beginning, and behind a dot, there is no dot.
    let (mut may_be, mut end) = (NAME, 0);
    for byte in authority {
        let parts = PARTS[usize::from(*byte)];
        if parts & may_be == 0 {
            break;
        }
        may_be = NAME | ((parts & NAME) << 1);
        end += 1;
    }
    let has_empty = authority.get(end) == Some(&b'.');
    // A dot at the end is the root of DNS: legal, and the same host. A label has at most 63 octets
    // (RFC 1035 section 2.3.4).
    let is_long = || authority[..end].split(|byte| *byte == b'.').any(|label| label.len() > 63);
    if end == 0 || has_empty || (end > 63 && is_long()) { Err(Kind::Host) } else { Ok(end) }
}

/// Letters, digits, `-` and `_`.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// What an octet may be part of: `PATH`, `NAME`, `DOT`, `QUERY`.
static PARTS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = (is_path_byte(byte) as u8 * PATH)
            | (is_name_byte(byte) as u8 * NAME)
            | ((byte == b'.') as u8 * DOT)
            | (is_query_byte(byte) as u8 * QUERY);
        if byte == 255 {
            break table;
        }
        byte += 1;
    }
};
const PATH: u8 = 1;
const NAME: u8 = 2;
const DOT: u8 = 4;
const QUERY: u8 = 8;
const _: () = assert!(NAME << 1 == DOT, "where there was a name there may be a dot");

/// A port: one to five digits, 1 to 65535. Never `str::parse`, which takes `+80`.
#[must_use]
pub fn parse_port(digits: &[u8]) -> Option<u16> {
    let port = parse_digits(digits).filter(|_| digits.len() <= 5)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// A decimal number of at most 19 digits: digits only, no sign, no white space.
#[must_use]
pub fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
    })
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn hex(byte: &u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str) -> Option<String> {
        let mut out = Vec::new();
        normalise(path.as_bytes(), &mut out).ok().map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn paths_have_one_normal_form() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/..", "/"),
            ("/.", "/"),
            ("/%61%2e%2E/b", "/a../b"),
            ("/a/%2e%2e/b", "/b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a//b", "/a//b"),
            ("/a/.b/..c", "/a/.b/..c"),
            ("/%7euser", "/~user"),
        ] {
            assert_eq!(normal(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["/..", "/a/../../b", "/%2e%2e/x", "/%", "/%4", "/%zz", "/a%00"] {
            assert_eq!(normal(path), None, "{path}");
        }
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        for path in ["/a/./b/../c", "/%2e%2f%41", "/a/b/..", "//..//x", "/%25%32%65"] {
            if let Some(once) = normal(path) {
                assert_eq!(normal(&once).as_deref(), Some(once.as_str()), "{path}");
            }
        }
    }

    #[test]
    fn targets_come_in_three_forms() {
        let origin = parse(b"/a?b=c", false).unwrap();
        assert_eq!((origin.path, origin.query), (&b"/a"[..], Some(&b"b=c"[..])));
        let absolute = parse(b"HTTP://h:1?q", false).unwrap();
        assert_eq!(absolute.authority, Some(&b"h:1"[..]));
        assert_eq!((absolute.path, absolute.query), (&b"/"[..], Some(&b"q"[..])));
        assert!(parse(b"*", true).is_ok());
        for bad in
            ["*", "", "a", "ftp://h/", "https://h/", "/a#b", "/a b", "/\u{e9}", "/a\\b", "/<"]
        {
            assert_eq!(parse(bad.as_bytes(), false), Err(Kind::Target), "{bad}");
        }
    }

    #[test]
    fn authorities_are_names_or_addresses_with_a_port() {
        for (good, len) in [("a", 1), ("a.b:80", 3), ("[::1]:80", 5), ("[::1]", 5), ("a_b.c.", 6)] {
            assert_eq!(check_authority(good.as_bytes()), Ok(len), "{good}");
        }
        let label = "a".repeat(64);
        for bad in
            ["", ":80", "u@a", "a/b", "a?b", "a b", "a:", "a:0", "a:99999", "a:+1", "[::1", "a,b"]
                .into_iter()
                .chain(["[::1]x", "a..b", ".", "a\0", "[fe80::1%25lo]", label.as_str()])
        {
            assert_eq!(check_authority(bad.as_bytes()), Err(Kind::Host), "{bad}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(parse_digits(b"0034"), Some(34));
        assert_eq!(parse_digits(b"9999999999999999999"), Some(9_999_999_999_999_999_999));
        for bad in ["", "+2", "-0", " 1", "1 ", "0x2", "1_0", "10000000000000000000"] {
            assert_eq!(parse_digits(bad.as_bytes()), None, "{bad}");
        }
    }
}
