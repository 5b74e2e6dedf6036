//! What is refused, or answered here, by what a head says.

use super::verdict::Verdict;
use crate::base::error::Kind;
use crate::message::framing::Framing;
use crate::message::head::{RequestHead, Version};
use crate::message::{hop, upgrade};

pub(super) fn body(most: u64, request: &RequestHead) -> Verdict {
    let is_longer = matches!(request.framing, Framing::Length(length) if length > most);
    if is_longer { Verdict::Refuse(Kind::BodyTooLarge) } else { Verdict::Go }
}

pub(super) fn max_forwards(request: &mut RequestHead) -> Verdict {
    if hop::ends_here(request) { Verdict::Options } else { Verdict::Go }
}

/// RFC 8441 section 4: what cannot be spoken is refused. Passed on as a GET it would be another request.
pub(super) fn protocol(allowed: &[Box<str>], request: &RequestHead) -> Verdict {
    let is_asked = request.version == Version::Http2 && !request.upgrade().is_empty();
    let is_refused = is_asked && !upgrade::is_wanted(request, allowed);
    if is_refused { Verdict::Refuse(Kind::ProtocolRefused) } else { Verdict::Go }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_refused_before_its_body_comes() {
        let mut request = RequestHead::default();
        for (framing, is_refused) in
            [(Framing::None, false), (Framing::Length(5), false), (Framing::Length(6), true)]
        {
            request.framing = framing;
            assert_eq!(body(5, &request) == Verdict::Refuse(Kind::BodyTooLarge), is_refused);
        }
        request.framing = Framing::Chunked;
        assert_eq!(body(0, &request), Verdict::Go, "it is counted as it comes");
    }

    #[test]
    fn a_tunnel_of_http2_is_one_that_the_route_allows() {
        let mut request = RequestHead::default();
        request.set_upgrade(b"websocket");
        request.version = Version::Http2;
        assert_eq!(protocol(&[], &request), Verdict::Refuse(Kind::ProtocolRefused));
        assert_eq!(protocol(&["websocket".into()], &request), Verdict::Go);
        request.version = Version::Http11;
        assert_eq!(protocol(&[], &request), Verdict::Go, "HTTP/1.1 goes on without it");
    }
}
