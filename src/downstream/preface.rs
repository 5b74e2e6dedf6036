//! The PROXY header that a trusted proxy puts in front of everything else.

use std::net::SocketAddr;

use crate::base::error::{Kind, Result};
use crate::base::id::ListenerId;
use crate::net::inbound::Inbound;
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::shard::Shard;
use crate::wire::proxy_protocol::{self, ReadHeader};

/// Reads one, where the listener wants it and the peer may say it.
///
/// # Errors
/// It is missing, malformed, or did not come in time.
pub async fn read(
    shard: &Shard,
    transport: &Transport,
    inbound: &mut Inbound,
    peer: SocketAddr,
    listener: ListenerId,
) -> Result<Option<ReadHeader>> {
    let listener = shard.listener(listener);
    if !listener.proxy_protocol || !listener.trusts(peer.ip()) {
        return Ok(None);
    }
    loop {
        match proxy_protocol::parse(inbound.data()) {
            Ok(Some(header)) => {
                inbound.consume(header.len, &shard.buffers);
                return Ok(Some(header));
            }
            Ok(None) => {}
            Err(_) => return Err(Kind::ProxyProtocol),
        }
        match inbound.fill(transport, &shard.buffers, Size::Small).await {
            Ok(1..) => {}
            _ => return Err(Kind::ProxyProtocol),
        }
    }
}
