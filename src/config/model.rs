//! The validated plan: what the rest of the program sees of the configuration. Past this point
//! nothing is checked again.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::access_log::AccessLog;
use super::admin::Admin;
use super::cache::{Cache, Cached};
use super::resilience::{Priority, Resilience, Sticky};
use super::source::SourceLine;
use super::tls;
use super::trace::Trace;
use crate::base::id::{ClusterId, ListenerId};
use crate::base::limits::{ADDRESSES_MAX, ENDPOINTS_MAX, PLACES_EACH, PLACES_MAX};
use crate::message::limits::HeadLimits;

/// One immutable version of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    pub listeners: Vec<Listener>,
    pub clusters: Vec<Cluster>,
    pub routes: Vec<Route>,
    pub limits: Limits,
    pub http2: Http2,
    pub access_log: Option<AccessLog>,
    /// Where spans go, if anywhere.
    pub trace: Option<Trace>,
    /// Where the operator asks, if anywhere.
    pub admin: Option<Admin>,
    pub cache: Cache,
    /// Fields that only we may say, in lower case: what `client_auth` tells upstreams.
    pub reserved: Vec<String>,
    /// How long a client that has ended its side may be without an octet of its answer.
    pub half_closed: Duration,
    /// DNS servers instead of the system's.
    pub dns_servers: Vec<SocketAddr>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Our name in Via; empty for one made up at start, which differs from process to process.
    pub name: String,
    pub cores: Cores,
    pub driver: Driver,
    pub ring: Ring,
    /// How long exchanges may go on after SIGTERM.
    pub drain: Duration,
    /// What is said on standard error, and how.
    pub log_level: LogLevel,
    pub log_format: LogShape,
    pub request_id: RequestIds,
    /// Trusted clients are told how long what took, in Server-Timing.
    pub server_timing: bool,
    /// How long it serves as before after SIGTERM, while its checks say that it is about to end.
    pub drain_delay: Duration,
    /// The file is read again when it was written.
    pub watch: bool,
    /// The user that the process becomes when all is opened, and the group.
    pub user: Option<String>,
    pub group: Option<String>,
}

/// How lines on standard error are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogShape {
    /// For people: time, level, message.
    #[default]
    Text,
    /// For collectors: an object a line.
    Json,
}

/// How much a line on standard error matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    #[default]
    Info,
    Warning,
    Error,
}

impl LogLevel {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Which answers say the X-Request-Id of their request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestIds {
    None,
    /// Errors of ours.
    #[default]
    Errors,
    All,
}

impl RequestIds {
    /// As they are written.
    pub const NAMES: [(&'static str, Self); 3] =
        [("errors", Self::Errors), ("all", Self::All), ("none", Self::None)];
}

/// Which cores to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    All,
    First(usize),
    These(Vec<usize>),
}

/// What waits for I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring if the real ring can be built, else epoll with a warning.
    Auto,
    IoUring,
    Epoll,
}

/// How the ring runs its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Coop,
    Defer,
}

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: String,
    pub mode: Mode,
    pub address: SocketAddr,
    /// Whose forwarding fields and PROXY headers are believed.
    pub trusted: Vec<IpNet>,
    pub proxy_protocol: bool,
    pub head: HeadLimits,
    /// A whole request head must have come by then.
    pub head_timeout: Duration,
    /// How long a connection may idle between requests.
    pub keepalive: Duration,
    /// A TLS handshake must be through by then.
    pub tls_handshake: Duration,
    pub tls: Option<tls::ListenerTls>,
    /// HTTP/2 is spoken too.
    pub http2: bool,
    /// Requests are sent to the same host's HTTPS, at this port.
    pub redirect_https: Option<u16>,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Http,
    /// Octets in both directions; routes go by the name in a TLS ClientHello, if they name hosts.
    Tcp,
}

impl Listener {
    /// Whether this peer is one of the trusted proxies.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|block| block.contains(&peer.to_canonical()))
    }
}

