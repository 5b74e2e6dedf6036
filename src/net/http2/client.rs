//! An HTTP/2 connection to an endpoint, shared by all requests of its shard that go there.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use h2::client::{Builder, SendRequest};

use super::payload::Payload;
use super::port::{Port, Watched};
use super::strand::Strand;
use crate::base::limits::H2_SEND_BUFFER;
use crate::config::model::Http2;
use crate::net::buffer::Buffers;
use crate::net::inbound::Inbound;
use crate::net::runtime::spawn;
use crate::net::sweep::Watch;

/// A connection that takes requests.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Payload>,
    state: Rc<State>,
    buffers: Rc<Buffers>,
}

/// What is known of it.
struct State {
    is_over: Cell<bool>,
    streams: Cell<usize>,
    is_secure: bool,
    watched: Rc<Watched>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("is_over", &self.state.is_over).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins on a connection. A task of its own drives it until it ends.
    pub async fn start(
        watched: Rc<Watched>,
        is_secure: bool,
        buffers: &Rc<Buffers>,
        limits: &Http2,
    ) -> Option<Self> {
        let port = Port::new(Rc::clone(&watched), Inbound::default(), buffers, None);
        let begun = Builder::new()
            .enable_push(false)
            .initial_window_size(limits.window)
            .initial_connection_window_size(limits.connection_window)
            .max_send_buffer_size(H2_SEND_BUFFER)
            .handshake::<_, Payload>(port)
            .await;
        let (send, connection) = begun.ok()?;
        let state =
            Rc::new(State { is_over: Cell::new(false), streams: Cell::new(0), is_secure, watched });
        let shared = Rc::clone(&state);
        spawn(async move {
            // How it ended its streams are told.
            let _ = connection.await;
            shared.is_over.set(true);
        });
        Some(Self { send, state, buffers: Rc::clone(buffers) })
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

    /// How many it may carry.
    #[must_use]
    pub fn room(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// The socket of it.
    #[must_use]
    pub fn watched(&self) -> &Rc<Watched> {
        &self.state.watched
    }

    /// A stream for one more request, when there is room for it; `None` if there is none by then.
    pub async fn open(&self, watch: &Watch) -> Option<Strand> {
        let mut send = self.send.clone();
        let ready = poll_fn(|context| {
            if watch.is_due(context) {
                return Poll::Ready(None);
            }
            send.poll_ready(context).map(Result::ok)
        });
        ready.await?;
        Some(Strand::to_endpoint(send, self.lease(), self.state.is_secure, &self.buffers))
    }

    fn lease(&self) -> Lease {
        self.state.streams.set(self.state.streams.get() + 1);
        Lease(Rc::clone(&self.state))
    }
}

/// A request that a connection carries, until it is dropped.
pub struct Lease(Rc<State>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}
