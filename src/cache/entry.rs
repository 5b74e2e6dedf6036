//! A stored response: immutable, shared by all cores, with three exceptions that any core may
//! look at: whether it is still the one, whether it was marked stale, and how much it is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use super::freshness::{Freshness, Stale};
use super::octets::{Chunk, Octets};
use crate::base::clock::Moment;
use crate::base::limits::HEAT_MAX;
use crate::base::limits::{INLINE_MAX, PIECE_MIN};
use crate::message::name::Name;

/// A stored response. Its texts are in one block: key, selecting fields, head, small body.
#[derive(Debug)]
pub struct Entry {
    text: Box<[u8]>,
    body: Option<Box<Large>>,
    key_end: u32,
    selecting_end: u32,
    fields_end: u32,
    /// Tenths of seconds of the monotonic clock: 13 years of them.
    received: u32,
    initial_age: u32,
    lifetime: u32,
    while_revalidating: u32,
    if_error: u32,
    /// The age at which it was marked stale; `u32::MAX` if it was not.
    demoted: AtomicU32,
    /// The last purge that it was held against, by its owner's count.
    purges: AtomicU32,
    /// Seconds since 1970; zero if unknown.
    modified: u32,
    status: u16,
    stale: Stale,
    heat: AtomicU8,
    is_live: AtomicBool,
}

/// A body that is not in the block.
#[derive(Debug)]
pub enum Large {
    /// It is still coming; of so many octets, if that is known.
    Growing(Option<u64>),
    /// All of it.
    Whole(Bulk),
    /// Octets from `first` on, of so many in all.
    Partial { first: u64, data: Chunk, total: u64 },
}

/// A whole body in pieces.
#[derive(Debug)]
pub struct Bulk {
    chunks: Box<[Chunk]>,
    len: u64,
}

impl Bulk {
    /// Of these pieces.
    #[must_use]
    pub fn new(chunks: Box<[Chunk]>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks, len }
    }

    #[must_use]
    pub const fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Octets.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What an entry is made of.
#[derive(Debug)]
pub struct Draft<'a> {
    pub key: &'a [u8],
    pub selecting: &'a [u8],
    /// Field lines as they go out, each with its CRLF.
    pub fields: &'a [u8],
    pub status: u16,
    pub freshness: Freshness,
    /// Last-Modified, in seconds since 1970.
    pub modified: Option<u64>,
}

impl Draft<'_> {
    /// With a body that fits behind the head.
    #[must_use]
    pub fn small(&self, body: &[u8]) -> Entry {
        self.build(&[body], None)
    }

    /// With a body that is elsewhere.
    #[must_use]
    pub fn large(&self, body: Large) -> Entry {
        self.build(&[], Some(Box::new(body)))
    }

    /// With all of a body that came in pieces.
    #[must_use]
    pub fn whole(&self, chunks: &[Chunk]) -> Entry {
        let len: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        if len <= INLINE_MAX {
            let pieces: Vec<&[u8]> = chunks.iter().map(|chunk| &***chunk).collect();
            return self.build(&pieces, None);
        }
        self.large(Large::Whole(Bulk::new(packed(chunks))))
    }

    fn build(&self, body: &[&[u8]], large: Option<Box<Large>>) -> Entry {
        let body_len: usize = body.iter().map(|piece| piece.len()).sum();
        let heads = self.key.len() + self.selecting.len() + self.fields.len();
        let mut text = Vec::with_capacity(heads + body_len);
        let mut ends = [0; 3];
        for (end, part) in ends.iter_mut().zip([self.key, self.selecting, self.fields]) {
            text.extend_from_slice(part);
            *end = short(text.len());
        }
        body.iter().for_each(|piece| text.extend_from_slice(piece));
        let Freshness { received, initial_age, lifetime, while_revalidating, if_error, stale } =
            self.freshness;
        Entry {
            text: text.into_boxed_slice(),
            body: large,
            key_end: ends[0],
            selecting_end: ends[1],
            fields_end: ends[2],
            received: u32::try_from(received.0 / 100).unwrap_or(u32::MAX),
            initial_age,
            lifetime,
            while_revalidating,
            if_error,
            demoted: AtomicU32::new(u32::MAX),
            purges: AtomicU32::new(0),
            modified: self.modified.map_or(0, |at| u32::try_from(at).unwrap_or(u32::MAX)),
            status: self.status,
            stale,
            heat: AtomicU8::new(0),
            is_live: AtomicBool::new(true),
        }
    }
}