/// `[limits]`, but for those of the head, which are the listener's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a request body.
    pub body: Option<u64>,
    /// Octets a second, below which a body in either direction is cut. Zero for none.
    pub body_rate: u64,
    /// Client connections of the whole process.
    pub connections: usize,
    /// Client connections from one address.
    pub connections_per_client: usize,
    /// Octets of memory that the process may take. Zero for no bound.
    pub memory: u64,
    /// Requests on one connection.
    pub requests_per_connection: u64,
    /// Age of a connection after which it is asked to end.
    pub connection_age: Duration,
}

/// `[http2]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Streams of one client's connection at a time.
    pub streams: u32,
    /// Octets of one stream that may come before we have used them.
    pub window: u32,
    /// The same for a whole connection. By default the sum of all its streams, so that streams whose
    /// servers do not read leave the others theirs (exam R08).
    pub connection_window: u32,
}

/// The deadlines of an exchange; absolute and monotonic, none restarts on a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection to an endpoint stands.
    pub connect: Duration,
    /// From the request's end to the head of the answer.
    pub first_byte: Duration,
    /// Without a byte of a body, in either direction.
    pub body_idle: Duration,
    /// The whole exchange; `Duration::MAX` for none.
    pub total: Duration,
    /// Without a byte in either direction of an upgraded connection.
    pub tunnel_idle: Duration,
    /// Without a byte of an event stream or a call of gRPC.
    pub stream_idle: Duration,
}

/// `[[cluster]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    pub name: String,
    pub balance: Balance,
    /// What the balancer hashes, if it does.
    pub hash: Option<HashOn>,
    pub endpoints: Vec<Endpoint>,
    pub host: HostPolicy,
    pub proxy_protocol: Option<ProxyHeader>,
    pub pool: Pool,
    pub timeouts: Timeouts,
    /// Active checks, if there are any.
    pub health: Option<Health>,
    pub resilience: Resilience,
    pub sticky: Option<Sticky>,
    /// Connections to its endpoints are encrypted.
    pub tls: Option<tls::ClusterTls>,
    pub protocol: Protocol,
}

impl Cluster {
    /// The same with so many places for the addresses of each of its names: one more endpoint each, behind those
    /// that are configured, those of several names in turn (`balance::places`).
    #[must_use]
    pub fn with_places(mut self, each: usize) -> Self {
        let names: Vec<Endpoint> = self.names().cloned().collect();
        let each = each.min(ENDPOINTS_MAX / names.len().max(1));
        for place in (1..each).filter_map(|place| u16::try_from(place).ok()) {
            self.endpoints.extend(names.iter().map(|one| Endpoint { place, ..one.clone() }));
        }
        self
    }

    fn names(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|one| one.address.is_name())
    }
}

impl Config {
    /// The same with places for the addresses of its names.
    #[must_use]
    pub fn with_places(mut self) -> Self {
        let names: usize = self.clusters.iter().map(|one| one.names().count()).sum();
        let each = (PLACES_MAX / names.max(1)).clamp(PLACES_EACH, ADDRESSES_MAX);
        self.clusters = self.clusters.into_iter().map(|one| one.with_places(each)).collect();
        self
    }
}

/// `protocol = "…"` of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
    /// What a TLS handshake agrees on; HTTP/1.1 without TLS.
    Auto,
}

impl Protocol {
    /// Names in the configuration.
    pub const NAMES: [(&'static str, Self); 3] =
        [("http1", Self::Http1), ("http2", Self::Http2), ("auto", Self::Auto)];

    /// What is offered in a TLS handshake.
    #[must_use]
    pub const fn offers(self) -> &'static [tls::Alpn] {
        match self {
            Self::Http1 => &[tls::Alpn::Http1],
            Self::Http2 => &[tls::Alpn::Http2],
            Self::Auto => &[tls::Alpn::Http2, tls::Alpn::Http1],
        }
    }
}

/// `[cluster.health]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub probe: Probe,
    /// Instead of the endpoint's own.
    pub port: Option<u16>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Good checks in a row until an endpoint is up again.
    pub rise: u32,
    /// Bad checks in a row until it is down.
    pub fall: u32,
    /// Whether endpoints get no request before their first check.
    pub hold: bool,
}

