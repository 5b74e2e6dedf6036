//! Floor 11: commands that talk to a running process by its admin listener. A command becomes one request, and the
//! answer a text.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::explain::{self, Question};
use crate::admin::plan;
use crate::base::limits::{ADMIN_PATIENCE, HEIR_PATIENCE};
use crate::config::admin::{AdminAddress, SOCKET};
use crate::config::units;
use crate::net::admin::{ask, watch};

/// What is asked of a running process.
#[derive(Clone, Debug, Subcommand)]
pub enum Operate {
    /// Show how a running millrace is: listeners, endpoints and why one is out, certificates
    #[command(
        after_help = "Examples:\n  millrace status\n  millrace status --admin 127.0.0.1:9901 --json"
    )]
    Status(ProcessArgs),
    /// Show what was measured since the start: requests, percentiles, bytes, by route and endpoint
    Stats(ProcessArgs),
    /// Send an endpoint no new clients; it finishes what it has
    #[command(after_help = "Example:\n  millrace drain app 10.0.0.5:3000")]
    Drain(OneEndpoint),
    /// Send an endpoint requests again, after drain or down
    Ready(OneEndpoint),
    /// Send an endpoint nothing any more
    Down(OneEndpoint),
    /// Give an endpoint another weight until the next restart, or its configured one again
    #[command(after_help = "Examples:
  millrace weight app 10.0.0.5:3000 5
  millrace weight app 10.0.0.5:3000 reset")]
    Weight(WeightArgs),
    /// Take entries out of the cache
    #[command(after_help = "Examples:
  millrace purge --url https://example.com/a
  millrace purge --prefix https://example.com/img/
  millrace purge --tag product-7 --soft
  millrace purge --all")]
    Purge(PurgeArgs),
    /// Have the configuration read again; says why it is refused
    Reload(ProcessArgs),
    /// Show the last requests, the newest first
    Recent(RecentArgs),
    /// Watch requests as they end: all, or those that a condition takes
    #[command(after_help = "Examples:
  millrace tap
  millrace tap 'status>=500 && host==\"a.example\"'
  millrace tap 'duration_ms>250 || flag!=null' --limit 10 --json")]
    Tap(TapArgs),
    /// Say what becomes of a request and why: each route tried, the target, the endpoints and their state
    #[command(after_help = "Examples:
  millrace explain GET https://shop.example/cart?x=1 -H 'cookie: a=b'
  millrace explain GET http://a.example/ --config millrace.toml      # by a file, nothing has to run
  millrace explain 01a2272d-9335-7dd3-b052-5c87fcf62f30              # what became of one that was served")]
    Explain(ExplainArgs),
    /// Say what a reload would change, or another file, and where the last requests would go then
    #[command(after_help = "Examples:
  millrace plan                        # its own file, as it is now
  millrace plan /etc/millrace/new.toml")]
    Plan(PlanArgs),
    /// Put the program that is installed now in place of the running one; no client notices
    Upgrade(ProcessArgs),
}

/// Which process.
#[derive(Clone, Debug, Args)]
pub struct ProcessArgs {
    /// Its admin listener: unix:PATH or IP:PORT
    #[arg(long, value_name = "ADDRESS", default_value_t = format!("unix:{SOCKET}"), env = "MILLRACE_ADMIN")]
    pub admin: String,
    /// File whose first line is the token that the listener wants
    #[arg(long, value_name = "FILE", env = "MILLRACE_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the answer as it came, for machines
    #[arg(long)]
    pub json: bool,
}

/// An endpoint of a cluster.
#[derive(Clone, Debug, Args)]
pub struct OneEndpoint {
    /// The cluster's name
    pub cluster: String,
    /// The endpoint's address as it is configured
    pub endpoint: String,
    #[command(flatten)]
    pub target: ProcessArgs,
}

/// An endpoint's weight.
#[derive(Clone, Debug, Args)]
pub struct WeightArgs {
    /// The cluster's name
    pub cluster: String,
    /// The endpoint's address as it is configured
    pub endpoint: String,
    /// From 1 to 1000, or "reset"
    #[arg(value_parser = weight)]
    pub weight: EndpointWeight,
    #[command(flatten)]
    pub target: ProcessArgs,
}

