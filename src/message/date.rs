//! HTTP dates, in the three forms that a recipient must read (RFC 9110 section 5.6.7).

use std::time::UNIX_EPOCH;

/// Reads a date: seconds since 1970; zero for earlier ones. Case does not matter (RFC 9111
/// section 4.2), everything else about the form does.
#[must_use]
pub fn parse(text: &[u8]) -> Option<u64> {
    // The longest: "Wednesday, 09-Nov-94 08:49:37 GMT".
    let mut copy = [0; 40];
    let copy = copy.get_mut(..text.len())?;
    copy.copy_from_slice(text);
    let mut is_first = true;
    for byte in copy.iter_mut() {
        if is_first {
            byte.make_ascii_uppercase();
        } else {
            byte.make_ascii_lowercase();
        }
        is_first = !byte.is_ascii_alphabetic();
    }
    if let Some(zone) = copy.len().checked_sub(4).map(|at| &mut copy[at..])
        && zone == b" Gmt"
    {
        zone.copy_from_slice(b" GMT");
    }
    if let Some(time) = read(copy) {
        return Some(time);
    }
    // The day of the week says nothing that the date does not; it may be any.
    DAYS.iter().find_map(|day| {
        copy.get_mut(..3)?.copy_from_slice(*day);
        read(copy)
    })
}

const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

fn read(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_day_of_the_week_does_not_count() {
        assert_eq!(parse(b"Mon Nov  6 08:49:37 1994"), Some(784_111_777));
        assert_eq!(parse(b"Wed, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse(b"Xyz, 31 Feb 1994 08:49:37 GMT"), None);
    }

    #[test]
    fn three_forms_in_any_case_and_nothing_else() {
        let good: &[&str] = &[
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "SUN, 06 NOV 1994 08:49:37 gMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ];
        for text in good {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        let bad: &[&str] = &[
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 AEST",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT and much more text behind it",
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"Thursday, 18-Aug-50 02:01:18 GMT"), Some(2_544_400_878));
    }
}
