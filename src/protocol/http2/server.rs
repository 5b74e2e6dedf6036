//! A client's HTTP/2 connection: what h2 wants to do is done whenever it is asked for the next
//! request, so one task must always ask.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::RecvStream;
use h2::server::{Builder, Connection, Handshake};

use super::io_adapter::{ConnectionState, FrameGuard, IoAdapter};
use super::payload::Payload;
use super::reply::Reply;
use super::send::H2Sender;
use crate::base::limits::{
    H2_DOWNSTREAM_FRAMES, H2_HEADS_MAX, H2_LOCAL_RESETS_MAX, H2_RESETS_BURST, H2_SEND_BUFFER,
};
use crate::config::model::Http2;
use crate::message::head::Method;
use crate::net::buffer::Buffers;
use crate::net::deadline::{Class, NO_SOCKET};
use crate::net::inbound::Inbound;
use crate::net::sweep::Sweep;

/// A connection after its preface.
pub struct H2Server {
    connection: Connection<IoAdapter, Payload>,
    watched: Rc<ConnectionState>,
    buffers: Rc<Buffers>,
    sweep: Rc<Sweep>,
}

/// The head of a request counts until its exchange is over.
pub struct HeadHold {
    watched: Rc<ConnectionState>,
    len: usize,
}

impl Drop for HeadHold {
    fn drop(&mut self) {
        self.watched.heads.set(self.watched.heads.get() - self.len);
    }
}

/// A request, and the stream to answer it on.
pub struct Asked {
    pub request: http::Request<()>,
    /// What comes behind its head, if something does.
    pub body: Option<RecvStream>,
    pub reply: Reply,
    pub hold: HeadHold,
}

impl H2Server {
    /// Begins. `None` if it is not HTTP/2 after all.
    pub async fn start(
        watched: &Rc<ConnectionState>,
        inbound: Inbound,
        buffers: &Rc<Buffers>,
        limits: &Http2,
        head: usize,
        sweep: &Rc<Sweep>,
    ) -> Option<Self> {
        let guard = Some(FrameGuard::new(limits.streams));
        let adapter = IoAdapter::new(Rc::clone(watched), inbound, buffers, guard);
        let handshake: Handshake<IoAdapter, Payload> = Builder::new()
            .max_concurrent_streams(limits.streams)
            .initial_window_size(limits.window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .data_frame_budget(H2_DOWNSTREAM_FRAMES)
            .max_send_buffer_size(H2_SEND_BUFFER)
            .max_local_error_reset_streams(Some(H2_LOCAL_RESETS_MAX))
            .max_concurrent_reset_streams(limits.streams as usize)
            .max_pending_accept_reset_streams(H2_RESETS_BURST as usize)
            .enable_connect_protocol()
            .handshake(adapter);
        let connection = handshake.await.ok()?;
        let (watched, buffers) = (Rc::clone(watched), Rc::clone(buffers));
        Some(Self { connection, watched, buffers, sweep: Rc::clone(sweep) })
    }

    /// The next request; `None` when the connection has ended, whatever the reason. `look` is called
    /// whenever something may have happened.
    pub async fn next(&mut self, mut look: impl FnMut(&mut Self, &Context<'_>)) -> Option<Asked> {
        poll_fn(|context| {
            look(self, context);
            let next = self.poll_next(context);
            if next.is_pending() {
                // What has come may have changed what is waited for.
                look(self, context);
            }
            next
        })
        .await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Asked>> {
        loop {
            let asked = ready!(self.poll_one(context));
            // A head that would be too much for what the connection holds is not kept: nothing was done of
            // what it asks for, and the client may ask again (RFC 9113 section 8.7).
            match asked {
                Some(asked) if self.watched.heads.get() > H2_HEADS_MAX => {
                    asked.reply.sender().refuse()
                }
                asked => return Poll::Ready(asked),
            }
        }
    }

    fn poll_one(&mut self, context: &mut Context<'_>) -> Poll<Option<Asked>> {
        let polled = self.connection.poll_accept(context);
        if let Some(abuse) = self.watched.abuse.get() {
            self.connection.abrupt_shutdown(abuse.reason());
            // What is left to say goes out; nothing else is read.
            return self.connection.poll_closed(context).map(|_| None);
        }
        let Some(Ok((request, send))) = ready!(polled) else { return Poll::Ready(None) };
        let (parts, body) = request.into_parts();
        let body = (!body.is_end_stream()).then_some(body);
        let request = http::Request::from_parts(parts, ());
        let asked = Method::of(request.method().as_str().as_bytes());
        let watch = self.sweep.watch(NO_SOCKET, Class::Downstream);
        let sender = H2Sender::answer(send, &self.watched.backlog, &self.buffers, watch);
        let reply = Reply::new(sender, asked);
        let len = head_len(&request);
        self.watched.heads.set(self.watched.heads.get() + len);
        let hold = HeadHold { watched: Rc::clone(&self.watched), len };
        Poll::Ready(Some(Asked { request, body, reply, hold }))
    }

    /// Streams are under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.connection.has_streams()
    }

    /// No more requests; those under way are finished (RFC 9113 section 6.8).
    pub fn drain(&mut self) {
        self.connection.graceful_shutdown();
    }
}

/// What a head holds of our memory, about.
fn head_len(request: &http::Request<()>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    target + fields.map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>()
}
