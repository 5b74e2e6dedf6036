//! The upstream's half of an exchange: a connection of HTTP/1, or a stream of HTTP/2.

use std::rc::Rc;
use std::time::Duration;

use super::http1::line::{Line as Http1, RequestWriter as Http1Writer};
use super::http2::line::{Line as Http2, RequestWriter as Http2Writer};
use super::http2::send::H2Sender;
use super::pace::Pace;
use crate::base::clock::Moment;
use crate::base::error::{Detail, Result};
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, RequestHead, ResponseHead, Version};
use crate::net::backlog::Backlog;
use crate::net::buffer::{Buffer, Buffers};
use crate::wire::http1::write::RequestConnection;

/// An exchange with an endpoint, whatever the version.
/// Two words, for it is moved a lot.
#[derive(Debug)]
pub enum Line {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

/// The half of it that the request goes out on: it may outlive the head of the answer.
#[derive(Debug)]
pub enum RequestWriter {
    Http1(Http1Writer),
    Http2(Http2Writer),
}

/// What of a request the endpoint is to see beside its head.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub authority: &'a [u8],
    /// It may close the connection when it has answered.
    pub is_last: bool,
    /// It is asked to change to the request's protocol.
    pub upgrades: bool,
    /// The endpoint may take nothing of the request for so long.
    pub stall: Duration,
}

impl Terms<'_> {
    const fn connection(&self) -> RequestConnection {
        match self {
            Terms { upgrades: true, .. } => RequestConnection::Upgrade,
            Terms { is_last: true, .. } => RequestConnection::Close,
            _ => RequestConnection::Keep,
        }
    }
}

