//! What goes out on a strand: a head of HTTP/1.1, then the body as it is.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use h2::Reason;

use super::{In, Out, PIECE, Strand, broken};
use crate::base::limits::{BACKLOG_MAX, H2_FRAME_COST};
use crate::message::fields::Fields;
use crate::message::head::Method;
use crate::net::deadline::Due;
use crate::net::http2::payload::Payload;
use crate::net::sweep::Watch;
use crate::wire::http2;

impl Strand {
    /// Sends these octets: first a head, then the body.
    /// Those that are counted wait for nothing but the peer's windows.
    pub(in crate::net) async fn send(
        &self,
        watch: &Watch,
        data: &[u8],
        is_counted: bool,
    ) -> io::Result<()> {
        let is_body = matches!(&*self.outbound.borrow(), Out::Body(..));
        let head =
            if is_body { 0 } else { self.send_head_in_turn(watch, data, is_counted).await? };
        let mut rest = &data[head..];
        let will_end = !rest.is_empty() && self.will_end.take();
        while !rest.is_empty() {
            let len = rest.len().min(PIECE);
            let room = poll_fn(|context| {
                // A client that was too slow in asking still gets an answer.
                if watch.is_due(context) && watch.expired() == Some(Due::Write) {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                let room = ready!(self.poll_room(context, len));
                if room.is_ok() && !is_counted && self.is_full(len, context) {
                    return Poll::Pending;
                }
                Poll::Ready(room)
            });
            let len = room.await?.min(len);
            watch.wrote(len);
            self.send_piece(&rest[..len], will_end && len == rest.len())?;
            rest = &rest[len..];
        }
        Ok(())
    }

    fn send_piece(&self, data: &[u8], is_last: bool) -> io::Result<()> {
        let mut outbound = self.outbound.borrow_mut();
        let Out::Body(send, left) = &mut *outbound else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let is_all = !self.is_framed.get() && *left == Some(data.len() as u64);
        let is_last = is_last || is_all;
        *left = left.map(|left| left.saturating_sub(data.len() as u64));
        // The stream is kept until it is gone: dropping it early would look like giving up.
        self.is_ended.set(is_last);
        let payload = Payload::copy(data, &self.buffers, self.backlog.as_ref());
        send.send_data(payload, is_last).map_err(broken)
    }

    /// The same when the client has taken enough of what it is owed: heads wait for no window.
    async fn send_head_in_turn(
        &self,
        watch: &Watch,
        text: &[u8],
        is_counted: bool,
    ) -> io::Result<usize> {
        if !is_counted && self.backlog.is_some() {
            poll_fn(|context| {
                if watch.is_due(context) && watch.expired() == Some(Due::Write) {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                match self.is_full(text.len(), context) {
                    true => Poll::Pending,
                    false => Poll::Ready(Ok::<_, io::Error>(())),
                }
            })
            .await?;
        }
        self.send_head(text)
    }

    /// Sends the head that this text begins with; returns its length.
    fn send_head(&self, text: &[u8]) -> io::Result<usize> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidInput);
        let mut outbound = self.outbound.borrow_mut();
        match &mut *outbound {
            Out::Answer(send) => {
                let said = http2::response(text).ok_or_else(malformed)?;
                let is_switched = text.get(9..12) == Some(b"101");
                if self.asked.get() == Method::Connect
                    && said.head.status().is_success()
                    && !is_switched
                {
                    // RFC 8441 section 4: any 2xx would open a tunnel that is none.
                    let mut refused = http::Response::new(());
                    *refused.status_mut() = http::StatusCode::NOT_IMPLEMENTED;
                    send.send_response(refused, true).map_err(broken)?;
                    *outbound = Out::Ended;
                    return Err(io::ErrorKind::Unsupported.into());
                }
                let status = said.head.status().as_u16();
                if said.head.status().is_informational() {
                    send.send_informational(said.head).map_err(broken)?;
                    return Ok(said.len);
                }
                let is_bodiless = self.asked.get() == Method::Head
                    || matches!(status, 204 | 304)
                    || said.length == Some(0);
                if let Some(backlog) = &self.backlog {
                    backlog.hold_head(send.stream_id().as_u32(), said.len);
                }
                let body = send.send_response(said.head, is_bodiless).map_err(broken)?;
                *outbound = if is_bodiless { Out::Ended } else { Out::Body(body, said.length) };
                Ok(said.len)
            }
            Out::Request(send) => {
                let Some(mut said) = http2::request(text, self.is_secure) else {
                    self.is_unsayable.set(true);
                    return Err(malformed());
                };
                self.asked.set(Method::of(said.head.method().as_str().as_bytes()));
                let upgrade = http2::upgrade(&text[..said.len], &mut said.head);
                if upgrade.is_some() && !send.is_extended_connect_protocol_enabled() {
                    self.is_unsayable.set(true);
                    return Err(io::ErrorKind::Unsupported.into());
                }
                let has_body = text.len() > said.len
                    || upgrade.is_some()
                    || said.length.is_some_and(|length| length > 0)
                    || has_chunks(&text[..said.len]);
                let (answer, body) = send.send_request(said.head, !has_body).map_err(broken)?;
                *outbound = if has_body { Out::Body(body, said.length) } else { Out::Ended };
                self.upgrade.replace(upgrade);
                self.inbound.replace(In::Answer(answer));
                Ok(said.len)
            }
            Out::Body(..) | Out::Ended => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Too much waits already for the client to take it.
    fn is_full(&self, len: usize, context: &Context<'_>) -> bool {
        let backlog = self.backlog.as_ref();
        backlog.is_some_and(|backlog| backlog.is_full(len + H2_FRAME_COST, BACKLOG_MAX, context))
    }

    /// Waits until the peer's windows are open; how far, up to a piece. A fault shows again in what follows.
    pub(in crate::net) async fn room(&self, watch: &Watch) -> usize {
        poll_fn(|context| {
            if !matches!(&*self.outbound.borrow(), Out::Body(..)) || watch.is_due(context) {
                return Poll::Ready(PIECE);
            }
            self.poll_room(context, PIECE).map(|room| room.map_or(PIECE, |room| room.min(PIECE)))
        })
        .await
    }

    fn poll_room(&self, context: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        let mut outbound = self.outbound.borrow_mut();
        let Out::Body(send, _) = &mut *outbound else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
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
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Nothing more comes, but for these.
    pub fn finish(&self, trailers: Option<&Fields>) -> io::Result<()> {
        let mut outbound = self.outbound.borrow_mut();
        if let Out::Body(send, _) = &mut *outbound
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

    /// Nothing was done of what a client asked for, and nothing will be (RFC 9113 section 8.7).
    pub(in crate::net) fn refuse(&self) {
        if let Out::Answer(send) = &mut *self.outbound.borrow_mut() {
            send.send_reset(Reason::REFUSED_STREAM);
        }
    }

    /// Both directions end, and not orderly.
    pub fn reset(&self) {
        match &mut *self.outbound.borrow_mut() {
            Out::Answer(send) => send.send_reset(Reason::INTERNAL_ERROR),
            Out::Body(send, _) if !self.is_ended.get() => send.send_reset(Reason::INTERNAL_ERROR),
            Out::Body(..) | Out::Request(_) | Out::Ended => {}
        }
    }
}

fn has_chunks(head: &[u8]) -> bool {
    memchr::memmem::find(head, b"\r\nTransfer-Encoding: chunked\r\n").is_some()
}
