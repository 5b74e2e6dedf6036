//! Looks into a header block without decoding it (RFC 7541 section 6): for pseudo-fields where there may be
//! none, and for fields that are wrong where the block itself is not. What lies in the dynamic table or in
//! Huffman's code is not seen, but for the colon that a pseudo-field begins with.

use super::http2::CONNECTION;
use crate::message::fields::is_token_byte;

/// Entries of the static table whose names begin with a colon (RFC 7541 appendix A).
const PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;
/// A colon in Huffman's code, and its bits.
const COLON: u8 = 0x5c << 1;
const COLON_BITS: u8 = 0xfe;
/// Pseudo-fields that h2 knows.
const KNOWN: [&[u8]; 6] =
    [b":authority", b":method", b":path", b":protocol", b":scheme", b":status"];
/// The same in Huffman's code.
const KNOWN_IN_HUFFMAN: [&[u8]; 6] = [
    b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f",
    b"\xb9\x49\x53\x39\xe4",
    b"\xb9\x58\xd3\x3f",
    b"\xb9\x5d\x87\x49\xc8\x7a\x3f",
    b"\xb8\x82\x4e\x5a\x4b",
    b"\xb8\x84\x8d\x36\xa3",
];

/// Whether one of the fields is a pseudo-field.
#[must_use]
pub fn has_pseudo_field(block: &[u8]) -> bool {
    BlockFields(block).any(|field| match field {
        BlockField::Indexed(index) | BlockField::Known(index, _) => PSEUDO.contains(&index),
        BlockField::New(name, _) => name.is_pseudo(),
        BlockField::Size => false,
    })
}

/// Whether one of the fields cannot be one (RFC 9113 section 8.2.1), so that what is wrong with the block is
/// not how it is compressed.
#[must_use]
pub fn has_bad_field(block: &[u8]) -> bool {
    BlockFields(block).any(|field| match field {
        BlockField::Indexed(_) | BlockField::Size => false,
        BlockField::Known(_, value) => value.is_bad_value(),
        BlockField::New(name, value) => name.is_bad_name() || value.is_bad_value(),
    })
}

/// One representation.
enum BlockField<'a> {
    Indexed(usize),
    /// A name of the tables.
    Known(usize, Text<'a>),
    New(Text<'a>, Text<'a>),
    /// Not a field: the table's size changes.
    Size,
}

struct Text<'a> {
    is_huffman: bool,
    octets: &'a [u8],
}

impl Text<'_> {
    fn is_pseudo(&self) -> bool {
        let is_colon = |first: &u8| {
            if self.is_huffman { first & COLON_BITS == COLON } else { *first == b':' }
        };
        self.octets.first().is_some_and(is_colon)
    }

    fn is_bad_name(&self) -> bool {
        if self.is_pseudo() {
            let known = if self.is_huffman { &KNOWN_IN_HUFFMAN } else { &KNOWN };
            return !known.contains(&self.octets);
        }
        let is_bad = |octet: &u8| octet.is_ascii_uppercase() || !is_token_byte(*octet);
        let is_connections = || CONNECTION.iter().any(|name| name.as_bytes() == self.octets);
        !self.is_huffman && (self.octets.iter().any(is_bad) || is_connections())
    }

    fn is_bad_value(&self) -> bool {
        let is_bad = |octet: &u8| matches!(octet, 0..=8 | 10..=31 | 127);
        !self.is_huffman && self.octets.iter().any(is_bad)
    }
}

/// The representations of a block, up to the first that cannot be read: of that h2 speaks.
struct BlockFields<'a>(&'a [u8]);

impl<'a> Iterator for BlockFields<'a> {
    type Item = BlockField<'a>;

    fn next(&mut self) -> Option<BlockField<'a>> {
        let rest = &mut self.0;
        match rest.first()? {
            0x80.. => Some(BlockField::Indexed(number(rest, 7)?)),
            0x20..=0x3f => number(rest, 5).map(|_| BlockField::Size),
            first => {
                let bits = if *first >= 0x40 { 6 } else { 4 };
                match number(rest, bits)? {
                    0 => Some(BlockField::New(text(rest)?, text(rest)?)),
                    index => Some(BlockField::Known(index, text(rest)?)),
                }
            }
        }
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<Text<'a>> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let len = number(rest, 7)?;
    let (octets, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(Text { is_huffman, octets })
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

    #[test]
    fn bad_fields_are_told_from_bad_blocks() {
        for (what, block, is_bad) in [
            ("a literal", b"\0\x05x-sum\x011".to_vec(), false),
            ("upper case", b"\0\x05X-sum\x011".to_vec(), true),
            ("a space", b"\0\x05x sum\x011".to_vec(), true),
            ("a line's end", b"\0\x05x-sum\x01\n".to_vec(), true),
            ("a tab", b"\0\x05x-sum\x01\t".to_vec(), false),
            ("a known name, a bad value", vec![0x44, 1, 0], true),
            ("a known pseudo-field", b"\0\x05:path\x01/".to_vec(), false),
            ("the same in Huffman", vec![0, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 1, b'/'], false),
            ("an unknown one", b"\0\x06:path2\x01/".to_vec(), true),
            ("an unknown one in Huffman", vec![0, 0x84, 0xb8, 0x92, 0xa1, 0x3f, 1, b'x'], true),
            ("behind what cannot be read", b"\xff\xff\xff\xff\xff\xff\0\x01X\x01x".to_vec(), false),
            ("index 0", vec![0x80], false),
        ] {
            assert_eq!(has_bad_field(&block), is_bad, "{what}");
        }
    }

    #[test]
    fn names_in_huffman_are_those_of_the_other_list() {
        for (plain, huffman) in KNOWN.iter().zip(KNOWN_IN_HUFFMAN) {
            let len = 0x80 | u8::try_from(huffman.len()).unwrap();
            let block = [&[0, len][..], huffman, &[1, b'x']].concat();
            let fields = fluke_hpack::Decoder::new().decode(&block).unwrap();
            assert_eq!(fields, [(plain.to_vec(), b"x".to_vec())]);
        }
    }
}
