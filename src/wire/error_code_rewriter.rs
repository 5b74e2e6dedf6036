//! Watches what h2 tells a client, and gives faults the names that RFC 9113 has for them: h2 calls most of
//! them PROTOCOL_ERROR.

use h2::Reason;

use super::frames::{FramePart, FrameWalk, GOAWAY, HEADERS, RST_STREAM};

/// Where in a payload the last octet of a code is: the others of a code are 0 (section 7).
const RESET_CODE: usize = 3;
const AWAY_CODE: usize = 7;

/// What goes out on one connection.
#[derive(Debug, Default)]
pub struct ErrorCodeRewriter {
    walk: FrameWalk,
}

/// Something that the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// This stream.
    Stream(u32, Reason),
    /// Not an end: the head of this stream's answer is on its way.
    Head(u32),
    /// The connection: not only that no more streams are taken.
    Connection(Reason),
}

impl ErrorCodeRewriter {
    /// Passes what is about to be sent. The end of a connection with PROTOCOL_ERROR is called by what `name`
    /// says. `tell` hears of heads, and of everything that ends by force.
    pub fn pass(
        &mut self,
        octets: &mut [u8],
        name: impl Fn() -> Reason,
        mut tell: impl FnMut(Told),
    ) {
        let mut passed = 0;
        while passed < octets.len() {
            let (taken, part) = self.walk.next(&octets[passed..]);
            if let Some(FramePart::Head(head)) = part
                && head.kind == HEADERS
            {
                tell(Told::Head(head.stream));
            }
            if let Some(FramePart::Payload { at, len }) = part {
                let frame = self.walk.frame();
                let code = match frame.kind {
                    RST_STREAM => RESET_CODE,
                    GOAWAY => AWAY_CODE,
                    _ => usize::MAX,
                };
                if (at..at + len).contains(&code) {
                    let code = &mut octets[passed + code - at];
                    let reason = rename(frame.kind, code, &name);
                    match frame.kind {
                        RST_STREAM => tell(Told::Stream(frame.stream, reason)),
                        _ if reason == Reason::NO_ERROR => {}
                        _ => tell(Told::Connection(reason)),
                    }
                }
            }
            passed += taken;
        }
    }
}

fn rename(kind: u8, code: &mut u8, name: &impl Fn() -> Reason) -> Reason {
    if kind == GOAWAY && u32::from(*code) == u32::from(Reason::PROTOCOL_ERROR) {
        *code = u32::from(name()).to_be_bytes()[3];
    }
    Reason::from(u32::from(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_connection_is_renamed() {
        let reset =
            |code: u8| [&[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1][..], &[0, 0, 0, code]].concat();
        let away = |code: u8| {
            [&[0, 0, 8, GOAWAY, 0, 0, 0, 0, 0][..], &[0, 0, 0, 1, 0, 0, 0, code]].concat()
        };
        // Data that looks like a frame is data.
        let data = [&[0, 0, 17, 0, 0, 0, 0, 0, 1][..], &away(1)].concat();
        let all = [reset(1), data.clone(), reset(8), reset(2), away(0), away(11), away(1)].concat();
        let expected = [reset(1), data, reset(8), reset(2), away(0), away(11), away(9)].concat();
        let told = [
            Told::Stream(1, Reason::PROTOCOL_ERROR),
            Told::Stream(1, Reason::CANCEL),
            Told::Stream(1, Reason::INTERNAL_ERROR),
            Told::Connection(Reason::ENHANCE_YOUR_CALM),
            Told::Connection(Reason::COMPRESSION_ERROR),
        ];
        for cut in 1..all.len() + 1 {
            let (mut rewriter, mut out, mut heard) =
                (ErrorCodeRewriter::default(), all.clone(), Vec::new());
            for piece in out.chunks_mut(cut) {
                rewriter.pass(piece, || Reason::COMPRESSION_ERROR, |told| heard.push(told));
            }
            assert_eq!((out, heard), (expected.clone(), told.to_vec()), "{cut}");
        }
    }
}
