//! A head to bytes. What goes out is made from the `Head` alone: nothing ambiguous can be passed
//! on, whatever was accepted.

use crate::message::canned;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{FinalHead, RequestHead, ResponseHead};

/// Writes into a buffer that was chosen large enough; more than fits is cut off and reported.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    is_full: bool,
}

impl<'a> Writer<'a> {
    /// Writes at the beginning of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, is_full: false }
    }

    /// Appends bytes.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.at..self.at + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            None => self.is_full = true,
        }
    }

    /// A field line.
    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.put(name);
        self.put(b": ");
        self.put(value);
        self.put(b"\r\n");
    }

    /// Decimal digits.
    pub fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    fn fields(&mut self, fields: &Fields) {
        fields.each_block(|block| self.put(block));
    }

    fn framing(&mut self, framing: Framing) {
        match framing {
            Framing::Length(length) => {
                self.put(b"Content-Length: ");
                self.number(length);
                self.put(b"\r\n");
            }
            Framing::Chunked => self.put(b"Transfer-Encoding: chunked\r\n"),
            Framing::None | Framing::UntilClose => {}
        }
    }

    /// How much was written; `None` if it did not fit.
    #[must_use]
    pub fn finish(self) -> Option<usize> {
        (!self.is_full).then_some(self.at)
    }
}

/// What the Connection field of a forwarded request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestConnection {
    /// Nothing: HTTP/1.1 keeps the connection.
    Keep,
    /// `close`
    Close,
    /// `upgrade`, with the Upgrade field.
    Upgrade,
}

/// Writes a request head. `authority` goes into Host.
pub fn request(
    head: &RequestHead,
    authority: &[u8],
    connection: RequestConnection,
    out: &mut Writer<'_>,
) {
    out.put(head.method_text());
    out.put(b" ");
    out.put(head.path_to_send());
    if let Some(query) = head.query() {
        out.put(b"?");
        out.put(query);
    }
    out.put(b" HTTP/1.1\r\nHost: ");
    out.put(authority);
    out.put(b"\r\n");
    out.fields(&head.fields);
    if head.expects_continue {
        out.put(b"Expect: 100-continue\r\n");
    }
    // RFC 9110 section 8.6: of methods that have a body it is said that there is none.
    let is_bodiless = head.framing == Framing::None && head.says_empty();
    out.framing(if is_bodiless { Framing::Length(0) } else { head.framing });
    match connection {
        RequestConnection::Keep => {}
        RequestConnection::Close => out.put(b"Connection: close\r\n"),
        RequestConnection::Upgrade => {
            out.put(b"Connection: upgrade\r\n");
            out.field(b"Upgrade", head.upgrade());
        }
    }
    out.put(b"\r\n");
}

/// What the Connection field of a response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseConnection {
    /// Nothing: HTTP/1.1 keeps the connection.
    Keep,
    /// `keep-alive`, for HTTP/1.0.
    KeepAlive,
    /// `close`
    Close,
    /// `upgrade`, with the Upgrade field.
    Upgrade,
}

/// Writes the final head of an answer with the framing that this client gets.
pub fn final_head(
    head: &FinalHead<'_>,
    framing: Framing,
    connection: ResponseConnection,
    out: &mut Writer<'_>,
) {
    status_line(head.status, head.reason, out);
    out.put(head.stored);
    out.fields(head.fields);
    // RFC 9110 section 6.6.1: a recipient with a clock supplies what is missing.
    if !head.date.is_empty() {
        out.field(b"Date", head.date);
    }
    match head.length_told {
        Some(length) if framing == Framing::None => out.framing(Framing::Length(length)),
        _ => out.framing(framing),
    }
    match connection {
        ResponseConnection::Keep => {}
        ResponseConnection::KeepAlive => out.put(b"Connection: keep-alive\r\n"),
        ResponseConnection::Close => out.put(b"Connection: close\r\n"),
        ResponseConnection::Upgrade => {
            out.put(b"Connection: upgrade\r\n");
            out.field(b"Upgrade", head.upgrade);
        }
    }
    out.put(b"\r\n");
}

/// Writes an interim response: no framing, no connection, no date.
pub fn interim(head: &ResponseHead, out: &mut Writer<'_>) {
    status_line(head.status, head.reason(), out);
    out.fields(&head.fields);
    out.put(b"\r\n");
}

/// Writes a last chunk with trailers.
pub fn last_chunk(trailers: &Fields, out: &mut Writer<'_>) {
    out.put(b"0\r\n");
    out.fields(trailers);
    out.put(b"\r\n");
}

fn status_line(status: u16, told: &[u8], out: &mut Writer<'_>) {
    if status == 200 {
        return out.put(b"HTTP/1.1 200 OK\r\n");
    }
    out.put(b"HTTP/1.1 ");
    out.number(u64::from(status));
    out.put(b" ");
    // The upstream's own phrase may hold octets that some client misreads; ours cannot.
    let reason = canned::reason(status);
    if reason.is_empty() {
        out.put(told)
    } else {
        out.put(reason.as_bytes())
    }
    out.put(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::framing::BodySize;

    fn text(write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut bytes = [0; 512];
        let mut out = Writer::new(&mut bytes);
        write(&mut out);
        let len = out.finish().unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_request_has_one_host_and_one_framing() {
        let mut head = RequestHead::default();
        head.set_method(b"PUT");
        head.set_target(b"/x", Some(b"y"));
        head.framing = Framing::Length(u64::MAX);
        head.fields.push(b"A", b"b");
        let written = text(|out| request(&head, b"h:1", RequestConnection::Close, out));
        assert_eq!(
            written,
            "PUT /x?y HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 18446744073709551615\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_response_to_head_tells_the_length_it_does_not_have() {
        let mut fields = Fields::default();
        fields.push(b"B", b"2");
        let head = FinalHead {
            status: 200,
            reason: b"",
            stored: b"A: 1\r\n",
            fields: &fields,
            date: b"now",
            size: BodySize::Empty,
            length_told: Some(7),
            keeps: true,
            upgrade: b"",
        };
        let keep = ResponseConnection::Keep;
        let written = text(|out| final_head(&head, Framing::None, keep, out));
        assert_eq!(
            written,
            "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nDate: now\r\nContent-Length: 7\r\n\r\n"
        );
    }

    #[test]
    fn what_does_not_fit_is_reported() {
        let mut bytes = [0; 8];
        let mut out = Writer::new(&mut bytes);
        out.put(b"123456789");
        assert_eq!(out.finish(), None);
    }
}
