//! A body that comes on one stream. Its end is that of the stream; a length that was told before is held against
//! it.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream};

use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::net::backlog::Backlog;
use crate::net::buffer::{Buffer, Buffers};
use crate::net::size::Size;
use crate::net::sweep::SocketWatch;
use crate::protocol::pace::{Faults, Pace};
use crate::wire::http2;

/// The receiving half of a stream, after its head.
pub struct H2Receiver {
    stream: RecvStream,
    /// What has come and was not handed over.
    rest: Bytes,
    /// What the peer is owed of its window.
    owed: usize,
    state: BodyStage,
    trailers: Option<Box<Fields>>,
    /// Deadlines of reads.
    watch: Rc<SocketWatch>,
    faults: &'static Faults,
    pace: Pace,
    began: Moment,
    /// What its head said of it.
    told: Option<u64>,
    /// Octets handed over so far.
    received: u64,
    /// More than this is too large.
    most: u64,
    /// What is read is for a client that may hold only so much.
    backlog: Option<Rc<Backlog>>,
    has_begun: bool,
    /// The next data is no more than this.
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyStage {
    Data,
    /// No more data comes; trailers may.
    Trailers,
    /// Nothing more comes.
    Over,
}

impl std::fmt::Debug for H2Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Why nothing more comes.
enum BodyLost {
    Late,
    Gone,
}

impl H2Receiver {
    /// Of a body that begins now.
    #[must_use]
    pub fn new(
        stream: RecvStream,
        watch: Rc<SocketWatch>,
        framing: Framing,
        faults: &'static Faults,
        pace: Pace,
    ) -> Self {
        let told = match framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let is_none = matches!(framing, Framing::None | Framing::Length(0));
        Self {
            stream,
            rest: Bytes::new(),
            owed: 0,
            state: if is_none { BodyStage::Over } else { BodyStage::Data },
            trailers: None,
            began: watch.now(),
            watch,
            faults,
            pace,
            told,
            received: 0,
            most: u64::MAX,
            backlog: None,
            has_begun: false,
            limit: usize::MAX,
        }
    }

    /// What it carries is no body, but a tunnel's octets: they have no length, and no end but the stream's.
    pub fn into_tunnel(&mut self) {
        (self.state, self.told) = (BodyStage::Data, None);
    }

    /// The whole body was handed over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == BodyStage::Over && self.rest.is_empty()
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

    /// Octets beyond this are `BodyTooLarge`.
    pub const fn bound(&mut self, most: u64) {
        self.most = most;
    }

    /// How long it may take.
    pub const fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// It may be without an octet for so long.
    pub const fn may_be_silent(&mut self, idle: Duration) {
        self.pace.idle = idle;
    }

    /// What is read is for a client that may hold only so much.
    pub fn read_for(&mut self, backlog: Option<Rc<Backlog>>) {
        self.backlog = backlog;
    }

    /// The next data is no more than this.
    pub const fn limit(&mut self, most: usize) {
        self.limit = most;
    }

    /// Nothing may arrive after this.
    pub fn read_by(&self, deadline: Moment) {
        self.watch.again(deadline);
    }

    /// Nothing has arrived in time.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.watch.expired().is_some()
    }

    /// The data that can be had without waiting.
    ///
    /// # Errors
    /// As `next`.
    pub async fn ready(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        let come = poll_fn(|context| Poll::Ready(self.poll_come(context))).await;
        match come {
            Poll::Pending => Ok(None),
            // What a client is owed already comes first.
            Poll::Ready(Ok(())) if self.backlog.is_some() => Ok(None),
            Poll::Ready(Ok(())) => self.hand_over(buffers).await,
            Poll::Ready(Err(_)) => Err(self.faults.cut_short),
        }
    }

    /// The next data; `None` when the body is done.
    ///
    /// # Errors
    /// A body that is cut short, too large or too slow.
    pub async fn next(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        if self.is_done() {
            return Ok(None);
        }
        if self.watch.now() >= self.pace.total_by {
            return Err(Kind::TotalTimeout);
        }
        let deadline = self.pace.deadline(self.watch.now(), self.began, self.received);
        self.watch.read_by(deadline);
        let come = poll_fn(|context| self.poll_in_time(context)).await;
        self.watch.read_by(Moment::NEVER);
        match come {
            Ok(()) => self.hand_over(buffers).await,
            Err(BodyLost::Late) if self.watch.now() >= self.pace.total_by => {
                Err(Kind::TotalTimeout)
            }
            Err(BodyLost::Late) => Err(self.faults.timeout),
            Err(BodyLost::Gone) => Err(self.faults.cut_short),
        }
    }

