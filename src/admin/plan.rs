//! What another configuration would change: by meaning and not by lines; and where it would send the last requests.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::base::id::{ListenerId, RouteId};
use crate::config::model::{Action, Cluster, Config, Endpoint, Listener, Route, Server};
use crate::message::head::RequestHead;
use crate::observe::recorder::Kept;
use crate::route::Router;
use crate::wire::http1::parse;

/// Examples of requests that would go elsewhere.
const EXAMPLES: usize = 10;

/// A new configuration beside the one that is served.
#[derive(Clone, Debug)]
pub struct Planned {
    pub old: Arc<Config>,
    pub new: Config,
    /// What of it no running process can take over.
    pub needs_restart: Option<&'static str>,
}

impl Planned {
    /// The difference, as lists of sentences.
    #[must_use]
    pub fn difference(&self, connections: usize) -> Value {
        let (old, new) = (&*self.old, &self.new);
        let mut all = Vec::new();
        let names = |one: &Listener| one.name.clone();
        changes(&mut all, "listener", (&old.listeners, &new.listeners), names, listener);
        changes(
            &mut all,
            "route",
            (&old.routes, &new.routes),
            |one| one.name.to_string(),
            |one, other| route((old, one), (new, other)),
        );
        changes(
            &mut all,
            "cluster",
            (&old.clusters, &new.clusters),
            |one| one.name.clone(),
            cluster,
        );
        if old.server != new.server {
            let parts = server(&old.server, &new.server);
            all.push(
                json!({ "what": "table", "name": "server", "change": "changed", "parts": parts }),
            );
        }
        let tables = [
            ("limits", old.limits != new.limits),
            ("http2", old.http2 != new.http2),
            ("access_log", old.access_log != new.access_log),
            ("trace", old.trace != new.trace),
            ("admin", old.admin != new.admin),
            ("cache", old.cache != new.cache),
            ("dns", old.dns_servers != new.dns_servers),
            ("timeouts.half_closed", old.half_closed != new.half_closed),
        ];
        for (name, _) in tables.iter().filter(|(_, differs)| *differs) {
            all.push(json!({ "what": "table", "name": name, "change": "changed", "parts": [] }));
        }
        let touched = if all.is_empty() { 0 } else { connections };
        json!({ "changes": all, "needs_restart": self.needs_restart, "connections": touched })
    }

    /// Asks both configurations where these requests go.
    #[must_use]
    pub fn replayed(&self, served: &[(Arc<Config>, Vec<Kept>)]) -> Value {
        let (mut old, mut new) = (Routers::new(&self.old), Routers::new(&self.new));
        let (mut asked, mut moved, mut examples) = (0, 0, Vec::new());
        for (config, one) in
            served.iter().flat_map(|(config, all)| all.iter().map(move |one| (config, one)))
        {
            // Its number is that of the configuration that it was served by.
            let then = one.record.listener.and_then(|id| config.listeners.get(usize::from(id.0)));
            let listener =
                then.and_then(|then| self.old.listeners.iter().find(|now| now.name == then.name));
            let (Some(listener), Some((line, text))) = (listener, one.request()) else { continue };
            let mut head = RequestHead::default();
            if parse::request(text.as_bytes(), &listener.head, &mut head).is_err() {
                continue;
            }
            asked += 1;
            let (from, to) = (old.find(&listener.name, &head), new.find(&listener.name, &head));
            if from != to {
                moved += 1;
                let example = json!({ "request": line, "from": from, "to": to });
                if examples.len() < EXAMPLES && !examples.contains(&example) {
                    examples.push(example);
                }
            }
        }
        json!({ "requests": asked, "elsewhere": moved, "examples": examples })
    }
}

/// What was added, removed, or changed and how.
fn changes<T: PartialEq>(
    all: &mut Vec<Value>,
    what: &str,
    (old, new): (&[T], &[T]),
    name: impl Fn(&T) -> String,
    differ: impl Fn(&T, &T) -> Vec<String>,
) {
    let mut say = |name: String, change: &str, parts: Vec<String>| {
        all.push(json!({ "what": what, "name": name, "change": change, "parts": parts }));
    };
    for one in old {
        match new.iter().find(|other| name(other) == name(one)) {
            None => say(name(one), "removed", Vec::new()),
            Some(other) => {
                let parts = differ(one, other);
                if !parts.is_empty() {
                    say(name(one), "changed", parts);
                }
            }
        }
    }
    for one in new.iter().filter(|one| !old.iter().any(|other| name(other) == name(one))) {
        say(name(one), "added", Vec::new());
    }
}

