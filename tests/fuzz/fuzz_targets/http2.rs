//! What a client's HTTP/2 frames cost us, and the text of heads: nothing panics, the meter's verdict does
//! not depend on how the octets come, and no value of a head that was read ends a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::wire::frames::PREFACE;
use millrace::wire::http2::{request, response};
use millrace::wire::meter::{Abuse, Meter};

fn feed(meter: &mut Meter, mut octets: &[u8]) -> Result<(), Abuse> {
    while !octets.is_empty() {
        let passed = meter.admit(octets, 0)?;
        assert!(passed > 0 && passed <= octets.len());
        octets = &octets[passed..];
    }
    Ok(())
}

fn verdict(bytes: &[u8], cut: usize) -> Result<(), Abuse> {
    let mut meter = Meter::new(100);
    feed(&mut meter, PREFACE)?;
    bytes.chunks(cut.max(1)).try_for_each(|part| feed(&mut meter, part))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, frames)) = bytes.split_first() else { return };
    assert_eq!(verdict(frames, usize::from(*cut)), verdict(frames, usize::MAX));
    let is_good = |value: &[u8]| !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    if let Some(said) = response(bytes) {
        assert!(said.len <= bytes.len());
        assert!(said.head.headers().values().all(|value| is_good(value.as_bytes())));
    }
    if let Some(said) = request(bytes, true) {
        assert!(said.len <= bytes.len());
        assert!(said.head.headers().values().all(|value| is_good(value.as_bytes())));
        assert!(is_good(said.head.uri().to_string().as_bytes()));
    }
});
