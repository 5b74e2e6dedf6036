//! The client's half of an exchange. Each version writes a head as it must; nothing else knows how.

use std::rc::Rc;
use std::time::Duration;

use super::http1::{self, reply::Reply as Http1};
use super::http2::{self, reply::Reply as Http2};
use super::pace::period;
use super::with::With;
use crate::base::error::Kind;
use crate::base::error::Result;
use crate::message::fields::Fields;
use crate::message::framing::BodySize;
use crate::message::head::{FinalHead, ResponseHead};
use crate::net::backlog::Backlog;
use crate::net::buffer::{Buffer, Buffers, SharedOctets};

/// An answer, to whatever client.
pub struct Reply<'a> {
    to: To<'a>,
    buffers: &'a Buffers,
    /// Milliseconds in which the client must take some of what is written.
    period: u32,
    /// The status of the final head; 0 before that: from then on no other answer can be given.
    status: u16,
    /// Octets of the body that were written.
    sent: u64,
    /// The body ends with the connection: if it ends now, only a reset tells that something is missing.
    ends_by_close: bool,
}

/// A beginning that is ready to go out.
pub enum Opened<'w> {
    Http1(http1::reply::Opened<'w>),
    /// In a box, for a head of `http` is large.
    Http2(Box<http2::reply::Opened<'w>>),
    Discard,
}

/// The client's version.
pub enum To<'a> {
    Http1(Http1<'a>),
    Http2(&'a Http2),
    /// There is no client: a refresh of the cache.
    Discard,
}

impl<'a> Reply<'a> {
    /// An answer that has not begun.
    #[must_use]
    pub const fn new(to: To<'a>, buffers: &'a Buffers) -> Self {
        Self { to, buffers, period: 0, status: 0, sent: 0, ends_by_close: false }
    }

    /// The client's version, and the connection or stream that it goes out on.
    #[must_use]
    pub const fn to(&self) -> &To<'a> {
        &self.to
    }

    /// The client must take something within this time.
    pub fn set_stall(&mut self, stall: Duration) {
        self.period = period(stall);
        if let To::Http1(one) = &mut self.to {
            one.set_stall(stall);
        }
    }

    /// The final head is on its way: no other answer can be given.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.status != 0
    }

    /// The status that was given; 0 if none.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Octets of the body that were written.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// There is a client.
    #[must_use]
    pub const fn has_client(&self) -> bool {
        !matches!(self.to, To::Discard)
    }

    /// The client speaks HTTP/2.
    #[must_use]
    pub const fn is_http2(&self) -> bool {
        matches!(self.to, To::Http2(_))
    }

    /// Whether the connection must end to end a body of this size.
    #[must_use]
    pub fn must_end(&self, size: BodySize) -> bool {
        matches!(&self.to, To::Http1(one) if one.ends_by_close(size))
    }

    /// The client has ended its side.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        matches!(&self.to, To::Http1(one) if one.transport().is_hung_up())
    }

    /// Where answers to this client are counted, if its connection has a bound for them.
    #[must_use]
    pub fn backlog(&self) -> Option<Rc<Backlog>> {
        match &self.to {
            To::Http2(one) => one.sender().backlog().cloned(),
            To::Http1(_) | To::Discard => None,
        }
    }

    /// Whether the client takes so many octets at once.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        matches!(&self.to, To::Http1(one) if one.transport().has_room(len))
    }

    /// Waits until the client takes more, where it says so; how much, at most, should be read for it.
    ///
    /// # Errors
    /// `ClientTooSlow`.
    pub async fn room(&self) -> Result<usize> {
        match &self.to {
            To::Http2(one) => one.sender().room(self.period).await.ok_or(Kind::ClientTooSlow),
            To::Http1(_) | To::Discard => Ok(usize::MAX),
        }
    }

    /// Passes an interim head on.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn interim(&mut self, head: &ResponseHead) -> Result<()> {
        match &mut self.to {
            To::Http1(one) => one.interim(head).await,
            To::Http2(one) => one.interim(head),
            To::Discard => Ok(()),
        }
    }

    /// Makes the final head ready to go out, with what goes out behind it. From here on no other answer can be given.
    ///
    /// # Errors
    /// `ProtocolRefused`, and another answer can be given: this one would open a tunnel that the endpoint did not open.
    /// The head cannot be said.
    pub fn open<'w>(&mut self, head: &FinalHead<'_>, with: With<'w>) -> Result<Opened<'w>> {
        if matches!(&self.to, To::Http2(one) if one.would_open_a_tunnel(head)) {
            return Err(Kind::ProtocolRefused);
        }
        self.status = head.status;
        self.ends_by_close = self.must_end(head.size);
        self.sent = with.octets();
        match &mut self.to {
            To::Http1(one) => one.open(head, with).map(Opened::Http1),
            To::Http2(one) => one.open(head, with).map(|one| Opened::Http2(Box::new(one))),
            To::Discard => Ok(Opened::Discard),
        }
    }

    /// Writes what was made ready.
    ///
    /// # Errors
    /// The client is gone, or does not read.
    pub async fn begin(&mut self, opened: Opened<'_>) -> Result<()> {
        match (opened, &mut self.to) {
            (Opened::Http1(opened), To::Http1(one)) => one.begin(opened).await,
            (Opened::Http2(opened), To::Http2(one)) => {
                one.begin(self.buffers, *opened, self.period).await
            }
            _ => Ok(()),
        }
    }

    /// Writes data; `is_last` ends the body with it.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn data(&mut self, data: Buffer, is_last: bool) -> Result<()> {
        self.sent += data.len() as u64;
        match &mut self.to {
            To::Http1(one) => one.data(data, is_last).await,
            To::Http2(one) => one.buffer(self.buffers, data, is_last, self.period).await,
            To::Discard => Ok(()),
        }
    }

    /// Writes data that others read too.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn shared(&mut self, data: SharedOctets) -> Result<()> {
        self.sent += data.data().len() as u64;
        match &mut self.to {
            To::Http1(one) => one.shared(data).await,
            To::Http2(one) => one.data(data.data(), false, false, self.period).await,
            To::Discard => Ok(()),
        }
    }

    /// Ends a body that is complete.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        match &mut self.to {
            To::Http1(one) => one.end(trailers).await,
            To::Http2(one) => one.end(trailers),
            To::Discard => Ok(()),
        }
    }

    /// Octets of a tunnel were written.
    pub const fn count(&mut self, sent: u64) {
        self.sent = sent;
    }

    /// The answer has ended before its end. Where the client could take that for a complete one, it gets a reset.
    pub fn cut_off(&self) {
        match &self.to {
            To::Http1(one) if self.ends_by_close => one.transport().reset_on_close(),
            To::Http2(one) => one.sender().reset(),
            To::Http1(_) | To::Discard => {}
        }
    }
}

impl Drop for Reply<'_> {
    /// A panic ends an answer before its end.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.cut_off();
        }
    }
}
