//! Text to plan. Reports every problem at once; what it returns needs no second check.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeTable;

use super::admin::Admin;
use super::lower_common::{
    body_limit, count, duration, read_blocks, read_exchange_timeouts, size, size_or_none,
};
use super::merge::{Environment, merge, substitute};
use super::model::{
    Action, Config, Driver, Http2, Limits, Listener, LogLevel, LogShape, Mode, Protocol,
    RequestIds, Ring, Route, Server, Timeouts,
};
use super::problem::{Problems, Shows};
use super::raw::{ConfigTable, Reading};
use super::source::Source;
use super::{
    advice, lower_admin, lower_cache, lower_cluster, lower_log, lower_route, lower_tls,
    lower_trace, units,
};
use crate::base::id::ListenerId;
use crate::base::limits::{FIELDS_MAX, HALF_CLOSED, HEAD_MAX};
use crate::message::limits::{HeadLimits, Underscores};

/// Reads a single text, in an environment without variables.
#[must_use]
pub fn lower(text: &str) -> (Option<Config>, Problems) {
    lower_source(&Source::new("", text), &|_| None)
}

/// Reads a configuration. The plan is there if no problem is an error.
#[must_use]
pub fn lower_source(source: &Source, environment: &Environment<'_>) -> (Option<Config>, Problems) {
    let texts = source.padded();
    let mut all = texts.iter().map(|text| DeTable::parse_recoverable(text));
    let (mut table, mut syntax) = all.next().unwrap_or_else(|| DeTable::parse_recoverable(""));
    let reading = Reading::new(source);
    let problems = &reading.problems;
    for (span, message) in source.faults() {
        problems.borrow_mut().error(span.clone(), message.clone());
    }
    if let (false, Some(whose)) = (syntax.is_empty(), advice::foreign(&texts[0])) {
        let message = format!("this looks like a configuration of {whose}; millrace reads TOML");
        let help = "`millrace example` prints one to begin with".to_owned();
        problems.borrow_mut().error_with_help(0..0, message, help);
        return (None, reading.problems.into_inner());
    }
    for (included, faults) in all {
        merge(source, table.get_mut(), included.into_inner(), &mut problems.borrow_mut());
        syntax.extend(faults);
    }
    for fault in &syntax {
        let span = fault.span().unwrap_or(0..0);
        let message = format!("not TOML: {}", fault.message());
        problems.borrow_mut().error_hidden(span, message, Shows::Beginning);
    }
    substitute(table.get_mut(), environment, &mut problems.borrow_mut());
    let config = read(ConfigTable::root(&table, &reading));
    let problems = reading.problems.into_inner();
    (config.filter(|_| !problems.has_errors()), problems)
}

pub(super) fn read(mut root: ConfigTable<'_>) -> Option<Config> {
    let source = root.source();
    // Its files are here already.
    root.strings("include");
    let server = read_server(root.table("server"));
    let (limits, head) = read_limits(root.table("limits"));
    let http2 = read_http2(root.table("http2"));
    let timeouts = read_all_timeouts(root.table("timeouts"));
    let mut listeners = Vec::new();
    let mut listener_places = Vec::new();
    for table in root.tables("listener") {
        listener_places.push(table.span.clone());
        listeners.push(read_listener(table, head, &timeouts));
    }
    let cluster_tables = root.tables("cluster");
    let cluster_places: Vec<_> = cluster_tables.iter().map(|table| table.span.clone()).collect();
    let clusters = lower_cluster::read(cluster_tables, &timeouts.exchange, &listeners, source);
    let names = lower_route::RouteScope {
        listeners: index(listeners.iter().flatten().map(|listener| listener.name.as_str())),
        modes: listeners.iter().flatten().map(|listener| listener.mode).collect(),
        clusters: &clusters,
        timeouts: timeouts.exchange,
        body: limits.body,
        source,
    };
    let routes = lower_route::read(root.tables("route"), &names);
    let access_log = lower_log::read(root.table("access_log"));
    let trace = lower_trace::read(root.table("trace"));
    let admin = read_admin(&mut root, &listeners, &clusters);
    let cache = lower_cache::read(root.table("cache"));
    let dns_servers = read_dns(root.table("dns"));

    check_listeners(&root, &listeners, &listener_places, source);
    check_tcp(&root, &listeners, &listener_places, &routes);
    check_tcp_clusters(&root, &listeners, &listener_places, &routes, &clusters);
    warn_of_unused(&root, &clusters, &cluster_places, &routes);
    if listeners.is_empty() {
        root.error(0..0, "no [[listener]]: nothing would be served");
    }
    if routes.is_empty() && !listeners.is_empty() {
        root.error(0..0, "no [[route]]: every request would be refused");
    }
    root.finish();
    let auth = listeners.iter().flatten().filter_map(|one| one.tls.as_ref()?.client_auth.as_ref());
    let reserved = auth.flat_map(|auth| auth.headers.all().map(|name| name.to_ascii_lowercase()));
    let reserved = reserved.collect();
    Some(Config {
        server,
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        clusters: clusters.into_iter().map(|cluster| cluster.model).collect::<Option<_>>()?,
        routes: routes.into_iter().collect::<Option<_>>()?,
        limits,
        http2,
        access_log,
        trace,
        admin,
        cache,
        reserved,
        half_closed: timeouts.half_closed,
        dns_servers,
    })
}

