//! Buffers that the ring may own for a while, and the shard's pool of them. A connection holds
//! one only while bytes are on their way.

#![expect(unsafe_code, reason = "monoio's buffer traits speak in pointers")]

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use monoio::buf::{IoBuf, IoBufMut};

use crate::base::limits::{
    BUFFER_HEADROOM, BUFFER_LARGE, BUFFER_MEDIUM, BUFFER_SMALL, BUFFER_TAILROOM, BUFFER_TINY,
    BUFFERS_KEPT,
};
use crate::cache::octets::Chunk;
use crate::limit::pressure::Stage;
use crate::net::backlog::{BufferHold, Hold};
use crate::net::memory;
use crate::net::size::Size;

/// Bytes with room in front and behind: `data` lies at `start..end`. Reading appends at `end`;
/// what is written out is `data`. A few words, for it is moved a lot.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: u32,
    end: u32,
    /// Where it counts as held, for clients whose connections have a bound for that.
    hold: Option<BufferHold>,
}

const _: () =
    assert!(size_of::<Buffer>() <= 32, "it is moved a dozen times for each read and write");

/// No buffer is longer than `BUFFER_LARGE`.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
const fn short(at: usize) -> u32 {
    debug_assert!(at <= BUFFER_LARGE, "a place in a buffer");
    at as u32
}

impl Buffer {
    fn new(size: usize) -> Self {
        let bytes = vec![0; size].into_boxed_slice();
        let start = short(BUFFER_HEADROOM);
        Self { bytes, start, end: start, hold: None }
    }

    /// Counts until it is given back, or given up.
    pub fn count(&mut self, hold: Hold) {
        self.let_go();
        self.hold = Some(hold.of_buffer(self.bytes.len()));
    }

    /// Counts no more.
    fn let_go(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.end(self.bytes.len());
        }
    }

    /// It counts somewhere.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.hold.is_some()
    }

    /// Reads append at most so much: they begin so far before the end. For an empty buffer.
    pub fn limit(&mut self, most: usize) {
        debug_assert!(self.is_empty(), "its data would have to move");
        self.start += short(self.space() - most.min(self.space()));
        self.end = self.start;
    }

    const fn start(&self) -> usize {
        self.start as usize
    }

    const fn end(&self) -> usize {
        self.end as usize
    }

    /// What is in it.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start()..self.end()]
    }

    /// What is in it, to decode in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start(), self.end());
        &mut self.bytes[start..end]
    }

    /// Octets in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end() - self.start()
    }

    /// Nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How much a read may append.
    #[must_use]
    pub fn space(&self) -> usize {
        self.bytes.len() - BUFFER_TAILROOM - self.end()
    }

    /// The place behind the data, to write a head into; `filled` says how much was written.
    pub fn spare(&mut self) -> &mut [u8] {
        let (from, to) = (self.end(), self.bytes.len() - BUFFER_TAILROOM);
        &mut self.bytes[from..to]
    }

    /// So much of `spare` is data now.
    pub fn filled(&mut self, len: usize) {
        assert!(len <= self.space(), "what was written fits");
        self.end += short(len);
    }

    /// Drops octets at the front.
    pub fn consume(&mut self, len: usize) {
        assert!(len <= self.len(), "only what is there is consumed");
        self.start += short(len);
    }

    /// Keeps only a part of the data.
    pub fn narrow(&mut self, part: Range<usize>) {
        assert!(part.start <= part.end && part.end <= self.len(), "a part of the data");
        self.end = self.start + short(part.end);
        self.start += short(part.start);
    }

    /// Puts a few octets in front of the data, into the headroom.
    pub fn prepend(&mut self, bytes: &[u8]) {
        let end = self.start();
        let start = end - bytes.len();
        self.bytes[start..end].copy_from_slice(bytes);
        self.start = short(start);
    }

    /// Puts octets behind the data. May use the tailroom.
    pub fn append(&mut self, bytes: &[u8]) {
        let (start, end) = (self.end(), self.end() + bytes.len());
        self.bytes[start..end].copy_from_slice(bytes);
        self.end = short(end);
    }

    fn clear(&mut self) {
        self.start = short(BUFFER_HEADROOM);
        self.end = self.start;
        self.let_go();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.let_go();
    }
}

// SAFETY: the data lies in a boxed slice, whose address does not change while the value moves;
// `start <= end <= bytes.len()` holds after every method.
unsafe impl IoBuf for Buffer {
    fn read_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; every byte of the box is initialised from the beginning, and `bytes_total`
// counts from `write_ptr` and never reaches the tailroom.
unsafe impl IoBufMut for Buffer {
    fn write_ptr(&mut self) -> *mut u8 {
        let end = self.end();
        self.bytes[end..].as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.space()
    }

    unsafe fn set_init(&mut self, len: usize) {
        self.filled(len);
    }
}

/// Octets that a socket takes bit by bit.
pub trait Outgoing: IoBuf {
    /// Those that are left.
    fn data(&self) -> &[u8];
    /// How many are left.
    fn len(&self) -> usize;
    /// None are left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// So many were taken.
    fn consume(&mut self, len: usize);
    /// They count already where a connection's answers are counted.
    fn is_counted(&self) -> bool {
        false
    }
}

impl Outgoing for Buffer {
    fn is_counted(&self) -> bool {
        Self::is_counted(self)
    }

