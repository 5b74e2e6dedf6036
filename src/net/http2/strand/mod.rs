//! One stream of an HTTP/2 connection, in the shape of a socket: a head of HTTP/1.1 and then the
//! body as it is go in and come out. Flow control is waited for where a socket would wait for room.

mod send;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use super::client::Lease;
use super::payload::Payload;
use crate::message::fields::Fields;
use crate::message::head::Method;
use crate::net::backlog::Backlog;
use crate::net::buffer::{Buffer, Buffers};
use crate::net::sweep::Watch;
use crate::wire::http2::{self, Upgrade};

/// Octets that are handed over at a time: what a pooled buffer holds beside its margins.
const PIECE: usize = 16 * 1024 - 64;

/// A stream. Its two directions are used at once, each by one user at a time.
pub struct Strand {
    inbound: RefCell<In>,
    /// The text of heads that have come and were not read.
    text: RefCell<Vec<u8>>,
    outbound: RefCell<Out>,
    buffers: Rc<Buffers>,
    /// Where what is sent is counted: a client's.
    backlog: Option<Rc<Backlog>>,
    trailers: RefCell<Option<Fields>>,
    /// What an answer on it answers.
    asked: Cell<Method>,
    /// The next data is the last.
    will_end: Cell<bool>,
    /// Which data is the last does not follow from the length.
    is_framed: Cell<bool>,
    /// All was sent.
    is_ended: Cell<bool>,
    /// It was told to us that nothing of it was done (RFC 9113 section 8.7).
    is_refused: Cell<bool>,
    /// What was to be sent cannot be said in HTTP/2, or not to this peer.
    is_unsayable: Cell<bool>,
    /// What it was to become, by an extended CONNECT.
    upgrade: RefCell<Option<Upgrade>>,
    /// Our side of a request's connection is encrypted.
    is_secure: bool,
    /// It counts as long as it lives.
    lease: Option<Lease>,
}

enum In {
    /// An answer that has not begun.
    Answer(ResponseFuture),
    Body(Body),
    Ended,
}

/// What is left of a body, and what the peer is owed of its window.
struct Body {
    stream: RecvStream,
    rest: Bytes,
    owed: usize,
    /// No more data comes; trailers may.
    is_over: bool,
}

enum Out {
    Answer(SendResponse<Payload>),
    Request(SendRequest<Payload>),
    /// Octets of the body that are still to come, if that is known.
    Body(SendStream<Payload>, Option<u64>),
    Ended,
}

impl std::fmt::Debug for Strand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strand").finish_non_exhaustive()
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

impl Strand {
    /// A client's request: its head has been taken, `recv` is its body.
    pub(super) fn of_client(
        recv: RecvStream,
        send: SendResponse<Payload>,
        asked: Method,
        buffers: &Rc<Buffers>,
        backlog: &Rc<Backlog>,
    ) -> Self {
        let body = Body::new(recv);
        let strand = Self::new(In::Body(body), Out::Answer(send), asked, false, buffers);
        Self { backlog: Some(Rc::clone(backlog)), ..strand }
    }

    /// Where answers are counted, if it is a client's.
    #[must_use]
    pub fn backlog(&self) -> Option<Rc<Backlog>> {
        self.backlog.clone()
    }

    /// A request to an endpoint, of which nothing was said yet.
    pub(super) fn to_endpoint(
        send: SendRequest<Payload>,
        lease: Lease,
        is_secure: bool,
        buffers: &Rc<Buffers>,
    ) -> Self {
        let strand = Self::new(In::Ended, Out::Request(send), Method::Get, is_secure, buffers);
        Self { lease: Some(lease), ..strand }
    }

    fn new(
        inbound: In,
        outbound: Out,
        asked: Method,
        is_secure: bool,
        buffers: &Rc<Buffers>,
    ) -> Self {
        Self {
            inbound: RefCell::new(inbound),
            text: RefCell::default(),
            outbound: RefCell::new(outbound),
            buffers: Rc::clone(buffers),
            backlog: None,
            trailers: RefCell::default(),
            asked: Cell::new(asked),
            will_end: Cell::new(false),
            is_framed: Cell::new(false),
            is_ended: Cell::new(false),
            is_refused: Cell::new(false),
            is_unsayable: Cell::new(false),
            upgrade: RefCell::default(),
            is_secure,
            lease: None,
        }
    }

    /// The peer did nothing of what it was asked, and says so.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    /// What was to be sent cannot be said in HTTP/2, or not to this peer.
    #[must_use]
    pub fn is_unsayable(&self) -> bool {
        self.is_unsayable.get()
    }