impl Health {
    /// With the defaults of everything else.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 3,
            hold: false,
        }
    }
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Connects, no more.
    Tcp,
    Http(HttpProbe),
    /// A call of `grpc.health.v1.Health/Check`, for this service; all of them if it has no name.
    Grpc {
        service: String,
    },
}

/// A request that must be answered as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    pub method: String,
    pub path: String,
    /// Instead of the endpoint's address.
    pub host: Option<String>,
    pub headers: Vec<(String, String)>,
    pub expect: Vec<RangeInclusive<u16>>,
    /// What must be in the body: a text, or a regular expression behind a `~`.
    pub body: Option<String>,
}

impl HttpProbe {
    /// A GET for a path that expects 2xx.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: None,
            headers: Vec::new(),
            expect: vec![200..=299],
            body: None,
        }
    }
}

/// `balance = "…"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    Random,
    RandomTwo,
    LeastConnections,
    LeastResponseTime,
    IpHash,
    ConsistentHash,
    Maglev,
}

impl Balance {
    /// Names in the configuration.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("round_robin", Self::RoundRobin),
        ("random", Self::Random),
        ("random_two", Self::RandomTwo),
        ("least_connections", Self::LeastConnections),
        ("least_response_time", Self::LeastResponseTime),
        ("ip_hash", Self::IpHash),
        ("consistent_hash", Self::ConsistentHash),
        ("maglev", Self::Maglev),
    ];

    /// What this algorithm hashes unless the configuration says something else; `None` for those
    /// that hash nothing.
    #[must_use]
    pub fn hashes(self) -> Option<HashOn> {
        match self {
            Self::IpHash | Self::ConsistentHash | Self::Maglev => Some(HashOn::Address),
            _ => None,
        }
    }
}

/// What requests are kept together by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address; of IPv6 the first 64 bits.
    Address,
    Path,
    Header(String),
    Cookie(String),
    Query(String),
}

/// `[[cluster.endpoint]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    pub weight: u32,
    /// Requests that it may have at a time, of all cores together.
    pub max_connections: Option<u32>,
    /// Which of a name's addresses this is for; zero for the first, and where there is no name.
    pub place: u16,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Socket(SocketAddr),
    Name { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// It is to be resolved.
    #[must_use]
    pub const fn is_name(&self) -> bool {
        matches!(self, Self::Name { .. })
    }

    /// How a request calls it in Host (RFC 9110 section 7.2).
    #[must_use]
    pub fn authority(&self, is_secure: bool) -> String {
        match self {
            Self::Name { host, port: 80 } if !is_secure => host.clone(),
            Self::Name { host, port: 443 } if is_secure => host.clone(),
            Self::Unix(_) => "localhost".to_owned(),
            Self::Socket(_) | Self::Name { .. } => self.to_string(),
        }
    }
}

impl Address {
    /// The name that a certificate must be for, unless the configuration says something else.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Socket(address) => address.ip().to_string(),
            Self::Name { host, .. } => host.clone(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Version of the PROXY protocol that an upstream gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    V1,
    V2,
}

/// What the upstream sees in Host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// What the client sent.
    Preserve,
    /// The endpoint's address as it is configured.
    Endpoint,
    /// Always this.
    Fixed(String),
}

/// Bounds of idle upstream connections, for each core. An endpoint keeps as many as were in use at once lately
/// (within the last `idle`, or the one before); none is kept while the core has `size` of them, of all
/// clusters together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub size: usize,
    pub idle: Duration,
    pub age: Duration,
}

