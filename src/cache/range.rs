//! Parts of a body (RFC 9110 section 14): which a client wants, and which were stored.

use crate::base::limits::RANGES_MAX;
use crate::message::target::parse_digits;

/// What a Range field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedRange {
    /// All of it: the field is not for us, makes no sense, or wants too much.
    Whole,
    /// So many octets from there.
    One(u64, u64),
    /// Several parts, which do not overlap.
    Many(Vec<(u64, u64)>),
    /// Nothing that there is.
    Unsatisfiable,
}

/// Reads a Range field for a body of `len` octets (sections 14.1 and 14.2).
#[must_use]
pub fn parse(value: &[u8], len: u64) -> WantedRange {
    let Some((unit, ranges)) = value.split_at_checked(6) else { return WantedRange::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return WantedRange::Whole;
    }
    let mut found = Vec::new();
    let mut count = 0;
    for one in ranges.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if one.is_empty() {
            continue;
        }
        count += 1;
        let Some(spec) = spec(one, len) else { return WantedRange::Whole };
        if count > RANGES_MAX {
            return WantedRange::Whole;
        }
        found.extend(spec);
    }
    match found.as_slice() {
        [] if count == 0 => WantedRange::Whole,
        [] => WantedRange::Unsatisfiable,
        [(first, count)] => WantedRange::One(*first, *count),
        // Section 14.2: overlapping ranges are a sign of malice or of error.
        _ if overlap(&found) => WantedRange::Whole,
        _ => WantedRange::Many(found),
    }
}

/// One range: `None` if it is malformed, `Some(None)` if there is nothing there.
#[expect(clippy::option_option, reason = "two kinds of nothing")]
fn spec(text: &[u8], len: u64) -> Option<Option<(u64, u64)>> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&text[..dash], &text[dash + 1..]);
    if first.is_empty() {
        let count = parse_digits(last)?.min(len);
        return Some((count > 0).then(|| (len - count, count)));
    }
    let first = parse_digits(first)?;
    let last = if last.is_empty() { u64::MAX } else { parse_digits(last)? };
    if last < first {
        return None;
    }
    Some((first < len).then(|| (first, last.min(len - 1) - first + 1)))
}

fn overlap(parts: &[(u64, u64)]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0)
}

/// A Content-Range of a 206: the first octet, how many follow with it, and the whole length
/// (section 14.4). `None` for one that cannot be used: the length must be known.
#[must_use]
pub fn content_range(value: &[u8]) -> Option<(u64, u64, u64)> {
    let rest = value.strip_prefix(b"bytes ")?;
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    let dash = rest.iter().position(|byte| *byte == b'-')?;
    let first = parse_digits(rest.get(..dash)?)?;
    let last = parse_digits(rest.get(dash + 1..slash)?)?;
    let total = parse_digits(&rest[slash + 1..])?;
    (first <= last && last < total).then(|| (first, last - first + 1, total))
}

/// Joins two parts of one body into one, if they touch: first octet and octets (RFC 9111
/// section 3.4).
#[must_use]
pub fn joined(one: (u64, &[u8]), other: (u64, &[u8])) -> Option<(u64, Vec<u8>)> {
    let (low, high) = if one.0 <= other.0 { (one, other) } else { (other, one) };
    let end = low.0 + low.1.len() as u64;
    if high.0 > end {
        return None;
    }
    let mut data = low.1.to_vec();
    let known = usize::try_from(end - high.0).ok()?;
    if known < high.1.len() {
        data.extend_from_slice(&high.1[known..]);
    }
    Some((low.0, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_body_of_ten() {
        let many = WantedRange::Many(vec![(0, 2), (5, 1)]);
        let cases: &[(&str, WantedRange)] = &[
            ("bytes=0-1", WantedRange::One(0, 2)),
            ("Bytes=1-", WantedRange::One(1, 9)),
            ("bytes=-3", WantedRange::One(7, 3)),
            ("bytes=-99", WantedRange::One(0, 10)),
            ("bytes=8-99", WantedRange::One(8, 2)),
            ("bytes=-0", WantedRange::Unsatisfiable),
            ("bytes=10-", WantedRange::Unsatisfiable),
            ("bytes=10-, 20-30", WantedRange::Unsatisfiable),
            ("bytes=5-5,20-", WantedRange::One(5, 1)),
            ("bytes=0-1, 5-5", many),
            ("bytes=0-5,3-7", WantedRange::Whole),
            ("bytes=5-1", WantedRange::Whole),
            ("bytes=a-b", WantedRange::Whole),
            ("bytes=1", WantedRange::Whole),
            ("bytes=", WantedRange::Whole),
            ("bytes=+1-2", WantedRange::Whole),
            ("lines=0-1", WantedRange::Whole),
            ("", WantedRange::Whole),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes(), 10), *expected, "{text}");
        }
        let many: Vec<String> = (0..20).map(|at| format!("{at}-{at}")).collect();
        assert_eq!(parse(format!("bytes={}", many.join(",")).as_bytes(), 100), WantedRange::Whole);
        assert_eq!(parse(b"bytes=0-", 0), WantedRange::Unsatisfiable);
    }

    #[test]
    fn parts_say_where_they_belong_and_are_joined() {
        assert_eq!(content_range(b"bytes 4-9/10"), Some((4, 6, 10)));
        for bad in
            ["bytes 4-9/*", "bytes */10", "bytes 4-10/10", "bytes 9-4/10", "4-9/10", "bytes 4/9-"]
        {
            assert_eq!(content_range(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(joined((4, b"456"), (0, b"0123")), Some((0, b"0123456".to_vec())));
        assert_eq!(joined((0, b"0123456"), (2, b"23")), Some((0, b"0123456".to_vec())));
        assert_eq!(joined((0, b"012"), (2, b"234")), Some((0, b"01234".to_vec())));
        assert_eq!(joined((0, b"01"), (3, b"3")), None);
    }
}
