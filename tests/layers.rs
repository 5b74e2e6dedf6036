//! The wall: a room imports only rooms on lower floors, files make no circles, sockets live in one room. All of it
//! is read from paths, as the compiler reads them: not from words.

use std::collections::{BTreeMap, BTreeSet};
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
    ("filter", 3),
    ("limit", 3),
    ("observe", 3),
    ("net", 4),
    ("protocol", 5),
    ("upstream", 6),
    ("shard", 7),
    ("exchange", 8),
    ("downstream", 9),
    ("worker", 10),
    ("admin", 10),
    ("control", 11),
    ("demo", 11),
    ("operate", 11),
    ("cli", 12),
];

/// Rooms that may hold sockets and `unsafe`. The demo's origins are no part of the proxy.
const SOCKETS: &[&str] = &["net", "demo"];

/// What opens sockets or files of the network, itself or by a crate. A path that begins like this belongs into a room
/// of `SOCKETS`.
const OPENERS: &[&str] = &[
    "hickory_resolver",
    "io_uring",
    "libc",
    "monoio",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os::unix::net",
    "tokio::net",
    "tokio_rustls",
];

/// What reads a clock or a file: floors below 4 decide and do nothing.
const DOERS: &[&str] = &[
    "crate::base::clock::micros",
    "crate::base::clock::monotonic",
    "crate::base::clock::wall",
    "std::fs",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

/// Queues without an end.
const ENDLESS: &[&str] = &["std::sync::mpsc::channel", "crossbeam_channel::unbounded"];

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

/// One source file.
struct File {
    path: PathBuf,
    /// `["exchange", "reply"]`.
    module: Vec<String>,
    text: String,
    /// Every path that its code names, from its beginning on, and in which line.
    paths: Vec<(usize, Vec<String>)>,
}

impl File {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let inside = path.strip_prefix("src").unwrap().with_extension("");
        let mut module: Vec<String> =
            inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| last == "mod");
        let mut file = Self { path, module, text, paths: Vec::new() };
        file.paths = file.find_paths();
        file
    }

    fn room(&self) -> &str {
        &self.module[0]
    }

    /// The code without comments, texts and tests, which may look further. Lines stay where they are.
    fn code(&self) -> String {
        let code = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        without_texts(code)
    }

    fn find_paths(&self) -> Vec<(usize, Vec<String>)> {
        let code = self.code();
        let mut uses = BTreeMap::new();
        for name in children(&code) {
            let whole = ["self".to_owned(), name.clone()];
            uses.insert(name, self.absolute(&whole));
        }
        let mut found = Vec::new();
        let mut rest = code.as_str();
        let mut line = 1;
        // Imports first: what they bring in is what shorter paths begin with.
        while let Some(at) = rest.find("use ") {
            let is_word = rest[..at].chars().next_back().is_none_or(char::is_whitespace);
            line += rest[..at].matches('\n').count();
            rest = &rest[at + 4..];
            let Some(end) = rest.find(';').filter(|_| is_word) else { continue };
            for (name, path) in spread(&[], &rest[..end]) {
                let path = match uses.get(&path[0]) {
                    Some(whole) => whole.iter().chain(&path[1..]).cloned().collect(),
                    None => self.absolute(&path),
                };
                uses.insert(name, path.clone());
                found.push((line, path));
            }
        }
        for (number, text) in code.lines().enumerate() {
            for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
                let path: Vec<String> = word.split("::").map(str::to_owned).collect();
                // What ends in `::` is the beginning of an import.
                if path.len() < 2 || path.iter().any(String::is_empty) {
                    continue;
                }
                let path = match uses.get(&path[0]) {
                    Some(whole) => whole.iter().chain(&path[1..]).cloned().collect(),
                    None => self.absolute(&path),
                };
                found.push((number + 1, path));
            }
        }
        found
    }

    /// With `super` and `self` resolved.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let is_own = path.first().is_some_and(|first| first == "self");
        if ups == 0 && !is_own {
            return path.to_vec();
        }
        let base = &self.module[..self.module.len().saturating_sub(ups)];
        let rest = &path[ups.max(usize::from(is_own))..];
        std::iter::once("crate".to_owned()).chain(base.iter().chain(rest).cloned()).collect()
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

