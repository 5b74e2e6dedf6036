//! A body of HTTP/1 on its way in: decoded in the buffer that the kernel filled. Nothing is copied but what was
//! read past the body's end.

use std::io::ErrorKind;
use std::time::Duration;

use crate::base::clock::Moment;
use crate::base::error::{Detail, Kind, Result};
use crate::base::limits::BUFFER_LARGE;
use crate::limit::pressure::Stage;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::net::buffer::{Buffer, Buffers};
use crate::net::inbound::Inbound;
use crate::net::memory;
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::protocol::pace::{self, Faults, Pace};
use crate::wire::http1::chunked::Decoder;
use crate::wire::http1::parse;

/// Where a body's end is.
#[derive(Debug)]
enum Coding {
    Length(u64),
    Chunked(Decoder),
    UntilClose,
    Done,
}

/// How far one body was read. Its connection is an argument: the one that reads on may be another task.
#[derive(Debug)]
pub struct Reading {
    coding: Coding,
    trailers: Option<Box<Fields>>,
    /// Of the next read: reads grow with the flow.
    size: Size,
    faults: &'static Faults,
    pace: Pace,
    began: Moment,
    /// Octets of data read so far.
    received: u64,
    /// More than this is too large.
    most: u64,
    detail: Option<Detail>,
}

/// Where a body is read from.
pub struct Source<'a> {
    pub transport: &'a Transport,
    pub inbound: &'a mut Inbound,
    pub buffers: &'a Buffers,
}

impl Default for Reading {
    fn default() -> Self {
        Self::none()
    }
}

impl Reading {
    /// Of no body.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            coding: Coding::Done,
            trailers: None,
            size: Size::Small,
            faults: &pace::RESPONSE,
            pace: Pace::NONE,
            began: Moment::NEVER,
            received: 0,
            most: u64::MAX,
            detail: None,
        }
    }

    /// Of no body, in place.
    pub fn reset(&mut self) {
        self.coding = Coding::Done;
        (self.trailers, self.received, self.detail) = (None, 0, None);
    }

    /// Of a body that begins with the next octet. In place: it is moved for each request otherwise.
    pub fn begin(
        &mut self,
        framing: Framing,
        faults: &'static Faults,
        pace: Pace,
        now: Moment,
        most: u64,
    ) {
        self.coding = match framing {
            Framing::None | Framing::Length(0) => Coding::Done,
            Framing::Length(length) => Coding::Length(length),
            Framing::Chunked => Coding::Chunked(Decoder::default()),
            Framing::UntilClose => Coding::UntilClose,
        };
        (self.trailers, self.size, self.received, self.detail) = (None, Size::Small, 0, None);
        (self.faults, self.pace, self.began, self.most) = (faults, pace, now, most);
    }

    /// The whole body was read, by its framing.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.coding, Coding::Done)
    }

    /// The body came with trailers.
    #[must_use]
    pub const fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// The body's trailers, once it is done.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take().map(|fields| *fields)
    }

    /// Octets of data so far.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// What exactly was wrong with it.
    #[must_use]
    pub const fn detail(&self) -> Option<Detail> {
        self.detail
    }

    /// It may be without an octet for so long.
    pub const fn may_be_silent(&mut self, idle: Duration) {
        self.pace.idle = idle;
    }

    /// Reads into large buffers only as long as the peer that is written to takes what is read at once: what a slow
    /// reader does not take is held in a medium one (exam R03).
    pub fn pace_for(&mut self, has_room: impl FnOnce(usize) -> bool) {
        if self.size > Size::Small && memory::stage() > Stage::Calm {
            // Each of those that flow would have four times as much, and then again.
            self.size = Size::Small;
        } else if self.size == Size::Large && !has_room(BUFFER_LARGE) {
            self.size = Size::Medium;
        }
    }

    /// The next data; `None` when the body is done.
    ///
    /// # Errors
    /// A body that is broken, cut short, too large or too slow.
    pub async fn next(&mut self, from: Source<'_>) -> Result<Option<Buffer>> {
        let Source { transport, inbound, buffers } = from;
        loop {
            if let Some(data) = self.ready(inbound, buffers)? {
                return Ok(Some(data));
            }
            if self.is_done() {
                return Ok(None);
            }
            // A body that flows never waits, and has an end all the same.
            let now = transport.now();
            if now >= self.pace.total_by {
                return Err(Kind::TotalTimeout);
            }
            transport.read_by(self.pace.deadline(now, self.began, self.received));
            let result = inbound.fill(transport, buffers, self.size).await;
            transport.read_by(Moment::NEVER);
            match result {
                Ok(1..) => {}
                Ok(0) | Err(_)
                    if transport.expired().is_some() && transport.now() >= self.pace.total_by =>
                {
                    return Err(Kind::TotalTimeout);
                }
                Ok(0) => self.end_of_connection(transport)?,
                Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                    return Err(Kind::Overloaded);
                }
                Err(_) => return Err(self.fault(transport)),
            }
        }
    }

    /// The data that can be had without waiting.
    ///
    /// # Errors
    /// As `next`.
    pub fn ready(&mut self, inbound: &mut Inbound, buffers: &Buffers) -> Result<Option<Buffer>> {
        if self.is_done() {
            return Ok(None);
        }
        let Some(mut buffer) = inbound.take() else { return Ok(None) };
        // Reads grow with the flow: what fills a buffer gets a larger one.
        if buffer.space() == 0 {
            self.size = self.size.larger();
        }
        let data = match &mut self.coding {
            Coding::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= len as u64;
                let is_done = *left == 0;
                put_back(&buffer, len, inbound, buffers);
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
                put_back(&buffer, step.consumed, inbound, buffers);
                step.data
            }
            Coding::UntilClose => 0..buffer.len(),
            Coding::Done => 0..0,
        };
        self.received += data.len() as u64;
        if self.received > self.most {
            buffers.give(buffer);
            return Err(Kind::BodyTooLarge);
        }
        if data.is_empty() {
            buffers.give(buffer);
            return Ok(None);
        }
        buffer.narrow(data);
        Ok(Some(buffer))
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
    /// well here, and only if it was the peer that ended it.
    fn end_of_connection(&mut self, transport: &Transport) -> Result<()> {
        if matches!(self.coding, Coding::UntilClose) && transport.expired().is_none() {
            self.coding = Coding::Done;
            return Ok(());
        }
        Err(self.fault(transport))
    }

    fn fault(&self, transport: &Transport) -> Kind {
        if transport.expired().is_some() { self.faults.timeout } else { self.faults.cut_short }
    }
}

/// Keeps what stands behind the body for the next reader.
fn put_back(buffer: &Buffer, len: usize, inbound: &mut Inbound, buffers: &Buffers) {
    if buffer.len() > len {
        let rest = &buffer.data()[len..];
        let mut kept = buffers.take(Size::fitting(rest.len()));
        kept.append(rest);
        inbound.put(kept);
    }
}
