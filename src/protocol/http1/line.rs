//! A request to an endpoint of HTTP/1, and its answer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::read::{Reading, Source};
use super::write::Writing;
use crate::base::clock::Moment;
use crate::base::error::{Detail, Kind, Result};
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, RequestHead, ResponseHead};
use crate::message::limits::HeadLimits;
use crate::net::backlog::Backlog;
use crate::net::buffer::{Buffer, Buffers};
use crate::net::deadline::Due;
use crate::net::inbound::Inbound;
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::protocol::pace::{self, Pace};
use crate::wire::http1::scan::Scan;
use crate::wire::http1::write::{self, RequestConnection, Writer};
use crate::wire::http1::{diagnose, parse};

/// A connection to an endpoint, which may idle in its pool.
#[derive(Debug)]
pub struct PooledConnection {
    pub transport: Transport,
    /// When it was opened.
    pub born: Moment,
    /// Which of its endpoint's addresses it belongs to: those that DNS no longer tells are not
    /// used again.
    pub generation: u32,
    /// The client that a PROXY header named on it: it must serve no other (exam D09).
    pub identity: Option<SocketAddr>,
    /// Goes out before the first request.
    pub preface: RefCell<Vec<u8>>,
}

impl Drop for PooledConnection {
    /// The endpoint is told at once, before its place is another request's: on a ring the descriptor itself
    /// is closed when what still waits on it has been cancelled, which is later (exam M02).
    fn drop(&mut self) {
        self.transport.end();
    }
}

impl PooledConnection {
    /// The octets of a request's head, in a buffer with room behind them if there is any.
    fn head(
        &self,
        buffers: &Buffers,
        head: &RequestHead,
        authority: &[u8],
        connection: RequestConnection,
    ) -> Result<Buffer> {
        let preface = self.preface.take();
        // Start line, Host, framing and Connection come on top of the fields.
        let bound = head.fields.wire_len() + authority.len() + preface.len() + 256;
        let mut buffer = buffers.take(Size::fitting(bound));
        let mut out = Writer::new(buffer.spare());
        out.put(&preface);
        write::request(head, authority, connection, &mut out);
        let Some(len) = out.finish() else {
            buffers.give(buffer);
            return Err(Kind::Internal);
        };
        buffer.filled(len);
        Ok(buffer)
    }
}

/// One exchange after the other on a connection, which idles in its pool between them.
#[derive(Debug)]
pub struct Line {
    connection: Rc<PooledConnection>,
    inbound: Inbound,
    /// The body of the answer.
    reading: Reading,
    detail: Option<Detail>,
}

/// The half of a line that a request goes out on.
#[derive(Debug)]
pub struct RequestWriter {
    connection: Rc<PooledConnection>,
    writing: Writing,
}

impl Line {
    /// On a connection that carries nothing else.
    #[must_use]
    pub fn new(connection: Rc<PooledConnection>) -> Self {
        Self { connection, inbound: Inbound::default(), reading: Reading::none(), detail: None }
    }

    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> &Rc<PooledConnection> {
        &self.connection
    }

    /// The connection and what was read from it, for a tunnel.
    pub fn raw(&mut self) -> (&Transport, &mut Inbound) {
        (&self.connection.transport, &mut self.inbound)
    }

    /// Nothing was read that belongs to no answer, and nothing is written: another exchange may follow. What was of
    /// the last one is forgotten.
    pub fn is_idle(&mut self) -> bool {
        self.detail = None;
        self.inbound.read_for(None);
        self.inbound.is_empty() && Rc::strong_count(&self.connection) == 1
    }

    /// What is read is for a client that may hold only so much.
    pub fn read_for(&mut self, backlog: Option<Rc<Backlog>>) {
        self.inbound.read_for(backlog);
    }

    /// The half that a request goes out on.
    #[must_use]
    pub fn writer(&self, framing: Framing, stall: Duration) -> RequestWriter {
        let writing = Writing::upstream(stall, framing == Framing::Chunked);
        RequestWriter { connection: Rc::clone(&self.connection), writing }
    }

    /// Writes a request that is its head alone.
    ///
    /// # Errors
    /// `Internal` if the head has outgrown every bound; the endpoint is gone or does not read.
    pub async fn send(
        &self,
        buffers: &Buffers,
        head: &RequestHead,
        authority: &[u8],
        connection: RequestConnection,
        stall: Duration,
    ) -> Result<()> {
        let out = self.connection.head(buffers, head, authority, connection)?;
        let writing = Writing::upstream(stall, false);
        writing.buffer(&self.connection.transport, buffers, out).await
    }

    /// The head of an answer must have come by then.
    pub fn answer_by(&self, deadline: Moment) {
        self.connection.transport.read_by(deadline);
    }

    /// Waits until there is something of an answer, or the connection has ended.
    pub async fn readable(&self) {
        self.connection.transport.readable().await;
    }

