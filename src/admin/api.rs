//! Requests to the admin listener, one by one: from path to order, and from what comes of it to an answer.

use std::collections::BTreeMap;
#[expect(
    clippy::disallowed_types,
    reason = "the admin listener's own threads share it: no worker waits"
)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};

use super::condition::Condition;
use super::explain::{self, Question, split};
use super::guard::{Access, Guard};
use super::metrics;
use super::order::AdminOrder;
use super::overview::Overview;
use super::watch;
use crate::base::limits::{
    ADMIN_ANSWERS, ADMIN_PATIENCE, ADMIN_REFUSAL_DELAY, HEIR_PATIENCE, TAPPED_LINES, TAPS_MAX,
    WEIGHT_MAX,
};
use crate::cache::purge::{Purge, What};
use crate::config::model::Config;
use crate::net::admin::{AdminBody, AdminRequest, AdminResponse, AdminService, DRAINING};
use crate::net::notice;
use crate::observe::recorder::{Kept, Which};
use crate::shard::command::{Measured, Recalled};
use crate::shard::tap::Tap;
use crate::upstream::endpoint::Duty;

/// What all requests need.
#[derive(Debug)]
pub struct Api {
    pub guard: Guard,
    /// No other machine can reach the listener.
    pub is_loopback: bool,
    pub orders: Sender<AdminOrder>,
    /// How many watch.
    pub taps: Arc<AtomicUsize>,
    /// What each worker has measured, when it was asked last.
    pub last: LastMeasured,
}

/// By worker. A lock, for the admin listener's own threads share it, and no worker ever waits for it.
#[expect(clippy::disallowed_types, reason = "no worker meets it")]
pub type LastMeasured = Arc<Mutex<BTreeMap<u16, Measured>>>;

/// The place of one that watches.
struct TapPlace(Arc<AtomicUsize>);

impl TapPlace {
    fn take(all: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(all));
        (all.fetch_add(1, Ordering::Relaxed) < TAPS_MAX).then_some(place)
    }
}

impl Drop for TapPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the interface offers, for machines (OpenAPI 3.1).
const OPENAPI: &str = include_str!("openapi.json");

/// A page that shows all this and needs nothing else.
const DASHBOARD: &str = include_str!("dashboard.html");

