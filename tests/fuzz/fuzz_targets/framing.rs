//! Framing fields: nothing with more than one reading is accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::message::framing::Framing;
use millrace::message::head::{Method, Version};
use millrace::wire::framing::{self, FramingFacts};

fuzz_target!(|bytes: &[u8]| {
    let mut facts = FramingFacts::default();
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for line in bytes.split(|byte| *byte == b'\n') {
        match line.split_first() {
            Some((b'l', value)) => {
                facts.add_length(value);
                lengths.push(value);
            }
            Some((b'c', value)) => {
                facts.add_coding(value);
                codings.push(value);
            }
            _ => {}
        }
    }
    for version in [Version::Http10, Version::Http11] {
        match framing::request(version, &facts) {
            Ok(Framing::Chunked) => {
                assert!(version == Version::Http11 && lengths.is_empty() && codings.len() == 1);
                assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
            }
            Ok(Framing::Length(length)) => {
                assert!(codings.is_empty() && lengths.len() == 1);
                assert!(lengths[0].iter().all(u8::is_ascii_digit) && lengths[0].len() <= 19);
                assert_eq!(std::str::from_utf8(lengths[0]).unwrap().parse(), Ok(length));
            }
            Ok(Framing::None) => assert!(codings.is_empty() && lengths.is_empty()),
            Ok(Framing::UntilClose) => panic!("a request cannot end with its connection"),
            Err(_) => {}
        }
        for status in [100, 200, 204, 304, 500] {
            if let Ok(derived) = framing::response(Method::Get, version, status, &facts) {
                let bodiless = status < 200 || status == 204 || status == 304;
                assert!(!bodiless || derived.framing == Framing::None);
                assert!(lengths.len() <= 1 && codings.len() <= 1);
                assert!(derived.tainted || bodiless || lengths.is_empty() != codings.is_empty());
            }
        }
    }
});
