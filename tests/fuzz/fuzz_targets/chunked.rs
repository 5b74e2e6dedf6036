//! A chunked body: every segmentation gives the same data, end and verdict; what is encoded again
//! decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::wire::http1::chunked::{Decoder, LAST, size_line};

type Seen = (Vec<u8>, usize, bool, bool);

fn run(bytes: &[u8], size: usize) -> Seen {
    let mut decoder = Decoder::default();
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        let Ok(step) = decoder.decode(&mut piece) else { return (Vec::new(), 0, false, true) };
        data.extend_from_slice(&piece[step.data]);
        consumed += step.consumed;
    }
    (data, consumed, decoder.is_done(), false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = run(bytes, bytes.len().max(1));
    assert_eq!(run(bytes, 1), whole);
    assert_eq!(run(bytes, usize::from(*size).max(1)), whole);
    let (data, ..) = whole;
    if data.is_empty() {
        return;
    }
    let mut line = [0; 18];
    let at = size_line(data.len(), &mut line);
    let encoded = [&line[at..], &data, b"\r\n", LAST].concat();
    let again = run(&encoded, 7);
    assert_eq!(again, (data, encoded.len(), true, false));
});
