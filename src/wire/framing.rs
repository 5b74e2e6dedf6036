//! Content-Length, Transfer-Encoding, method, version and status to one `Framing`, or a refusal.
//! Request smuggling lives and dies here (RFC 9112 sections 6.1 to 6.3).

use crate::base::error::{Kind, Result};
use crate::message::fields::is_token_byte;
use crate::message::framing::Framing;
use crate::message::head::{Method, Version};
use crate::message::target::parse_digits;

/// What a head says about its body, and a request's about its authority: the first value of each
/// field, and how many there were. The count matters as much as the value.
#[derive(Clone, Copy, Debug, Default)]
pub struct FramingFacts<'a> {
    /// First Content-Length.
    pub length: Option<&'a [u8]>,
    /// Number of Content-Length fields.
    pub lengths: usize,
    /// First Transfer-Encoding.
    pub coding: Option<&'a [u8]>,
    /// Number of Transfer-Encoding fields.
    pub codings: usize,
    /// First Host of a request.
    pub host: Option<&'a [u8]>,
    /// Number of Host fields.
    pub hosts: usize,
}

impl<'a> FramingFacts<'a> {
    /// One more Content-Length field.
    pub fn add_length(&mut self, value: &'a [u8]) {
        self.length.get_or_insert(value);
        self.lengths += 1;
    }

    /// One more Transfer-Encoding field.
    pub fn add_coding(&mut self, value: &'a [u8]) {
        self.coding.get_or_insert(value);
        self.codings += 1;
    }

    /// One more Host field.
    pub fn add_host(&mut self, value: &'a [u8]) {
        self.host.get_or_insert(value);
        self.hosts += 1;
    }
}

/// How a request's body ends.
///
/// # Errors
/// Whatever another server could read differently: both fields, repeated fields, lists, any
/// coding but one `chunked`, any Transfer-Encoding in HTTP/1.0.
pub fn request(version: Version, facts: &FramingFacts<'_>) -> Result<Framing> {
    if facts.codings > 0 {
        // RFC 9112 section 6.1: a sender of 1.0 cannot know chunked; both fields are an attack.
        if version == Version::Http10 {
            return Err(Kind::TransferEncoding);
        }
        if facts.lengths > 0 {
            return Err(Kind::LengthAndChunked);
        }
        return check_coding(facts).map(|()| Framing::Chunked);
    }
    match (facts.lengths, facts.length) {
        (0, _) => Ok(Framing::None),
        (1, Some(value)) => parse_digits(value).map(Framing::Length).ok_or(Kind::ContentLength),
        _ => Err(Kind::ContentLength),
    }
}

fn check_coding(facts: &FramingFacts<'_>) -> Result<()> {
    let value = facts.coding.unwrap_or_default();
    if facts.codings == 1 && value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    // A single well-formed token that is not chunked is a coding we do not know; the rest is noise.
    let is_token = !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte));
    if facts.codings == 1 && is_token && !value.eq_ignore_ascii_case(b"identity") {
        Err(Kind::TransferCoding)
    } else {
        Err(Kind::TransferEncoding)
    }
}

/// What a response's framing turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// How the body ends.
    pub framing: Framing,
    /// The connection must not be used again.
    pub tainted: bool,
    /// Content-Length of an answer that has no body.
    pub length_told: Option<u64>,
}

