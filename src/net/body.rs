//! HTTP/1 bodies between a stream and its user: decoded on the way in, encoded on the way out,
//! both in the buffer that the kernel filled. Nothing is copied but what is read past a body's
//! end.

use std::io::ErrorKind;
use std::time::Duration;

use super::buffer::{Buffer, Buffers, Shared, Size};
use super::deadline::Due;
use super::http2::strand::Strand;
use super::inbound::Inbound;
use super::memory;
use super::stream::Stream;
use crate::base::clock::{Moment, millis};
use crate::base::error::{Detail, Kind, Result};
use crate::base::limits::BUFFER_LARGE;
use crate::limit::pressure::Stage;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::wire::http1::chunked::{self, Decoder};
use crate::wire::http1::parse;
use crate::wire::http1::write::{self, Writer};

/// Which faults a body's reader or writer reports.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub cut_short: Kind,
    pub timeout: Kind,
    pub chunk: Kind,
    pub trailer: Kind,
    /// What people call it.
    pub part: &'static str,
}

/// Faults of a request's body.
pub const REQUEST: Faults = Faults {
    cut_short: Kind::BodyCutShort,
    timeout: Kind::BodyTimeout,
    chunk: Kind::Chunk,
    trailer: Kind::Trailer,
    part: "request body",
};

/// Faults of a response's body.
pub const RESPONSE: Faults = Faults {
    cut_short: Kind::UpstreamBodyCutShort,
    timeout: Kind::UpstreamBodyTimeout,
    chunk: Kind::UpstreamChunk,
    trailer: Kind::UpstreamChunk,
    part: "answer body",
};

/// How long a body may take. Absolute: a byte now and then does not buy time for ever.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Without a byte.
    pub idle: Duration,
    /// The exchange's own end.
    pub total_by: Moment,
    /// Octets a second on average, after `idle` for a start; zero for no minimum.
    pub rate: u64,
}

/// Where a body's end is.
#[derive(Debug)]
enum Coding {
    Length(u64),
    Chunked(Decoder),
    UntilClose,
    Done,
}

/// How far a body was read: what stays when its reader is put aside.
#[derive(Debug)]
pub struct Progress {
    coding: Coding,
    trailers: Option<Box<Fields>>,
    size: Size,
    faults: Faults,
    pace: Pace,
    began: Moment,
    received: u64,
    most: u64,
    said: Option<u64>,
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyReader<'a> {
    stream: &'a Stream,
    inbound: &'a mut Inbound,
    buffers: &'a Buffers,
    coding: Coding,
    trailers: Option<Box<Fields>>,
    size: Size,
    faults: Faults,
    pace: Pace,
    began: Moment,
    /// Octets of data read so far.
    pub received: u64,
    /// More than this is too large.
    pub most: u64,
    /// What its head said of it, where the end is told otherwise.
    said: Option<u64>,
    /// The end was seen; the last octets are still here.
    is_over: bool,
    /// What exactly was wrong with it.
    pub detail: Option<Detail>,
}

impl<'a> BodyReader<'a> {
    /// A body that begins with what waits in `inbound`.
    pub fn new(
        stream: &'a Stream,
        inbound: &'a mut Inbound,
        buffers: &'a Buffers,
        framing: Framing,
        faults: Faults,
        pace: Pace,
        now: Moment,
    ) -> Self {
        let coding = match framing {
            Framing::None | Framing::Length(0) => Coding::Done,
            // A stream of HTTP/2 ends by itself, and only if it ends well and with as much as it said.
            _ if stream.as_strand().is_some() => Coding::UntilClose,
            Framing::Length(length) => Coding::Length(length),
            Framing::Chunked => Coding::Chunked(Decoder::default()),
            Framing::UntilClose => Coding::UntilClose,
        };
        let said = match framing {
            Framing::Length(length) if stream.as_strand().is_some() => Some(length),
            _ => None,
        };
        let size = Size::Small;
        Self {
            stream,
            inbound,
            buffers,
            coding,
            trailers: None,
            size,
            faults,
            pace,
            began: now,
            received: 0,
            most: u64::MAX,
            said,
            is_over: false,
            detail: None,
        }
    }

