//! Floor 11: commands that talk to a running process by its admin listener. A command becomes one request, and the
//! answer a text.

pub mod process;
mod text;
mod top;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::explain::{self, Question};
use crate::admin::plan;
use crate::base::limits::WEIGHT_MAX;
use crate::net::admin::watch;
use process::{CommandFailure, ProcessArgs, not_asked, refusal};
use text::{line, list, stats, status, told_of};
use top::TopArgs;

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
    /// Watch it in a terminal: requests a second, latency, endpoints, last failures
    #[command(after_help = "Keys: q ends, space holds and goes on")]
    Top(TopArgs),
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
        Ok(weight @ 1..=WEIGHT_MAX) => Ok(EndpointWeight(Some(weight))),
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

impl Operate {
    /// Asks; what is to be printed.
    ///
    /// # Errors
    /// The process cannot be asked, or says no.
    pub fn run(&self) -> Result<String, CommandFailure> {
        let target = self.target();
        match self {
            Self::Tap(tap) => return tap.run(),
            Self::Top(top) => return top.run(),
            _ => {}
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
            Self::Tap(_) | Self::Top(_) => String::new(),
            Self::Plan(_) if value["needs_restart"].is_null() => plan::text(&value),
            Self::Plan(_) => {
                let _ = std::io::stdout().write_all(plan::text(&value).as_bytes());
                return Err(CommandFailure::Refused("a reload would refuse this".to_owned()));
            }
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
            Self::Top(top) => &top.target,
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
            Self::Top(_) => ("GET", "/status".to_owned(), String::new()),
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
        let (mut left, mut is_closed) = (self.limit.unwrap_or(u64::MAX), false);
        let mut take = |text: &str| {
            if text.is_empty() {
                return true;
            }
            let shown = match serde_json::from_str::<Value>(text) {
                Ok(value) if !value["missed"].is_null() => {
                    format!("(too fast: {} were not shown)\n", value["missed"])
                }
                Ok(value) if !self.target.json => line(&value),
                _ => format!("{text}\n"),
            };
            left = left.saturating_sub(1);
            let mut out = std::io::stdout().lock();
            is_closed = out.write_all(shown.as_bytes()).and_then(|()| out.flush()).is_err();
            !is_closed && left > 0
        };
        match watch(&address, &self.path(), token.as_deref(), &mut take) {
            Ok(Ok(())) if left > 0 && !is_closed => Err(CommandFailure::NotAsked(
                "the process ends, or another one serves now: nothing more is shown".to_owned(),
            )),
            Ok(Ok(())) => Ok(String::new()),
            Ok(Err((status, answer))) => Err(CommandFailure::Refused(refusal(status, answer))),
            Err(error) => Err(CommandFailure::NotAsked(not_asked(&address, &error))),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_segments() {
        assert_eq!(encoded("[::1]:3000"), "[::1]:3000");
        assert_eq!(encoded("unix:/run/a b"), "unix:%2Frun%2Fa%20b");
    }
}
