//! Opens a configuration file, and shows what is wrong with it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use crate::base::id::RouteId;
use crate::base::limits::CONFIG_BYTES_MAX;
use crate::config::lower::lower;
use crate::config::model::{Config, PathMatch, Route};
use crate::config::problem::Problems;
use crate::net::tls::pem::BYTE_ORDER_MARK;
use crate::route::overlap::{self, Contested};
use crate::route::{self, path};

/// A verdict on a configuration: the plan if it is good, and everything there is to say.
pub struct CheckedConfig {
    pub config: Option<Config>,
    /// Errors and warnings, ready to print; empty if there are none.
    pub report: String,
    /// How many problems there are.
    pub problems: usize,
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, is no text or too large.
pub fn file(path: &Path) -> Result<CheckedConfig, String> {
    let shown = path.display();
    let fault = |error: std::io::Error| format!("{shown}: {error}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fault)?;
    // Not by its size: a pipe and a device have none.
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("{shown}: a configuration has at most {CONFIG_BYTES_MAX} bytes"));
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = *bytes {
        return Err(format!("{shown}: it is UTF-16, as some editors write it: save it as UTF-8"));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        format!("{shown}: not UTF-8 at byte {}", error.utf8_error().valid_up_to())
    })?;
    Ok(check(&shown.to_string(), &text))
}

/// Judges a text. This is the verdict of `check` and of `run`.
#[must_use]
pub fn check(name: &str, text: &str) -> CheckedConfig {
    let (config, mut problems) = lower(text);
    if let Some(config) = &config {
        warn_of_shadowed(config, text, &mut problems);
        warn_of_contested(config, text, &mut problems);
    }
    CheckedConfig { report: problems.render(name, text), problems: problems.len(), config }
}

fn warn_of_shadowed(config: &Config, text: &str, problems: &mut Problems) {
    for shadowed in route::shadowed(config) {
        let by = route_of(config, shadowed.by).line;
        let message =
            format!("this route never matches: the route on line {by} takes all its requests");
        problems.warning(whole_line(text, route_of(config, shadowed.route).line), message);
    }
}

/// Of two expressions that match one path the longer one is asked first, which few expect.
fn warn_of_contested(config: &Config, text: &str, problems: &mut Problems) {
    for Contested { one, other, path } in overlap::contested(config) {
        let (one, other) = (route_of(config, one), route_of(config, other));
        let (PathMatch::Regex(own), PathMatch::Regex(theirs)) = (&one.path, &other.path) else {
            continue;
        };
        let first = if path::rank(&one.path) > path::rank(&other.path) { own } else { theirs };
        let message = format!(
            "\"~{own}\" here and \"~{theirs}\" on line {} both match \"{path}\": the longer \
             expression is asked first, which is \"~{first}\"",
            other.line
        );
        problems.warning(whole_line(text, one.line), message);
    }
}

fn route_of(config: &Config, id: RouteId) -> &Route {
    &config.routes[usize::from(id.0)]
}

/// Where a line stands, which is counted from one.
fn whole_line(text: &str, line: usize) -> Range<usize> {
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let len = text[start..].lines().next().map_or(0, str::len);
    start..start + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once_with_its_place() {
        let text = "[server]\ncoers = 2\n[[listener]]\naddress = \"localhost:80\"\n\
                    [[cluster]]\nname = \"app\"\nbalance = \"roundrobin\"\n\
                    [[cluster.endpoint]]\naddress = \"1.2.3.4\"\n\
                    [[route]]\ncluster = \"ap\"\npath = \"/a/../b\"\nmethods = [\"get\"]\n\
                    [timeouts]\nconnect = \"0s\"\nhead = 10\n";
        let report = check("a.toml", text).report;
        for expected in [
            "a.toml:2:1",
            "did you mean \"cores\"?",
            "a.toml:4:11",
            "127.0.0.1:80",
            "a.toml:7:11",
            "did you mean \"round_robin\"?",
            "a.toml:9:11",
            "no port",
            "a.toml:11:11",
            "did you mean \"app\"?",
            "a.toml:12:8",
            "write \"/b\"",
            "a.toml:13:12",
            "upper case",
            "a.toml:15:11",
            "zero",
            "a.toml:16:8",
            "must be a string",
        ] {
            assert!(report.contains(expected), "no {expected:?} in\n{report}");
        }
    }

    #[test]
    fn shadowed_routes_are_a_warning_that_names_both_places() {
        let text = "[[listener]]\naddress=\"127.0.0.1:0\"\n[[route]]\nrespond={}\n\n[[route]]\nrespond={}\n";
        let verdict = check("a.toml", text);
        assert!(verdict.config.is_some());
        assert!(verdict.report.contains("a.toml:6:1"), "{}", verdict.report);
        assert!(verdict.report.contains("line 3"), "{}", verdict.report);
    }

    #[test]
    fn an_endpoint_that_is_our_own_listener_is_refused() {
        let text = "[[listener]]\naddress=\"0.0.0.0:8080\"\n[[cluster]]\nname=\"c\"\n\
                    [[cluster.endpoint]]\naddress=\"127.0.0.1:8080\"\n[[route]]\ncluster=\"c\"\n";
        assert!(check("a.toml", text).report.contains("go round"));
        // A TCP listener may lead to one that speaks HTTP.
        let tcp = "[[listener]]\naddress=\"0.0.0.0:8443\"\nmode=\"tcp\"\nname=\"t\"\n";
        let verdict = check("a.toml", &format!("{tcp}{text}listener=\"t\"\n"));
        assert!(
            verdict.config.is_some() && verdict.report.contains("lead there"),
            "{}",
            verdict.report
        );
    }

    #[test]
    fn noise_is_refused_and_never_panics() {
        for text in
            ["", "\u{feff}", "a", "[", "[[listener]]\n[[listener]]", "x = [[[[[[", "[a]\n[a]"]
        {
            assert!(check("a.toml", text).config.is_none(), "{text:?}");
        }
    }
}