/// A weight; none for the configured one.
#[derive(Clone, Copy, Debug)]
pub struct EndpointWeight(pub Option<u32>);

fn weight(text: &str) -> Result<EndpointWeight, String> {
    match text.parse() {
        Ok(weight @ 1..=1000) => Ok(EndpointWeight(Some(weight))),
        _ if text == "reset" => Ok(EndpointWeight(None)),
        _ => Err("a weight is from 1 to 1000, or \"reset\"".to_owned()),
    }
}

/// Which of the last requests.
#[derive(Clone, Debug, Args)]
pub struct RecentArgs {
    /// Those that failed, which are remembered longer
    #[arg(long)]
    pub failed: bool,
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
    #[command(flatten)]
    pub target: ProcessArgs,
}

/// Which requests are watched.
#[derive(Clone, Debug, Args)]
pub struct TapArgs {
    /// A condition on the fields of `millrace recent --json`: ==, !=, <, <=, >, >=, =~ (expression), !~, &&, ||, !, ( )
    #[arg(default_value = "")]
    pub filter: String,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub target: ProcessArgs,
}

/// A configuration.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The file; without it the one that is served, read again
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub target: ProcessArgs,
}

/// A request.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Its method; or, alone, the X-Request-Id of one that was served
    #[arg(value_name = "METHOD|REQUEST-ID")]
    pub method: String,
    /// Its URL, such as `https://host/path?query`
    #[arg(required_if_eq_any = [("method", "GET"), ("method", "POST"), ("method", "HEAD")])]
    pub url: Option<String>,
    /// A header, as in "name: value"; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// The listener that it comes in by; without it the first that speaks the URL's scheme
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Ask this configuration file, and no process
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub target: ProcessArgs,
}

impl ExplainArgs {
    /// The request, as a question.
    #[must_use]
    pub fn question(&self) -> Question {
        let Self { method, url, headers, listener, .. } = self.clone();
        Question { method, url: url.unwrap_or_default(), headers, listener }
    }
}

/// What is taken out.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub struct PurgeArgs {
    /// One URL with all its variants
    #[arg(long, value_name = "URL", group = "what")]
    pub url: Option<String>,
    /// Whatever begins so
    #[arg(long, value_name = "URL", group = "what")]
    pub prefix: Option<String>,
    /// Paths that match, in which * is any text
    #[arg(long, value_name = "URL", group = "what")]
    pub pattern: Option<String>,
    /// Whatever the origin gave one of these tags
    #[arg(long, value_name = "TAG", group = "what")]
    pub tag: Vec<String>,
    /// Everything
    #[arg(long, group = "what")]
    pub all: bool,
    /// Keep entries, to be served stale while they are fetched anew
    #[arg(long)]
    pub soft: bool,
    #[command(flatten)]
    pub target: ProcessArgs,
}

/// Why a command did nothing.
#[derive(Debug)]
pub enum CommandFailure {
    /// The process could not be asked: exit code 2.
    NotAsked(String),
    /// It said no: exit code 1.
    Refused(String),
}

impl Operate {
    /// Asks; what is to be printed.
    ///
    /// # Errors
    /// The process cannot be asked, or says no.
    pub fn run(&self) -> Result<String, CommandFailure> {
        let target = self.target();
        if let Self::Tap(tap) = self {
            return tap.run();
        }
        let (method, path, body) = self.request();
        let answer = target.ask(method, &path, &body)?;
        if target.json {
            return Ok(answer);
        }
        let value: Value = serde_json::from_str(&answer).map_err(|_| {
            let begin: String = answer.chars().take(80).collect();
            CommandFailure::NotAsked(format!(
                "what answers on {} is no admin listener of millrace: {begin:?}",
                target.admin
            ))
        })?;
        Ok(match self {
            Self::Status(_) => status(&value),
            Self::Stats(_) => stats(&value),
            Self::Drain(one) => format!("{} is draining\n", one.endpoint),
            Self::Ready(one) => format!("{} is ready\n", one.endpoint),
            Self::Down(one) => format!("{} is down\n", one.endpoint),
            Self::Weight(one) => match one.weight.0 {
                Some(weight) => format!("{} has weight {weight}\n", one.endpoint),
                None => format!("{} has its configured weight\n", one.endpoint),
            },
            Self::Purge(purge) if purge.soft => {
                format!("{} entries are stale now\n", value["purged"])
            }
            Self::Purge(_) => format!("{} entries taken out\n", value["purged"]),
            Self::Recent(_) => list(&value).iter().map(line).collect(),
            Self::Explain(one) if one.url.is_none() => match list(&value).first() {
                Some(told) => told_of(told),
                None => {
                    let why = format!("no exchange with the id {} is remembered", one.method);
                    return Err(CommandFailure::Refused(why));
                }
            },
            Self::Explain(_) => explain::text(&value),
            Self::Tap(_) => String::new(),
            Self::Plan(_) => plan::text(&value),
            Self::Reload(_) => "the configuration was read again\n".to_owned(),
            Self::Upgrade(_) => {
                format!("process {} serves now; the old one drains\n", value["pid"])
            }
        })
    }

