//! What a client's HTTP/2 frames cost us, and the text of heads: nothing panics, the meter's verdict does
//! not depend on how the octets come, and no value of a head that was read ends a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::wire::http2::{request, response};
use millrace::wire::meter::{Meter, h2_preface};

fn verdict(bytes: &[u8], cut: usize) -> Result<(), millrace::wire::meter::Abuse> {
    let mut meter = Meter::new();
    meter.feed(h2_preface(), 0)?;
    bytes.chunks(cut.max(1)).try_for_each(|part| meter.feed(part, 0))
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
