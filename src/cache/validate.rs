//! Conditional requests: a client's, answered from a stored response (RFC 9110 section 13), and
//! ours, whose 304 brings a stored response up to date (RFC 9111 section 4.3).

use super::entry::{Entry, Large, lines};
use super::range::{self, WantedRange};
use crate::message::date;
use crate::message::fields::Fields;
use crate::message::name::{Name, NameSet};

/// What a client wants to know or have, beyond the whole response.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    fields: Fields,
}

/// The fields that this is about; those of `ASKS_ORIGIN` are the origin's to decide.
const CONDITIONS: NameSet =
    NameSet::of(&[Name::IfNoneMatch, Name::IfModifiedSince, Name::Range, Name::IfRange]);
const ASKS_ORIGIN: NameSet = NameSet::of(&[Name::IfMatch, Name::IfUnmodifiedSince]);

/// Whether only the origin can tell (RFC 9110 section 13.2.1: a cache has no authority over these).
#[must_use]
pub fn is_for_origin(fields: &Fields) -> bool {
    fields.has_any(ASKS_ORIGIN)
}

/// Takes the conditions out of a request that fetches for all clients.
pub fn strip(fields: &mut Fields) {
    fields.remove_all(CONDITIONS);
}

/// Makes a request ask whether a stored response is still good (RFC 9111 section 4.3.1).
pub fn ask_about(entry: &Entry, fields: &mut Fields) {
    if let Some(etag) = entry.etag() {
        fields.push_known(Name::IfNoneMatch, b"If-None-Match", etag);
    }
    if let Some(modified) = entry.field(Name::LastModified).filter(|_| entry.modified().is_some()) {
        fields.push_known(Name::IfModifiedSince, b"If-Modified-Since", modified);
    }
}

/// Whether a stored response can be asked about.
#[must_use]
pub fn can_validate(entry: &Entry) -> bool {
    !entry.is_partial() && (entry.etag().is_some() || entry.modified().is_some())
}

impl Conditions {
    /// Of a request as the client sent it.
    #[must_use]
    pub fn of(fields: &Fields) -> Self {
        let mut kept = Fields::default();
        if fields.has_any(CONDITIONS) {
            for field in fields.iter().filter(|field| CONDITIONS.has(field.known)) {
                kept.push_known(field.known, field.name, field.value);
            }
        }
        Self { fields: kept }
    }

    /// Whether a part is asked for.
    #[must_use]
    pub fn has_range(&self) -> bool {
        self.fields.has(Name::Range)
    }
}

/// What a client gets of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAnswer {
    NotModified,
    Whole,
    Part(u64, u64),
    Parts(Vec<(u64, u64)>),
    Unsatisfiable,
}

/// Answers a client's conditions from a response, of whose body `len` octets there are, if that is
/// known already (RFC 9110 section 13.2.2). Parts are for GET only (section 14.2).
#[must_use]
pub fn answer(entry: &Entry, fields: &Fields, is_get: bool, len: Option<u64>) -> StoredAnswer {
    // Preconditions are for what would be a success without them (section 13.2.1).
    if entry.status() != 200 && entry.status() != 206 || !fields.has_any(CONDITIONS) {
        return StoredAnswer::Whole;
    }
    if is_not_modified(entry, fields) {
        return StoredAnswer::NotModified;
    }
    let (Some(wanted), Some(len)) = (fields.only(Name::Range), len) else {
        return StoredAnswer::Whole;
    };
    if !is_get || !may_have_part(entry, fields) {
        return StoredAnswer::Whole;
    }
    match range::parse(wanted, len) {
        WantedRange::Whole => StoredAnswer::Whole,
        WantedRange::One(first, count) => StoredAnswer::Part(first, count),
        WantedRange::Many(parts) => StoredAnswer::Parts(parts),
        WantedRange::Unsatisfiable => StoredAnswer::Unsatisfiable,
    }
}

