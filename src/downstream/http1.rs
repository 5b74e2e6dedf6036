//! A client's HTTP/1 connection: one request after the other, in order. Between requests it holds
//! no buffer and no workspace.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use super::entry::Visitor;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::limits::FRESH_LASTS;
use crate::exchange::side::{Answer, Downstream, Next};
use crate::exchange::{abandon, open, serve as serve_exchange};
use crate::message::hop::Kept;
use crate::net::buffer::Size;
use crate::net::stream::Stream;
use crate::shard::{Shard, Workspace};
use crate::wire::frames::PREFACE;
use crate::wire::http1::scan::{Found, Scan};
use crate::wire::http1::{glimpse, parse};

/// Serves a connection until it ends; hands it back if it turns out to be HTTP/2, where that may be.
pub async fn serve(
    shard: &Rc<Shard>,
    visitor: Box<Visitor>,
    may_be_http2: bool,
) -> Option<Box<Visitor>> {
    let (kept, served, is_http2) = (RefCell::default(), 0, false);
    let mut connection = Connection { shard, visitor, kept, served, may_be_http2, is_http2 };
    loop {
        match connection.next_exchange().await {
            Some(Next::Keep) => connection.served += 1,
            Some(Next::Linger) => {
                Box::pin(connection.visitor.linger(shard)).await;
                return None;
            }
            Some(Next::Close) | None => return connection.is_http2.then_some(connection.visitor),
        }
    }
}

/// Serves a request as long as its client is there: `None` if it has left, which ends what is under way for
/// it (RELIABILITY R20).
async fn until_left(
    mut exchange: Pin<&mut impl Future<Output = Next>>,
    shard: &Shard,
    stream: &Stream,
    answer: &Answer,
) -> Option<Next> {
    let next = poll_fn(|context| {
        if let Poll::Ready(next) = exchange.as_mut().poll(context) {
            return Poll::Ready(Some(next));
        }
        // The two ends of a tunnel are its own matter.
        let has_left = !answer.was_tunnel.get()
            && stream.has_left(context, shard.now(), answer.has_come.get());
        if has_left { Poll::Ready(None) } else { Poll::Pending }
    })
    .await;
    stream.looks_no_more();
    next
}

struct Connection<'a> {
    shard: &'a Rc<Shard>,
    visitor: Box<Visitor>,
    kept: RefCell<Kept>,
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

