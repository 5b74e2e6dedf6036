//! HTTP/2 to an endpoint: few connections, each shared by all requests of the shard, and dialled by
//! one of them while the others wait.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::base::clock::{Moment, monotonic};
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::base::limits::H2_CONNECTIONS_MAX;
use crate::config::model;
use crate::net::deadline::{Class, NO_SOCKET};
use crate::net::transport::Transport;
use crate::net::wakers::Wakers;
use crate::protocol::http2::client::H2Client;
use crate::protocol::http2::io_adapter::ConnectionState;
use crate::protocol::http2::line::Line;
use crate::protocol::pace::period;

use super::needs::Needs;

/// An endpoint's connections on one shard.
#[derive(Debug, Default)]
pub struct H2Pool {
    all: RefCell<Vec<SharedConnection>>,
    is_dialling: Cell<bool>,
    waiting: Wakers,
    /// The endpoint has chosen HTTP/1.1 where it could choose.
    is_http1: Cell<bool>,
    /// Counts how often its addresses have changed.
    generation: Cell<u32>,
    /// Counts dials, and tells how the last one ended.
    dials: Cell<(u64, Ended)>,
}

/// How a dial ended.
#[derive(Clone, Copy, Debug, Default)]
enum Ended {
    #[default]
    Well,
    Failed(Kind),
    /// Another address of the name has taken the connection.
    Moved(EndpointId),
}

#[derive(Clone, Debug)]
struct SharedConnection {
    client: H2Client,
    born: Moment,
    used: Rc<Cell<Moment>>,
}

/// The right to dial, while others wait.
pub struct Dialling<'a>(&'a H2Pool);

impl Dialling<'_> {
    /// It came to nothing: the tasks that waited for it need not try the same.
    pub fn failed(&self, kind: Kind) {
        self.0.dials.set((self.0.dials.get().0, Ended::Failed(kind)));
    }

    /// The connection is at this endpoint now, whichever was dialled: the others find it there.
    pub fn moved(&self, from: EndpointId, to: EndpointId) {
        if from != to {
            self.0.dials.set((self.0.dials.get().0, Ended::Moved(to)));
        }
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.0.is_dialling.set(false);
        let (count, ended) = self.0.dials.get();
        self.0.dials.set((count + 1, ended));
        self.0.waiting.wake();
    }
}

/// What there is for a request.
pub enum Offer<'a> {
    /// A stream of a connection that was there.
    Stream(Box<Line>),
    /// Nothing: a connection is to be dialled.
    Dial(Dialling<'a>),
    /// The endpoint speaks HTTP/1.1.
    Http1,
    /// A connection that was dialled meanwhile went to this endpoint, another address of the name.
    At(EndpointId),
}