/// Answers a client's conditions from a stored response that is not growing. Of one that is stored
/// in part only that part is there: it is what the client gets if it wants another.
#[must_use]
pub fn answer_of(entry: &Entry, fields: &Fields, is_get: bool) -> StoredAnswer {
    let found = answer(entry, fields, is_get, entry.body_len());
    let Some(Large::Partial { first, data, .. }) = entry.large() else { return found };
    if found == StoredAnswer::NotModified || holds(entry, &found) {
        return found;
    }
    StoredAnswer::Part(*first, data.len() as u64)
}

/// Whether what a client gets is there, of a response that is stored in part.
fn holds(entry: &Entry, wanted: &StoredAnswer) -> bool {
    let Some(Large::Partial { first: begins, data, .. }) = entry.large() else { return true };
    let StoredAnswer::Part(first, count) = wanted else { return false };
    first >= begins && first + count <= begins + data.len() as u64
}

/// Whether a response that is stored in part has the part that a request wants.
#[must_use]
pub fn has_part(entry: &Entry, fields: &Fields) -> bool {
    holds(entry, &answer(entry, fields, true, entry.body_len()))
}

fn is_not_modified(entry: &Entry, fields: &Fields) -> bool {
    // Section 13.1.3: If-None-Match goes first, whatever it says.
    if fields.has(Name::IfNoneMatch) {
        let mut tags = fields.values(Name::IfNoneMatch).flat_map(tags);
        return tags.any(|tag| {
            tag == b"*" || entry.etag().is_some_and(|etag| opaque(etag) == opaque(tag))
        });
    }
    let Some(since) = fields.only(Name::IfModifiedSince).and_then(date::parse) else {
        return false;
    };
    let modified = entry.modified().or_else(|| entry.field(Name::Date).and_then(date::parse));
    modified.is_some_and(|modified| modified <= since)
}

/// The members of a list of entity tags, in which commas may stand inside of quotes.
fn tags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', tail @ ..] = rest {
            rest = tail;
        }
        let quote = match rest {
            [] => return None,
            [b'"', ..] => 1,
            [b'W', b'/', b'"', ..] => 3,
            // What is no tag ends at the next comma.
            _ => rest.len(),
        };
        let end = match rest.get(quote..).and_then(|tag| memchr::memchr(b'"', tag)) {
            Some(at) => quote + at + 1,
            None => memchr::memchr(b',', rest).unwrap_or(rest.len()),
        };
        let (tag, tail) = rest.split_at(end);
        rest = tail;
        Some(tag.trim_ascii())
    })
}

/// Section 13.1.5: a part only of the very same representation.
fn may_have_part(entry: &Entry, fields: &Fields) -> bool {
    let Some(condition) = fields.values(Name::IfRange).next() else { return true };
    if condition.ends_with(b"\"") {
        return entry.etag() == Some(condition) && !condition.starts_with(b"W/");
    }
    // Section 8.8.2.2: a date is as strong as a tag if it was old when the response was made.
    let dated = |name| entry.field(name).and_then(date::parse);
    let (Some(modified), Some(made)) = (dated(Name::LastModified), dated(Name::Date)) else {
        return false;
    };
    modified < made && Some(modified) == date::parse(condition)
}

/// Section 8.8.3.2, weak comparison.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a 304 (or the answer to a HEAD) speaks of this stored response (RFC 9111 sections 4.3.4
/// and 4.3.5).
#[must_use]
pub fn confirms(entry: &Entry, response: &Fields) -> bool {
    if let Some(tag) = response.values(Name::Etag).next() {
        let stored = entry.etag().unwrap_or_default();
        // There is one candidate. A server that changes bodies on their way (gzip) weakens the tag of
        // the 200 and has nothing to weaken in the 304.
        return opaque(tag) == opaque(stored);
    }
    if let Some(modified) = response.values(Name::LastModified).next().and_then(date::parse) {
        return entry.modified().is_none_or(|stored| stored == modified);
    }
    true
}

