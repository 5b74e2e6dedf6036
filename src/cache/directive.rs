//! Cache-Control of requests and responses (RFC 9111 section 5.2), and the targeted fields that go
//! before it (RFC 9213). Where directives are repeated or contradict each other, the one that
//! makes a response less fresh counts (section 4.2.1).

use crate::base::limits::SECONDS_MAX;
use crate::message::fields::Fields;
use crate::message::name::{Name, NameSet};

/// What a Cache-Control field says. Seconds are clamped to `SECONDS_MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub immutable: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u32>,
    pub s_maxage: Option<u32>,
    /// RFC 5861 section 3.
    pub stale_while_revalidate: Option<u32>,
    /// RFC 5861 section 4.
    pub stale_if_error: Option<u32>,
    /// `SECONDS_MAX` for `max-stale` without a value.
    pub max_stale: Option<u32>,
    pub min_fresh: Option<u32>,
    /// Fields that `no-cache` or `private` names: the rest of the response may be stored without
    /// them (sections 5.2.2.4 and 5.2.2.7).
    pub withheld: Vec<Box<[u8]>>,
}

/// The targeted fields that are meant for us, the most specific first (RFC 9213 section 2.2).
const TARGETED: [Name; 2] = [Name::MillraceCacheControl, Name::CdnCacheControl];

/// What a response says to this cache, and whether it said so in a targeted field: then neither
/// Cache-Control nor Expires count.
#[must_use]
pub fn of_response(fields: &Fields) -> (Directives, bool) {
    for name in TARGETED {
        if fields.has(name)
            && let Some(directives) = targeted(fields.values(name))
        {
            return (directives, true);
        }
    }
    (parse(fields.values(Name::CacheControl)), false)
}

/// What a request says. Without Cache-Control, `Pragma: no-cache` is the same as
/// `Cache-Control: no-cache` (section 5.4).
#[must_use]
pub fn of_request(fields: &Fields) -> Directives {
    if !fields.has_any(NameSet::of(&[Name::CacheControl, Name::Pragma])) {
        return Directives::default();
    }
    let mut directives = parse(fields.values(Name::CacheControl));
    if !fields.has(Name::CacheControl) {
        let mut members = crate::message::fields::list(fields.values(Name::Pragma));
        directives.no_cache = members.any(|one| one.eq_ignore_ascii_case(b"no-cache"));
    }
    directives
}

/// Reads Cache-Control fields.
#[must_use]
pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Directives {
    let mut found = Directives::default();
    for value in values {
        members(value, |name, argument| found.add(name, argument));
    }
    found
}

impl Directives {
    fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let name = name.to_ascii_lowercase();
        match (name.as_slice(), argument) {
            (b"no-cache" | b"private", Some(fields))
                if fields.iter().any(u8::is_ascii_alphabetic) =>
            {
                let names = fields.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                self.withheld.extend(names.filter(|name| !name.is_empty()).map(Box::from));
            }
            _ => self.set(&name, argument.map(seconds)),
        }
    }

    /// One directive, whose argument, if it has one, is so many seconds.
    fn set(&mut self, name: &[u8], argument: Option<Option<u32>>) {
        // Without a number, or with one that is none, nothing is fresh.
        let short = argument.flatten().unwrap_or(0);
        match name {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"immutable" => self.immutable = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => least(&mut self.max_age, short),
            b"s-maxage" => least(&mut self.s_maxage, short),
            b"stale-while-revalidate" => least(&mut self.stale_while_revalidate, short),
            b"stale-if-error" => least(&mut self.stale_if_error, short),
            b"max-stale" if argument.is_none() => least(&mut self.max_stale, SECONDS_MAX),
            b"max-stale" => least(&mut self.max_stale, short),
            // Wanting more freshness is the careful reading.
            b"min-fresh" => {
                let most = argument.flatten().unwrap_or(SECONDS_MAX);
                self.min_fresh = Some(self.min_fresh.map_or(most, |old| old.max(most)));
            }
            _ => {}
        }
    }
}

fn least(place: &mut Option<u32>, value: u32) {
    *place = Some(place.map_or(value, |old| old.min(value)));
}

/// Digits, in quotes or not, clamped; `None` for anything else.
#[must_use]
pub fn seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    let number = text.iter().fold(0, add);
    Some(u32::try_from(number).map_or(SECONDS_MAX, |number| number.min(SECONDS_MAX)))
}

/// Splits a list of directives; commas and equals signs inside of quotes are text. A name with
/// white space around its `=` is no directive that we know.
fn members<'a>(value: &'a [u8], mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
    let mut rest = value;
    while !rest.is_empty() {
        let (member, after) = split_member(rest);
        rest = after;
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        match member.iter().position(|byte| *byte == b'=') {
            None => each(member, None),
            Some(at) => {
                let argument = &member[at + 1..];
                let inner = argument.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
                each(&member[..at], Some(inner.unwrap_or(argument)));
            }
        }
    }
}

