//! A request head: any segmentation gives the same verdict, what is accepted at once is accepted
//! bytewise, and what is written again is read as the same head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::message::framing::Framing;
use millrace::message::head::RequestHead;
use millrace::message::limits::HeadLimits;
use millrace::wire::http1::parse;
use millrace::wire::http1::scan::Scan;
use millrace::wire::http1::write::{self, RequestConnection, Writer};

fn shown(head: &RequestHead) -> Vec<(Vec<u8>, Vec<u8>)> {
    head.fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let limits = HeadLimits::default();
    let whole = Scan::default().request(bytes, &limits);
    let mut scan = Scan::default();
    let bytewise = (1..=bytes.len())
        .map(|len| scan.request(&bytes[..len], &limits))
        .find(|step| !matches!(step, Ok(None)));
    assert_eq!(bytewise.unwrap_or(Ok(None)), whole);

    let mut at_once = RequestHead::default();
    let len = parse::request_at_once(bytes, &limits, &mut at_once);
    let Ok(Some(found)) = whole else {
        assert_eq!(len, None);
        return;
    };
    let mut head = RequestHead::default();
    if parse::request(&bytes[found.start..found.end], &limits, &mut head).is_err() {
        assert_eq!(len, None);
        return;
    }
    if let Some(len) = len {
        assert_eq!((0, len), (found.start, found.end));
        assert_eq!(shown(&head), shown(&at_once));
    }
    if head.authority().is_empty() {
        return;
    }
    let mut out = vec![0; 128 * 1024];
    let mut writer = Writer::new(&mut out);
    write::request(&head, head.authority(), RequestConnection::Keep, &mut writer);
    let len = writer.finish().expect("it fits");
    let wide = HeadLimits { head: 128 * 1024, ..limits };
    let mut again = RequestHead::default();
    parse::request(&out[..len], &wide, &mut again).expect("what we write, we read");
    // A method that has a body says that it has none (RFC 9110 section 8.6; exam R24).
    let says_none =
        matches!(head.method_text(), b"POST" | b"PUT" | b"PATCH") && head.framing == Framing::None;
    assert_eq!(again.framing, if says_none { Framing::Length(0) } else { head.framing });
    assert_eq!(again.path(), head.path());
    assert_eq!(again.query(), head.query());
    assert_eq!(again.authority(), head.authority());
    assert_eq!(shown(&again), shown(&head));
});