/// `[[route]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What logs and metrics call it: no other route has this name.
    pub name: Box<str>,
    /// For messages: line of the route in its file.
    pub line: SourceLine,
    /// `None` for all listeners.
    pub listener: Option<ListenerId>,
    pub host: HostMatch,
    pub path: PathMatch,
    /// Empty for any.
    pub methods: Vec<String>,
    pub headers: Vec<(String, ValueMatch)>,
    pub query: Vec<(String, ValueMatch)>,
    pub action: Action,
    pub rewrite: Rewrite,
    /// The path is forwarded octet for octet.
    pub path_as_received: bool,
    pub request_headers: HeaderRules,
    pub response_headers: HeaderRules,
    pub timeouts: Timeouts,
    /// Octets of a request body.
    pub body: Option<u64>,
    /// Protocols that may be upgraded to.
    pub upgrade: Vec<Box<str>>,
    /// Whose turn it is where requests must wait.
    pub priority: Priority,
    /// Whether and how its responses are stored.
    pub cache: Option<Cached>,
    /// Its exchanges are written to the access log.
    pub is_logged: bool,
}

impl Route {
    /// Where it forwards to, if it does.
    #[must_use]
    pub const fn cluster(&self) -> Option<ClusterId> {
        match &self.action {
            Action::Forward(cluster) => Some(*cluster),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }
}

/// `host = "…"`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    Any,
    /// In lower case, without the dot at the end.
    Exact(String),
    /// What follows the `*`, dot included.
    Suffix(String),
}

/// `path = "…"`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// On segment boundaries.
    Prefix(String),
    Exact(String),
    Regex(String),
}

/// A header's or a query parameter's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueMatch {
    Present,
    Exact(String),
    Regex(String),
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Forward(ClusterId),
    Redirect(Redirect),
    Respond(Respond),
}

/// `redirect = { … }`: the request's own URI with these parts replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub status: u16,
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub path: Option<String>,
}

/// What a check of this process asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthWord {
    /// It serves.
    Live,
    /// It goes on serving.
    Ready,
}

/// `respond = { … }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// It is a check of this process: `health = "live"` or `"ready"`.
    pub health: Option<HealthWord>,
    pub status: u16,
    pub body: String,
    pub headers: Vec<(String, String)>,
}

/// `rewrite = { … }`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    pub strip_prefix: String,
    pub add_prefix: String,
}

/// `request_headers` and `response_headers`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

impl HeaderRules {
    /// There are none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(30),
            body_idle: Duration::from_secs(30),
            total: Duration::MAX,
            tunnel_idle: Duration::from_secs(3600),
            stream_idle: Duration::from_secs(3600),
        }
    }
}

impl Http2 {
    /// What so many streams with this window may send together, as far as HTTP/2 can say it.
    #[must_use]
    pub const fn window_of_all(streams: u32, window: u32) -> u32 {
        let (all, most) = (streams.saturating_mul(window), u32::MAX >> 1);
        if all < most { all } else { most }
    }
}

impl Default for Http2 {
    fn default() -> Self {
        let (streams, window) = (100, 64 * 1024);
        Self { streams, window, connection_window: Self::window_of_all(streams, window) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: None,
            body_rate: 240,
            connections: 16_384,
            connections_per_client: 16_384,
            memory: 0,
            requests_per_connection: 1_000_000,
            connection_age: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self { size: 4096, idle: Duration::from_secs(50), age: Duration::from_secs(3600) }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            name: String::new(),
            cores: Cores::All,
            driver: Driver::Auto,
            ring: Ring::Coop,
            drain: Duration::from_secs(30),
            log_level: LogLevel::default(),
            log_format: LogShape::default(),
            request_id: RequestIds::default(),
            server_timing: false,
            drain_delay: Duration::ZERO,
            watch: false,
            user: None,
            group: None,
        }
    }
}
