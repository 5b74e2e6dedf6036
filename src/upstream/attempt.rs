//! One try at an endpoint: a connection from the pool, or a new one.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use super::ask::Ask;
use super::cluster::Cluster;
use super::dial::dial;
use super::flight::Flight;
use super::http2::Offer;
use super::needs::{Dialled, Needs};
use crate::base::clock::{Moment, millis, monotonic};
use crate::base::error::{Detail, Kind, Result};
use crate::base::id::EndpointId;
use crate::config::model::{Protocol, ProxyHeader};
use crate::config::tls;
use crate::net::connect::Peer;
use crate::net::notice;
use crate::net::size::Size;
use crate::net::tls::handshake::{self, Means};
use crate::protocol::http1::line::{Line as Http1Line, PooledConnection};
use crate::protocol::http2::line::Line as Http2Line;
use crate::protocol::line::Line;
use crate::wire::proxy_protocol;

/// A connection to send a request on.
#[derive(Debug)]
pub struct Attempt {
    pub line: Line,
    /// Its connection served others before.
    pub was_pooled: bool,
}

/// An idle connection of the flight's endpoint, where that speaks HTTP/1 only.
#[must_use]
#[inline]
pub fn pooled(flight: &Flight<'_>, client: SocketAddr, now: Moment) -> Option<Attempt> {
    let cluster = flight.cluster();
    if cluster.model.protocol != Protocol::Http1 {
        return None;
    }
    let identity = cluster.model.proxy_protocol.map(|_| client);
    let line = cluster.endpoint(flight.id).pool.take(identity, now, &cluster.model.pool)?;
    Some(Attempt { line: Line::Http1(line), was_pooled: true })
}

/// Gets a connection for a flight, if none idles: it moves to another address of the same name where its own does not take
/// it. What is wrong is the fault of the endpoint where the flight is then.
///
/// # Errors
/// Why none could be opened.
pub async fn open(flight: &mut Flight<'_>, ask: &Ask, needs: Needs<'_>) -> Result<Attempt> {
    let cluster = flight.cluster();
    if cluster.model.protocol != Protocol::Http1 {
        return Box::pin(open_shared(flight, ask, needs)).await;
    }
    let mut dialled = dial(flight, ask, needs).await?;
    if cluster.is_secure() {
        Box::pin(secure(cluster, flight.id, &mut dialled, needs)).await?;
    }
    cluster.reached(flight.id);
    Ok(fresh(cluster, dialled, needs))
}

/// A connection that carried no request before.
fn fresh(cluster: &Cluster, dialled: Dialled, needs: Needs<'_>) -> Attempt {
    let Dialled { transport, peer, generation } = dialled;
    let identity = cluster.model.proxy_protocol.map(|_| needs.client);
    let preface = match cluster.model.proxy_protocol {
        // In front of TLS it has gone out already.
        Some(version) if !cluster.is_secure() => preface(version, needs.client, &peer),
        _ => Vec::new(),
    };
    let (born, preface) = (needs.now, RefCell::new(preface));
    let connection = PooledConnection { transport, born, generation, identity, preface };
    let line = Box::new(Http1Line::new(Rc::new(connection)));
    Attempt { line: Line::Http1(line), was_pooled: false }
}

/// A stream of a connection that is shared, where the endpoint speaks HTTP/2; else a connection.
async fn open_shared(flight: &mut Flight<'_>, ask: &Ask, needs: Needs<'_>) -> Result<Attempt> {
    let cluster = flight.cluster();
    let model = &cluster.model;
    // Without TLS there is nothing to agree on.
    let is_http1 = model.protocol == Protocol::Auto && !cluster.is_secure();
    let (line, was_pooled) = loop {
        let shared = &cluster.endpoint(flight.id).shared;
        let found = if is_http1 { Offer::Http1 } else { shared.find(&needs, &model.pool).await? };
        match found {
            Offer::Stream(line) => break (line, true),
            // The address that was dialled did not answer: another one of the name has the connection.
            Offer::At(id) => match cluster.begin_at_sibling(id) {
                Some(moved) => *flight = moved,
                None => return Err(Kind::NoStream),
            },
            Offer::Http1 => {
                let identity = model.proxy_protocol.map(|_| needs.client);
                let pool = &cluster.endpoint(flight.id).pool;
                let pooled =
                    if needs.fresh { None } else { pool.take(identity, needs.now, &model.pool) };
                if let Some(line) = pooled {
                    return Ok(Attempt { line: Line::Http1(line), was_pooled: true });
                }
                let (dialled, agreed) = dial_agreed(flight, ask, needs).await?;
                if !agreed {
                    return Ok(fresh(cluster, dialled, needs));
                }
                // It has learnt HTTP/2 since.
                cluster.endpoint(flight.id).shared.clear();
                break (begin(cluster, flight.id, dialled, needs).await?, false);
            }
            Offer::Dial(dialling) => {
                let chosen = flight.id;
                let dialled = dial_agreed(flight, ask, needs).await;
                let failed = |kind: &Kind| dialling.failed(*kind);
                let (dialled, agreed) = dialled.inspect_err(failed)?;
                if !agreed {
                    cluster.endpoint(flight.id).shared.speaks_http1();
                    dialling.moved(chosen, flight.id);
                    return Ok(fresh(cluster, dialled, needs));
                }
                let begun = begin(cluster, flight.id, dialled, needs).await.inspect_err(failed)?;
                dialling.moved(chosen, flight.id);
                break (begun, false);
            }
        }
    };
    Ok(Attempt { line: Line::Http2(line), was_pooled })
}