/// Rust without its comments and without what stands in its strings and characters.
fn without_texts(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_raw = ["r\"", "r#", "br\"", "br#"].iter().any(|start| rest.starts_with(start))
            && out.chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if is_raw {
            let from = rest.find(['"', '#']).unwrap_or(0);
            let marks = rest[from..].bytes().take_while(|byte| *byte == b'#').count();
            let end = format!("\"{}", "#".repeat(marks));
            let body = from + marks + 1;
            rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
        } else if first == '"' {
            text_len(rest, '"')
        } else if first == '\'' && is_character(rest) {
            text_len(rest, '\'')
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..len].chars().filter(|letter| *letter == '\n'));
        rest = &rest[len..];
    }
    out
}

/// Octets of a string or a character with its marks.
fn text_len(text: &str, mark: char) -> usize {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            _ if letter == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Not a lifetime.
fn is_character(text: &str) -> bool {
    let mut letters = text.chars().skip(1);
    matches!((letters.next(), letters.next()), (Some('\\'), _) | (_, Some('\'')))
}

/// Files that a file declares below it.
fn children(code: &str) -> Vec<String> {
    let words = |line: &str| {
        line.trim().trim_start_matches("pub(super) ").trim_start_matches("pub ").to_owned()
    };
    let names = code
        .lines()
        .filter_map(|line| Some(words(line).strip_prefix("mod ")?.strip_suffix(';')?.to_owned()));
    names.collect()
}

/// The paths of a tree of imports, and what each is called from there on.
fn spread(prefix: &[String], tree: &str) -> Vec<(String, Vec<String>)> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (own, alias) =
            tree.split_once(" as ").map_or((tree, None), |(own, name)| (own, Some(name)));
        let is_self = |part: &&str| *part == "self" && !prefix.is_empty();
        let parts =
            own.split("::").map(str::trim).filter(|part| !part.is_empty() && !is_self(part));
        let path: Vec<String> = prefix.iter().cloned().chain(parts.map(str::to_owned)).collect();
        let name =
            alias.map(str::trim).or_else(|| path.last().map(String::as_str)).unwrap_or_default();
        return vec![(name.to_owned(), path)];
    };
    let own = tree[..open].split("::").map(str::trim).filter(|part| !part.is_empty());
    let prefix: Vec<String> = prefix.iter().cloned().chain(own.map(str::to_owned)).collect();
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut from, mut out) = (0, 0, Vec::new());
    for (at, letter) in inner.char_indices().chain(std::iter::once((inner.len(), ','))) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[from..at].trim().is_empty() {
                    out.extend(spread(&prefix, &inner[from..at]));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    out
}

fn begins(path: &[String], with: &str) -> bool {
    let with: Vec<&str> = with.split("::").collect();
    path.len() >= with.len() && path.iter().zip(&with).all(|(one, other)| one == other)
}

/// Files that use each other, whichever way round.
fn circles(all: &[File]) -> Vec<String> {
    let index: BTreeMap<&[String], usize> =
        all.iter().enumerate().map(|(at, file)| (&file.module[..], at)).collect();
    let target = |path: &[String]| {
        let inside = path.strip_prefix(&["crate".to_owned()][..])?;
        (1..=inside.len()).rev().find_map(|len| index.get(&inside[..len]).copied())
    };
    let edges: Vec<BTreeSet<usize>> = all
        .iter()
        .enumerate()
        .map(|(at, file)| {
            let used = file.paths.iter().filter_map(|(_, path)| target(path));
            used.filter(|to| *to != at).collect()
        })
        .collect();
    let reach = |from: usize| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(one) = next.pop() {
            next.extend(edges[one].iter().filter(|to| seen.insert(**to)));
        }
        seen
    };
    let reached: Vec<BTreeSet<usize>> = (0..all.len()).map(reach).collect();
    let (mut told, mut out) = (BTreeSet::<usize>::new(), Vec::new());
    for from in 0..all.len() {
        if !reached[from].contains(&from) || told.contains(&from) {
            continue;
        }
        let circle: Vec<usize> = (0..all.len())
            .filter(|to| reached[from].contains(to) && reached[*to].contains(&from))
            .collect();
        told.extend(circle.iter().copied());
        let mut text = "a circle of files:".to_owned();
        for one in &circle {
            let used = edges[*one].iter().filter(|to| circle.contains(to));
            let used: Vec<String> = used.map(|to| all[*to].path.display().to_string()).collect();
            text.push_str(&format!("\n    {} uses {}", all[*one].path.display(), used.join(", ")));
        }
        out.push(text);
    }
    out
}

