//! Asks DNS for the addresses of a name. Runs on the resolver's tokio thread, never on a worker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::base::clock;
use crate::base::limits::TTL_UNKNOWN;

/// Asks these servers, or those of the system; where there is no DNS to be had, the system's own resolver.
pub struct Dns(Option<TokioResolver>);

impl Dns {
    /// Asks nothing yet. Without servers, those of the system are asked.
    #[must_use]
    pub fn new(servers: &[SocketAddr]) -> Self {
        let built = if servers.is_empty() {
            TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build)
        } else {
            let servers = servers.iter().map(|server| {
                let mut one = NameServerConfig::udp_and_tcp(server.ip());
                one.connections.iter_mut().for_each(|connection| connection.port = server.port());
                one
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
        };
        Self(built.ok())
    }

    /// The addresses of a name, as far as this machine has a way to them, and how long they are good.
    ///
    /// # Errors
    /// A sentence that says why there are none.
    pub async fn lookup(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(Vec<SocketAddr>, Duration), String> {
        let Some(resolver) = &self.0 else {
            // This thread serves no client: blocking is fine here.
            let found = (host, port).to_socket_addrs().map_err(|error| error.to_string())?;
            return Ok((reachable(found.collect()), TTL_UNKNOWN));
        };
        let found = resolver.lookup_ip(host).await.map_err(|error| {
            if error.is_no_records_found() {
                "no such name, or it has no address".to_owned()
            } else {
                format!("its DNS server gave no answer ({error})")
            }
        })?;
        let addresses: Vec<SocketAddr> =
            found.iter().map(|ip: IpAddr| SocketAddr::new(ip, port)).collect();
        if addresses.is_empty() {
            return Err("it has no address".to_owned());
        }
        Ok((reachable(addresses), clock::until(found.valid_until())))
    }
}

/// Leaves out addresses that this machine has no way to, those of IPv6 on most, as long as others are left: they
/// would count as endpoints that are down.
fn reachable(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let has_way = |address: &SocketAddr| {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Nothing is sent by this.
        UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
    };
    if addresses.iter().any(has_way) {
        addresses.retain(has_way);
    }
    addresses
}
