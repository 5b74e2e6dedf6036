//! What several parts of the configuration are read by: durations, sizes, address blocks, fields.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::model::{Address, Timeouts};
use super::raw::{ConfigTable, Located};
use super::units;
use crate::base::limits::{REGEX_COMPILED_MAX, REGEX_MAX};
use crate::message::fields::is_token_byte;
use crate::message::name::Name;

/// `body = "10MiB"` or `"none"`.
pub(super) fn body_limit(table: &mut ConfigTable<'_>) -> Option<Option<u64>> {
    size_or_none(table, "body")
}

pub(super) fn size_or_none(table: &mut ConfigTable<'_>, key: &'static str) -> Option<Option<u64>> {
    table.parsed(key, |text| match text {
        "none" => Ok(None),
        _ => units::size(text).map(Some),
    })
}

pub(super) fn size(
    table: &mut ConfigTable<'_>,
    key: &'static str,
    range: RangeInclusive<u64>,
) -> Option<usize> {
    table.parsed(key, |text| {
        let bytes = units::size(text)?;
        if range.contains(&bytes) {
            usize::try_from(bytes).map_err(|_| "too large".to_owned())
        } else {
            Err(format!("must be from {}B to {}B", range.start(), range.end()))
        }
    })
}

pub(super) fn count(table: &mut ConfigTable<'_>, key: &'static str, most: usize) -> Option<usize> {
    table.number(key, 1..most as u64 + 1).and_then(|number| usize::try_from(number).ok())
}

/// A duration; zero makes no sense for most.
pub(super) fn duration(
    table: &mut ConfigTable<'_>,
    key: &'static str,
    zero_is_fine: bool,
) -> Option<Duration> {
    if !table.must_be_like(key, &["10s", "250ms"]) {
        return None;
    }
    table.parsed(key, |text| match units::duration(text)? {
        Duration::ZERO if !zero_is_fine => {
            Err("zero would end everything before it began; leave the key out for the default"
                .into())
        }
        duration => Ok(duration),
    })
}

/// The timeouts of an exchange, as a cluster or a route sets them.
pub(super) fn read_timeouts(table: &mut ConfigTable<'_>, defaults: &Timeouts) -> Timeouts {
    for key in ["head", "keepalive", "tls_handshake"] {
        if table.has(key) {
            let message = format!("\"{key}\" is a listener's: nothing is routed yet; ignored here");
            table.warning(table.place_of(key), message);
        }
    }
    read_exchange_timeouts(table, defaults)
}

/// The timeouts of an exchange, which clusters and routes may set too.
pub(super) fn read_exchange_timeouts(table: &mut ConfigTable<'_>, defaults: &Timeouts) -> Timeouts {
    let total = table.parsed("total", |text| match text {
        "none" => Ok(Duration::MAX),
        _ => match units::duration(text)? {
            Duration::ZERO => Err("zero would end everything; write \"none\" for no limit".into()),
            total => Ok(total),
        },
    });
    Timeouts {
        connect: duration(table, "connect", false).unwrap_or(defaults.connect),
        first_byte: duration(table, "first_byte", false).unwrap_or(defaults.first_byte),
        body_idle: duration(table, "body_idle", false).unwrap_or(defaults.body_idle),
        total: total.unwrap_or(defaults.total),
        tunnel_idle: duration(table, "tunnel_idle", false).unwrap_or(defaults.tunnel_idle),
        stream_idle: duration(table, "stream_idle", false).unwrap_or(defaults.stream_idle),
    }
}

/// A block in CIDR notation, or one address.
/// A list of blocks of addresses.
pub(super) fn read_blocks(table: &mut ConfigTable<'_>, key: &'static str) -> Vec<IpNet> {
    let blocks = table.strings(key);
    blocks.iter().filter_map(|block| read_block(table, block)).collect()
}

fn read_block(table: &ConfigTable<'_>, text: &Located<String>) -> Option<IpNet> {
    let block = text.value.parse::<IpNet>().ok();
    let block = block.or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
    if block.is_none() {
        let message = format!("\"{}\" is no block of addresses; write \"10.0.0.0/8\"", text.value);
        table.error(text.span.clone(), message);
    }
    block.map(|block| block.trunc())
}

/// Whether connecting to `address` reaches one of our own listeners: a request would go round for
/// ever (exam O04).
pub(super) fn reaches(listener: SocketAddr, address: &Address) -> bool {
    let Address::Socket(address) = address else { return false };
    let is_here = listener.ip() == address.ip()
        || (listener.ip().is_unspecified() && address.ip().is_loopback());
    listener.port() == address.port() && is_here
}

pub(super) fn regex(pattern: &str) -> Result<(), String> {
    if pattern.len() > REGEX_MAX {
        return Err(format!("a regular expression has at most {REGEX_MAX} octets"));
    }
    let built = regex::bytes::RegexBuilder::new(pattern).size_limit(REGEX_COMPILED_MAX).build();
    built.map(|_| ()).map_err(|fault| format!("no regular expression: {fault}"))
}

/// Names and values of header fields that are the configuration's to say.
pub(super) fn read_fields(table: &mut ConfigTable<'_>, key: &'static str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in table.pairs(key) {
        if value.value.bytes().any(|byte| byte != b'\t' && !(b' '..=b'~').contains(&byte)) {
            table.error_secret(value.span, "a field's value is one line of printable ASCII");
        } else if check_field(table, &name) {
            found.push((name.value, value.value));
        }
    }
    found
}

/// Framing, Host and Connection are the proxy's own business.
pub(super) fn check_field(table: &ConfigTable<'_>, name: &Located<String>) -> bool {
    let fault = if !is_field_name(&name.value) {
        Some(format!("\"{}\" is no field name", name.value))
    } else {
        let own = match Name::of(name.value.as_bytes()) {
            Name::ContentLength | Name::TransferEncoding => Some("it frames the message"),
            Name::Host => Some("set \"host\" on the cluster instead"),
            Name::Connection | Name::KeepAlive | Name::Te | Name::Upgrade | Name::Trailer => {
                Some("it belongs to one connection")
            }
            _ => None,
        };
        own.map(|why| format!("\"{}\" cannot be changed: {why}", name.value))
    };
    if let Some(message) = &fault {
        table.error(name.span.clone(), message.clone());
    }
    fault.is_none()
}

pub(super) fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 256 && name.bytes().all(is_token_byte)
}

/// `"2xx"`, `"204"` or `"200-399"`.
pub(super) fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| (200..600).contains(n));
    let range = match text.strip_suffix("xx") {
        Some(class) => {
            class.parse::<u16>().ok().filter(|n| (2..6).contains(n)).map(|n| n * 100..=n * 100 + 99)
        }
        None => match text.split_once('-') {
            Some((from, to)) => number(from).zip(number(to)).map(|(from, to)| from..=to),
            None => number(text).map(|one| one..=one),
        },
    };
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| format!("\"{text}\" is not as \"2xx\", \"204\" or \"200-399\""))
}