/// Small pieces become larger ones: each costs an allocation, and a send.
fn packed(chunks: &[Chunk]) -> Box<[Chunk]> {
    let mut out: Vec<Chunk> = Vec::new();
    let mut run: Vec<u8> = Vec::new();
    for chunk in chunks {
        if chunk.len() >= PIECE_MIN && run.is_empty() {
            out.push(Arc::clone(chunk));
            continue;
        }
        run.extend_from_slice(chunk);
        if run.len() >= PIECE_MIN {
            out.push(Octets::beside(chunk, std::mem::take(&mut run)));
        }
    }
    if let (Some(last), false) = (chunks.last(), run.is_empty()) {
        out.push(Octets::beside(last, run));
    }
    out.into_boxed_slice()
}

/// Heads and small bodies are far below 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
const fn short(len: usize) -> u32 {
    len as u32
}

/// Where the value of a field stands in a block of lines: place and length.
fn find(fields: &[u8], name: Name) -> Option<(usize, usize)> {
    lines(fields).find_map(|(at, line)| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = (colon + 2).min(line.len());
        (Name::of(&line[..colon]) == name).then(|| (at + value, line.len() - value))
    })
}

/// The lines of a block, without their CRLF, and where each begins.
pub fn lines(fields: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = memchr::memchr(b'\r', fields.get(at..)?)?;
        let line = (at, &fields[at..at + len]);
        at += len + 2;
        Some(line)
    })
}

