//! Header fields: one block of bytes and an index into it. What a field *means* is not known here.

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
}

impl Name {
    /// Recognises a field name, whatever its case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // By length first: most names differ there.
        let candidates: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Te)],
            3 => &[("via", Self::Via)],
            4 => &[("host", Self::Host), ("date", Self::Date)],
            5 => &[("proxy", Self::Proxy)],
            6 => &[("accept", Self::Accept), ("cookie", Self::Cookie), ("expect", Self::Expect)],
            7 => &[
                ("referer", Self::Referer),
                ("upgrade", Self::Upgrade),
                ("trailer", Self::Trailer),
            ],
            9 => &[("forwarded", Self::Forwarded), ("x-real-ip", Self::XRealIp)],
            10 => &[
                ("connection", Self::Connection),
                ("user-agent", Self::UserAgent),
                ("set-cookie", Self::SetCookie),
                ("keep-alive", Self::KeepAlive),
            ],
            12 => &[
                ("x-request-id", Self::XRequestId),
                ("max-forwards", Self::MaxForwards),
                ("proxy-status", Self::ProxyStatus),
            ],
            13 => &[("authorization", Self::Authorization)],
            14 => {
                &[("content-length", Self::ContentLength), ("http2-settings", Self::Http2Settings)]
            }
            15 => &[("x-forwarded-for", Self::XForwardedFor)],
            16 => &[
                ("x-forwarded-host", Self::XForwardedHost),
                ("x-forwarded-port", Self::XForwardedPort),
                ("proxy-connection", Self::ProxyConnection),
            ],
            17 => &[
                ("transfer-encoding", Self::TransferEncoding),
                ("x-forwarded-proto", Self::XForwardedProto),
            ],
            18 => &[("proxy-authenticate", Self::ProxyAuthenticate)],
            19 => &[("proxy-authorization", Self::ProxyAuthorization)],
            _ => &[],
        };
        if let Some((_, found)) = candidates.iter().find(|(known, _)| is(known)) {
            return *found;
        }
        let forwarded = name.len() > 12 && name[..12].eq_ignore_ascii_case(b"x-forwarded-");
        if forwarded { Self::XForwardedOther } else { Self::Other }
    }

    const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// A piece of the block. Heads are bounded far below 4 GiB (`limits::HEAD_MAX`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    at: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Span,
    value: Span,
    known: Name,
}

/// A list of fields in the order they came, with their case, in one reusable block of bytes.
/// Clearing keeps the memory, so that a recycled list allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    present: u64,
}

/// One field as seen by a reader.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The name as it was written.
    pub name: &'a [u8],
    /// The value without white space around it.
    pub value: &'a [u8],
    /// Which of the names we know.
    pub known: Name,
}

