//! What is special about gRPC (its PROTOCOL-HTTP2 document): errors are statuses of its own, a call
//! brings its deadline along, and a stream may be silent for as long as it likes.

use std::time::Duration;

use crate::base::clock::Moment;
use crate::base::error::{Kind, Side};
use crate::message::head::RequestHead;
use crate::message::name::Name;

/// Whether a request is a call.
#[must_use]
pub fn is_call(request: &RequestHead) -> bool {
    let kind = request.fields.values(Name::ContentType).next().unwrap_or_default();
    // Not gRPC-Web, whose answers are bodies.
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// When a call is over, if it says so.
#[must_use]
pub fn deadline(request: &RequestHead, now: Moment) -> Moment {
    let value = request.fields.values_named(b"grpc-timeout").next();
    value.and_then(timeout).map_or(Moment::NEVER, |timeout| now.after(timeout))
}

/// At most eight digits and a unit.
fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number = crate::message::target::parse_digits(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The status that stands for an error of ours.
#[must_use]
pub const fn status(kind: Kind) -> &'static [u8] {
    const DEADLINE_EXCEEDED: &[u8] = b"4";
    const PERMISSION_DENIED: &[u8] = b"7";
    const RESOURCE_EXHAUSTED: &[u8] = b"8";
    const UNIMPLEMENTED: &[u8] = b"12";
    const INTERNAL: &[u8] = b"13";
    const UNAVAILABLE: &[u8] = b"14";
    match kind {
        Kind::TotalTimeout => DEADLINE_EXCEEDED,
        Kind::Internal => INTERNAL,
        _ => match kind.row().status {
            403 => PERMISSION_DENIED,
            404 | 405 | 421 => UNIMPLEMENTED,
            413 | 414 | 429 | 431 => RESOURCE_EXHAUSTED,
            _ if matches!(kind.row().side, Side::Downstream) => INTERNAL,
            _ => UNAVAILABLE,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        assert_eq!(timeout(b"1H"), Some(Duration::from_secs(3600)));
        assert_eq!(timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout(b"99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in [&b""[..], b"S", b"5", b"-1S", b"123456789S", b"1 S", b"1x"] {
            assert_eq!(timeout(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn only_calls_are_calls() {
        let mut request = RequestHead::default();
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            request.fields.set(b"Content-Type", kind.as_bytes());
            assert_eq!(is_call(&request), is, "{kind}");
        }
    }
}