/// Whether a part is of the very body that is stored whole, as far as can be told: then there is
/// nothing in it that we do not have.
#[must_use]
pub fn is_part_of(part: &Entry, whole: &Entry) -> bool {
    let differ = |one: Option<&[u8]>, other: Option<&[u8]>| matches!((one, other), (Some(one), Some(other)) if one != other);
    let dated = |entry: &Entry| entry.modified();
    part.body_len() == whole.body_len()
        && !differ(part.etag(), whole.etag())
        && !matches!((dated(part), dated(whole)), (Some(one), Some(other)) if one != other)
}

/// What a 304 does not change: it would not fit the body any more (RFC 9111 section 3.2).
const BODYS: NameSet = NameSet::of(&[Name::ContentLength, Name::ContentRange]);

/// A stored response's fields after a 304: those that came replace those that were there
/// (section 3.2).
#[must_use]
pub fn updated(entry: &Entry, response: &Fields) -> Fields {
    let is_weak = entry.etag().is_some_and(|tag| tag.starts_with(b"W/"));
    let stays = |name: &[u8]| {
        // A strong tag is no promise about octets that had a weak one.
        (is_weak && Name::of(name) == Name::Etag)
            || BODYS.has(Name::of(name))
            || name.eq_ignore_ascii_case(b"content-encoding")
    };
    let mut fields = Fields::default();
    let has_date = response.has(Name::Date);
    for (_, line) in lines(entry.fields()) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = &line[..colon];
        // RFC 9110 section 6.6.1: without a Date it was made when it came.
        let is_new = response.iter().any(|field| field.name.eq_ignore_ascii_case(name))
            || (!has_date && Name::of(name) == Name::Date);
        if !is_new || stays(name) {
            fields.push(name, line.get(colon + 2..).unwrap_or_default());
        }
    }
    for field in response.iter().filter(|field| !stays(field.name)) {
        fields.push_known(field.known, field.name, field.value);
    }
    fields
}

#[cfg(test)]
#[expect(clippy::type_complexity, reason = "tables of cases")]
mod tests {
    use super::*;
    use crate::cache::entry::Draft;
    use crate::cache::freshness::Freshness;

