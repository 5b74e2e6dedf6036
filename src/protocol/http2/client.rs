//! An HTTP/2 connection to an endpoint, shared by all requests of its shard that go there.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use h2::Ping;
use h2::client::{Builder, Connection, SendRequest};

use super::io_adapter::{ConnectionState, IoAdapter};
use super::lease::{Lease, LeaseState};
use super::line::Line;
use super::payload::Payload;
use crate::base::clock::monotonic;
use crate::base::limits::{
    H2_PING_EVERY, H2_SEND_BUFFER, H2_UPSTREAM_FRAMES, H2_UPSTREAM_RESETS, RESPONSE_HEAD_MAX,
};
use crate::config::model::Http2;
use crate::net::buffer::Buffers;
use crate::net::guard::Caught;
use crate::net::inbound::Inbound;
use crate::net::runtime::spawn;
use crate::net::sweep::{SocketWatch, Sweep};

/// A connection that takes requests.
#[derive(Clone)]
pub struct H2Client {
    send: SendRequest<Payload>,
    state: Rc<LeaseState>,
    buffers: Rc<Buffers>,
}

impl std::fmt::Debug for H2Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("is_over", &self.state.is_over).finish_non_exhaustive()
    }
}

impl H2Client {
    /// Begins on a connection. A task of its own drives it until it ends.
    pub async fn start(
        watched: Rc<ConnectionState>,
        is_secure: bool,
        (settled, ping): (SocketWatch, SocketWatch),
        buffers: &Rc<Buffers>,
        limits: &Http2,
    ) -> Option<Self> {
        let adapter = IoAdapter::new(Rc::clone(&watched), Inbound::default(), buffers, None);
        let all = Http2::window_of_all(limits.streams, limits.window).max(limits.connection_window);
        let begun = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(limits.streams as usize)
            .initial_window_size(limits.window)
            // Clients that do not read must not use up the window of all others.
            .initial_connection_window_size(all)
            .max_header_list_size(u32::try_from(RESPONSE_HEAD_MAX).unwrap_or(u32::MAX))
            // What clients give up, and small frames that they do not read, are no fault of the
            // endpoint's: neither may end a connection that others use.
            .data_frame_budget(H2_UPSTREAM_FRAMES)
            .max_concurrent_reset_streams(H2_UPSTREAM_RESETS)
            .max_local_error_reset_streams(None)
            .max_send_buffer_size(H2_SEND_BUFFER)
            .handshake::<_, Payload>(adapter)
            .await;
        let (send, connection) = begun.ok()?;
        let (is_over, streams, most) = (Cell::default(), Cell::default(), limits.streams as usize);
        let state = Rc::new(LeaseState { is_over, streams, most, is_secure, watched });
        let shared = Rc::clone(&state);
        spawn(async move {
            let over = OverOnDrop(Rc::clone(&shared));
            // How it ended its streams are told.
            let _ = Caught(drive(connection, &shared, &ping)).await;
            drop(over);
        });
        let client = Self { send, state, buffers: Rc::clone(buffers) };
        client.settled(&settled).await?;
        Some(client)
    }

    /// Waits for the endpoint's settings: how many streams it takes, and of what kind.
    async fn settled(&self, watch: &SocketWatch) -> Option<()> {
        let watched = &self.state.watched;
        poll_fn(|context| {
            if watched.reads.get() > 0 {
                return Poll::Ready(Some(()));
            }
            if self.is_over() || watch.poll_due(context) {
                return Poll::Ready(None);
            }
            watched.wait(context.waker());
            Poll::Pending
        })
        .await
    }

    /// It takes no more requests.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.is_over.get()
    }

    /// Requests that it carries.
    #[must_use]
    pub fn load(&self) -> usize {
        self.state.streams.get()
    }

    /// How many it may carry: what the endpoint allows, and no more than its window was made for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.send.current_max_send_streams().min(self.state.most)
    }

    /// The socket of it.
    #[must_use]
    pub fn watched(&self) -> &Rc<ConnectionState> {
        &self.state.watched
    }

    /// A stream for one more request, when there is room for it; `None` if there is none by then.
    pub async fn open(&self, watch: &SocketWatch, sweep: &Rc<Sweep>) -> Option<Line> {
        let mut send = self.send.clone();
        let ready = poll_fn(|context| {
            if watch.poll_due(context) || self.is_over() {
                return Poll::Ready(None);
            }
            if ready!(send.poll_ready(context)).is_err() {
                // It was told to go away, or has used up its streams.
                self.state.is_over.set(true);
                return Poll::Ready(None);
            }
            if self.load() >= self.room() {
                // Until another request ends, or the endpoint allows more.
                self.state.watched.wait(context.waker());
                return Poll::Pending;
            }
            Poll::Ready(Some(()))
        });
        ready.await?;
        Some(Line::new(send, self.lease(), self.state.is_secure, &self.buffers, sweep))
    }

    fn lease(&self) -> Lease {
        self.state.streams.set(self.state.streams.get() + 1);
        Lease { state: Rc::clone(&self.state), reads: self.state.watched.reads.get() }
    }
}

/// Says that a connection is over, whatever ended it.
struct OverOnDrop(Rc<LeaseState>);

impl Drop for OverOnDrop {
    fn drop(&mut self) {
        self.0.is_over.set(true);
        self.0.watched.wake();
    }
}

/// Does what the connection wants until it ends. While it carries requests and nothing comes, the
/// endpoint is pinged; an endpoint that does not answer that is gone (RFC 9113 section 6.7).
async fn drive(
    mut connection: Connection<IoAdapter, Payload>,
    state: &LeaseState,
    ping: &SocketWatch,
) {
    let mut pings = connection.ping_pong();
    let mut reads = 0;
    // A ping is on its way.
    let mut is_asked = false;
    ping.again(monotonic().after(H2_PING_EVERY));
    poll_fn(|context| {
        if ping.poll_due(context) {
            let is_silent = state.watched.reads.get() == reads && state.streams.get() > 0;
            if is_silent && is_asked {
                state.watched.transport.shutdown();
                return Poll::Ready(());
            }
            reads = state.watched.reads.get();
            if is_silent && let Some(pings) = &mut pings {
                is_asked = pings.send_ping(Ping::opaque()).is_ok();
            }
            ping.again(monotonic().after(H2_PING_EVERY));
            let _ = ping.poll_due(context);
        }
        if let Some(pings) = &mut pings
            && pings.poll_pong(context).is_ready()
        {
            is_asked = false;
        }
        Pin::new(&mut connection).poll(context).map(|_| ())
    })
    .await;
}
