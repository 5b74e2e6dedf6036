//! A client's HTTP/1 connection: one request after the other, in order. Between requests it holds
//! no buffer and no workspace.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use super::entry::ClientConnection;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::limits::FRESH_LASTS;
use crate::exchange::state::{Exchange, Home, Next, Parts, Traffic};
use crate::exchange::upload::ClientBody;
use crate::exchange::{abandon, serve as serve_exchange};
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::protocol::http1::reply::Reply as Http1Reply;
use crate::protocol::reply::To;
use crate::protocol::request::RequestBody;
use crate::shard::{Shard, Workspace};
use crate::wire::frames::PREFACE;
use crate::wire::http1::scan::{HeadExtent, Scan};
use crate::wire::http1::{glimpse, parse};

/// Serves a connection until it ends; hands it back if it turns out to be HTTP/2, where that may be.
pub async fn serve(
    shard: &Rc<Shard>,
    client: Box<ClientConnection>,
    may_be_http2: bool,
) -> Option<Box<ClientConnection>> {
    let (served, is_http2) = (0, false);
    let mut connection = Http1Connection { shard, client, served, may_be_http2, is_http2 };
    loop {
        match connection.next_exchange().await {
            Some(Next::Keep) => connection.served += 1,
            Some(Next::Linger) => {
                Box::pin(connection.client.linger(shard)).await;
                return None;
            }
            Some(Next::Close) | None => return connection.is_http2.then_some(connection.client),
        }
    }
}

