//! Makes the plan that shards run from a configuration, and carries over what is known from the
//! plan before it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::balance::SharedLoads;
use crate::balance::places::Places;
use crate::base::id::{ClusterId, EndpointId, ListenerId};
use crate::base::limits::CACHE_MAILBOX;
use crate::base::random::Random;
use crate::cache::ledger::Ledger;
use crate::config::cache::Cache;
use crate::config::model::{Address, Balance, Cluster, Config};
use crate::filter::Chain;
use crate::health::HealthTable;
use crate::net::disk::{self, DiskHandle};
use crate::net::notifier::Notifier;
use crate::net::runtime::is_under_test;
use crate::net::span_export::SpanExport;
use crate::net::{mailbox, notice};
use crate::route::Router;
use crate::shard::Plan;
use crate::shard::cache_handle::{CacheMessage, Posts};
use crate::shard::command::Command;
use crate::shard::secrets::Secrets;
use crate::upstream::cluster::ClusterShared;
use crate::upstream::pending_queue::Turns;
use crate::upstream::sticky::Seal;

/// What stays the same as long as the process lives.
pub(super) struct ProcessFrame {
    pub(super) name: Box<str>,
    pub(super) notifiers: Arc<[Notifier]>,
    beats: Arc<[AtomicU64]>,
    ledger: Arc<Ledger>,
    posts: Posts,
    disk: Option<DiskHandle>,
    /// By shard: kept here, so that a worker can be started again.
    boxes: Vec<mailbox::Receiver<CacheMessage>>,
    /// Seals sticky cookies where the configuration has no key for them.
    key: [u8; 32],
}

impl ProcessFrame {
    /// For so many shards.
    pub(super) fn new(name: Box<str>, shards: usize, cache: &Cache) -> Result<Self, String> {
        let notifiers: Result<Arc<[Notifier]>, _> = (0..shards).map(|_| Notifier::new()).collect();
        let notifiers =
            notifiers.map_err(|error| format!("no descriptor for a notifier: {error}"))?;
        let mut key = [0; 32];
        let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key));
        random.map_err(|error| format!("no key for sticky cookies: /dev/urandom: {error}"))?;
        let pairs: Result<Vec<_>, _> =
            (0..shards).map(|_| mailbox::channel_of(CACHE_MAILBOX)).collect();
        let pairs = pairs.map_err(|error| format!("no descriptor for a mailbox: {error}"))?;
        let (posts, boxes): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let posts: Posts = posts.into();
        let (ledger, disk) = open_cache(cache, shards, &posts);
        let beats = (0..shards).map(|_| AtomicU64::default()).collect();
        Ok(Self { name, notifiers, beats, ledger, posts, disk, boxes, key })
    }

    /// A shard's end of its cache mailbox.
    pub(super) fn post(&self, shard: usize) -> mailbox::Receiver<CacheMessage> {
        self.boxes[shard].clone()
    }

    /// The plan. What is known of endpoints that were in the old one stays known.
    pub(super) fn plan(
        &self,
        config: Arc<Config>,
        secrets: Arc<Secrets>,
        places: &[Places],
        old: Option<KnownPlan<'_>>,
    ) -> Plan {
        let ids = (0..config.listeners.len()).filter_map(|at| u16::try_from(at).ok());
        let common = config.clusters.iter().zip(places).map(|(cluster, places)| {
            let old = old.and_then(|old| {
                let mut all = old.plan.config.clusters.iter().zip(&old.plan.common).zip(old.places);
                all.find(|((one, _), _)| one.name == cluster.name)
            });
            self.common(
                cluster,
                places,
                old.map(|((model, common), places)| (model, common, places)),
            )
        });
        let listeners = config.listeners.iter();
        Plan {
            listener_filters: listeners.map(|one| Chain::of_listener(&config, one)).collect(),
            route_filters: config.routes.iter().map(Chain::of_route).collect(),
            routers: ids.map(|id| Router::new(&config, ListenerId(id))).collect(),
            common: common.collect(),
            notifiers: Arc::clone(&self.notifiers),
            ledger: Arc::clone(&self.ledger),
            posts: Arc::clone(&self.posts),
            disk: self.disk.clone(),
            name: self.name.clone(),
            spans: spans(&config, old),
            shards: self.notifiers.len(),
            beats: Arc::clone(&self.beats),
            may_panic: is_under_test("panic"),
            config,
            secrets,
        }
    }

    fn common(&self, cluster: &Cluster, places: &Places, old: Option<Before<'_>>) -> ClusterShared {
        let turns = Arc::new(Turns::new(Arc::clone(&self.notifiers)));
        let places = places.clone();
        match old {
            Some((before, common, stood)) if before == cluster && stood.is_same(&places) => {
                ClusterShared { turns, places, ..common.clone() }
            }
            _ => ClusterShared {
                balance: SharedLoads::new(cluster),
                health: Arc::new(inherited(cluster, &places, old)),
                turns,
                seal: Seal::new(cluster, &self.key).map(Arc::new),
                places,
            },
        }
    }
}

