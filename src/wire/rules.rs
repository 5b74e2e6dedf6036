//! What RFC 9113 forbids a client's frames to be, as far as it shows before HPACK: judged before h2 sees
//! them, so that each fault goes by the name that the RFC gives it. Whatever the RFC calls a stream error
//! ends the connection where we find it (section 5.4.1 allows that).

use h2::Reason;

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Head, PADDED, PING,
    PRIORITIZED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::header_block::{has_bad_field, has_pseudo_field};
use crate::base::limits::FRAME_MAX;
use crate::base::limits::{BLOCK_MAX, WINDOW_MAX};
use crate::base::limits::{H2_ENDED_KEPT, H2_GAPS_MAX, H2_OPEN_SPARE};

/// SETTINGS_INITIAL_WINDOW_SIZE, and the largest window (sections 6.5.2 and 6.9.1).
const INITIAL_WINDOW: u16 = 4;

/// What a connection keeps for the next block.
const BLOCK_KEPT: usize = 1024;

/// One client's connection.
#[derive(Debug)]
pub struct Rules {
    is_first: bool,
    /// The stream of a header block that has begun and not ended.
    block: Option<u32>,
    /// The highest stream that the client has opened.
    highest: u32,
    /// Streams it has opened and not ended, and we have not reset: as many as it may have, and some.
    open: Vec<u32>,
    most_open: usize,
    /// Streams that we have reset: what is on its way on them is no fault. The oldest are forgotten.
    ended: Vec<u32>,
    /// Ids that it has skipped, and so may not use any more: from, to. As above.
    gaps: Vec<(u32, u32)>,
    /// The first octets of a payload, or of a setting.
    early: [u8; 6],
    /// The last header block, as far as it has come; nothing if it is larger than any head may be.
    octets: Vec<u8>,
    is_overlong: bool,
    /// It is one of trailers.
    is_trailers: bool,
    /// What h2 may mean by PROTOCOL_ERROR, if it is the last frame's fault.
    blame: Reason,
}

impl Rules {
    /// Before the first frame of a client that may have so many streams open.
    #[must_use]
    pub const fn new(streams: usize) -> Self {
        Self {
            most_open: streams.saturating_add(H2_OPEN_SPARE),
            ended: Vec::new(),
            is_first: true,
            block: None,
            highest: 0,
            open: Vec::new(),
            gaps: Vec::new(),
            early: [0; 6],
            octets: Vec::new(),
            is_overlong: false,
            is_trailers: false,
            blame: Reason::PROTOCOL_ERROR,
        }
    }

    /// A head has begun, and has not come whole.
    #[must_use]
    pub const fn is_in_block(&self) -> bool {
        self.block.is_some()
    }

    /// What is meant if h2, given the frames up to here, says PROTOCOL_ERROR: it calls that some things
    /// which have names of their own.
    #[must_use]
    pub fn name(&self) -> Reason {
        match self.blame {
            Reason::COMPRESSION_ERROR if has_bad_field(&self.octets) => Reason::PROTOCOL_ERROR,
            blame => blame,
        }
    }