/// A bound that stands elsewhere than on the page of bounds.
fn bound_outside(file: &File) -> Vec<String> {
    let mut out = Vec::new();
    if matches!(file.room(), "base" | "demo") {
        return out;
    }
    for (number, line) in file.code().lines().enumerate() {
        let Some((_, rest)) = line.split_once("const ") else { continue };
        let Some((name, rest)) = rest.split_once(": ") else { continue };
        let is_word = name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'0'..=b'9'));
        let is_bound =
            name.ends_with("_MAX") || name.ends_with("_MIN") || rest.starts_with("Duration");
        if is_word && is_bound {
            let place = file.place(number + 1);
            out.push(format!("{place}: a bound stands in base/limits.rs: {}", line.trim()));
        }
    }
    out
}

/// Names of types that several files give on purpose: each version of HTTP has its own half of these.
const OF_EACH_VERSION: &[&str] = &["Line", "Opened", "Reply", "RequestWriter"];

/// A name that two types have. What the configuration says of a thing may be called as the thing is.
fn names_given_twice(all: &[File]) -> Vec<String> {
    let mut given = BTreeMap::<String, Vec<&File>>::new();
    for file in all.iter().filter(|file| !matches!(file.room(), "config" | "demo")) {
        for line in file.code().lines() {
            let words: Vec<&str> = line
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|w| !w.is_empty())
                .collect();
            let Some(at) =
                words.iter().take(3).position(|w| matches!(*w, "struct" | "enum" | "trait"))
            else {
                continue;
            };
            if let Some(name) = words.get(at + 1) {
                given.entry((*name).to_owned()).or_default().push(file);
            }
        }
    }
    let twice = given
        .into_iter()
        .filter(|(name, files)| files.len() > 1 && !OF_EACH_VERSION.contains(&name.as_str()));
    twice
        .map(|(name, files)| {
            let files: Vec<String> =
                files.iter().map(|one| one.path.display().to_string()).collect();
            format!("two types are called {name}: {}", files.join(", "))
        })
        .collect()
}

/// What one file does that its room may not.
fn faults_of(file: &File) -> Vec<String> {
    let (room, mut faults) = (file.room(), bound_outside(file));
    if !file.text.starts_with("//!") {
        faults.push(format!("{}: does not begin with its one sentence (//!)", file.path.display()));
    }
    let is_shell = SOCKETS.contains(&room);
    let is_pure = floor(room) <= 3 && room != "base";
    for (line, path) in &file.paths {
        let (place, text) = (file.place(*line), path.join("::"));
        if path[0] == "crate" && path.len() > 1 && path[1] != room && floor(&path[1]) >= floor(room)
        {
            let (own, other) = (floor(room), floor(&path[1]));
            faults.push(format!("{place}: {room} (floor {own}) uses {} (floor {other})", path[1]));
        }
        if !is_shell && OPENERS.iter().any(|opener| begins(path, opener)) {
            faults.push(format!("{place}: sockets live in net: {text}"));
        }
        if is_pure && DOERS.iter().any(|doer| begins(path, doer)) {
            faults.push(format!("{place}: floors below 4 decide and do nothing: {text}"));
        }
        if ENDLESS.iter().any(|endless| begins(path, endless)) {
            faults.push(format!("{place}: a queue has an end, and it stands in base/limits.rs"));
        }
    }
    for (number, line) in file.code().lines().enumerate() {
        let has = |word: &str| line.split(|c: char| !c.is_alphanumeric()).any(|one| one == word);
        if !is_shell && has("unsafe") && !line.contains("unsafe_code") {
            faults.push(format!("{}: unsafe lives in net", file.place(number + 1)));
        }
        if is_pure && has("async") {
            faults.push(format!("{}: nothing waits below floor 4", file.place(number + 1)));
        }
    }
    faults
}

pub fn check() {
    let mut found = Vec::new();
    files(Path::new("src"), &mut found);
    assert!(found.len() > 40, "run from the repository's root");
    let all: Vec<File> = found.into_iter().map(File::read).collect();
    let inner: Vec<File> =
        all.into_iter().filter(|file| !matches!(file.room(), "lib" | "main")).collect();
    // The exchange knows no version of HTTP by name: they meet in `message` and `protocol`.
    let knows = |file: &&File| {
        let texts = ["crate::wire::http1", "crate::wire::http2"];
        file.room() == "exchange"
            && file.paths.iter().any(|(_, path)| texts.iter().any(|text| begins(path, text)))
    };
    let mut faults: Vec<String> = inner.iter().flat_map(faults_of).collect();
    faults.extend(
        inner
            .iter()
            .filter(knows)
            .map(|file| format!("{}: the exchange knows no version's text", file.path.display())),
    );
    faults.extend(circles(&inner));
    faults.extend(names_given_twice(&inner));
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
