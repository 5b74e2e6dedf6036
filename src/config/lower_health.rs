//! `[cluster.health]` to plan.

use super::lower_common::{duration, read_fields, regex, statuses};
use super::model::{Health, HttpProbe, Probe};
use super::raw::ConfigTable;
use crate::message::target;

const KINDS: [(&str, ProbeKind); 4] = [
    ("tcp", ProbeKind::Tcp),
    ("http", ProbeKind::Http),
    ("grpc", ProbeKind::Grpc),
    ("off", ProbeKind::Off),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum ProbeKind {
    Tcp,
    Http,
    Grpc,
    Off,
}

/// `by_default`: whether there are checks without the table.
pub(super) fn read(mut table: ConfigTable<'_>, by_default: bool) -> Option<Health> {
    let is_there = by_default || table.is_there();
    let path = table.parsed("path", path);
    let kind = table.word("type", &KINDS);
    let kind =
        kind.unwrap_or_else(|| if table.has("path") { ProbeKind::Http } else { ProbeKind::Tcp });
    if kind == ProbeKind::Http && !table.has("path") {
        table.error(table.span.clone(), "an HTTP check needs a \"path\" to ask for");
    }
    let http = read_http(&mut table, path.unwrap_or_else(|| "/".to_owned()));
    let http_only = ["path", "method", "host", "headers", "expect", "body"];
    for key in http_only.into_iter().filter(|_| matches!(kind, ProbeKind::Tcp | ProbeKind::Grpc)) {
        if table.has(key) {
            let name = if kind == ProbeKind::Tcp { "TCP" } else { "gRPC" };
            table.error(table.place_of(key), format!("a {name} check has no \"{key}\""));
        }
    }
    let service = table.string("service").map(|service| service.value);
    if service.is_some() && kind != ProbeKind::Grpc {
        table.error(table.place_of("service"), "\"service\" is for type = \"grpc\"");
    }
    let probe = match kind {
        ProbeKind::Http => Probe::Http(http),
        ProbeKind::Grpc => Probe::Grpc { service: service.unwrap_or_default() },
        ProbeKind::Tcp | ProbeKind::Off => Probe::Tcp,
    };
    let defaults = Health::new(probe);
    let in_a_row = |table: &mut ConfigTable<'_>, key, default| {
        let number = table.number(key, 1..101).and_then(|number| u32::try_from(number).ok());
        number.unwrap_or(default)
    };
    let port = table.number("port", 1..65_536).and_then(|port| u16::try_from(port).ok());
    let health = Health {
        port,
        interval: duration(&mut table, "interval", false).unwrap_or(defaults.interval),
        timeout: duration(&mut table, "timeout", false).unwrap_or(defaults.timeout),
        rise: in_a_row(&mut table, "rise", defaults.rise),
        fall: in_a_row(&mut table, "fall", defaults.fall),
        hold: table.word("first", &[("admit", false), ("hold", true)]).unwrap_or(defaults.hold),
        ..defaults
    };
    table.finish();
    (is_there && kind != ProbeKind::Off).then_some(health)
}

fn read_http(table: &mut ConfigTable<'_>, path: String) -> HttpProbe {
    let defaults = HttpProbe::new(&path);
    let method = table.parsed("method", |text| match text {
        "GET" | "HEAD" | "OPTIONS" => Ok(text.to_owned()),
        _ => Err("a check may use GET, HEAD or OPTIONS".to_owned()),
    });
    let host = table.parsed("host", |text| {
        target::check_authority(text.as_bytes())
            .map(|_| text.to_owned())
            .map_err(|_| format!("\"{text}\" is not a host name"))
    });
    let headers = read_fields(table, "headers");
    let mut expect = Vec::new();
    for text in table.strings("expect") {
        match statuses(&text.value) {
            Ok(range) => expect.push(range),
            Err(message) => table.error(text.span, message),
        }
    }
    if expect.is_empty() {
        expect = defaults.expect;
    }
    let body = table.parsed("body", |text| match text {
        "" => Err("an empty text is in every body; leave the key out".to_owned()),
        text if text.starts_with('~') => regex(&text[1..]).map(|()| text.to_owned()),
        text => Ok(text.to_owned()),
    });
    let method = method.unwrap_or(defaults.method);
    HttpProbe { method, path, host, headers, expect, body }
}

/// A path that can stand in a request line.
fn path(text: &str) -> Result<String, String> {
    let is_good = text.starts_with('/') && text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    if is_good {
        Ok(text.to_owned())
    } else {
        Err("write a path as \"/health\", with anything unusual percent-encoded".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_three_forms() {
        assert_eq!(statuses("2xx"), Ok(200..=299));
        assert_eq!(statuses("204"), Ok(204..=204));
        assert_eq!(statuses("200-399"), Ok(200..=399));
        for bad in ["", "xx", "1xx", "6xx", "99", "399-200", "2x", "200-", "-300"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }
}