impl H2Pool {
    /// A stream on one of the connections, or the right to dial another.
    ///
    /// # Errors
    /// `NoStream` if there is no room on any of them in time: that is not held against the endpoint. What a dial of
    /// another task ended with.
    pub async fn find(&self, needs: &Needs<'_>, bounds: &model::Pool) -> Result<Offer<'_>> {
        let mut may_use_old = !needs.fresh;
        loop {
            if self.is_http1.get() {
                return Ok(Offer::Http1);
            }
            let free = if may_use_old { self.free(needs.now, bounds) } else { None };
            if let Some(one) = free {
                match open(&one, needs).await {
                    Ok(line) => return Ok(Offer::Stream(line)),
                    Err(Kind::NoStream) => return Err(Kind::NoStream),
                    // It takes no more requests, which it is known by now.
                    Err(_) => continue,
                }
            }
            if !self.is_dialling.get() {
                let count = self.all.borrow().len();
                if count >= H2_CONNECTIONS_MAX
                    && let Some(one) = self.least()
                {
                    match open(&one, needs).await {
                        Err(Kind::UpstreamGone) => continue,
                        opened => return opened.map(Offer::Stream),
                    }
                }
                self.is_dialling.set(true);
                self.dials.set((self.dials.get().0, Ended::Well));
                return Ok(Offer::Dial(Dialling(self)));
            }
            let before = self.dials.get().0;
            self.dialled(needs).await?;
            match self.dials.get() {
                (count, Ended::Failed(kind)) if count == before + 1 => return Err(kind),
                (count, Ended::Moved(to)) if count == before + 1 => return Ok(Offer::At(to)),
                _ => {}
            }
            // What was dialled meanwhile is as fresh as can be.
            may_use_old = true;
        }
    }

    /// Waits until no task dials, as long as it takes to dial a few addresses.
    async fn dialled(&self, needs: &Needs<'_>) -> Result<()> {
        let watch = needs.sweep.watch(NO_SOCKET, Class::Upstream);
        watch.read_by(monotonic().after(needs.timeouts.connect.saturating_mul(4)));
        poll_fn(|context| {
            if !self.is_dialling.get() {
                return Poll::Ready(Ok(()));
            }
            if watch.poll_due(context) {
                // The task that dials is told what is wrong with the endpoint.
                return Poll::Ready(Err(Kind::NoStream));
            }
            self.waiting.add(context.waker());
            Poll::Pending
        })
        .await
    }

    /// The least busy connection with room.
    fn free(&self, now: Moment, bounds: &model::Pool) -> Option<SharedConnection> {
        let mut all = self.all.borrow_mut();
        all.retain(|one| !one.client.is_over() && now.since(one.born) < bounds.age);
        let has_room = |one: &&SharedConnection| one.client.load() < one.client.room();
        all.iter().filter(has_room).min_by_key(|one| one.client.load()).cloned()
    }

    fn least(&self) -> Option<SharedConnection> {
        let all = self.all.borrow();
        let lives = all.iter().filter(|one| !one.client.is_over());
        lives.min_by_key(|one| one.client.load()).cloned()
    }

    /// The endpoint has chosen HTTP/1.1.
    pub fn speaks_http1(&self) {
        self.is_http1.set(true);
    }

    /// Begins on a new connection, and opens a stream on it.
    ///
    /// # Errors
    /// `UpstreamHttp2` if it is no HTTP/2, or has ended at once: nothing of a request was sent.
    pub async fn begin(
        &self,
        transport: Transport,
        needs: &Needs<'_>,
        limits: &model::Http2,
    ) -> Result<Box<Line>> {
        let is_secure = transport.is_secure();
        let period = period(needs.timeouts.body_idle);
        let watched = Rc::new(ConnectionState::new(transport, period));
        let generation = self.generation.get();
        let settled = needs.sweep.watch(NO_SOCKET, Class::Upstream);
        settled.read_by(monotonic().after(needs.timeouts.connect));
        let ping = needs.sweep.watch(NO_SOCKET, Class::Upstream);
        let started =
            H2Client::start(watched, is_secure, (settled, ping), needs.means.buffers, limits).await;
        let client = started.ok_or(Kind::UpstreamHttp2)?;
        let one = SharedConnection { client, born: needs.now, used: Rc::new(Cell::new(needs.now)) };
        let line = open(&one, needs).await.map_err(|kind| match kind {
            Kind::UpstreamGone => Kind::UpstreamHttp2,
            kind => kind,
        })?;
        // Addresses that are not its own any more are not dialled again.
        if self.generation.get() == generation {
            self.all.borrow_mut().push(one);
        }
        Ok(line)
    }

    /// Lets go of connections that carry no request.
    pub fn prune(&self, now: Moment, bounds: &model::Pool) {
        self.all.borrow_mut().retain(|one| {
            let is_used = one.client.load() > 0 || now.since(one.used.get()) < bounds.idle;
            is_used && !one.client.is_over()
        });
    }

    /// Lets go of all of them: each ends when its last request has.
    pub fn clear(&self) {
        self.all.borrow_mut().clear();
        self.generation.set(self.generation.get().wrapping_add(1));
        self.is_http1.set(false);
    }
}

/// A stream on a connection, as soon as it takes one.
///
/// # Errors
/// `NoStream` if that takes too long; `UpstreamGone` if the connection takes no more requests.
async fn open(one: &SharedConnection, needs: &Needs<'_>) -> Result<Box<Line>> {
    one.used.set(needs.now);
    let watch = needs.sweep.watch(NO_SOCKET, Class::Upstream);
    watch.read_by(monotonic().after(needs.timeouts.connect));
    let line = one.client.open(&watch, needs.sweep).await;
    let is_late = || watch.expired().is_some();
    let kind = || if is_late() { Kind::NoStream } else { Kind::UpstreamGone };
    line.map(Box::new).ok_or_else(kind)
}
