//! What the frames of an HTTP/2 connection cost us beside what they bring: counted as they come,
//! before h2 sees them (exam M01 to M06).

use h2::Reason;

use super::frames::{
    CONTINUATION, DATA, END_STREAM, FramePart, FrameWalk, HEADERS, Head, PADDED, PREFACE,
    RST_STREAM,
};
use super::rules::Rules;
use crate::base::limits::{
    H2_CONTINUATIONS_MAX, H2_CONTROL_BURST, H2_CONTROL_RATE, H2_EMPTY_MAX, H2_REFUSED_BURST,
    H2_REFUSED_RATE, H2_RESETS_BURST, H2_RESETS_RATE,
};

/// Why a client's connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Streams that are opened to be reset, by whichever side (CVE-2023-44487, CVE-2025-8671).
    Resets,
    /// A head in ever more pieces.
    Continuations,
    /// Frames with nothing in them (CVE-2019-9518).
    Empty,
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE and unknown frames (CVE-2019-9512, -9515).
    Control,
    /// Not too much of anything, but nothing that HTTP/2 knows: with the code that says so.
    Fault(Reason),
}

impl Abuse {
    /// What the client is told.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Fault(reason) => reason,
            Self::Resets | Self::Continuations | Self::Empty | Self::Control => {
                Reason::ENHANCE_YOUR_CALM
            }
        }
    }
}

/// One connection's counts.
#[derive(Debug)]
pub struct Meter {
    walk: FrameWalk,
    rules: Rules,
    /// The client's preface, which is no frame.
    preface: usize,
    /// Streams that may still be reset by either side, but for those that were too many.
    resets: Bucket,
    /// Streams that may still be refused because they are too many.
    refused: Bucket,
    continuations: u32,
    empty: u32,
    /// Control frames that may still come at once.
    control: Bucket,
    /// Second of the last refill.
    refilled: u64,
}

/// What may still be done at once: some at the beginning, and some more each second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    most: u32,
    rate: u32,
}

impl Bucket {
    const fn new(most: u32, rate: u32) -> Self {
        Self { left: most, most, rate }
    }

    /// False if it may not be done any more.
    const fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }

    fn refill(&mut self, seconds: u64) {
        let earned = seconds.saturating_mul(u64::from(self.rate));
        self.earn(u32::try_from(earned).unwrap_or(u32::MAX));
    }
}

impl Meter {
    /// Before the first octet of a client that may have so many streams open.
    #[must_use]
    pub fn new(streams: usize) -> Self {
        Self {
            walk: FrameWalk::default(),
            rules: Rules::new(streams),
            preface: PREFACE.len(),
            resets: Bucket::new(H2_RESETS_BURST, H2_RESETS_RATE),
            refused: Bucket::new(H2_REFUSED_BURST, H2_REFUSED_RATE),
            continuations: 0,
            empty: 0,
            control: Bucket::new(H2_CONTROL_BURST, H2_CONTROL_RATE),
            refilled: 0,
        }
    }

    /// The rules that its frames are held against.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The frame that is under way, or was last.
    #[must_use]
    pub const fn frame(&self) -> Head {
        self.walk.frame()
    }

    /// How many of these octets may be passed on now: no more than the frame that is under way, so that
    /// it is known what a verdict of h2's is about. `second` is a clock's.
    ///
    /// # Errors
    /// More than any client needs, or what HTTP/2 forbids.
    pub fn admit(&mut self, octets: &[u8], second: u64) -> Result<usize, Abuse> {
        if second > self.refilled {
            for bucket in [&mut self.control, &mut self.resets, &mut self.refused] {
                bucket.refill(second - self.refilled);
            }
            self.refilled = second;
        }
        if self.preface > 0 {
            let taken = self.preface.min(octets.len());
            self.preface -= taken;
            return Ok(taken);
        }
        let mut passed = 0;
        while passed < octets.len() {
            let (taken, part) = self.walk.next(&octets[passed..]);
            let piece = &octets[passed..passed + taken];
            passed += taken;
            match part {
                Some(FramePart::Head(head)) => {
                    let is_late = head.kind == DATA && !self.rules.is_open(head.stream);
                    self.rules.head(head).map_err(Abuse::Fault)?;
                    self.count(head, is_late)?;
                }
                Some(FramePart::Payload { at, .. }) => {
                    let judged = self.rules.payload(self.walk.frame(), at, piece);
                    judged.map_err(Abuse::Fault)?;
                }
                None => {}
            }
            if self.walk.is_between() {
                break;
            }
        }
        Ok(passed)
    }

