//! What is wrong with an answer's head, and in which line: looked for once more, slowly, when a reader has
//! refused it (exam R40). Nothing is decided here, and none of its octets is repeated.

use crate::base::error::Detail;
use crate::message::fields::is_token_byte;

/// The first fault in a head that was refused.
#[must_use]
pub fn answer(bytes: &[u8]) -> Detail {
    let (mut rest, mut number) = (bytes, 0_u16);
    let (mut lengths, mut codings) = (0, 0);
    loop {
        number = number.saturating_add(1);
        let at = |what| Detail { part: "answer head", line: number, what };
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return at(if number == 1 { "no status line" } else { "it ends in the middle" });
        };
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(line) = line.strip_suffix(b"\r") else {
            return at(match (number, is_status(line)) {
                (1, false) => "no status line",
                _ => "a line feed without a carriage return",
            });
        };
        if number == 1 {
            if !is_status(line) {
                return at("no status line of HTTP/1");
            }
            continue;
        }
        if line.is_empty() {
            break;
        }
        if let Some(what) = field(line, &mut lengths, &mut codings) {
            return at(what);
        }
    }
    let what = match (lengths, codings) {
        (2.., _) => "more than one Content-Length",
        (_, 1..) => "a Transfer-Encoding that is not chunked alone",
        _ => "framing that can be read in two ways",
    };
    Detail { part: "answer head", line: 0, what }
}

/// What is wrong with a field line, if anything is.
fn field(line: &[u8], lengths: &mut u32, codings: &mut u32) -> Option<&'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some("folded field");
    }
    let Some(colon) = memchr::memchr(b':', line) else { return Some("a field without a colon") };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
        return Some("a field name with white space or another octet that no name has");
    }
    if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Some("a control character in a field value");
    }
    if name.eq_ignore_ascii_case(b"content-length") {
        *lengths += 1;
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !is_number || value.len() > 19 {
            return Some("a Content-Length that is no number");
        }
    }
    *codings += u32::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
    None
}

/// `HTTP/1.`, a digit, and a status of three digits.
fn is_status(line: &[u8]) -> bool {
    let rest = line.strip_prefix(b"HTTP/1.").unwrap_or_default();
    match rest {
        [minor, b' ', a, b, c, rest @ ..] => {
            [minor, a, b, c].iter().all(|digit| digit.is_ascii_digit())
                && (b'1'..=b'9').contains(a)
                && matches!(rest, [] | [b' ' | b'\r', ..])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_is_named_with_its_line() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n\r\n"[..], "answer head: line 3: folded field"),
            (
                b"HTTP/1.1 200 OK\nA: 1\r\n",
                "answer head: line 1: a line feed without a carriage return",
            ),
            (b"HTTP/1.1 2000 OK\r\n", "answer head: line 1: no status line of HTTP/1"),
            (b"SSH-2.0-x\r\n", "answer head: line 1: no status line of HTTP/1"),
            (b"nothing", "answer head: line 1: no status line"),
            (b"HTTP/1.1 200 OK\r\nA b\r\n", "answer head: line 2: a field without a colon"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n",
                "answer head: line 2: a Content-Length that is no number",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                "answer head: more than one Content-Length",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                "answer head: a Transfer-Encoding that is not chunked alone",
            ),
        ] {
            assert_eq!(answer(bytes).to_string(), expected, "{}", bytes.escape_ascii());
        }
    }
}
