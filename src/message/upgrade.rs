//! Switching protocols (RFC 9110 section 7.8): what may be asked for, and which 101 answers it.

use crate::message::head::{RequestHead, ResponseHead, Version};

/// Whether this request's upgrade is passed on: the protocol must be one that the route allows,
/// there must be no body, and never h2c, whose tunnel would carry requests past us.
#[must_use]
#[inline]
pub fn is_wanted(head: &RequestHead, allowed: &[Box<str>]) -> bool {
    let protocol = head.upgrade();
    head.version != Version::Http10
        && !protocol.is_empty()
        && head.framing.is_empty()
        && !protocol.eq_ignore_ascii_case(b"h2c")
        && allowed.iter().any(|one| protocol.eq_ignore_ascii_case(one.as_bytes()))
}

/// An upgrade that came as an extended CONNECT (RFC 8441) has no key: servers of HTTP/1.1 want one (RFC
/// 6455 section 4.1).
pub fn complete(head: &mut RequestHead, mut random: impl FnMut() -> [u8; 10]) {
    let is_websocket = head.upgrade().eq_ignore_ascii_case(b"websocket");
    if !is_websocket || head.fields.values_named(b"sec-websocket-key").next().is_some() {
        return;
    }
    let mut key = [0; 16];
    key[..10].copy_from_slice(&random());
    key[10..].copy_from_slice(&random()[..6]);
    let text = data_encoding::BASE64.encode(&key);
    head.fields.push(b"Sec-WebSocket-Key", text.as_bytes());
}

/// Whether a 101 switches to what was asked for.
#[must_use]
pub fn is_granted(asked: &[u8], answer: &ResponseHead) -> bool {
    answer.status == 101 && !asked.is_empty() && answer.upgrade().eq_ignore_ascii_case(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::framing::Framing;

    #[test]
    fn only_what_is_allowed_is_wanted() {
        let allowed = [Box::from("websocket")];
        let mut head = RequestHead::default();
        assert!(!is_wanted(&head, &allowed));
        head.set_upgrade(b"WebSocket");
        assert!(is_wanted(&head, &allowed));
        head.framing = Framing::Length(3);
        assert!(!is_wanted(&head, &allowed));
        head.framing = Framing::None;
        head.set_upgrade(b"h2c");
        assert!(!is_wanted(&head, &[Box::from("h2c")]));
    }
}
