//! A response head: one verdict however it is cut, and what is written again is read alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::message::framing::Framing;
use millrace::message::head::{Method, ResponseHead};
use millrace::message::limits::HeadLimits;
use millrace::wire::http1::parse;
use millrace::wire::http1::scan::Scan;
use millrace::wire::http1::write::{self, ResponseConnection, Writer};

fn shown(head: &ResponseHead) -> Vec<(Vec<u8>, Vec<u8>)> {
    head.fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let limits = HeadLimits::RESPONSE;
    let whole = Scan::default().response(bytes, &limits);
    let mut scan = Scan::default();
    let bytewise = (1..=bytes.len())
        .map(|len| scan.response(&bytes[..len], &limits))
        .find(|step| !matches!(step, Ok(None)));
    assert_eq!(bytewise.unwrap_or(Ok(None)), whole);
    for asked in [Method::Get, Method::Head] {
        let (mut head, mut at_once) = (ResponseHead::default(), ResponseHead::default());
        let len = parse::response_at_once(bytes, asked, &mut at_once);
        let Ok(Some(found)) = whole else {
            assert_eq!(len, None);
            continue;
        };
        if parse::response(&bytes[..found.end], asked, &mut head).is_err() {
            assert_eq!(len, None);
            continue;
        }
        if let Some(len) = len {
            assert_eq!(len, found.end);
            assert_eq!((head.framing, head.tainted), (at_once.framing, at_once.tainted));
            assert_eq!(shown(&head), shown(&at_once));
        }
        let mut out = vec![0; 128 * 1024];
        let mut writer = Writer::new(&mut out);
        let keep = ResponseConnection::Keep;
        write::final_head(&head.as_final(), head.framing, keep, &mut writer);
        let len = writer.finish().expect("it fits");
        let mut again = ResponseHead::default();
        if parse::response(&out[..len], asked, &mut again).is_ok() {
            let is_plain = !matches!(head.framing, Framing::None);
            assert!(!is_plain || again.framing == head.framing);
            assert_eq!(again.status, head.status);
            assert_eq!(again.fields.len(), head.fields.len());
        }
    }
});