/// Begins HTTP/2 on a new connection, which others use too, unless the endpoint is another by now.
async fn begin(
    cluster: &Cluster,
    id: EndpointId,
    dialled: Dialled,
    needs: Needs<'_>,
) -> Result<Box<Http2Line>> {
    let endpoint = cluster.endpoint(id);
    let begun = endpoint.shared.begin(dialled.transport, &needs, needs.http2).await;
    let line = begun.inspect_err(|_| {
        complain(cluster, id, &"it does not answer in HTTP/2: does it speak it?");
    })?;
    if endpoint.generation() != dialled.generation {
        endpoint.shared.clear();
    }
    Ok(line)
}

/// Dials; says whether HTTP/2 is to be spoken.
async fn dial_agreed(
    flight: &mut Flight<'_>,
    ask: &Ask,
    needs: Needs<'_>,
) -> Result<(Dialled, bool)> {
    let mut dialled = dial(flight, ask, needs).await?;
    let (cluster, id) = (flight.cluster(), flight.id);
    let must = cluster.model.protocol == Protocol::Http2;
    let mut is_http2 = must;
    if cluster.is_secure() {
        let agreed = Box::pin(secure(cluster, id, &mut dialled, needs)).await?;
        is_http2 = agreed == Some(tls::Alpn::Http2);
    }
    if must && !is_http2 {
        let why = &"it does not agree on HTTP/2 (ALPN), which protocol asks for";
        complain(cluster, id, why);
        return Err(Kind::UpstreamTls);
    }
    cluster.reached(id);
    Ok((dialled, is_http2))
}

/// Encrypts a new connection: the endpoint must prove its name before a request is written.
async fn secure(
    cluster: &Cluster,
    id: EndpointId,
    dialled: &mut Dialled,
    needs: Needs<'_>,
) -> Result<Option<tls::Alpn>> {
    let Dialled { transport, peer, .. } = dialled;
    let (Some(tls), Some(name)) = (cluster.tls(), &cluster.endpoint(id).name) else {
        return Err(Kind::UpstreamTls);
    };
    let now = monotonic();
    let period = u32::try_from(millis(needs.timeouts.connect)).unwrap_or(u32::MAX);
    if let Some(version) = cluster.model.proxy_protocol {
        let mut buffer = needs.means.buffers.take(Size::Small);
        buffer.append(&preface(version, needs.client, peer));
        let (sent, buffer) = transport.send_frames(buffer, period).await;
        needs.means.buffers.give(buffer);
        sent.map_err(|_| Kind::UpstreamTls)?;
    }
    transport.read_by(now.after(needs.timeouts.connect));
    let means = Means { period, ..needs.means };
    let tell_why = |why: &dyn std::fmt::Display| {
        complain(cluster, id, &format_args!("no secure connection: {why}"));
    };
    let socket = transport.socket();
    let shaken = handshake::connect(socket, &tls, name.clone(), means, tell_why).await;
    transport.read_by(Moment::NEVER);
    let (agreed, channel) = shaken?;
    transport.secure(channel);
    Ok(agreed)
}

/// Tells an operator what is wrong with an endpoint, now and then.
pub fn complain(cluster: &Cluster, id: EndpointId, why: &dyn std::fmt::Display) {
    if cluster.endpoint(id).take_complaint(monotonic()) {
        let (cluster, address) = (&cluster.model.name, cluster.text(id));
        notice::warn(format_args!("cluster \"{cluster}\": endpoint {address}: {why}"));
    }
}

/// What follows when an answer's body did not end as it should: the operator is told what exactly was wrong, and the
/// endpoint is held to account for it, if it is to `blame`.
pub fn body_failed(cluster: &Cluster, id: EndpointId, detail: Option<Detail>, blame: Option<Kind>) {
    if let Some(detail) = detail {
        complain(cluster, id, &detail);
    }
    if let Some(kind) = blame {
        cluster.failed(id, kind);
    }
}

fn preface(version: ProxyHeader, client: SocketAddr, peer: &Peer) -> Vec<u8> {
    let target = match peer {
        Peer::Socket(address) => *address,
        Peer::Unix(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let version = match version {
        ProxyHeader::V1 => proxy_protocol::ProxyVersion::V1,
        ProxyHeader::V2 => proxy_protocol::ProxyVersion::V2,
    };
    proxy_protocol::write(version, client, target)
}
