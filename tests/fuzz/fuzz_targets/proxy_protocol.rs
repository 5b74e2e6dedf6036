//! A PROXY header: one verdict however it is cut, and never longer than what was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::wire::proxy_protocol::parse;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    if let Ok(Some(header)) = whole {
        assert!(header.len <= bytes.len());
        assert_eq!(parse(&bytes[..header.len]), whole);
        assert!((0..header.len).all(|len| parse(&bytes[..len]) == Ok(None)));
    }
});
