//! Looks for pseudo-fields in a block of trailers without decoding it (RFC 7541 section 6). What a block
//! takes from the dynamic table is not known here: a name that hides there h2 drops, and nobody sees it.

/// Entries of the static table whose names begin with a colon (RFC 7541 appendix A).
const PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;
/// A colon in Huffman's code, and its bits.
const COLON: u8 = 0x5c << 1;
const COLON_BITS: u8 = 0xfe;

/// Whether one of the fields is a pseudo-field. A block that cannot be read has none: h2 says so.
#[must_use]
pub fn has_pseudo_field(block: &[u8]) -> bool {
    let mut rest = block;
    while let Some(first) = rest.first() {
        let found = match first {
            0x80.. => indexed(&mut rest),
            0x20..=0x3f => number(&mut rest, 5).map(|_| false),
            0x40..=0x7f => literal(&mut rest, 6),
            _ => literal(&mut rest, 4),
        };
        match found {
            Some(false) => {}
            Some(true) => return true,
            None => return false,
        }
    }
    false
}

fn indexed(rest: &mut &[u8]) -> Option<bool> {
    Some(PSEUDO.contains(&number(rest, 7)?))
}

fn literal(rest: &mut &[u8], bits: u32) -> Option<bool> {
    let index = number(rest, bits)?;
    let is_pseudo = if index == 0 { text(rest)? } else { PSEUDO.contains(&index) };
    text(rest)?;
    Some(is_pseudo)
}

/// Skips a text; whether it begins with a colon.
fn text(rest: &mut &[u8]) -> Option<bool> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let len = number(rest, 7)?;
    let (text, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    let is_colon = |first: &u8| {
        if is_huffman { first & COLON_BITS == COLON } else { *first == b':' }
    };
    Some(text.first().is_some_and(is_colon))
}

/// A number behind a prefix of so many bits (RFC 7541 section 5.1).
fn number(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let most = (1_usize << bits) - 1;
    let (first, mut behind) = rest.split_first()?;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (next, more) = behind.split_first()?;
            behind = more;
            value = value.checked_add(usize::from(next & 0x7f) << shift)?;
            if next & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 28 {
                return None;
            }
        }
    }
    *rest = behind;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudo_fields_are_found_however_they_are_written() {
        for (what, block, is_there) in [
            ("nothing", vec![], false),
            ("a literal", b"\0\x05x-sum\x011".to_vec(), false),
            ("a pseudo-field", b"\0\x05:path\x02/x".to_vec(), true),
            ("indexed", vec![0x83], true),
            ("indexed, no pseudo-field", vec![0x8f], false),
            ("a known name", vec![0x44, 1, b'/'], true),
            ("a known name that is never indexed", vec![0x14, 1, b'/'], true),
            ("a name beyond the prefix", vec![0x0f, 0, 1, b'x'], false),
            ("an entry of the dynamic table", vec![0xbe], false),
            ("Huffman", vec![0, 0x82, 0xb9, 0xff, 1, b'x'], true),
            ("Huffman, no colon", vec![0, 0x81, 0xf3, 1, b'x'], false),
            ("behind a change of the table", vec![0x20, 0x83], true),
            ("behind another", b"\0\x05x-sum\x011\x83".to_vec(), true),
            ("a text that is cut off", vec![0, 9, b'x'], false),
            ("a number without end", vec![0xff; 20], false),
        ] {
            assert_eq!(has_pseudo_field(&block), is_there, "{what}");
        }
    }
}
