//! A request to an endpoint of HTTP/2 on a stream of a shared connection, and its answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Response;

use super::lease::Lease;
use super::payload::Payload;
use super::receive::{H2Receiver, is_refusal};
use super::send::H2Sender;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, RequestHead, ResponseHead};
use crate::net::backlog::Backlog;
use crate::net::buffer::{Buffer, Buffers};
use crate::net::deadline::{Class, NO_SOCKET};
use crate::net::sweep::{SocketWatch, Sweep};
use crate::protocol::pace::{self, Pace, period};
use crate::wire::http2::{self, Upgrade};

/// One exchange on a stream.
pub struct Line {
    send: SendRequest<Payload>,
    /// It counts at its connection as long as it lives.
    lease: Lease,
    is_secure: bool,
    buffers: Rc<Buffers>,
    sweep: Rc<Sweep>,
    /// Deadlines of reads.
    watch: Rc<SocketWatch>,
    answer: AnswerState,
    /// What it is to become, by an extended CONNECT.
    upgrade: Option<Upgrade>,
    backlog: Option<Rc<Backlog>>,
    /// The peer says that nothing of it was done (RFC 9113 section 8.7).
    is_refused: bool,
}

/// How far the answer has come.
enum AnswerState {
    /// Nothing was asked.
    None,
    Awaited(ResponseFuture),
    /// The final head is here and was not taken.
    Come(Box<Response<RecvStream>>),
    /// It was taken; the body was not begun.
    Taken(RecvStream),
    Body(Box<H2Receiver>),
    Lost,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

/// The half of a line that a request goes out on. Nothing, if the head has ended it.
#[derive(Debug)]
pub struct RequestWriter {
    sender: Option<Box<H2Sender>>,
    watch: Rc<SocketWatch>,
    /// Milliseconds in which the endpoint must take some of what is written.
    period: u32,
}

impl Line {
    /// A stream on which nothing was said.
    #[must_use]
    pub(super) fn new(
        send: SendRequest<Payload>,
        lease: Lease,
        is_secure: bool,
        buffers: &Rc<Buffers>,
        sweep: &Rc<Sweep>,
    ) -> Self {
        Self {
            send,
            lease,
            is_secure,
            buffers: Rc::clone(buffers),
            sweep: Rc::clone(sweep),
            watch: Rc::new(sweep.watch(NO_SOCKET, Class::Upstream)),
            answer: AnswerState::None,
            upgrade: None,
            backlog: None,
            is_refused: false,
        }
    }

    /// Sends the head; the half that the body goes out on, of which the endpoint may take nothing for so long.
    ///
    /// # Errors
    /// `NotInHttp2` for what cannot be said, or not to this peer; `UpstreamGone`.
    pub fn begin(
        &mut self,
        head: &RequestHead,
        authority: &[u8],
        upgrades: bool,
        stall: Duration,
    ) -> Result<RequestWriter> {
        let said = http2::request(head, authority, self.is_secure, upgrades);
        let said = said.ok_or(Kind::NotInHttp2)?;
        if said.upgrade.is_some() && !self.send.is_extended_connect_protocol_enabled() {
            return Err(Kind::NotInHttp2);
        }
        let has_body = said.upgrade.is_some() || !head.framing.is_empty();
        let sent = self.send.send_request(said.head, !has_body);
        let (answer, body) = sent.map_err(|error| {
            self.is_refused = is_refusal(&error);
            Kind::UpstreamGone
        })?;
        self.answer = AnswerState::Awaited(answer);
        self.upgrade = said.upgrade;
        let watch = || self.sweep.watch(NO_SOCKET, Class::Upstream);
        let sender = has_body.then(|| Box::new(H2Sender::body(body, &self.buffers, watch())));
        Ok(RequestWriter { sender, watch: Rc::clone(&self.watch), period: period(stall) })
    }

    /// What is read is for a client that may hold only so much.
    pub fn read_for(&mut self, backlog: Option<Rc<Backlog>>) {
        self.backlog = backlog;
    }

    /// The head of an answer must have come by then.
    pub fn answer_by(&self, deadline: Moment) {
        self.watch.read_by(deadline);
    }

    /// The peer did nothing of what it was asked, and says so.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Its answer did not come in time: if nothing else came on its connection meanwhile, that takes
    /// no more requests.
    pub fn distrust(&self) {
        self.lease.distrust();
    }

    /// Waits until there is something of an answer, or the stream has ended.
    pub async fn readable(&mut self) {
        poll_fn(|context| {
            if self.watch.poll_due(context) {
                return Poll::Ready(());
            }
            self.poll_answer(context)
        })
        .await;
    }

