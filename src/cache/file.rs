//! What a stored response looks like in a file: a header of fixed size, then key, selecting values,
//! fields and body. Two sums cover every octet (exam Q01): whatever was changed, cut off or
//! written by another program is no response.

use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::entry::{Bulk, Draft, Entry, Large};
use super::freshness::{Freshness, Stale};
use super::key;
use super::octets::Chunk;
use crate::base::clock::Moment;
use crate::base::limits::{FILE_TEXTS_MAX, INLINE_MAX};

/// Another form has another number; files of others are left alone (Q04).
pub const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"millrace";
/// Octets of the header.
pub const HEADER: usize = 96;
/// How far a clock may be set back between two runs before ages cannot be told any more.
const SET_BACK: u64 = 1000;

/// When a file is written or read: a monotonic clock does not outlive its process.
#[derive(Clone, Copy, Debug, Default)]
pub struct When {
    pub now: Moment,
    /// Milliseconds since 1970.
    pub wall: u64,
}

/// Names a response among those of its URL.
#[must_use]
pub fn variant(entry: &Entry, seed: u64) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    hasher.update(entry.key());
    hasher.update(entry.selecting());
    hasher.digest()
}

/// All that stands before the body. `born` counts the wide purges that it has outlived.
#[must_use]
pub fn front(entry: &Entry, born: u64, when: When) -> Vec<u8> {
    let (key, selecting, fields) = (entry.key(), entry.selecting(), entry.fields());
    let freshness = entry.freshness();
    let received = when.wall.saturating_sub(when.now.0.saturating_sub(freshness.received.0));
    let mut sum = Xxh3::new();
    each_piece(entry, |piece| sum.update(piece));
    let len = |text: &[u8]| u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = Vec::with_capacity(HEADER + key.len() + selecting.len() + fields.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&entry.status().to_le_bytes());
    out.extend_from_slice(&[number_of(freshness.stale), 0]);
    [key, selecting, fields].iter().for_each(|text| out.extend_from_slice(&len(text)));
    for number in [
        freshness.lifetime,
        freshness.initial_age,
        freshness.while_revalidating,
        freshness.if_error,
        0,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let modified = entry.modified().unwrap_or(0);
    for number in [received, modified, entry.body_len().unwrap_or(0), born, sum.digest()] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[0; 8]);
    [key, selecting, fields].iter().for_each(|text| out.extend_from_slice(text));
    let sum = sum_of_front(&out);
    out[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The body, piece by piece. Only whole ones are written.
pub fn each_piece(entry: &Entry, mut each: impl FnMut(&[u8])) {
    match entry.large() {
        None => each(entry.small().unwrap_or_default()),
        Some(Large::Whole(bulk)) => bulk.chunks().iter().for_each(|chunk| each(chunk)),
        Some(Large::Growing(_) | Large::Partial { .. }) => {}
    }
}

/// Whether an entry has all that a file holds.
#[must_use]
pub fn is_whole(entry: &Entry) -> bool {
    matches!(entry.large(), None | Some(Large::Whole(..)))
}

/// Puts the right sums into what stands before a body: for tests of what is behind the sums.
pub fn sign(front: &mut [u8], body: &[u8]) {
    if front.len() >= HEADER {
        front[64..72].copy_from_slice(&(body.len() as u64).to_le_bytes());
        front[HEADER - 16..HEADER - 8].copy_from_slice(&xxh3_64(body).to_le_bytes());
        let sum = sum_of_front(front);
        front[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
    }
}

fn sum_of_front(front: &[u8]) -> u64 {
    let seed = xxh3_64(&front[..HEADER - 8]);
    xxh3_64_with_seed(&front[HEADER..], seed)
}

const fn number_of(stale: Stale) -> u8 {
    match stale {
        Stale::Asked => 0,
        Stale::Granted => 1,
        Stale::Never => 2,
        Stale::Always => 3,
    }
}

/// What the header says.
#[derive(Clone, Copy, Debug)]
pub struct FileHeader {
    status: u16,
    stale: Stale,
    lens: [u32; 3],
    lifetime: u32,
    initial_age: u32,
    while_revalidating: u32,
    if_error: u32,
    /// Milliseconds since 1970.
    pub received: u64,
    modified: u64,
    pub body_len: u64,
    pub born: u64,
    body_sum: u64,
}

impl FileHeader {
    /// Whether these are the first octets of a file of ours, in this form.
    #[must_use]
    pub fn is_of_our_time(bytes: &[u8; HEADER]) -> bool {
        bytes[..8] == MAGIC && bytes[8..12] == FORMAT.to_le_bytes()
    }

    /// Reads one; `None` if it is of no use to us. Whether it is unharmed only `Front` knows.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let four = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(number)
        };
        let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
        let stale = match bytes[14] {
            0 => Stale::Asked,
            1 => Stale::Granted,
            2 => Stale::Never,
            3 => Stale::Always,
            _ => return None,
        };
        let header = Self {
            status: u16::from_le_bytes([bytes[12], bytes[13]]),
            stale,
            lens: [four(16), four(20), four(24)],
            lifetime: four(28),
            initial_age: four(32),
            while_revalidating: four(36),
            if_error: four(40),
            received: eight(48),
            modified: eight(56),
            body_len: eight(64),
            born: eight(72),
            body_sum: eight(80),
        };
        let is_good = Self::is_of_our_time(bytes) && header.texts() <= FILE_TEXTS_MAX;
        is_good.then_some(header)
    }

    /// Octets between the header and the body.
    #[must_use]
    pub fn texts(&self) -> u64 {
        self.lens.iter().map(|len| u64::from(*len)).sum()
    }

    /// Octets of the whole file; `None` if there are no such files.
    #[must_use]
    pub fn file_len(&self) -> Option<u64> {
        (HEADER as u64 + self.texts()).checked_add(self.body_len)
    }
}

/// All before the body, unharmed.
#[derive(Clone, Debug)]
pub struct Front {
    pub header: FileHeader,
    bytes: Vec<u8>,
}

impl Front {
    /// Checks header and texts, which `bytes` holds and nothing else.
    #[must_use]
    pub fn check(header: FileHeader, bytes: Vec<u8>) -> Option<Self> {
        let told = bytes.get(HEADER - 8..HEADER)?;
        let is_whole = bytes.len() as u64 == HEADER as u64 + header.texts();
        let is_same = is_whole && told == sum_of_front(&bytes).to_le_bytes();
        is_same.then_some(Self { header, bytes })
    }

    fn text(&self, at: usize) -> &[u8] {
        let start = |at: usize| -> usize {
            HEADER + self.header.lens[..at].iter().map(|len| *len as usize).sum::<usize>()
        };
        &self.bytes[start(at)..start(at + 1)]
    }

    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.text(0)
    }

    #[must_use]
    pub fn selecting(&self) -> &[u8] {
        self.text(1)
    }

    /// Where it belongs, if it stands where it belongs.
    #[must_use]
    pub fn is_at(&self, hash: u64, seed: u64) -> bool {
        key::hash(self.key(), seed) == hash
    }

    /// The entry, with the body that was behind it; `None` if the body was harmed.
    #[must_use]
    pub fn entry(&self, chunks: &[Chunk], when: When) -> Option<Entry> {
        let mut sum = Xxh3::new();
        chunks.iter().for_each(|chunk| sum.update(chunk));
        let len: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if len != self.header.body_len || sum.digest() != self.header.body_sum {
            return None;
        }
        let draft = self.draft(when);
        if len <= INLINE_MAX as u64 {
            return Some(draft.whole(chunks));
        }
        let chunks = chunks.iter().map(Arc::clone).collect();
        Some(draft.large(Large::Whole(Bulk::new(chunks))))
    }

    /// The entry without its body, for purges to look at.
    #[must_use]
    pub fn bare(&self) -> Entry {
        self.draft(When::default()).small(b"")
    }

    fn draft(&self, when: When) -> Draft<'_> {
        let header = &self.header;
        // After a clock was set back it is not known how old this is: it counts as stale.
        let is_known = header.received <= when.wall + SET_BACK;
        let past = when.wall.saturating_sub(header.received) / 1000;
        let past = if is_known { past } else { u64::from(header.lifetime) };
        let age = u64::from(header.initial_age) + past;
        let freshness = Freshness {
            received: when.now,
            initial_age: u32::try_from(age).unwrap_or(u32::MAX),
            lifetime: header.lifetime,
            while_revalidating: header.while_revalidating,
            if_error: header.if_error,
            stale: header.stale,
        };
        Draft {
            key: self.key(),
            selecting: self.selecting(),
            fields: self.text(2),
            status: header.status,
            freshness,
            modified: (header.modified > 0).then_some(header.modified),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::octets::Octets;

    const WHEN: When = When { now: Moment(100_000), wall: 1_000_000_000 };

    fn entry(body: usize) -> Entry {
        let mut key = vec![7; 17];
        key[9..17].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        key.extend_from_slice(b"h/xmore");
        let freshness = Freshness {
            received: Moment(40_000),
            initial_age: 5,
            lifetime: 600,
            while_revalidating: 7,
            if_error: 8,
            stale: Stale::Never,
        };
        let draft = Draft {
            key: &key,
            selecting: b"foo\x001\x00",
            fields: b"ETag: \"a\"\r\nDate: x\r\n",
            status: 203,
            freshness,
            modified: Some(77),
        };
        draft.whole(&[Octets::plain(vec![b'x'; body])])
    }

    fn file(entry: &Entry) -> Vec<u8> {
        let mut out = front(entry, 9, WHEN);
        each_piece(entry, |piece| out.extend_from_slice(piece));
        out
    }

    fn read(bytes: &[u8], when: When) -> Option<Entry> {
        let header = FileHeader::read(bytes.get(..HEADER)?.try_into().ok()?)?;
        if header.file_len() != Some(bytes.len() as u64) {
            return None;
        }
        let at = HEADER + usize::try_from(header.texts()).ok()?;
        let front = Front::check(header, bytes.get(..at)?.to_vec())?;
        front.entry(&[Octets::plain(&bytes[at..])], when)
    }

    #[test]
    fn what_is_written_is_read_and_has_aged() {
        for body in [0, 100, INLINE_MAX + 1] {
            let one = entry(body);
            let later = When { now: Moment(3_000), wall: WHEN.wall + 20_000 };
            let other = read(&file(&one), later).unwrap();
            assert_eq!((other.key(), other.selecting()), (one.key(), one.selecting()));
            assert_eq!((other.fields(), other.status()), (one.fields(), 203));
            assert_eq!((other.body_len(), other.modified()), (one.body_len(), Some(77)));
            // 5 s when it came, 60 s before it was written, 20 s until it was read.
            assert_eq!(other.freshness().age(later.now), 85);
            assert_eq!(other.freshness().ttl(later.now), one.freshness().ttl(WHEN.now) - 20);
            assert_eq!(other.freshness().stale, Stale::Never);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_it_stale() {
        let earlier = When { now: Moment(0), wall: WHEN.wall - 3_600_000 };
        let other = read(&file(&entry(1)), earlier).unwrap();
        assert!(other.freshness().ttl(Moment(0)) <= 0);
    }

    #[test]
    fn no_bit_may_differ() {
        // exam Q01.
        let good = file(&entry(40));
        assert!(read(&good, WHEN).is_some());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad, WHEN).is_none(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(read(&good[..len], WHEN).is_none(), "{len} octets");
        }
        assert!(read(&[good.as_slice(), b"x"].concat(), WHEN).is_none());
    }

    #[test]
    fn it_belongs_to_one_place() {
        let bytes = file(&entry(0));
        let header = FileHeader::read(bytes[..HEADER].try_into().unwrap()).unwrap();
        let front = Front::check(header, bytes).unwrap();
        let hash = key::hash(front.key(), 3);
        assert!(front.is_at(hash, 3) && !front.is_at(hash, 4) && !front.is_at(hash + 1, 3));
        assert_eq!((front.bare().key(), front.header.born), (front.key(), 9));
        assert_ne!(variant(&front.bare(), 1), variant(&front.bare(), 2));
    }
}
