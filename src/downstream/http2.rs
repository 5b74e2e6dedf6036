//! A client's HTTP/2 connection: many requests at once, each served by a task of its own, just as
//! one of HTTP/1 is.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::entry::ClientConnection;
use super::task_pool::TaskPool;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::limits::{H2_LINGER, LINGER};
use crate::exchange::state::{ClientFacts, Exchange, Home, Next, Parts, Traffic};
use crate::exchange::upload::ClientBody;
use crate::exchange::{abandon, serve as serve_exchange};
use crate::message::upgrade;
use crate::net::deadline::{Class, NO_SOCKET};
use crate::net::guard::Caught;
use crate::net::sweep::SocketWatch;
use crate::observe::record::Record;
use crate::protocol::http2::io_adapter::ConnectionState;
use crate::protocol::http2::receive::H2Receiver;
use crate::protocol::http2::reply::Reply as Http2Reply;
use crate::protocol::http2::server::{Asked, H2Server, HeadHold};
use crate::protocol::pace::{self, Pace, period};
use crate::protocol::reply::To;
use crate::protocol::request::RequestBody;
use crate::shard::{DrainWaker, Shard, Workspace};
use crate::wire::http2;

/// What all requests of a connection have in common.
struct Http2Client {
    facts: ClientFacts,
    watched: Rc<ConnectionState>,
}

/// A request that is to be served.
pub struct Http2Job {
    shard: Rc<Shard>,
    client: Rc<Http2Client>,
    asked: Asked,
}

async fn do_job(job: Http2Job) {
    let Http2Job { shard, client, asked } = job;
    let served = Caught(async {
        let mut request = taken(&shard, &client, asked);
        shard.futures.put(|| serve_one(&shard, &client, &mut request)).await;
        shard.give(request.work);
    });
    if served.await.is_err() {
        shard.count(|counters| counters.panics += 1);
    }
}

/// A request whose head was taken, or is refused.
struct Taken {
    work: Box<Workspace>,
    parsed: Result<()>,
    body: Option<Box<H2Receiver>>,
    reply: Http2Reply,
    /// Its head counts until it is answered.
    _hold: HeadHold,
}

fn taken(shard: &Rc<Shard>, client: &Http2Client, asked: Asked) -> Taken {
    let Asked { request, body, reply, hold } = asked;
    let mut work = shard.workspace();
    let limits = &shard.listener(client.facts.listener).head;
    let parsed = http2::take_request(&request, body.is_some(), limits, &mut work.heads.request);
    upgrade::complete(&mut work.heads.request, || shard.random.borrow_mut().ten_bytes());
    let body = body.map(|stream| {
        let watch = Rc::new(shard.sweep.watch(NO_SOCKET, Class::Downstream));
        let framing = work.heads.request.framing;
        Box::new(H2Receiver::new(stream, watch, framing, &pace::REQUEST, Pace::NONE))
    });
    Taken { work, parsed, body, reply, _hold: hold }
}

/// Serves a connection until it ends.
pub async fn serve(
    shard: &Rc<Shard>,
    pool: &Rc<TaskPool<Http2Job>>,
    client: Box<ClientConnection>,
) {
    let ClientConnection { transport, inbound, facts, born } = *client;
    let model = shard.listener(facts.listener);
    transport.read_by(born.after(model.head_timeout));
    let watched = Rc::new(ConnectionState::new(transport, period(model.keepalive)));
    let limits = &shard.plan.config.http2;
    let has_said_something = !inbound.is_empty();
    let (buffers, sweep) = (&shard.buffers, &shard.sweep);
    let started = H2Server::start(&watched, inbound, buffers, limits, model.head.head, sweep);
    let Some(mut server) = started.await else {
        if has_said_something || watched.reads.get() > 0 {
            note(shard, facts.client.peer(), Kind::Http2, 1);
        }
        return;
    };
    watched.transport.read_by(Moment::NEVER);
    let client = Rc::new(Http2Client { facts, watched: Rc::clone(&watched) });
    let mut watch = Http2Deadlines {
        shard: Rc::clone(shard),
        watched: Rc::clone(&watched),
        client: Rc::clone(&client),
        idle: shard.sweep.watch(NO_SOCKET, Class::Downstream),
        drain_waker: shard.drain_waker(),
        phase: Phase::Fresh,
        born,
        served: 0,
        is_draining: false,
        keepalive: model.keepalive,
        head_timeout: model.head_timeout,
    };
    while let Some(asked) = server.next(|server, context| watch.look(server, context)).await {
        watch.served += 1;
        let (shard, client) = (Rc::clone(shard), Rc::clone(&client));
        pool.give(Http2Job { shard, client, asked }, do_job);
    }
    watch.take_note();
}

/// Takes down what is wrong with how a client speaks HTTP/2, so many times since the last.
fn note(shard: &Shard, client: IpAddr, kind: Kind, times: u32) {
    shard.count(|counters| match kind {
        Kind::Http2Abuse => counters.calmed += 1,
        _ => counters.malformed += u64::from(times),
    });
    shard.note(Record { fault: Some(kind), ..Record::open(client, 0) });
}

