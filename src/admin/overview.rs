//! How everything is: plain facts that the coordinator takes down, and the JSON that is made of them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::config::model::Balance;
use crate::observe::stats::{BOUNDS, Classes, Histogram, Totals};
use crate::shard::command::Measured;

/// The process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Our name in Via.
    pub name: String,
    /// Seconds since the start.
    pub uptime: u64,
    pub workers: usize,
    /// Those that stand still.
    pub stalled: Vec<usize>,
    /// How often one of them did.
    pub stalls: u64,
    /// Lines of the access log that could not be written.
    pub lost_lines: u64,
    /// Spans that no collector took.
    pub lost_spans: u64,
    /// It serves what it has, and ends.
    pub is_draining: bool,
    /// Configurations that were taken, and refused, since the start.
    pub reloads: (u64, u64),
    /// The last one was refused.
    pub was_refused: bool,
    /// Octets that are allocated, and the bound; zero for none.
    pub memory: (u64, u64),
    /// Octets that the cache holds, and its budget.
    pub cache: (u64, u64),
    pub listeners: Vec<ListenerView>,
    pub routes: Vec<RouteView>,
    pub clusters: Vec<ClusterView>,
    pub certificates: Vec<CertificateView>,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenerView {
    pub name: String,
    pub scheme: &'static str,
    pub address: SocketAddr,
}

/// A route.
#[derive(Clone, Debug)]
pub struct RouteView {
    pub name: String,
    /// Line in its file, and which file if it is an included one.
    pub line: usize,
    pub file: Option<String>,
    pub cluster: Option<String>,
    pub is_cached: bool,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    pub name: String,
    pub balance: &'static str,
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// As it is configured.
    pub address: String,
    /// What its name resolves to, if it is one.
    pub resolved: Option<SocketAddr>,
    pub weight: u32,
    /// What the operator wants of it: `ready`, `drain` or `down`.
    pub duty: &'static str,
    /// What active checks say: `up`, `down` or `unknown`.
    pub checks: &'static str,
    /// What requests have met: `in`, or why it is out.
    pub passive: &'static str,
    /// Milliseconds until it is asked again, if it is out.
    pub back_in: u64,
    /// Requests under way, of all cores.
    pub in_flight: u32,
}

/// A certificate of a listener.
#[derive(Clone, Debug)]
pub struct CertificateView {
    pub listener: String,
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub end: i64,
    /// Days until then; negative if it has.
    pub days: i64,
}

impl EndpointView {
    /// Requests are sent there.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.duty == "ready" && self.checks != "down" && self.passive == "in"
    }
}

impl EndpointView {
    /// Whether it is asked, and if not, why not.
    #[must_use]
    pub fn state(&self) -> String {
        match (self.duty, self.checks, self.passive) {
            ("drain", ..) => "draining, by order".to_owned(),
            ("down", ..) => "down, by order".to_owned(),
            (_, "down", _) => "down: its checks fail".to_owned(),
            (_, _, "in") => "up".to_owned(),
            (_, _, why) => {
                let seconds = self.back_in as f64 / 1e3;
                format!("out ({why}), asked again in {seconds:.1} s")
            }
        }
    }
}

/// What an algorithm is called in the configuration.
#[must_use]
pub fn balance_name(balance: Balance) -> &'static str {
    Balance::NAMES.iter().find(|(_, one)| *one == balance).map_or("", |(name, _)| name)
}

impl Overview {
    /// How many workers can be expected to answer.
    #[must_use]
    pub fn moving(&self) -> usize {
        self.workers.saturating_sub(self.stalled.len())
    }

    /// All of it.
    #[must_use]
    pub fn status(&self) -> Value {
        let Self { name, uptime, workers, .. } = self;
        json!({
            "name": name,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": uptime,
            "draining": self.is_draining,
            "workers": workers,
            "stalled_workers": self.stalled,
            "reloads": { "taken": self.reloads.0, "refused": self.reloads.1 },
            "memory": { "bytes": self.memory.0, "bound": self.memory.1 },
            "cache": self.cache_json(),
            "listeners": self.listeners_json(),
            "clusters": self.clusters_json(),
            "certificates": self.certificates_json(),
        })
    }