/// Serves a request as long as its client is there: `None` if it has left, which ends what is under way for
/// it (exam R20).
async fn until_left(
    mut exchange: Pin<&mut impl Future<Output = Next>>,
    transport: &Transport,
    traffic: &Traffic,
) -> Option<Next> {
    let next = poll_fn(|context| {
        if let Poll::Ready(next) = exchange.as_mut().poll(context) {
            return Poll::Ready(Some(next));
        }
        // The two ends of a tunnel are its own matter.
        if traffic.is_tunnel.get() {
            return Poll::Pending;
        }
        let is_sending = !traffic.has_come.get();
        if transport.has_left(context, is_sending) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await;
    transport.looks_no_more();
    next
}

struct Http1Connection<'a> {
    shard: &'a Rc<Shard>,
    client: Box<ClientConnection>,
    served: u64,
    /// Nothing has come that tells.
    may_be_http2: bool,
    is_http2: bool,
}

/// Nothing but empty lines: some clients send one behind a body, and ask for nothing by that.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// What came instead of a head.
enum NoHead {
    /// The client left between requests, or idled for too long: nothing to say.
    Quiet,
    /// A fault that deserves an answer.
    Fault(Kind),
}

impl Http1Connection<'_> {
    /// Waits for a request and serves it. `None` if there is none any more.
    async fn next_exchange(&mut self) -> Option<Next> {
        if self.client.inbound.is_empty() {
            self.idle().await;
        }
        // Only from here on there is anything that takes room.
        let futures = &self.shard.futures;
        futures.put(|| self.exchange()).await
    }

    /// Waits until there is something to read, or the time for it is over.
    async fn idle(&self) {
        let listener = self.shard.listener(self.client.facts.listener);
        let now = self.shard.now();
        // A client that connects and says nothing has as long as a head may take.
        let wait = if self.served == 0 { listener.head_timeout } else { listener.keepalive };
        // A client that has just come in is not idle yet: it would be the first to go in a rush.
        let since = if self.served == 0 { now.after(FRESH_LASTS) } else { now };
        self.client.transport.idles(now.after(wait), since);
        self.client.transport.readable().await;
    }

    /// Reads a request and serves it.
    async fn exchange(&mut self) -> Option<Next> {
        if self.client.inbound.is_empty() {
            let ClientConnection { transport, inbound, .. } = &mut *self.client;
            let read = inbound.fill_ready(transport, &self.shard.buffers, Size::Small).await;
            transport.is_busy();
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
        if self.may_be_http2 {
            self.may_be_http2 = false;
            self.is_http2 = Box::pin(self.begins_http2()).await;
            if self.is_http2 {
                return None;
            }
        }
        let mut work = self.shard.workspace();
        let parsed = match self.read_head(&mut work).await {
            Ok(()) => Ok(()),
            Err(NoHead::Fault(kind)) => {
                glimpse::take(self.client.inbound.data(), &mut work.heads.request);
                Err(kind)
            }
            Err(NoHead::Quiet) => {
                self.shard.give(work);
                return None;
            }
        };
        let next = self.serve_one(&mut work, parsed).await;
        self.shard.give(work);
        Some(next)
    }

    /// Serves one request whose head has come.
    async fn serve_one(&mut self, work: &mut Workspace, parsed: Result<()>) -> Next {
        let (shard, may_keep) = (self.shard, self.may_keep());
        let ClientConnection { transport, inbound, facts, .. } = &mut *self.client;
        let (transport, version) = (&*transport, work.heads.request.version);
        let has_come = parsed.is_ok() && work.heads.request.framing.is_empty();
        let traffic = Traffic::new(has_come);
        let reply = Http1Reply::new(transport, &shard.buffers, version);
        let Workspace { heads, reading } = work;
        let body = Home::new(ClientBody::new(RequestBody::http1(transport, inbound, reading)));
        let mut ex = Exchange::new(Parts {
            shard,
            client: facts,
            work: heads,
            body: &body,
            traffic: &traffic,
            to: To::Http1(reply),
            may_keep,
        });
        // Pinned here: handed over by value it would be in this task twice.
        let next = {
            let mut exchange = pin!(serve_exchange(&mut ex, parsed));
            until_left(exchange.as_mut(), transport, &traffic).await
        };
        if next.is_none() {
            // Dropping the exchange has told the server; the client cannot be told anything.
            abandon(&mut ex);
        }
        next.unwrap_or(Next::Close)
    }

    /// Whether the connection may carry another request after this one.
    fn may_keep(&self) -> bool {
        let limits = &self.shard.plan.config.limits;
        let age = self.shard.now().since(self.client.born);
        self.served + 1 < limits.requests_per_connection && age < limits.connection_age
    }

    /// Whether the connection begins with the preface of HTTP/2 (RFC 9113 section 3.4). Reads no more
    /// than it takes to know.
    async fn begins_http2(&mut self) -> bool {
        let preface = PREFACE;
        loop {
            let data = self.client.inbound.data();
            let len = data.len().min(preface.len());
            if data[..len] != preface[..len] || data.is_empty() {
                return false;
            }
            if len == preface.len() {
                return true;
            }
            let ClientConnection { transport, inbound, born, facts } = &mut *self.client;
            transport.read_by(born.after(self.shard.listener(facts.listener).head_timeout));
            let read = inbound.fill(transport, &self.shard.buffers, Size::Small).await;
            transport.read_by(Moment::NEVER);
            if !matches!(read, Ok(1..)) {
                return false;
            }
        }
    }

    /// Reads a head and parses it. Nearly always it has come whole.
    async fn read_head(&mut self, work: &mut Workspace) -> std::result::Result<(), NoHead> {
        let limits = &self.shard.listener(self.client.facts.listener).head;
        let at_once =
            parse::request_at_once(self.client.inbound.data(), limits, &mut work.heads.request);
        if let Some(len) = at_once {
            self.client.inbound.consume(len, &self.shard.buffers);
            return Ok(());
        }
        let found = self.find_head().await?;
        self.parse(found, work).map_err(NoHead::Fault)
    }

    /// Reads up to the end of a head. The deadline is absolute: a byte now and then does not buy
    /// time (exam F02).
    async fn find_head(&mut self) -> std::result::Result<HeadExtent, NoHead> {
        let listener = self.shard.listener(self.client.facts.listener);
        let start = if self.served == 0 { self.client.born } else { self.shard.now() };
        let mut scan = Scan::default();
        let mut is_waiting = false;
        loop {
            match scan.request(self.client.inbound.data(), &listener.head) {
                Ok(Some(found)) => {
                    if is_waiting {
                        self.client.transport.read_by(Moment::NEVER);
                    }
                    return Ok(found);
                }
                Ok(None) => {}
                Err(kind) => return Err(NoHead::Fault(kind)),
            }
            if !is_waiting {
                self.client.transport.read_by(start.after(listener.head_timeout));
                is_waiting = true;
            }
            let ClientConnection { transport, inbound, .. } = &mut *self.client;
            match inbound.fill(transport, &self.shard.buffers, Size::Small).await {
                Ok(0) | Err(_)
                    if self.client.transport.expired().is_some()
                        && !is_blank(self.client.inbound.data()) =>
                {
                    return Err(NoHead::Fault(Kind::HeadTimeout));
                }
                Ok(0) | Err(_) => return Err(NoHead::Quiet),
                Ok(_) => {}
            }
        }
    }

    fn parse(&mut self, found: HeadExtent, work: &mut Workspace) -> Result<()> {
        let limits = &self.shard.listener(self.client.facts.listener).head;
        let bytes = &self.client.inbound.data()[found.start..found.end];
        // What cannot be parsed stays for a glimpse, and is not read on: the connection ends.
        parse::request(bytes, limits, &mut work.heads.request)?;
        self.client.inbound.consume(found.end, &self.shard.buffers);
        Ok(())
    }
}