/// Methods and paths, as `openapi.json` has them.
pub const PATHS: [(&str, &str); 20] = [
    ("GET", "/"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/status"),
    ("GET", "/config"),
    ("GET", "/clusters"),
    ("GET", "/cache"),
    ("GET", "/connections"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("POST", "/reload"),
    ("POST", "/upgrade"),
    ("POST", "/cache/purge"),
    ("POST", "/endpoints/{cluster}/{endpoint}/{duty}"),
    ("GET", "/stats"),
    ("GET", "/explain"),
    ("GET", "/plan"),
    ("GET", "/tap"),
    ("POST", "/endpoints/{cluster}/{endpoint}/weight"),
    ("GET", "/recent"),
];

impl AdminService for Arc<Api> {
    async fn judge(&self, request: AdminRequest) -> Result<AdminRequest, AdminResponse> {
        match self.guard.judge(&request, self.is_loopback) {
            Access::Granted => Ok(request),
            Access::Forbidden(why) => Err(fault(403, why)),
            Access::NoToken => {
                // Guessing takes its time; connections are few.
                tokio::time::sleep(ADMIN_REFUSAL_DELAY).await;
                Err(fault(401, "say Authorization: Bearer and the token of [admin]"))
            }
        }
    }

    async fn answer(&self, request: AdminRequest) -> AdminResponse {
        // What the coordinator does may take a while: the other connections go on.
        let api = Self::clone(self);
        let told = tokio::task::spawn_blocking(move || api.route(&request)).await;
        told.unwrap_or_else(|_| fault(500, "the admin listener made a mistake"))
    }
}

impl Api {
    fn route(&self, request: &AdminRequest) -> AdminResponse {
        let segments: Vec<String> = request.path.split('/').skip(1).map(decoded).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let is_get = matches!(request.method.as_str(), "GET" | "HEAD");
        let is_post = request.method == "POST";
        match segments.as_slice() {
            ["healthz"] if is_get => text(200, "ok\n"),
            ["readyz"] if is_get => match self.view() {
                Ok(view) if view.is_draining => text(503, DRAINING),
                Ok(_) => text(200, "ready\n"),
                Err(_) => text(503, "too busy to say, or at its end\n"),
            },
            [""] if is_get => AdminResponse {
                status: 200,
                content_type: "text/html; charset=utf-8",
                body: DASHBOARD.into(),
            },
            ["openapi.json"] if is_get => AdminResponse {
                status: 200,
                content_type: "application/json",
                body: OPENAPI.into(),
            },
            ["status"] if is_get => self.shown(Overview::status),
            ["config"] if is_get => self.shown(Overview::config),
            ["clusters"] if is_get => self.shown(Overview::clusters_json),
            ["cache"] if is_get => self.shown(Overview::cache_json),
            ["connections"] if is_get => self.connections(),
            ["stats"] if is_get => self.stats(),
            ["metrics"] if is_get => self.metrics(),
            ["recent"] if is_get => self.recent(&request.query),
            ["tap"] if is_get => self.tap(&request.query),
            ["plan"] if is_get => self.plan(request),
            ["explain"] if is_get => self.explain(&request.query),
            ["reload"] if is_post => self.reload(),
            ["upgrade"] if is_post => self.upgrade(),
            ["cache", "purge"] if is_post => self.purge(request),
            ["endpoints", cluster, endpoint, "weight"] if is_post => {
                self.weigh(cluster, endpoint, &request.body)
            }
            ["endpoints", cluster, endpoint, duty] if is_post => {
                self.assign(cluster, endpoint, duty)
            }
            _ if PATHS.iter().any(|(_, path)| is_like(path, &segments)) => {
                fault(405, "this path takes another method: GET /openapi.json lists them")
            }
            _ => fault(404, "there is no such path: GET /openapi.json lists them"),
        }
    }

    fn view(&self) -> Result<Box<Overview>, AdminResponse> {
        let (reply, answer) = bounded(1);
        self.give(AdminOrder::View { reply })?;
        wait(&answer)
    }

    fn give(&self, order: AdminOrder) -> Result<(), AdminResponse> {
        let given = self.orders.send_timeout(order, ADMIN_PATIENCE);
        given.map_err(|_| fault(503, "the coordinator is busy, or draining: ask again"))
    }

    fn shown(&self, of: impl FnOnce(&Overview) -> Value) -> AdminResponse {
        self.view().map_or_else(|fault| fault, |overview| json_of(&of(&overview)))
    }

    /// What the workers have measured, of all that answer in time.
    fn measured(&self) -> Result<(Box<Overview>, Vec<Measured>), AdminResponse> {
        let overview = self.view()?;
        let (reply, answers) = bounded(ADMIN_ANSWERS);
        self.give(AdminOrder::Measure { reply })?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for one in all_of(&answers, overview.moving()) {
            last.insert(one.shard.0, one);
        }
        // Of one that stands still what it said last: a sum that goes down would be a new start to Prometheus.
        Ok((overview, last.values().cloned().collect()))
    }

    /// The last exchanges, the newest first: `failed=1` for those that failed, `id` for one, `limit` for so many.
    fn recent(&self, query: &str) -> AdminResponse {
        let (mut which, mut id, mut limit) = (Which::All, None, 50);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("failed", "1")) => which = Which::Failed,
                Some(("failed", "0")) => {}
                Some(("id", value)) => id = Some(decoded(value)),
                Some(("limit", value)) if value.parse::<usize>().is_ok() => {
                    limit = value.parse().unwrap_or(limit);
                }
                _ => return fault(400, "recent takes failed=1, id and limit"),
            }
        }
        let asked = self.view().and_then(|overview| {
            let (reply, answers) = bounded(ADMIN_ANSWERS);
            self.give(AdminOrder::Recall { which, reply })?;
            let mut all: Vec<Recalled> = all_of(&answers, overview.moving());
            // One that failed may have left the others long ago.
            if id.is_some() {
                let (reply, answers) = bounded(ADMIN_ANSWERS);
                self.give(AdminOrder::Recall { which: Which::Failed, reply })?;
                all.extend(all_of(&answers, overview.moving()));
            }
            Ok(all)
        });
        let all = match asked {
            Ok(all) => all,
            Err(fault) => return fault,
        };
        let mut found: Vec<(&Arc<Config>, u16, Kept)> = Vec::new();
        for one in &all {
            for (config, kept) in &one.kept {
                let wanted =
                    kept.iter().filter(|kept| id.as_ref().is_none_or(|id| kept.has_id(id)));
                found.extend(wanted.map(|kept| (config, one.shard.0, *kept)));
            }
        }
        found
            .sort_by_key(|(_, _, kept)| std::cmp::Reverse((kept.record.wall, kept.record.started)));
        if id.is_some() {
            found
                .dedup_by_key(|(_, worker, kept)| (*worker, kept.record.wall, kept.record.started));
        }
        found.truncate(limit);
        let told = found.iter().map(|(config, worker, kept)| {
            let mut told = kept.json(config);
            told["worker"] = json!(worker);
            told
        });
        json_of(&told.collect())
    }

    fn metrics(&self) -> AdminResponse {
        match self.measured() {
            Ok((overview, measured)) => AdminResponse {
                status: 200,
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                body: metrics::render(&overview, &measured).into(),
            },
            Err(fault) => fault,
        }
    }

    fn connections(&self) -> AdminResponse {
        match self.measured() {
            Ok((_, measured)) => {
                let one = |one: &Measured| json!({ "worker": one.shard.0, "open": one.inside });
                json_of(&measured.iter().map(one).collect())
            }
            Err(fault) => fault,
        }
    }

    fn stats(&self) -> AdminResponse {
        match self.measured() {
            Ok((overview, measured)) => json_of(&overview.stats(&measured)),
            Err(fault) => fault,
        }
    }

    fn reload(&self) -> AdminResponse {
        let (reply, answer) = bounded(1);
        if let Err(fault) = self.give(AdminOrder::Reload { reply }) {
            return fault;
        }
        match answer.recv_timeout(6 * ADMIN_PATIENCE) {
            Ok(Ok(())) => {
                notice::note("admin: the configuration was read again by order");
                json_of(&json!({ "reloaded": true }))
            }
            Ok(Err(why)) => fault(422, &why),
            Err(_) => fault(503, "the coordinator did not answer in time: see /status"),
        }
    }

    /// `method`, `url`, `header` (any number of times) and `listener` of the query.
    fn explain(&self, query: &str) -> AdminResponse {
        let mut asked = Question { method: "GET".to_owned(), ..Question::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            match name {
                "method" => asked.method = value,
                "url" => asked.url = value,
                "header" => asked.headers.push(value),
                "listener" => asked.listener = Some(value),
                _ => return fault(400, "explain takes method, url, header and listener"),
            }
        }
        let (reply, answer) = bounded(1);
        let config = self.give(AdminOrder::Config { reply }).and_then(|()| wait(&answer));
        let told = config.and_then(|config| Ok((config, self.view()?)));
        match told {
            Ok((config, overview)) => match explain::explain(&config, Some(&overview), &asked) {
                Ok(told) => json_of(&told),
                Err(why) => fault(400, &why),
            },
            Err(fault) => fault,
        }
    }

    /// Exchanges as they end, a line of JSON each: those that `filter` takes.
    fn tap(&self, query: &str) -> AdminResponse {
        let filter = match query.split_once('=') {
            None if query.is_empty() => String::new(),
            Some(("filter", text)) => decoded(text),
            _ => return fault(400, "tap takes filter"),
        };
        let condition = match Condition::parse(&filter) {
            Ok(condition) => condition,
            Err(why) => return fault(400, &format!("filter: {why}")),
        };
        let Some(place) = TapPlace::take(&self.taps) else {
            return fault(503, &format!("{TAPS_MAX} watch already"));
        };
        let (tap, shown, missed) = Tap::new();
        if let Err(fault) = self.give(AdminOrder::Tap { tap }) {
            return fault;
        }
        let (lines, body) = tokio::sync::mpsc::channel(TAPPED_LINES);
        let watching = std::thread::Builder::new().name("tap".to_owned()).spawn(move || {
            let _place = place;
            watch::watch(&condition, &shown, &missed, &lines);
        });
        match watching {
            Ok(_) => AdminResponse {
                status: 200,
                content_type: "application/x-ndjson",
                body: AdminBody::Lines(body),
            },
            Err(error) => fault(503, &error.to_string()),
        }
    }

    /// What a reload would change, or another file: `file`, whose path is read with this process's rights.
    fn plan(&self, request: &AdminRequest) -> AdminResponse {
        let file = match request.query.split_once('=') {
            None if request.query.is_empty() => None,
            Some(("file", _)) if !request.is_by_socket => {
                return fault(
                    403,
                    "another file is read by order from the unix socket only: over TCP, plan reads the file that is served",
                );
            }
            Some(("file", path)) => Some(decoded(path).into()),
            _ => return fault(400, "plan takes file"),
        };
        let (reply, answer) = bounded(1);
        let planned = self.give(AdminOrder::Plan { file, reply }).and_then(|()| wait(&answer));
        let planned = match planned {
            Ok(Ok(planned)) => planned,
            Ok(Err(why)) => return fault(422, &why),
            Err(fault) => return fault,
        };
        let (overview, measured) = match self.measured() {
            Ok(measured) => measured,
            Err(fault) => return fault,
        };
        let mut told = planned.difference(measured.iter().map(|one| one.inside).sum());
        let (reply, answers) = bounded(ADMIN_ANSWERS);
        if let Err(fault) = self.give(AdminOrder::Recall { which: Which::All, reply }) {
            return fault;
        }
        let recalled: Vec<Recalled> = all_of(&answers, overview.moving());
        let served: Vec<_> = recalled.into_iter().flat_map(|one| one.kept).collect();
        told["replayed"] = planned.replayed(&served);
        json_of(&told)
    }

    fn upgrade(&self) -> AdminResponse {
        let (reply, answer) = bounded(1);
        if let Err(fault) = self.give(AdminOrder::Upgrade { reply }) {
            return fault;
        }
        match answer.recv_timeout(HEIR_PATIENCE + ADMIN_PATIENCE) {
            Ok(Ok(pid)) => json_of(&json!({ "pid": pid })),
            Ok(Err(why)) => fault(422, &why),
            Err(_) => fault(503, "the coordinator did not answer in time: see its messages"),
        }
    }

    fn assign(&self, cluster: &str, endpoint: &str, duty: &str) -> AdminResponse {
        let Some(duty) = Duty::of(duty) else {
            return fault(404, "an endpoint can be told: ready, drain, down");
        };
        let (reply, answer) = bounded(1);
        let (cluster, endpoint) = (cluster.to_owned(), endpoint.to_owned());
        self.done(AdminOrder::Assign { cluster, endpoint, duty, reply }, &answer)
    }

    /// `{"weight": 5}`, or `{"weight": null}` for the configured one.
    fn weigh(&self, cluster: &str, endpoint: &str, body: &[u8]) -> AdminResponse {
        let help =
            "write {\"weight\": 5}, from 1 to 1000, or {\"weight\": null} for the configured one";
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        let weight = match parsed.as_ref().and_then(|value| value.get("weight")) {
            Some(Value::Null) => None,
            Some(Value::Number(number)) => {
                match number.as_u64().and_then(|one| u32::try_from(one).ok()) {
                    Some(weight @ 1..=WEIGHT_MAX) => Some(weight),
                    _ => return fault(400, help),
                }
            }
            _ => return fault(400, help),
        };
        let (reply, answer) = bounded(1);
        let (cluster, endpoint) = (cluster.to_owned(), endpoint.to_owned());
        self.done(AdminOrder::Weigh { cluster, endpoint, weight, reply }, &answer)
    }

    /// Gives an order about an endpoint.
    fn done(&self, order: AdminOrder, answer: &Receiver<Result<(), String>>) -> AdminResponse {
        match self.give(order).and_then(|()| wait(answer)) {
            Ok(Ok(())) => json_of(&json!({ "done": true })),
            Ok(Err(why)) => fault(404, &why),
            Err(fault) => fault,
        }
    }

    fn purge(&self, request: &AdminRequest) -> AdminResponse {
        let purge = match parse_purge(&request.body) {
            Ok(purge) => purge,
            Err(why) => return fault(400, &why),
        };
        let (reply, answer) = bounded(1);
        notice::note(format_args!("admin: purge {}", String::from_utf8_lossy(&request.body)));
        if let Err(fault) = self.give(AdminOrder::Purge { purge, reply }) {
            return fault;
        }
        match wait(&answer) {
            Ok(Ok(count)) => json_of(&json!({ "purged": count })),
            Ok(Err(_)) => fault(
                503,
                "not every core, or not the disk, has confirmed the purge: send it again",
            ),
            Err(fault) => fault,
        }
    }
}

