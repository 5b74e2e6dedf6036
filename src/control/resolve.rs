//! Resolves the names of endpoints on a thread of its own and again when their TTL is over.
//! Workers only ever see addresses. A name that stops resolving keeps its last addresses; one that
//! never did leaves its endpoint down, and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::helper;
use crate::balance::places::Places;
use crate::base::clock;
use crate::base::id::{ClusterId, EndpointId};
use crate::base::limits::{ADDRESSES_MAX, NEWS};
use crate::base::limits::{FIRST_NAMES, TTL_LEAST, TTL_MOST, TTL_UNKNOWN};
use crate::config::model::{Address, Config};
use crate::net::notice;

/// Wait after a failure, doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What a name resolves to.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub cluster: ClusterId,
    pub endpoint: EndpointId,
    /// Never empty, but for the first failure of all.
    pub addresses: Arc<[SocketAddr]>,
}

impl Resolution {
    /// Lets the addresses take their places.
    pub fn place(&self, config: &Config, places: &mut [Places]) {
        let at = usize::from(self.cluster.0);
        // A name that does not resolve just now has the addresses that it had.
        if !self.addresses.is_empty() {
            places[at] = places[at].resolved(&config.clusters[at], self.endpoint, &self.addresses);
        }
    }
}

#[derive(Clone, Debug)]
struct Name {
    cluster: ClusterId,
    endpoint: EndpointId,
    host: String,
    port: u16,
}

fn names(config: &Config) -> Vec<Name> {
    let mut found = Vec::new();
    for (cluster, model) in (0_u16..).zip(&config.clusters) {
        for (endpoint, model) in (0_u16..).zip(&model.endpoints) {
            if let (Address::Name { host, port }, 0) = (&model.address, model.place) {
                let (cluster, endpoint) = (ClusterId(cluster), EndpointId(endpoint));
                found.push(Name { cluster, endpoint, host: host.clone(), port: *port });
            }
        }
    }
    found
}

/// Resolving goes on as long as this lives.
pub struct Resolver {
    pub news: Receiver<Resolution>,
    /// What was known of names before.
    pub told: Vec<Resolution>,
    _life: Arc<()>,
}

/// Starts resolving. Without names there is no thread.
#[must_use]
pub fn start(config: &Config, known: &dyn Fn(&str, &str) -> Option<Vec<IpAddr>>) -> Resolver {
    let life = Arc::new(());
    let (sender, receiver) = crossbeam_channel::bounded(NEWS);
    let names = names(config);
    if names.is_empty() {
        return Resolver { news: crossbeam_channel::never(), told: Vec::new(), _life: life };
    }
    let servers = config.dns_servers.clone();
    let alive = Arc::downgrade(&life);
    let mut told = Vec::new();
    let names: Vec<(Name, Option<Arc<[SocketAddr]>>)> = names
        .into_iter()
        .map(|name| {
            let ips = known(&config.clusters[usize::from(name.cluster.0)].name, &name.host);
            let addresses = ips.map(|ips| -> Arc<[SocketAddr]> {
                ips.iter().map(|ip| SocketAddr::new(*ip, name.port)).collect()
            });
            let Name { cluster, endpoint, .. } = name;
            told.extend(addresses.clone().map(|addresses| Resolution {
                cluster,
                endpoint,
                addresses,
            }));
            (name, addresses)
        })
        .collect();
    helper::start("resolver", "names cannot be resolved", move || {
        let resolver = resolver(&servers).map(Arc::new);
        let keep = |one| keep_resolving(one, resolver.clone(), sender.clone(), alive.clone());
        names.into_iter().map(keep).collect()
    });
    Resolver { news: receiver, told, _life: life }
}

