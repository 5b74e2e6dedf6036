//! What one shard has measured, by listener, route and endpoint. Plain numbers that only their shard changes; the
//! coordinator gets copies, which are added up by name.

use std::collections::BTreeMap;
use std::time::Duration;

use super::counters::Counters;
use super::record::Record;
use crate::base::clock::Micros;
use crate::config::model::Config;

/// Upper bounds of the buckets of a histogram, in microseconds. One more bucket has what took longer.
pub const BOUNDS: [u32; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Words of Cache-Status, as far as they are counted.
pub const CACHE_WORDS: [&str; 10] = [
    "hit",
    "collapsed",
    "bypass",
    "method",
    "uri-miss",
    "vary-miss",
    "request",
    "stale",
    "partial",
    "none",
];

/// How long things took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell into each bucket, and into none of them.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Microseconds in all.
    pub sum: u64,
}

impl Histogram {
    /// One more.
    pub fn add(&mut self, micros: Micros) {
        self.buckets[BOUNDS.partition_point(|bound| u64::from(*bound) < micros)] += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    /// Another shard's.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += other;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound under which this share of all was, by straight lines between the bounds; zero if there were none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = share * self.count() as f64;
        let (mut below, mut floor) = (0.0, 0.0);
        for (at, count) in self.buckets.iter().enumerate() {
            let (count, last) = (*count as f64, f64::from(BOUNDS[BOUNDS.len() - 1]));
            let bound = BOUNDS.get(at).map_or(last, |bound| f64::from(*bound));
            if count > 0.0 && below + count >= wanted {
                let part = ((wanted - below) / count).clamp(0.0, 1.0);
                return Duration::from_secs_f64((floor + part * (bound - floor)) / 1e6);
            }
            (below, floor) = (below + count, bound);
        }
        Duration::ZERO
    }
}

/// Requests by the class of their status: none, 1xx to 5xx.
pub type Classes = [u64; 6];

fn class(status: u16) -> usize {
    usize::from(status / 100).min(5)
}

/// What was measured of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteStats {
    pub classes: Classes,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Whole exchanges.
    pub took: Histogram,
    /// By `CACHE_WORDS`.
    pub cache: [u64; CACHE_WORDS.len()],
}

/// What was measured of an endpoint: exchanges whose last try was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    pub classes: Classes,
    /// Exchanges that failed by a fault of the endpoint's.
    pub failures: u64,
    /// From the choice of the endpoint to the head of its answer.
    pub took: Histogram,
}

/// What one shard has measured.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    listeners: Vec<Classes>,
    routes: Vec<RouteStats>,
    endpoints: Vec<Vec<EndpointStats>>,
    /// By cluster: how long exchanges waited for an endpoint with room, of those that did.
    queues: Vec<Histogram>,
}

impl Stats {
    /// Nothing yet, of everything that there is.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let of = |count| vec![EndpointStats::default(); count];
        Self {
            listeners: vec![Classes::default(); config.listeners.len()],
            routes: vec![RouteStats::default(); config.routes.len()],
            endpoints: config.clusters.iter().map(|one| of(one.endpoints.len())).collect(),
            queues: vec![Histogram::default(); config.clusters.len()],
        }
    }

    /// One more exchange.
    pub fn observe(&mut self, record: &Record) {
        let class = class(record.status);
        let listener = record.listener.and_then(|id| self.listeners.get_mut(usize::from(id.0)));
        if let Some(classes) = listener {
            classes[class] += 1;
        }
        if let Some(route) = record.route.and_then(|id| self.routes.get_mut(usize::from(id.0))) {
            route.classes[class] += 1;
            route.bytes_in += record.bytes_in;
            route.bytes_out += record.bytes_out;
            route.took.add(record.took);
            let word =
                record.cache.and_then(|one| CACHE_WORDS.iter().position(|word| *word == one));
            if let Some(at) = word {
                route.cache[at] += 1;
            }
        }
        if record.queued > 0
            && let Some(queue) =
                record.cluster.and_then(|id| self.queues.get_mut(usize::from(id.0)))
        {
            queue.add(record.queued.into());
        }
        let endpoint = record.cluster.zip(record.endpoint).and_then(|(cluster, endpoint)| {
            self.endpoints.get_mut(usize::from(cluster.0))?.get_mut(usize::from(endpoint.0))
        });
        if let Some(endpoint) = endpoint {
            endpoint.classes[class] += 1;
            endpoint.failures += u64::from(record.fault.is_some_and(|kind| kind.blames_endpoint()));
            // Without a head of an answer there is nothing that was fast.
            if record.upstream > 0 {
                endpoint.took.add(record.upstream);
            }
        }
    }
}

