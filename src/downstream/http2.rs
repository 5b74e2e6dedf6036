//! A client's HTTP/2 connection: many requests at once, each served by a task of its own, just as
//! one of HTTP/1 is.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::entry::Visitor;
use super::hands::Hands;
use crate::base::clock::{Moment, millis};
use crate::base::error::Kind;
use crate::base::limits::{H2_LINGER, LINGER};
use crate::exchange::side::{Answer, Downstream, Next};
use crate::exchange::{abandon, open, serve as serve_exchange};
use crate::message::head::Version;
use crate::message::hop::Kept;
use crate::net::buffer::Size;
use crate::net::deadline::Class;
use crate::net::guard::Caught;
use crate::net::http2::port::Watched;
use crate::net::http2::server::{Asked, Server};
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;
use crate::net::sweep::Watch;
use crate::observe::record::Record;
use crate::shard::{Nudge, Shard};
use crate::wire::http1::{glimpse, parse, upgrade};

/// What all requests of a connection have in common.
struct Guest {
    visitor: Visited,
    watched: Rc<Watched>,
    kept: RefCell<Kept>,
}

/// A visitor without its stream.
struct Visited {
    address: std::net::SocketAddr,
    client: crate::message::hop::Client,
    listener: crate::base::id::ListenerId,
    greeting: Option<Box<crate::exchange::secure::Secured>>,
}

/// A request that somebody is to serve.
pub struct Job {
    shard: Rc<Shard>,
    guest: Rc<Guest>,
    asked: Asked,
}

async fn do_job(job: Job) {
    let Job { shard, guest, asked } = job;
    if Caught(serve_one(&shard, &guest, asked)).await.is_err() {
        shard.count(|counters| counters.panics += 1);
    }
}

/// Serves a connection until it ends.
pub async fn serve(shard: &Rc<Shard>, hands: &Rc<Hands<Job>>, visitor: Box<Visitor>) {
    let Visitor { stream, inbound, address, client, listener, born, greeting } = *visitor;
    let model = shard.listener(listener);
    stream.read_by(born.after(model.head_timeout));
    let period = u32::try_from(millis(model.keepalive) / 2).unwrap_or(u32::MAX);
    let watched = Rc::new(Watched::new(stream, shard.now(), period));
    let limits = &shard.plan.config.http2;
    let has_said_something = !inbound.is_empty();
    let started = Server::start(&watched, inbound, &shard.buffers, limits, model.head.head);
    let Some(mut server) = started.await else {
        if has_said_something || watched.reads.get() > 0 {
            note(shard, client.peer, Kind::Http2, 1);
        }
        return;
    };
    watched.stream.read_by(Moment::NEVER);
    let visitor = Visited { address, client, listener, greeting };
    let guest = Rc::new(Guest { visitor, watched: Rc::clone(&watched), kept: RefCell::default() });
    let mut watch = Patience {
        shard: Rc::clone(shard),
        watched: Rc::clone(&watched),
        guest: Rc::clone(&guest),
        idle: shard.sweep.watch(crate::net::deadline::NO_SOCKET, Class::Downstream),
        nudge: shard.nudge(),
        phase: Phase::Fresh,
        born,
        served: 0,
        is_draining: false,
        keepalive: model.keepalive,
        head_timeout: model.head_timeout,
    };
    while let Some(asked) = server.next(|server, context| watch.look(server, context)).await {
        watch.served += 1;
        let (shard, guest) = (Rc::clone(shard), Rc::clone(&guest));
        hands.give(Job { shard, guest, asked }, do_job);
    }
    watch.take_note();
}

/// Takes down what is wrong with how a client speaks HTTP/2, so many times since the last.
fn note(shard: &Shard, client: IpAddr, kind: Kind, times: u32) {
    shard.count(|counters| match kind {
        Kind::Http2Abuse => counters.calmed += 1,
        _ => counters.malformed += u64::from(times),
    });
    shard.note(Record { fault: Some(kind), ..Record::open(client, Duration::ZERO) });
}

