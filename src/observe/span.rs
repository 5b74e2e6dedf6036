//! Exchanges as spans, in the JSON of OTLP (OpenTelemetry protocol 1.x, JSON mapping), named after OpenTelemetry's
//! conventions for HTTP.

use std::sync::Arc;

use serde_json::{Value, json};

use super::format::told;
use super::record::{Batch, LogEntry};
use crate::config::model::Config;
use crate::message::trace_context::TraceParent;

/// A kind of span, and a status, by OTLP's numbers.
const SERVER: u8 = 2;
const FAILED: u8 = 2;

/// The body of a request to a collector.
#[must_use]
pub fn export(all: &[(Batch, Arc<Config>)], service: &str) -> Value {
    let spans: Vec<Value> = all
        .iter()
        .flat_map(|(batch, config)| batch.entries.iter().filter_map(|one| span(batch, one, config)))
        .collect();
    let resource = [
        ("service.name", json!(service)),
        ("service.version", json!(env!("CARGO_PKG_VERSION"))),
        ("process.pid", json!(std::process::id())),
    ];
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&resource) },
        "scopeSpans": [{
            "scope": { "name": "millrace", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans,
        }],
    }] })
}

/// None of an exchange whose `traceparent` a rule has taken away.
fn span(batch: &Batch, entry: &LogEntry, config: &Config) -> Option<Value> {
    let own = TraceParent::parse(batch.text(entry.traceparent))?;
    let record = &entry.record;
    let told = told(batch, entry, config);
    let end = u128::from(record.wall) * 1_000_000;
    let begin = end.saturating_sub(u128::from(record.took) * 1000);
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    let name = [text("method"), text("route")].join(" ");
    let is_failed = record.status >= 500 || record.fault.is_some();
    let mut span = json!({
        "traceId": format!("{:032x}", own.trace),
        "spanId": format!("{:016x}", own.span),
        "name": name,
        "kind": SERVER,
        "startTimeUnixNano": begin.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes(&pairs(&told, record.status)),
        "status": if is_failed { json!({ "code": FAILED }) } else { json!({}) },
    });
    if record.parent != 0 {
        span["parentSpanId"] = json!(format!("{:016x}", record.parent));
    }
    Some(span)
}

/// What is told of an exchange, by OpenTelemetry's names.
fn pairs(told: &Value, status: u16) -> Vec<(&'static str, Value)> {
    let target = told["target"].as_str().unwrap_or_default();
    // A query may hold secrets: it stays in the log.
    let path = target.split('?').next().unwrap_or_default();
    let host = told["host"].as_str().map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|one| one.is_ascii_digit()) => name,
        _ => host,
    });
    let of_version = |name: &str| {
        told[name].as_str().map(|version| version.trim_start_matches("HTTP/").replace("2.0", "2"))
    };
    vec![
        ("http.request.method", told["method"].clone()),
        ("http.response.status_code", json!(status)),
        ("http.route", told["route"].clone()),
        ("url.scheme", told["scheme"].clone()),
        ("url.path", json!(path)),
        ("server.address", json!(host)),
        ("client.address", told["client"].clone()),
        ("network.protocol.version", json!(of_version("version"))),
        ("tls.protocol.version", told["tls_version"].clone()),
        ("user_agent.original", told["user_agent"].clone()),
        (
            "error.type",
            if told["flag"].is_null() && status >= 500 {
                json!(status.to_string())
            } else {
                told["flag"].clone()
            },
        ),
        ("http.request.body.size", told["bytes_in"].clone()),
        ("http.response.body.size", told["bytes_out"].clone()),
        ("millrace.listener", told["listener"].clone()),
        ("millrace.cluster", told["cluster"].clone()),
        ("millrace.endpoint", told["endpoint"].clone()),
        ("millrace.attempts", told["attempts"].clone()),
        ("millrace.cache", told["cache"].clone()),
        ("millrace.upstream_us", told["upstream_us"].clone()),
        ("millrace.connect_us", told["connect_us"].clone()),
        ("millrace.queue_us", told["queue_us"].clone()),
        ("millrace.request_id", told["request_id"].clone()),
    ]
}

/// What there is of these.
fn attributes(pairs: &[(&str, Value)]) -> Vec<Value> {
    let typed = |value: &Value| match value {
        Value::String(text) => Some(json!({ "stringValue": text })),
        // OTLP has integers of 64 bits as texts.
        Value::Number(number) => Some(json!({ "intValue": number.to_string() })),
        Value::Bool(is) => Some(json!({ "boolValue": is })),
        _ => None,
    };
    pairs
        .iter()
        .filter_map(|(key, value)| Some(json!({ "key": key, "value": typed(value)? })))
        .collect()
}