impl Entry {
    /// What it is called.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.text[..self.key_end as usize]
    }

    /// What selects it (`cache::vary`).
    #[must_use]
    pub fn selecting(&self) -> &[u8] {
        &self.text[self.key_end as usize..self.selecting_end as usize]
    }

    /// Its field lines, each with CRLF.
    #[must_use]
    pub fn fields(&self) -> &[u8] {
        &self.text[self.selecting_end as usize..self.fields_end as usize]
    }

    /// The value of the first field of a name.
    #[must_use]
    pub fn field(&self, name: Name) -> Option<&[u8]> {
        let (at, len) = find(self.fields(), name)?;
        Some(&self.fields()[at..at + len])
    }

    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Its entity tag, with quotes and all.
    #[must_use]
    pub fn etag(&self) -> Option<&[u8]> {
        self.field(Name::Etag).filter(|tag| !tag.is_empty())
    }

    /// Last-Modified, in seconds since 1970.
    #[must_use]
    pub fn modified(&self) -> Option<u64> {
        (self.modified > 0).then(|| u64::from(self.modified))
    }

    /// The body, if it stands behind the head.
    #[must_use]
    pub fn small(&self) -> Option<&[u8]> {
        self.body.is_none().then(|| &self.text[self.fields_end as usize..])
    }

    /// The body, if it does not.
    #[must_use]
    pub fn large(&self) -> Option<&Large> {
        self.body.as_deref()
    }

    /// Octets of the whole body; `None` if it is not known yet.
    #[must_use]
    pub fn body_len(&self) -> Option<u64> {
        match self.large() {
            None => Some((self.text.len() - self.fields_end as usize) as u64),
            Some(Large::Growing(len)) => *len,
            Some(Large::Whole(bulk)) => Some(bulk.len()),
            Some(Large::Partial { total, .. }) => Some(*total),
        }
    }

    /// Only a part of the body is here.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self.large(), Some(Large::Partial { .. }))
    }

    /// Octets of memory that it takes, with its place in the index.
    #[must_use]
    pub fn weight(&self) -> u64 {
        /// Slot, index, queue and allocator.
        const PLACE: usize = 48;
        let fixed = size_of::<Self>() + 2 * size_of::<usize>() + PLACE;
        (fixed + self.text.len()) as u64 + self.large_cost()
    }

    /// What its pieces count as.
    #[must_use]
    pub fn large_cost(&self) -> u64 {
        match self.large() {
            None | Some(Large::Growing(_)) => 0,
            Some(Large::Whole(bulk)) => bulk.chunks().iter().map(|chunk| chunk.cost()).sum(),
            Some(Large::Partial { data, .. }) => data.cost(),
        }
    }

    /// What decides whether it may be served.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        Freshness {
            received: Moment(u64::from(self.received) * 100),
            initial_age: self.initial_age,
            lifetime: self.lifetime.min(self.demoted.load(Relaxed)),
            while_revalidating: self.while_revalidating,
            if_error: self.if_error,
            stale: self.stale,
        }
    }

    /// It is the one that answers requests for its key. False for good once it is not.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live.load(Relaxed)
    }

    /// Another has taken its place, or none.
    pub fn kill(&self) {
        self.is_live.store(false, Relaxed);
    }

    /// It counts as stale from now on.
    pub fn demote(&self, now: Moment) {
        let age = u32::try_from(self.freshness().age(now)).unwrap_or(u32::MAX - 1);
        self.demoted.fetch_min(age, Relaxed);
    }

    /// It was asked for.
    pub fn warm(&self) {
        let heat = self.heat.load(Relaxed);
        if heat < HEAT_MAX {
            self.heat.store(heat + 1, Relaxed);
        }
    }

    /// How much it is wanted; the eviction cools it.
    #[must_use]
    pub fn heat(&self) -> u8 {
        self.heat.load(Relaxed)
    }

    /// One step colder.
    pub fn cool(&self) {
        self.heat.store(self.heat().saturating_sub(1), Relaxed);
    }

    /// The last purge that it was held against.
    #[must_use]
    pub fn purges(&self) -> u32 {
        self.purges.load(Relaxed)
    }

    /// It was held against all purges up to this one.
    pub fn set_purges(&self, last: u32) {
        self.purges.store(last, Relaxed);
    }

    /// The tags that the origin gave it (`Surrogate-Key`, `Cache-Tag`).
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        let values = lines(self.fields()).filter_map(|(_, line)| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let is_tag = matches!(Name::of(&line[..colon]), Name::SurrogateKey | Name::CacheTag);
            is_tag.then(|| line.get(colon + 2..).unwrap_or_default())
        });
        let parts = values.flat_map(|value| value.split(|byte| matches!(byte, b',' | b' ')));
        parts.map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::octets::{Gauge, joined};

    const FIELDS: &[u8] =
        b"ETag: \"a\"\r\nSurrogate-Key: red  green\r\ncache-tag: blue, black\r\nDate: x\r\n";

    fn draft() -> Draft<'static> {
        Draft {
            key: b"key",
            selecting: b"vary",
            fields: FIELDS,
            status: 200,
            freshness: Freshness { lifetime: 60, ..Freshness::default() },
            modified: None,
        }
    }

    #[test]
    fn texts_are_found_again() {
        let entry = draft().small(b"body");
        assert_eq!((entry.key(), entry.selecting()), (&b"key"[..], &b"vary"[..]));
        assert_eq!((entry.fields(), entry.small()), (FIELDS, Some(&b"body"[..])));
        assert_eq!((entry.etag(), entry.modified()), (Some(&b"\"a\""[..]), None));
        assert_eq!(entry.field(Name::Date), Some(&b"x"[..]));
        let tags: Vec<&[u8]> = entry.tags().collect();
        assert_eq!(tags, [&b"red"[..], b"green", b"blue", b"black"]);
    }

    #[test]
    fn pieces_are_packed_and_nothing_is_lost() {
        let gauge = Gauge::default();
        let pieces: Vec<Chunk> =
            (0..100_u8).map(|n| Octets::counted(vec![n; 3000], &gauge)).collect();
        let entry = draft().whole(&pieces);
        let Some(Large::Whole(bulk)) = entry.large() else { panic!("large") };
        let chunks = bulk.chunks();
        assert_eq!(bulk.len(), 300_000);
        assert!(chunks.len() <= 5, "{}", chunks.len());
        assert_eq!(joined(chunks), joined(&pieces));
        assert!(entry.weight() > 300_000 && entry.weight() < 302_000);
        let all = gauge.load(Relaxed);
        assert_eq!(all, entry.large_cost() + pieces.iter().map(|one| one.cost()).sum::<u64>());
        drop(entry);
        assert!(gauge.load(Relaxed) < all);
        assert_eq!(draft().whole(&pieces[..2]).small().map(<[u8]>::len), Some(6000));
    }

    #[test]
    fn a_demoted_entry_is_stale_from_then_on() {
        let entry = draft().small(b"");
        entry.demote(Moment(20_000));
        entry.demote(Moment(30_000));
        assert_eq!(entry.freshness().ttl(Moment(25_000)), -5);
    }

    #[test]
    fn an_entry_is_small() {
        // The arc's counts, the index and the allocator come on top.
        assert!(size_of::<Entry>() <= 80, "{}", size_of::<Entry>());
    }
}
