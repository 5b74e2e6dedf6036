//! Watches what h2 tells a client: gives faults the names that RFC 9113 has for them, and remembers them.
//! h2 calls most of them PROTOCOL_ERROR.

use h2::Reason;

use super::frames::{GOAWAY, Part, RST_STREAM, Walk};

/// Where in a payload the last octet of a code is: the others of a code are 0 (section 7).
const RESET_CODE: usize = 3;
const AWAY_CODE: usize = 7;

/// What goes out on one connection.
#[derive(Debug, Default)]
pub struct Herald {
    walk: Walk,
    told: Option<Reason>,
}

impl Herald {
    /// Passes what is about to be sent. The end of a connection with PROTOCOL_ERROR is called by what `name` says.
    pub fn pass(&mut self, octets: &mut [u8], name: impl Fn() -> Reason) {
        let mut passed = 0;
        while passed < octets.len() {
            let (taken, part) = self.walk.next(&octets[passed..]);
            if let Some(Part::Payload { at, len }) = part {
                let code = match self.walk.frame().kind {
                    RST_STREAM => RESET_CODE,
                    GOAWAY => AWAY_CODE,
                    _ => usize::MAX,
                };
                if (at..at + len).contains(&code) {
                    self.tell(&mut octets[passed + code - at], &name);
                }
            }
            passed += taken;
        }
    }

    fn tell(&mut self, code: &mut u8, name: &impl Fn() -> Reason) {
        let is_end = self.walk.frame().kind == GOAWAY;
        if is_end && u32::from(*code) == u32::from(Reason::PROTOCOL_ERROR) {
            *code = u32::from(name()).to_be_bytes()[3];
        }
        let reason = Reason::from(u32::from(*code));
        let is_clients_fault = matches!(
            reason,
            Reason::PROTOCOL_ERROR
                | Reason::FLOW_CONTROL_ERROR
                | Reason::STREAM_CLOSED
                | Reason::FRAME_SIZE_ERROR
                | Reason::COMPRESSION_ERROR
                | Reason::ENHANCE_YOUR_CALM
        );
        if is_clients_fault {
            self.told = Some(reason);
        }
    }

    /// The last fault that was told since this was asked.
    pub const fn take_told(&mut self) -> Option<Reason> {
        self.told.take()
    }
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
        for cut in 1..all.len() + 1 {
            let (mut herald, mut out) = (Herald::default(), all.clone());
            out.chunks_mut(cut).for_each(|piece| herald.pass(piece, || Reason::COMPRESSION_ERROR));
            assert_eq!(
                (out, herald.take_told()),
                (expected.clone(), Some(Reason::COMPRESSION_ERROR)),
                "{cut}"
            );
            assert_eq!(herald.take_told(), None);
        }
        for (octets, expected) in
            [(away(0), None), (reset(8), None), (reset(1), Some(1)), (away(11), Some(11))]
        {
            let (mut herald, mut out) = (Herald::default(), octets);
            herald.pass(&mut out, || Reason::PROTOCOL_ERROR);
            assert_eq!(herald.take_told().map(u32::from), expected);
        }
    }
}