impl Fields {
    /// Forgets everything but the memory; gives memory back above `keep` octets.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.lines.clear();
        self.present = 0;
        self.bytes.shrink_to(keep);
    }

    /// Keeps bytes that are no field (a path, an authority) in the same block.
    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        span(at, bytes.len())
    }

    /// The bytes of a span that this list handed out.
    #[must_use]
    pub fn text(&self, span: Span) -> &[u8] {
        &self.bytes[span.at as usize..(span.at + span.len) as usize]
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_known(Name::of(name), name, value);
    }

    /// Adds a field whose name was already recognised.
    pub fn push_known(&mut self, known: Name, name: &[u8], value: &[u8]) {
        let (name, value) = (self.store(name), self.store(value));
        self.lines.push(Line { name, value, known });
        self.present |= known.bit();
    }

    /// Adds a field whose value is made of pieces.
    pub fn push_parts(&mut self, known: Name, name: &[u8], parts: &[&[u8]]) {
        let name = self.store(name);
        let at = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let value = span(at, self.bytes.len() - at);
        self.lines.push(Line { name, value, known });
        self.present |= known.bit();
    }

    /// Takes every field of this name out and adds one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove_named(name);
        self.push(name, value);
    }

    /// Whether a field of this name may be there. False is certain.
    #[must_use]
    pub fn has(&self, known: Name) -> bool {
        self.present & known.bit() != 0
    }

    /// The value of the only field of this name; `None` if there is none or more than one.
    #[must_use]
    pub fn only(&self, known: Name) -> Option<&[u8]> {
        let mut values = self.values(known);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// The values of every field of this name, in order.
    pub fn values(&self, known: Name) -> impl Iterator<Item = &[u8]> {
        let lines = if self.has(known) { self.lines.as_slice() } else { &[] };
        lines.iter().filter(move |line| line.known == known).map(|line| self.text(line.value))
    }

    /// The values of every field of this name, known or not, in order.
    pub fn values_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Takes out every field of a known name.
    pub fn remove(&mut self, known: Name) {
        if self.has(known) {
            self.lines.retain(|line| line.known != known);
            self.present &= !known.bit();
        }
    }

    /// Takes out every field of any of these names, in one pass.
    pub fn remove_all(&mut self, names: &[Name]) {
        let mask = names.iter().fold(0, |mask, name| mask | name.bit());
        if self.present & mask != 0 {
            self.lines.retain(|line| line.known.bit() & mask == 0);
            self.present &= !mask;
        }
    }

    /// Takes out every field of this name, known or not.
    pub fn remove_named(&mut self, name: &[u8]) {
        match Name::of(name) {
            Name::Other | Name::XForwardedOther => {
                let Self { bytes, lines, .. } = self;
                lines.retain(|line| {
                    let at = line.name.at as usize;
                    !bytes[at..at + line.name.len as usize].eq_ignore_ascii_case(name)
                });
            }
            known => self.remove(known),
        }
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().map(|line| Field {
            name: self.text(line.name),
            value: self.text(line.value),
            known: line.known,
        })
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// An upper bound of what these fields take on an HTTP/1 wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.bytes.len() + 4 * self.lines.len()
    }
}

/// The members of a comma-separated list in several values (RFC 9110 section 5.6.1), empty ones
/// left out. Not for lists with quoted strings in them.
pub fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// RFC 9110 section 5.6.2, tchar.
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[expect(clippy::cast_possible_truncation, reason = "heads are bounded by limits::HEAD_MAX")]
fn span(at: usize, len: usize) -> Span {
    debug_assert!(u32::try_from(at + len).is_ok(), "a head is far below 4 GiB");
    Span { at: at as u32, len: len as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields {
        let mut fields = Fields::default();
        fields.push(b"Host", b"a.example");
        fields.push(b"X-Foo", b"1");
        fields.push(b"Via", b"1.1 one, 1.1 two");
        fields.push(b"x-foo", b"2");
        fields.push(b"via", b"1.0 three");
        fields
    }

    #[test]
    fn names_are_known_in_any_case_and_nothing_else_is() {
        assert_eq!(Name::of(b"CONTENT-length"), Name::ContentLength);
        assert_eq!(Name::of(b"X-Forwarded-Anything"), Name::XForwardedOther);
        assert_eq!(Name::of(b"X-Forwarded-For"), Name::XForwardedFor);
        assert_eq!(Name::of(b"content_length"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn lists_run_over_several_lines() {
        let fields = sample();
        let hops: Vec<&[u8]> = list(fields.values(Name::Via)).collect();
        assert_eq!(hops, [&b"1.1 one"[..], b"1.1 two", b"1.0 three"]);
        assert_eq!(fields.only(Name::Via), None);
        assert_eq!(fields.only(Name::Host), Some(&b"a.example"[..]));
    }

    #[test]
    fn removing_takes_every_line_of_a_name() {
        let mut fields = sample();
        fields.remove_named(b"X-FOO");
        fields.remove_all(&[Name::Via, Name::Te]);
        assert_eq!(fields.len(), 1);
        fields.set(b"host", b"b.example");
        assert_eq!(fields.only(Name::Host), Some(&b"b.example"[..]));
        assert_eq!(fields.len(), 1);
    }
}
