//! The field that ties the requests of one task together (W3C Trace Context, level 1, section 3.2).

/// A `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Of the whole task; never zero.
    pub trace: u128,
    /// Of the step that sends it; never zero.
    pub span: u64,
    /// The step is recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads a field's value; `None` if it is malformed. Of a later version the first four parts count.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(55)?;
        let version = hex(&head[..2])?;
        let is_long = !rest.is_empty();
        if version == 0xff || is_long && (version == 0 || rest[0] != b'-') {
            return None;
        }
        if [head[2], head[35], head[52]] != *b"---" {
            return None;
        }
        let trace = hex(&head[3..35]).filter(|trace| *trace != 0)?;
        let span = hex(&head[36..52]).and_then(|span| u64::try_from(span).ok());
        let flags = hex(&head[53..55])?;
        Some(Self { trace, span: span.filter(|span| *span != 0)?, is_sampled: flags & 1 == 1 })
    }

    /// As it is sent.
    #[must_use]
    pub fn text(&self) -> [u8; 55] {
        let mut out = *b"00-................................-................-00";
        write_hex(&mut out[3..35], self.trace);
        write_hex(&mut out[36..52], self.span.into());
        write_hex(&mut out[53..55], u128::from(self.is_sampled));
        out
    }
}

fn write_hex(out: &mut [u8], mut number: u128) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// Lower case only, as the field is written.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'9' => Some(sum << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(sum << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_written_is_what_was_read() {
        let read = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((&read.text()[..], read.is_sampled), (GOOD.as_bytes(), true));
        let later = format!("cc{}-what-the-future-brings", &GOOD[2..]);
        assert_eq!(TraceParent::parse(later.as_bytes()), Some(read));
        let not = TraceParent::parse(GOOD.replace("-01", "-02").as_bytes()).unwrap();
        assert!(!not.is_sampled);
    }

    #[test]
    fn what_is_malformed_is_nothing() {
        let bad = [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            GOOD.replacen('f', "g", 1),
            format!("cc{}x", &GOOD[2..]),
        ];
        for value in bad {
            assert_eq!(TraceParent::parse(value.as_bytes()), None, "{value}");
        }
    }
}
