//! `[[cluster]]` to plan.

use std::collections::HashMap;

use super::lower_common::{duration, reaches, read_timeouts};
use super::model::{
    Address, Balance, Cluster, Endpoint, HashOn, HostPolicy, Listener, Mode, Pool, Protocol,
    ProxyHeader, Timeouts,
};
use super::raw::ConfigTable;
use super::source::Source;
use super::{lower_health, lower_resilience, lower_tls, units};
use crate::base::limits::WEIGHT_MAX;
use crate::message::target;

/// A cluster as far as it could be read. The name is known even if the rest is wrong, so that a
/// route that uses it does not complain as well.
pub(super) struct Lowered {
    pub(super) name: String,
    pub(super) model: Option<Cluster>,
}

pub(super) fn read(
    tables: Vec<ConfigTable<'_>>,
    timeouts: &Timeouts,
    listeners: &[Option<Listener>],
    source: &Source,
) -> Vec<Lowered> {
    let mut clusters: Vec<Lowered> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for table in tables {
        let span = table.span.clone();
        let (lowered, table) = read_one(table, timeouts, listeners, source);
        let name = &lowered.name;
        if let Some(earlier) = known.insert(name.clone(), span.start) {
            let line = source.line(earlier).told(source);
            let message = format!("two clusters are called \"{name}\": the other one is on {line}");
            table.error(span, message);
        }
        table.finish();
        clusters.push(lowered);
    }
    clusters
}

fn read_one<'a>(
    mut table: ConfigTable<'a>,
    timeouts: &Timeouts,
    listeners: &[Option<Listener>],
    source: &Source,
) -> (Lowered, ConfigTable<'a>) {
    let name = table.string("name").map(|name| name.value).unwrap_or_default();
    if name.is_empty() {
        table.error(table.span.clone(), "a [[cluster]] needs a \"name\" for routes to call it by");
    }
    let balance = table.word("balance", &Balance::NAMES).unwrap_or(Balance::RoundRobin);
    let hash = read_hash(&mut table, balance);
    let host = table.parsed("host", |text| match text {
        "preserve" => Ok(HostPolicy::Preserve),
        "endpoint" => Ok(HostPolicy::Endpoint),
        fixed => target::check_authority(fixed.as_bytes())
            .map(|_| HostPolicy::Fixed(fixed.to_owned()))
            .map_err(|_| "write \"preserve\", \"endpoint\" or a host name".to_owned()),
    });
    let versions = [("off", None), ("v1", Some(ProxyHeader::V1)), ("v2", Some(ProxyHeader::V2))];
    let proxy_protocol = table.word("proxy_protocol", &versions).flatten();
    let pool = read_pool(table.table("pool"));
    let (resilience, is_auto) = lower_resilience::read(&mut table);
    let sticky = lower_resilience::read_sticky(&mut table);
    let health = lower_health::read(table.table("health"), is_auto);
    let most = read_most(&mut table);
    let tls = lower_tls::read_client(&mut table);
    let protocol = table.word("protocol", &Protocol::NAMES);
    if protocol == Some(Protocol::Auto) && !table.has("tls") {
        let message =
            "protocol = \"auto\" without tls is HTTP/1.1: nothing is agreed on in clear text";
        table.warning(table.place_of("protocol"), message);
    }
    if proxy_protocol.is_some() && protocol.is_some_and(|one| one != Protocol::Http1) {
        let message = "a PROXY header tells of one client, and a connection of HTTP/2 serves many: it \
                       needs protocol = \"http1\"";
        table.error(table.place_of("proxy_protocol"), message);
    }
    let mut timeout_table = table.table("timeouts");
    let timeouts = read_timeouts(&mut timeout_table, timeouts);
    timeout_table.finish();
    let endpoint_tables = table.tables("endpoint");
    let count = endpoint_tables.len();
    if count == 0 {
        let message = format!("cluster \"{name}\" has no [[cluster.endpoint]]");
        table.error(table.span.clone(), message);
    }
    let endpoints = read_endpoints(&table, endpoint_tables, most, listeners, source);
    let model = (endpoints.len() == count && count > 0).then(|| Cluster {
        name: name.clone(),
        balance,
        hash,
        endpoints,
        host: host.unwrap_or(HostPolicy::Preserve),
        proxy_protocol,
        pool,
        timeouts,
        health,
        resilience,
        sticky,
        tls,
        protocol: protocol.unwrap_or_default(),
    });
    (Lowered { name, model }, table)
}

