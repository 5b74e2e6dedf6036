//! Why a request goes to a route, and not to another: each route is held against it by the matcher's own parts.

use super::host::Hosts;
use super::path::Paths;
use super::rule::{Rule, RuleMatch};
use super::{Router, numbered, serves};
use crate::base::error::Kind;
use crate::base::id::{ListenerId, RouteId};
use crate::config::model::{Config, Route};
use crate::message::head::RequestHead;

/// What a route has to say to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It gets the request.
    Wins,
    /// It would take the request, and the one that gets it is more specific.
    Matches,
    /// It serves another listener.
    Listener,
    Host,
    Path,
    Method,
    /// A header or a query parameter that it asks for is not there, or has another value: its name.
    Header(String),
    Query(String),
}

/// All routes, in the order of the file, and the one that gets the request.
#[derive(Clone, Debug)]
pub struct Explained {
    pub tried: Vec<(RouteId, Tried)>,
    pub found: Result<RouteId, Kind>,
}

/// Holds every route against a request whose path is in normal form.
#[must_use]
pub fn explain(config: &Config, listener: ListenerId, head: &RequestHead) -> Explained {
    let found = Router::new(config, listener).find(head);
    let tried = numbered(&config.routes).map(|(id, route)| {
        let tried = match hold(config, route, listener, head) {
            Tried::Matches if found == Ok(id) => Tried::Wins,
            tried => tried,
        };
        (id, tried)
    });
    Explained { tried: tried.collect(), found }
}

fn hold(config: &Config, route: &Route, listener: ListenerId, head: &RequestHead) -> Tried {
    if !serves(config, route, listener) {
        return Tried::Listener;
    }
    let mut hosts: Hosts<()> = Hosts::default();
    hosts.entry(&route.host);
    if hosts.find(head.host()).next().is_none() {
        return Tried::Host;
    }
    let mut paths = Paths::default();
    paths.insert(&route.path, ());
    if paths.find(head.path()).next().is_none() {
        return Tried::Path;
    }
    match Rule::new(route).check(head) {
        RuleMatch::Matches => Tried::Matches,
        RuleMatch::WrongMethod => Tried::Method,
        RuleMatch::Differs => unmet(route, head),
    }
}

/// The first demand that is not met.
fn unmet(route: &Route, head: &RequestHead) -> Tried {
    let bare =
        Route { methods: Vec::new(), headers: Vec::new(), query: Vec::new(), ..route.clone() };
    let meets = |route: &Route| Rule::new(route).check(head) == RuleMatch::Matches;
    for header in &route.headers {
        if !meets(&Route { headers: vec![header.clone()], ..bare.clone() }) {
            return Tried::Header(header.0.clone());
        }
    }
    for query in &route.query {
        if !meets(&Route { query: vec![query.clone()], ..bare.clone() }) {
            return Tried::Query(query.0.clone());
        }
    }
    Tried::Method
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower;

    #[test]
    fn each_route_says_why() {
        let text = "[[listener]]\nname=\"web\"\naddress=\"127.0.0.1:0\"\n[[listener]]\nname=\"other\"\naddress=\"127.0.0.1:0\"\n\
            [[route]]\nrespond={}\n\
            [[route]]\npath=\"/a\"\nrespond={}\n\
            [[route]]\nhost=\"b.example\"\nrespond={}\n\
            [[route]]\npath=\"/b\"\nrespond={}\n\
            [[route]]\npath=\"/a/x\"\nmethods=[\"POST\"]\nrespond={}\n\
            [[route]]\npath=\"/a/x\"\nheaders={ x-kind=\"blue\" }\nrespond={}\n\
            [[route]]\npath=\"/a/x\"\nquery={ v=\"2\" }\nrespond={}\n\
            [[route]]\nlistener=\"other\"\nrespond={}\n";
        let (config, problems) = lower(text);
        let config = config.unwrap_or_else(|| panic!("{}", problems.render("test", text)));
        let mut head = RequestHead::default();
        head.set_method(b"GET");
        head.set_authority(b"a.example", 9);
        head.set_target(b"/a/x", Some(b"v=1"));
        let explained = explain(&config, ListenerId(0), &head);
        let tried: Vec<Tried> = explained.tried.into_iter().map(|(_, tried)| tried).collect();
        assert_eq!(
            tried,
            [
                Tried::Matches,
                Tried::Wins,
                Tried::Host,
                Tried::Path,
                Tried::Method,
                Tried::Header("x-kind".to_owned()),
                Tried::Query("v".to_owned()),
                Tried::Listener,
            ]
        );
        assert_eq!(explained.found, Ok(RouteId(1)));
    }
}
