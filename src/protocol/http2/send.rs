//! What goes out on one stream: a head, where it answers one, then data and trailers. Flow control is waited for
//! where a socket would wait for room.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::Response;

use super::payload::Payload;
use crate::base::limits::{BACKLOG_MAX, H2_FRAME_COST};
use crate::message::fields::Fields;
use crate::net::backlog::Backlog;
use crate::net::buffer::Buffers;
use crate::net::deadline::Due;
use crate::net::sweep::SocketWatch;
use crate::wire::http2;

/// Octets that are handed over at a time: what a pooled buffer holds beside its margins.
const PIECE: usize = 16 * 1024 - 64;

/// The sending half of a stream. Its cells are borrowed for the length of a call: while one task sends, the same
/// task asks whether the peer has given up.
pub struct H2Sender {
    out: RefCell<Out>,
    buffers: Rc<Buffers>,
    /// Where what is sent is counted: a client's.
    backlog: Option<Rc<Backlog>>,
    /// All was sent.
    is_ended: Cell<bool>,
    /// Deadlines of writes.
    watch: SocketWatch,
}

enum Out {
    /// An answer that has not begun.
    Head(SendResponse<Payload>),
    Body(SendStream<Payload>),
    Ended,
}

impl std::fmt::Debug for H2Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

fn closed<T>() -> io::Result<T> {
    Err(io::ErrorKind::BrokenPipe.into())
}

impl H2Sender {
    /// Of an answer.
    pub(super) fn answer(
        send: SendResponse<Payload>,
        backlog: &Rc<Backlog>,
        buffers: &Rc<Buffers>,
        watch: SocketWatch,
    ) -> Self {
        Self::new(Out::Head(send), Some(Rc::clone(backlog)), buffers, watch)
    }

    /// Of a request's body.
    pub(super) fn body(
        send: SendStream<Payload>,
        buffers: &Rc<Buffers>,
        watch: SocketWatch,
    ) -> Self {
        Self::new(Out::Body(send), None, buffers, watch)
    }

    fn new(
        out: Out,
        backlog: Option<Rc<Backlog>>,
        buffers: &Rc<Buffers>,
        watch: SocketWatch,
    ) -> Self {
        let (out, is_ended) = (RefCell::new(out), Cell::default());
        Self { out, buffers: Rc::clone(buffers), backlog, is_ended, watch }
    }

    /// Where answers are counted, if it is a client's.
    #[must_use]
    pub const fn backlog(&self) -> Option<&Rc<Backlog>> {
        self.backlog.as_ref()
    }

    /// Deadlines of writes.
    #[must_use]
    pub const fn watch(&self) -> &SocketWatch {
        &self.watch
    }

