//! Where HTTP/2 frames begin and end in a run of octets (RFC 9113 section 4.1), whatever the pieces in
//! which they come. What is in them is h2's.

/// Kinds of frames (section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITIZED: u8 = 32;

/// Octets before a frame's payload.
const HEAD: usize = 9;

/// RFC 9113 section 3.4: what a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a frame begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Octets of its payload.
    pub len: usize,
    pub kind: u8,
    pub flags: u8,
    /// Its stream, without the reserved bit.
    pub stream: u32,
}

impl Head {
    /// It carries this flag.
    #[must_use]
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn read(octets: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, w, x, y, z] = octets;
        Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([w & 0x7f, x, y, z]),
        }
    }
}

/// A part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePart {
    /// Its head has come whole.
    Head(Head),
    /// So many octets of its payload, the first of which is the `at`-th.
    Payload { at: usize, len: usize },
}

/// A place in a run of frames.
#[derive(Debug, Default)]
pub struct FrameWalk {
    octets: [u8; HEAD],
    have: usize,
    at: usize,
    frame: Head,
}

impl FrameWalk {
    /// The frame of which the last part was seen.
    #[must_use]
    pub const fn frame(&self) -> Head {
        self.frame
    }

    /// That frame is complete, and the next has not begun.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        self.have == 0 && self.at == self.frame.len
    }

    /// The next part, and how many octets it takes; `None` if a head has not come whole. The payload of
    /// a frame without one is no part.
    pub fn next(&mut self, octets: &[u8]) -> (usize, Option<FramePart>) {
        if self.have == 0 && self.at < self.frame.len {
            let (at, len) = (self.at, octets.len().min(self.frame.len - self.at));
            self.at += len;
            return (len, Some(FramePart::Payload { at, len }));
        }
        let taken = (HEAD - self.have).min(octets.len());
        self.octets[self.have..self.have + taken].copy_from_slice(&octets[..taken]);
        self.have += taken;
        if self.have < HEAD {
            return (taken, None);
        }
        (self.have, self.at, self.frame) = (0, 0, Head::read(self.octets));
        (taken, Some(FramePart::Head(self.frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a walk over these octets in pieces of `cut` sees: heads, and octets of payload.
    fn seen(octets: &[u8], cut: usize) -> (Vec<Head>, usize) {
        let (mut walk, mut heads, mut payload) = (FrameWalk::default(), Vec::new(), 0);
        for mut piece in octets.chunks(cut) {
            while !piece.is_empty() {
                let (taken, part) = walk.next(piece);
                match part {
                    Some(FramePart::Head(head)) => heads.push(head),
                    Some(FramePart::Payload { at, len }) => {
                        assert!(at + len <= walk.frame().len && len == taken);
                        payload += len;
                    }
                    None => assert_eq!(taken, piece.len()),
                }
                piece = &piece[taken..];
            }
        }
        assert!(walk.is_between());
        (heads, payload)
    }

    #[test]
    fn frames_are_found_whatever_the_cut() {
        let octets = [
            &[0, 0, 3, DATA, END_STREAM, 0x80, 0, 0, 1][..],
            b"abc",
            &[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0],
            &[0, 1, 0, 0x42, 0xff, 1, 2, 3, 4],
            &[7; 256],
        ]
        .concat();
        for cut in 1..octets.len() + 1 {
            let (heads, payload) = seen(&octets, cut);
            assert_eq!((heads.len(), payload), (3, 3 + 256), "{cut}");
            assert_eq!(heads[0], Head { len: 3, kind: DATA, flags: END_STREAM, stream: 1 });
            assert_eq!(heads[2].stream, 0x0102_0304);
        }
    }
}