fn read_admin(
    root: &mut ConfigTable<'_>,
    listeners: &[Option<Listener>],
    clusters: &[lower_cluster::Lowered],
) -> Option<Admin> {
    let table = root.table("admin");
    let place = table.span.clone();
    let admin = table.is_there().then(|| lower_admin::read(table))?;
    let models = clusters.iter().filter_map(|one| one.model.as_ref());
    let others = lower_admin::Others {
        listeners: listeners.iter().flatten().map(|one| one.address).collect(),
        endpoints: models.flat_map(|one| &one.endpoints).map(|one| &one.address).collect(),
    };
    lower_admin::check(root, place, &admin, &others);
    Some(admin)
}

fn index<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<String, ListenerId> {
    let numbered = names.enumerate();
    numbered
        .filter_map(|(at, name)| Some((name.to_owned(), ListenerId(u16::try_from(at).ok()?))))
        .collect()
}

fn read_server(mut table: ConfigTable<'_>) -> Server {
    let defaults = Server::default();
    let name = table.parsed("name", |name| {
        let is_token = name.bytes().all(crate::message::fields::is_token_byte);
        let begins = name.is_empty() || name.starts_with(|first: char| first.is_ascii_alphabetic());
        if is_token && begins && name.len() <= 64 {
            Ok(name.to_owned())
        } else {
            Err("a name for Via is a letter and at most 63 letters, digits, \"-\", \".\" or \"_\""
                .to_owned())
        }
    });
    let cores = table.number_or_string("cores").and_then(|text| {
        units::cores(&text.value).map_err(|message| table.error(text.span, message)).ok()
    });
    let drivers = [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
    let driver = table.word("driver", &drivers);
    let ring = table.word("ring", &[("coop", Ring::Coop), ("defer", Ring::Defer)]);
    let drain = duration(&mut table, "drain", true);
    let levels = [LogLevel::Info, LogLevel::Warning, LogLevel::Error].map(|one| (one.word(), one));
    let log_level = table.word("log_level", &levels);
    let shapes = [("text", LogShape::Text), ("json", LogShape::Json)];
    let log_format = table.word("log_format", &shapes);
    let request_id = table.word("request_id", &RequestIds::NAMES);
    let server_timing = table.boolean("server_timing");
    let drain_delay = duration(&mut table, "drain_delay", true);
    let watch = table.boolean("watch");
    let user = table.string("user").map(|user| user.value);
    let group = table.string("group").map(|group| group.value);
    if user.is_none() && group.is_some() {
        table.error(table.place_of("group"), "\"server.group\" goes with \"server.user\"");
    }
    table.finish();
    Server {
        name: name.unwrap_or(defaults.name),
        cores: cores.unwrap_or(defaults.cores),
        driver: driver.unwrap_or(defaults.driver),
        ring: ring.unwrap_or(defaults.ring),
        drain: drain.unwrap_or(defaults.drain),
        log_level: log_level.unwrap_or_default(),
        log_format: log_format.unwrap_or_default(),
        request_id: request_id.unwrap_or_default(),
        server_timing: server_timing.unwrap_or_default(),
        drain_delay: drain_delay.unwrap_or_default(),
        watch: watch.unwrap_or_default(),
        user,
        group,
    }
}

fn read_limits(mut table: ConfigTable<'_>) -> (Limits, HeadLimits) {
    let (defaults, head) = (Limits::default(), HeadLimits::default());
    let words = [
        ("drop", Underscores::Drop),
        ("reject", Underscores::Reject),
        ("allow", Underscores::Allow),
    ];
    let head_size = size(&mut table, "head", 1024..=HEAD_MAX as u64);
    let head_limits = HeadLimits {
        head: head_size.unwrap_or(head.head),
        field: size(&mut table, "field", 256..=HEAD_MAX as u64).unwrap_or(head.field),
        target: size(&mut table, "target", 64..=HEAD_MAX as u64).unwrap_or(head.target),
        fields: count(&mut table, "fields", FIELDS_MAX).unwrap_or(head.fields),
        underscores: table.word("underscores", &words).unwrap_or(head.underscores),
    };
    let many = 1 << 30;
    let limits = Limits {
        body: body_limit(&mut table).unwrap_or(defaults.body),
        body_rate: table.parsed("body_rate", body_rate).unwrap_or(defaults.body_rate),
        connections: count(&mut table, "connections", many).unwrap_or(defaults.connections),
        connections_per_client: count(&mut table, "connections_per_client", many)
            .unwrap_or(defaults.connections_per_client),
        memory: size_or_none(&mut table, "memory").flatten().unwrap_or(defaults.memory),
        requests_per_connection: table
            .number("requests_per_connection", 1..u64::MAX)
            .unwrap_or(defaults.requests_per_connection),
        connection_age: duration(&mut table, "connection_age", false)
            .unwrap_or(defaults.connection_age),
    };
    table.finish();
    (limits, head_limits)
}

fn read_http2(mut table: ConfigTable<'_>) -> Http2 {
    let defaults = Http2::default();
    let streams = table.number("streams", 1..1001).and_then(|count| u32::try_from(count).ok());
    // RFC 9113 section 6.9.2: what every peer begins with, up to the most that can be said.
    let mut window = |key, default| {
        let size = size(&mut table, key, 65_535..=(1 << 31) - 1);
        size.and_then(|size| u32::try_from(size).ok()).unwrap_or(default)
    };
    let one = window("window", defaults.window);
    let streams = streams.unwrap_or(defaults.streams);
    let all = Http2::window_of_all(streams, one);
    let connection_window = window("connection_window", all);
    if connection_window < all && table.has("connection_window") {
        let message = format!(
            "http2.connection_window is less than streams x window ({} KiB): streams whose servers do \
             not read can use it up, and the others of that connection wait",
            all.div_ceil(1024)
        );
        table.warning(table.place_of("connection_window"), message);
    }
    table.finish();
    Http2 { streams, window: one, connection_window }
}

/// More than a gigabyte a second would cut every client there is.
fn body_rate(text: &str) -> Result<u64, String> {
    let rate = units::size(text)?;
    if rate <= 1 << 30 { Ok(rate) } else { Err("a minimum rate is at most 1GiB".to_owned()) }
}

/// What `[timeouts]` sets: some for connections of clients, the rest for exchanges.
struct AllTimeouts {
    connection: OfConnection,
    exchange: Timeouts,
    half_closed: Duration,
}

fn read_all_timeouts(mut table: ConfigTable<'_>) -> AllTimeouts {
    let connection = read_listener_timeouts(&mut table, OfConnection::DEFAULT);
    let exchange = read_exchange_timeouts(&mut table, &Timeouts::default());
    let half_closed = duration(&mut table, "half_closed", true).unwrap_or(HALF_CLOSED);
    table.finish();
    AllTimeouts { connection, exchange, half_closed }
}

/// The timeouts of a client's connection.
#[derive(Clone, Copy)]
struct OfConnection {
    head: Duration,
    keepalive: Duration,
    tls_handshake: Duration,
}

impl OfConnection {
    const DEFAULT: Self = Self {
        head: Duration::from_secs(10),
        keepalive: Duration::from_secs(60),
        tls_handshake: Duration::from_secs(10),
    };
}

fn read_listener_timeouts(table: &mut ConfigTable<'_>, defaults: OfConnection) -> OfConnection {
    let mut read = |key, default| duration(table, key, false).unwrap_or(default);
    OfConnection {
        head: read("head", defaults.head),
        keepalive: read("keepalive", defaults.keepalive),
        tls_handshake: read("tls_handshake", defaults.tls_handshake),
    }
}

fn read_listener(
    mut table: ConfigTable<'_>,
    head: HeadLimits,
    timeouts: &AllTimeouts,
) -> Option<Listener> {
    let is_text = table.must_be_like("address", &["127.0.0.1:8080", "[::]:8080"]);
    let address = if is_text { table.parsed("address", units::listen) } else { None };
    if address.is_none() && !table.has("address") {
        table.error(table.span.clone(), "a [[listener]] needs an \"address\"");
    }
    let name = table.string("name").map_or_else(
        || address.map(|address| address.to_string()).unwrap_or_default(),
        |name| name.value,
    );
    let mode = table.word("mode", &[("http", Mode::Http), ("tcp", Mode::Tcp)]);
    let trusted = read_blocks(&mut table, "trusted_proxies");
    let proxy_protocol = table.boolean("proxy_protocol").unwrap_or(false);
    if proxy_protocol && trusted.is_empty() {
        let message =
            "proxy_protocol needs trusted_proxies: a PROXY header is believed from those only";
        table.error(table.place_of("proxy_protocol"), message);
    }
    let mut timeout_table = table.table("timeouts");
    let timeouts = read_listener_timeouts(&mut timeout_table, timeouts.connection);
    timeout_table.finish();
    let mode = mode.unwrap_or_default();
    let tls = lower_tls::read_server(&mut table);
    if tls.is_some() && mode == Mode::Tcp {
        let message = "a listener with mode = \"tcp\" passes TLS on as it is: leave \"tls\" out";
        table.error(table.place_of("tls"), message);
    }
    let http2 = table.boolean("http2").unwrap_or(true);
    let redirect_https = read_redirect(&mut table);
    if redirect_https.is_some() && tls.is_some() {
        let message = "redirect_https is for a listener without TLS: it would redirect to itself";
        table.error(table.place_of("redirect_https"), message);
    }
    table.finish();
    Some(Listener {
        name,
        mode,
        address: address?,
        trusted,
        proxy_protocol,
        head,
        head_timeout: timeouts.head,
        keepalive: timeouts.keepalive,
        tls_handshake: timeouts.tls_handshake,
        tls,
        http2,
        redirect_https,
    })
}

/// `redirect_https = true`, or the port that browsers find HTTPS at.
fn read_redirect(table: &mut ConfigTable<'_>) -> Option<u16> {
    match table.switch("redirect_https") {
        Some(true) => Some(443),
        Some(false) => None,
        None => table.number("redirect_https", 1..65_536).and_then(|port| port.try_into().ok()),
    }
}

/// A listener that passes octets on must know where to.
fn check_tcp(
    root: &ConfigTable<'_>,
    listeners: &[Option<Listener>],
    places: &[std::ops::Range<usize>],
    routes: &[Option<Route>],
) {
    for ((at, listener), place) in (0..).zip(listeners).zip(places) {
        let Some(listener) = listener.as_ref().filter(|one| one.mode == Mode::Tcp) else {
            continue;
        };
        let is_its = |route: &Route| route.listener == Some(ListenerId(at));
        if !routes.iter().flatten().any(is_its) && routes.iter().all(Option::is_some) {
            let name = &listener.name;
            let message = format!(
                "no [[route]] has listener = \"{name}\": a listener with mode = \"tcp\" is served by \
                 routes that name it"
            );
            root.error(place.clone(), message);
        }
    }
}

/// Octets that are passed on as they are cannot be a stream of HTTP/2.
fn check_tcp_clusters(
    root: &ConfigTable<'_>,
    listeners: &[Option<Listener>],
    places: &[std::ops::Range<usize>],
    routes: &[Option<Route>],
    clusters: &[lower_cluster::Lowered],
) {
    for route in routes.iter().flatten() {
        let (Some(ListenerId(at)), Action::Forward(cluster)) = (route.listener, &route.action)
        else {
            continue;
        };
        let is_tcp = listeners.get(usize::from(at)).and_then(Option::as_ref);
        let is_tcp = is_tcp.is_some_and(|listener| listener.mode == Mode::Tcp);
        let lowered = clusters.get(usize::from(cluster.0));
        let protocol = lowered.and_then(|one| one.model.as_ref()).map(|model| model.protocol);
        if let (true, Some(lowered), Some(Protocol::Http2 | Protocol::Auto)) =
            (is_tcp, lowered, protocol)
        {
            let message = format!(
                "cluster \"{}\" has another protocol than \"http1\", which octets that this listener \
                 passes on cannot be put into",
                lowered.name
            );
            root.error(places[usize::from(at)].clone(), message);
        }
    }
}

fn check_listeners(
    root: &ConfigTable<'_>,
    listeners: &[Option<Listener>],
    places: &[std::ops::Range<usize>],
    source: &Source,
) {
    for (at, listener) in listeners.iter().enumerate() {
        let Some(listener) = listener else { continue };
        for (earlier, place) in listeners[..at].iter().zip(places) {
            let Some(earlier) = earlier else { continue };
            let line = || source.line(place.start).told(source);
            if earlier.name == listener.name {
                let (name, line) = (&listener.name, line());
                let message =
                    format!("two listeners are called \"{name}\": the other one is on {line}");
                root.error(places[at].clone(), message);
            }
            if overlap(earlier.address, listener.address) {
                let (one, other, line) = (listener.address, earlier.address, line());
                let message = if one == other {
                    format!("two listeners on {one}: the other one is on {line}")
                } else {
                    let name = &earlier.name;
                    format!(
                        "this listener's {one} and {other} of \"{name}\" on {line} are one port"
                    )
                };
                root.error(places[at].clone(), message);
            }
        }
    }
}

/// Whether two listeners want the same port: one of them may have it on all addresses. What listens on `[::]`
/// listens on all addresses of IPv4 too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |one: SocketAddr, other: SocketAddr| {
        one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
    };
    let is_same = one.ip() == other.ip() || takes(one, other) || takes(other, one);
    one.port() != 0 && one.port() == other.port() && is_same
}