    /// The deadline for writing has passed.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.watch.expired() == Some(Due::Write)
    }

    /// Sends an interim head.
    ///
    /// # Errors
    /// The stream is gone, or its final head has gone out.
    pub fn interim(&self, head: Response<()>) -> io::Result<()> {
        match &mut *self.out.borrow_mut() {
            Out::Head(send) => send.send_informational(head).map_err(broken),
            Out::Body(_) | Out::Ended => closed(),
        }
    }

    /// Sends the final head; `is_all` ends the stream with it. `len` is what it counts for while it waits.
    ///
    /// # Errors
    /// The stream is gone, or its final head has gone out.
    pub fn head(&self, head: Response<()>, is_all: bool, len: usize) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        let Out::Head(send) = &mut *out else { return closed() };
        if let Some(backlog) = &self.backlog {
            backlog.hold_head(send.stream_id().as_u32(), len);
        }
        let body = send.send_response(head, is_all).map_err(broken)?;
        *out = if is_all { Out::Ended } else { Out::Body(body) };
        Ok(())
    }

    /// Waits until the client has taken enough of what it is owed for so many octets more.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn has_turn(&self, len: usize, period: u32) -> io::Result<()> {
        self.watch.write_within(period);
        let result = poll_fn(|context| match self.poll_full(len, context) {
            _ if self.watch.poll_due(context) && self.is_late() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        })
        .await;
        self.watch.write_done(0);
        result
    }

    /// Sends data; `is_last` ends the stream with it. What is counted already waits for nothing but the peer's
    /// windows.
    ///
    /// # Errors
    /// `TimedOut`; the stream is gone.
    pub async fn data(
        &self,
        data: &[u8],
        is_last: bool,
        is_counted: bool,
        period: u32,
    ) -> io::Result<()> {
        self.watch.write_within(period);
        let mut rest = data;
        let result = loop {
            if rest.is_empty() {
                break Ok(());
            }
            let len = rest.len().min(PIECE);
            let room = poll_fn(|context| self.poll_turn(context, len, is_counted)).await;
            let len = match room {
                Ok(room) => room.min(len),
                Err(error) => break Err(error),
            };
            self.watch.wrote(len);
            if let Err(error) = self.piece(&rest[..len], is_last && len == rest.len()) {
                break Err(error);
            }
            rest = &rest[len..];
        };
        self.watch.write_done(0);
        result
    }

    fn piece(&self, data: &[u8], is_last: bool) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        let Out::Body(send) = &mut *out else { return closed() };
        // The stream is kept until it is gone: dropping it early would look like giving up.
        self.is_ended.set(is_last);
        let payload = Payload::copy(data, &self.buffers, self.backlog.as_ref());
        send.send_data(payload, is_last).map_err(broken)
    }

    /// Ends a body that is complete.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn end(&self, trailers: Option<&Fields>) -> io::Result<()> {
        if let Out::Body(send) = &mut *self.out.borrow_mut()
            && !self.is_ended.replace(true)
        {
            match trailers {
                Some(fields) => send.send_trailers(http2::trailer_map(fields)),
                None => send.send_data(Payload::none(), true),
            }
            .map_err(broken)?;
        }
        Ok(())
    }

    /// Waits until the peer takes more; how much that is, up to a piece. `None` if it takes nothing for about two
    /// periods of so many milliseconds. A fault shows again in what follows.
    pub async fn room(&self, period: u32) -> Option<usize> {
        self.watch.write_within(period);
        let room = poll_fn(|context| {
            if !matches!(&*self.out.borrow(), Out::Body(..)) || self.watch.poll_due(context) {
                return Poll::Ready(PIECE);
            }
            self.poll_room(context, PIECE).map(|room| room.map_or(PIECE, |room| room.min(PIECE)))
        })
        .await;
        self.watch.write_done(0);
        (!self.is_late()).then_some(room)
    }

    fn poll_turn(
        &self,
        context: &mut Context<'_>,
        len: usize,
        is_counted: bool,
    ) -> Poll<io::Result<usize>> {
        // A client that was too slow in asking still gets an answer.
        if self.watch.poll_due(context) && self.is_late() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let room = ready!(self.poll_room(context, len));
        if room.is_ok() && !is_counted && self.poll_full(len, context) {
            return Poll::Pending;
        }
        Poll::Ready(room)
    }

    /// Too much waits already for the client to take it.
    fn poll_full(&self, len: usize, context: &Context<'_>) -> bool {
        let backlog = self.backlog.as_ref();
        backlog.is_some_and(|backlog| backlog.poll_full(len + H2_FRAME_COST, BACKLOG_MAX, context))
    }

    fn poll_room(&self, context: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        let mut out = self.out.borrow_mut();
        let Out::Body(send) = &mut *out else { return Poll::Ready(closed()) };
        if let Poll::Ready(reset) = send.poll_reset(context) {
            let error = reset.map_or_else(broken, |_| io::ErrorKind::ConnectionReset.into());
            return Poll::Ready(Err(error));
        }
        send.reserve_capacity(len);
        if send.capacity() > 0 {
            return Poll::Ready(Ok(send.capacity()));
        }
        loop {
            match ready!(send.poll_capacity(context)) {
                Some(Ok(0)) => {}
                Some(Ok(room)) => return Poll::Ready(Ok(room)),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(closed()),
            }
        }
    }

    /// Waits until the peer has given up on it.
    pub async fn gone(&self) {
        poll_fn(|context| {
            let polled = match &mut *self.out.borrow_mut() {
                Out::Head(send) => send.poll_reset(context),
                Out::Body(send) => send.poll_reset(context),
                Out::Ended => return Poll::Pending,
            };
            polled.map(|_| ())
        })
        .await;
    }

    /// Nothing was done of what a client asked for, and nothing will be (RFC 9113 section 8.7).
    pub(super) fn refuse(&self) {
        if let Out::Head(send) = &mut *self.out.borrow_mut() {
            send.send_reset(Reason::REFUSED_STREAM);
        }
    }

    /// Both directions end, and not orderly.
    pub fn reset(&self) {
        match &mut *self.out.borrow_mut() {
            Out::Head(send) => send.send_reset(Reason::INTERNAL_ERROR),
            Out::Body(send) if !self.is_ended.get() => send.send_reset(Reason::INTERNAL_ERROR),
            Out::Body(_) | Out::Ended => {}
        }
    }
}
