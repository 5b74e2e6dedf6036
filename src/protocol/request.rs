//! The body of a client's request, as it comes.

use super::http1::read::{Reading, Source};
use super::http2::receive::H2Receiver;
use super::pace::{self, Pace};
use crate::base::clock::Moment;
use crate::base::error::{Detail, Result};
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::net::buffer::{Buffer, Buffers};
use crate::net::inbound::Inbound;
use crate::net::transport::Transport;

/// A request's body, whatever the version.
pub enum RequestBody<'a> {
    Http1(Http1<'a>),
    Http2(Box<H2Receiver>),
    /// There is none.
    None,
}

/// A body on a connection of HTTP/1.
pub struct Http1<'a> {
    pub transport: &'a Transport,
    pub inbound: &'a mut Inbound,
    pub reading: &'a mut Reading,
    /// Its framing is known.
    pub has_begun: bool,
}

impl<'a> RequestBody<'a> {
    /// On a connection of HTTP/1, whose head has been taken.
    pub fn http1(
        transport: &'a Transport,
        inbound: &'a mut Inbound,
        reading: &'a mut Reading,
    ) -> Self {
        reading.reset();
        Self::Http1(Http1 { transport, inbound, reading, has_begun: false })
    }

    /// Its framing and its bounds are known. A body that has begun goes on.
    pub fn begin(&mut self, framing: Framing, pace: Pace, most: u64) {
        match self {
            Self::Http1(body) if !body.has_begun => {
                body.has_begun = true;
                body.reading.begin(framing, &pace::REQUEST, pace, body.transport.now(), most);
            }
            Self::Http2(body) => {
                body.set_pace(pace);
                body.bound(most);
            }
            Self::Http1(_) | Self::None => {}
        }
    }

    /// The whole body was handed over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self {
            Self::Http1(body) => body.reading.is_done(),
            Self::Http2(body) => body.is_done(),
            Self::None => true,
        }
    }

    /// A read was given up under way: what it has read is lost, and what comes after it is of no use.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        matches!(self, Self::Http1(body) if body.inbound.is_torn())
    }

    /// The body came with trailers.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        match self {
            Self::Http1(body) => body.reading.has_trailers(),
            Self::Http2(body) => body.has_trailers(),
            Self::None => false,
        }
    }

    /// The body's trailers, once it is done.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Http1(body) => body.reading.take_trailers(),
            Self::Http2(body) => body.take_trailers(),
            Self::None => None,
        }
    }

    /// Octets of data so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        match self {
            Self::Http1(body) => body.reading.received(),
            Self::Http2(body) => body.received(),
            Self::None => 0,
        }
    }

    /// What exactly was wrong with it.
    #[must_use]
    pub fn detail(&self) -> Option<Detail> {
        match self {
            Self::Http1(body) => body.reading.detail(),
            Self::Http2(_) | Self::None => None,
        }
    }

    /// Reads no more at once than the endpoint takes.
    pub fn pace_for(&mut self, has_room: impl FnOnce(usize) -> bool) {
        if let Self::Http1(body) = self {
            body.reading.pace_for(has_room);
        }
    }

    /// The data that can be had without waiting.
    ///
    /// # Errors
    /// As `next`.
    pub async fn ready(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        match self {
            Self::Http1(body) => body.reading.ready(body.inbound, buffers),
            Self::Http2(body) => body.ready(buffers).await,
            Self::None => Ok(None),
        }
    }

    /// The next data; `None` when the body is done.
    ///
    /// # Errors
    /// A body that is broken, cut short, too large or too slow.
    pub async fn next(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        match self {
            Self::Http1(Http1 { transport, inbound, reading, .. }) => {
                reading.next(Source { transport, inbound, buffers }).await
            }
            Self::Http2(body) => body.next(buffers).await,
            Self::None => Ok(None),
        }
    }

    /// Reads and drops what still comes on a stream of HTTP/2 until that moment.
    pub async fn drop_rest(&mut self, by: Moment) {
        if let Self::Http2(body) = self {
            body.drop_rest(by).await;
        }
    }
}
