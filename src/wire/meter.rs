//! What the frames of an HTTP/2 connection cost us beside what they bring: counted as they come,
//! before h2 sees them (RELIABILITY M01 to M06). Only the nine octets of each frame's head are read.

use crate::base::limits::{
    H2_CONTINUATIONS_MAX, H2_CONTROL_BURST, H2_CONTROL_RATE, H2_EMPTY_MAX, H2_RESETS_MAX,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Why a connection is ended, all but the last with ENHANCE_YOUR_CALM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Streams that are opened to be reset (CVE-2023-44487).
    Resets,
    /// A head in ever more pieces.
    Continuations,
    /// Frames with nothing in them (CVE-2019-9518).
    Empty,
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE and unknown frames (CVE-2019-9512, -9515).
    Control,
    /// A frame of a size that its kind cannot have (RFC 9113 section 6): h2 would call it by another
    /// name.
    Size,
    /// The first frame is no SETTINGS (section 3.4).
    Preface,
}

/// One connection's counts.
#[derive(Debug)]
pub struct Meter {
    head: [u8; 9],
    have: usize,
    /// Octets of the frame's payload that are still to come.
    skip: usize,
    /// The client's preface, which is no frame.
    preface: usize,
    streams: u32,
    resets: u32,
    continuations: u32,
    empty: u32,
    /// Control frames that may still come at once.
    control: u32,
    /// Second of the last refill.
    refilled: u64,
    in_block: bool,
    is_first: bool,
}

impl Meter {
    /// Before a client's first octet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            head: [0; 9],
            have: 0,
            skip: 0,
            preface: h2_preface().len(),
            streams: 0,
            resets: 0,
            continuations: 0,
            empty: 0,
            control: H2_CONTROL_BURST,
            refilled: 0,
            in_block: false,
            is_first: true,
        }
    }

    /// A head has begun, and has not come whole.
    #[must_use]
    pub const fn is_in_block(&self) -> bool {
        self.in_block
    }

    /// Counts what has come. `second` is a clock's.
    ///
    /// # Errors
    /// More than anybody needs.
    pub fn feed(&mut self, mut bytes: &[u8], second: u64) -> Result<(), Abuse> {
        if second > self.refilled {
            let earned = (second - self.refilled).saturating_mul(u64::from(H2_CONTROL_RATE));
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.control = self.control.saturating_add(earned).min(H2_CONTROL_BURST);
            self.refilled = second;
        }
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (9 - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == 9 {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    /// So many octets were sent: the peer may open its windows for them.
    pub fn sent(&mut self, octets: usize) {
        let earned = u32::try_from(octets / 256 + 1).unwrap_or(u32::MAX);
        self.control = self.control.saturating_add(earned).min(H2_CONTROL_BURST);
    }

    fn frame(&mut self) -> Result<(), Abuse> {
        let [a, b, c, kind, flags, ..] = self.head;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        self.skip = len;
        if !is_possible(kind, flags, len) {
            return Err(Abuse::Size);
        }
        if std::mem::take(&mut self.is_first) && (kind != SETTINGS || flags & ACK != 0) {
            return Err(Abuse::Preface);
        }
        match kind {
            DATA => {
                let is_empty = len == 0 || (flags & PADDED != 0 && len <= 1);
                self.progress(!is_empty || flags & END_STREAM != 0)
            }
            HEADERS => {
                self.streams = self.streams.saturating_add(1);
                self.in_block = flags & END_HEADERS == 0;
                self.continuations = 0;
                self.progress(len > 0)
            }
            CONTINUATION => {
                self.continuations += 1;
                self.in_block = flags & END_HEADERS == 0;
                if self.continuations > H2_CONTINUATIONS_MAX {
                    return Err(Abuse::Continuations);
                }
                self.progress(len > 0)
            }
            RST_STREAM => {
                self.resets = self.resets.saturating_add(1);
                // Browsers give up on a page now and then: half of all streams may be reset.
                let is_too_much = self.resets > H2_RESETS_MAX && self.resets > self.streams / 2;
                if is_too_much { Err(Abuse::Resets) } else { self.control() }
            }
            _ => self.control(),
        }
    }

    fn progress(&mut self, has_any: bool) -> Result<(), Abuse> {
        if has_any {
            self.empty = 0;
            // What is sent in earnest pays for what goes with it.
            self.control = self.control.saturating_add(2).min(H2_CONTROL_BURST);
            return Ok(());
        }
        self.empty += 1;
        if self.empty > H2_EMPTY_MAX { Err(Abuse::Empty) } else { Ok(()) }
    }

    fn control(&mut self) -> Result<(), Abuse> {
        self.control = self.control.checked_sub(1).ok_or(Abuse::Control)?;
        Ok(())
    }
}

/// RFC 9113 sections 6.3, 6.4, 6.5, 6.7 and 6.9.
const fn is_possible(kind: u8, flags: u8, len: usize) -> bool {
    match kind {
        PRIORITY => len == 5,
        RST_STREAM | WINDOW_UPDATE => len == 4,
        SETTINGS if flags & ACK != 0 => len == 0,
        SETTINGS => len.is_multiple_of(6),
        PING => len == 8,
        _ => true,
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

/// RFC 9113 section 3.4.
#[must_use]
pub const fn h2_preface() -> &'static [u8] {
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let len_bytes = u32::try_from(len).unwrap().to_be_bytes();
        let mut out = vec![len_bytes[1], len_bytes[2], len_bytes[3], kind, flags, 0, 0, 0, 1];
        out.resize(9 + len, b'x');
        out
    }

    /// Behind the preface.
    fn begun() -> Meter {
        let mut meter = Meter::new();
        let all = [h2_preface(), &frame(SETTINGS, 0, 0)].concat();
        assert_eq!(meter.feed(&all, 0), Ok(()));
        meter
    }

    /// How many of these pass, whatever the cut.
    fn passed(one: &[u8], cut: usize) -> usize {
        let mut meter = begun();
        for count in 0..100_000 {
            for piece in one.chunks(cut) {
                if meter.feed(piece, 0).is_err() {
                    return count;
                }
            }
        }
        usize::MAX
    }

    #[test]
    fn floods_end_soon_and_work_does_not() {
        for cut in [1, 4, 9, 100] {
            assert_eq!(passed(&frame(DATA, 0, 0), cut), H2_EMPTY_MAX as usize);
            assert_eq!(passed(&frame(DATA, PADDED, 1), cut), H2_EMPTY_MAX as usize);
            assert_eq!(passed(&frame(PING, 0, 8), cut), H2_CONTROL_BURST as usize - 1);
            assert_eq!(passed(&frame(CONTINUATION, 0, 1), cut), H2_CONTINUATIONS_MAX as usize);
            let reset = [frame(HEADERS, END_HEADERS, 5), frame(RST_STREAM, 0, 4)].concat();
            assert_eq!(passed(&reset, cut), H2_RESETS_MAX as usize);
        }
        // Data and the windows that it takes may go on for ever.
        let work = [frame(DATA, 0, 100), frame(8, 0, 4), frame(8, 0, 4)].concat();
        assert_eq!(passed(&work, 33), usize::MAX);
        let streams = frame(HEADERS, END_HEADERS | END_STREAM, 20);
        assert_eq!(passed(&streams, 7), usize::MAX);
    }

    #[test]
    fn time_forgives_control_frames() {
        let mut meter = begun();
        let ping = frame(6, 0, 8);
        for second in 0..100 {
            for _ in 0..H2_CONTROL_RATE {
                assert_eq!(meter.feed(&ping, second), Ok(()), "{second}");
            }
        }
    }
}
