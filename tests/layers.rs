//! The wall: a room imports only rooms on lower floors (DESIGN section 1).

use std::path::{Path, PathBuf};

const FLOORS: &[(&str, u32)] = &[
    ("base", 0),
    ("message", 1),
    ("wire", 2),
    ("config", 2),
    ("route", 3),
    ("balance", 3),
    ("health", 3),
    ("cache", 3),
    ("limit", 3),
    ("observe", 3),
    ("net", 4),
    ("protocol", 5),
    ("upstream", 6),
    ("shard", 7),
    ("exchange", 8),
    ("downstream", 9),
    ("worker", 10),
    ("control", 11),
    ("demo", 11),
    ("cli", 12),
];

/// Rooms that may hold sockets and `unsafe`. The demo's origins are no part of the proxy.
const SOCKETS: &[&str] = &["net", "demo"];

fn floor(room: &str) -> u32 {
    let found = FLOORS.iter().find(|(name, _)| *name == room);
    found.unwrap_or_else(|| panic!("room \"{room}\" has no floor in tests/layers.rs")).1
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// What a line does that may grow without end, or where only the page of bounds may say how far. The demo's
/// origins are no part of the proxy.
fn unbounded(room: &str, line: &str) -> Option<&'static str> {
    if ENDLESS.iter().any(|word| line.contains(word)) {
        return Some("a queue has an end, and it stands in base/limits.rs");
    }
    let (name, rest) = line.split_once("const ")?.1.split_once(": ")?;
    let is_word =
        name.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'0'..=b'9'));

    let is_bound = name.ends_with("_MAX") || name.ends_with("_MIN") || rest.starts_with("Duration");
    (!matches!(room, "base" | "demo") && is_word && is_bound)
        .then_some("a bound stands in base/limits.rs")
}

/// Queues without an end.
const ENDLESS: [&str; 3] = ["unbounded(", "unbounded_channel(", "mpsc::channel("];

pub fn check() {
    let mut all = Vec::new();
    files(Path::new("src"), &mut all);
    assert!(all.len() > 40, "run from the repository's root");
    let mut faults = Vec::new();
    for path in &all {
        let inside = path.strip_prefix("src").unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        if !text.starts_with("//!") {
            faults.push(format!("{}: does not begin with its one sentence (//!)", path.display()));
        }
        // Code only: what stands under cfg(test) may look further.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if used != room && floor(&used) >= floor(room) {
                    faults.push(format!(
                        "{place}: {room} (floor {}) uses {used} (floor {})",
                        floor(room),
                        floor(&used)
                    ));
                }
            }
            faults.extend(
                unbounded(room, line).map(|what| format!("{place}: {what}: {}", line.trim())),
            );
            let is_shell = SOCKETS.contains(&room);
            if !is_shell
                && ["unsafe ", "libc::", "TcpStream", "TcpListener"]
                    .iter()
                    .any(|word| line.contains(word))
            {
                faults.push(format!("{place}: sockets and unsafe live in net: {}", line.trim()));
            }
            let is_pure = floor(room) <= 3;
            if is_pure
                && room != "base"
                && ["async ", "Instant::now", "clock::monotonic", "clock::wall", "std::fs"]
                    .iter()
                    .any(|word| line.contains(word))
            {
                faults.push(format!(
                    "{place}: floors below 4 decide and do nothing: {}",
                    line.trim()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
