//! Names of fields: those that the proxy looks at, recognised in any case.

/// Field names that the proxy itself looks at. Everything else is `Other` and only passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Name {
    #[default]
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    Proxy,
    Http2Settings,
    Expect,
    Via,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XForwardedOther,
    XRealIp,
    XRequestId,
    MaxForwards,
    Accept,
    Authorization,
    Cookie,
    SetCookie,
    Date,
    UserAgent,
    Referer,
    ProxyStatus,
    CacheControl,
    Pragma,
    Age,
    Expires,
    Vary,
    Etag,
    LastModified,
    IfNoneMatch,
    IfModifiedSince,
    IfMatch,
    IfUnmodifiedSince,
    IfRange,
    Range,
    ContentRange,
    CacheStatus,
    CdnCacheControl,
    MillraceCacheControl,
    SurrogateKey,
    CacheTag,
    Location,
    ContentLocation,
    ContentType,
}

impl Name {
    /// Recognises a field name, which is a token, whatever its case.
    #[must_use]
    #[expect(clippy::inline_always, reason = "once a line of every head; measured")]
    #[inline(always)]
    pub fn of(name: &[u8]) -> Self {
        let ends = Ends::of(name);
        let row = KNOWN.get(name.len()).map_or(&[][..], |row| row);
        for (known, found) in row.iter().take_while(|(_, found)| *found != Self::Other) {
            // Both ends are all of a name of up to sixteen octets.
            if *known == ends && (name.len() <= 16 || is_same(name, found.text())) {
                return *found;
            }
        }
        let may_be = ends.0 == FORWARDED.0 && name.len() > FORWARDED_TEXT.len();
        if may_be && is_same(&name[..FORWARDED_TEXT.len()], FORWARDED_TEXT) {
            return Self::XForwardedOther;
        }
        Self::Other
    }

    /// The name in lower case; empty for names that stand for many.
    #[must_use]
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::Other | Self::XForwardedOther => b"",
            Self::Host => b"host",
            Self::Connection => b"connection",
            Self::ContentLength => b"content-length",
            Self::TransferEncoding => b"transfer-encoding",
            Self::Te => b"te",
            Self::Trailer => b"trailer",
            Self::Upgrade => b"upgrade",
            Self::KeepAlive => b"keep-alive",
            Self::ProxyConnection => b"proxy-connection",
            Self::ProxyAuthenticate => b"proxy-authenticate",
            Self::ProxyAuthorization => b"proxy-authorization",
            Self::Proxy => b"proxy",
            Self::Http2Settings => b"http2-settings",
            Self::Expect => b"expect",
            Self::Via => b"via",
            Self::Forwarded => b"forwarded",
            Self::XForwardedFor => b"x-forwarded-for",
            Self::XForwardedProto => b"x-forwarded-proto",
            Self::XForwardedHost => b"x-forwarded-host",
            Self::XForwardedPort => b"x-forwarded-port",
            Self::XRealIp => b"x-real-ip",
            Self::XRequestId => b"x-request-id",
            Self::MaxForwards => b"max-forwards",
            Self::Accept => b"accept",
            Self::Authorization => b"authorization",
            Self::Cookie => b"cookie",
            Self::SetCookie => b"set-cookie",
            Self::Date => b"date",
            Self::UserAgent => b"user-agent",
            Self::Referer => b"referer",
            Self::ProxyStatus => b"proxy-status",
            Self::CacheControl => b"cache-control",
            Self::Pragma => b"pragma",
            Self::Age => b"age",
            Self::Expires => b"expires",
            Self::Vary => b"vary",
            Self::Etag => b"etag",
            Self::LastModified => b"last-modified",
            Self::IfNoneMatch => b"if-none-match",
            Self::IfModifiedSince => b"if-modified-since",
            Self::IfMatch => b"if-match",
            Self::IfUnmodifiedSince => b"if-unmodified-since",
            Self::IfRange => b"if-range",
            Self::Range => b"range",
            Self::ContentRange => b"content-range",
            Self::CacheStatus => b"cache-status",
            Self::CdnCacheControl => b"cdn-cache-control",
            Self::MillraceCacheControl => b"millrace-cache-control",
            Self::SurrogateKey => b"surrogate-key",
            Self::CacheTag => b"cache-tag",
            Self::Location => b"location",
            Self::ContentLocation => b"content-location",
            Self::ContentType => b"content-type",
        }
    }

    /// Every name that has a text.
    const ALL: [Self; 53] = [
        Self::Host,
        Self::Connection,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::Te,
        Self::Trailer,
        Self::Upgrade,
        Self::KeepAlive,
        Self::ProxyConnection,
        Self::ProxyAuthenticate,
        Self::ProxyAuthorization,
        Self::Proxy,
        Self::Http2Settings,
        Self::Expect,
        Self::Via,
        Self::Forwarded,
        Self::XForwardedFor,
        Self::XForwardedProto,
        Self::XForwardedHost,
        Self::XForwardedPort,
        Self::XRealIp,
        Self::XRequestId,
        Self::MaxForwards,
        Self::Accept,
        Self::Authorization,
        Self::Cookie,
        Self::SetCookie,
        Self::Date,
        Self::UserAgent,
        Self::Referer,
        Self::ProxyStatus,
        Self::CacheControl,
        Self::Pragma,
        Self::Age,
        Self::Expires,
        Self::Vary,
        Self::Etag,
        Self::LastModified,
        Self::IfNoneMatch,
        Self::IfModifiedSince,
        Self::IfMatch,
        Self::IfUnmodifiedSince,
        Self::IfRange,
        Self::Range,
        Self::ContentRange,
        Self::CacheStatus,
        Self::CdnCacheControl,
        Self::MillraceCacheControl,
        Self::SurrogateKey,
        Self::CacheTag,
        Self::Location,
        Self::ContentLocation,
        Self::ContentType,
    ];

    const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// A set of names: one that is made when the program is compiled costs one instruction to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameSet(u64);

