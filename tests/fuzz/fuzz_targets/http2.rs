//! What a client's HTTP/2 frames cost us, and heads: nothing panics, the meter's verdict does not depend on how the
//! octets come, and a head of HTTP/1.1 that is said in HTTP/2 is the same head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::message::fields::Field;
use millrace::message::head::RequestHead;
use millrace::message::limits::HeadLimits;
use millrace::wire::frames::PREFACE;
use millrace::wire::http1::parse::request_at_once;
use millrace::wire::http2::{request, take_request};
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

/// What a head says, whatever the version: the order of fields with different names says nothing.
fn told(
    head: &RequestHead,
) -> (Vec<u8>, Vec<u8>, Option<Vec<u8>>, Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>) {
    let field = |field: Field<'_>| (field.name.to_ascii_lowercase(), field.value.to_vec());
    let mut fields: Vec<_> = head.fields.iter().map(field).collect();
    fields.sort();
    let (path, query) = (head.path().to_vec(), head.query().map(<[u8]>::to_vec));
    (head.method_text().to_vec(), path, query, head.authority().to_vec(), fields)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, frames)) = bytes.split_first() else { return };
    assert_eq!(verdict(frames, usize::from(*cut)), verdict(frames, usize::MAX));
    let limits = HeadLimits::default();
    let mut head = RequestHead::default();
    if request_at_once(bytes, &limits, &mut head).is_none() || !head.upgrade().is_empty() {
        return;
    }
    // The same head, said in HTTP/2, is the same head.
    let authority = head.authority().to_vec();
    let Some(said) = request(&head, &authority, true, false) else { return };
    let is_good = |value: &[u8]| !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    assert!(said.head.headers().values().all(|value| is_good(value.as_bytes())));
    assert!(is_good(said.head.uri().to_string().as_bytes()));
    let is_escaped = |byte: &u8| matches!(byte, b'`' | b'"' | b'<' | b'>' | 0x80..);
    if head.path().iter().chain(head.query().unwrap_or_default()).any(is_escaped) {
        return;
    }
    let mut again = RequestHead::default();
    let has_body = !head.framing.is_empty();
    take_request(&said.head, has_body, &limits, &mut again).expect("it was a head before");
    assert_eq!(told(&head), told(&again));
    assert_eq!((head.framing, head.expects_continue), (again.framing, again.expects_continue));
});