/// A cluster that no route leads to is checked for nothing.
fn warn_of_unused(
    root: &ConfigTable<'_>,
    clusters: &[lower_cluster::Lowered],
    places: &[std::ops::Range<usize>],
    routes: &[Option<Route>],
) {
    // A route with a fault may be the one that leads there.
    if routes.iter().any(Option::is_none) {
        return;
    }
    for (at, (cluster, place)) in clusters.iter().zip(places).enumerate() {
        let is_used = routes
            .iter()
            .flatten()
            .any(|route| matches!(route.action, Action::Forward(id) if usize::from(id.0) == at));
        if !is_used {
            let message = format!("no route leads to the cluster \"{}\"", cluster.name);
            root.warning(place.clone(), message);
        }
    }
}

fn read_dns(mut table: ConfigTable<'_>) -> Vec<SocketAddr> {
    let servers = table.strings("servers");
    let parsed = servers.into_iter().filter_map(|text| {
        let address = text.value.parse::<SocketAddr>().ok();
        let address = address.or_else(|| text.value.parse().ok().map(|ip| SocketAddr::new(ip, 53)));
        if address.is_none() {
            let message = format!("\"{}\" is no address of a DNS server", text.value);
            table.error(text.span, message);
        }
        address
    });
    let servers = parsed.collect();
    table.finish();
    servers
}