    const fn target(&self) -> &ProcessArgs {
        match self {
            Self::Status(target)
            | Self::Stats(target)
            | Self::Reload(target)
            | Self::Upgrade(target) => target,
            Self::Drain(one) | Self::Ready(one) | Self::Down(one) => &one.target,
            Self::Purge(purge) => &purge.target,
            Self::Weight(weight) => &weight.target,
            Self::Explain(explain) => &explain.target,
            Self::Recent(recent) => &recent.target,
            Self::Plan(plan) => &plan.target,
            Self::Tap(tap) => &tap.target,
        }
    }

    fn request(&self) -> (&'static str, String, String) {
        let duty = |one: &OneEndpoint, duty| {
            let (cluster, endpoint) = (encoded(&one.cluster), encoded(&one.endpoint));
            ("POST", format!("/endpoints/{cluster}/{endpoint}/{duty}"), String::new())
        };
        match self {
            Self::Status(_) => ("GET", "/status".to_owned(), String::new()),
            Self::Stats(_) => ("GET", "/stats".to_owned(), String::new()),
            Self::Drain(one) => duty(one, "drain"),
            Self::Ready(one) => duty(one, "ready"),
            Self::Down(one) => duty(one, "down"),
            Self::Weight(one) => {
                let (cluster, endpoint) = (encoded(&one.cluster), encoded(&one.endpoint));
                let body = json!({ "weight": one.weight.0 }).to_string();
                ("POST", format!("/endpoints/{cluster}/{endpoint}/weight"), body)
            }
            Self::Recent(recent) => {
                let (failed, limit) = (u8::from(recent.failed), recent.limit);
                ("GET", format!("/recent?failed={failed}&limit={limit}"), String::new())
            }
            Self::Explain(ExplainArgs { url: None, method: id, .. }) => {
                ("GET", format!("/recent?id={}", encoded(id)), String::new())
            }
            Self::Explain(one) => {
                let url = one.url.as_deref().unwrap_or_default();
                let mut query = format!("method={}&url={}", encoded(&one.method), encoded(url));
                one.headers.iter().for_each(|header| {
                    let _ = write!(query, "&header={}", encoded(header));
                });
                one.listener.iter().for_each(|name| {
                    let _ = write!(query, "&listener={}", encoded(name));
                });
                ("GET", format!("/explain?{query}"), String::new())
            }
            Self::Purge(purge) => ("POST", "/cache/purge".to_owned(), purge.body().to_string()),
            Self::Tap(tap) => ("GET", tap.path(), String::new()),
            Self::Plan(PlanArgs { file: None, .. }) => ("GET", "/plan".to_owned(), String::new()),
            Self::Plan(PlanArgs { file: Some(file), .. }) => {
                let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                (
                    "GET",
                    format!("/plan?file={}", encoded(&file.display().to_string())),
                    String::new(),
                )
            }
            Self::Reload(_) => ("POST", "/reload".to_owned(), String::new()),
            Self::Upgrade(_) => ("POST", "/upgrade".to_owned(), String::new()),
        }
    }
}

