//! Paths to candidates: exact ones, then regular expressions (longest first), then the longest
//! prefix. Prefixes end on segment boundaries: `/a` matches `/a` and `/a/b`, not `/ab`.

use regex::bytes::Regex;

use crate::config::model::PathMatch;

/// The candidates of one host, sorted by how specific their paths are.
#[derive(Debug)]
pub struct Paths<T> {
    entries: Vec<(Pattern, T)>,
}

#[derive(Debug)]
struct Pattern {
    rank: Rank,
    matcher: Matcher,
}

#[derive(Debug)]
enum Matcher {
    Exact(Box<[u8]>),
    Regex(Regex),
    /// Without a slash at the end.
    Prefix(Box<[u8]>),
}

/// How specific a path is: the greater wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: u8,
    len: usize,
    /// Two expressions of one length: by their text, so that the file's order does not count.
    text: String,
}

/// How specific a path is.
#[must_use]
pub fn rank(path: &PathMatch) -> Rank {
    let (class, text) = match path {
        PathMatch::Exact(text) => (2, text),
        PathMatch::Regex(text) => (1, text),
        PathMatch::Prefix(text) => (0, text),
    };
    Rank { class, len: text.len(), text: text.clone() }
}

/// Whether every path matches, as far as that is easy to see.
#[must_use]
pub fn takes_everything(path: &PathMatch) -> bool {
    match path {
        PathMatch::Prefix(text) => text == "/",
        PathMatch::Exact(_) => false,
        PathMatch::Regex(text) => matches!(
            text.as_str(),
            "" | ".*" | "^.*" | ".*$" | "^.*$" | "^" | "/" | "^/" | "^/.*" | "^/.*$"
        ),
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Paths<T> {
    /// Adds a candidate.
    pub fn insert(&mut self, path: &PathMatch, value: T) {
        let matcher = match path {
            PathMatch::Exact(text) => Matcher::Exact(text.as_bytes().into()),
            PathMatch::Prefix(text) => {
                Matcher::Prefix(text.trim_end_matches('/').as_bytes().into())
            }
            PathMatch::Regex(text) => {
                Matcher::Regex(Regex::new(text).expect("config::lower compiled it already"))
            }
        };
        self.entries.push((Pattern { rank: rank(path), matcher }, value));
    }

    /// Puts the most specific first; among equals the one with the highest `demand`.
    pub fn sort<K: Ord>(&mut self, demand: impl Fn(&T) -> K) {
        self.entries.sort_by(|(one, left), (other, right)| {
            other.rank.cmp(&one.rank).then_with(|| demand(right).cmp(&demand(left)))
        });
    }

    /// Candidates whose path matches, the most specific first.
    pub fn find(&self, path: &[u8]) -> impl Iterator<Item = &T> {
        self.entries.iter().filter(|(pattern, _)| pattern.matcher.matches(path)).map(|(_, one)| one)
    }
}

impl Matcher {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => path == &**exact,
            Self::Regex(regex) => regex.is_match(path),
            Self::Prefix(prefix) => {
                path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
                    || (prefix.is_empty() && path == b"*")
            }
        }
    }
}
