//! One try at an endpoint: a connection from the pool, or a new one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use super::Cluster;
use super::dial::dial;
use super::http1::Connection;
use super::http2::Found;
use crate::base::clock::{Moment, millis, monotonic};
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::config::model::{self, Protocol, ProxyHeader};
use crate::config::tls;
use crate::net::alarm::Alarms;
use crate::net::buffer::Size;
use crate::net::connect::Peer;
use crate::net::deadline::Class;
use crate::net::http2::strand::Strand;
use crate::net::inbound::Inbound;
use crate::net::notice;
use crate::net::stream::Stream;
use crate::net::sweep::Sweep;
use crate::net::tls::handshake::{self, Means};
use crate::wire::proxy_protocol;

/// A connection to send a request on.
#[derive(Debug)]
pub struct Attempt {
    /// The endpoint that took the connection: another address of the same name, where the one that was
    /// chosen did not.
    pub id: EndpointId,
    pub connection: Box<Connection>,
    /// It served others before.
    pub was_pooled: bool,
}

/// What a try needs to know.
#[derive(Clone, Copy)]
pub struct Needs<'a> {
    pub sweep: &'a Rc<Sweep>,
    pub alarms: &'a Rc<Alarms>,
    /// For a TLS handshake.
    pub means: Means<'a>,
    pub http2: &'a model::Http2,
    pub now: Moment,
    pub timeouts: &'a model::Timeouts,
    /// Who asks: told to the endpoint if the cluster says so.
    pub client: SocketAddr,
    /// A pooled connection has just failed; only a new one will do.
    pub fresh: bool,
}

/// Gets a connection.
///
/// # Errors
/// Why none could be opened.
pub async fn open(cluster: &Cluster, id: EndpointId, needs: Needs<'_>) -> Result<Attempt> {
    let endpoint = cluster.endpoint(id);
    if cluster.model.protocol != Protocol::Http1 {
        return Box::pin(open_shared(cluster, id, needs)).await;
    }
    let identity = cluster.model.proxy_protocol.map(|_| needs.client);
    if !needs.fresh
        && let Some(connection) = endpoint.pool.take(identity, needs.now, &cluster.model.pool)
    {
        return Ok(Attempt { id, connection, was_pooled: true });
    }
    let mut dialled = dial(cluster, id, needs).await?;
    if cluster.is_secure() {
        Box::pin(secure(cluster, &mut dialled, needs)).await?;
    }
    cluster.reached(dialled.id);
    Ok(fresh(cluster, dialled, needs))
}

/// A new connection, of the endpoint as it was when it was dialled.
pub struct Dialled {
    pub id: EndpointId,
    pub stream: Stream,
    pub peer: Peer,
    pub generation: u32,
}

/// A connection that nobody has used.
fn fresh(cluster: &Cluster, dialled: Dialled, needs: Needs<'_>) -> Attempt {
    let Dialled { id, stream, peer, generation } = dialled;
    let identity = cluster.model.proxy_protocol.map(|_| needs.client);
    let preface = match cluster.model.proxy_protocol {
        // In front of TLS it has gone out already.
        Some(version) if !cluster.is_secure() => preface(version, needs.client, &peer),
        _ => Vec::new(),
    };
    let born = needs.now;
    let inbound = Inbound::default();
    let connection = Connection { stream, inbound, born, generation, identity, preface };
    Attempt { id, connection: Box::new(connection), was_pooled: false }
}

/// A stream of a connection that is shared, where the endpoint speaks HTTP/2; else a connection.
async fn open_shared(cluster: &Cluster, id: EndpointId, needs: Needs<'_>) -> Result<Attempt> {
    let (endpoint, model) = (cluster.endpoint(id), &cluster.model);
    // Without TLS nobody can choose.
    let is_http1 = model.protocol == Protocol::Auto && !cluster.is_secure();
    let found =
        if is_http1 { Found::Http1 } else { endpoint.lines.find(&needs, &model.pool).await? };
    let (id, strand, was_pooled) = match found {
        Found::Strand(strand) => (id, *strand, true),
        Found::Http1 => {
            let identity = model.proxy_protocol.map(|_| needs.client);
            let pooled = if needs.fresh {
                None
            } else {
                endpoint.pool.take(identity, needs.now, &model.pool)
            };
            if let Some(connection) = pooled {
                return Ok(Attempt { id, connection, was_pooled: true });
            }
            let (dialled, agreed) = dial_agreed(cluster, id, needs).await?;
            let id = dialled.id;
            cluster.reached(id);
            if !agreed {
                return Ok(fresh(cluster, dialled, needs));
            }
            // It has learnt HTTP/2 since.
            cluster.endpoint(id).lines.clear();
            (id, begin(cluster, dialled, needs).await?, false)
        }
        Found::Dial(dialling) => {
            let dialled = dial_agreed(cluster, id, needs).await;
            let (dialled, agreed) = dialled.inspect_err(|kind| dialling.failed(*kind))?;
            if dialled.id != id {
                // It took another address: requests that wait for this one find another too.
                dialling.failed(Kind::ConnectTimeout);
            }
            let id = dialled.id;
            cluster.reached(id);
            if !agreed {
                cluster.endpoint(id).lines.speaks_http1();
                return Ok(fresh(cluster, dialled, needs));
            }
            let begun = begin(cluster, dialled, needs).await;
            (id, begun.inspect_err(|kind| dialling.failed(*kind))?, false)
        }
    };
    let stream = Stream::strand(strand, needs.sweep, Class::Upstream);
    let peer = Peer::Unix(PathBuf::new());
    let dialled = Dialled { id, stream, peer, generation: cluster.endpoint(id).generation() };
    Ok(Attempt { was_pooled, ..fresh(cluster, dialled, needs) })
}