    /// So many octets were sent: the peer may open its windows for them.
    pub fn sent(&mut self, octets: usize) {
        self.control.earn(u32::try_from(octets / 256 + 1).unwrap_or(u32::MAX));
    }

    /// So many requests were answered by origins: what a client has really used pays for what it gives
    /// up, one reset for two answers. What we answer by ourselves costs too little to pay for the work
    /// of others (exam R05).
    pub fn earned(&mut self, answers: u32) {
        self.resets.earn(answers / 2);
    }

    fn count(&mut self, head: Head, is_late: bool) -> Result<(), Abuse> {
        match head.kind {
            // h2 answers each with a reset.
            DATA if is_late => {
                if !self.rules.has_ended(head.stream) {
                    self.count_reset()?;
                }
                self.control()
            }
            DATA => {
                let is_empty = head.len == 0 || (head.has(PADDED) && head.len <= 1);
                self.progress(!is_empty || head.has(END_STREAM))
            }
            HEADERS => {
                self.continuations = 0;
                self.progress(head.len > 0)
            }
            CONTINUATION => {
                self.continuations += 1;
                if self.continuations > H2_CONTINUATIONS_MAX {
                    return Err(Abuse::Continuations);
                }
                self.progress(head.len > 0)
            }
            RST_STREAM => {
                self.count_reset()?;
                self.control()
            }
            _ => self.control(),
        }
    }

    /// We reset a stream. Whether that was the client's fault.
    ///
    /// # Errors
    /// It makes us do so more than any client needs (CVE-2025-8671).
    pub fn reset(&mut self, stream: u32, reason: Reason) -> Result<bool, Abuse> {
        let is_fault = self.rules.reset(stream, reason);
        if is_fault && reason != Reason::STREAM_CLOSED {
            // The others were counted when they came.
            self.count_reset()?;
        } else if reason == Reason::REFUSED_STREAM && !self.refused.take() {
            return Err(Abuse::Resets);
        }
        Ok(is_fault)
    }

    /// Browsers give up on a page now and then, which resets all that it asked for.
    fn count_reset(&mut self) -> Result<(), Abuse> {
        if self.resets.take() { Ok(()) } else { Err(Abuse::Resets) }
    }

    /// h2 has judged all frames that have come whole.
    pub fn settle(&mut self) {
        if self.walk.is_between() {
            self.rules.settle();
        }
    }

    fn progress(&mut self, has_any: bool) -> Result<(), Abuse> {
        if has_any {
            self.empty = 0;
            // What is sent in earnest pays for what goes with it.
            self.control.earn(2);
            return Ok(());
        }
        self.empty += 1;
        if self.empty > H2_EMPTY_MAX { Err(Abuse::Empty) } else { Ok(()) }
    }

