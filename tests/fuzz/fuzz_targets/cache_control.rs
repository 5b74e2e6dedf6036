//! What the cache reads of heads: nothing panics, and more directives never make anything fresher.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::base::clock::Moment;
use millrace::cache::entry::Draft;
use millrace::cache::freshness::Freshness;
use millrace::cache::policy::{self, StorableRequest, Times};
use millrace::cache::{directive, range, validate, vary};
use millrace::config::cache::CacheRule;
use millrace::message::date;
use millrace::message::fields::Fields;
use millrace::message::head::ResponseHead;

const NAMES: [&[u8]; 14] = [
    b"cache-control",
    b"cdn-cache-control",
    b"millrace-cache-control",
    b"expires",
    b"date",
    b"age",
    b"vary",
    b"etag",
    b"last-modified",
    b"if-none-match",
    b"if-modified-since",
    b"if-range",
    b"range",
    b"content-range",
];

fuzz_target!(|bytes: &[u8]| {
    // Lines of a request, then of a response; each begins with the number of its field.
    let (mut request, mut response) = (Fields::default(), ResponseHead::default());
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((at, value)) = line.split_first() else { continue };
        // Parsed heads have no such octets.
        if value.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            continue;
        }
        let name = NAMES[usize::from(at % 14)];
        if at & 0x80 == 0 { response.fields.push(name, value) } else { request.push(name, value) }
    }
    response.status = 200 + u16::from(bytes.len() as u8);
    let rule = CacheRule::default();
    let asked = StorableRequest::of(&request, &rule);
    let times = Times { now: Moment(1 << 40), wall: 1_700_000_000_000, asked: Moment(1 << 39) };
    if let Ok(storable) = policy::may_store(&asked, &response, &rule, times) {
        assert!(storable.freshness.lifetime <= millrace::base::limits::SECONDS_MAX);
        assert!(
            vary::matches(&storable.selecting, &request),
            "it answers the request it was made for"
        );
        // One more max-age never makes it fresher.
        let (before, targeted) =
            (storable.freshness.lifetime, directive::of_response(&response.fields).1);
        response.fields.push(b"cache-control", b"max-age=0");
        if !targeted && let Ok(after) = policy::may_store(&asked, &response, &rule, times) {
            assert!(after.freshness.lifetime <= before);
        }
    }
    let mut lines = Vec::new();
    response.fields.each_block(|block| lines.extend_from_slice(block));
    let draft = Draft {
        key: b"",
        selecting: b"",
        fields: &lines,
        status: 200,
        freshness: Freshness::default(),
        modified: None,
    };
    let entry = draft.small(b"0123456789");
    match validate::answer(&entry, &request, true, Some(10)) {
        validate::StoredAnswer::Part(first, count) => assert!(count > 0 && first + count <= 10),
        validate::StoredAnswer::Parts(parts) => {
            assert!(parts.len() <= millrace::base::limits::RANGES_MAX);
            assert!(parts.iter().all(|(first, count)| *count > 0 && first + count <= 10));
        }
        _ => {}
    }
    let _ = (validate::confirms(&entry, &request), validate::updated(&entry, &request));
    if let Some((first, count, total)) = range::content_range(bytes) {
        assert!(count > 0 && first + count <= total);
    }
    let _ = (date::parse(bytes), entry.tags().count());
});