/// One request.
async fn serve_one(shard: &Rc<Shard>, guest: &Guest, asked: Asked) {
    let Visited { address, client, listener, greeting } = &guest.visitor;
    let Asked { head, strand, hold } = asked;
    let stream = Stream::strand(strand, &shard.sweep, Class::Downstream);
    let mut work = shard.workspace();
    let limits = &shard.listener(*listener).head;
    let parsed = head.and_then(|text| {
        let parsed = parse::request(&text, limits, &mut work.request);
        parsed.inspect_err(|_| glimpse::take(&text, &mut work.request))
    });
    work.request.version = Version::Http2;
    upgrade::complete(&mut work.request, || shard.random.borrow_mut().ten_bytes());
    let (mut inbound, answer) = (Inbound::default(), Answer::default());
    let mut down = Downstream {
        stream: &stream,
        inbound: &mut inbound,
        listener: *listener,
        client,
        secured: greeting.as_deref(),
        kept: &guest.kept,
        address: *address,
        may_keep: true,
        answer: &answer,
    };
    let mut record = open(shard, &down);
    // Pinned here: handed over by value it would be in this task twice.
    let ended = {
        let mut exchange = pin!(async {
            // What is answered from memory does not wait for a server: it waits for the client to take what it is
            // owed (RELIABILITY R03).
            guest.watched.backlog.drained().await;
            serve_exchange(shard, &mut work, &mut down, &mut record, parsed).await
        });
        until_gone(exchange.as_mut(), &stream).await
    };
    if ended.is_none() {
        // Nobody is there to hear the rest.
        abandon(shard, &work, &down, record);
    } else if !answer.body_done.get() {
        Box::pin(take_rest(shard, &stream)).await;
    } else if record.endpoint.is_some() && record.fault.is_none() {
        guest.watched.answered.set(guest.watched.answered.get().saturating_add(1));
    }
    shard.give(work);
    drop(hold);
}

/// Reads and drops what still comes of a body that was answered early, for a while: some clients forget an
/// answer whose stream is reset right behind it (RELIABILITY R21). Then the stream is reset without an error
/// (RFC 9113 section 8.1), as it is when it is dropped.
async fn take_rest(shard: &Shard, stream: &Stream) {
    stream.read_by(shard.now().after(H2_LINGER));
    let mut rest = Inbound::default();
    while let Ok(1..) = rest.fill(stream, &shard.buffers, Size::Small).await {
        rest.release(&shard.buffers);
    }
}

/// Serves a request as long as its client wants an answer: `None` if it has changed its mind, which
/// ends what is under way for it.
async fn until_gone(
    mut exchange: Pin<&mut impl Future<Output = Next>>,
    stream: &Stream,
) -> Option<Next> {
    let gone = async {
        match stream.as_strand() {
            Some(strand) => strand.gone().await,
            None => std::future::pending().await,
        }
    };
    let mut gone = pin!(gone);
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
struct Patience {
    shard: Rc<Shard>,
    watched: Rc<Watched>,
    guest: Rc<Guest>,
    /// Ends idling politely: with GOAWAY.
    idle: Watch,
    nudge: Nudge,
    phase: Phase,
    born: Moment,
    served: u64,
    is_draining: bool,
    keepalive: Duration,
    head_timeout: Duration,
}

impl Patience {
    fn look(&mut self, server: &mut Server, context: &Context<'_>) {
        let (now, stream) = (self.shard.now(), &self.watched.stream);
        self.watched.now.set(now);
        self.nudge.set(context.waker());
        self.take_note();
        if !self.is_draining && (self.idle.is_due(context) || self.is_enough(now)) {
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
        stream.read_by(read_by);
        stream.idle_since(if phase == Phase::Idle { now } else { Moment::NEVER });
        if !self.is_draining {
            self.idle.read_by(idle_by);
        }
    }

    /// What the client was told since last time, if that was its fault.
    fn take_note(&self) {
        let client = self.guest.visitor.client.peer;
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
