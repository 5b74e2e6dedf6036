//! What an authority says of a certificate (OCSP, RFC 6960), as far as it takes to know whether clients would
//! believe it: one that they would not is worse than none, and is not sent (exam R18).

use std::path::Path;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::pem;

/// A response that speaks well of a certificate, and until when (seconds since 1970).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staple {
    pub bytes: Vec<u8>,
    pub until: i64,
}

/// Reads a response for the certificate with this serial number.
///
/// # Errors
/// Why it is of no use, as a sentence that names the file.
pub fn read(path: &Path, serial: &[u8], now: i64) -> Result<Staple, String> {
    let bytes = pem::read(path)?;
    let until = judge(&bytes, serial, now)
        .map_err(|why| format!("{}: {why}; no OCSP staple is sent", path.display()))?;
    Ok(Staple { bytes, until })
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const ENUMERATED: u8 = 10;
const GENERALIZED_TIME: u8 = 24;
/// Context-specific tags with something in them, and without.
const INNER: u8 = 0xa0;
const PLAIN: u8 = 0x80;

/// Until when a response may be shown.
fn judge(bytes: &[u8], serial: &[u8], now: i64) -> Result<i64, String> {
    const CUT: &str = "no OCSP response in DER, or not a whole one";
    let whole = Der(bytes).only(SEQUENCE).ok_or(CUT)?;
    let (status, rest) = whole.next(ENUMERATED).ok_or(CUT)?;
    if status.0 != [0] {
        return Err("the authority gave no answer when this was fetched (try later)".to_owned());
    }
    let single = single(rest).ok_or(CUT)?;
    let (of, rest) = serial_of(single).ok_or(CUT)?;
    if of != serial {
        return Err("it speaks of another certificate: fetch it again after a renewal".to_owned());
    }
    let (tag, _, rest) = rest.any().ok_or(CUT)?;
    if tag != PLAIN {
        let revoked = tag == INNER + 1;
        let says = if revoked { "is revoked" } else { "is not known to it" };
        return Err(format!("the authority says that the certificate {says}"));
    }
    let (this_update, rest) = rest.next(GENERALIZED_TIME).ok_or(CUT)?;
    if time(this_update.0).ok_or(CUT)? > now {
        return Err("it is from the future: is the clock right?".to_owned());
    }
    // Without an end newer information is always to be had (section 4.2.2.1).
    let next_update = rest.next(INNER).and_then(|(inner, _)| inner.only(GENERALIZED_TIME));
    let until = next_update.and_then(|until| time(until.0)).ok_or("it does not say until when")?;
    if until <= now {
        return Err("it has expired: fetch it more often".to_owned());
    }
    Ok(until)
}

/// The one response in it.
fn single(rest: Der<'_>) -> Option<Der<'_>> {
    let (explicit, _) = rest.next(INNER)?;
    let (_, _, rest) = explicit.only(SEQUENCE)?.any()?;
    let basic = rest.only(OCTETS)?.only(SEQUENCE)?;
    let (mut data, _) = basic.next(SEQUENCE)?;
    if let Some((_, rest)) = data.next(INNER) {
        data = rest;
    }
    let (_, _, rest) = data.any()?;
    let (_, rest) = rest.next(GENERALIZED_TIME)?;
    let (all, _) = rest.next(SEQUENCE)?;
    all.only(SEQUENCE)
}

fn serial_of(single: Der<'_>) -> Option<(&[u8], Der<'_>)> {
    let (id, rest) = single.next(SEQUENCE)?;
    let (_, id) = id.next(SEQUENCE)?;
    let (_, id) = id.next(OCTETS)?;
    let (_, id) = id.next(OCTETS)?;
    let (serial, _) = id.next(INTEGER)?;
    Some((serial.0, rest))
}

/// `YYYYMMDDHHMMSSZ` in seconds since 1970.
fn time(text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z").filter(|text| text.len() == 14)?;
    let number = |from: usize, to: usize| {
        let text = std::str::from_utf8(&digits[from..to]).ok()?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i16>().ok())?
    };
    let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let day = Date::new(number(0, 4)?, small(4)?, small(6)?).ok()?;
    let clock = Time::new(small(8)?, small(10)?, small(12)?, 0).ok()?;
    Some(day.to_datetime(clock).to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Octets in DER (X.690): tag, length, value, one after the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The first value, its tag, and what follows.
    fn any(self) -> Option<(u8, Self, Self)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        Some((tag, Self(value), Self(rest)))
    }

    /// The first value, which must have this tag, and what follows.
    fn next(self, tag: u8) -> Option<(Self, Self)> {
        self.any().filter(|(found, ..)| *found == tag).map(|(_, value, rest)| (value, rest))
    }

    /// The only value, which must have this tag.
    fn only(self, tag: u8) -> Option<Self> {
        self.next(tag).filter(|(_, rest)| rest.0.is_empty()).map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        let mut out = vec![tag, 0x82];
        out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&value);
        out
    }

    fn response(status: u8, says: &[u8], this: &str, next: Option<&str>) -> Vec<u8> {
        let moment = |text: &str| der(GENERALIZED_TIME, &[text.as_bytes()]);
        let id =
            [der(SEQUENCE, &[]), der(OCTETS, &[b"n"]), der(OCTETS, &[b"k"]), der(INTEGER, &[&[7]])];
        let next = next.map_or_else(Vec::new, |next| der(INNER, &[&moment(next)]));
        let single = der(SEQUENCE, &[&der(SEQUENCE, &[&id.concat()]), says, &moment(this), &next]);
        let responder = der(INNER + 1, &[]);
        let data = [&responder, &moment("20260101000000Z"), &der(SEQUENCE, &[&single])];
        let data = der(SEQUENCE, &data.map(Vec::as_slice));
        let basic = der(SEQUENCE, &[&data, &der(SEQUENCE, &[]), &der(3, &[])]);
        let bytes = der(SEQUENCE, &[&der(6, &[b"basic"]), &der(OCTETS, &[&basic])]);
        der(SEQUENCE, &[&[ENUMERATED, 1, status], &der(INNER, &[&bytes])])
    }

    #[test]
    fn only_what_clients_would_believe_is_good() {
        let now = time(b"20261128181203Z").unwrap();
        assert_eq!(now, 1_795_889_523);
        let (good, this, next) = (der(PLAIN, &[]), "20261120000000Z", Some("20261201000000Z"));
        let whole = response(0, &good, this, next);
        assert_eq!(judge(&whole, &[7], now), Ok(time(b"20261201000000Z").unwrap()));
        for len in 0..whole.len() {
            assert!(judge(&whole[..len], &[7], now).is_err(), "cut at {len}");
        }
        let revoked = der(INNER + 1, &[]);
        for (bytes, word) in [
            (response(3, &good, this, next), "try later"),
            (response(0, &revoked, this, next), "revoked"),
            (response(0, &der(PLAIN + 2, &[]), this, next), "not known"),
            (response(0, &good, "20261129000000Z", next), "future"),
            (response(0, &good, this, Some("20261128181203Z")), "expired"),
            (response(0, &good, this, None), "until when"),
            (b"0123".to_vec(), "no OCSP response"),
        ] {
            let found = judge(&bytes, &[7], now).unwrap_err();
            assert!(found.contains(word), "{found}");
        }
        assert!(judge(&whole, &[8], now).unwrap_err().contains("another certificate"));
    }
}
