//! Files of the cache's disk: whatever they hold, nothing panics, and what is read is what was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::cache::file::{self, FileHeader, Front, HEADER, When};
use millrace::cache::octets::Octets;

fuzz_target!(|bytes: &[u8]| {
    let when = When { now: millrace::base::clock::Moment(5_000), wall: 1_700_000_000_000 };
    let Some(first) = bytes.first_chunk::<HEADER>() else { return };
    let Some(header) = FileHeader::read(first) else { return };
    let Ok(at) = usize::try_from(header.texts() + HEADER as u64) else { return };
    let Some(texts) = bytes.get(..at) else { return };
    // The sums are mended, so that what is behind them is reached.
    let mut texts = texts.to_vec();
    file::sign(&mut texts, &bytes[at..]);
    let Some(header) = texts.first_chunk::<HEADER>().and_then(FileHeader::read) else { return };
    let Some(front) = Front::check(header, texts) else { panic!("it was signed") };
    let _ = front.bare();
    if let Some(entry) = front.entry(&[Octets::plain(&bytes[at..])], when) {
        assert_eq!((entry.key(), entry.selecting()), (front.key(), front.selecting()));
        let mut body = Vec::new();
        file::each_piece(&entry, |piece| body.extend_from_slice(piece));
        assert_eq!(body, &bytes[at..]);
        let again = file::front(&entry, header.born, when);
        let header = again.first_chunk::<HEADER>().and_then(FileHeader::read);
        assert!(header.and_then(|header| Front::check(header, again)).is_some());
    }
});
