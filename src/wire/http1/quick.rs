//! The tokens of a head that has come whole and is written as nearly every client writes it: one space
//! between the parts of the start line, `name: value` and CRLF for each field. It gives up on
//! anything else, right or wrong, and leaves the verdict to the scan and httparse; tests and fuzzing
//! hold it to theirs. It is there for speed alone: one pass instead of three.

use super::lanes;
use crate::message::fields::is_token_byte;

/// One field line. `at..end` of the head is the whole of it, CRLF included.
#[derive(Clone, Copy, Debug)]
pub struct HeadLine<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    pub at: usize,
    pub end: usize,
}

/// The parts of a request line, and where the fields begin.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub is_http11: bool,
    pub fields_at: usize,
}

/// Takes a request line apart. The target's octets are for its own parser to judge.
#[must_use]
pub fn request_line(bytes: &[u8]) -> Option<RequestLine<'_>> {
    let method_len = bytes.iter().position(|byte| !is_token_byte(*byte))?;
    let (method, rest) = bytes.split_at(method_len);
    let rest = rest.strip_prefix(b" ")?;
    // Whatever else stops it is not the usual form.
    let target_len = lanes::visible_end(rest)?;
    let (target, rest) = rest.split_at(target_len);
    let rest = rest.strip_prefix(b" HTTP/1.")?;
    let is_http11 = match rest.get(..3)? {
        b"1\r\n" => true,
        b"0\r\n" => false,
        _ => return None,
    };
    let fields_at = bytes.len() - rest.len() + 3;
    (method_len > 0).then_some(RequestLine { method, target, is_http11, fields_at })
}

/// The parts of a status line, and where the fields begin.
#[derive(Clone, Copy, Debug)]
pub struct StatusLine<'a> {
    pub status: u16,
    pub reason: &'a [u8],
    pub is_http11: bool,
    pub fields_at: usize,
}

/// Takes a status line apart.
#[must_use]
pub fn status_line(bytes: &[u8]) -> Option<StatusLine<'_>> {
    let rest = bytes.strip_prefix(b"HTTP/1.")?;
    let [version @ (b'0' | b'1'), b' ', hundreds, tens, ones, b' ', ..] = rest else { return None };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let status = digit(hundreds)? * 100 + digit(tens)? * 10 + digit(ones)?;
    let start = b"HTTP/1.1 200 ".len();
    let reason = text(bytes.get(start..)?)?;
    let end = start + reason.len();
    // httparse takes obs-text out of a reason; so few send it that it may judge.
    let is_plain = reason.is_ascii();
    let is_http11 = *version == b'1';
    is_plain.then_some(StatusLine { status, reason, is_http11, fields_at: end + 2 })
}

/// Calls `each` for the field lines from `at` on until it says no. Returns where the head ends;
/// `None` if a line is not in the usual form, is longer than `longest`, or has not come yet.
pub fn fields<'a>(
    bytes: &'a [u8],
    at: usize,
    longest: usize,
    mut each: impl FnMut(HeadLine<'a>) -> Option<()>,
) -> Option<usize> {
    let mut at = at;
    loop {
        let rest = bytes.get(at..)?;
        if let [b'\r', b'\n', ..] = rest {
            return Some(at + 2);
        }
        let name_len = lanes::name_end(rest)?;
        let (name, behind) = rest.split_at_checked(name_len)?;
        let [b':', b' ', behind @ ..] = behind else { return None };
        let value = text(behind)?;
        let len = name_len + 2 + value.len();
        // An empty value, or one with white space around it, is written otherwise.
        let ([first, ..], [.., last]) = (value, value) else {
            return None;
        };
        if name_len == 0 || *first == b' ' || *last == b' ' || len > longest {
            return None;
        }
        let end = at + len + 2;
        each(HeadLine { name, value, at, end })?;
        at = end;
    }
}

/// The text that a line begins with, if CRLF is behind it.
#[inline]
fn text(rest: &[u8]) -> Option<&[u8]> {
    let (text, behind) = rest.split_at_checked(lanes::text_end(rest)?)?;
    matches!(behind, [b'\r', b'\n', ..]).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_lines_are_taken_apart() {
        let bytes = b"GET /a HTTP/1.1\r\nHost: a\r\nX: y z\r\n\r\nrest";
        let line = request_line(bytes).unwrap();
        assert_eq!((line.method, line.target, line.is_http11), (&b"GET"[..], &b"/a"[..], true));
        let mut seen = Vec::new();
        let end = fields(bytes, line.fields_at, 100, |line| {
            seen.push((line.name.to_vec(), line.value.to_vec()));
            Some(())
        });
        assert_eq!(end, Some(bytes.len() - 4));
        assert_eq!(seen[1], (b"X".to_vec(), b"y z".to_vec()));
        assert_eq!(status_line(b"HTTP/1.0 204 No\r\n\r\n").unwrap().status, 204);
    }
}