impl NameSet {
    /// These.
    #[must_use]
    pub const fn of(names: &[Name]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= names[at].bit();
            at += 1;
        }
        Self(set)
    }

    /// These, and one more.
    #[must_use]
    pub const fn and(self, name: Name) -> Self {
        Self(self.0 | name.bit())
    }

    /// All of either.
    #[must_use]
    pub const fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are not among the others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether it has this one.
    #[must_use]
    pub const fn has(self, name: Name) -> bool {
        self.0 & name.bit() != 0
    }

    /// Whether it has any of the others.
    #[must_use]
    pub const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

/// Up to eight octets from either end of a name, in lower case: two comparisons tell names apart.
/// Among the octets of a token, setting the case bit makes only a letter equal to its lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends(u64, u64);

impl Ends {
    #[inline]
    const fn of(name: &[u8]) -> Self {
        const CASE: u64 = 0x2020_2020_2020_2020;
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            return Self(u64::from_le_bytes(*first) | CASE, u64::from_le_bytes(*last) | CASE);
        }
        let (first, last) = match (name.first_chunk(), name.last_chunk(), name) {
            (Some(first), Some(last), _) => (u32::from_le_bytes(*first), u32::from_le_bytes(*last)),
            (.., [first, middle, last]) => {
                (u32::from_le_bytes([*first, *middle, 0, 0]), *last as u32)
            }
            (.., [first, last]) => (*first as u32, *last as u32),
            _ => (0, 0),
        };
        Self(first as u64 | CASE, last as u64 | CASE)
    }
}

/// How the names of `XForwardedOther` begin.
const FORWARDED_TEXT: &[u8] = b"x-forwarded-";
const FORWARDED: Ends = Ends::of(FORWARDED_TEXT);

/// The rare comparison in full, out of the way of the usual one.
#[inline(never)]
fn is_same(name: &[u8], known: &[u8]) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// Lengths of names that we know end below this.
const LENGTHS: usize = 23;

/// The names of each length.
static KNOWN: [[(Ends, Name); 8]; LENGTHS] = {
    let mut table = [[(Ends(0, 0), Name::Other); 8]; LENGTHS];
    let mut at = 0;
    while at < Name::ALL.len() {
        let name = Name::ALL[at];
        let row = &mut table[name.text().len()];
        let mut free = 0;
        while !matches!(row[free].1, Name::Other) {
            free += 1;
        }
        row[free] = (Ends::of(name.text()), name);
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_nothing_else_is() {
        assert_eq!(Name::of(b"CONTENT-length"), Name::ContentLength);
        assert_eq!(Name::of(b"X-Forwarded-Anything"), Name::XForwardedOther);
        assert_eq!(Name::of(b"X-Forwarded-For"), Name::XForwardedFor);
        assert_eq!(Name::of(b"content_length"), Name::Other);
        assert_eq!(Name::of(b"proxy-authenticatE"), Name::ProxyAuthenticate);
        assert_eq!(Name::of(b"proxy-auXXenticate"), Name::Other);
        for name in Name::ALL {
            let mut text = name.text().to_vec();
            assert_eq!(Name::of(&text.to_ascii_uppercase()), name);
            for at in 0..text.len() {
                text[at] ^= 1;
                let other = Name::of(&text);
                assert!(matches!(other, Name::Other | Name::XForwardedOther), "{other:?}");
                text[at] ^= 1;
            }
            assert_ne!(Name::of(&text[1..]), name);
        }
        assert_eq!(Name::of(b""), Name::Other);
    }
}