/// Names of the parts whose fields differ, in this order; what differs beside them is "settings".
macro_rules! parts {
    ($one:expr, $other:expr, $($name:literal: $($field:ident),+;)*) => {{
        let (one, mut rest) = ($one, $other);
        let mut parts: Vec<String> = Vec::new();
        $(if $(one.$field != rest.$field)||+ {
            parts.push($name.to_owned());
            $(rest.$field = one.$field.clone();)+
        })*
        parts.extend((rest != *one).then(|| "settings".to_owned()));
        parts
    }};
}

fn server(one: &Server, other: &Server) -> Vec<String> {
    parts!(one, other.clone(),
        "name": name;
        "cores": cores;
        "driver": driver, ring;
        "drain": drain, drain_delay;
        "request_id": request_id;
        "server_timing": server_timing;
        "watch": watch;
        "user": user, group;
        "log": log_level, log_format;
    )
}

fn listener(one: &Listener, other: &Listener) -> Vec<String> {
    let moved =
        (one.address != other.address).then(|| format!("{} → {}", one.address, other.address));
    let rest = Listener { address: one.address, ..other.clone() };
    let mut all = parts!(one, rest, "tls": tls; "trusted_proxies": trusted;);
    all.extend(moved);
    all
}

fn route((old, one): (&Config, &Route), (new, other): (&Config, &Route)) -> Vec<String> {
    let (from, to) = (target(old, one), target(new, other));
    let moved = (from != to).then(|| format!("{from} → {to}"));
    let is_same_listener = named(old, one.listener) == named(new, other.listener);
    // Numbers of clusters and listeners say nothing about another file.
    let is_told = matches!((&one.action, &other.action), (Action::Forward(_), Action::Forward(_)))
        || moved.is_some();
    let action = if is_told { &one.action } else { &other.action };
    let rest = Route { listener: one.listener, action: action.clone(), ..other.clone() };
    let mut all: Vec<String> =
        (!is_same_listener).then(|| "listener".to_owned()).into_iter().collect();
    all.extend(parts!(one, rest,
        "host": host;
        "path": path;
        "methods": methods;
        "headers": headers;
        "query": query;
        "rewrite": rewrite;
        "request_headers": request_headers;
        "response_headers": response_headers;
        "timeouts": timeouts;
        "cache": cache;
    ));
    all.extend(moved);
    all
}

fn named(config: &Config, listener: Option<ListenerId>) -> Option<&str> {
    listener.map(|id| config.listeners[usize::from(id.0)].name.as_str())
}

/// What a route does, in a word.
fn target(config: &Config, route: &Route) -> String {
    match &route.action {
        Action::Forward(id) => format!("cluster {}", config.clusters[usize::from(id.0)].name),
        Action::Redirect(redirect) => format!("redirect {}", redirect.status),
        Action::Respond(fixed) => format!("answer {}", fixed.status),
    }
}

fn cluster(one: &Cluster, other: &Cluster) -> Vec<String> {
    let own = |all: &Cluster| -> Vec<Endpoint> {
        all.endpoints.iter().filter(|one| one.place == 0).cloned().collect()
    };
    let (from, to) = (own(one), own(other));
    let mut told = Vec::new();
    for endpoint in &from {
        match to.iter().find(|one| one.address == endpoint.address) {
            None => told.push(format!("- {}", endpoint.address)),
            Some(now) if now.weight != endpoint.weight => {
                told.push(format!("{} weight {} → {}", now.address, endpoint.weight, now.weight));
            }
            Some(_) => {}
        }
    }
    let is_new = |one: &&Endpoint| !from.iter().any(|other| other.address == one.address);
    told.extend(to.iter().filter(is_new).map(|one| format!("+ {}", one.address)));
    let rest = Cluster { endpoints: one.endpoints.clone(), ..other.clone() };
    let mut all = parts!(one, rest,
        "balance": balance, hash;
        "host": host;
        "health": health;
        "timeouts": timeouts;
        "tls": tls;
        "protocol": protocol;
        "sticky": sticky;
    );
    all.extend(told);
    all
}

/// A router for each listener that was asked about.
struct Routers<'a> {
    config: &'a Config,
    all: Vec<(String, Option<Router>)>,
}

impl<'a> Routers<'a> {
    const fn new(config: &'a Config) -> Self {
        Self { config, all: Vec::new() }
    }

