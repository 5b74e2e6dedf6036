//! A client's connection that is passed on as it is: TCP, or TLS that is decrypted elsewhere. The name
//! in a ClientHello chooses the route, if routes name hosts.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::entry::ClientConnection;
use super::preface;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::{ListenerId, RouteId};
use crate::config::model::{Action, Route, Timeouts};
use crate::exchange::failure::not_connected;
use crate::message::framing::Framing;
use crate::message::head::RequestHead;
use crate::net::inbound::Inbound;
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::observe::record::Record;
use crate::protocol::http1::line::Line as Http1Line;
use crate::protocol::line::Line;
use crate::protocol::tunnel::{End, Moved, Sink, TunnelSource, TunnelTimeouts, both_ways};
use crate::shard::Shard;
use crate::upstream::attempt;
use crate::upstream::cluster::Cluster;
use crate::upstream::flight::Flight;
use crate::wire::client_hello;

/// Serves a connection until both sides have ended it.
pub async fn serve(shard: &Rc<Shard>, client: Box<ClientConnection>) {
    let ClientConnection { transport, facts, .. } = *client;
    let (address, listener) = (facts.client.address, facts.listener);
    let started = shard.stopwatch();
    let mut record = Record::open(address.ip(), started);
    let (received, sent) = (Cell::new(0), Cell::new(0));
    let mut client = TcpClient { shard, transport, inbound: Inbound::default(), address, listener };
    // What stands for a request in the log: the name that was asked for.
    let mut head = RequestHead::default();
    let moved = Moved { received: &received, sent: &sent };
    let result = client.run(&mut head, &mut record, moved).await;
    record.fault = result.err();
    (record.bytes_in, record.bytes_out) = (received.get(), sent.get());
    record.client = client.address.ip();
    record.listener = Some(client.listener);
    if result.is_err() {
        // The peer must not take this for an orderly end.
        client.transport.reset_on_close();
    }
    shard.observe(&mut record, &head);
}

struct TcpClient<'a> {
    shard: &'a Rc<Shard>,
    transport: Transport,
    inbound: Inbound,
    address: SocketAddr,
    listener: ListenerId,
}

impl TcpClient<'_> {
    async fn run(
        &mut self,
        head: &mut RequestHead,
        record: &mut Record,
        moved: Moved<'_>,
    ) -> Result<()> {
        let shard = Rc::clone(self.shard);
        let by = shard.now().after(shard.listener(self.listener).head_timeout);
        self.transport.read_by(by);
        let source =
            preface::read(&shard, &self.transport, &mut self.inbound, self.address, self.listener);
        let header = source.await.inspect_err(|_| {
            shard.count(|counters| counters.no_proxy_header += 1);
        })?;
        if let Some(source) = header.and_then(|header| header.source) {
            self.address = source;
        }
        let id = self.choose(head).await?;
        self.transport.read_by(Moment::NEVER);
        let route = &shard.plan.config.routes[usize::from(id.0)];
        record.route = Some(id);
        let Action::Forward(cluster) = &route.action else { return Err(Kind::NoRoute) };
        record.cluster = Some(*cluster);
        let cluster = shard.cluster(*cluster);
        let (flight, mut line) = self.connect(cluster, route, record).await?;
        let client = TunnelSource::Transport(&self.transport, &mut self.inbound);
        let client = End { source: client, sink: Sink::Transport(&self.transport) };
        let (transport, inbound) = line.raw();
        let source = TunnelSource::Transport(transport, inbound);
        let endpoint = End { source, sink: Sink::Transport(transport) };
        let Timeouts { tunnel_idle: silence, body_idle: stall, .. } = route.timeouts;
        let (patience, now) = (TunnelTimeouts { silence, stall }, || shard.now());
        let ends = (client, endpoint);
        let result = both_ways(&shard.buffers, &now, ends, patience, moved).await;
        if result.is_err() {
            line.connection().transport.reset_on_close();
        }
        drop(line);
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
            match self.inbound.fill(&self.transport, &shard.buffers, Size::Small).await {
                Ok(1..) => {}
                _ if self.transport.expired().is_some() => return Err(Kind::HeadTimeout),
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
    ) -> Result<(Flight<'c>, Box<Http1Line>)> {
        let shard = self.shard;
        shard.may_forward()?;
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
            // No other client has spoken on it.
            let needs = shard.needs(timeouts, self.address, true);
            match attempt::open(&mut flight, &ask, needs).await {
                Ok(attempt) => {
                    record.endpoint = Some(flight.id);
                    record.address = shard.noted_address(cluster, flight.id);
                    shard.count(|counters| counters.dials += 1);
                    let Line::Http1(line) = attempt.line else { return Err(Kind::Internal) };
                    // The endpoint may want to know the client's address.
                    let writer = line.writer(Framing::UntilClose, timeouts.body_idle);
                    writer.preface(&shard.buffers).await?;
                    return Ok((flight, line));
                }
                Err(kind) => {
                    shard.count(|counters| counters.dial_failures += 1);
                    last_fault = Some(not_connected(cluster, flight.id, kind, &mut ask.tries)?);
                }
            }
        }
    }
}