/// `[[cluster.endpoint]]`
fn read_endpoints(
    table: &ConfigTable<'_>,
    tables: Vec<ConfigTable<'_>>,
    most: Option<u32>,
    listeners: &[Option<Listener>],
    source: &Source,
) -> Vec<Endpoint> {
    let mut places: HashMap<Address, usize> = HashMap::new();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for one in tables {
        let place = one.place_of("address");
        let Some(endpoint) = read_endpoint(one, most, listeners) else { continue };
        if let Some(earlier) = places.insert(endpoint.address.clone(), place.start) {
            let (address, line) = (&endpoint.address, source.line(earlier));
            let message = format!(
                "{address} is in this cluster twice, first on {line}: one endpoint with a weight says \
                 the same"
            );
            table.warning(place, message);
        }
        endpoints.push(endpoint);
    }
    endpoints
}

/// `hash = { on = "header:x-user" }`, for the balancers that go by one.
fn read_hash(table: &mut ConfigTable<'_>, balance: Balance) -> Option<HashOn> {
    let place = table.place_of("hash");
    let mut hash = table.table("hash");
    let on = hash.parsed("on", units::hash_on);
    hash.finish();
    let default = balance.hashes();
    if on.is_some() && (default.is_none() || balance == Balance::IpHash) {
        let message = "\"hash\" is for balance = \"consistent_hash\" or \"maglev\"";
        table.error(place, message);
    }
    on.or(default)
}

fn read_pool(mut table: ConfigTable<'_>) -> Pool {
    let defaults = Pool::default();
    let size = table.number("size", 0..65_536).and_then(|size| usize::try_from(size).ok());
    let pool = Pool {
        size: size.unwrap_or(defaults.size),
        idle: duration(&mut table, "idle", false).unwrap_or(defaults.idle),
        age: duration(&mut table, "age", false).unwrap_or(defaults.age),
    };
    table.finish();
    pool
}

/// `max_connections`, of a cluster's endpoints or of a single one.
fn read_most(table: &mut ConfigTable<'_>) -> Option<u32> {
    table.number("max_connections", 1..1_000_001).and_then(|most| u32::try_from(most).ok())
}

fn read_endpoint(
    mut table: ConfigTable<'_>,
    most: Option<u32>,
    listeners: &[Option<Listener>],
) -> Option<Endpoint> {
    let is_text = table.must_be_like("address", &["127.0.0.1:3001", "app.internal:3001"]);
    let address = if is_text { table.parsed("address", units::address) } else { None };
    if !table.has("address") {
        table.error(table.span.clone(), "a [[cluster.endpoint]] needs an \"address\"");
    }
    let weight = table
        .number("weight", 1..u64::from(WEIGHT_MAX) + 1)
        .and_then(|weight| u32::try_from(weight).ok());
    if let Some(address) = &address
        && let Some(own) = listeners.iter().flatten().find(|own| reaches(own.address, address))
    {
        let name = &own.name;
        let what = format!("endpoint {address} is listener \"{name}\" of this very proxy");
        let is_tcp = |one: &Listener| one.mode == Mode::Tcp;
        // Connections that are passed on as they are may be served here in the end.
        if !is_tcp(own) && listeners.iter().flatten().any(is_tcp) {
            let message =
                format!("{what}: requests go round if others than a \"tcp\" listener lead there");
            table.warning(table.place_of("address"), message);
        } else {
            table.error(table.place_of("address"), format!("{what}: requests would go round"));
        }
    }
    let max_connections = read_most(&mut table).or(most);
    table.finish();
    let weight = weight.unwrap_or(1);
    Some(Endpoint { address: address?, weight, max_connections, place: 0 })
}
