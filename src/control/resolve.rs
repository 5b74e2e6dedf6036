//! Resolves the names of endpoints on a thread of its own and again when their TTL is over.
//! Workers only ever see addresses. A name that stops resolving keeps its last addresses; one that
//! never did leaves its endpoint down, and nothing else.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::helper;
use crate::balance::places::Places;
use crate::base::id::{ClusterId, EndpointId};
use crate::base::limits::{ADDRESSES_MAX, NEWS};
use crate::base::limits::{FIRST_NAMES, TTL_LEAST, TTL_MOST};
use crate::config::model::{Address, Config};
use crate::net::dns::Dns;
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
struct WatchedName {
    cluster: ClusterId,
    endpoint: EndpointId,
    host: String,
    port: u16,
}

fn names(config: &Config) -> Vec<WatchedName> {
    let mut found = Vec::new();
    for (cluster, model) in (0_u16..).zip(&config.clusters) {
        for (endpoint, model) in (0_u16..).zip(&model.endpoints) {
            if let (Address::Name { host, port }, 0) = (&model.address, model.place) {
                let (cluster, endpoint) = (ClusterId(cluster), EndpointId(endpoint));
                found.push(WatchedName { cluster, endpoint, host: host.clone(), port: *port });
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
    let names: Vec<(WatchedName, Option<Arc<[SocketAddr]>>)> = names
        .into_iter()
        .map(|name| {
            let ips = known(&config.clusters[usize::from(name.cluster.0)].name, &name.host);
            let addresses = ips.map(|ips| -> Arc<[SocketAddr]> {
                ips.iter().map(|ip| SocketAddr::new(*ip, name.port)).collect()
            });
            let WatchedName { cluster, endpoint, .. } = name;
            told.extend(addresses.clone().map(|addresses| Resolution {
                cluster,
                endpoint,
                addresses,
            }));
            (name, addresses)
        })
        .collect();
    helper::start("resolver", "names cannot be resolved", move || {
        let dns = Arc::new(Dns::new(&servers));
        let keep = |one| keep_resolving(one, Arc::clone(&dns), sender.clone(), alive.clone());
        names.into_iter().map(keep).collect()
    });
    Resolver { news: receiver, told, _life: life }
}

/// Names that have no address yet.
#[must_use]
pub fn unknown(config: &Config, places: &[Places]) -> Vec<String> {
    let is_unknown = |name: &WatchedName| {
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

async fn keep_resolving(
    (name, mut told): (WatchedName, Option<Arc<[SocketAddr]>>),
    dns: Arc<Dns>,
    sender: Sender<Resolution>,
    alive: Weak<()>,
) {
    let mut retry = RETRY.0;
    let mut is_failing = false;
    while alive.strong_count() > 0 {
        let found = dns.lookup(&name.host, name.port).await;
        let wait = match found {
            Ok((mut addresses, ttl)) => {
                addresses.sort_unstable();
                addresses.dedup();
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
    name: &WatchedName,
    told: &mut Option<Arc<[SocketAddr]>>,
    addresses: Arc<[SocketAddr]>,
    sender: &Sender<Resolution>,
) {
    if told.as_ref() == Some(&addresses) {
        return;
    }
    *told = Some(Arc::clone(&addresses));
    let WatchedName { cluster, endpoint, .. } = *name;
    // The coordinator ends with the process.
    let _ = sender.send(Resolution { cluster, endpoint, addresses });
}