    /// The next octets of a tunnel; `None` at its end.
    ///
    /// # Errors
    /// The peer is gone, or (`is_late`) silent.
    pub async fn octets(&mut self, buffers: &Buffers) -> std::io::Result<Option<Buffer>> {
        match poll_fn(|context| self.poll_in_time(context)).await {
            Ok(()) if self.rest.is_empty() => Ok(None),
            Ok(()) => Ok(Some(self.fill(buffers.take(Size::Small)))),
            Err(_) => Err(std::io::ErrorKind::ConnectionReset.into()),
        }
    }

    fn poll_in_time(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<std::result::Result<(), BodyLost>> {
        if self.watch.poll_due(context) {
            return Poll::Ready(Err(BodyLost::Late));
        }
        self.poll_come(context)
    }

    /// Waits until there is something to hand over, or the end.
    fn poll_come(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), BodyLost>> {
        while self.available() == 0 && self.state != BodyStage::Over {
            ready!(self.poll_more(context))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Octets that can be handed over. The last one stays here until the end was seen: a body that is reset behind
    /// it has not ended.
    fn available(&self) -> usize {
        let len = self.rest.len();
        match self.told {
            Some(told) if self.state != BodyStage::Over => {
                let most = told.saturating_sub(self.received).saturating_sub(1);
                len.min(usize::try_from(most).unwrap_or(usize::MAX))
            }
            _ => len,
        }
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), BodyLost>> {
        if self.state == BodyStage::Data {
            // What was used up may come again now: not before, so that a slow reader slows its writer down. Of a
            // stream that is gone nothing is owed.
            let owed = std::mem::take(&mut self.owed);
            let _ = self.stream.flow_control().release_capacity(owed);
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    self.owed += data.len();
                    self.rest = if self.rest.is_empty() {
                        data
                    } else {
                        Bytes::from([&self.rest[..], &data[..]].concat())
                    };
                    self.check_length()?;
                }
                Some(Err(_)) => return Poll::Ready(Err(BodyLost::Gone)),
                None => self.state = BodyStage::Trailers,
            }
            if self.stream.is_end_stream() {
                self.state = BodyStage::Over;
                return Poll::Ready(self.check_end());
            }
        }
        if self.state == BodyStage::Trailers {
            match ready!(self.stream.poll_trailers(context)) {
                Ok(None) => {}
                Ok(Some(map)) => {
                    let fields = http2::trailers(&map).ok_or(BodyLost::Gone)?;
                    self.trailers = Some(fields).filter(|all| !all.is_empty()).map(Box::new);
                }
                Err(_) => return Poll::Ready(Err(BodyLost::Gone)),
            }
            self.state = BodyStage::Over;
            return Poll::Ready(self.check_end());
        }
        Poll::Ready(Ok(()))
    }

    fn check_length(&self) -> std::result::Result<(), BodyLost> {
        let come = self.received + self.rest.len() as u64;
        if self.told.is_some_and(|told| come > told) { Err(BodyLost::Gone) } else { Ok(()) }
    }

    fn check_end(&self) -> std::result::Result<(), BodyLost> {
        let come = self.received + self.rest.len() as u64;
        if self.told.is_none_or(|told| told == come) { Ok(()) } else { Err(BodyLost::Gone) }
    }

    async fn hand_over(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        if self.available() == 0 {
            return Ok(None);
        }
        let buffer = self.buffer(buffers).await?;
        let data = self.fill(buffer);
        self.received += data.len() as u64;
        if self.received > self.most {
            buffers.give(data);
            return Err(Kind::BodyTooLarge);
        }
        Ok(Some(data))
    }

    /// A buffer for what there is; one that counts where the client's are counted, if it is for a client that may
    /// hold only so much: until it takes some, what has come stays in the stream's window, and the deadline for more
    /// stands still.
    async fn buffer(&mut self, buffers: &Buffers) -> Result<Buffer> {
        let Some(backlog) = &self.backlog else {
            let size = Size::fitting(self.available());
            return buffers.try_take(size.min(Size::Medium)).ok_or(Kind::Overloaded);
        };
        let (size, hold) =
            if self.has_begun { backlog.piece().await } else { backlog.first().await };
        self.has_begun = true;
        let mut buffer = buffers.take(size);
        buffer.count(hold);
        Ok(buffer)
    }

    fn fill(&mut self, mut buffer: Buffer) -> Buffer {
        let limit = std::mem::replace(&mut self.limit, usize::MAX).max(1);
        let len = self.available().min(buffer.space()).min(limit);
        buffer.append(&self.rest[..len]);
        self.rest.advance(len);
        buffer
    }

    /// Reads and drops what still comes until that moment.
    pub async fn drop_rest(&mut self, by: Moment) {
        self.watch.again(by);
        self.told = None;
        loop {
            self.rest = Bytes::new();
            let come = poll_fn(|context| self.poll_in_time(context)).await;
            if come.is_err() || self.state == BodyStage::Over {
                return;
            }
        }
    }
}

/// RFC 9113 section 8.7: two ways to say that a request was not worked on.
#[must_use]
pub fn is_refusal(error: &h2::Error) -> bool {
    error.reason() == Some(Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
}
