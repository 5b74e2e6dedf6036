//! The text that Prometheus reads (its exposition format, version 0.0.4).

use std::fmt::Write;

use super::overview::{EndpointView, Overview};
use crate::base::limits::SERIES_MAX;
use crate::observe::stats::{BOUNDS, CACHE_WORDS, Classes, Histogram, Totals};
use crate::shard::command::Measured;

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All metrics.
#[must_use]
pub fn render(overview: &Overview, measured: &[Measured]) -> String {
    let mut totals = Totals::default();
    measured.iter().for_each(|one| totals.merge(&one.totals));
    let mut out =
        MetricsText { text: String::with_capacity(16 * 1024), left: SERIES_MAX, dropped: 0 };
    process(&mut out, overview, measured);
    counters(&mut out, &totals, overview.lost_lines);
    requests(&mut out, &totals);
    upstreams(&mut out, &totals);
    endpoints(&mut out, overview);
    certificates(&mut out, overview);
    let dropped = out.dropped;
    out.family(
        "millrace_series_dropped",
        "gauge",
        "Series left out, because there are too many of their kind.",
    );
    out.value("millrace_series_dropped", &[], dropped as f64);
    out.text
}

fn process(out: &mut MetricsText, overview: &Overview, measured: &[Measured]) {
    let gauges = [
        ("millrace_uptime_seconds", "Seconds since the start.", overview.uptime as f64),
        ("millrace_workers", "Worker threads.", overview.workers as f64),
        ("millrace_memory_bytes", "Octets that are allocated.", overview.memory.0 as f64),
        (
            "millrace_memory_bound_bytes",
            "What limits.memory allows; 0 for no bound.",
            overview.memory.1 as f64,
        ),
        ("millrace_cache_bytes", "Octets that the cache holds in memory.", overview.cache.0 as f64),
        ("millrace_cache_budget_bytes", "Octets that it may hold.", overview.cache.1 as f64),
        (
            "millrace_workers_stalled",
            "Workers that stand still now.",
            overview.stalled.len() as f64,
        ),
        (
            "millrace_config_last_reload_successful",
            "1 as long as the last configuration that was read is the one that is served.",
            f64::from(u8::from(!overview.was_refused)),
        ),
        (
            "millrace_draining",
            "1 if the process is about to end.",
            f64::from(u8::from(overview.is_draining)),
        ),
    ];
    for (name, help, value) in gauges {
        out.family(name, "gauge", help);
        out.value(name, &[], value);
    }
    out.family("millrace_build_info", "gauge", "Always 1; its labels say what runs.");
    out.value("millrace_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    out.family("millrace_config_reloads_total", "counter", "Configurations that were read again.");
    for (result, count) in [("taken", overview.reloads.0), ("refused", overview.reloads.1)] {
        out.value("millrace_config_reloads_total", &[("result", result)], count as f64);
    }
    out.counters(&[
        ("millrace_worker_stalls_total", "How often a worker stood still.", overview.stalls),
        ("millrace_spans_lost_total", "Spans that no collector took.", overview.lost_spans),
    ]);
    out.family("millrace_connections", "gauge", "Client connections that are open.");
    for one in measured {
        let worker = one.shard.0.to_string();
        out.value("millrace_connections", &[("worker", &worker)], one.inside as f64);
    }
}

/// Names, helps and values of plain counters.
fn counters(out: &mut MetricsText, totals: &Totals, lost_lines: u64) {
    let all = &totals.counters;
    let plain = [
        ("millrace_connections_accepted_total", "Client connections let in.", all.connections),
        (
            "millrace_connections_refused_total",
            "Client connections turned away by a limit.",
            all.refused,
        ),
        (
            "millrace_tls_handshakes_total",
            "TLS handshakes of clients that were completed.",
            all.handshakes,
        ),
        (
            "millrace_tls_handshake_failures_total",
            "TLS handshakes of clients that failed.",
            all.handshake_failures,
        ),
        ("millrace_exchanges_total", "Exchanges that ended, in whatever way.", all.exchanges),
        (
            "millrace_exchange_failures_total",
            "Exchanges that ended in an error of ours or of an upstream.",
            all.failures,
        ),
        (
            "millrace_upstream_connections_total",
            "Connections to endpoints that were opened.",
            all.dials,
        ),
        (
            "millrace_upstream_connect_failures_total",
            "Connections to endpoints that could not be opened.",
            all.dial_failures,
        ),
        ("millrace_upstream_reuses_total", "Exchanges on a pooled connection.", all.reuses),
        ("millrace_retries_total", "Requests that were sent again.", all.retries),
        (
            "millrace_hedges_total",
            "Requests that went to a second endpoint because the first was slow.",
            all.hedges,
        ),
        (
            "millrace_http2_calmed_total",
            "HTTP/2 connections that were ended for what they made us do.",
            all.calmed,
        ),
        (
            "millrace_http2_malformed_total",
            "Streams and connections that were no HTTP/2.",
            all.malformed,
        ),
        ("millrace_panics_total", "Connection tasks that panicked.", all.panics),
        ("millrace_accept_errors_total", "Failed accepts.", all.accept_errors),
        (
            "millrace_access_log_drops_total",
            "Access log entries that were dropped, or could not be written.",
            all.log_drops + lost_lines,
        ),
    ];
    out.counters(&plain);
}

fn requests(out: &mut MetricsText, totals: &Totals) {
    out.family(
        "millrace_listener_requests_total",
        "counter",
        "Requests by listener and class of status.",
    );
    for (name, classes) in &totals.listeners {
        out.classes("millrace_listener_requests_total", &[("listener", name)], classes);
    }
    out.family("millrace_requests_total", "counter", "Requests by route and class of status.");
    for (name, route) in &totals.routes {
        out.classes("millrace_requests_total", &[("route", name)], &route.classes);
    }
    out.family(
        "millrace_request_duration_seconds",
        "histogram",
        "From a request's head to the end of its answer.",
    );
    for (name, route) in &totals.routes {
        out.histogram("millrace_request_duration_seconds", &[("route", name)], &route.took);
    }
    out.family("millrace_request_body_bytes_total", "counter", "Octets of requests' bodies.");
    for (name, route) in &totals.routes {
        out.value("millrace_request_body_bytes_total", &[("route", name)], route.bytes_in as f64);
    }
    out.family("millrace_response_body_bytes_total", "counter", "Octets of responses' bodies.");
    for (name, route) in &totals.routes {
        out.value("millrace_response_body_bytes_total", &[("route", name)], route.bytes_out as f64);
    }
    out.family(
        "millrace_cache_requests_total",
        "counter",
        "Requests on routes that cache, by what the cache did.",
    );
    for (name, route) in &totals.routes {
        for (word, count) in CACHE_WORDS.iter().zip(route.cache).filter(|(_, count)| *count > 0) {
            out.value(
                "millrace_cache_requests_total",
                &[("route", name), ("verdict", word)],
                count as f64,
            );
        }
    }
}

fn upstreams(out: &mut MetricsText, totals: &Totals) {
    let labels = |key: &(String, String)| [("cluster", key.0.clone()), ("endpoint", key.1.clone())];
    out.family(
        "millrace_upstream_requests_total",
        "counter",
        "Exchanges by endpoint and class of status.",
    );
    for (key, endpoint) in &totals.endpoints {
        let [cluster, address] = &labels(key);
        let labels = [(cluster.0, cluster.1.as_str()), (address.0, address.1.as_str())];
        out.classes("millrace_upstream_requests_total", &labels, &endpoint.classes);
    }
    out.family(
        "millrace_upstream_failures_total",
        "counter",
        "Exchanges that failed by an endpoint's fault.",
    );
    for ((cluster, address), endpoint) in &totals.endpoints {
        let labels = [("cluster", cluster.as_str()), ("endpoint", address.as_str())];
        out.value("millrace_upstream_failures_total", &labels, endpoint.failures as f64);
    }
    out.family(
        "millrace_upstream_queue_seconds",
        "histogram",
        "How long exchanges waited for an endpoint with room, of those that did.",
    );
    for (cluster, queue) in &totals.queues {
        out.histogram("millrace_upstream_queue_seconds", &[("cluster", cluster)], queue);
    }
    out.family(
        "millrace_upstream_duration_seconds",
        "histogram",
        "From the beginning of an exchange to the head of the endpoint's answer.",
    );
    for ((cluster, address), endpoint) in &totals.endpoints {
        let labels = [("cluster", cluster.as_str()), ("endpoint", address.as_str())];
        out.histogram("millrace_upstream_duration_seconds", &labels, &endpoint.took);
    }
}

fn endpoints(out: &mut MetricsText, overview: &Overview) {
    let all = || {
        overview
            .clusters
            .iter()
            .flat_map(|cluster| cluster.endpoints.iter().map(move |one| (cluster, one)))
    };
    let mut gauge = |name: &'static str, help, value: &dyn Fn(&EndpointView) -> f64| {
        out.family(name, "gauge", help);
        for (cluster, one) in all() {
            let resolved = one.resolved.map_or_else(String::new, |address| address.to_string());
            let labels = [
                ("cluster", cluster.name.as_str()),
                ("endpoint", &one.address),
                ("address", &resolved),
            ];
            out.value(name, &labels, value(one));
        }
    };
    let number = |is: bool| if is { 1.0 } else { 0.0 };
    gauge("millrace_endpoint_available", "Whether requests are sent there.", &|one| {
        number(one.is_available())
    });
    gauge("millrace_endpoint_ejected", "Whether passive checks have put it out.", &|one| {
        number(one.passive != "in")
    });
    gauge("millrace_endpoint_in_flight", "Requests under way.", &|one| f64::from(one.in_flight));
    gauge("millrace_endpoint_weight", "Its weight.", &|one| f64::from(one.weight));
}