    /// What is served, and where it goes.
    #[must_use]
    pub fn config(&self) -> Value {
        let routes = self.routes.iter().map(|one| {
            json!({
                "name": one.name,
                "line": one.line,
                "file": one.file,
                "cluster": one.cluster,
                "cached": one.is_cached,
            })
        });
        json!({
            "listeners": self.listeners_json(),
            "routes": routes.collect::<Value>(),
            "clusters": self.clusters_json(),
        })
    }

    /// What was measured since the start, by route and endpoint.
    #[must_use]
    pub fn stats(&self, measured: &[Measured]) -> Value {
        let mut totals = Totals::default();
        measured.iter().for_each(|one| totals.merge(&one.totals));
        let mut all = Histogram::default();
        totals.routes.values().for_each(|one| all.merge(&one.took));
        let routes = totals.routes.iter().map(|(name, one)| {
            json!({
                "route": name,
                "requests": by_class(&one.classes),
                "bytes_in": one.bytes_in,
                "bytes_out": one.bytes_out,
                "cache_hits": one.cache[0],
                "cache_asked": one.cache.iter().sum::<u64>(),
                "duration_ms": percentiles(&one.took),
            })
        });
        let endpoints = totals.endpoints.iter().map(|((cluster, address), one)| {
            json!({
                "cluster": cluster,
                "endpoint": address,
                "requests": by_class(&one.classes),
                "failures": one.failures,
                "upstream_ms": percentiles(&one.took),
            })
        });
        json!({
            "uptime_seconds": self.uptime,
            "connections": measured.iter().map(|one| one.inside).sum::<usize>(),
            "exchanges": totals.counters.exchanges,
            "failures": totals.counters.failures,
            "retries": totals.counters.retries,
            "histogram": {
                "bounds_ms": BOUNDS.map(|bound| f64::from(bound) / 1e3),
                "counts": all.buckets,
            },
            "routes": routes.collect::<Value>(),
            "endpoints": endpoints.collect::<Value>(),
        })
    }

    /// The cache's memory.
    #[must_use]
    pub fn cache_json(&self) -> Value {
        json!({ "bytes": self.cache.0, "budget": self.cache.1 })
    }

    fn listeners_json(&self) -> Value {
        let one = |one: &ListenerView| json!({ "name": one.name, "address": format!("{}://{}", one.scheme, one.address) });
        self.listeners.iter().map(one).collect()
    }

    fn certificates_json(&self) -> Value {
        let one = |one: &CertificateView| json!({ "listener": one.listener, "names": one.names, "days_left": one.days });
        self.certificates.iter().map(one).collect()
    }

    /// Clusters with their endpoints.
    #[must_use]
    pub fn clusters_json(&self) -> Value {
        let endpoint = |one: &EndpointView| {
            json!({
                "address": one.address,
                "resolved": one.resolved.map(|address| address.to_string()),
                "available": one.is_available(),
                "state": one.state(),
                "weight": one.weight,
                "duty": one.duty,
                "checks": one.checks,
                "passive": one.passive,
                "back_in_ms": one.back_in,
                "in_flight": one.in_flight,
            })
        };
        let cluster = |one: &ClusterView| {
            json!({
                "name": one.name,
                "balance": one.balance,
                "endpoints": one.endpoints.iter().map(endpoint).collect::<Value>(),
            })
        };
        self.clusters.iter().map(cluster).collect()
    }
}

fn by_class(classes: &Classes) -> Value {
    json!({
        "all": classes.iter().sum::<u64>(),
        "2xx": classes[2],
        "3xx": classes[3],
        "4xx": classes[4],
        "5xx": classes[5],
    })
}

/// In milliseconds; estimates between the bounds of buckets.
fn percentiles(all: &Histogram) -> Value {
    let millis = |share| (all.quantile(share).as_secs_f64() * 1e6).round() / 1e3;
    json!({ "p50": millis(0.5), "p90": millis(0.9), "p99": millis(0.99) })
}
