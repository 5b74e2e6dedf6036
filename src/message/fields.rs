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
    /// Recognises a field name, whatever its case. Length and first letter leave one candidate.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let (known, found): (&str, Self) = match (name.len(), first | 0x20) {
            (2, b't') => ("te", Self::Te),
            (3, b'v') => ("via", Self::Via),
            (4, b'h') => ("host", Self::Host),
            (4, b'd') => ("date", Self::Date),
            (5, b'p') => ("proxy", Self::Proxy),
            (6, b'a') => ("accept", Self::Accept),
            (6, b'c') => ("cookie", Self::Cookie),
            (6, b'e') => ("expect", Self::Expect),
            (7, b'r') => ("referer", Self::Referer),
            (7, b'u') => ("upgrade", Self::Upgrade),
            (7, b't') => ("trailer", Self::Trailer),
            (9, b'f') => ("forwarded", Self::Forwarded),
            (9, b'x') => ("x-real-ip", Self::XRealIp),
            (10, b'c') => ("connection", Self::Connection),
            (10, b'u') => ("user-agent", Self::UserAgent),
            (10, b's') => ("set-cookie", Self::SetCookie),
            (10, b'k') => ("keep-alive", Self::KeepAlive),
            (12, b'x') => ("x-request-id", Self::XRequestId),
            (12, b'm') => ("max-forwards", Self::MaxForwards),
            (12, b'p') => ("proxy-status", Self::ProxyStatus),
            (13, b'a') => ("authorization", Self::Authorization),
            (14, b'c') => ("content-length", Self::ContentLength),
            (14, b'h') => ("http2-settings", Self::Http2Settings),
            (16, b'p') => ("proxy-connection", Self::ProxyConnection),
            (17, b't') => ("transfer-encoding", Self::TransferEncoding),
            (18, b'p') => ("proxy-authenticate", Self::ProxyAuthenticate),
            (19, b'p') => ("proxy-authorization", Self::ProxyAuthorization),
            (13.., b'x') => return Self::forwarded(name),
            _ => return Self::Other,
        };
        if is_same(name, known.as_bytes()) { found } else { Self::Other }
    }

    /// `X-Forwarded-` and something.
    fn forwarded(name: &[u8]) -> Self {
        let (prefix, rest) = name.split_at(12);
        if !is_same(prefix, b"x-forwarded-") {
            return Self::Other;
        }
        match rest.to_ascii_lowercase().as_slice() {
            b"for" => Self::XForwardedFor,
            b"proto" => Self::XForwardedProto,
            b"host" => Self::XForwardedHost,
            b"port" => Self::XForwardedPort,
            _ => Self::XForwardedOther,
        }
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

/// A field line as it goes out: `name: value` and CRLF, from `at` to `end` of the block.
#[derive(Clone, Copy, Debug)]
struct Line {
    at: u32,
    name_len: u32,
    end: u32,
    known: Name,
}

/// A list of fields in the order they came, with their case, in one reusable block of bytes.
/// Every indexed line of the block is in canonical form, so that neighbours go out together.
/// Clearing keeps the memory, so that a recycled list allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    present: u64,
}

/// A field section that was taken over; see [`Fields::begin_section`].
#[derive(Debug)]
pub struct Section {
    at: usize,
    from: usize,
    len: usize,
}

/// A field that is the same for many messages, made once.
#[derive(Clone, Debug)]
pub struct FieldLine {
    bytes: Box<[u8]>,
    name_len: usize,
    known: Name,
}