    /// No answer can come any more.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(self.answer, AnswerState::Lost | AnswerState::None)
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let AnswerState::Awaited(answer) = &mut self.answer else { return Poll::Ready(()) };
        match ready!(Pin::new(answer).poll(context)) {
            Ok(response) => self.answer = AnswerState::Come(Box::new(response)),
            Err(error) => {
                self.is_refused = is_refusal(&error);
                self.answer = AnswerState::Lost;
            }
        }
        Poll::Ready(())
    }

    /// Takes one head, interim or final.
    ///
    /// # Errors
    /// `UpstreamGone` if the stream ended first, `FirstByteTimeout`, or what is wrong with the head.
    pub async fn head(&mut self, asked: Method, head: &mut ResponseHead) -> Result<()> {
        let interim = poll_fn(|context| {
            if let AnswerState::Awaited(answer) = &mut self.answer
                && let Poll::Ready(Some(interim)) = answer.poll_informational(context)
            {
                return Poll::Ready(interim.map(Some).map_err(|error| {
                    self.is_refused = is_refusal(&error);
                    Kind::UpstreamGone
                }));
            }
            if self.watch.poll_due(context) {
                return Poll::Ready(Err(Kind::FirstByteTimeout));
            }
            self.poll_answer(context).map(|()| Ok(None))
        })
        .await?;
        if let Some(interim) = interim {
            head.clear();
            return http2::take_response(&interim, false, asked, head);
        }
        match std::mem::replace(&mut self.answer, AnswerState::Lost) {
            AnswerState::Come(response) => self.take(*response, asked, head),
            _ => Err(Kind::UpstreamGone),
        }
    }

    fn take(
        &mut self,
        response: Response<RecvStream>,
        asked: Method,
        head: &mut ResponseHead,
    ) -> Result<()> {
        head.clear();
        let is_all = response.body().is_end_stream();
        match self.upgrade.take() {
            Some(upgrade) if response.status().is_success() => {
                upgrade.take_granted(&response, head)?;
            }
            _ => http2::take_response(&response, is_all, asked, head)?,
        }
        self.answer = AnswerState::Taken(response.into_body());
        Ok(())
    }

    /// The final head has come: what follows is a body of this framing.
    pub fn begin_body(&mut self, framing: Framing, pace: Pace) {
        self.answer = match std::mem::replace(&mut self.answer, AnswerState::Lost) {
            AnswerState::Taken(stream) => {
                let watch = Rc::clone(&self.watch);
                let mut body = H2Receiver::new(stream, watch, framing, &pace::RESPONSE, pace);
                body.read_for(self.backlog.clone());
                AnswerState::Body(Box::new(body))
            }
            other => other,
        };
    }

    /// The body, once it has begun.
    pub fn body(&mut self) -> Option<&mut H2Receiver> {
        match &mut self.answer {
            AnswerState::Body(body) => Some(body),
            _ => None,
        }
    }

    /// The data of the body that can be had without waiting.
    ///
    /// # Errors
    /// As `next`.
    pub async fn ready(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        match self.body() {
            Some(body) => body.ready(buffers).await,
            None => Ok(None),
        }
    }

    /// The next data of the body; `None` when it is done.
    ///
    /// # Errors
    /// A body that is cut short or too slow.
    pub async fn next(&mut self, buffers: &Buffers) -> Result<Option<Buffer>> {
        match self.body() {
            Some(body) => body.next(buffers).await,
            None => Ok(None),
        }
    }
}

impl RequestWriter {
    /// Writes data; `is_last` ends the stream with it.
    ///
    /// # Errors
    /// The endpoint is gone or does not read.
    pub async fn data(&self, buffers: &Buffers, data: Buffer, is_last: bool) -> Result<()> {
        let Some(sender) = &self.sender else { return Err(Kind::Internal) };
        let result = sender.data(data.data(), is_last, false, self.period).await;
        buffers.give(data);
        result.map_err(|_| {
            if sender.is_late() { Kind::UpstreamWriteTimeout } else { Kind::UpstreamGone }
        })
    }

    /// Ends a body that is complete.
    ///
    /// # Errors
    /// The endpoint is gone.
    pub fn end(&self, trailers: Option<&Fields>) -> Result<()> {
        let Some(sender) = &self.sender else { return Ok(()) };
        sender.end(trailers).map_err(|_| Kind::UpstreamGone)
    }

    /// All of the request is written: its answer must have come by then.
    pub fn answer_by(&self, deadline: Moment) {
        self.watch.read_by(deadline);
    }

    /// The sending half, for a tunnel.
    #[must_use]
    pub fn into_sender(self) -> Option<Box<H2Sender>> {
        self.sender
    }
}
