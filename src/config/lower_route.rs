//! `[[route]]` to plan.

use std::collections::{HashMap, HashSet};

use super::advice;
use super::digest;
use super::lower_cache;
use super::lower_cluster::Lowered;
use super::lower_common::{
    body_limit, check_field, is_field_name, read_fields, read_timeouts, regex,
};
use super::model::{
    Action, HeaderRules, HealthWord, HostMatch, Mode, PathMatch, Redirect, Respond, Rewrite, Route,
    Timeouts, ValueMatch,
};
use super::raw::ConfigTable;
use super::resilience::Priority;
use super::source::{Source, SourceLine};
use crate::base::id::{ClusterId, ListenerId};
use crate::message::fields::is_token_byte;
use crate::message::target;

/// Keys that need a request.
const HTTP_ONLY: [&str; 12] = [
    "path",
    "methods",
    "headers",
    "query",
    "redirect",
    "respond",
    "rewrite",
    "path_as_received",
    "request_headers",
    "response_headers",
    "upgrade",
    "cache",
];

/// What a route may refer to.
pub(super) struct RouteScope<'a> {
    pub(super) listeners: HashMap<String, ListenerId>,
    pub(super) modes: Vec<Mode>,
    pub(super) clusters: &'a [Lowered],
    pub(super) timeouts: Timeouts,
    pub(super) body: Option<u64>,
    pub(super) source: &'a Source,
}

pub(super) fn read(tables: Vec<ConfigTable<'_>>, names: &RouteScope<'_>) -> Vec<Option<Route>> {
    let (mut routes, mut given) = (Vec::new(), HashMap::new());
    for mut table in tables {
        let name = read_name(&mut table, &mut given, names.source);
        routes.push(read_one(table, names).map(|route| Route { name, ..route }));
    }
    name_the_rest(&mut routes);
    routes
}

/// The name that a route is given; empty if it has none.
fn read_name(
    table: &mut ConfigTable<'_>,
    given: &mut HashMap<String, SourceLine>,
    source: &Source,
) -> Box<str> {
    let Some(name) = table.string("name") else { return Box::default() };
    let is_good = (1..=64).contains(&name.value.len())
        && name.value.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !b"\"\\".contains(&byte));
    if !is_good {
        let message =
            "a route's name is 1 to 64 printable letters of ASCII, without spaces, \" and \\";
        table.error(name.span, message);
        return Box::default();
    }
    let line = source.line(name.span.start);
    if let Some(other) = given.insert(name.value.clone(), line) {
        let other = other.told(source);
        let message =
            format!("two routes are called \"{}\": the other one is on {other}", name.value);
        table.error(name.span, message);
    }
    name.value.into_boxed_str()
}

/// Routes without a name are called by their host and path; of equal ones the later get a number.
fn name_the_rest(routes: &mut [Option<Route>]) {
    let mut taken: HashSet<Box<str>> =
        routes.iter().flatten().map(|route| route.name.clone()).collect();
    for route in routes.iter_mut().flatten().filter(|route| route.name.is_empty()) {
        let base = described(route);
        let mut names = std::iter::once(base.clone()).chain((2..).map(|at| format!("{base}#{at}")));
        let free = names.find(|name| !taken.contains(name.as_str())).unwrap_or(base);
        route.name = free.into_boxed_str();
        taken.insert(route.name.clone());
    }
}