    /// Nothing can be had from it any more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(&*self.inbound.borrow(), In::Ended) && self.text.borrow().is_empty()
    }

    /// Its answer did not come in time: if nothing else came on its connection meanwhile, that takes
    /// no more requests.
    pub fn distrust(&self) {
        if let Some(lease) = &self.lease {
            lease.distrust();
        }
    }

    /// The trailers that came behind the body.
    pub fn take_trailers(&self) -> Option<Fields> {
        self.trailers.borrow_mut().take()
    }

    /// Its writer says itself which data is the last, for there may be trailers: this next one, or not.
    pub fn frame(&self, is_last: bool) {
        self.is_framed.set(true);
        self.will_end.set(is_last);
    }

    /// Waits until the peer has given up on it.
    pub async fn gone(&self) {
        poll_fn(|context| {
            let mut outbound = self.outbound.borrow_mut();
            match &mut *outbound {
                Out::Answer(send) => send.poll_reset(context).map(|_| ()),
                Out::Body(send, _) => send.poll_reset(context).map(|_| ()),
                Out::Request(_) | Out::Ended => Poll::Pending,
            }
        })
        .await;
    }

    /// All of it was received, and no trailers are to come.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        match &*self.inbound.borrow() {
            In::Body(body) => body.rest.is_empty() && body.stream.is_end_stream(),
            In::Answer(_) | In::Ended => false,
        }
    }

    /// Something can be had, be it the end.
    pub(in crate::net) async fn readable(&self, watch: &Watch) {
        poll_fn(|context| {
            if watch.is_due(context) {
                return Poll::Ready(());
            }
            self.poll_ahead(context)
        })
        .await;
    }

    /// Fetches what can be had, without handing it over. An end is there to be had too.
    fn poll_ahead(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.text.borrow().is_empty() {
            return Poll::Ready(());
        }
        let mut inbound = self.inbound.borrow_mut();
        let next = match &mut *inbound {
            In::Ended => return Poll::Ready(()),
            In::Answer(answer) => ready!(self.poll_answer(answer, context)),
            In::Body(body) if body.is_over || !body.rest.is_empty() => return Poll::Ready(()),
            In::Body(body) => match ready!(body.poll_data(context)) {
                Some(Ok(())) | None => return Poll::Ready(()),
                Some(Err(error)) => Err(error),
            },
        };
        match next {
            Ok(Some(body)) => *inbound = In::Body(body),
            Ok(None) => {}
            Err(error) => {
                self.lost(&error);
                *inbound = In::Ended;
            }
        }
        Poll::Ready(())
    }

    /// Makes text of an answer's head: `None` for an interim one, which the final one follows.
    fn poll_answer(
        &self,
        answer: &mut ResponseFuture,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Body>, h2::Error>> {
        let (asked, mut text) = (self.asked.get(), self.text.borrow_mut());
        if let Poll::Ready(Some(interim)) = answer.poll_informational(context) {
            http2::response_head(&interim?, false, asked, &mut text);
            return Poll::Ready(Ok(None));
        }
        let response = ready!(Pin::new(answer).poll(context))?;
        let is_all = response.body().is_end_stream();
        match self.upgrade.take() {
            Some(upgrade) if response.status().is_success() => {
                upgrade.granted(&response, &mut text)
            }
            _ => http2::response_head(&response, is_all, asked, &mut text),
        }
        Poll::Ready(Ok(Some(Body::new(response.into_body()))))
    }

    /// RFC 9113 section 8.7: two ways to say that a request was not worked on.
    fn lost(&self, error: &h2::Error) {
        let is_refused = error.reason() == Some(Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote());
        self.is_refused.set(is_refused);
    }

    /// Puts what has come behind what is in the buffer. `Ok(0)` is an orderly end.
    pub(in crate::net) async fn recv(
        &self,
        watch: &Watch,
        mut buffer: Buffer,
    ) -> (io::Result<usize>, Buffer) {
        let result = poll_fn(|context| {
            if watch.is_due(context) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.poll_recv(context, &mut buffer)
        })
        .await;
        (result, buffer)
    }

    fn poll_recv(&self, context: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        loop {
            let head = self.take_text(buffer);
            if head > 0 {
                return Poll::Ready(Ok(head));
            }
            if let In::Body(body) = &mut *self.inbound.borrow_mut()
                && !body.rest.is_empty()
            {
                return Poll::Ready(Ok(body.take(buffer)));
            }
            ready!(self.poll_ahead(context));
            let mut inbound = self.inbound.borrow_mut();
            match &mut *inbound {
                In::Ended => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                In::Body(body) if body.is_over && self.text.borrow().is_empty() => {
                    let trailers = ready!(body.stream.poll_trailers(context));
                    if let Some(map) = trailers.map_err(broken)? {
                        let Some(fields) = http2::trailers(&map) else {
                            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                        };
                        self.trailers.replace(Some(fields).filter(|all| !all.is_empty()));
                    }
                    return Poll::Ready(Ok(0));
                }
                In::Body(_) | In::Answer(_) => {}
            }
        }
    }

    fn take_text(&self, buffer: &mut Buffer) -> usize {
        let mut text = self.text.borrow_mut();
        let len = text.len().min(buffer.space());
        buffer.append(&text[..len]);
        text.drain(..len);
        len
    }
}

impl Body {
    fn new(stream: RecvStream) -> Self {
        Self { stream, rest: Bytes::new(), owed: 0, is_over: false }
    }

    /// Fetches more. What was used up may come again now: not before, so that a slow reader slows its
    /// writer down.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<(), h2::Error>>> {
        let owed = std::mem::take(&mut self.owed);
        // Of a stream that is gone nothing is owed.
        let _ = self.stream.flow_control().release_capacity(owed);
        let next = ready!(self.stream.poll_data(context));
        self.is_over = next.is_none();
        Poll::Ready(next.map(|data| {
            data.map(|data| {
                self.owed += data.len();
                self.rest = data;
            })
        }))
    }

    /// Moves what is there.
    fn take(&mut self, buffer: &mut Buffer) -> usize {
        let len = self.rest.len().min(buffer.space());
        buffer.append(&self.rest[..len]);
        self.rest.advance(len);
        len
    }
}
