//! What becomes of a request, and why: by the parser, the matcher and the filters that serve real ones.

use std::fmt::Write;

use serde_json::{Value, json};

use super::overview::Overview;
use crate::base::error::Kind;
use crate::base::id::{ClusterId, ListenerId};
use crate::config::model::{Action, Config, HostPolicy, Mode, Route};
use crate::filter::{Chain, Facts, Verdict};
use crate::message::head::{Method, RequestHead};
use crate::route::explain::{self, Tried};
use crate::wire::http1::parse;

/// The request that is asked about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub method: String,
    pub url: String,
    /// As `name: value`.
    pub headers: Vec<String>,
    /// By its name; without it the first that speaks the URL's scheme.
    pub listener: Option<String>,
}

/// Tells it, with the state of endpoints where that is known.
///
/// # Errors
/// What is wrong with the question, as a sentence.
pub fn explain(
    config: &Config,
    overview: Option<&Overview>,
    asked: &Question,
) -> Result<Value, String> {
    let (is_secure, authority, target) = split(&asked.url)?;
    let listener = listener(config, asked.listener.as_deref(), is_secure)?;
    let model = &config.listeners[usize::from(listener.0)];
    let mut text = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", asked.method);
    for header in &asked.headers {
        if header.contains(['\r', '\n']) {
            return Err(format!("a header is one line: {header:?}"));
        }
        let _ = write!(text, "{}\r\n", header.trim());
    }
    text.push_str("\r\n");
    let mut head = RequestHead::default();
    if let Err(kind) = parse::request(text.as_bytes(), &model.head, &mut head) {
        return Ok(json!({
            "listener": model.name,
            "routes": [],
            "result": refused(kind, "the request is refused before it is routed"),
        }));
    }
    if let Some(port) = model.redirect_https {
        let found = explain::explain(config, listener, &head).found;
        let has_own =
            found.is_ok_and(|id| config.routes[usize::from(id.0)].listener == Some(listener));
        if !has_own {
            let why = format!("redirect_https of the listener: to the same host's port {port}");
            return Ok(
                json!({ "listener": model.name, "routes": [], "result": { "status": 308, "why": why } }),
            );
        }
    }
    let explained = explain::explain(config, listener, &head);
    let winner = explained.found.ok().map(|id| &config.routes[usize::from(id.0)]);
    let tried = explained.tried.iter().map(|(id, tried)| {
        let route = &config.routes[usize::from(id.0)];
        json!({
            "route": &*route.name,
            "line": route.line.number,
            "file": route.line.file.as_deref(),
            "wins": *tried == Tried::Wins,
            "why": why(tried, route, winner, config),
        })
    });
    let routes: Value = tried.collect();
    let result = match explained.found {
        Err(kind) => refused(kind, "no route takes it"),
        Ok(id) => {
            let route = &config.routes[usize::from(id.0)];
            result(config, overview, route, &mut head, is_secure)
        }
    };
    Ok(json!({ "listener": model.name, "routes": routes, "result": result }))
}

fn refused(kind: Kind, why: &str) -> Value {
    let row = kind.row();
    json!({ "status": row.status, "flag": row.flag, "why": format!("{why}: {}", row.sentence) })
}

fn why(tried: &Tried, route: &Route, winner: Option<&Route>, config: &Config) -> String {
    match tried {
        Tried::Wins => "gets the request".to_owned(),
        Tried::Matches => {
            let winner = winner.map_or("another", |winner| &*winner.name);
            format!("matches, but \"{winner}\" is more specific")
        }
        Tried::Listener => {
            let only = route.listener.map(|id| config.listeners[usize::from(id.0)].name.as_str());
            format!("serves the listener \"{}\" only", only.unwrap_or_default())
        }
        Tried::Host => "has another host".to_owned(),
        Tried::Path => "has another path".to_owned(),
        Tried::Method => format!("takes {} only", route.methods.join(", ")),
        Tried::Header(name) => {
            format!("asks for the header \"{name}\", which is missing or has another value")
        }
        Tried::Query(name) => format!(
            "asks for the query parameter \"{name}\", which is missing or has another value"
        ),
    }
}