/// Names that have no address yet.
#[must_use]
pub fn unknown(config: &Config, places: &[Places]) -> Vec<String> {
    let is_unknown = |name: &Name| {
        let at = usize::from(name.cluster.0);
        let all = 0..config.clusters[at].endpoints.len();
        let own = &config.clusters[at].endpoints[usize::from(name.endpoint.0)].address;
        let mut own = all.filter(|one| config.clusters[at].endpoints[*one].address == *own);
        own.all(|one| places[at].is_empty(one))
    };
    let mut found: Vec<String> =
        names(config).into_iter().filter(is_unknown).map(|name| name.host).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Waits until every name of which nothing was known was tried once, or the time is up.
pub fn first(resolver: &Resolver, config: &Config, mut tell: impl FnMut(&Resolution)) {
    resolver.told.iter().for_each(&mut tell);
    let end = crossbeam_channel::after(FIRST_NAMES);
    for _ in resolver.told.len()..names(config).len() {
        crossbeam_channel::select! {
            recv(resolver.news) -> found => if let Ok(found) = found { tell(&found) },
            recv(end) -> _ => return,
        }
    }
}

/// `None` if there is no DNS to be had: then the system's own resolver is asked.
fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
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
    built.ok()
}

async fn keep_resolving(
    (name, mut told): (Name, Option<Arc<[SocketAddr]>>),
    resolver: Option<Arc<TokioResolver>>,
    sender: Sender<Resolution>,
    alive: Weak<()>,
) {
    let mut retry = RETRY.0;
    let mut is_failing = false;
    while alive.strong_count() > 0 {
        let found = lookup(&name, resolver.as_deref()).await;
        let wait = match found {
            Ok((mut addresses, ttl)) => {
                addresses.sort_unstable();
                addresses.dedup();
                keep_reachable(&mut addresses);
                addresses.truncate(ADDRESSES_MAX);
                if is_failing {
                    notice::note(format_args!("name {} resolves again", name.host));
                }
                (is_failing, retry) = (false, RETRY.0);
                tell(&name, &mut told, addresses.into(), &sender);
                ttl.clamp(TTL_LEAST, TTL_MOST)
            }
            Err(message) => {
                if !is_failing {
                    let state = if told.is_some() {
                        "its last addresses stay"
                    } else {
                        "requests for it get 503"
                    };
                    notice::warn(format_args!("name {}: {message}; {state}", name.host));
                }
                is_failing = true;
                if told.is_none() {
                    tell(&name, &mut None, Arc::new([]), &sender);
                }
                let wait = retry;
                retry = (retry * 2).min(RETRY.1);
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Tells the coordinator, if there is news.
fn tell(
    name: &Name,
    told: &mut Option<Arc<[SocketAddr]>>,
    addresses: Arc<[SocketAddr]>,
    sender: &Sender<Resolution>,
) {
    if told.as_ref() == Some(&addresses) {
        return;
    }
    *told = Some(Arc::clone(&addresses));
    let Name { cluster, endpoint, .. } = *name;
    // The coordinator ends with the process.
    let _ = sender.send(Resolution { cluster, endpoint, addresses });
}

async fn lookup(
    name: &Name,
    resolver: Option<&TokioResolver>,
) -> Result<(Vec<SocketAddr>, Duration), String> {
    let Some(resolver) = resolver else {
        // This thread serves nobody: blocking is fine here.
        let found = (name.host.as_str(), name.port).to_socket_addrs();
        return found
            .map(|found| (found.collect(), TTL_UNKNOWN))
            .map_err(|error| error.to_string());
    };
    let found = resolver.lookup_ip(name.host.as_str()).await.map_err(|error| {
        if error.is_no_records_found() {
            "no such name, or it has no address".to_owned()
        } else {
            format!("its DNS server gave no answer ({error})")
        }
    })?;
    let addresses: Vec<SocketAddr> =
        found.iter().map(|ip: IpAddr| SocketAddr::new(ip, name.port)).collect();
    if addresses.is_empty() {
        return Err("it has no address".to_owned());
    }
    Ok((addresses, clock::until(found.valid_until())))
}

/// Leaves out addresses that this machine has no way to, those of IPv6 on most, as long as others are left: they
/// would count as endpoints that are down.
fn keep_reachable(addresses: &mut Vec<SocketAddr>) {
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
}