fn certificates(out: &mut MetricsText, overview: &Overview) {
    let name = "millrace_certificate_not_after_timestamp_seconds";
    out.family(name, "gauge", "When a listener's certificate ends, in seconds since 1970.");
    for one in &overview.certificates {
        let names = one.names.join(",");
        out.value(name, &[("listener", &one.listener), ("names", &names)], one.end as f64);
    }
}

/// The text as it grows.
struct MetricsText {
    text: String,
    /// Series that the current kind may still have.
    left: usize,
    dropped: usize,
}

impl MetricsText {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.left = SERIES_MAX;
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn counters(&mut self, all: &[(&str, &str, u64)]) {
        for (name, help, value) in all {
            self.family(name, "counter", help);
            self.value(name, &[], *value as f64);
        }
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        if self.left == 0 {
            self.dropped += 1;
            return;
        }
        self.left -= 1;
        self.line(name, labels, value);
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn classes(&mut self, name: &str, labels: &[(&str, &str)], classes: &Classes) {
        for (class, count) in CLASSES.iter().zip(classes) {
            // A class that never came has no series, but the usual one.
            if *count > 0 || *class == "2xx" {
                let labels = [labels, &[("code", class)]].concat();
                self.value(name, &labels, *count as f64);
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], all: &Histogram) {
        if self.left == 0 {
            self.dropped += 1;
            return;
        }
        self.left -= 1;
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(|bound| (f64::from(*bound) / 1e6).to_string());
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(all.buckets) {
            sum += count;
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.line(&format!("{name}_bucket"), &labels, sum as f64);
        }
        self.line(&format!("{name}_sum"), labels, all.sum as f64 / 1e6);
        self.line(&format!("{name}_count"), labels, sum as f64);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
