//! `[cache]`, and what a route says of its part in it.

use std::path::PathBuf;

use ipnet::IpNet;

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Octets of all that is stored, heads and index included, for the whole process.
    pub memory: u64,
    /// A larger body is not stored.
    pub object: u64,
    /// The folder in which it survives restarts.
    pub disk: Option<PathBuf>,
    /// Octets of all files there.
    pub disk_size: u64,
    /// Whose PURGE requests are obeyed.
    pub purge: Vec<IpNet>,
}

impl Default for Cache {
    fn default() -> Self {
        let memory = 256 * 1024 * 1024;
        let disk_size = 1024 * 1024 * 1024;
        Self { memory, object: memory / 8, disk: None, disk_size, purge: Vec::new() }
    }
}

/// A route's part in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    pub rule: CacheRule,
    /// Stands for all that makes responses of this route what they are: where they come from and
    /// what is changed about them. Under another one nothing of theirs is served.
    pub digest: u64,
}

/// `route.cache`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheRule {
    /// What belongs to the key besides scheme, authority, path and query.
    pub key: Vec<RequestPart>,
    /// Query parameters that do not count: names, or beginnings of names that end in `*`.
    pub ignore_query: Vec<String>,
    /// The only query parameters that count, if there are any.
    pub keep_query: Vec<String>,
    /// Whether the order of query parameters does not count.
    pub sort_query: bool,
    /// Seconds for which a response is fresh that does not say so itself.
    pub default_ttl: Option<u32>,
    /// The same for errors that may be stored.
    pub negative_ttl: Option<u32>,
    /// Clients' Cache-Control is not heeded.
    pub ignore_clients: bool,
    /// Seconds for which a response may be served stale that does not forbid it.
    pub grace: u32,
    /// The same, where no server of the cluster can be reached.
    pub grace_down: u32,
    /// Requests with one of these do not touch the cache.
    pub bypass: Vec<RequestPart>,
    /// Cookies do not keep responses from being stored, and Set-Cookie is stored with them.
    pub cookies: bool,
}

impl Default for CacheRule {
    fn default() -> Self {
        Self {
            key: Vec::new(),
            ignore_query: Vec::new(),
            keep_query: Vec::new(),
            sort_query: false,
            default_ttl: None,
            negative_ttl: None,
            ignore_clients: false,
            grace: 0,
            grace_down: 600,
            bypass: Vec::new(),
            cookies: false,
        }
    }
}

/// Something of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestPart {
    Header(String),
    Cookie(String),
    Query(String),
}