/// Where spans go: there as before, if that is the same place.
fn spans(config: &Config, old: Option<KnownPlan<'_>>) -> Option<SpanExport> {
    let model = config.trace.as_ref()?;
    let same = old.filter(|old| old.plan.config.trace.as_ref() == Some(model));
    let kept = same.and_then(|old| old.plan.spans.clone());
    kept.or_else(|| SpanExport::start(model).map_err(notice::warn).ok())
}

/// The books of the cache, and its disk if it is to have one. Without its disk a cache is still a
/// cache: that is a warning, and no reason not to serve (exam Q03).
fn open_cache(cache: &Cache, shards: usize, posts: &Posts) -> (Arc<Ledger>, Option<DiskHandle>) {
    let opened = cache.disk.as_ref().and_then(|path| match disk::OpenedFolder::new(path) {
        Ok(opened) => Some(opened),
        Err(error) => {
            notice::warn(disk_fault(path, &error));
            None
        }
    });
    let seed = opened.as_ref().map_or_else(Random::seed_from_os, disk::OpenedFolder::seed);
    let ledger = Arc::new(Ledger::new(cache.memory, cache.object, shards, seed));
    let disk = opened.and_then(|opened| {
        let books = opened.books(cache.disk_size, shards);
        let posts = Arc::clone(posts);
        let tell = move |shard: usize, news| match posts[shard].send(CacheMessage::Disk(news)) {
            Err(CacheMessage::Disk(news)) => Err(news),
            _ => Ok(()),
        };
        let started = disk::start(opened, books, Arc::clone(&ledger), Box::new(tell));
        started.map_err(|error| notice::warn(format_args!("cache: no threads: {error}"))).ok()
    });
    (ledger, disk)
}

/// Why a folder is of no use to the cache.
pub(super) fn disk_fault(path: &Path, error: &std::io::Error) -> String {
    format!(
        "cache.disk {}: {error}; it must be a folder that this process may write in, and its own",
        path.display()
    )
}

fn inherited(cluster: &Cluster, places: &Places, old: Option<Before<'_>>) -> HealthTable {
    let table = HealthTable::new(cluster.endpoints.len());
    table.set_count(places.count(cluster));
    let Some((before, common, stood)) = old else { return table };
    for at in 0..cluster.endpoints.len() {
        if let Some(same) = same_endpoint((cluster, places, at), (before, stood)) {
            table.of(at).inherit(common.health.of(same));
        }
    }
    table
}

/// The places of a new configuration before its names are resolved: addresses stay where they stand in
/// clusters that have not changed.
pub(super) fn carried(config: &Config, old: &KnownPlan<'_>) -> Vec<Places> {
    let stood = |cluster: &Cluster| {
        let mut all = old.plan.config.clusters.iter().zip(old.places);
        let same = all.find(|(one, _)| *one == cluster);
        same.map_or_else(|| Places::new(cluster), |(_, places)| places.clone())
    };
    config.clusters.iter().map(stood).collect()
}

/// A plan, and where the addresses of its names stand now.
#[derive(Clone, Copy)]
pub(super) struct KnownPlan<'a> {
    pub(super) plan: &'a Plan,
    pub(super) places: &'a [Places],
}

/// A cluster under the plan before.
type Before<'a> = (&'a Cluster, &'a ClusterShared, &'a Places);