    /// Judges a frame by its head.
    ///
    /// # Errors
    /// The code of what is wrong.
    pub fn head(&mut self, head: Head) -> Result<(), Reason> {
        sizes(head)?;
        // Section 3.4.
        if std::mem::take(&mut self.is_first) && (head.kind != SETTINGS || head.has(ACK)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        // Section 4.3: a block is one piece.
        if self.block.is_some_and(|stream| head.kind != CONTINUATION || head.stream != stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.kind != CONTINUATION {
            self.blame = Reason::PROTOCOL_ERROR;
            self.forget_block();
        }
        let is_idle = head.stream.is_multiple_of(2) || head.stream > self.highest;
        match head.kind {
            // Sections 5.1, 6.1 and 6.4.
            DATA | RST_STREAM if is_idle => return Err(Reason::PROTOCOL_ERROR),
            DATA => {
                self.blame = Reason::STREAM_CLOSED;
                self.ended(head, END_STREAM);
            }
            RST_STREAM => self.ended(head, 0),
            HEADERS => self.headers(head)?,
            CONTINUATION if self.block.is_none() => return Err(Reason::PROTOCOL_ERROR),
            CONTINUATION => {
                self.block = Some(head.stream).filter(|_| !head.has(END_HEADERS));
                if head.len == 0 {
                    self.end_block(head)?;
                }
            }
            PRIORITY if head.stream == 0 => return Err(Reason::PROTOCOL_ERROR),
            // Sections 6.5, 6.7 and 6.8; 8.4: a client does not push.
            SETTINGS | PING | GOAWAY if head.stream != 0 => return Err(Reason::PROTOCOL_ERROR),
            PUSH_PROMISE => return Err(Reason::PROTOCOL_ERROR),
            // Section 5.1.
            WINDOW_UPDATE if head.stream != 0 && is_idle => return Err(Reason::PROTOCOL_ERROR),
            _ => {}
        }
        Ok(())
    }

    fn headers(&mut self, head: Head) -> Result<(), Reason> {
        // Section 5.1.1: what a client opens is odd.
        if head.stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.block = Some(head.stream).filter(|_| !head.has(END_HEADERS));
        self.is_trailers = false;
        if head.stream > self.highest {
            let expected = if self.highest == 0 { 1 } else { self.highest + 2 };
            if head.stream > expected {
                remember(&mut self.gaps, (expected, head.stream - 2), H2_GAPS_MAX);
            }
            self.highest = head.stream;
            if !head.has(END_STREAM) {
                if self.open.len() < self.most_open {
                    self.open.push(head.stream);
                } else {
                    // h2 refuses it.
                    remember(&mut self.ended, head.stream, H2_ENDED_KEPT);
                }
            }
            self.blame = Reason::COMPRESSION_ERROR;
        } else if self.open.contains(&head.stream) {
            self.is_trailers = true;
            self.blame = Reason::COMPRESSION_ERROR;
            self.ended(head, END_STREAM);
        } else if self.has_ended(head.stream) {
            // h2 knows nothing of it any more.
            self.blame = Reason::STREAM_CLOSED;
        } else {
            let is_in = |gap: &(u32, u32)| (gap.0..=gap.1).contains(&head.stream);
            let was_skipped = self.gaps.iter().any(is_in);
            self.blame = if was_skipped { Reason::PROTOCOL_ERROR } else { Reason::STREAM_CLOSED };
        }
        Ok(())
    }

    /// The client says no more on this stream, if the frame has the flag (0: in any case).
    fn ended(&mut self, head: Head, flag: u8) {
        if flag == 0 || head.has(flag) {
            self.close(head.stream);
        }
    }

    /// The highest stream that the client has opened.
    #[must_use]
    pub const fn highest(&self) -> u32 {
        self.highest
    }

    /// The client has opened this stream, and neither ended it nor have we reset it.
    #[must_use]
    pub fn is_open(&self, stream: u32) -> bool {
        self.open.contains(&stream)
    }

    /// We have reset this stream.
    #[must_use]
    pub fn has_ended(&self, stream: u32) -> bool {
        self.ended.contains(&stream)
    }

    /// We reset a stream. Whether the client is at fault: it is not, where it could not know yet that we
    /// have done so before.
    pub fn reset(&mut self, stream: u32, reason: Reason) -> bool {
        self.close(stream);
        let is_late = self.has_ended(stream);
        if !is_late {
            remember(&mut self.ended, stream, H2_ENDED_KEPT);
        }
        is_fault(reason) && !is_late
    }

    fn close(&mut self, stream: u32) {
        if let Some(at) = self.open.iter().position(|one| *one == stream) {
            self.open.remove(at);
        }
    }

    /// The last frame has been judged by h2 too: what was kept for its name may go.
    pub fn settle(&mut self) {
        if self.block.is_none() {
            self.forget_block();
        }
    }

    /// Judges what a frame's payload says, from its `at`-th octet.
    ///
    /// # Errors
    /// The code of what is wrong.
    pub fn payload(&mut self, frame: Head, at: usize, octets: &[u8]) -> Result<(), Reason> {
        match frame.kind {
            SETTINGS => self.settings(at, octets)?,
            DATA | HEADERS if frame.flags & (PADDED | PRIORITIZED) != 0 => {
                self.prologue(frame, at, octets)?;
            }
            _ => {}
        }
        if matches!(frame.kind, HEADERS | CONTINUATION) {
            self.collect(frame, at, octets)?;
        }
        Ok(())
    }

    /// Section 6.5.2; the other settings h2 judges by the right name.
    fn settings(&mut self, at: usize, octets: &[u8]) -> Result<(), Reason> {
        for (offset, octet) in octets.iter().enumerate() {
            let place = (at + offset) % self.early.len();
            self.early[place] = *octet;
            let [a, b, w, x, y, z] = self.early;
            let is_window = place == 5 && u16::from_be_bytes([a, b]) == INITIAL_WINDOW;
            if is_window && u32::from_be_bytes([w, x, y, z]) > WINDOW_MAX {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
        }
        Ok(())
    }

    /// Padding and priority (sections 6.1 and 6.2). A block of a stream that depends on itself h2 would
    /// leave unread, and know less of the table than the client does.
    fn prologue(&mut self, frame: Head, at: usize, octets: &[u8]) -> Result<(), Reason> {
        let need = prologue_len(frame);
        for (octet, place) in octets.iter().zip(at..need) {
            self.early[place] = *octet;
        }
        if at >= need || at + octets.len() < need {
            return Ok(());
        }
        let [first, rest @ ..] = self.early;
        let padding = if frame.has(PADDED) { usize::from(first) } else { 0 };
        if padding > frame.len - need {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if frame.kind == HEADERS && frame.has(PRIORITIZED) {
            let [b, c, d, e, _] = rest;
            let depends = if frame.has(PADDED) { [b, c, d, e] } else { [first, b, c, d] };
            if u32::from_be_bytes(depends) & WINDOW_MAX == frame.stream {
                return Err(Reason::PROTOCOL_ERROR);
            }
        }
        Ok(())
    }

    fn forget_block(&mut self) {
        self.is_overlong = false;
        if self.octets.capacity() > BLOCK_KEPT {
            self.octets = Vec::new();
        }
        self.octets.clear();
    }

    /// Takes down a header block.
    fn collect(&mut self, frame: Head, at: usize, octets: &[u8]) -> Result<(), Reason> {
        if self.octets.len() + octets.len() > BLOCK_MAX {
            // It is refused for its size.
            self.forget_block();
            self.is_overlong = true;
        }
        if self.is_overlong {
            return Ok(());
        }
        self.octets.extend_from_slice(octets);
        if at + octets.len() < frame.len {
            return Ok(());
        }
        if frame.kind == HEADERS {
            let padding = if frame.has(PADDED) { usize::from(self.early[0]) } else { 0 };
            self.octets.truncate(self.octets.len().saturating_sub(padding));
            self.octets.drain(..prologue_len(frame).min(self.octets.len()));
        }
        self.end_block(frame)
    }

    /// Section 8.1: no pseudo-fields in trailers, which h2 would drop unseen.
    fn end_block(&self, frame: Head) -> Result<(), Reason> {
        let is_whole = self.is_trailers && frame.has(END_HEADERS);
        if is_whole && has_pseudo_field(&self.octets) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }
}

/// The code blames the client.
#[must_use]
pub const fn is_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PROTOCOL_ERROR
            | Reason::FLOW_CONTROL_ERROR
            | Reason::STREAM_CLOSED
            | Reason::FRAME_SIZE_ERROR
            | Reason::COMPRESSION_ERROR
            | Reason::ENHANCE_YOUR_CALM
    )
}

/// Octets of a payload before the data or the block: padding's length, priority.
const fn prologue_len(frame: Head) -> usize {
    let padding = if frame.has(PADDED) { 1 } else { 0 };
    if frame.kind == HEADERS && frame.has(PRIORITIZED) { padding + 5 } else { padding }
}

/// Sections 4.2, and 6.1 to 6.9.
const fn sizes(head: Head) -> Result<(), Reason> {
    let len = head.len;
    let is_possible = match head.kind {
        DATA | HEADERS => len >= prologue_len(head),
        PRIORITY => len == 5,
        RST_STREAM | WINDOW_UPDATE => len == 4,
        SETTINGS if head.has(ACK) => len == 0,
        SETTINGS => len.is_multiple_of(6),
        PING => len == 8,
        GOAWAY => len >= 8,
        _ => true,
    };
    if is_possible && len <= FRAME_MAX { Ok(()) } else { Err(Reason::FRAME_SIZE_ERROR) }
}

/// Adds to a list that forgets its oldest.
fn remember<T>(list: &mut Vec<T>, one: T, most: usize) {
    if list.len() == most {
        list.remove(0);
    }
    list.push(one);
}