/// What the workers answer, of all that do in time: one that is stuck keeps the others from nothing.
fn all_of<T>(answers: &Receiver<T>, workers: usize) -> Vec<T> {
    let mut all = Vec::new();
    while all.len() < workers {
        match answers.recv_timeout(ADMIN_PATIENCE) {
            Ok(one) => all.push(one),
            Err(_) => break,
        }
    }
    all
}

fn wait<T>(answer: &Receiver<T>) -> Result<T, AdminResponse> {
    answer
        .recv_timeout(ADMIN_PATIENCE)
        .map_err(|_| fault(503, "the coordinator did not answer in time: ask again"))
}

/// `{"url": …}`, `{"prefix": …}`, `{"pattern": …}`, `{"tags": […]}` or `{"all": true}`, and perhaps `"soft": true`.
fn parse_purge(body: &[u8]) -> Result<Purge, String> {
    let help = "write {\"url\": \"https://host/path\"}, {\"prefix\": …}, {\"pattern\": …}, {\"tags\": [\"a\"]} or {\"all\": true}, \
                and perhaps \"soft\": true";
    let parsed: Value =
        serde_json::from_slice(body).map_err(|error| format!("no JSON ({error}); {help}"))?;
    let Value::Object(fields) = parsed else { return Err(help.to_owned()) };
    let (mut what, mut is_soft) = (None, false);
    for (key, value) in &fields {
        let one = match (key.as_str(), value) {
            ("soft", Value::Bool(soft)) => {
                is_soft = *soft;
                continue;
            }
            ("all", Value::Bool(true)) => What::All,
            ("url", Value::String(url)) => {
                let (is_secure, authority, target) = split(url)?;
                What::url(is_secure, authority.as_bytes(), target.as_bytes())
            }
            ("prefix", Value::String(url)) => {
                let (_, authority, target) = split(url)?;
                What::Prefix(authority.into_bytes(), target.into_bytes())
            }
            ("pattern", Value::String(url)) => {
                let (_, authority, target) = split(url)?;
                What::Pattern(authority.into_bytes(), target.into_bytes())
            }
            ("tags", Value::Array(tags)) if !tags.is_empty() => {
                let tags: Option<Vec<Vec<u8>>> =
                    tags.iter().map(|tag| Some(tag.as_str()?.as_bytes().to_vec())).collect();
                What::Tags(tags.ok_or("tags are strings")?)
            }
            _ => return Err(format!("\"{key}\" with this value means nothing here; {help}")),
        };
        if what.replace(one).is_some() {
            return Err(format!("one thing at a time; {help}"));
        }
    }
    what.map(|what| Purge { what, is_soft }).ok_or_else(|| help.to_owned())
}