impl FieldLine {
    /// A field line.
    #[must_use]
    pub fn new(known: Name, name: &[u8], value: &[u8]) -> Self {
        let bytes = [name, b": ", value, b"\r\n"].concat().into_boxed_slice();
        Self { bytes, name_len: name.len(), known }
    }
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
        self.push_parts(known, name, &[value]);
    }

    /// Adds a field whose value is made of pieces.
    pub fn push_parts(&mut self, known: Name, name: &[u8], parts: &[&[u8]]) {
        let at = self.bytes.len();
        let value_len: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.reserve(name.len() + value_len + 4);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.extend_from_slice(b"\r\n");
        self.index(at, name.len(), self.bytes.len(), known);
    }

    /// Adds a field that was made before: name, colon, space, value and CRLF.
    pub fn push_line(&mut self, line: &FieldLine) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&line.bytes);
        self.index(at, line.name_len, self.bytes.len(), line.known);
    }

    fn index(&mut self, at: usize, name_len: usize, end: usize, known: Name) {
        let (whole, name) = (span(at, end - at), span(at, name_len));
        self.lines.push(Line {
            at: whole.at,
            name_len: name.len,
            end: whole.at + whole.len,
            known,
        });
        self.present |= known.bit();
    }

    /// For the codec: lines in canonical form follow, which begin at `start` of their head.
    #[must_use]
    pub fn begin_lines(&self, start: usize) -> usize {
        self.bytes.len().wrapping_sub(start)
    }

    /// For the codec: a line at `at..end` of the head, whose bytes come with `end_lines`.
    #[inline]
    pub fn add_line(&mut self, base: usize, at: usize, name_len: usize, end: usize, known: Name) {
        self.index(base.wrapping_add(at), name_len, base.wrapping_add(end), known);
    }

    /// For the codec: the octets that the lines were found in.
    pub fn end_lines(&mut self, section: &[u8]) {
        self.bytes.extend_from_slice(section);
    }

    /// For the codec: takes the field section of a parsed head over, all of it at once. Only what
    /// is then given to `push_section` can be reached.
    pub fn begin_section(&mut self, section: &[u8]) -> Section {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(section);
        Section { at, from: section.as_ptr() as usize, len: section.len() }
    }

    /// For the codec: a field that was found in the section. A line that is in canonical form
    /// already is only indexed; any other is written anew.
    pub fn push_section(&mut self, section: &Section, known: Name, name: &[u8], value: &[u8]) {
        // Where the value's slice stands behind the name's says how the line was written.
        let offset = (name.as_ptr() as usize).wrapping_sub(section.from);
        let gap = (value.as_ptr() as usize).wrapping_sub(name.as_ptr() as usize);
        let end = offset.saturating_add(name.len() + value.len() + 4);
        if gap == name.len() + 2 && end <= section.len {
            let (at, end) = (section.at + offset, section.at + end);
            let colon = at + name.len();
            if &self.bytes[colon..colon + 2] == b": " && &self.bytes[end - 2..end] == b"\r\n" {
                return self.index(at, name.len(), end, known);
            }
        }
        self.push_known(known, name, value);
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
        lines.iter().filter(move |line| line.known == known).map(|line| self.value_of(line))
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
                    let at = line.at as usize;
                    !bytes[at..at + line.name_len as usize].eq_ignore_ascii_case(name)
                });
            }
            known => self.remove(known),
        }
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().map(|line| Field {
            name: &self.bytes[line.at as usize..(line.at + line.name_len) as usize],
            value: self.value_of(line),
            known: line.known,
        })
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        &self.bytes[(line.at + line.name_len + 2) as usize..(line.end - 2) as usize]
    }

    /// The fields as lines that end in CRLF; neighbours in the block come together.
    pub fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        let mut lines = self.lines.iter().peekable();
        std::iter::from_fn(move || {
            let first = lines.next()?;
            let mut end = first.end;
            while let Some(next) = lines.next_if(|next| next.at == end) {
                end = next.end;
            }
            Some(&self.bytes[first.at as usize..end as usize])
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
        self.bytes.len()
    }
}

/// Whether a field name is a known one, eight octets at a time. `known` is in lower case and of the
/// same length. Among the octets that a name may hold, setting the case bit makes only a letter
/// equal to its lower case.
#[inline]
fn is_same(name: &[u8], known: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let len = known.len();
    if len < 8 || name.len() != len {
        return name.eq_ignore_ascii_case(known);
    }
    let mut at = 0;
    while at + 8 <= len {
        if word(name, at) | CASE != word(known, at) {
            return false;
        }
        at += 8;
    }
    // The last eight overlap those before.
    word(name, len - 8) | CASE == word(known, len - 8)
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