/// What all shards have measured, by the names of things. Names outlive a configuration: what is called the same is
/// added up.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub counters: Counters,
    pub listeners: BTreeMap<String, Classes>,
    pub routes: BTreeMap<String, RouteStats>,
    /// By cluster and endpoint.
    pub endpoints: BTreeMap<(String, String), EndpointStats>,
    /// By cluster.
    pub queues: BTreeMap<String, Histogram>,
}

impl Totals {
    /// Adds what a shard with this configuration has measured.
    pub fn add(&mut self, stats: &Stats, config: &Config) {
        for (model, classes) in config.listeners.iter().zip(&stats.listeners) {
            add_classes(self.listeners.entry(model.name.clone()).or_default(), classes);
        }
        for (model, route) in config.routes.iter().zip(&stats.routes) {
            add_route(self.routes.entry(model.name.to_string()).or_default(), route);
        }
        for (cluster, queue) in config.clusters.iter().zip(&stats.queues) {
            self.queues.entry(cluster.name.clone()).or_default().merge(queue);
        }
        for (cluster, endpoints) in config.clusters.iter().zip(&stats.endpoints) {
            for (model, endpoint) in cluster.endpoints.iter().zip(endpoints) {
                let key = (cluster.name.clone(), model.address.to_string());
                add_endpoint(self.endpoints.entry(key).or_default(), endpoint);
            }
        }
    }

    /// Adds what another worker has measured.
    pub fn merge(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        for (name, classes) in &other.listeners {
            add_classes(self.listeners.entry(name.clone()).or_default(), classes);
        }
        for (name, route) in &other.routes {
            add_route(self.routes.entry(name.clone()).or_default(), route);
        }
        for (name, queue) in &other.queues {
            self.queues.entry(name.clone()).or_default().merge(queue);
        }
        for (key, endpoint) in &other.endpoints {
            add_endpoint(self.endpoints.entry(key.clone()).or_default(), endpoint);
        }
    }
}

fn add_classes(own: &mut Classes, other: &Classes) {
    own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
}

fn add_route(own: &mut RouteStats, other: &RouteStats) {
    add_classes(&mut own.classes, &other.classes);
    own.bytes_in += other.bytes_in;
    own.bytes_out += other.bytes_out;
    own.took.merge(&other.took);
    own.cache.iter_mut().zip(other.cache).for_each(|(own, other)| *own += other);
}

fn add_endpoint(own: &mut EndpointStats, other: &EndpointStats) {
    add_classes(&mut own.classes, &other.classes);
    own.failures += other.failures;
    own.took.merge(&other.took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_knows_its_bounds() {
        let mut all = Histogram::default();
        for micros in [0, 500, 501, 10_000_000, 10_000_001, u64::MAX / 2] {
            all.add(micros);
        }
        assert_eq!(
            (all.buckets[0], all.buckets[1], all.buckets[13], all.buckets[14]),
            (2, 1, 1, 2)
        );
        assert_eq!(all.count(), 6);
        let mut twice = all;
        twice.merge(&all);
        assert_eq!((twice.count(), twice.buckets[0]), (12, 4));
    }

    #[test]
    fn quantiles_lie_between_bounds() {
        let mut all = Histogram::default();
        assert_eq!(all.quantile(0.5), Duration::ZERO);
        (0..100).for_each(|_| all.add(700));
        assert_eq!(all.quantile(0.5), Duration::from_micros(750));
        all.add(60_000_000);
        assert_eq!(all.quantile(1.0), Duration::from_secs(10));
    }

    #[test]
    fn statuses_have_classes() {
        assert_eq!([0, 101, 204, 304, 404, 503, 799].map(class), [0, 1, 2, 3, 4, 5, 5]);
    }
}