impl Line {
    /// What the endpoint is asked in.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::Http1(_) => Version::Http11,
            Self::Http2(_) => Version::Http2,
        }
    }

    /// Writes the head, and the first of the body behind it; `is_last` ends the body with that. What the rest of
    /// the body goes out on, and whether all went well.
    ///
    /// # Errors
    /// In place of a writer: `NotInHttp2`, `UpstreamGone`. Beside one: the endpoint is gone or does not read, and
    /// may have answered all the same.
    pub async fn begin(
        &mut self,
        buffers: &Buffers,
        head: &RequestHead,
        terms: Terms<'_>,
        first: Option<Buffer>,
        is_last: bool,
    ) -> Result<(RequestWriter, Result<()>)> {
        let Terms { authority, stall, upgrades, .. } = terms;
        match self {
            Self::Http1(line) => {
                let connection = terms.connection();
                let writer = line.writer(head.framing, stall);
                let begun =
                    writer.begin(buffers, head, authority, connection, first, is_last).await;
                Ok((RequestWriter::Http1(writer), begun))
            }
            Self::Http2(line) => {
                let writer = line.begin(head, authority, upgrades, stall)?;
                let begun = match first {
                    Some(data) => writer.data(buffers, data, is_last).await,
                    None => Ok(()),
                };
                Ok((RequestWriter::Http2(writer), begun))
            }
        }
    }

    /// Writes a request that is its head alone. Whether that went out: an endpoint that did not take it may have
    /// answered all the same.
    ///
    /// # Errors
    /// `NotInHttp2`, `UpstreamGone`: there can be no answer.
    pub async fn send(
        &mut self,
        buffers: &Buffers,
        head: &RequestHead,
        terms: Terms<'_>,
    ) -> Result<Result<()>> {
        match self {
            Self::Http1(line) => {
                let connection = terms.connection();
                Ok(line.send(buffers, head, terms.authority, connection, terms.stall).await)
            }
            Self::Http2(line) => {
                line.begin(head, terms.authority, false, terms.stall).map(|_| Ok(()))
            }
        }
    }

    /// Which of its endpoint's addresses its connection belongs to; `None` for a stream, whose connection is shared and
    /// needs not be kept.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        match self {
            Self::Http1(line) => Some(line.connection().generation),
            Self::Http2(_) => None,
        }
    }

    /// It is a stream, on which a request that was refused may be sent again whatever it was.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// What is read is for a client that may hold only so much.
    pub fn read_for(&mut self, backlog: Option<Rc<Backlog>>) {
        match self {
            Self::Http1(line) => line.read_for(backlog),
            Self::Http2(line) => line.read_for(backlog),
        }
    }

    /// The head of an answer must have come by then.
    pub fn answer_by(&self, deadline: Moment) {
        match self {
            Self::Http1(line) => line.answer_by(deadline),
            Self::Http2(line) => line.answer_by(deadline),
        }
    }

    /// Waits until there is something of an answer, or none can come any more.
    pub async fn readable(&mut self) {
        match self {
            Self::Http1(line) => line.readable().await,
            Self::Http2(line) => line.readable().await,
        }
    }

    /// No answer can come any more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        match self {
            Self::Http1(line) => line.is_dead(),
            Self::Http2(line) => line.is_dead(),
        }
    }

    /// Octets of an answer have come that make no head.
    #[must_use]
    pub fn has_octets(&self) -> bool {
        matches!(self, Self::Http1(line) if line.has_octets())
    }

    /// The endpoint says that it did nothing of what it was asked.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::Http2(line) if line.is_refused())
    }

    /// Its answer did not come in time: a connection on which nothing else came either takes no more requests.
    pub fn distrust(&self) {
        if let Self::Http2(line) = self {
            line.distrust();
        }
    }

    /// What exactly was wrong with the answer.
    #[must_use]
    pub fn detail(&self) -> Option<Detail> {
        match self {
            Self::Http1(line) => line.detail(),
            Self::Http2(_) => None,
        }
    }

    /// Takes one head, interim or final.
    ///
    /// # Errors
    /// `UpstreamGone`, `FirstByteTimeout`, or what is wrong with the head.
    pub async fn head(
        &mut self,
        buffers: &Buffers,
        asked: Method,
        head: &mut ResponseHead,
    ) -> Result<()> {
        match self {
            Self::Http1(line) => line.head(buffers, asked, head).await,
            Self::Http2(line) => line.head(asked, head).await,
        }
    }

    /// The final head has come: what follows is a body of this framing.
    pub fn begin_body(&mut self, framing: Framing, pace: Pace) {
        match self {
            Self::Http1(line) => line.begin_body(framing, pace),
            Self::Http2(line) => line.begin_body(framing, pace),
        }
    }

    /// The body may be without an octet for so long.
    pub fn may_be_silent(&mut self, idle: Duration) {
        match self {
            Self::Http1(line) => line.reading().may_be_silent(idle),
            Self::Http2(line) => line.body().into_iter().for_each(|one| one.may_be_silent(idle)),
        }
    }

    /// The whole body was handed over.
    #[must_use]
    pub fn is_done(&mut self) -> bool {
        match self {
            Self::Http1(line) => line.reading().is_done(),
            Self::Http2(line) => line.body().is_none_or(|one| one.is_done()),
        }
    }

    /// The body came with trailers.
    #[must_use]
    pub fn has_trailers(&mut self) -> bool {
        match self {
            Self::Http1(line) => line.reading().has_trailers(),
            Self::Http2(line) => line.body().is_some_and(|one| one.has_trailers()),
        }
    }

    /// The body's trailers, once it is done.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Http1(line) => line.reading().take_trailers(),
            Self::Http2(line) => line.body().and_then(|one| one.take_trailers()),
        }
    }

    /// Reads no more at once than the client takes.
    pub fn pace_for(&mut self, has_room: impl FnOnce(usize) -> bool) {
        if let Self::Http1(line) = self {
            line.reading().pace_for(has_room);
        }
    }

    /// The next data is no more than this.
    pub fn limit(&mut self, most: usize) {
        match self {
            Self::Http1(line) => line.limit(most),
            Self::Http2(line) => line.body().into_iter().for_each(|body| body.limit(most)),
        }
    }

    /// The data of the body that can be had without waiting.
    ///
    /// # Errors
    /// As `next`.
    pub async fn ready(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        match self {
            Self::Http1(line) => line.ready(buffers),
            Self::Http2(line) => line.ready(buffers).await,
        }
    }

    /// The next data of the body; `None` when it is done.
    ///
    /// # Errors
    /// A body that is broken, cut short or too slow.
    pub async fn next(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        match self {
            Self::Http1(line) => line.next(buffers).await,
            Self::Http2(line) => line.next(buffers).await,
        }
    }
}

impl RequestWriter {
    /// Writes data; `is_last` ends the body with it.
    ///
    /// # Errors
    /// The endpoint is gone or does not read.
    pub async fn data(&self, buffers: &Buffers, data: Buffer, is_last: bool) -> Result<()> {
        match self {
            Self::Http1(writer) => writer.data(buffers, data, is_last).await,
            Self::Http2(writer) => writer.data(buffers, data, is_last).await,
        }
    }

    /// Ends a body that is complete.
    ///
    /// # Errors
    /// The endpoint is gone or does not read.
    pub async fn end(&self, buffers: &Buffers, trailers: Option<&Fields>) -> Result<()> {
        match self {
            Self::Http1(writer) => writer.end(buffers, trailers).await,
            Self::Http2(writer) => writer.end(trailers),
        }
    }

    /// All of the request is written: its answer must have come by then.
    pub fn answer_by(&self, deadline: Moment) {
        match self {
            Self::Http1(writer) => writer.answer_by(deadline),
            Self::Http2(writer) => writer.answer_by(deadline),
        }
    }

    /// It is a stream.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Whether the endpoint takes so many octets at once.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        matches!(self, Self::Http1(writer) if writer.has_room(len))
    }

    /// The stream, for a tunnel; `None` if it is a connection of HTTP/1.
    #[must_use]
    pub fn into_sender(self) -> Option<Box<H2Sender>> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(writer) => writer.into_sender(),
        }
    }
}
