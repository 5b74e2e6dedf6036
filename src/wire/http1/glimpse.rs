//! What a request that is refused seems to ask for: method, target and host as they stand there, for the log
//! alone (exam R33). Nothing is decided by it.

use crate::base::limits::{AUTHORITY_MAX, LOG_TEXT_MAX, METHOD_MAX};
use crate::message::fields::is_token_byte;
use crate::message::head::RequestHead;

/// Takes down what can be made out in the octets of a head, whole or not.
pub fn take(bytes: &[u8], head: &mut RequestHead) {
    let bytes = &bytes[bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()..];
    let end = memchr::memchr(b'\n', bytes);
    // Of a line that has no end nothing is sure, unless it is too long to have one.
    if end.is_none() && bytes.len() < LOG_TEXT_MAX {
        return;
    }
    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(space) = memchr::memchr(b' ', line) else { return };
    let method = &line[..space];
    if method.is_empty() || method.len() > METHOD_MAX || !method.iter().all(|b| is_token_byte(*b)) {
        return;
    }
    let target = &line[space + 1..];
    let version = memchr::memmem::rfind(target, b" HTTP/").unwrap_or(target.len());
    let target = &target[..version];
    head.set_glimpse(method, &target[..target.len().min(LOG_TEXT_MAX)], host(rest));
}

/// The value of the one Host line, if there is one and it has its end.
fn host(lines: &[u8]) -> &[u8] {
    let whole = memchr::memrchr(b'\n', lines).map_or(&b""[..], |end| &lines[..end]);
    let mut hosts = whole.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:").then(|| value.trim_ascii())
    });
    let (first, other) = (hosts.next(), hosts.next());
    let is_host =
        |host: &&[u8]| host.len() <= AUTHORITY_MAX && host.iter().all(u8::is_ascii_graphic);
    first.filter(|host| other.is_none() && is_host(host)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_made_out_is_taken_down() {
        let seen = |bytes: &[u8]| {
            let mut head = RequestHead::default();
            take(bytes, &mut head);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(head.method_text()), text(head.original().0), text(head.authority()))
        };
        let of = |parts: [&str; 3]| (parts[0].into(), parts[1].into(), parts[2].into());
        for (bytes, expected) in [
            (&b"GET /a b HTTP/1.1\r\nHost: a:1\r\nX"[..], ["GET", "/a b", "a:1"]),
            (b"\r\nTRACE /a?b HTTP/1.1\r\nhost:a\r\nHOST: b\r\n", ["TRACE", "/a?b", ""]),
            (b"GET /a HTTP/1.1\r\nHost: a.exa", ["GET", "/a", ""]),
            (b"GET /a HTTP/1.1\nHost: a b\n", ["GET", "/a", ""]),
            (b"GET /sl", ["", "", ""]),
            (b"\x01\x02\r\n", ["", "", ""]),
            (b"GET\r\n", ["", "", ""]),
        ] {
            assert_eq!(seen(bytes), of(expected), "{}", bytes.escape_ascii());
        }
        let long = [b"GET /", &[b't'; 9000][..]].concat();
        assert_eq!(seen(&long).1.len(), LOG_TEXT_MAX);
    }
}
