//! Header fields: one block of bytes and an index into it. What a field *means* is not known here.

use std::ops::Range;

use super::name::{Name, NameSet};

/// A piece of the block. Heads are bounded far below 4 GiB (`limits::HEAD_MAX`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    at: u32,
    len: u32,
}

/// A field line as it goes out: `name: value` and CRLF, from `at` to `end` of the block.
#[derive(Clone, Copy, Debug)]
struct FieldLine {
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
    lines: Vec<FieldLine>,
    present: NameSet,
}

/// A field section that was taken over; see [`Fields::begin_section`].
#[derive(Debug)]
pub struct Section {
    at: usize,
    from: usize,
    len: usize,
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

/// Where in the octets of a list one field is.
#[derive(Clone, Debug)]
pub struct FieldPlace {
    pub name: Range<usize>,
    pub value: Range<usize>,
}

impl Fields {
    /// Forgets everything but the memory; gives memory back above `keep` octets.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.lines.clear();
        self.present = NameSet::default();
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
        let at = self.bytes.len();
        self.bytes.reserve(name.len() + value.len() + 4);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.index(at, name.len(), self.bytes.len(), known);
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

    /// Adds fields that were made before. `others` must hold nothing but fields that go out.
    pub fn append(&mut self, others: &Self) {
        let base = span(self.bytes.len(), 0).at;
        self.bytes.extend_from_slice(&others.bytes);
        let moved =
            |line: &FieldLine| FieldLine { at: base + line.at, end: base + line.end, ..*line };
        self.lines.extend(others.lines.iter().map(moved));
        self.present = self.present.or(others.present);
    }

    fn index(&mut self, at: usize, name_len: usize, end: usize, known: Name) {
        let (whole, name) = (span(at, end - at), span(at, name_len));
        self.lines.push(FieldLine {
            at: whole.at,
            name_len: name.len,
            end: whole.at + whole.len,
            known,
        });
        self.present = self.present.and(known);
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

    /// Whether a field of one of these names may be there. False is certain.
    #[must_use]
    #[inline]
    pub const fn has_any(&self, names: NameSet) -> bool {
        self.present.has_any(names)
    }

    /// Whether a field of this name may be there. False is certain.
    #[must_use]
    #[inline]
    pub const fn has(&self, known: Name) -> bool {
        self.present.has(known)
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
            self.present = self.present.without(NameSet::of(&[known]));
        }
    }

    /// Takes out every field of any of these names, in one pass.
    #[inline]
    pub fn remove_all(&mut self, names: NameSet) {
        if self.present.has_any(names) {
            self.lines.retain(|line| !names.has(line.known));
            self.present = self.present.without(names);
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
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'_>> {
        self.lines.iter().map(|line| Field {
            name: &self.bytes[line.at as usize..(line.at + line.name_len) as usize],
            value: self.value_of(line),
            known: line.known,
        })
    }

    fn value_of(&self, line: &FieldLine) -> &[u8] {
        &self.bytes[(line.at + line.name_len + 2) as usize..(line.end - 2) as usize]
    }

    /// The octets that fields lie in, and others, and where in them the name and the value of each field are: for
    /// a copy of all at once.
    pub fn places(&self) -> (&[u8], impl Iterator<Item = FieldPlace>) {
        let place = |line: &FieldLine| {
            let (at, end) = (line.at as usize, line.end as usize);
            let colon = at + line.name_len as usize;
            FieldPlace { name: at..colon, value: colon + 2..end - 2 }
        };
        (&self.bytes, self.lines.iter().map(place))
    }

    /// Hands the fields out as lines that end in CRLF; neighbours in the block come together.
    pub fn each_block(&self, mut each: impl FnMut(&[u8])) {
        let (mut at, mut end) = (0, 0);
        for line in &self.lines {
            if line.at != end {
                each(&self.bytes[at as usize..end as usize]);
                at = line.at;
            }
            end = line.end;
        }
        each(&self.bytes[at as usize..end as usize]);
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
        fields.remove_all(NameSet::of(&[Name::Via, Name::Te]));
        assert_eq!(fields.len(), 1);
        fields.set(b"host", b"b.example");
        assert_eq!(fields.only(Name::Host), Some(&b"b.example"[..]));
        assert_eq!(fields.len(), 1);
    }
}
