//! Opens a configuration file, and shows what is wrong with it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::hash::stable;
use crate::base::id::RouteId;
use crate::base::limits::{CONFIG_BYTES_MAX, INCLUDES_MAX};
use crate::config::lower::lower_source;
use crate::config::merge::{Environment, replaced};
use crate::config::model::{Config, PathMatch, Route};
use crate::config::problem::Problems;
use crate::config::source::{Source, SourceLine};
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
    let mut source = Source::new(&path.display().to_string(), &read(path, CONFIG_BYTES_MAX)?);
    include(&mut source);
    Ok(judge(&source, &variable))
}

/// What changes when a file, or one that it includes, is written: of names, lengths and times. Zero for what is no
/// regular file: a pipe cannot be read twice.
#[must_use]
pub fn stamp(path: &Path) -> u64 {
    if !path.is_file() {
        return 0;
    }
    let mut all = Vec::new();
    let mut note = |path: &Path| {
        all.extend_from_slice(path.as_os_str().as_encoded_bytes());
        if let Ok(found) = std::fs::metadata(path) {
            let times = [found.mtime(), found.mtime_nsec(), found.ino().cast_signed()];
            times.iter().for_each(|one| all.extend_from_slice(&one.to_ne_bytes()));
            all.extend_from_slice(&found.len().to_ne_bytes());
        }
    };
    note(path);
    let text = read(path, CONFIG_BYTES_MAX).unwrap_or_default();
    let source = Source::new(&path.display().to_string(), &text);
    for (pattern, span) in source.includes() {
        let found = included(source.folder(span.start), &pattern);
        found.into_iter().flatten().for_each(|file| note(&file));
    }
    stable(&all)
}

/// Adds the files that the first one includes, in the order of their names.
fn include(source: &mut Source) {
    let mut count = 0;
    for (pattern, span) in source.includes() {
        let files = match included(source.folder(span.start), &pattern) {
            Ok(files) => files,
            Err(why) => {
                source.fault(span, why);
                continue;
            }
        };
        for file in files {
            count += 1;
            let left = CONFIG_BYTES_MAX.saturating_sub(source.text().len() as u64);
            match read(&file, left) {
                _ if count > INCLUDES_MAX => {
                    let why = format!("these are more than {INCLUDES_MAX} files");
                    return source.fault(span, why);
                }
                Ok(text) => source.add(&file.display().to_string(), &text),
                Err(why) => source.fault(span.clone(), why),
            }
        }
    }
}

/// The files that a pattern stands for. What cannot be looked at is a fault: without it, routes would be gone that an
/// operator believes to be there.
fn included(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    // A variable that is not set is told where every other one is.
    let Ok(pattern) = replaced(pattern, &variable) else { return Ok(Vec::new()) };
    let is_special = |part: &str| part.contains(['*', '?', '[']);
    if !is_special(&pattern) {
        let file = folder.join(&pattern);
        let found = std::fs::metadata(&file);
        return match found {
            Ok(found) if found.is_dir() => {
                Err(format!("{} is a folder: write \"{pattern}/*.toml\"", file.display()))
            }
            Ok(_) => Ok(vec![file]),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(format!("there is no file {}", file.display()))
            }
            Err(error) => Err(format!("{}: {error}", file.display())),
        };
    }
    let plain: PathBuf =
        pattern.split_inclusive('/').take_while(|part| !is_special(part)).collect();
    let place = folder.join(plain);
    match std::fs::read_dir(&place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", place.display())),
        Ok(_) => {}
    }
    let full = match Path::new(&pattern).is_absolute() {
        true => pattern.clone(),
        false => Path::new(&glob::Pattern::escape(&folder.display().to_string()))
            .join(&pattern)
            .display()
            .to_string(),
    };
    let found = glob::glob(&full)
        .map_err(|error| format!("\"{pattern}\" is no pattern of files: {}", error.msg))?;
    let mut files = Vec::new();
    for one in found {
        let path = one.map_err(|error| error.to_string())?;
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => files.push(path),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Ok(files)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A file as a text of at most so many octets.
fn read(path: &Path, most: u64) -> Result<String, String> {
    let shown = path.display();
    let fault = |error: std::io::Error| format!("{shown}: {error}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fault)?;
    // Not by its size: a pipe and a device have none.
    file.take(most + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > most {
        return Err(format!("{shown}: a configuration has at most {CONFIG_BYTES_MAX} bytes"));
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = *bytes {
        return Err(format!("{shown}: it is UTF-16, as some editors write it: save it as UTF-8"));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("{shown}: not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// Judges a text, in an environment without variables.
#[must_use]
pub fn check(name: &str, text: &str) -> CheckedConfig {
    judge(&Source::new(name, text), &|_| None)
}

/// This is the verdict of `check` and of `run`.
fn judge(source: &Source, environment: &Environment<'_>) -> CheckedConfig {
    let (config, mut problems) = lower_source(source, environment);
    if let Some(config) = &config {
        warn_of_shadowed(config, source.text(), &mut problems);
        warn_of_contested(config, source.text(), &mut problems);
    }
    CheckedConfig { report: problems.render_all(source), problems: problems.len(), config }
}

fn warn_of_shadowed(config: &Config, text: &str, problems: &mut Problems) {
    for shadowed in route::shadowed(config) {
        let by = &route_of(config, shadowed.by).line;
        let message = format!("this route never matches: the route on {by} takes all its requests");
        let line = &route_of(config, shadowed.route).line;
        problems.warning(whole_line(text, line), message);
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
            "\"~{own}\" here and \"~{theirs}\" on {} both match \"{path}\": the longer \
             expression is asked first, which is \"~{first}\"",
            other.line
        );
        problems.warning(whole_line(text, &one.line), message);
    }
}

fn route_of(config: &Config, id: RouteId) -> &Route {
    &config.routes[usize::from(id.0)]
}

/// Where a line stands.
fn whole_line(text: &str, line: &SourceLine) -> Range<usize> {
    let start = text[..line.at].rfind('\n').map_or(0, |at| at + 1);
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
