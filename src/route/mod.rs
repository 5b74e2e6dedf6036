//! Floor 3: which route serves a request. Of the routes that match, the one with the most specific
//! host wins, then the one with the most specific path, then the one that asks for more; the
//! order of the file does not count.

pub mod explain;
pub mod host;
pub mod overlap;
pub mod path;
pub mod redirect;
pub mod rule;

use std::collections::HashMap;

use crate::base::error::{Kind, Result};
use crate::base::id::{ListenerId, RouteId};
use crate::config::model::{Config, HostMatch, Mode, Route};
use crate::message::head::RequestHead;
use host::Hosts;
use path::Paths;
use rule::Rule;

/// Everything a listener needs to choose a route. Immutable.
#[derive(Debug)]
pub struct Router {
    hosts: Hosts<Paths<Candidate>>,
}

/// A route that a host and a path lead to; its rule has the last word.
#[derive(Debug)]
pub struct Candidate {
    /// The route.
    pub id: RouteId,
    rule: Rule,
}

impl Router {
    /// The routes of one listener.
    #[must_use]
    pub fn new(config: &Config, listener: ListenerId) -> Self {
        let mut hosts = Hosts::default();
        for (id, route) in numbered(&config.routes) {
            if serves(config, route, listener) {
                let paths: &mut Paths<Candidate> = hosts.entry(&route.host);
                paths.insert(&route.path, Candidate { id, rule: Rule::new(route) });
            }
        }
        hosts.each(|paths| paths.sort(|candidate| candidate.rule.rank()));
        Self { hosts }
    }

    /// The route for a request whose path is in normal form.
    ///
    /// # Errors
    /// `NoHost` if no route knows the host, `NoRoute` if none has the path, `MethodNotRouted` if
    /// only the method is wrong.
    pub fn find(&self, head: &RequestHead) -> Result<RouteId> {
        let mut fault = Kind::NoHost;
        for paths in self.hosts.find(head.host()) {
            if fault == Kind::NoHost {
                fault = Kind::NoRoute;
            }
            for candidate in paths.find(head.path()) {
                match candidate.rule.check(head) {
                    rule::RuleMatch::Matches => return Ok(candidate.id),
                    rule::RuleMatch::WrongMethod => fault = Kind::MethodNotRouted,
                    rule::RuleMatch::Differs => {}
                }
            }
        }
        Err(fault)
    }
}

impl Router {
    /// Whether routes go by the host.
    #[must_use]
    pub fn names_hosts(&self) -> bool {
        self.hosts.has_names()
    }

    /// The route for a connection, by the name that its TLS client wants, if it wants one.
    ///
    /// # Errors
    /// `NoHost` if no route knows it.
    pub fn find_name(&self, name: Option<&[u8]>) -> Result<RouteId> {
        let mut paths = self.hosts.find(name.unwrap_or_default());
        let found = paths.find_map(|paths| paths.find(b"/").next().map(|candidate| candidate.id));
        found.ok_or(Kind::NoHost)
    }

    /// The methods of the routes that have this host and path, for Allow.
    #[must_use]
    pub fn methods(&self, head: &RequestHead) -> Vec<u8> {
        let candidates = self.hosts.find(head.host()).flat_map(|paths| paths.find(head.path()));
        let mut methods: Vec<&[u8]> = candidates.flat_map(|one| one.rule.methods()).collect();
        methods.sort_unstable();
        methods.dedup();
        methods.join(&b", "[..])
    }
}

/// Routes without a listener are for all that speak HTTP.
fn serves(config: &Config, route: &Route, listener: ListenerId) -> bool {
    let mode = config.listeners.get(usize::from(listener.0)).map(|listener| listener.mode);
    match route.listener {
        Some(only) => only == listener,
        None => mode != Some(Mode::Tcp),
    }
}

fn numbered(routes: &[Route]) -> impl Iterator<Item = (RouteId, &Route)> {
    routes
        .iter()
        .enumerate()
        .filter_map(|(at, route)| Some((RouteId(u16::try_from(at).ok()?), route)))
}

/// A route that can never be chosen, and the one that is always chosen instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The route that never matches.
    pub route: RouteId,
    /// The one in its place.
    pub by: RouteId,
}

/// Routes that can never match, because another takes everything they would (exam O02).
#[must_use]
pub fn shadowed(config: &Config) -> Vec<Shadowed> {
    let mut by_host: HashMap<&HostMatch, Vec<(RouteId, &Route)>> = HashMap::new();
    for (id, route) in numbered(&config.routes) {
        by_host.entry(&route.host).or_default().push((id, route));
    }
    let mut found = Vec::new();
    for (id, route) in numbered(&config.routes) {
        let same_host = by_host.get(&route.host).into_iter().flatten();
        let taker = same_host
            .filter(|(other_id, _)| *other_id != id)
            .find(|(other_id, other)| takes_all(other, *other_id, route, id));
        if let Some((by, _)) = taker {
            found.push(Shadowed { route: id, by: *by });
        }
    }
    found
}

