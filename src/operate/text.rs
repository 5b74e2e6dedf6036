//! What a process answers, as texts for people.

use std::fmt::Write;

use serde_json::Value;

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn status(value: &Value) -> String {
    let mut out = String::new();
    let (name, version) = (text(&value["name"]), text(&value["version"]));
    let uptime = value["uptime_seconds"].as_u64().unwrap_or_default();
    let _ = writeln!(
        out,
        "{name}, millrace {version}, up {}, {} workers, {} of memory, {} in the cache",
        lasting(uptime),
        value["workers"],
        octets(&value["memory"]["bytes"]),
        octets(&value["cache"]["bytes"]),
    );
    if value["draining"] == true {
        out.push_str("it is about to end: checks are told, or it drains already\n");
    }
    for worker in list(&value["stalled_workers"]) {
        let _ = writeln!(out, "worker {worker} stands still: its connections wait");
    }
    for one in list(&value["listeners"]) {
        let _ = writeln!(out, "listener {}: {}", text(&one["name"]), text(&one["address"]));
    }
    for cluster in list(&value["clusters"]) {
        let _ = writeln!(out, "cluster {} ({})", text(&cluster["name"]), text(&cluster["balance"]));
        for one in list(&cluster["endpoints"]) {
            let _ = writeln!(out, "  {}", endpoint(one));
        }
    }
    for one in list(&value["certificates"]) {
        let names: Vec<&str> = list(&one["names"]).iter().map(text).collect();
        let _ = writeln!(out, "certificate {}: {} days left", names.join(", "), one["days_left"]);
    }
    out
}

pub(super) fn endpoint(one: &Value) -> String {
    let address = match one["resolved"].as_str() {
        Some(resolved) => format!("{} ({resolved})", text(&one["address"])),
        None => text(&one["address"]).to_owned(),
    };
    let state = text(&one["state"]);
    format!("{address:<28} {state:<34} weight {}, {} under way", one["weight"], one["in_flight"])
}

/// One exchange on one line.
pub(super) fn line(one: &Value) -> String {
    let why = one["detail"].as_str().or_else(|| one["reason"].as_str()).unwrap_or_default();
    format!(
        "{} {} {:<5} {}{} {} ms {} {} {why}\n",
        text(&one["time"]),
        one["status"],
        text(&one["method"]),
        text(&one["host"]),
        text(&one["path"]),
        one["duration_ms"],
        one["endpoint"].as_str().unwrap_or("-"),
        text(&one["request_id"]),
    )
}

/// One exchange, all that is known of it.
pub(super) fn told_of(one: &Value) -> String {
    let mut out = String::new();
    for (name, value) in one.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null())
    {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(out, "{name:<12} {shown}");
    }
    out
}

pub(super) fn stats(value: &Value) -> String {
    let mut out = format!(
        "{} requests since {}, {} failed, {} sent again, {} connections open\n",
        value["exchanges"],
        lasting(value["uptime_seconds"].as_u64().unwrap_or_default()),
        value["failures"],
        value["retries"],
        value["connections"],
    );
    let mut table = |title: &str, rows: &[Value], name: &dyn Fn(&Value) -> String, took: &str| {
        let _ = writeln!(
            out,
            "{title:<32} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "requests", "4xx", "5xx", "p50 ms", "p90 ms", "p99 ms"
        );
        for one in rows {
            let (all, took) = (&one["requests"], &one[took]);
            let _ = writeln!(
                out,
                "{:<32} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
                name(one),
                all["all"].to_string(),
                all["4xx"].to_string(),
                all["5xx"].to_string(),
                took["p50"].to_string(),
                took["p90"].to_string(),
                took["p99"].to_string()
            );
        }
    };
    table("route", list(&value["routes"]), &|one| text(&one["route"]).to_owned(), "duration_ms");
    let endpoint = |one: &Value| format!("{} {}", text(&one["cluster"]), text(&one["endpoint"]));
    table("endpoint", list(&value["endpoints"]), &endpoint, "upstream_ms");
    out
}

pub(super) fn lasting(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn octets(value: &Value) -> String {
    let count = value.as_u64().unwrap_or_default();
    format!("{:.1} MiB", count as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_endpoint_says_why_it_is_out() {
        let one = json!({ "address": "10.0.0.1:80", "state": "out (failures), asked again in 2.5 s", "weight": 1, "in_flight": 0 });
        assert!(
            endpoint(&one).contains("out (failures), asked again in 2.5 s"),
            "{}",
            endpoint(&one)
        );
    }
}