    fn control(&mut self) -> Result<(), Abuse> {
        if self.control.take() { Ok(()) } else { Err(Abuse::Control) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frames::{
        END_HEADERS, GOAWAY, PING, PRIORITIZED, PUSH_PROMISE, SETTINGS, WINDOW_UPDATE,
    };

    fn on(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut out = vec![len[1], len[2], len[3], kind, flags];
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        on(u32::from(!matches!(kind, PING | SETTINGS)), kind, flags, &vec![b'x'; len])
    }

    fn feed(meter: &mut Meter, mut octets: &[u8], second: u64) -> Result<(), Abuse> {
        while !octets.is_empty() {
            let passed = meter.admit(octets, second)?;
            octets = &octets[passed..];
            meter.settle();
        }
        Ok(())
    }

    /// Behind the preface, with one stream that is open.
    fn begun() -> Meter {
        let mut meter = Meter::new(100);
        let all = [PREFACE, &frame(SETTINGS, 0, 0), &frame(HEADERS, END_HEADERS, 1)].concat();
        assert_eq!(feed(&mut meter, &all, 0), Ok(()));
        meter
    }

    /// How many of these pass, whatever the cut; and what ends them.
    fn passed(mut one: impl FnMut(u32) -> Vec<u8>, cut: usize) -> (usize, Option<Abuse>) {
        let mut meter = begun();
        for count in 0..100_000 {
            for piece in one(u32::try_from(count).unwrap()).chunks(cut) {
                if let Err(abuse) = feed(&mut meter, piece, 0) {
                    return (count, Some(abuse));
                }
            }
        }
        (usize::MAX, None)
    }

    #[test]
    fn floods_end_soon_and_work_does_not() {
        for cut in [1, 4, 9, 100] {
            let empty = (H2_EMPTY_MAX as usize, Some(Abuse::Empty));
            assert_eq!(passed(|_| frame(DATA, 0, 0), cut), empty);
            assert_eq!(passed(|_| on(1, DATA, PADDED, &[0]), cut), empty);
            let control = (H2_CONTROL_BURST as usize, Some(Abuse::Control));
            assert_eq!(passed(|_| frame(PING, 0, 8), cut), control);
            let half = |count| match count {
                0 => on(3, HEADERS, 0, b"x"),
                _ => on(3, CONTINUATION, 0, b"x"),
            };
            let pieces = (H2_CONTINUATIONS_MAX as usize + 1, Some(Abuse::Continuations));
            assert_eq!(passed(half, cut), pieces);
            let reset = |count| {
                let stream = 2 * count + 3;
                let open = on(stream, HEADERS, END_HEADERS, b"12345");
                [open, on(stream, RST_STREAM, 0, &[0; 4])].concat()
            };
            let resets = (H2_RESETS_BURST as usize, Some(Abuse::Resets));
            assert_eq!(passed(reset, cut), resets);
        }
        // Data and the windows that it takes may go on for ever.
        let window = on(0, WINDOW_UPDATE, 0, &[0, 0, 0, 1]);
        let work = [&frame(DATA, 0, 100)[..], &window, &window].concat();
        assert_eq!(passed(|_| work.clone(), 33).1, None);
        let asks = |count| on(2 * count + 3, HEADERS, END_HEADERS | END_STREAM, &[b'x'; 20]);
        assert_eq!(passed(asks, 7).1, None);
    }

    #[test]
    fn answered_streams_do_not_pay_for_resets_unless_an_origin_answered() {
        let ask = |stream| on(stream, HEADERS, END_HEADERS | END_STREAM, b"x");
        let pair = |at: u32| {
            let give_up = on(4 * at + 5, RST_STREAM, 0, &[0; 4]);
            [ask(4 * at + 3), ask(4 * at + 5), give_up].concat()
        };
        for (earned, most) in [(0, H2_RESETS_BURST), (1, 2 * H2_RESETS_BURST)] {
            let mut meter = begun();
            let mut given_up = 0;
            while feed(&mut meter, &pair(given_up), 0).is_ok() {
                given_up += 1;
                if given_up % 2 == 0 {
                    meter.earned(2 * earned);
                }
            }
            assert!((most - 2..=most).contains(&given_up), "{earned}: {given_up}");
        }
        let mut meter = begun();
        let calm = (0..100_u32).all(|at| feed(&mut meter, &pair(at), u64::from(at) / 40).is_ok());
        assert!(calm, "a few in each second are forgiven");
    }

    #[test]
    fn time_forgives_control_frames() {
        let mut meter = begun();
        let ping = frame(PING, 0, 8);
        for second in 0..100 {
            for _ in 0..H2_CONTROL_RATE {
                assert_eq!(feed(&mut meter, &ping, second), Ok(()), "{second}");
            }
        }
    }

    /// What a verdict of PROTOCOL_ERROR behind these frames is called.
    fn name(frames: &[Vec<u8>]) -> Reason {
        let mut meter = begun();
        assert_eq!(feed(&mut meter, &frames.concat(), 0), Ok(()), "{frames:?}");
        meter.rules().name()
    }

    #[test]
    fn faults_go_by_their_names() {
        let ask = |stream| on(stream, HEADERS, END_HEADERS | END_STREAM, b"x");
        let (protocol, closed) = (Reason::PROTOCOL_ERROR, Reason::STREAM_CLOSED);
        for (frames, expected) in [
            (vec![ask(3)], Reason::COMPRESSION_ERROR),
            (vec![on(3, HEADERS, 0, b"x")], Reason::COMPRESSION_ERROR),
            (
                vec![on(3, HEADERS, 0, b"x"), on(3, CONTINUATION, 4, b"x")],
                Reason::COMPRESSION_ERROR,
            ),
            // Trailers of one that is open, and of those that are not.
            (vec![ask(1)], Reason::COMPRESSION_ERROR),
            (vec![ask(3), ask(3)], closed),
            (vec![ask(1), ask(1)], closed),
            (vec![on(1, RST_STREAM, 0, &[0; 4]), ask(1)], closed),
            (vec![ask(9), ask(7)], protocol),
            (vec![ask(9), ask(1)], Reason::COMPRESSION_ERROR),
            (vec![ask(3), on(3, DATA, 0, b"x")], closed),
            (vec![ask(3), frame(PING, 0, 8)], protocol),
        ] {
            assert_eq!(name(&frames), expected, "{frames:?}");
        }
    }

    #[test]
    fn what_is_forbidden_is_told_from_what_is_not() {
        let setting = |name: u8, value: u32| {
            on(0, SETTINGS, 0, &[&[0, name][..], &value.to_be_bytes()].concat())
        };
        let heads = |flags: u8, payload: &[u8]| on(3, HEADERS, END_HEADERS | flags, payload);
        let (protocol, size) = (Some(Reason::PROTOCOL_ERROR), Some(Reason::FRAME_SIZE_ERROR));
        for (frame, expected) in [
            (setting(4, 1 << 31), Some(Reason::FLOW_CONTROL_ERROR)),
            (setting(4, (1 << 31) - 1), None),
            (setting(3, u32::MAX), None),
            (heads(PADDED, &[3, 0, 0, 0]), None),
            (heads(PADDED, &[4, 0, 0, 0]), protocol),
            (heads(PADDED, &[]), size),
            (heads(PRIORITIZED, &[0, 0, 0, 1, 9]), None),
            (heads(PRIORITIZED, &[0x80, 0, 0, 3, 9]), protocol),
            (heads(PRIORITIZED | PADDED, &[1, 0, 0, 0, 3, 9, 0]), protocol),
            (heads(PRIORITIZED | PADDED, &[1, 0, 0, 0, 5, 9, 0]), None),
            (heads(PRIORITIZED, &[0; 4]), size),
            (on(1, DATA, PADDED, &[2, 0]), protocol),
            (on(1, DATA, PADDED, &[1, 0]), None),
            (on(1, DATA, 0, &[0; 16_385]), size),
            (on(1, DATA, 0, &[0; 16_384]), None),
            (on(3, DATA, 0, b"x"), protocol),
            (on(2, HEADERS, END_HEADERS, b"x"), protocol),
            (on(3, RST_STREAM, 0, &[0; 4]), protocol),
            (on(3, WINDOW_UPDATE, 0, &[0, 0, 0, 1]), protocol),
            (on(1, PUSH_PROMISE, END_HEADERS, &[0; 4]), protocol),
            (on(0, GOAWAY, 0, &[0; 7]), size),
            (on(1, CONTINUATION, END_HEADERS, b"x"), protocol),
            (on(1, HEADERS, END_HEADERS | END_STREAM, &[0x83]), protocol),
            (on(1, HEADERS, END_HEADERS | END_STREAM | PADDED, &[1, 0x8f, 0x83]), None),
        ] {
            for cut in [1, 7, 100_000] {
                let mut meter = begun();
                let fed = frame.chunks(cut).try_for_each(|piece| feed(&mut meter, piece, 0));
                assert_eq!(fed.err(), expected.map(Abuse::Fault), "{frame:?}");
            }
        }
    }
}