impl PurgeArgs {
    fn body(&self) -> Value {
        let mut body = match (&self.url, &self.prefix, &self.pattern) {
            (Some(url), ..) => json!({ "url": url }),
            (_, Some(prefix), _) => json!({ "prefix": prefix }),
            (.., Some(pattern)) => json!({ "pattern": pattern }),
            _ if self.all => json!({ "all": true }),
            _ => json!({ "tags": self.tag }),
        };
        body["soft"] = Value::Bool(self.soft);
        body
    }
}

impl TapArgs {
    fn path(&self) -> String {
        match self.filter.as_str() {
            "" => "/tap".to_owned(),
            filter => format!("/tap?filter={}", encoded(filter)),
        }
    }

    /// Prints what comes, until there is enough of it or standard output is closed.
    fn run(&self) -> Result<String, CommandFailure> {
        let (address, token) = self.target.place()?;
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut take = |text: &str| {
            let shown = match serde_json::from_str::<Value>(text) {
                Ok(value) if !value["missed"].is_null() => {
                    format!("(too fast: {} were not shown)\n", value["missed"])
                }
                Ok(value) if !self.target.json => line(&value),
                _ => format!("{text}\n"),
            };
            left = left.saturating_sub(1);
            let mut out = std::io::stdout().lock();
            out.write_all(shown.as_bytes()).and_then(|()| out.flush()).is_ok() && left > 0
        };
        match watch(&address, &self.path(), token.as_deref(), &mut take) {
            Ok(Ok(())) => Ok(String::new()),
            Ok(Err((status, answer))) => Err(CommandFailure::Refused(refusal(status, answer))),
            Err(error) => Err(CommandFailure::NotAsked(not_asked(&address, &error))),
        }
    }
}

/// Why the process says no, in its words.
fn refusal(status: u16, answer: String) -> String {
    let why = serde_json::from_str::<Value>(&answer).ok();
    let why = why.and_then(|one| Some(one["error"].as_str()?.to_owned())).unwrap_or(answer);
    if status == 401 { format!("{why}; --token-file has it") } else { why }
}

impl ProcessArgs {
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String, CommandFailure> {
        let (address, token) = self.place()?;
        let patience = match path {
            "/upgrade" => HEIR_PATIENCE + 2 * ADMIN_PATIENCE,
            "/reload" => 7 * ADMIN_PATIENCE,
            _ => 3 * ADMIN_PATIENCE,
        };
        let (status, answer) = ask(&address, method, path, token.as_deref(), body, patience)
            .map_err(|error| CommandFailure::NotAsked(not_asked(&address, &error)))?;
        if status == 200 {
            return Ok(answer);
        }
        Err(CommandFailure::Refused(refusal(status, answer)))
    }

    /// Where it listens, and the token.
    fn place(&self) -> Result<(AdminAddress, Option<String>), CommandFailure> {
        let address = units::admin_address(&self.admin).map_err(|_| {
            CommandFailure::NotAsked(format!(
                "--admin {}: write \"unix:\" and the absolute path of its socket, or an IP address and a port \
                 such as 127.0.0.1:9901",
                self.admin
            ))
        })?;
        let token = self.token_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| {
                CommandFailure::NotAsked(format!("{}: {error}", path.display()))
            })?;
            Ok(text.lines().next().unwrap_or_default().trim().to_owned())
        });
        let token = token.transpose()?;
        Ok((address, token))
    }
}

fn not_asked(address: &AdminAddress, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            ": does it run, and does its configuration have [admin]? --admin says where"
        }
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            return format!(
                "millrace cannot be asked on {address}: it accepts, but gives no answer in time"
            );
        }
        std::io::ErrorKind::PermissionDenied => ": only its user may use the socket",
        _ => "",
    };
    format!("millrace cannot be asked on {address}: {error}{hint}")
}