    /// Puts the reading aside.
    #[must_use]
    pub fn pause(self) -> Progress {
        let Self { coding, trailers, size, faults, pace, began, received, most, said, .. } = self;
        Progress { coding, trailers, size, faults, pace, began, received, most, said }
    }

    /// A reader that goes on where one of the same connection was put aside.
    #[must_use]
    pub fn resume(
        from: Progress,
        stream: &'a Stream,
        inbound: &'a mut Inbound,
        buffers: &'a Buffers,
    ) -> Self {
        let Progress { faults, pace, began, .. } = from;
        let mut reader = Self::new(stream, inbound, buffers, Framing::None, faults, pace, began);
        reader.go_on(from);
        reader
    }

    /// Goes on where a reader of the same connection was put aside.
    pub fn go_on(&mut self, from: Progress) {
        let Progress { coding, trailers, size, faults, pace, began, received, most, said } = from;
        (self.coding, self.trailers, self.size) = (coding, trailers, size);
        (self.faults, self.pace, self.began) = (faults, pace, began);
        (self.received, self.most, self.said) = (received, most, said);
    }

    /// The whole body was read, by its framing.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.coding, Coding::Done)
    }

    /// The body's trailers, once it is done.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take().map(|fields| *fields)
    }

    /// Whether the body came with trailers.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// Nothing waits behind the body.
    #[must_use]
    pub fn nothing_left(&self) -> bool {
        self.inbound.is_empty()
    }

    /// The next data; `None` when the body is done.
    ///
    /// # Errors
    /// A body that is broken, cut short, too large or too slow.
    pub async fn next(&mut self, now: impl Fn() -> Moment) -> Result<Option<Buffer>> {
        loop {
            if let Some(data) = self.ready()? {
                return Ok(Some(data));
            }
            if self.is_done() {
                return Ok(None);
            }
            // A body that flows never waits, and has an end all the same.
            if now() >= self.pace.total_by {
                return Err(Kind::TotalTimeout);
            }
            self.stream.read_by(self.deadline(now()));
            let result = self.inbound.fill(self.stream, self.buffers, self.size).await;
            self.stream.read_by(Moment::NEVER);
            match result {
                Ok(1..) => {}
                Ok(0) | Err(_)
                    if self.stream.expired().is_some() && now() >= self.pace.total_by =>
                {
                    return Err(Kind::TotalTimeout);
                }
                Ok(0) => self.end_of_stream()?,
                Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                    return Err(Kind::Overloaded);
                }
                Err(_) => return Err(self.fault()),
            }
        }
    }

    /// It may be without an octet for so long.
    pub const fn may_be_silent(&mut self, idle: Duration) {
        self.pace.idle = idle;
    }

    /// Reads into large buffers only as long as `to` takes what is read at once: what a slow reader does not
    /// take is held in a medium one (RELIABILITY R03).
    pub fn pace_for(&mut self, to: &Stream) {
        if self.size > Size::Small && memory::stage() > Stage::Calm {
            // Each of those that flow would have four times as much, and then again.
            self.size = Size::Small;
        } else if self.size == Size::Large && !to.has_room(BUFFER_LARGE) {
            self.size = Size::Medium;
        }
    }

    /// The next read is for no more than this.
    pub const fn limit(&mut self, most: usize) {
        self.inbound.limit(most);
    }

    /// The data that can be had without waiting.
    ///
    /// # Errors
    /// As `next`.
    pub fn ready(&mut self) -> Result<Option<Buffer>> {
        if self.is_done() {
            return Ok(None);
        }
        let Some(mut buffer) = self.inbound.take() else { return Ok(None) };
        // Reads grow with the flow: whoever fills a buffer gets a larger one.
        if buffer.space() == 0 {
            self.size = self.size.larger();
        }
        let data = match &mut self.coding {
            Coding::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= len as u64;
                let is_done = *left == 0;
                self.split(&buffer, len);
                if is_done {
                    self.coding = Coding::Done;
                }
                0..len
            }
            Coding::Chunked(decoder) => {
                let decoded = decoder.decode(buffer.data_mut());
                let step = decoded.map_err(|kind| {
                    let (part, what) = (self.faults.part, decoder.whereabouts());
                    self.detail = Some(Detail { part, line: 0, what });
                    if kind == Kind::Trailer { self.faults.trailer } else { self.faults.chunk }
                })?;
                if decoder.is_done() {
                    self.finish_chunked()?;
                }
                self.split(&buffer, step.consumed);
                step.data
            }
            Coding::UntilClose => {
                let mut len = buffer.len();
                if self.is_over || self.stream.as_strand().is_some_and(Strand::is_at_end) {
                    self.coding = Coding::Done;
                } else if let Some(said) = self.said {
                    // The last octet stays here until the end was seen.
                    let most = said.saturating_sub(self.received).saturating_sub(1);
                    len = len.min(usize::try_from(most).unwrap_or(usize::MAX));
                    self.split(&buffer, len);
                }
                0..len
            }
            Coding::Done => 0..0,
        };
        self.received += data.len() as u64;
        let is_done = matches!(self.coding, Coding::Done);
        if self.said.is_some_and(|said| self.received > said || (is_done && self.received < said)) {
            self.buffers.give(buffer);
            return Err(self.faults.cut_short);
        }
        if self.received > self.most {
            self.buffers.give(buffer);
            return Err(Kind::BodyTooLarge);
        }
        if data.is_empty() {
            self.buffers.give(buffer);
            return Ok(None);
        }
        buffer.narrow(data);
        Ok(Some(buffer))
    }

    /// Keeps what stands behind the body for whoever reads next.
    fn split(&mut self, buffer: &Buffer, len: usize) {
        if buffer.len() > len {
            let rest = &buffer.data()[len..];
            let mut kept = self.buffers.take(Size::fitting(rest.len()));
            kept.append(rest);
            self.inbound.put(kept);
        }
    }

    fn finish_chunked(&mut self) -> Result<()> {
        if let Coding::Chunked(decoder) = &self.coding
            && !decoder.trailers().is_empty()
        {
            let fields = parse::trailers(decoder.trailers()).map_err(|_| self.faults.trailer)?;
            self.trailers = Some(fields).filter(|fields| !fields.is_empty()).map(Box::new);
        }
        self.coding = Coding::Done;
        Ok(())
    }

    /// Completeness is told by the framing alone; only a body that ends with its connection ends
    /// well here, and only if it was the peer who ended it.
    fn end_of_stream(&mut self) -> Result<()> {
        let waits = self.inbound.data().len() as u64;
        let is_all = self.said.is_none_or(|said| said == self.received + waits);
        if waits > 0 && is_all && self.stream.expired().is_none() {
            self.trailers = self.stream.as_strand().and_then(Strand::take_trailers).map(Box::new);
            self.said = None;
            self.is_over = true;
            return Ok(());
        }
        if matches!(self.coding, Coding::UntilClose) && self.stream.expired().is_none() && is_all {
            self.coding = Coding::Done;
            self.trailers = self.stream.as_strand().and_then(Strand::take_trailers).map(Box::new);
            return Ok(());
        }
        Err(self.fault())
    }

    fn fault(&self) -> Kind {
        if self.stream.expired().is_some() { self.faults.timeout } else { self.faults.cut_short }
    }

    fn deadline(&self, now: Moment) -> Moment {
        let idle = now.after(self.pace.idle).min(self.pace.total_by);
        if self.pace.rate == 0 {
            return idle;
        }
        let earned = Duration::from_millis(self.received.saturating_mul(1000) / self.pace.rate);
        idle.min(self.began.after(self.pace.idle.saturating_add(earned)))
    }
}