fn result(
    config: &Config,
    overview: Option<&Overview>,
    route: &Route,
    head: &mut RequestHead,
    is_secure: bool,
) -> Value {
    let facts = Facts { is_trusted: false, is_secure, is_led_here: true, certificate: None };
    match Chain::of_route(route).on_request(head, &facts) {
        Verdict::Go => {}
        Verdict::Refuse(kind) => return refused(kind, "the route refuses it"),
        Verdict::Options => {
            return json!({ "route": &*route.name, "status": 200, "why": "OPTIONS with Max-Forwards: 0 is answered here" });
        }
    }
    match &route.action {
        Action::Redirect(redirect) => {
            json!({ "route": &*route.name, "status": redirect.status, "why": "the route redirects" })
        }
        Action::Respond(fixed) => {
            json!({ "route": &*route.name, "status": fixed.status, "why": "the route answers itself" })
        }
        Action::Forward(id) => forwarded(config, overview, (route, *id), head),
    }
}

fn forwarded(
    config: &Config,
    overview: Option<&Overview>,
    (route, id): (&Route, ClusterId),
    head: &RequestHead,
) -> Value {
    let model = &config.clusters[usize::from(id.0)];
    let mut target = String::from_utf8_lossy(head.path_to_send()).into_owned();
    if let Some(query) = head.query() {
        let _ = write!(target, "?{}", String::from_utf8_lossy(query));
    }
    let host = match &model.host {
        HostPolicy::Preserve => String::from_utf8_lossy(head.authority()).into_owned(),
        HostPolicy::Endpoint => "the endpoint's own".to_owned(),
        HostPolicy::Fixed(host) => host.clone(),
    };
    let known = overview.and_then(|all| all.clusters.iter().find(|one| one.name == model.name));
    let endpoints: Value = match known {
        Some(cluster) => cluster
            .endpoints
            .iter()
            .map(|one| json!({ "address": one.address, "available": one.is_available(), "state": one.state() }))
            .collect(),
        None => {
            let mut all: Vec<String> = model.endpoints.iter().map(|one| one.address.to_string()).collect();
            all.dedup();
            let state = "not known: that is a file";
            all.iter().map(|address| json!({ "address": address, "state": state })).collect()
        }
    };
    let is_off = known.is_some_and(|all| all.endpoints.iter().all(|one| one.duty != "ready"));
    let cache = match (&route.cache, head.method) {
        (None, _) => "the route does not cache",
        (Some(_), Method::Get | Method::Head) => "looked up, and stored if the answer allows it",
        (Some(_), _) => "goes past the cache; a success invalidates what is stored of its URL",
    };
    json!({
        "route": &*route.name,
        "cluster": model.name,
        "target": target,
        "host": host,
        "balance": super::overview::balance_name(model.balance),
        "endpoints": endpoints,
        "cache": cache,
        "warning": is_off.then_some("no endpoint takes new clients, by order: 503, but for what the cache has and for \
                                     clients that stick to one that drains"),
    })
}

