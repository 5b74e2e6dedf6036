//! Sixteen octets looked at together: where the first one stands that is not of a kind. The tests
//! of an octet have no branches (`&` and `|`, not `&&` and `||`), so that the compiler makes vector
//! code of them on every machine that has it.

/// Octets looked at in one step.
pub const WIDTH: usize = 16;

/// Where the text of a field value ends: at a control character or DEL. Spaces, visible characters
/// and obs-text (RFC 9110 section 5.5) are text; a tab is left to the slow way. `None` if it does
/// not end here.
#[inline]
#[must_use]
pub fn text_end(bytes: &[u8], at: usize) -> Option<usize> {
    find(bytes, at, |byte| (byte < b' ') | (byte == 0x7f))
}

/// Where a field name ends: at the first octet that is no letter, digit or hyphen. Names with other
/// octets are legal, and rare.
#[inline]
#[must_use]
pub fn name_end(bytes: &[u8], at: usize) -> Option<usize> {
    find(bytes, at, |byte| {
        let is_letter = is_between(byte | 0x20, b'a', b'z');
        let is_digit = is_between(byte, b'0', b'9');
        !(is_letter | is_digit | (byte == b'-'))
    })
}

/// Where a run of visible ASCII ends.
#[inline]
#[must_use]
pub fn visible_end(bytes: &[u8], at: usize) -> Option<usize> {
    find(bytes, at, |byte| !is_between(byte, 0x21, 0x7e))
}

/// The first octet from `at` on that stops.
#[inline]
fn find(bytes: &[u8], mut at: usize, stops: impl Fn(u8) -> bool + Copy) -> Option<usize> {
    while let Some(lanes) = bytes.get(at..)?.first_chunk() {
        let found = first(lanes, stops);
        if found < WIDTH {
            return Some(at + found);
        }
        at += WIDTH;
    }
    find_in_rest(bytes, at, stops)
}

/// Less than `WIDTH` octets are left: looks at the last `WIDTH` and forgets those before `at`.
#[inline(never)]
fn find_in_rest(bytes: &[u8], at: usize, stops: impl Fn(u8) -> bool) -> Option<usize> {
    if at == bytes.len() {
        return None;
    }
    let Some(last) = bytes.last_chunk() else {
        return bytes[at..].iter().position(|byte| stops(*byte)).map(|found| at + found);
    };
    let seen = WIDTH - (bytes.len() - at);
    let found = at + (flags(last, stops) >> (8 * seen)).trailing_zeros() as usize / 8;
    (found < bytes.len()).then_some(found)
}

/// The first lane that stops; `WIDTH` if none does.
#[inline]
fn first(lanes: &[u8; WIDTH], stops: impl Fn(u8) -> bool) -> usize {
    flags(lanes, stops).trailing_zeros() as usize / 8
}

/// All ones for each octet that stops, the first octet in the lowest bits.
#[inline]
fn flags(lanes: &[u8; WIDTH], stops: impl Fn(u8) -> bool) -> u128 {
    let mut flags = [0; WIDTH];
    for (flag, byte) in flags.iter_mut().zip(lanes) {
        *flag = if stops(*byte) { 0xff } else { 0 };
    }
    u128::from_le_bytes(flags)
}

/// `first..=last` in one comparison.
#[inline]
const fn is_between(byte: u8, first: u8, last: u8) -> bool {
    byte.wrapping_sub(first) <= last - first
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
                    (text_end as fn(&[u8], usize) -> Option<usize>, is_text(byte)),
                    (name_end, is_name(byte)),
                    (visible_end, is_visible(byte)),
                ] {
                    let expected = (!passes).then_some(len);
                    assert_eq!(find(&bytes, 0), expected, "{byte:#x} after {len}");
                    let mut more = bytes.clone();
                    more.extend_from_slice(&[b'a'; WIDTH]);
                    assert_eq!(find(&more, len / 2), expected, "{byte:#x} after {len}, and more");
                }
            }
        }
        assert_eq!(text_end(b"abc", 9), None);
    }
}
