//! What the cache did, in the words of RFC 9211: the Cache-Status field of every answer.

use super::policy::NotStored;

/// Why a request went to the origin (RFC 9211 section 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forward {
    /// The cache was not asked.
    Bypass,
    /// Its method is never answered by the cache.
    Method,
    /// There was nothing for its URI.
    #[default]
    UriMiss,
    /// There was something for its URI, which other fields select.
    VaryMiss,
    /// What there was is fresh, but the client wants it from the origin.
    Request,
    Stale,
    /// Parts were there, but not these.
    Partial,
}

impl Forward {
    const fn word(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What happened to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Answered from what is stored.
    pub is_hit: bool,
    pub forward: Option<Forward>,
    /// What the origin answered, if that is not the status of this answer.
    pub forward_status: Option<u16>,
    pub is_stored: bool,
    /// Answered by a request that another client's request had caused already.
    pub is_collapsed: bool,
    /// Seconds for which it is fresh.
    pub ttl: Option<i64>,
    pub detail: Option<&'static str>,
}

impl Status {
    /// Went to the origin, for this reason.
    #[must_use]
    pub fn forwarded(why: Forward) -> Self {
        Self { forward: Some(why), ..Self::default() }
    }

    /// It was not stored, for this reason.
    #[must_use]
    pub fn refused(self, why: NotStored) -> Self {
        // That it was bypassed is said already.
        Self { detail: Some(why.word()).filter(|_| why != NotStored::Bypassed), ..self }
    }

    /// The whole in a word, for the access log.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (self.is_hit, self.is_collapsed, self.forward) {
            (true, ..) => "hit",
            (_, true, _) => "collapsed",
            (_, _, Some(why)) => why.word(),
            _ => "none",
        }
    }

    /// Writes the field's value, piece by piece; `key` is for clients that may see it.
    pub fn write(&self, name: &str, key: Option<&[u8]>, mut put: impl FnMut(&[u8])) {
        put(name.as_bytes());
        if self.is_hit {
            put(b"; hit");
        } else if let Some(why) = self.forward {
            put(b"; fwd=");
            put(why.word().as_bytes());
        }
        if let Some(status) = self.forward_status {
            put(b"; fwd-status=");
            put_number(i64::from(status), &mut put);
        }
        if let Some(ttl) = self.ttl {
            put(b"; ttl=");
            put_number(ttl, &mut put);
        }
        if self.is_stored {
            put(b"; stored");
        }
        if self.is_collapsed {
            put(b"; collapsed");
        }
        if let Some(key) = key {
            put(b"; key=\"");
            for byte in key {
                match byte {
                    b'"' | b'\\' => put(&[b'\\', *byte]),
                    b' '..=b'~' => put(std::slice::from_ref(byte)),
                    _ => put(b"?"),
                }
            }
            put(b"\"");
        }
        if let Some(detail) = self.detail {
            put(b"; detail=");
            put(detail.as_bytes());
        }
    }
}

/// Decimal digits.
pub fn put_number(number: i64, put: &mut impl FnMut(&[u8])) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    put(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_rfc() {
        let text = |status: Status, key: Option<&[u8]>| {
            let mut out = Vec::new();
            status.write("m", key, |part| out.extend_from_slice(part));
            String::from_utf8(out).unwrap()
        };
        let hit = Status { is_hit: true, ttl: Some(-12), ..Status::default() };
        assert_eq!(text(hit, None), "m; hit; ttl=-12");
        assert_eq!(text(hit, Some(b"a\"b\xff")), "m; hit; ttl=-12; key=\"a\\\"b?\"");
        let stale = Status { forward_status: Some(304), ..Status::forwarded(Forward::Stale) };
        let stored = Status { is_stored: true, is_collapsed: true, ttl: Some(60), ..stale };
        assert_eq!(text(stored, None), "m; fwd=stale; fwd-status=304; ttl=60; stored; collapsed");
        let refused = Status::forwarded(Forward::UriMiss).refused(NotStored::NoStore);
        assert_eq!(text(refused, None), "m; fwd=uri-miss; detail=no-store");
    }
}