/// A route's host and path, as they are written.
fn described(route: &Route) -> String {
    let host = match &route.host {
        HostMatch::Any => String::new(),
        HostMatch::Exact(name) => name.clone(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    };
    match &route.path {
        PathMatch::Prefix(path) => format!("{host}{path}"),
        PathMatch::Exact(path) => format!("{host}={path}"),
        PathMatch::Regex(pattern) => format!("{host}~{pattern}"),
    }
}

fn read_upgrade(table: &mut ConfigTable<'_>) -> Vec<Box<str>> {
    if table.has("upgrade") {
        table.strings("upgrade").into_iter().map(|one| one.value.into_boxed_str()).collect()
    } else {
        vec![Box::from("websocket")]
    }
}

fn read_body(mut table: ConfigTable<'_>, names: &RouteScope<'_>) -> Option<u64> {
    let body = body_limit(&mut table).unwrap_or(names.body);
    table.finish();
    body
}

/// The timeouts of a route that says nothing of them: its cluster's.
fn inherited(action: Option<&Action>, names: &RouteScope<'_>) -> Timeouts {
    match action {
        Some(Action::Forward(ClusterId(at))) => {
            let model = names.clusters[usize::from(*at)].model.as_ref();
            model.map_or(names.timeouts, |cluster| cluster.timeouts)
        }
        _ => names.timeouts,
    }
}

fn read_one(mut table: ConfigTable<'_>, names: &RouteScope<'_>) -> Option<Route> {
    let line = names.source.line(table.span.start);
    let listener = read_listener(&mut table, names);
    refuse_http(&table, listener, names);
    let host = table.parsed("host", host).unwrap_or(HostMatch::Any);
    warn_of_star(&table);
    let path = table.parsed("path", path).unwrap_or_else(|| PathMatch::Prefix("/".to_owned()));
    let methods = read_methods(&mut table);
    let headers = read_matches(&mut table, "headers", true);
    let query = read_matches(&mut table, "query", false);
    let action = read_action(&mut table, names);
    let rewrite = read_rewrite(table.table("rewrite"));
    let path_as_received = read_as_received(&mut table, &rewrite);
    let request_headers = read_rules(table.table("request_headers"));
    let response_headers = read_rules(table.table("response_headers"));
    let mut timeout_table = table.table("timeouts");
    let timeouts = read_timeouts(&mut timeout_table, &inherited(action.as_ref(), names));
    timeout_table.finish();
    let body = read_body(table.table("limits"), names);
    let upgrade = read_upgrade(&mut table);
    let priority = table.word("priority", &Priority::NAMES).unwrap_or_default();
    let cache = lower_cache::read_rule(&mut table, action.as_ref(), |rule| {
        let Some(Action::Forward(ClusterId(at))) = &action else { return 0 };
        let lowered = &names.clusters[usize::from(*at)];
        let origin = digest::RouteOrigin {
            cluster: &lowered.name,
            host: lowered.model.as_ref().map(|model| &model.host),
            requests: &request_headers,
            responses: &response_headers,
        };
        digest::of(&origin, rule)
    });
    let is_logged = table.boolean("access_log").unwrap_or(true);
    table.finish();
    Some(Route {
        is_logged,
        name: Box::default(),
        line,
        listener,
        host,
        path,
        methods,
        headers,
        query,
        action: action?,
        rewrite,
        path_as_received,
        request_headers,
        response_headers,
        timeouts,
        body,
        upgrade,
        priority,
        cache,
    })
}

/// What has no meaning where no HTTP is spoken.
fn refuse_http(table: &ConfigTable<'_>, listener: Option<ListenerId>, names: &RouteScope<'_>) {
    let mode = listener.and_then(|ListenerId(at)| names.modes.get(usize::from(at)));
    if mode != Some(&Mode::Tcp) {
        return;
    }
    for key in HTTP_ONLY {
        if table.holds(key) {
            let message =
                format!("\"{key}\" is HTTP's, and this route's listener has mode = \"tcp\"");
            table.error(table.place_of(key), message);
        }
    }
}

fn read_listener(table: &mut ConfigTable<'_>, names: &RouteScope<'_>) -> Option<ListenerId> {
    let name = table.string("listener")?;
    if let Some(id) = names.listeners.get(&name.value) {
        return Some(*id);
    }
    let known: Vec<&str> = names.listeners.keys().map(String::as_str).collect();
    let message = format!("no listener is called \"{}\"", name.value);
    table.error_near(name.span, message, &name.value, &known);
    None
}

fn host(text: &str) -> Result<HostMatch, String> {
    if text == "*" {
        return Ok(HostMatch::Any);
    }
    let (suffix, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    match target::check_authority(lower.as_bytes()) {
        Ok(len) if len == lower.len() => {}
        Ok(_) => return Err(format!("\"{text}\" has a port; routes match the host name alone")),
        Err(_) => {
            return Err(format!(
                "\"{text}\" is no host; write \"www.example.com\", \"*.example.com\" or \"*\""
            ));
        }
    }
    Ok(if suffix { HostMatch::Suffix(format!(".{lower}")) } else { HostMatch::Exact(lower) })
}

fn path(text: &str) -> Result<PathMatch, String> {
    if let Some(pattern) = text.strip_prefix('~') {
        return regex(pattern).map(|()| PathMatch::Regex(pattern.to_owned()));
    }
    let (exact, path) = match text.strip_prefix('=') {
        Some(path) => (true, path),
        None => (false, text),
    };
    if path == "*" && exact {
        return Ok(PathMatch::Exact("*".to_owned()));
    }
    if !path.starts_with('/') {
        return Err(format!(
            "\"{text}\" must begin with \"/\" (a prefix), \"=/\" (exact) or \"~\" (a regular \
             expression)"
        ));
    }
    check_normal(path)?;
    if exact {
        return Ok(PathMatch::Exact(path.to_owned()));
    }
    // A prefix ends on a segment's boundary, with a slash at its end or without.
    let prefix = path.trim_end_matches('/');
    Ok(PathMatch::Prefix(if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() }))
}

/// A path that no request's normal form can have would never match.
fn check_normal(path: &str) -> Result<(), String> {
    let mut normal = Vec::new();
    let is_legal = target::parse(path.as_bytes(), false).is_ok_and(|found| found.query.is_none());
    match target::normalise(path.as_bytes(), &mut normal) {
        Ok(()) if is_legal && normal == path.as_bytes() => Ok(()),
        Ok(()) if is_legal => Err(format!(
            "\"{path}\" is not in normal form and would never match; write \"{}\"",
            String::from_utf8_lossy(&normal)
        )),
        _ => Err(format!("\"{path}\" is no path of a URI")),
    }
}

fn read_methods(table: &mut ConfigTable<'_>) -> Vec<String> {
    let mut methods = Vec::new();
    for method in table.strings("methods") {
        let is_token = !method.value.is_empty() && method.value.bytes().all(is_token_byte);
        if !is_token || method.value.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let message = format!("\"{}\" is no method; methods are upper case", method.value);
            table.error(method.span, message);
        } else if matches!(method.value.as_str(), "CONNECT" | "TRACE" | "TRACK") {
            let message = format!("{} is never routed: millrace refuses it", method.value);
            table.error(method.span, message);
        } else {
            methods.push(method.value);
        }
    }
    methods.sort_unstable();
    methods.dedup();
    methods
}