    fn entry(fields: &str) -> Entry {
        let draft = Draft {
            key: b"",
            selecting: b"",
            fields: fields.as_bytes(),
            status: 200,
            freshness: Freshness::default(),
            modified: fields.contains("Last-Mod").then_some(784_111_777),
        };
        draft.small(b"0123456789")
    }

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        fields
    }

    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const OLDER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const RFC850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";

    #[test]
    fn conditions_are_answered() {
        // RFC 9110 sections 13.1 and 13.2.
        let stored = "ETag: \"a\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
        let young = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let comma = "ETag: \"a,b\"\r\n";
        let weak = "ETag: W/\"a\"\r\n";
        let dated = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let inm = "If-None-Match";
        let ims = "If-Modified-Since";
        let (whole, same) = (StoredAnswer::Whole, StoredAnswer::NotModified);
        let cases: &[(&str, &[(&str, &str)], &StoredAnswer)] = &[
            (stored, &[(inm, "\"a\"")], &same),
            (stored, &[(inm, "W/\"a\"")], &same),
            (stored, &[(inm, "\"x\", \"a\", \"y\"")], &same),
            (stored, &[(inm, "\"x\""), (inm, "\"a\"")], &same),
            (stored, &[(inm, "*")], &same),
            (comma, &[(inm, "\"x\",\"a,b\"")], &same),
            (comma, &[(inm, "\"a\", b\"")], &whole),
            (stored, &[(inm, "junk, , W/\"a\"")], &same),
            (stored, &[(inm, "a")], &whole),
            (stored, &[(inm, "\"b\""), (ims, SAME)], &whole),
            (stored, &[(inm, "\"a\""), (ims, OLDER)], &same),
            (weak, &[(inm, "\"a\"")], &same),
            (stored, &[(ims, SAME)], &same),
            (stored, &[(ims, RFC850)], &same),
            (stored, &[(ims, OLDER)], &whole),
            (stored, &[(ims, "yesterday")], &whole),
            (dated, &[(ims, SAME)], &same),
            (stored, &[("Range", "bytes=2-3")], &StoredAnswer::Part(2, 2)),
            (stored, &[("Range", "bytes=2-3"), (inm, "\"a\"")], &same),
            (stored, &[("Range", "bytes=2-3"), ("If-Range", "\"a\"")], &StoredAnswer::Part(2, 2)),
            (stored, &[("Range", "bytes=2-3"), ("If-Range", "\"b\"")], &whole),
            (weak, &[("Range", "bytes=2-3"), ("If-Range", "W/\"a\"")], &whole),
            (stored, &[("Range", "bytes=2-3"), ("If-Range", SAME)], &StoredAnswer::Part(2, 2)),
            (stored, &[("Range", "bytes=2-3"), ("If-Range", OLDER)], &whole),
            (young, &[("Range", "bytes=2-3"), ("If-Range", SAME)], &whole),
            (stored, &[("Range", "bytes=10-")], &StoredAnswer::Unsatisfiable),
        ];
        for (stored, asked, expected) in cases {
            let found = answer(&entry(stored), &fields(asked), true, Some(10));
            assert_eq!(found, **expected, "{stored} {asked:?}");
        }
        let head = answer(&entry(stored), &fields(&[("Range", "bytes=2-3")]), false, Some(10));
        assert_eq!(head, whole, "a HEAD has no parts");
    }

    #[test]
    fn a_304_speaks_of_one_response_and_updates_it() {
        // RFC 9111 sections 3.2 and 4.3.4.
        let cases: &[(&str, &[(&str, &str)], bool)] = &[
            ("ETag: \"a\"\r\n", &[("ETag", "\"a\"")], true),
            ("ETag: \"a\"\r\n", &[("ETag", "\"b\"")], false),
            ("ETag: W/\"a\"\r\n", &[("ETag", "W/\"a\"")], true),
            // A filter of the server's has weakened the tag of the 200 (exam R15).
            ("ETag: W/\"a\"\r\n", &[("ETag", "\"a\"")], true),
            ("ETag: \"a\"\r\n", &[], true),
            ("Last-Modified: x\r\n", &[("Last-Modified", SAME)], true),
            ("Last-Modified: x\r\n", &[("Last-Modified", OLDER)], false),
        ];
        for (stored, came, expected) in cases {
            assert_eq!(confirms(&entry(stored), &fields(came)), *expected, "{stored} {came:?}");
        }
        let stored = entry("A: 1\r\nB: 2\r\nContent-Length: 5\r\nContent-Encoding: x\r\n");
        let came = fields(&[("b", "3"), ("C", "4"), ("Content-Length", "9")]);
        let mut out = Vec::new();
        updated(&stored, &came).each_block(|block| out.extend_from_slice(block));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "A: 1\r\nContent-Length: 5\r\nContent-Encoding: x\r\nb: 3\r\nC: 4\r\n");
    }

    #[test]
    fn requests_ask_about_what_is_stored() {
        let mut request = fields(&[("If-None-Match", "\"theirs\""), ("Range", "bytes=1-")]);
        let kept = Conditions::of(&request);
        assert!(kept.has_range());
        strip(&mut request);
        let stored = entry("ETag: \"a\"\r\nLast-Modified: x\r\n");
        assert!(can_validate(&stored) && !can_validate(&entry("A: b\r\n")));
        ask_about(&stored, &mut request);
        let all: Vec<&[u8]> = request.iter().map(|field| field.value).collect();
        assert_eq!(all, [&b"\"a\""[..], b"x"]);
        assert!(is_for_origin(&fields(&[("If-Match", "*")])));
    }
}