/// One request.
async fn serve_one(shard: &Rc<Shard>, client: &Http2Client, request: &mut Taken) {
    let facts = &client.facts;
    let Taken { work, parsed, body, reply, .. } = request;
    let parsed = *parsed;
    let has_come = parsed.is_ok() && work.heads.request.framing.is_empty();
    let traffic = Traffic::new(has_come);
    let body = body.take().map_or(RequestBody::None, RequestBody::Http2);
    let body = Home::new(ClientBody::new(body));
    let mut ex = Exchange::new(Parts {
        shard,
        client: facts,
        work: &mut work.heads,
        body: &body,
        traffic: &traffic,
        to: To::Http2(reply),
        may_keep: true,
    });
    // Pinned here: handed over by value it would be in this task twice.
    let ended = {
        let mut exchange = pin!(async {
            // What is answered from memory does not wait for a server: it waits for the client to take what it is
            // owed (exam R03).
            client.watched.backlog.drained().await;
            serve_exchange(&mut ex, parsed).await
        });
        until_gone(exchange.as_mut(), reply).await
    };
    let was_forwarded = ex.record.endpoint.is_some() && ex.record.fault.is_none();
    if ended.is_none() {
        // The client does not want to hear the rest.
        abandon(&mut ex);
    } else if !traffic.has_come.get() {
        Box::pin(take_rest(shard, &body)).await;
    } else if was_forwarded {
        client.watched.answered.set(client.watched.answered.get().saturating_add(1));
    }
}

/// Reads and drops what still comes of a body that was answered early, for a while: some clients forget an
/// answer whose stream is reset right behind it (exam R21). Then the stream is reset without an error
/// (RFC 9113 section 8.1), as it is when it is dropped.
async fn take_rest(shard: &Shard, body: &Home<ClientBody<'_>>) {
    if let Some(mut loan) = body.lend() {
        loan.get().body.drop_rest(shard.now().after(H2_LINGER)).await;
    }
}

/// Serves a request as long as its client wants an answer: `None` if it has changed its mind, which
/// ends what is under way for it.
async fn until_gone(
    mut exchange: Pin<&mut impl Future<Output = Next>>,
    reply: &Http2Reply,
) -> Option<Next> {
    let mut gone = pin!(reply.sender().gone());
    poll_fn(|context| {
        if let Poll::Ready(next) = exchange.as_mut().poll(context) {
            return Poll::Ready(Some(next));
        }
        gone.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// What a connection does now, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Idle,
    Busy,
    /// Half of a head has come.
    InBlock,
    /// It was told to end.
    Leaving,
}

/// Looks after a connection's deadlines: how long it may idle, how long a head may take, and how long
/// it may take to leave.
struct Http2Deadlines {
    shard: Rc<Shard>,
    watched: Rc<ConnectionState>,
    client: Rc<Http2Client>,
    /// Ends idling politely: with GOAWAY.
    idle: SocketWatch,
    drain_waker: DrainWaker,
    phase: Phase,
    born: Moment,
    served: u64,
    is_draining: bool,
    keepalive: Duration,
    head_timeout: Duration,
}

impl Http2Deadlines {
    fn look(&mut self, server: &mut H2Server, context: &Context<'_>) {
        let (now, transport) = (self.shard.now(), &self.watched.transport);
        self.drain_waker.set(context.waker());
        self.take_note();
        if !self.is_draining && (self.idle.poll_due(context) || self.is_enough(now)) {
            self.is_draining = true;
            server.drain();
        }
        let is_busy = server.is_busy();
        let phase = match (self.watched.in_block.get(), is_busy) {
            _ if self.watched.is_lingering.get() => Phase::Leaving,
            (true, _) => Phase::InBlock,
            (false, true) => Phase::Busy,
            (false, false) if self.is_draining => Phase::Leaving,
            (false, false) => Phase::Idle,
        };
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        let (read_by, idle_by) = match phase {
            Phase::InBlock => (now.after(self.head_timeout), Moment::NEVER),
            Phase::Leaving => (now.after(LINGER), Moment::NEVER),
            Phase::Idle => (Moment::NEVER, now.after(self.keepalive)),
            Phase::Busy | Phase::Fresh => (Moment::NEVER, Moment::NEVER),
        };
        transport.read_by(read_by);
        transport.idle_since(if phase == Phase::Idle { now } else { Moment::NEVER });
        if !self.is_draining {
            self.idle.read_by(idle_by);
        }
    }

    /// What the client was told since last time, if that was its fault.
    fn take_note(&self) {
        let client = self.client.facts.client.peer();
        let faults = self.watched.told.take();
        if faults > 0 {
            note(&self.shard, client, Kind::Http2, faults);
        }
        if self.watched.has_calmed.take() {
            note(&self.shard, client, Kind::Http2Abuse, 1);
        }
    }

    /// It has served its time, or the whole proxy has.
    fn is_enough(&self, now: Moment) -> bool {
        let limits = &self.shard.plan.config.limits;
        !self.shard.may_keep()
            || self.served >= limits.requests_per_connection
            || now.since(self.born) >= limits.connection_age
    }
}