fn read_matches(
    table: &mut ConfigTable<'_>,
    key: &'static str,
    are_fields: bool,
) -> Vec<(String, ValueMatch)> {
    let mut found = Vec::new();
    for (name, value) in table.pairs(key) {
        if are_fields && !is_field_name(&name.value) {
            table.error(name.span, format!("\"{}\" is no field name", name.value));
            continue;
        }
        let wanted = match value.value.as_str() {
            "*" => ValueMatch::Present,
            text => match text.strip_prefix('~') {
                None => ValueMatch::Exact(text.to_owned()),
                Some(pattern) => {
                    if regex(pattern).is_err() {
                        table.error_secret(value.span, "no regular expression");
                    }
                    ValueMatch::Regex(pattern.to_owned())
                }
            },
        };
        let name = if are_fields { name.value.to_ascii_lowercase() } else { name.value };
        found.push((name, wanted));
    }
    found
}

/// A star at the end of a path is a letter here, not a pattern.
fn warn_of_star(table: &ConfigTable<'_>) {
    let Some(path) = table.text_of("path") else { return };
    if let Some(prefix) = advice::without_star(path) {
        let message = format!(
            "\"{path}\" matches paths with a star in them: a path is a prefix as it is, so write \
             \"{prefix}\" for all that is below"
        );
        table.warning(table.place_of("path"), message);
    }
}

