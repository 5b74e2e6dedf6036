//! A TLS ClientHello: nothing panics, and more octets never change what was found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::wire::client_hello::parse;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    if let Ok(Some(hello)) = &whole {
        let is_good = |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        assert!(hello.name.iter().flatten().all(|byte| is_good(byte)));
        assert_eq!(parse(&[bytes, b"more"].concat()), whole);
    }
    for len in 0..bytes.len().min(600) {
        let part = parse(&bytes[..len]);
        assert!(
            part == Ok(None) || part == whole || whole == Ok(None),
            "{len}: {part:?}, {whole:?}"
        );
    }
});
