//! Which requests a stored response answers beside the one it was made for (RFC 9111 section 4.1).

use crate::message::fields::{Fields, list};
use crate::message::name::Name;

/// The fields that select a response, with what the request had in each: `name\0value\0` one after
/// the other. A missing field is told from an empty one by `\x01` for its value.
pub type Selecting = Vec<u8>;

/// Fields that we write ourselves, different for each request: a response that depends on them
/// cannot be chosen by what the client sent.
const OURS: [&[u8]; 5] = [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"x-request-id", b"via"];

/// What selects this response for others like this request; `None` if nothing can (`*`).
#[must_use]
pub fn selecting(response: &Fields, request: &Fields) -> Option<Selecting> {
    let mut out = Vec::new();
    let mut names: Vec<Vec<u8>> =
        list(response.values(Name::Vary)).map(<[u8]>::to_ascii_lowercase).collect();
    names.sort_unstable();
    names.dedup();
    for name in &names {
        if name == b"*" || OURS.contains(&name.as_slice()) {
            return None;
        }
        out.extend_from_slice(name);
        out.push(0);
        normal(request, name, &mut out);
        out.push(0);
    }
    Some(out)
}

/// Whether a request has in all of these fields what the stored one had.
#[must_use]
pub fn matches(selecting: &[u8], request: &Fields) -> bool {
    if selecting.is_empty() {
        return true;
    }
    let mut value = Vec::new();
    pairs(selecting).all(|(name, stored)| {
        value.clear();
        normal(request, name, &mut value);
        value == stored
    })
}

/// Whether two requests have the same in the fields that select a response.
#[must_use]
pub fn agree(selecting: &[u8], one: &Fields, other: &Fields) -> bool {
    let value = |name: &[u8], fields: &Fields| {
        let mut out = Vec::new();
        normal(fields, name, &mut out);
        out
    };
    pairs(selecting).all(|(name, _)| value(name, one) == value(name, other))
}

/// Whether two stored responses are selected by the same fields.
#[must_use]
pub fn same_names(one: &[u8], other: &[u8]) -> bool {
    pairs(one).map(|pair| pair.0).eq(pairs(other).map(|pair| pair.0))
}

/// The names of the fields, for the sake of what `matches` would compare.
pub fn pairs(selecting: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut parts = selecting.split(|byte| *byte == 0);
    std::iter::from_fn(move || {
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some((name, parts.next()?))
    })
}

/// The value of a field in a form in which equal meanings are equal octets: lines joined, no white
/// space around commas; for language and coding lists also lower case and in order.
fn normal(request: &Fields, name: &[u8], out: &mut Vec<u8>) {
    let mut is_there = false;
    let from = out.len();
    let is_set = matches!(name, b"accept-encoding" | b"accept-language" | b"accept-charset");
    let mut sorted: Vec<Vec<u8>> = Vec::new();
    for value in request.values_named(name) {
        is_there = true;
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if is_set {
                let mut member = member.to_ascii_lowercase();
                member.retain(|byte| !matches!(byte, b' ' | b'\t'));
                sorted.push(member);
            } else {
                if out.len() > from {
                    out.push(b',');
                }
                out.extend_from_slice(member);
            }
        }
    }
    if !is_there {
        return out.push(1);
    }
    sorted.retain(|member| !member.is_empty());
    sorted.sort_unstable();
    out.extend_from_slice(&sorted.join(&b","[..]));
}

#[cfg(test)]
#[expect(clippy::type_complexity, reason = "tables of cases")]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        fields
    }

    #[test]
    fn the_same_meaning_selects_the_same_response() {
        // RFC 9111 section 4.1.
        let cases: &[(&str, &[(&str, &str)], &[(&str, &str)], bool)] = &[
            ("Foo", &[("Foo", "1")], &[("foo", "1"), ("Bar", "2")], true),
            ("Foo", &[("Foo", "1")], &[("Foo", "2")], false),
            ("Foo", &[("Foo", "1")], &[], false),
            ("Foo", &[], &[("Foo", "1")], false),
            ("Foo", &[("Foo", "")], &[], false),
            ("Foo, Bar", &[("Foo", "1")], &[("Foo", "1")], true),
            ("bar,FOO", &[("Foo", "1"), ("Bar", "2")], &[("Bar", "2"), ("Foo", "1")], true),
            ("Foo", &[("Foo", "1, 2")], &[("Foo", "1"), ("Foo", "2")], true),
            ("Foo", &[("Foo", "1,2")], &[("Foo", " 1, 2 ")], true),
            ("Foo", &[("Foo", "1,2")], &[("Foo", "2,1")], false),
            ("Foo", &[("Foo", "a")], &[("Foo", "A")], false),
            (
                "Accept-Language",
                &[("Accept-Language", "en, de")],
                &[("accept-language", "dE,EN")],
                true,
            ),
            (
                "Accept-Encoding",
                &[("Accept-Encoding", "gzip;q=1")],
                &[("Accept-Encoding", "gzip; q=1")],
                true,
            ),
        ];
        for (vary, stored, asked, expected) in cases {
            let made = selecting(&fields(&[("Vary", vary)]), &fields(stored)).unwrap();
            assert_eq!(matches(&made, &fields(asked)), *expected, "{vary} {stored:?} {asked:?}");
        }
    }

    #[test]
    fn nothing_selects_what_depends_on_everything() {
        let request = fields(&[("Foo", "1")]);
        let stars: &[&[(&str, &str)]] = &[
            &[("Vary", "*")],
            &[("Vary", "Foo, *")],
            &[("Vary", ", *")],
            &[("Vary", ""), ("Vary", "*")],
            &[("Vary", "X-Forwarded-For")],
        ];
        for star in stars {
            assert_eq!(selecting(&fields(star), &request), None, "{star:?}");
        }
        assert_eq!(selecting(&fields(&[]), &request), Some(Vec::new()));
        let one = selecting(&fields(&[("Vary", "a, b")]), &request).unwrap();
        let other = selecting(&fields(&[("Vary", "B,A")]), &request).unwrap();
        assert!(same_names(&one, &other) && !same_names(&one, b""));
        assert_eq!(pairs(&one).count(), 2);
    }
}