    fn data(&self) -> &[u8] {
        Self::data(self)
    }

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn consume(&mut self, len: usize) {
        Self::consume(self, len);
    }
}

/// A buffer of what is on the wire where that is not what a task reads: records of TLS, frames of
/// HTTP/2. A type of its own, so that the operations on plain buffers have one user, whose code they
/// become part of: that is a thousand instructions for each request.
#[derive(Debug)]
pub struct Sealed(pub Buffer);

impl Outgoing for Sealed {
    fn data(&self) -> &[u8] {
        self.0.data()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn consume(&mut self, len: usize) {
        self.0.consume(len);
    }
}

// SAFETY: as for the buffer in it.
unsafe impl IoBuf for Sealed {
    fn read_ptr(&self) -> *const u8 {
        self.0.read_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.bytes_init()
    }
}

// SAFETY: as for the buffer in it.
unsafe impl IoBufMut for Sealed {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.write_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.bytes_total()
    }

    unsafe fn set_init(&mut self, len: usize) {
        self.0.filled(len);
    }
}

/// A part of octets that others read too: sent from where they are.
#[derive(Clone, Debug)]
pub struct SharedOctets {
    bytes: Chunk,
    part: Range<usize>,
}

impl SharedOctets {
    /// A part of these.
    #[must_use]
    pub fn new(bytes: &Chunk, part: Range<usize>) -> Self {
        assert!(part.start <= part.end && part.end <= bytes.len(), "a part of what is there");
        Self { bytes: Arc::clone(bytes), part }
    }

    /// What is in it.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.part.clone()]
    }
}

impl Outgoing for SharedOctets {
    fn data(&self) -> &[u8] {
        Self::data(self)
    }

    fn len(&self) -> usize {
        self.part.len()
    }

    fn consume(&mut self, len: usize) {
        assert!(len <= self.part.len(), "only what is there is consumed");
        self.part.start += len;
    }
}

// SAFETY: the octets lie in a reference-counted slice that this value keeps alive, at an address
// that does not change, and no code writes to them.
unsafe impl IoBuf for SharedOctets {
    fn read_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.part.len()
    }
}

/// Idle buffers of one shard: last in, first out, so that the next one is warm.
#[derive(Debug, Default)]
pub struct Buffers {
    idle: [RefCell<Vec<Buffer>>; 4],
}

impl Buffers {
    /// An empty buffer.
    #[must_use]
    pub fn take(&self, size: Size) -> Buffer {
        let idle = self.idle[size as usize].borrow_mut().pop();
        idle.unwrap_or_else(|| Buffer::new(size.bytes()))
    }

    /// An empty buffer for something that may be left: none when the memory is full and none is idle.
    #[must_use]
    pub fn try_take(&self, size: Size) -> Option<Buffer> {
        let is_full = memory::stage() == Stage::Refuse;
        (!is_full || !self.idle[size as usize].borrow().is_empty()).then(|| self.take(size))
    }

    /// Gives one back; keeps it if few enough are idle.
    pub fn give(&self, mut buffer: Buffer) {
        let at = match buffer.bytes.len() {
            BUFFER_TINY => Size::Tiny,
            BUFFER_SMALL => Size::Small,
            BUFFER_MEDIUM => Size::Medium,
            _ => Size::Large,
        } as usize;
        let mut idle = self.idle[at].borrow_mut();
        if idle.len() < BUFFERS_KEPT[at] {
            buffer.clear();
            idle.push(buffer);
        }
    }

    /// Lets go of half of what is idle: called now and then, so that a rush is paid back.
    pub fn trim(&self) {
        for idle in &self.idle {
            let mut idle = idle.borrow_mut();
            let keep = idle.len() / 2;
            idle.truncate(keep);
            if idle.capacity() > 4 * keep + 16 {
                idle.shrink_to(keep);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_moves_within_its_room() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(Size::Small);
        buffer.append(b"hello world");
        buffer.consume(6);
        buffer.prepend(b"5\r\n");
        assert_eq!(buffer.data(), b"5\r\nworld");
        buffer.narrow(3..5);
        assert_eq!(buffer.data(), b"wo");
        buffers.give(buffer);
        assert!(buffers.take(Size::Small).is_empty());
    }

    #[test]
    fn a_full_buffer_still_takes_a_chunk_end() {
        let mut buffer = Buffers::default().take(Size::Small);
        let space = buffer.space();
        buffer.filled(space);
        buffer.prepend(&[b'f'; 18]);
        buffer.append(b"\r\n0\r\n\r\n");
        assert_eq!(buffer.len(), 18 + space + 7);
    }

    #[test]
    fn reading_appends_behind_the_data() {
        let mut buffer = Buffers::default().take(Size::Small);
        buffer.append(b"ab");
        let (at, room) = (buffer.write_ptr().cast_const(), buffer.bytes_total());
        assert_eq!(at, buffer.data().as_ptr_range().end);
        assert_eq!(room, BUFFER_SMALL - BUFFER_HEADROOM - BUFFER_TAILROOM - 2);
        assert_eq!(buffer.bytes_init(), 2);
    }
}
