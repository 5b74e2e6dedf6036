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
    pairs(selecting).all(|(name, stored)| has_same(request, name, stored))
}

/// Members of a list that are compared without memory for them.
const FEW: usize = 32;

/// Whether a request has in a field what `normal` made of another's. Without allocation, but for
/// lists that no browser sends.
fn has_same(request: &Fields, name: &[u8], stored: &[u8]) -> bool {
    if stored == [1] {
        return request.values_named(name).next().is_none();
    }
    let members = || {
        let values = request.values_named(name);
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    };
    if !is_set(name) {
        let mut rest = Some(stored);
        let mut is_first = true;
        for member in members() {
            // `normal` leaves out the comma as long as nothing stands before it.
            let after = rest.and_then(|rest| {
                let comma: &[u8] = if is_first || rest.len() == stored.len() { b"" } else { b"," };
                rest.strip_prefix(comma)?.strip_prefix(member)
            });
            (rest, is_first) = (after, false);
        }
        return !is_first && rest.is_some_and(<[u8]>::is_empty);
    }
    let wanted = || stored.split(|byte| *byte == b',').filter(|one| !one.is_empty());
    let has = || members().filter(|one| !one.is_empty());
    let count = wanted().count();
    if count > FEW {
        let mut value = Vec::new();
        normal(request, name, &mut value);
        return value == stored;
    }
    let is_there = request.values_named(name).next().is_some();
    let times = |one: &[u8]| wanted().filter(|other| *other == one).count();
    is_there
        && has().count() == count
        && wanted().all(|one| has().filter(|other| is_same_word(other, one)).count() == times(one))
}

/// Whether a member of a list is this one, which has no white space and is in lower case.
fn is_same_word(text: &[u8], normal: &[u8]) -> bool {
    let octets = text.iter().filter(|byte| !matches!(byte, b' ' | b'\t'));
    octets.map(u8::to_ascii_lowercase).eq(normal.iter().copied())
}

fn is_set(name: &[u8]) -> bool {
    matches!(name, b"accept-encoding" | b"accept-language" | b"accept-charset")
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
    let is_set = is_set(name);
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
    fn the_quick_comparison_says_what_the_normal_forms_say() {
        let values = [
            "", " ", ",", "a", "A", "a,b", "b, a", "a,,b", ",a", "a,", "a b", "a,a", "b,b,a",
            "a;q=1", "a; q=1",
        ];
        let lists: Vec<Vec<&str>> = std::iter::once(Vec::new())
            .chain(values.iter().map(|one| vec![*one]))
            .chain(values.iter().flat_map(|one| values.iter().map(|other| vec![*one, *other])))
            .collect();
        for name in ["accept-encoding", "foo"] {
            let made: Vec<Fields> = lists
                .iter()
                .map(|list| fields(&list.iter().map(|one| (name, *one)).collect::<Vec<_>>()))
                .collect();
            for stored in &made {
                let mut text = Vec::new();
                normal(stored, name.as_bytes(), &mut text);
                for asked in &made {
                    let mut other = Vec::new();
                    normal(asked, name.as_bytes(), &mut other);
                    let found = has_same(asked, name.as_bytes(), &text);
                    assert_eq!(found, text == other, "{name} {stored:?} {asked:?}");
                }
            }
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