fn split_member(text: &[u8]) -> (&[u8], &[u8]) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, b"")
}

/// A targeted field: a dictionary of structured fields (RFC 9213 section 2.1, RFC 9651). `None`
/// if it is empty or no dictionary: then it is as if it were not there.
fn targeted<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Directives> {
    let mut joined = Vec::new();
    for value in values {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value);
    }
    let text = std::str::from_utf8(&joined).ok()?;
    let members: sfv::Dictionary = sfv::Parser::new(text).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut found = Directives::default();
    for (name, entry) in &members {
        let sfv::ListEntry::Item(item) = entry else { continue };
        let name = name.as_str().as_bytes();
        match &item.bare_item {
            sfv::BareItem::Boolean(true) => found.set(name, None),
            sfv::BareItem::Integer(number) => {
                let number = i64::from(*number).max(0);
                let number = u32::try_from(number).map_or(SECONDS_MAX, |one| one.min(SECONDS_MAX));
                found.set(name, Some(Some(number)));
            }
            // Section 2.1: a value of the wrong type counts as if its directive were not there.
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
#[expect(clippy::type_complexity, reason = "tables of cases")]
mod tests {
    use super::*;

    fn of(text: &str) -> Directives {
        parse(std::iter::once(text.as_bytes()))
    }

    #[test]
    fn numbers_are_read_strictly_and_the_least_counts() {
        // RFC 9111 sections 1.2.2, 4.2.1 and 5.2.
        let cases: &[(&str, Option<u32>)] = &[
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("max-age=003600", Some(3600)),
            ("max-age='3600'", Some(0)),
            ("max-age=3600.0", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=+1", Some(0)),
            ("max-age=a3600", Some(0)),
            ("max-age= 3600", Some(0)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age =3600", None),
            ("max-age=2147483648", Some(SECONDS_MAX)),
            ("max-age=99999999999999999999999", Some(SECONDS_MAX)),
            ("max-age=1800, max-age=1", Some(1)),
            ("max-age=1, max-age=1800", Some(1)),
            ("extension=\"max-age=3600\", max-age=1", Some(1)),
            ("extension=\"a\\\", max-age=3600\"", None),
            ("foo, max-age=7,,bar=\"b, max-age=3\"", Some(7)),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text).max_age, *expected, "{text}");
        }
    }

    #[test]
    fn qualified_forms_name_fields() {
        let found = of("no-cache=\"a, B\", private=c, max-age=9");
        assert!(!found.no_cache && !found.private);
        let names: Vec<&[u8]> = found.withheld.iter().map(AsRef::as_ref).collect();
        assert_eq!(names, [&b"a"[..], b"B", b"c"]);
        assert!(of("no-cache=\"\"").no_cache && of("private=").private);
    }

    #[test]
    fn requests_speak_by_pragma_only_without_cache_control() {
        let mut fields = Fields::default();
        fields.push(b"Pragma", b"no-cache");
        assert!(of_request(&fields).no_cache);
        fields.push(b"Cache-Control", b"max-stale");
        let found = of_request(&fields);
        assert!(!found.no_cache && found.max_stale == Some(SECONDS_MAX));
        assert_eq!(of("max-stale=5, min-fresh=x").max_stale, Some(5));
        assert_eq!(of("min-fresh=x").min_fresh, Some(SECONDS_MAX));
    }

    #[test]
    fn targeted_fields_go_first_if_they_are_dictionaries() {
        // RFC 9213 section 2.2.
        let case = |lines: &[(&str, &str)]| {
            let mut fields = Fields::default();
            lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
            let (found, is_targeted) = of_response(&fields);
            (found.max_age, found.no_store, is_targeted)
        };
        let plain = ("Cache-Control", "no-store");
        let cases: &[(&str, (Option<u32>, bool, bool))] = &[
            ("max-age=9", (Some(9), false, true)),
            ("foo;p=\"x\", max-age=9;q", (Some(9), false, true)),
            ("max-age=99999999999", (Some(SECONDS_MAX), false, true)),
            ("max-age=10, &&&&", (None, true, false)),
            ("", (None, true, false)),
            ("max-age =10", (None, true, false)),
            ("max-age=\"10\", no-store", (None, true, true)),
            ("no-store=?0, max-age=3", (Some(3), false, true)),
            ("max-age=-5", (Some(0), false, true)),
        ];
        for (text, expected) in cases {
            assert_eq!(case(&[plain, ("CDN-Cache-Control", text)]), *expected, "{text}");
        }
        let both = [("CDN-Cache-Control", "max-age=1"), ("Millrace-Cache-Control", "max-age=2")];
        assert_eq!(case(&both).0, Some(2));
    }
}