fn read_action(table: &mut ConfigTable<'_>, names: &RouteScope<'_>) -> Option<Action> {
    let has = ["cluster", "redirect", "respond"].map(|key| table.has(key));
    if has.iter().filter(|one| **one).count() != 1 {
        let message = "a [[route]] needs exactly one of \"cluster\", \"redirect\" and \"respond\"";
        table.error(table.span.clone(), message);
    }
    if has[1] {
        if let Some(target) = table.text_of("redirect") {
            let message = "\"route.redirect\" must be a table, not a string".to_owned();
            table.error_with_help(table.place_of("redirect"), message, advice::redirect(target));
            return None;
        }
        return read_redirect(table.table("redirect")).map(Action::Redirect);
    }
    if has[2] {
        return read_respond(table.table("respond")).map(Action::Respond);
    }
    let name = table.string("cluster")?;
    let at = names.clusters.iter().position(|cluster| cluster.name == name.value);
    if at.is_none() {
        let known: Vec<&str> = names.clusters.iter().map(|one| one.name.as_str()).collect();
        let message = format!("no cluster is called \"{}\"", name.value);
        table.error_near(name.span, message, &name.value, &known);
    }
    at.and_then(|at| u16::try_from(at).ok()).map(|at| Action::Forward(ClusterId(at)))
}

fn read_redirect(mut table: ConfigTable<'_>) -> Option<Redirect> {
    let status = table.number("status", 301..309).unwrap_or(308);
    if matches!(status, 304..=306) {
        let message = format!("{status} is no redirect; use 301, 302, 303, 307 or 308");
        table.error(table.place_of("status"), message);
    }
    let scheme = table.word("scheme", &[("http", "http"), ("https", "https")]);
    let host = table.parsed("host", |host| match target::check_authority(host.as_bytes()) {
        Ok(_) => Ok(host.to_owned()),
        Err(_) => Err(format!("\"{host}\" is no host")),
    });
    let path = table.parsed("path", |path| check_normal(path).map(|()| path.to_owned()));
    if scheme.is_none() && host.is_none() && path.is_none() {
        let message = "a redirect must change \"scheme\", \"host\" or \"path\", or it goes round";
        table.error(table.span.clone(), message);
    }
    table.finish();
    let scheme = scheme.map(str::to_owned);
    Some(Redirect { status: u16::try_from(status).ok()?, scheme, host, path })
}

fn read_respond(mut table: ConfigTable<'_>) -> Option<Respond> {
    let words = [("live", HealthWord::Live), ("ready", HealthWord::Ready)];
    let health = table.word("health", &words);
    if health.is_some() && (table.has("status") || table.has("body")) {
        let message = "an answer about this process's health has a status and a body of its own";
        table.error(table.place_of("health"), message);
    }
    let status = table.number("status", 200..600).unwrap_or(200);
    let body = table.string("body").map(|body| body.value).unwrap_or_default();
    if matches!(status, 204 | 304) && !body.is_empty() {
        let message = format!("an answer with status {status} has no body");
        table.error(table.place_of("body"), message);
    }
    let headers = read_fields(&mut table, "headers");
    table.finish();
    Some(Respond { health, status: u16::try_from(status).ok()?, body, headers })
}

fn read_as_received(table: &mut ConfigTable<'_>, rewrite: &Rewrite) -> bool {
    let is_asked = table.boolean("path_as_received").unwrap_or(false);
    let is_rewritten = !rewrite.strip_prefix.is_empty() || !rewrite.add_prefix.is_empty();
    if is_asked && is_rewritten {
        let message = "path_as_received and rewrite exclude each other: a path that is rewritten is not \
                       as it was received";
        table.error(table.place_of("path_as_received"), message);
    }
    is_asked
}

fn read_rewrite(mut table: ConfigTable<'_>) -> Rewrite {
    let prefix = |text: &str| match text {
        "" => Ok(String::new()),
        _ => check_normal(text).map(|()| text.trim_end_matches('/').to_owned()),
    };
    let rewrite = Rewrite {
        strip_prefix: table.parsed("strip_prefix", prefix).unwrap_or_default(),
        add_prefix: table.parsed("add_prefix", prefix).unwrap_or_default(),
    };
    table.finish();
    rewrite
}

fn read_rules(mut table: ConfigTable<'_>) -> HeaderRules {
    let set = read_fields(&mut table, "set");
    let add = read_fields(&mut table, "add");
    let mut remove = Vec::new();
    for name in table.strings("remove") {
        if check_field(&table, &name) {
            remove.push(name.value);
        }
    }
    table.finish();
    HeaderRules { set, add, remove }
}
