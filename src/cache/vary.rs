//! Which requests a stored response answers beside the one it was made for (RFC 9111 section 4.1).

use memchr::memchr;

use crate::base::limits::SELECTING_MAX;
use crate::base::limits::VARY_SORTED_MAX;
use crate::message::fields::{Fields, list};
use crate::message::name::Name;

/// The fields that select a response, with what the request had in each: `name\0value\0` one after
/// the other. A missing field is told from an empty one by `\x01` for its value.
pub type Selecting = Vec<u8>;

/// Fields that we write ourselves, different for each request: a response that depends on them
/// cannot be chosen by what the client sent.
const OURS: [&[u8]; 5] = [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"x-request-id", b"via"];

/// What selects this response for others like this request; `None` if nothing can (`*`), or if it
/// would take more than `SELECTING_MAX` octets to tell.
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
        write_field(request, name, &mut out);
    }
    (out.len() <= SELECTING_MAX).then_some(out)
}

/// Whether a request has in all of these fields what the stored one had.
#[must_use]
pub fn matches(selecting: &[u8], request: &Fields) -> bool {
    Selection::new(request, &mut Vec::new()).suits(selecting)
}

/// A request that is held against several stored responses. What it has in the fields that select them is
/// written once, for they nearly always name the same fields: however many variants there are, and
/// however long its lists, the work is one pass over its fields and a comparison of octets for each
/// (exam R01).
pub struct Selection<'a> {
    request: &'a Fields,
    /// What `selecting` would be for this request. Memory of the caller's, so that nothing is allocated.
    text: &'a mut Selecting,
    is_written: bool,
}

impl<'a> Selection<'a> {
    /// `text` is only used as memory.
    #[must_use]
    pub const fn new(request: &'a Fields, text: &'a mut Selecting) -> Self {
        Self { request, text, is_written: false }
    }

    /// The same request once more: `text` is as it was left.
    #[must_use]
    pub const fn again(request: &'a Fields, text: &'a mut Selecting) -> Self {
        let is_written = !text.is_empty();
        Self { request, text, is_written }
    }

    /// Whether a response that was stored with this answers the request.
    #[must_use]
    pub fn suits(&mut self, selecting: &[u8]) -> bool {
        selecting.is_empty() || self.like(selecting) == selecting
    }

    /// What the request has in the fields that this names.
    pub fn like(&mut self, selecting: &[u8]) -> &[u8] {
        if !self.is_written || !same_names(self.text, selecting) {
            self.is_written = true;
            self.text.clear();
            for (name, _) in pairs(selecting) {
                write_field(self.request, name, self.text);
            }
        }
        self.text
    }
}

fn is_set(name: &[u8]) -> bool {
    matches!(name, b"accept-encoding" | b"accept-language" | b"accept-charset")
}

/// Whether two stored responses are selected by the same fields.
#[must_use]
pub fn same_names(one: &[u8], other: &[u8]) -> bool {
    pairs(one).map(|pair| pair.0).eq(pairs(other).map(|pair| pair.0))
}

/// The names of the fields, for the sake of what `matches` would compare.
pub fn pairs(selecting: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = selecting;
    let mut next = move || {
        let end = memchr(0, rest)?;
        let part = &rest[..end];
        rest = &rest[end + 1..];
        Some(part)
    };
    std::iter::from_fn(move || Some((next()?, next()?)))
}

/// Writes a field's name and its value in a form in which equal meanings are equal octets: lines joined,
/// no white space around commas; for language and coding lists also lower case and in order.
fn write_field(request: &Fields, name: &[u8], out: &mut Selecting) {
    out.extend_from_slice(name);
    out.push(0);
    let is_set = is_set(name);
    let (mut is_there, mut count, from) = (false, 0, out.len());
    for value in request.values_named(name) {
        is_there = true;
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            // Too much to be stored, and so to be found.
            if out.len() > SELECTING_MAX {
                break;
            }
            if is_set && member.is_empty() {
                continue;
            }
            if out.len() > from {
                out.push(b',');
            }
            if is_set {
                let visible = member.iter().filter(|byte| !matches!(byte, b' ' | b'\t'));
                out.extend(visible.map(u8::to_ascii_lowercase));
                count += 1;
            } else {
                out.extend_from_slice(member);
            }
        }
    }
    if !is_there {
        out.push(1);
    } else if is_set && count > 1 && count <= VARY_SORTED_MAX {
        sort(out, from);
    }
    out.push(0);
}

