//! Sixteen octets looked at together: where the first one stands that is not of a kind.

use wide::u8x16;

/// Octets looked at in one step.
pub const WIDTH: usize = 16;

/// Where the text of a field value ends: at a control character or DEL. Spaces, visible characters
/// and obs-text (RFC 9110 section 5.5) are text; a tab is left to the slow way. `None` if it does
/// not end here.
#[inline]
#[must_use]
pub fn text_end(bytes: &[u8]) -> Option<usize> {
    find(bytes, |lanes| lanes.up_to(b' ' - 1) | lanes.equal(0x7f))
}

/// Where a field name ends: at the first octet that is no letter, digit or hyphen. Names with other
/// octets are legal, and rare.
#[inline]
#[must_use]
pub fn name_end(bytes: &[u8]) -> Option<usize> {
    find(bytes, |lanes| {
        let is_letter = lanes.lower_case().between(b'a', b'z');
        !(is_letter | lanes.between(b'0', b'9') | lanes.equal(b'-'))
    })
}

/// Where a run of visible ASCII ends.
#[inline]
#[must_use]
pub fn visible_end(bytes: &[u8]) -> Option<usize> {
    find(bytes, |lanes| !lanes.between(0x21, 0x7e))
}

/// The first octet that stops: its bit is set.
#[inline]
fn find(bytes: &[u8], stops: impl Fn(Lanes) -> u32 + Copy) -> Option<usize> {
    let mut rest = bytes;
    while let Some((lanes, more)) = rest.split_first_chunk() {
        let found = stops(Lanes::of(lanes)) & ALL;
        if found != 0 {
            return Some(bytes.len() - rest.len() + found.trailing_zeros() as usize);
        }
        rest = more;
    }
    find_in_rest(rest, stops).map(|at| bytes.len() - rest.len() + at)
}

/// A bit for each octet.
const ALL: u32 = (1 << WIDTH) - 1;

/// Less than `WIDTH` octets are left: looks at them with nothing behind.
#[inline(never)]
fn find_in_rest(rest: &[u8], stops: impl Fn(Lanes) -> u32) -> Option<usize> {
    let mut lanes = [0; WIDTH];
    lanes[..rest.len()].copy_from_slice(rest);
    let found = stops(Lanes::of(&lanes)) & ((1 << rest.len()) - 1);
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// Sixteen octets. Each test has a bit for each of them, the first octet's the lowest.
#[derive(Clone, Copy)]
struct Lanes(u8x16);

impl Lanes {
    #[inline]
    fn of(octets: &[u8; WIDTH]) -> Self {
        Self(u8x16::new(*octets))
    }

    #[inline]
    fn lower_case(self) -> Self {
        Self(self.0 | u8x16::splat(0x20))
    }

    #[inline]
    fn up_to(self, last: u8) -> u32 {
        self.0.min(u8x16::splat(last)).simd_eq(self.0).to_bitmask()
    }

    #[inline]
    fn equal(self, octet: u8) -> u32 {
        self.0.simd_eq(u8x16::splat(octet)).to_bitmask()
    }

    /// `first..=last` in one comparison.
    #[inline]
    fn between(self, first: u8, last: u8) -> u32 {
        Self(self.0 - u8x16::splat(first)).up_to(last - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_stops_what_it_should_wherever_it_stands() {
        let is_text = |byte: u8| byte >= b' ' && byte != 0x7f;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_visible = |byte: u8| byte.is_ascii_graphic();
        for len in 0..3 * WIDTH {
            for byte in 0..=u8::MAX {
                let mut bytes = vec![b'a'; len + 1];
                bytes[len] = byte;
                for (find, passes) in [
                    (text_end as fn(&[u8]) -> Option<usize>, is_text(byte)),
                    (name_end, is_name(byte)),
                    (visible_end, is_visible(byte)),
                ] {
                    let expected = (!passes).then_some(len);
                    assert_eq!(find(&bytes), expected, "{byte:#x} after {len}");
                    let mut more = bytes.clone();
                    more.extend_from_slice(&[b'a'; WIDTH]);
                    assert_eq!(find(&more), expected, "{byte:#x} after {len}, and more");
                }
            }
        }
        assert_eq!(text_end(b""), None);
    }
}