impl Connection<'_> {
    /// Waits for a request and serves it. `None` if there is none any more.
    async fn next_exchange(&mut self) -> Option<Next> {
        if self.visitor.inbound.is_empty() && !self.first_bytes().await {
            return None;
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
                glimpse::take(self.visitor.inbound.data(), &mut work.request);
                Err(kind)
            }
            Err(NoHead::Quiet) => {
                self.shard.give(work);
                return None;
            }
        };
        let limits = &self.shard.plan.config.limits;
        let age = self.shard.now().since(self.visitor.born);
        let may_keep =
            self.served + 1 < limits.requests_per_connection && age < limits.connection_age;
        let visitor = &mut self.visitor;
        let (answer, stream) = (Answer::default(), &visitor.stream);
        let mut down = Downstream {
            stream,
            inbound: &mut visitor.inbound,
            listener: visitor.listener,
            client: &visitor.client,
            secured: visitor.greeting.as_deref(),
            kept: &self.kept,
            address: visitor.address,
            may_keep,
            answer: &answer,
        };
        let mut record = open(self.shard, &down);
        let shard = self.shard;
        // Pinned here: handed over by value it would be in this task twice.
        let next = {
            let exchange = serve_exchange(shard, &mut work, &mut down, &mut record, parsed);
            let mut exchange = pin!(exchange);
            until_left(exchange.as_mut(), shard, stream, &answer).await
        };
        if next.is_none() {
            // Dropping the exchange has told the server; the client cannot be told anything.
            abandon(shard, &work, &down, record);
        }
        self.shard.give(work);
        Some(next.unwrap_or(Next::Close))
    }

    /// Whether the connection begins with the preface of HTTP/2 (RFC 9113 section 3.4). Reads no more
    /// than it takes to know.
    async fn begins_http2(&mut self) -> bool {
        let preface = PREFACE;
        loop {
            let data = self.visitor.inbound.data();
            let len = data.len().min(preface.len());
            if data[..len] != preface[..len] || data.is_empty() {
                return false;
            }
            if len == preface.len() {
                return true;
            }
            let Visitor { stream, inbound, born, listener, .. } = &mut *self.visitor;
            stream.read_by(born.after(self.shard.listener(*listener).head_timeout));
            let read = inbound.fill(stream, &self.shard.buffers, Size::Small).await;
            stream.read_by(Moment::NEVER);
            if !matches!(read, Ok(1..)) {
                return false;
            }
        }
    }

    /// Waits for the first bytes of a request, holding nothing.
    async fn first_bytes(&mut self) -> bool {
        let listener = self.shard.listener(self.visitor.listener);
        let now = self.shard.now();
        // Who connects and says nothing has as long as a head may take.
        let wait = if self.served == 0 { listener.head_timeout } else { listener.keepalive };
        // Who has just come in is not idle yet: it would be the first to go in a rush.
        let since = if self.served == 0 { now.after(FRESH_LASTS) } else { now };
        self.visitor.stream.idles(now.after(wait), since);
        let read =
            self.visitor.inbound.fill(&self.visitor.stream, &self.shard.buffers, Size::Small).await;
        self.visitor.stream.is_busy();
        matches!(read, Ok(1..))
    }

    /// Reads a head and parses it. Nearly always it has come whole.
    async fn read_head(&mut self, work: &mut Workspace) -> std::result::Result<(), NoHead> {
        let limits = &self.shard.listener(self.visitor.listener).head;
        let at_once =
            parse::request_at_once(self.visitor.inbound.data(), limits, &mut work.request);
        if let Some(len) = at_once {
            self.visitor.inbound.consume(len, &self.shard.buffers);
            return Ok(());
        }
        let found = self.find_head().await?;
        self.parse(found, work).map_err(NoHead::Fault)
    }

    /// Reads up to the end of a head. The deadline is absolute: a byte now and then does not buy
    /// time (RELIABILITY F02).
    async fn find_head(&mut self) -> std::result::Result<Found, NoHead> {
        let listener = self.shard.listener(self.visitor.listener);
        let start = if self.served == 0 { self.visitor.born } else { self.shard.now() };
        let mut scan = Scan::default();
        let mut is_waiting = false;
        loop {
            match scan.request(self.visitor.inbound.data(), &listener.head) {
                Ok(Some(found)) => {
                    if is_waiting {
                        self.visitor.stream.read_by(Moment::NEVER);
                    }
                    return Ok(found);
                }
                Ok(None) => {}
                Err(kind) => return Err(NoHead::Fault(kind)),
            }
            if !is_waiting {
                self.visitor.stream.read_by(start.after(listener.head_timeout));
                is_waiting = true;
            }
            match self
                .visitor
                .inbound
                .fill(&self.visitor.stream, &self.shard.buffers, Size::Small)
                .await
            {
                Ok(0) | Err(_)
                    if self.visitor.stream.expired().is_some()
                        && !is_blank(self.visitor.inbound.data()) =>
                {
                    return Err(NoHead::Fault(Kind::HeadTimeout));
                }
                Ok(0) | Err(_) => return Err(NoHead::Quiet),
                Ok(_) => {}
            }
        }
    }

    fn parse(&mut self, found: Found, work: &mut Workspace) -> Result<()> {
        let limits = &self.shard.listener(self.visitor.listener).head;
        let bytes = &self.visitor.inbound.data()[found.start..found.end];
        // What cannot be parsed stays for a glimpse, and is not read on: the connection ends.
        parse::request(bytes, limits, &mut work.request)?;
        self.visitor.inbound.consume(found.end, &self.shard.buffers);
        Ok(())
    }
}