/// Puts the members that stand behind `from` in order.
fn sort(out: &mut Selecting, from: usize) {
    let end = out.len();
    let mut places = [(0, 0); VARY_SORTED_MAX];
    let (mut count, mut at) = (0, from);
    for member in out[from..].split(|byte| *byte == b',') {
        places[count] = (at, at + member.len());
        at += member.len() + 1;
        count += 1;
    }
    let places = &mut places[..count];
    if places.is_sorted_by(|one, other| out[one.0..one.1] <= out[other.0..other.1]) {
        return;
    }
    places.sort_unstable_by(|one, other| out[one.0..one.1].cmp(&out[other.0..other.1]));
    // Behind themselves in order, and then to where they were.
    for (number, (first, last)) in places.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_within(*first..*last);
    }
    out.copy_within(end.., from);
    out.truncate(end);
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

    /// As `write_field`, slowly.
    fn normal(request: &Fields, name: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lines: Vec<String> = request.values_named(name.as_bytes()).map(text).collect();
        if lines.is_empty() {
            return "\x01".to_owned();
        }
        let all = lines.join(",");
        let members = all.split(',').map(str::trim);
        if name == "foo" {
            // What comes behind nothing needs no comma.
            return members.fold(String::new(), |text, one| match text.as_str() {
                "" => one.to_owned(),
                _ => format!("{text},{one}"),
            });
        }
        let members = members.map(|one| one.to_ascii_lowercase().replace([' ', '\t'], ""));
        let mut members: Vec<String> = members.filter(|one| !one.is_empty()).collect();
        members.sort_unstable();
        members.join(",")
    }

    #[test]
    fn values_are_written_as_what_they_mean() {
        let values = [
            "", " ", ",", "a", "A", "a,b", "b, a", "a,,b", ",a", "a,", "a b", "a,a", "b,b,a",
            "a;q=1", "a; q=1",
        ];
        let lists: Vec<Vec<&str>> = std::iter::once(Vec::new())
            .chain(values.iter().map(|one| vec![*one]))
            .chain(values.iter().flat_map(|one| values.iter().map(|other| vec![*one, *other])))
            .collect();
        for name in ["accept-encoding", "foo"] {
            for list in &lists {
                let asked = fields(&list.iter().map(|one| (name, *one)).collect::<Vec<_>>());
                let made = selecting(&fields(&[("Vary", name)]), &asked).unwrap();
                let expected = format!("{name}\0{}\0", normal(&asked, name));
                assert_eq!(made, expected.as_bytes(), "{name}: {list:?}");
                assert!(matches(&made, &asked), "{name}: {list:?}");
            }
        }
    }

    #[test]
    fn long_lists_are_bounded_and_still_told_apart() {
        let of = |count: usize, last: &str| {
            let members: Vec<String> = (0..count).map(|at| format!("x{at}")).collect();
            fields(&[("Accept-Encoding", &format!("{},{last}", members.join(",")))])
        };
        let vary = fields(&[("Vary", "Accept-Encoding")]);
        for count in [1, VARY_SORTED_MAX - 2, VARY_SORTED_MAX - 1, VARY_SORTED_MAX, 500] {
            let made = selecting(&vary, &of(count, "gzip")).unwrap();
            assert!(matches(&made, &of(count, "gzip")), "{count}");
            assert!(!matches(&made, &of(count, "br")) && !matches(&made, &of(count + 1, "gzip")));
        }
        let most = of(2000, "gzip");
        assert_eq!(selecting(&vary, &most), None, "more than can be told apart is not stored");
        let made = selecting(&vary, &of(500, "gzip")).unwrap();
        assert!(!matches(&made, &most));
    }

    #[test]
    fn a_request_is_held_against_responses_that_name_other_fields() {
        let asked = fields(&[("A", "1"), ("B", "2")]);
        let made = |vary: &str| selecting(&fields(&[("Vary", vary)]), &asked).unwrap();
        let (mut text, all) =
            (Vec::new(), [made("a"), made("b"), made("a, b"), made("a"), made("")]);
        let mut asked = Selection::new(&asked, &mut text);
        for one in &all {
            assert!(asked.suits(one), "{}", one.escape_ascii());
        }
        assert!(
            !asked.suits(b"a\x002\0") && !asked.suits(b"c\x001\0") && asked.suits(b"c\0\x01\0")
        );
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