/// Percent signs for what has a meaning in a path.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' | b'[' | b']' => {
                out.push(char::from(byte));
            }
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn status(value: &Value) -> String {
    let mut out = String::new();
    let (name, version) = (text(&value["name"]), text(&value["version"]));
    let uptime = value["uptime_seconds"].as_u64().unwrap_or_default();
    let _ = writeln!(
        out,
        "{name}, millrace {version}, up {}, {} workers, {} of memory, {} in the cache",
        lasting(uptime),
        value["workers"],
        octets(&value["memory"]["bytes"]),
        octets(&value["cache"]["bytes"]),
    );
    for worker in list(&value["stalled_workers"]) {
        let _ = writeln!(out, "worker {worker} stands still: the others accept in its place");
    }
    for one in list(&value["listeners"]) {
        let _ = writeln!(out, "listener {}: {}", text(&one["name"]), text(&one["address"]));
    }
    for cluster in list(&value["clusters"]) {
        let _ = writeln!(out, "cluster {} ({})", text(&cluster["name"]), text(&cluster["balance"]));
        for one in list(&cluster["endpoints"]) {
            let _ = writeln!(out, "  {}", endpoint(one));
        }
    }
    for one in list(&value["certificates"]) {
        let names: Vec<&str> = list(&one["names"]).iter().map(text).collect();
        let _ = writeln!(out, "certificate {}: {} days left", names.join(", "), one["days_left"]);
    }
    out
}

fn endpoint(one: &Value) -> String {
    let address = match one["resolved"].as_str() {
        Some(resolved) => format!("{} ({resolved})", text(&one["address"])),
        None => text(&one["address"]).to_owned(),
    };
    let state = text(&one["state"]);
    format!("{address:<28} {state:<34} weight {}, {} under way", one["weight"], one["in_flight"])
}

/// One exchange on one line.
fn line(one: &Value) -> String {
    let why = one["detail"].as_str().or_else(|| one["reason"].as_str()).unwrap_or_default();
    format!(
        "{} {} {:<5} {}{} {} ms {} {} {why}\n",
        text(&one["time"]),
        one["status"],
        text(&one["method"]),
        text(&one["host"]),
        text(&one["path"]),
        one["duration_ms"],
        one["endpoint"].as_str().unwrap_or("-"),
        text(&one["request_id"]),
    )
}

/// One exchange, all that is known of it.
fn told_of(one: &Value) -> String {
    let mut out = String::new();
    for (name, value) in one.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null())
    {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(out, "{name:<12} {shown}");
    }
    out
}

fn stats(value: &Value) -> String {
    let mut out = format!(
        "{} requests since {}, {} failed, {} sent again, {} connections open\n",
        value["exchanges"],
        lasting(value["uptime_seconds"].as_u64().unwrap_or_default()),
        value["failures"],
        value["retries"],
        value["connections"],
    );
    let mut table = |title: &str, rows: &[Value], name: &dyn Fn(&Value) -> String, took: &str| {
        let _ = writeln!(
            out,
            "{title:<32} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "requests", "4xx", "5xx", "p50 ms", "p90 ms", "p99 ms"
        );
        for one in rows {
            let (all, took) = (&one["requests"], &one[took]);
            let _ = writeln!(
                out,
                "{:<32} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
                name(one),
                all["all"].to_string(),
                all["4xx"].to_string(),
                all["5xx"].to_string(),
                took["p50"].to_string(),
                took["p90"].to_string(),
                took["p99"].to_string()
            );
        }
    };
    table("route", list(&value["routes"]), &|one| text(&one["route"]).to_owned(), "duration_ms");
    let endpoint = |one: &Value| format!("{} {}", text(&one["cluster"]), text(&one["endpoint"]));
    table("endpoint", list(&value["endpoints"]), &endpoint, "upstream_ms");
    out
}

fn lasting(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn octets(value: &Value) -> String {
    let count = value.as_u64().unwrap_or_default();
    format!("{:.1} MiB", count as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_segments() {
        assert_eq!(encoded("[::1]:3000"), "[::1]:3000");
        assert_eq!(encoded("unix:/run/a b"), "unix:%2Frun%2Fa%20b");
    }

    #[test]
    fn an_endpoint_says_why_it_is_out() {
        let one = json!({ "address": "10.0.0.1:80", "state": "out (failures), asked again in 2.5 s", "weight": 1, "in_flight": 0 });
        assert!(
            endpoint(&one).contains("out (failures), asked again in 2.5 s"),
            "{}",
            endpoint(&one)
        );
    }
}