/// How a response's body ends (RFC 9112 section 6.3, in its order).
///
/// # Errors
/// `UpstreamHead` for lengths and codings that cannot be believed.
pub fn response(
    asked: Method,
    version: Version,
    status: u16,
    facts: &FramingFacts<'_>,
) -> Result<Derived> {
    let length = match (facts.lengths, facts.length) {
        (0, _) => None,
        (1, Some(value)) => Some(parse_digits(value).ok_or(Kind::UpstreamHead)?),
        _ => return Err(Kind::UpstreamHead),
    };
    if facts.codings > 0 {
        let is_chunked = facts.codings == 1
            && facts.coding.is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        if !is_chunked || version == Version::Http10 {
            return Err(Kind::UpstreamHead);
        }
    }
    // 1. and 2.: no body, whatever the fields say.
    if asked == Method::Head || status < 200 || matches!(status, 204 | 304) {
        let tells = asked == Method::Head || status == 304;
        let length_told = length.filter(|_| tells && facts.codings == 0);
        return Ok(Derived { framing: Framing::None, tainted: false, length_told });
    }
    // 3. and 4.: chunked overrides a length, and such a connection is not to be trusted again.
    let (framing, tainted) = if facts.codings > 0 {
        (Framing::Chunked, length.is_some())
    } else if let Some(length) = length {
        (Framing::Length(length), false)
    } else {
        (Framing::UntilClose, true) // 8.
    };
    Ok(Derived { framing, tainted, length_told: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(lengths: &[&'a str], codings: &[&'a str]) -> FramingFacts<'a> {
        let mut facts = FramingFacts::default();
        lengths.iter().for_each(|value| facts.add_length(value.as_bytes()));
        codings.iter().for_each(|value| facts.add_coding(value.as_bytes()));
        facts
    }

    #[test]
    fn requests_have_one_reading() {
        let v11 = Version::Http11;
        assert_eq!(request(v11, &facts(&[], &[])), Ok(Framing::None));
        assert_eq!(request(v11, &facts(&["12"], &[])), Ok(Framing::Length(12)));
        assert_eq!(request(v11, &facts(&[], &["Chunked"])), Ok(Framing::Chunked));
        assert_eq!(request(v11, &facts(&["0"], &["chunked"])), Err(Kind::LengthAndChunked));
        assert_eq!(
            request(Version::Http10, &facts(&[], &["chunked"])),
            Err(Kind::TransferEncoding)
        );
        assert_eq!(request(v11, &facts(&["2", "2"], &[])), Err(Kind::ContentLength));
        for length in ["+2", "-0", "0x2", "1_0", "\"2\"", "2;", "1 0", "", "2, 2", "0, 34"] {
            assert_eq!(request(v11, &facts(&[length], &[])), Err(Kind::ContentLength), "{length}");
        }
        for coding in
            ["identity", "gzip, chunked", "chunked, chunked", ",chunked", "\"chunked\"", ""]
        {
            let found = request(v11, &facts(&[], &[coding]));
            assert_eq!(found, Err(Kind::TransferEncoding), "{coding}");
        }
        for coding in ["xchunked", "gzip"] {
            assert_eq!(request(v11, &facts(&[], &[coding])), Err(Kind::TransferCoding), "{coding}");
        }
        for codings in [["chunked", "chunked"], ["chunked", "cow"], ["cow", "chunked"]] {
            assert_eq!(request(v11, &facts(&[], &codings)), Err(Kind::TransferEncoding));
        }
    }

    #[test]
    fn responses_without_a_body_are_not_waited_for() {
        for (asked, status) in [(Method::Head, 200), (Method::Get, 204), (Method::Get, 304)] {
            let found = response(asked, Version::Http11, status, &facts(&["5"], &[])).unwrap();
            assert_eq!(found.framing, Framing::None);
            assert!(!found.tainted);
        }
    }

    #[test]
    fn responses_are_framed_in_the_rfcs_order() {
        let found = |lengths: &[&'static str], codings: &[&'static str]| {
            response(Method::Get, Version::Http11, 200, &facts(lengths, codings))
        };
        assert_eq!(found(&["5"], &[]).unwrap().framing, Framing::Length(5));
        let both = found(&["5"], &["chunked"]).unwrap();
        assert_eq!((both.framing, both.tainted), (Framing::Chunked, true));
        let neither = found(&[], &[]).unwrap();
        assert_eq!((neither.framing, neither.tainted), (Framing::UntilClose, true));
        assert!(found(&["5", "5"], &[]).is_err());
        assert!(found(&["+5"], &[]).is_err());
        assert!(found(&[], &["gzip, chunked"]).is_err());
        assert!(found(&[], &["chunked", "chunked"]).is_err());
        let old = response(Method::Get, Version::Http10, 200, &facts(&[], &["chunked"]));
        assert!(old.is_err());
    }
}
