//! A client's connection that is passed on as it is: TCP, or TLS that is decrypted elsewhere. The name
//! in a ClientHello chooses the route, if routes name hosts.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::entry::Visitor;
use super::preface;
use crate::base::clock::{self, Moment};
use crate::base::error::{Kind, Result};
use crate::base::id::{ListenerId, RouteId};
use crate::config::model::{Action, Route};
use crate::exchange::tunnel::{self, Ends, Moved};
use crate::message::framing::Framing;
use crate::message::head::RequestHead;
use crate::net::body::BodyWriter;
use crate::net::buffer::Size;
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;
use crate::observe::record::Record;
use crate::shard::Shard;
use crate::upstream::Cluster;
use crate::upstream::attempt;
use crate::upstream::flight::Flight;
use crate::upstream::http1::Connection;
use crate::wire::client_hello;

/// Serves a connection until both sides have ended it.
pub async fn serve(shard: &Rc<Shard>, visitor: Box<Visitor>) {
    let Visitor { stream, address, listener, .. } = *visitor;
    let started = if shard.is_logging() { clock::precise() } else { Duration::ZERO };
    let mut record = Record::open(address.ip(), started);
    let (received, sent) = (Cell::new(0), Cell::new(0));
    let mut client = Client { shard, stream, inbound: Inbound::default(), address, listener };
    // What stands for a request in the log: the name that was asked for.
    let mut head = RequestHead::default();
    let moved = Moved { received: &received, sent: &sent };
    let result = client.run(&mut head, &mut record, moved).await;
    record.fault = result.err();
    (record.bytes_in, record.bytes_out) = (received.get(), sent.get());
    record.client = client.address.ip();
    if result.is_err() {
        // The peer must not take this for an orderly end.
        client.stream.reset_on_close();
    }
    shard.observe(&mut record, &head);
}

struct Client<'a> {
    shard: &'a Rc<Shard>,
    stream: Stream,
    inbound: Inbound,
    address: SocketAddr,
    listener: ListenerId,
}

impl Client<'_> {
    async fn run(
        &mut self,
        head: &mut RequestHead,
        record: &mut Record,
        moved: Moved<'_>,
    ) -> Result<()> {
        let shard = Rc::clone(self.shard);
        let by = shard.now().after(shard.listener(self.listener).head_timeout);
        self.stream.read_by(by);
        let source =
            preface::read(&shard, &self.stream, &mut self.inbound, self.address, self.listener);
        let header = source.await.inspect_err(|_| {
            shard.count(|counters| counters.no_proxy_header += 1);
        })?;
        if let Some(source) = header.and_then(|header| header.source) {
            self.address = source;
        }
        let id = self.choose(head).await?;
        self.stream.read_by(Moment::NEVER);
        let route = &shard.plan.config.routes[usize::from(id.0)];
        record.route_line = Some(route.line);
        let Action::Forward(cluster) = &route.action else { return Err(Kind::NoRoute) };
        record.cluster = Some(*cluster);
        let cluster = shard.cluster(*cluster);
        let (flight, mut connection) = self.connect(cluster, route, record).await?;
        let down = Ends { stream: &self.stream, inbound: &mut self.inbound };
        let result = tunnel::both_ways(&shard, &route.timeouts, down, &mut connection, moved).await;
        if result.is_err() {
            connection.stream.reset_on_close();
        }
        drop(connection);
        drop(flight);
        result
    }

    /// The route. Only where routes name hosts is anything read for it.
    async fn choose(&mut self, head: &mut RequestHead) -> Result<RouteId> {
        let shard = self.shard;
        let router = &shard.plan.routers[usize::from(self.listener.0)];
        if !router.names_hosts() {
            return router.find_name(None);
        }
        let hello = loop {
            match client_hello::parse(self.inbound.data()) {
                Ok(Some(hello)) => break hello,
                // What is no TLS goes where everything goes.
                Err(_) => break client_hello::Hello::default(),
                Ok(None) => {}
            }
            match self.inbound.fill(&self.stream, &shard.buffers, Size::Small).await {
                Ok(1..) => {}
                _ if self.stream.expired().is_some() => return Err(Kind::HeadTimeout),
                _ => return Err(Kind::ClientGone),
            }
        };
        if let Some(name) = &hello.name {
            head.set_authority(name, name.len());
        }
        router.find_name(hello.name.as_deref())
    }

    /// A connection to an endpoint: another one is tried where one does not take it.
    async fn connect<'c>(
        &self,
        cluster: &'c Cluster,
        route: &Route,
        record: &mut Record,
    ) -> Result<(Flight<'c>, Box<Connection>)> {
        let shard = self.shard;
        cluster.pay_in();
        let mut ask = cluster.ask(&RequestHead::default(), self.address.ip(), shard.wall());
        let mut last_fault = None;
        loop {
            let begun = match cluster.begin(&ask) {
                Ok(Some(flight)) => Ok(flight),
                Ok(None) => Box::pin(cluster.begin_later(ask, route.priority, shard.now())).await,
                Err(kind) => Err(kind),
            };
            let mut flight = begun.map_err(|kind| last_fault.unwrap_or(kind))?;
            record.try_at(flight.id);
            let timeouts = &route.timeouts;
            // Nobody else has spoken on it.
            let needs = shard.needs(timeouts, self.address, true);
            match attempt::open(&mut flight, &ask, needs).await {
                Ok(attempt) => {
                    record.endpoint = Some(flight.id);
                    record.address = shard.noted_address(cluster, flight.id);
                    shard.count(|counters| counters.dials += 1);
                    let mut connection = attempt.connection;
                    self.greet(&mut connection, timeouts.body_idle).await?;
                    return Ok((flight, connection));
                }
                Err(kind) => {
                    shard.count(|counters| counters.dial_failures += 1);
                    if kind.is_endpoints() {
                        cluster.failed(flight.id, kind);
                    }
                    let policy = &cluster.model.resilience.retry;
                    if !ask.tries.may_try_another(flight.id, kind, policy) {
                        return Err(kind);
                    }
                    last_fault = Some(kind);
                }
            }
        }
    }

    /// Says to the endpoint who the client is, if it wants to know.
    async fn greet(&self, connection: &mut Connection, idle: Duration) -> Result<()> {
        let preface = std::mem::take(&mut connection.preface);
        if preface.is_empty() {
            return Ok(());
        }
        let buffers = &self.shard.buffers;
        let mut buffer = buffers.take(Size::fitting(preface.len()));
        buffer.append(&preface);
        let stream = &connection.stream;
        let mut writer = BodyWriter::upstream(stream, buffers, Framing::UntilClose, idle);
        writer.raw(buffer, self.shard.now()).await
    }
}
