//! Finds the end of a head as bytes arrive, and holds the limits that need no parsing. Each byte
//! is looked at once, however the input is cut.

use crate::base::error::{Kind, Result};
use crate::base::limits::{EMPTY_LINES_MAX, METHOD_MAX};
use crate::message::fields::is_token_byte;
use crate::message::limits::HeadLimits;

/// Where the scan of one head stands. A new head needs a new scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Everything before this was looked at.
    at: usize,
    /// Where the current line begins.
    line: usize,
    /// Lines that ended, the start line included.
    lines: usize,
    /// Octets of empty lines that may stand before a request (RFC 9112 section 2.2).
    skipped: usize,
}

/// A head that is complete: its octets are `start..end` of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadExtent {
    /// After a leading CRLF, if there was one.
    pub start: usize,
    /// After the empty line.
    pub end: usize,
}

impl Scan {
    /// Looks at what came since. `bytes` is the whole input from the head's beginning on.
    ///
    /// # Errors
    /// `BareLineFeed`, `RequestLine`, `Field`, `TargetTooLong`, `HeadTooLarge`: as soon as the
    /// octets that prove it are there.
    pub fn request(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<HeadExtent>> {
        if self.lines == 0 && !self.check_start(bytes)? {
            return Ok(None);
        }
        self.advance(bytes, limits, limits.target + METHOD_MAX + " HTTP/1.1 ".len())
    }

    /// The same for a response; nothing may stand before it.
    ///
    /// # Errors
    /// As for a request.
    pub fn response(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<HeadExtent>> {
        match bytes.first() {
            Some(b'H') => self.advance(bytes, limits, limits.field),
            Some(_) => Err(Kind::RequestLine),
            None => Ok(None),
        }
    }

    /// Refuses at the first octet what can be no request: a TLS hello, too many empty lines.
    fn check_start(&mut self, bytes: &[u8]) -> Result<bool> {
        while self.skipped < 2 * EMPTY_LINES_MAX && bytes.get(self.skipped) == Some(&b'\r') {
            let at = self.skipped + 2;
            match bytes.get(at - 1) {
                None => return Ok(false),
                Some(b'\n') => *self = Self { at, line: at, lines: 0, skipped: at },
                Some(_) => return Err(Kind::RequestLine),
            }
        }
        match bytes.get(self.skipped) {
            None => Ok(false),
            Some(byte) if is_token_byte(*byte) => Ok(true),
            Some(b'\n') => Err(Kind::BareLineFeed),
            Some(_) => Err(Kind::RequestLine),
        }
    }

    fn advance(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
        start_max: usize,
    ) -> Result<Option<HeadExtent>> {
        while let Some(offset) = memchr::memchr(b'\n', &bytes[self.at..]) {
            let feed = self.at + offset;
            self.check_length(feed, limits, start_max)?;
            if feed == self.line || bytes[feed - 1] != b'\r' {
                return Err(Kind::BareLineFeed);
            }
            let is_empty = feed - 1 == self.line;
            self.at = feed + 1;
            if is_empty && self.lines > 0 {
                return Ok(Some(HeadExtent { start: self.skipped, end: self.at }));
            }
            if is_empty {
                return Err(Kind::RequestLine);
            }
            if self.lines > 0 && matches!(bytes[self.line], b' ' | b'\t') {
                return Err(Kind::Field); // obs-fold, RFC 9112 section 5.2
            }
            if self.lines > limits.fields {
                return Err(Kind::HeadTooLarge);
            }
            self.lines += 1;
            self.line = self.at;
        }
        self.at = bytes.len();
        self.check_length(bytes.len(), limits, start_max)?;
        Ok(None)
    }

    /// `upto` is a line feed, or the end of what came.
    fn check_length(&self, upto: usize, limits: &HeadLimits, start_max: usize) -> Result<()> {
        let line = upto - self.line;
        if self.lines == 0 && line > start_max {
            return Err(Kind::TargetTooLong);
        }
        if (self.lines > 0 && line > limits.field + 1) || upto - self.skipped >= limits.head {
            return Err(Kind::HeadTooLarge);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> HeadLimits {
        HeadLimits { head: 200, fields: 3, field: 60, target: 40, ..HeadLimits::default() }
    }

    fn whole(input: &[u8]) -> Result<Option<HeadExtent>> {
        Scan::default().request(input, &limits())
    }

    #[test]
    fn finds_the_empty_line() {
        let found = whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest").unwrap().unwrap();
        assert_eq!((found.start, found.end), (0, 27));
        let found = whole(b"\r\nGET / HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!((found.start, found.end), (2, 20));
        assert_eq!(whole(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    }

    #[test]
    fn refuses_what_is_no_request_at_once() {
        for (input, kind) in [
            (&b"\x16\x03\x01"[..], Kind::RequestLine),
            (b"\n", Kind::BareLineFeed),
            (b"\r\n\r\n\r\n\r\n\r\n", Kind::RequestLine),
            (b"\r\n\n", Kind::BareLineFeed),
            (b"GET / HTTP/1.1\n", Kind::BareLineFeed),
            (b"GET / HTTP/1.1\r\nA: b\n", Kind::BareLineFeed),
            (b"GET / HTTP/1.1\r\n A: b\r\n", Kind::Field),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n", Kind::Field),
        ] {
            assert_eq!(whole(input), Err(kind), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn limits_hold_before_the_end_has_come() {
        let long = [b"GET /".to_vec(), vec![b'a'; 200]].concat();
        assert_eq!(whole(&long), Err(Kind::TargetTooLong));
        let wide = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 70]].concat();
        assert_eq!(whole(&wide), Err(Kind::HeadTooLarge));
        let many = b"GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n";
        assert_eq!(whole(many), Err(Kind::HeadTooLarge));
        assert!(whole(b"GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn cuts_do_not_matter() {
        for input in [
            &b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\nb\r\n\r\n",
            b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            let at_once = whole(input);
            let mut scan = Scan::default();
            let bytewise = (1..=input.len())
                .map(|len| scan.request(&input[..len], &limits()))
                .find(|step| !matches!(step, Ok(None)));
            assert_eq!(bytewise.unwrap_or(Ok(None)), at_once, "{}", input.escape_ascii());
        }
    }
}