    /// The endpoint has ended the connection.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.connection.transport.is_hung_up()
    }

    /// Octets have come that were not used.
    #[must_use]
    pub fn has_octets(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// What exactly was wrong with the answer.
    #[must_use]
    pub fn detail(&self) -> Option<Detail> {
        self.detail.or_else(|| self.reading.detail())
    }

    /// Reads one head, interim or final.
    ///
    /// # Errors
    /// `UpstreamGone` if the connection ended first, `FirstByteTimeout`, or what is wrong with the
    /// head.
    pub async fn head(
        &mut self,
        buffers: &Buffers,
        asked: Method,
        head: &mut ResponseHead,
    ) -> Result<()> {
        // Nearly always it comes whole.
        if self.inbound.is_empty() && !self.more(buffers).await? {
            return Err(Kind::UpstreamGone);
        }
        head.clear();
        if let Some(len) = parse::response_at_once(self.inbound.data(), asked, head) {
            self.inbound.consume(len, buffers);
            return Ok(());
        }
        self.head_bit_by_bit(buffers, asked, head).await.inspect_err(|kind| {
            if *kind == Kind::UpstreamHead {
                self.detail = Some(diagnose::answer(self.inbound.data()));
            }
        })
    }

    async fn head_bit_by_bit(
        &mut self,
        buffers: &Buffers,
        asked: Method,
        head: &mut ResponseHead,
    ) -> Result<()> {
        let mut scan = Scan::default();
        loop {
            match scan.response(self.inbound.data(), &HeadLimits::RESPONSE) {
                Ok(Some(found)) => {
                    head.clear();
                    parse::response(&self.inbound.data()[..found.end], asked, head)?;
                    self.inbound.consume(found.end, buffers);
                    return Ok(());
                }
                Ok(None) => {}
                Err(Kind::HeadTooLarge | Kind::TargetTooLong) => {
                    return Err(Kind::UpstreamHeadTooLarge);
                }
                Err(_) => return Err(Kind::UpstreamHead),
            }
            if !self.more(buffers).await? {
                return Err(Kind::UpstreamGone);
            }
        }
    }

    /// Reads more; `false` at the end.
    async fn more(&mut self, buffers: &Buffers) -> Result<bool> {
        let transport = &self.connection.transport;
        match self.inbound.fill(transport, buffers, Size::Small).await {
            Ok(1..) => Ok(true),
            // Our own shortage, for which the endpoint is not to blame.
            Err(error) if error.kind() == std::io::ErrorKind::OutOfMemory => Err(Kind::Overloaded),
            Ok(0) | Err(_) => match transport.expired() {
                None | Some(Due::Look) => Ok(false),
                Some(Due::Read) => Err(Kind::FirstByteTimeout),
                Some(Due::Write) => Err(Kind::UpstreamWriteTimeout),
            },
        }
    }

    /// The final head has come: what follows is a body of this framing.
    pub fn begin_body(&mut self, framing: Framing, pace: Pace) {
        let now = self.connection.transport.now();
        self.reading.begin(framing, &pace::RESPONSE, pace, now, u64::MAX);
    }

    /// How the body is read.
    pub const fn reading(&mut self) -> &mut Reading {
        &mut self.reading
    }

    /// The data of the body that can be had without waiting.
    ///
    /// # Errors
    /// As `next`.
    pub fn ready(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        self.reading.ready(&mut self.inbound, buffers)
    }

    /// The next data of the body; `None` when it is done.
    ///
    /// # Errors
    /// A body that is broken, cut short or too slow.
    pub async fn next(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        let (transport, inbound) = (&self.connection.transport, &mut self.inbound);
        self.reading.next(Source { transport, inbound, buffers }).await
    }

    /// The next read takes no more than this.
    pub const fn limit(&mut self, most: usize) {
        self.inbound.limit(most);
    }
}

impl RequestWriter {
    /// Writes the head, and the first of the body behind it.
    ///
    /// # Errors
    /// `Internal` if the head has outgrown every bound; the endpoint is gone or does not read.
    pub async fn begin(
        &self,
        buffers: &Buffers,
        head: &RequestHead,
        authority: &[u8],
        connection: RequestConnection,
        first: Option<Buffer>,
        is_last: bool,
    ) -> Result<()> {
        let mut out = self.connection.head(buffers, head, authority, connection)?;
        let rest = first.and_then(|data| self.writing.join(&mut out, data, is_last, buffers));
        let transport = &self.connection.transport;
        self.writing.buffer(transport, buffers, out).await?;
        match rest {
            Some(rest) => self.writing.buffer(transport, buffers, rest).await,
            None => Ok(()),
        }
    }

    /// Writes octets of no message: what goes out before the first.
    ///
    /// # Errors
    /// The endpoint is gone or does not read.
    pub async fn preface(&self, buffers: &Buffers) -> Result<()> {
        let preface = self.connection.preface.take();
        if preface.is_empty() {
            return Ok(());
        }
        let mut buffer = buffers.take(Size::fitting(preface.len()));
        buffer.append(&preface);
        self.writing.buffer(&self.connection.transport, buffers, buffer).await
    }

    /// Writes data; `is_last` ends the body with it.
    ///
    /// # Errors
    /// The endpoint is gone or does not read.
    pub async fn data(&self, buffers: &Buffers, data: Buffer, is_last: bool) -> Result<()> {
        self.writing.data(&self.connection.transport, buffers, data, is_last).await
    }

    /// Ends a body that is complete.
    ///
    /// # Errors
    /// The endpoint is gone or does not read.
    pub async fn end(&self, buffers: &Buffers, trailers: Option<&Fields>) -> Result<()> {
        self.writing.end(&self.connection.transport, buffers, trailers).await
    }

    /// All of the request is written: its answer must have come by then.
    pub fn answer_by(&self, deadline: Moment) {
        self.connection.transport.read_by(deadline);
    }

    /// Whether the endpoint takes so many octets at once.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        self.connection.transport.has_room(len)
    }
}