/// Begins HTTP/2 on a new connection, which others use too, unless the endpoint is another by now.
async fn begin(cluster: &Cluster, dialled: Dialled, needs: Needs<'_>) -> Result<Strand> {
    let endpoint = cluster.endpoint(dialled.id);
    let begun = endpoint.lines.begin(dialled.stream, &needs, needs.http2).await;
    let strand = begun.inspect_err(|_| {
        complain(cluster, dialled.id, &"it does not answer in HTTP/2: does it speak it?");
    })?;
    if endpoint.generation() != dialled.generation {
        endpoint.lines.clear();
    }
    Ok(strand)
}

/// Dials; says whether HTTP/2 is to be spoken.
async fn dial_agreed(
    cluster: &Cluster,
    id: EndpointId,
    needs: Needs<'_>,
) -> Result<(Dialled, bool)> {
    let mut dialled = dial(cluster, id, needs).await?;
    let must = cluster.model.protocol == Protocol::Http2;
    if !cluster.is_secure() {
        return Ok((dialled, must));
    }
    let agreed = Box::pin(secure(cluster, &mut dialled, needs)).await?;
    let is_http2 = agreed == Some(tls::Protocol::Http2);
    if must && !is_http2 {
        let why = &"it does not agree on HTTP/2 (ALPN), which protocol asks for";
        complain(cluster, dialled.id, why);
        return Err(Kind::UpstreamTls);
    }
    Ok((dialled, is_http2))
}

/// Encrypts a new connection: the endpoint must be who it should be before it is told anything.
async fn secure(
    cluster: &Cluster,
    dialled: &mut Dialled,
    needs: Needs<'_>,
) -> Result<Option<tls::Protocol>> {
    let Dialled { id, stream, peer, .. } = dialled;
    let (Some(tls), Some(name)) = (cluster.tls(), &cluster.endpoint(*id).name) else {
        return Err(Kind::UpstreamTls);
    };
    let now = monotonic();
    let period = u32::try_from(millis(needs.timeouts.connect)).unwrap_or(u32::MAX);
    if let Some(version) = cluster.model.proxy_protocol {
        let mut buffer = needs.means.buffers.take(Size::Small);
        buffer.append(&preface(version, needs.client, peer));
        let (sent, buffer) = stream.send_frames(buffer, now, period).await;
        needs.means.buffers.give(buffer);
        sent.map_err(|_| Kind::UpstreamTls)?;
    }
    stream.read_by(now.after(needs.timeouts.connect));
    let means = Means { now, period, ..needs.means };
    let tell_why = |why: &dyn std::fmt::Display| {
        complain(cluster, *id, &format_args!("no secure connection: {why}"));
    };
    let shaken = handshake::connect(stream, &tls, name.clone(), means, tell_why).await;
    stream.read_by(Moment::NEVER);
    shaken
}

/// Tells an operator what is wrong with an endpoint, now and then.
pub fn complain(cluster: &Cluster, id: EndpointId, why: &dyn std::fmt::Display) {
    if cluster.endpoint(id).may_complain(monotonic()) {
        let (cluster, address) = (&cluster.model.name, cluster.text(id));
        notice::warn(format_args!("cluster \"{cluster}\": endpoint {address}: {why}"));
    }
}

fn preface(version: ProxyHeader, client: SocketAddr, peer: &Peer) -> Vec<u8> {
    let target = match peer {
        Peer::Socket(address) => *address,
        Peer::Unix(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let version = match version {
        ProxyHeader::V1 => proxy_protocol::Version::V1,
        ProxyHeader::V2 => proxy_protocol::Version::V2,
    };
    proxy_protocol::write(version, client, target)
}
