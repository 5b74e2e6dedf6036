//! What of this machine keeps a proxy from its best, or from serving at all, and what to do about it.

use std::fmt;
use std::fs::read_to_string;
use std::path::Path;

use super::{load, machine};
use crate::base::limits::BACKLOG;
use crate::config::model::{Config, Driver, Limits, Ring};
use crate::net::runtime::Loop;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Good,
    /// It serves, but not as well as it could.
    Warning,
    /// It cannot serve like this.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    pub grade: Grade,
    pub what: String,
    /// What to do about it; empty where all is well.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.grade {
            Grade::Good => "good",
            Grade::Warning => "warn",
            Grade::Bad => "BAD ",
        };
        write!(f, "{word}  {}", self.what)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n      {}", self.advice) }
    }
}

fn good(what: impl Into<String>) -> Finding {
    Finding { grade: Grade::Good, what: what.into(), advice: String::new() }
}

fn warning(what: impl Into<String>, advice: &str) -> Finding {
    Finding { grade: Grade::Warning, what: what.into(), advice: advice.to_owned() }
}

fn bad(what: impl Into<String>, advice: &str) -> Finding {
    Finding { grade: Grade::Bad, what: what.into(), advice: advice.to_owned() }
}

/// Looks at the machine, and at a configuration if there is one.
#[must_use]
pub fn examine(file: Option<&Path>) -> Vec<Finding> {
    let mut found = Vec::new();
    let config = file.and_then(|file| configuration(file, &mut found));
    let limits = config.as_ref().map_or_else(Limits::default, |config| config.limits);
    found.extend([
        ring(config.as_ref()),
        files(limits.connections),
        locked(),
        cores(),
        clock(),
        queue(),
        ports(),
        memory(config.as_ref()),
        resolver(),
    ]);
    found
}

fn configuration(file: &Path, found: &mut Vec<Finding>) -> Option<Config> {
    let shown = file.display();
    let checked = match load::file(file) {
        Ok(checked) => checked,
        Err(why) => {
            found.push(bad(why, "name the file that `millrace run` gets"));
            return None;
        }
    };
    let Some(config) = checked.config else {
        found.push(bad(format!("{shown} is refused"), "`millrace check` says why"));
        return None;
    };
    let (objections, warnings) = machine::objections(&config);
    if objections.is_empty() && warnings.is_empty() && checked.report.is_empty() {
        found.push(good(format!("{shown}: its ports, certificates and folders can be had")));
    }
    if !checked.report.is_empty() {
        found.push(warning(format!("{shown} has warnings"), "`millrace check` shows them"));
    }
    found.extend(objections.into_iter().map(|one| bad(one, "")));
    found.extend(warnings.into_iter().map(|one| warning(one, "")));
    Some(config)
}

fn line(path: &str) -> Option<String> {
    Some(read_to_string(path).ok()?.trim().to_owned())
}