/// Writes one body.
#[derive(Debug)]
pub struct BodyWriter<'a> {
    stream: &'a Stream,
    buffers: &'a Buffers,
    is_chunked: bool,
    gone: Kind,
    slow: Kind,
    /// Milliseconds.
    period: u32,
    /// Octets of data written so far.
    pub sent: u64,
}

impl<'a> BodyWriter<'a> {
    /// A body for a client.
    pub fn downstream(
        stream: &'a Stream,
        buffers: &'a Buffers,
        framing: Framing,
        idle: Duration,
    ) -> Self {
        Self::new(stream, buffers, framing, idle, (Kind::ClientGone, Kind::ClientTooSlow))
    }

    /// A body for an upstream.
    pub fn upstream(
        stream: &'a Stream,
        buffers: &'a Buffers,
        framing: Framing,
        idle: Duration,
    ) -> Self {
        Self::new(stream, buffers, framing, idle, (Kind::UpstreamGone, Kind::UpstreamWriteTimeout))
    }

    fn new(
        stream: &'a Stream,
        buffers: &'a Buffers,
        framing: Framing,
        idle: Duration,
        (gone, slow): (Kind, Kind),
    ) -> Self {
        let is_chunked = framing == Framing::Chunked && stream.as_strand().is_none();
        // The sweep gives a write two periods at the least.
        let period = u32::try_from(millis(idle) / 2).unwrap_or(u32::MAX);
        Self { stream, buffers, is_chunked, gone, slow, period, sent: 0 }
    }