    /// The route that a request gets, and where that leads; what is answered if there is none.
    fn find(&mut self, listener: &str, head: &RequestHead) -> String {
        let at = self.all.iter().position(|(name, _)| name == listener).unwrap_or_else(|| {
            let id = self.config.listeners.iter().position(|one| one.name == listener);
            let id = id.and_then(|at| u16::try_from(at).ok()).map(ListenerId);
            self.all.push((listener.to_owned(), id.map(|id| Router::new(self.config, id))));
            self.all.len() - 1
        });
        match &self.all[at].1 {
            None => "no such listener".to_owned(),
            Some(router) => match router.find(head) {
                Ok(RouteId(id)) => {
                    let route = &self.config.routes[usize::from(id)];
                    format!("route {} ({})", route.name, target(self.config, route))
                }
                Err(kind) => format!("answer {}", kind.row().status),
            },
        }
    }
}

/// The same as a text.
#[must_use]
pub fn text(told: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    if let Some(what) = told["needs_restart"].as_str() {
        let _ =
            writeln!(out, "! {what} changed: a reload refuses that, `millrace upgrade` takes it");
    }
    let changes = list(&told["changes"]);
    for one in &changes {
        let mark = match one["change"].as_str() {
            Some("added") => '+',
            Some("removed") => '-',
            _ => '~',
        };
        let parts: Vec<String> = list(&one["parts"]).iter().map(word).collect();
        let line =
            format!("{mark} {} {}  {}", word(&one["what"]), word(&one["name"]), parts.join(", "));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if changes.is_empty() {
        return "nothing would change\n".to_owned();
    }
    let connections = told["connections"].as_u64().unwrap_or_default();
    let _ = writeln!(
        out,
        "{connections} open connections would get what is under way by the old configuration, and end with it"
    );
    let replayed = &told["replayed"];
    let (asked, moved) = (&replayed["requests"], &replayed["elsewhere"]);
    let _ = writeln!(
        out,
        "{moved} of the last {asked} requests would go elsewhere (their headers are not known)"
    );
    for one in list(&replayed["examples"]) {
        let _ = writeln!(
            out,
            "  {}: {} → {}",
            word(&one["request"]),
            word(&one["from"]),
            word(&one["to"])
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower;

    const BASE: &str = "[[listener]]\nname=\"web\"\naddress=\"127.0.0.1:80\"\n[[cluster]]\nname=\"a\"\n[[cluster.endpoint]]\n\
        address=\"10.0.0.1:80\"\n[[route]]\ncluster=\"a\"\n";

    fn plan(new: &str) -> Value {
        let config = |text: &str| lower(text).0.unwrap_or_else(|| panic!("{text}"));
        let planned =
            Planned { old: Arc::new(config(BASE)), new: config(new), needs_restart: None };
        planned.difference(7)
    }

    #[test]
    fn what_has_only_moved_is_the_same() {
        assert_eq!(plan(BASE)["changes"], json!([]));
        let moved = format!(
            "\n\n[[cluster]]\nname=\"0\"\n[[cluster.endpoint]]\naddress=\"10.0.0.9:1\"\n[[route]]\npath=\"/0\"\ncluster=\"0\"\n{BASE}"
        );
        let told = plan(&moved);
        let names: Vec<_> = told["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["what"].clone(), one["name"].clone()))
            .collect();
        assert_eq!(names, [(json!("route"), json!("/0")), (json!("cluster"), json!("0"))]);
    }

    #[test]
    fn changes_are_named() {
        for (from, to, says) in [
            ("127.0.0.1:80\"", "127.0.0.1:81\"", "~ listener web  127.0.0.1:80 → 127.0.0.1:81"),
            ("10.0.0.1:80\"", "10.0.0.1:80\"\nweight=3", "~ cluster a  10.0.0.1:80 weight 1 → 3"),
            ("10.0.0.1:80", "10.0.0.2:80", "~ cluster a  - 10.0.0.1:80, + 10.0.0.2:80"),
            ("cluster=\"a\"", "cluster=\"a\"\npath=\"/x\"", "- route /\n+ route /x"),
            ("cluster=\"a\"", "cluster=\"a\"\ntimeouts={first_byte=\"1s\"}", "~ route /  timeouts"),
            ("cluster=\"a\"", "cluster=\"a\"\npriority=\"low\"", "~ route /  settings"),
            ("[[listener]]", "[limits]\nhead=\"8KiB\"\n[[listener]]", "~ listener web  settings"),
            ("name=\"a\"", "name=\"a\"\nbalance=\"random\"", "~ cluster a  balance"),
        ] {
            let told = text(&plan(&BASE.replacen(from, to, 1)));
            assert!(told.contains(says), "{says}: {told}");
            assert!(told.contains("7 open connections"));
        }
    }
}