/// Whether `other`, on the same host, takes every request that `route` could get.
fn takes_all(other: &Route, other_id: RouteId, route: &Route, id: RouteId) -> bool {
    if other.path == route.path {
        // Same place, same demands, same listener: only the first is ever looked at.
        return other.listener == route.listener
            && rule::asks_the_same(other, route)
            && other_id.0 < id.0;
    }
    (other.listener.is_none() || other.listener == route.listener)
        && rule::asks_nothing(other)
        && path::takes_everything(&other.path)
        && path::rank(&other.path) > path::rank(&route.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower;

    fn config(routes: &str) -> Config {
        let text = format!(
            "[[listener]]\nname=\"l\"\naddress=\"127.0.0.1:0\"\n[[cluster]]\nname=\"c\"\n\
             [[cluster.endpoint]]\naddress=\"127.0.0.1:1\"\n{routes}"
        );
        let (config, problems) = lower(&text);
        config.unwrap_or_else(|| panic!("{}", problems.render("test", &text)))
    }

    fn routes(specs: &[&str]) -> Config {
        config(
            &specs
                .iter()
                .map(|spec| format!("[[route]]\n{spec}\ncluster=\"c\"\n"))
                .collect::<String>(),
        )
    }

    fn find(config: &Config, method: &str, host: &str, path: &str) -> Result<u16> {
        let mut head = RequestHead::default();
        head.set_method(method.as_bytes());
        head.set_authority(host.as_bytes(), host.len());
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        head.set_target(path.as_bytes(), query.map(str::as_bytes));
        head.fields.push(b"X-Kind", b"blue");
        Router::new(config, ListenerId(0)).find(&head).map(|id| id.0)
    }

    #[test]
    fn the_most_specific_host_wins_then_the_most_specific_path() {
        let config = routes(&[
            "path=\"/\"",
            "host=\"*.example.com\"",
            "host=\"www.example.com\"\npath=\"/a\"",
            "host=\"www.example.com\"\npath=\"/a/b\"",
            "host=\"www.example.com\"\npath=\"=/a/b\"",
            "host=\"www.example.com\"\npath=\"~^/a/[0-9]+$\"",
        ]);
        for (host, path, expected) in [
            ("other", "/a", 0),
            ("x.example.com", "/a", 1),
            ("example.com", "/a", 0),
            ("WWW.Example.COM.", "/a", 2),
            ("www.example.com", "/ab", 1),
            ("www.example.com", "/a/c", 2),
            ("www.example.com", "/a/b", 4),
            ("www.example.com", "/a/b/c", 3),
            ("www.example.com", "/a/12", 5),
            ("www.example.com", "/z", 1),
        ] {
            assert_eq!(find(&config, "GET", host, path), Ok(expected), "{host}{path}");
        }
    }

    #[test]
    fn demands_choose_between_equals_and_faults_are_told_apart() {
        let config = routes(&[
            "host=\"h\"\npath=\"/m\"\nmethods=[\"POST\"]",
            "host=\"h\"\npath=\"/q\"",
            "host=\"h\"\npath=\"/q\"\nquery={v=\"2\"}",
            "host=\"h\"\npath=\"/q\"\nheaders={x-kind=\"~^bl\"}\nquery={v=\"2\"}",
        ]);
        assert_eq!(find(&config, "POST", "h", "/m"), Ok(0));
        assert_eq!(find(&config, "GET", "h", "/m"), Err(Kind::MethodNotRouted));
        assert_eq!(find(&config, "GET", "h", "/x"), Err(Kind::NoRoute));
        assert_eq!(find(&config, "GET", "other", "/x"), Err(Kind::NoHost));
        assert_eq!(find(&config, "GET", "h", "/q?v=1"), Ok(1));
        assert_eq!(find(&config, "GET", "h", "/q?a=b&v=2"), Ok(3));
    }

    #[test]
    fn routes_that_never_match_are_found() {
        let config = routes(&["path=\"/a\"", "path=\"/b\"", "path=\"/a\"", "path=\"~.*\""]);
        let found: Vec<_> = shadowed(&config).iter().map(|one| (one.route.0, one.by.0)).collect();
        assert_eq!(found, [(0, 3), (1, 3), (2, 0)]);
    }
}