    /// It goes out on a stream of HTTP/2.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.stream.as_strand().is_some()
    }

    /// Writes bytes as they are: a head, with or without the beginning of a body behind it.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn raw(&mut self, buffer: Buffer, now: Moment) -> Result<()> {
        let (result, buffer) = self.stream.send(buffer, now, self.period).await;
        self.buffers.give(buffer);
        self.sent_all(result)
    }

    /// Writes octets that others read too, as they are. They count as data.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn shared(&mut self, data: Shared, now: Moment) -> Result<()> {
        self.sent += data.data().len() as u64;
        let (result, _) = self.stream.send(data, now, self.period).await;
        self.sent_all(result)
    }

    /// Writes a head and pieces of a body behind it.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn pieces(&mut self, head: Buffer, pieces: &[&[u8]], now: Moment) -> Result<()> {
        let all: Vec<&[u8]> = std::iter::once(head.data()).chain(pieces.iter().copied()).collect();
        let result = self.stream.send_pieces(&all, now, self.period).await;
        self.buffers.give(head);
        self.sent_all(result)
    }

    /// Writes pieces of a body whose head has gone out.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn rest(&mut self, pieces: &[&[u8]], now: Moment) -> Result<()> {
        let result = self.stream.send_pieces(pieces, now, self.period).await;
        self.sent_all(result)
    }

    fn sent_all(&self, result: std::io::Result<()>) -> Result<()> {
        result.map_err(|_| {
            if self.stream.expired() == Some(Due::Write) { self.slow } else { self.gone }
        })
    }

    /// Puts a chunk's frame around the data, and the last chunk behind it.
    pub fn frame(&mut self, buffer: &mut Buffer, is_last: bool) {
        self.sent += buffer.len() as u64;
        if !self.is_chunked {
            if let Some(strand) = self.stream.as_strand() {
                strand.frame(is_last);
            }
            return;
        }
        let mut line = [0; 18];
        let at = chunked::size_line(buffer.len(), &mut line);
        buffer.prepend(&line[at..]);
        buffer.append(b"\r\n");
        if is_last {
            buffer.append(chunked::LAST);
        }
    }

    /// Writes data; `is_last` ends the body with it.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn data(&mut self, mut buffer: Buffer, is_last: bool, now: Moment) -> Result<()> {
        debug_assert!(!buffer.is_empty(), "an empty chunk would be the last");
        self.frame(&mut buffer, is_last);
        self.raw(buffer, now).await
    }

    /// Ends the body. Only a complete body may come here (RELIABILITY section 4, rule 5).
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn end(&mut self, trailers: Option<&Fields>, now: Moment) -> Result<()> {
        if let Some(strand) = self.stream.as_strand() {
            return strand.finish(trailers).map_err(|_| self.gone);
        }
        if !self.is_chunked {
            return Ok(());
        }
        let mut buffer = self.buffers.take(Size::Small);
        let none = Fields::default();
        let mut out = Writer::new(buffer.spare());
        write::last_chunk(trailers.unwrap_or(&none), &mut out);
        // A trailer section that does not fit is left out; its bound is below a small buffer.
        let len = out.finish().unwrap_or(0);
        debug_assert!(len > 0, "limits::TRAILERS_MAX fits in a small buffer");
        buffer.filled(len);
        self.raw(buffer, now).await
    }
}