/// The index of the same address, or of the same address of the same name, in another version of a cluster.
fn same_endpoint(
    (cluster, places, at): (&Cluster, &Places, usize),
    (other, stand): (&Cluster, &Places),
) -> Option<usize> {
    let one = cluster.endpoints.get(at)?;
    if places.is_empty(at) {
        return None;
    }
    let mut all = other.endpoints.iter().enumerate();
    let is_same = |number: usize| stand.address(number) == places.address(at);
    all.find(|(number, model)| model.address == one.address && is_same(*number))
        .map(|(same, _)| same)
}

/// Where an endpoint of one plan is in another: by the names of clusters and by addresses.
pub(super) fn find(
    (cluster, endpoint): (ClusterId, EndpointId),
    (old, stood): (&Config, &[Places]),
    (new, stand): (&Config, &[Places]),
) -> Option<(ClusterId, EndpointId)> {
    let at = usize::from(cluster.0);
    let before = (old.clusters.get(at)?, stood.get(at)?, usize::from(endpoint.0));
    let cluster = new.clusters.iter().position(|one| one.name == before.0.name)?;
    let endpoint = same_endpoint(before, (&new.clusters[cluster], &stand[cluster]))?;
    Some((ClusterId(u16::try_from(cluster).ok()?), EndpointId(u16::try_from(endpoint).ok()?)))
}

/// Where an endpoint that an operator knows by its address is in another configuration.
fn same(
    old: &Config,
    new: &Config,
    cluster: ClusterId,
    endpoints: &[EndpointId],
) -> Option<(ClusterId, Arc<[EndpointId]>)> {
    let before = &old.clusters[usize::from(cluster.0)];
    let address = &before.endpoints[usize::from(endpoints.first()?.0)].address;
    let (at, now) = (0..).zip(&new.clusters).find(|(_, one)| one.name == before.name)?;
    let endpoints = places_of(now, |one| *one == *address);
    (!endpoints.is_empty()).then_some((ClusterId(at), endpoints))
}

/// What was said of endpoints that there still are. What checks said of them goes only to clusters
/// that are still checked.
pub(super) fn translated(
    said: &[Command],
    (old, stood): (&Config, &[Places]),
    (new, stand): (&Config, &[Places]),
) -> Vec<Command> {
    let translate = |command: &Command| match command {
        Command::Judged { cluster, endpoint, verdict } => {
            let found = find((*cluster, *endpoint), (old, stood), (new, stand));
            let (cluster, endpoint) = found?;
            let is_checked = new.clusters[usize::from(cluster.0)].health.is_some();
            is_checked.then_some(Command::Judged { cluster, endpoint, verdict: *verdict })
        }
        Command::Assigned { cluster, endpoints, duty } => {
            let (cluster, endpoints) = same(old, new, *cluster, endpoints)?;
            Some(Command::Assigned { cluster, endpoints, duty: *duty })
        }
        Command::Weighed { cluster, endpoints, weight } => {
            let (cluster, endpoints) = same(old, new, *cluster, endpoints)?;
            // Its table stands.
            if new.clusters[usize::from(cluster.0)].balance == Balance::Maglev {
                return None;
            }
            Some(Command::Weighed { cluster, endpoints, weight: *weight })
        }
        Command::Leave => Some(Command::Leave),
        // The new plan comes with its own.
        Command::Secure { .. } | Command::Placed { .. } => None,
        Command::Adopt { .. }
        | Command::Purge { .. }
        | Command::Measure { .. }
        | Command::Recall { .. }
        | Command::Tap { .. }
        | Command::Accept
        | Command::Lend { .. }
        | Command::TakeBack { .. }
        | Command::Drain { .. } => None,
    };
    said.iter().filter_map(translate).collect()
}

/// All endpoints with such a configured address: one, or all places of a name.
pub(super) fn places_of(cluster: &Cluster, is: impl Fn(&Address) -> bool) -> Arc<[EndpointId]> {
    let all = (0..).map(EndpointId).zip(&cluster.endpoints);
    all.filter(|(_, one)| is(&one.address)).map(|(id, _)| id).collect()
}