fn listener(config: &Config, name: Option<&str>, is_secure: bool) -> Result<ListenerId, String> {
    let known = || {
        config
            .listeners
            .iter()
            .map(|one| format!("\"{}\"", one.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = match name {
        Some(name) => config.listeners.iter().position(|one| one.name == name),
        None => config
            .listeners
            .iter()
            .position(|one| one.mode == Mode::Http && one.tls.is_some() == is_secure),
    };
    let at = found.ok_or_else(|| match name {
        Some(name) => format!("no listener is called \"{name}\"; there are {}", known()),
        None => format!("no listener speaks this scheme; --listener names one: {}", known()),
    })?;
    u16::try_from(at).map(ListenerId).map_err(|_| "too many listeners".to_owned())
}

/// Scheme, authority, and path with query.
pub(super) fn split(url: &str) -> Result<(bool, String, String), String> {
    let wrong = || format!("\"{url}\" is no URL: write http://host/path or https://host/path");
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let is_secure = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(wrong()),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    if authority.is_empty()
        || rest.contains(|letter: char| letter.is_ascii_control() || letter == ' ')
    {
        return Err(wrong());
    }
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok((is_secure, authority.to_ascii_lowercase(), target))
}

/// The same as a text.
#[must_use]
pub fn text(told: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = format!("listener {}\n", word(&told["listener"]));
    for one in list(&told["routes"]) {
        let mark = if one["wins"] == true { "→" } else { " " };
        let _ = writeln!(
            out,
            "{mark} route {:<28} {:<10} {}",
            word(&one["route"]),
            match one["file"].as_str() {
                Some(file) => format!("{file}:{}", one["line"]),
                None => format!("line {}", one["line"]),
            },
            word(&one["why"])
        );
    }
    let result = &told["result"];
    if let Some(status) = result["status"].as_u64() {
        let _ = writeln!(out, "answer {status}: {}", word(&result["why"]));
        return out;
    }
    let _ = writeln!(
        out,
        "cluster {} ({}): {}, Host: {}",
        word(&result["cluster"]),
        word(&result["balance"]),
        word(&result["target"]),
        word(&result["host"])
    );
    for one in list(&result["endpoints"]) {
        let _ = writeln!(out, "  {:<28} {}", word(&one["address"]), word(&one["state"]));
    }
    let _ = writeln!(out, "cache: {}", word(&result["cache"]));
    if let Some(warning) = result["warning"].as_str() {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower;

    const TEXT: &str = "[[listener]]\nname=\"web\"\naddress=\"127.0.0.1:0\"\n[[cluster]]\nname=\"app\"\nhost=\"app.internal\"\n\
        [[cluster.endpoint]]\naddress=\"10.0.0.1:80\"\n[[route]]\npath=\"/api\"\nrewrite={ strip_prefix=\"/api\", add_prefix=\"/v2\" }\n\
        cluster=\"app\"\ncache=true\n[[route]]\npath=\"/old\"\nredirect={ status=301, path=\"/new\" }\n[limits]\nbody=\"1KiB\"\n";

    fn ask(method: &str, url: &str, headers: &[&str]) -> Result<Value, String> {
        let config = lower(TEXT).0.unwrap();
        let headers = headers.iter().map(|one| (*one).to_owned()).collect();
        let question =
            Question { method: method.to_owned(), url: url.to_owned(), headers, listener: None };
        explain(&config, None, &question)
    }

    #[test]
    fn a_request_is_followed_to_its_target() {
        let told = ask("GET", "http://a.example/api/./x?y", &[]).unwrap();
        let result = &told["result"];
        assert_eq!((&result["route"], &result["cluster"]), (&json!("/api"), &json!("app")));
        assert_eq!(
            (&result["target"], &result["host"]),
            (&json!("/v2/x?y"), &json!("app.internal"))
        );
        assert!(text(&told).contains("→ route /api"), "{}", text(&told));
        assert_eq!(ask("GET", "http://a.example/old", &[]).unwrap()["result"]["status"], 301);
    }

    #[test]
    fn what_is_refused_says_by_what() {
        for (method, url, headers, status) in [
            ("GET", "http://a.example/none", &[][..], 404),
            ("GET", "http://a.example/../x", &[], 400),
            ("TRACE", "http://a.example/api", &[], 405),
            ("POST", "http://a.example/api", &["Content-Length: 5000"], 413),
            ("GET", "http://a.example/api", &["bad name: x"], 400),
        ] {
            let told = ask(method, url, headers).unwrap();
            assert_eq!(told["result"]["status"], status, "{method} {url}: {told}");
        }
        for url in ["a.example/x", "ftp://a/x", "http:///x", "http://a/x y", "https://a.example/x"]
        {
            assert!(ask("GET", url, &[]).is_err(), "{url}");
        }
    }
}