fn ring(config: Option<&Config>) -> Finding {
    let kernel = line("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ring = config.map_or(Ring::Coop, |config| config.server.ring);
    let wants_epoll = config.is_some_and(|config| config.server.driver == Driver::Epoll);
    match Loop::build(Driver::IoUring, ring) {
        Ok(_) => good(format!("Linux {kernel}: io_uring can be had")),
        Err(error) if wants_epoll => {
            good(format!("Linux {kernel}: epoll, as it is configured ({error})"))
        }
        Err(error) => {
            let advice = match line("/proc/sys/kernel/io_uring_disabled").as_deref() {
                Some("1" | "2") => {
                    "sysctl kernel.io_uring_disabled keeps it away: 0 allows it; until then epoll serves"
                }
                _ => {
                    "a container's seccomp profile, a kernel before 5.19 or LimitMEMLOCK may be why; epoll serves instead"
                }
            };
            warning(format!("Linux {kernel}: no io_uring ({error})"), advice)
        }
    }
}

/// Soft and hard, of a line of /proc/self/limits; `u64::MAX` for none.
fn limit(name: &str) -> Option<(u64, u64)> {
    let limits = read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    Some((numbers.next()?, numbers.next()?))
}

fn files(connections: usize) -> Finding {
    let Some((_, hard)) = limit("Max open files") else {
        return warning("the limit on open files is not known", "is /proc mounted?");
    };
    // A client's connection and one to an endpoint, and some for ourselves.
    let wanted = connections as u64 * 2 + 256;
    let what =
        format!("open files: {hard} at most, {wanted} for limits.connections = {connections}");
    if hard >= wanted {
        good(what)
    } else {
        warning(what, "raise it (LimitNOFILE=1048576, ulimit -Hn), or lower limits.connections")
    }
}

fn locked() -> Finding {
    match limit("Max locked memory") {
        Some((soft, _)) if soft < 8 << 20 => warning(
            format!("locked memory: {} KiB", soft / 1024),
            "older kernels count rings against it: LimitMEMLOCK=infinity",
        ),
        _ => good("locked memory: enough for rings"),
    }
}

fn cores() -> Finding {
    let count = core_affinity::get_core_ids().unwrap_or_default().len();
    let quota = line("/sys/fs/cgroup/cpu.max").and_then(|text| {
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    match quota {
        _ if count == 0 => {
            bad("no cores can be listed", "is the process allowed to ask (sched_getaffinity)?")
        }
        Some(quota) if quota + 0.1 < count as f64 => warning(
            format!("{count} cores are seen, and a quota of {quota:.1} is set"),
            "workers that share a quota are stopped in the middle of requests: `cores = N` for as many as there are",
        ),
        _ => good(format!("{count} cores")),
    }
}

fn clock() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match line(path).as_deref() {
        Some(name @ ("hpet" | "acpi_pm" | "jiffies")) => warning(
            format!("the clock is {name}"),
            "each reading is a system call: boot with clocksource=tsc if the machine's TSC is good",
        ),
        Some(name) => good(format!("the clock is {name}")),
        None => good("the clock's source is not told"),
    }
}

fn queue() -> Finding {
    let most = line("/proc/sys/net/core/somaxconn").and_then(|text| text.parse::<i32>().ok());
    match most {
        Some(most) if most < BACKLOG => warning(
            format!("connections that wait to be accepted: {most}"),
            "a rush of clients meets a full queue: sysctl net.core.somaxconn=4096 or more",
        ),
        Some(most) => good(format!("connections that wait to be accepted: {most}")),
        None => good("connections that wait to be accepted: not told"),
    }
}

fn ports() -> Finding {
    let range = line("/proc/sys/net/ipv4/ip_local_port_range");
    let count = range.as_deref().and_then(|text| {
        let (first, last) = text.split_once(char::is_whitespace)?;
        Some(last.trim().parse::<u32>().ok()?.saturating_sub(first.parse().ok()?) + 1)
    });
    match count {
        Some(count) if count < 20_000 => warning(
            format!("ports for connections to endpoints: {count}"),
            "each endpoint can have no more: sysctl net.ipv4.ip_local_port_range=\"1024 65000\"",
        ),
        Some(count) => good(format!("ports for connections to endpoints: {count}")),
        None => good("ports for connections to endpoints: not told"),
    }
}

fn memory(config: Option<&Config>) -> Finding {
    let available = read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let Some(available) = available.map(|kib| kib / 1024) else {
        return warning("available memory is not known", "is /proc mounted?");
    };
    let cache = config.filter(|config| config.routes.iter().any(|route| route.cache.is_some()));
    let wanted = cache.map_or(0, |config| config.cache.memory) / (1 << 20);
    if available < wanted + 128 {
        let what =
            format!("memory: {available} MiB are available, {wanted} MiB of them for the cache");
        return warning(
            what,
            "lower cache.memory, or set limits.memory: then load is shed before the kernel kills",
        );
    }
    good(format!("memory: {available} MiB are available"))
}

fn resolver() -> Finding {
    let text = read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("nameserver")).map(str::trim).collect();
    if servers.is_empty() {
        return warning(
            "/etc/resolv.conf names no server",
            "endpoints that are names are not found: [dns] servers = [\"10.0.0.2\"], or use addresses",
        );
    }
    good(format!("names are asked of {}", servers.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_that_is_not_good_says_what_to_do() {
        let found = examine(None);
        assert!(found.len() >= 9);
        for one in &found {
            assert_eq!(one.grade == Grade::Good, one.advice.is_empty(), "{one}");
            assert!(!one.what.is_empty());
        }
        let none = examine(Some(Path::new("/nowhere/millrace.toml")));
        assert!(none.iter().any(|one| one.grade == Grade::Bad));
    }
}