/// Whether a path has the form of a listed one.
fn is_like(listed: &str, segments: &[&str]) -> bool {
    let wanted: Vec<&str> = listed.split('/').skip(1).collect();
    wanted.len() == segments.len()
        && wanted.iter().zip(segments).all(|(one, other)| one.starts_with('{') || one == other)
}

/// A segment of a path without its percent signs; what is no UTF-8 is nobody's name.
fn decoded(segment: &str) -> String {
    let mut out = Vec::with_capacity(segment.len());
    let bytes = segment.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let digits = segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn json_of(value: &Value) -> AdminResponse {
    AdminResponse {
        status: 200,
        content_type: "application/json",
        body: format!("{value:#}\n").into(),
    }
}

fn text(status: u16, body: &str) -> AdminResponse {
    AdminResponse { status, content_type: "text/plain; charset=utf-8", body: body.into() }
}

fn fault(status: u16, why: &str) -> AdminResponse {
    AdminResponse {
        status,
        content_type: "application/json",
        body: format!("{:#}\n", json!({ "error": why })).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_lists_what_is_answered() {
        let all: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut listed: Vec<(String, String)> = Vec::new();
        for (path, methods) in all["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                listed.push((method.to_uppercase(), path.clone()));
            }
        }
        let mut own: Vec<(String, String)> =
            PATHS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
        listed.sort();
        own.sort();
        assert_eq!(listed, own);
    }

    #[test]
    fn purges_say_one_thing() {
        let what =
            |text: &str| parse_purge(text.as_bytes()).map(|purge| (purge.what, purge.is_soft));
        assert_eq!(what("{\"all\": true}"), Ok((What::All, false)));
        assert_eq!(
            what("{\"prefix\": \"https://A.example/x\", \"soft\": true}"),
            Ok((What::Prefix(b"a.example".to_vec(), b"/x".to_vec()), true))
        );
        assert_eq!(
            what("{\"tags\": [\"a\", \"b\"]}"),
            Ok((What::Tags(vec![b"a".to_vec(), b"b".to_vec()]), false))
        );
        for wrong in [
            "",
            "[]",
            "{}",
            "{\"all\": false}",
            "{\"url\": \"a.example\"}",
            "{\"tags\": []}",
            "{\"tags\": [1]}",
            "{\"all\": true, \"prefix\": \"http://a/\"}",
            "{\"soft\": true}",
            "{\"everything\": true}",
        ] {
            assert!(parse_purge(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn segments_are_decoded() {
        assert_eq!(decoded("unix:%2frun%2Fa.sock"), "unix:/run/a.sock");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
