//! Taking entries out on command: by URL, by beginning, pattern or tag, or all of them. A URL is
//! taken out at once; the others are remembered, and every older entry is held against them before
//! it is used again, so that no purge ever stops a shard to look through a million entries.

use super::entry::Entry;
use super::key;
use crate::base::limits::PURGES_WAITING_MAX;

/// What is taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// One URL with all its variants: any key of it.
    Url(Vec<u8>),
    /// Whatever begins so: authority and path.
    Prefix(Vec<u8>, Vec<u8>),
    /// Paths and queries of an authority that match a pattern, in which `*` is any text.
    Pattern(Vec<u8>, Vec<u8>),
    /// Whatever the origin gave one of these tags (`Surrogate-Key`, `Cache-Tag`).
    Tags(Vec<Vec<u8>>),
    All,
}

/// An order to take something out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    pub what: What,
    /// Entries become stale and stay, for as long as they may be served stale.
    pub is_soft: bool,
}

impl What {
    /// A URL: its authority, and its path with the query.
    #[must_use]
    pub fn url(is_secure: bool, authority: &[u8], target: &[u8]) -> Self {
        Self::Url(key::of_url(is_secure, authority, target))
    }

    /// Whether it means this entry.
    #[must_use]
    pub fn means(&self, entry: &Entry) -> bool {
        let (authority, target) = key::parts(entry.key());
        match self {
            Self::Url(wanted) => key::url(wanted) == key::url(entry.key()),
            Self::Prefix(host, path) => authority == host && target.starts_with(path),
            Self::Pattern(host, pattern) => authority == host && matches(pattern, target),
            Self::Tags(tags) => entry.tags().any(|tag| tags.iter().any(|wanted| wanted == tag)),
            Self::All => true,
        }
    }
}

/// Whether a text matches a pattern with `*` in it. Linear but for the last star's retries.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, place));
            at += 1;
        } else if pattern.get(at) == Some(&text[place]) {
            at += 1;
            place += 1;
        } else if let Some((star_at, from)) = star {
            star = Some((star_at, from + 1));
            at = star_at + 1;
            place = from + 1;
        } else {
            return false;
        }
    }
    pattern[at.min(pattern.len())..].iter().all(|byte| *byte == b'*')
}

/// The wide purges that some entry may not have been held against.
#[derive(Debug, Default)]
pub struct Log {
    /// How many there have been.
    last: u32,
    waiting: Vec<(u32, Purge)>,
}

impl Log {
    /// The number of the last one.
    #[must_use]
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// One more.
    pub fn push(&mut self, purge: Purge) {
        self.last += 1;
        if purge.what == What::All && !purge.is_soft {
            // Nothing older is left to be held against.
            self.waiting.clear();
        }
        if self.waiting.len() >= PURGES_WAITING_MAX {
            // Too many to tell apart: everything goes.
            self.waiting.clear();
            self.waiting.push((self.last, Purge { what: What::All, is_soft: false }));
            return;
        }
        self.waiting.push((self.last, purge));
    }

    /// Nothing waits to be held against entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What those purges say of an entry that came after `seen`: `Some(is_soft)`.
    #[must_use]
    pub fn verdict(&self, entry: &Entry, seen: u32) -> Option<bool> {
        let newer = self.waiting.iter().filter(|(number, _)| *number > seen);
        let mut hits = newer.filter(|(_, purge)| purge.what.means(entry)).map(|one| one.1.is_soft);
        let first = hits.next()?;
        Some(first && hits.all(|is_soft| is_soft))
    }

    /// Every entry was held against those up to this one, and no fetch is older.
    pub fn forget(&mut self, up_to: u32) {
        self.waiting.retain(|(number, _)| *number > up_to);
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "short names")]
mod tests {
    use super::*;
    use crate::cache::entry::Draft;
    use crate::cache::freshness::Freshness;

    fn entry(authority: &str, target: &str, tags: &str) -> Entry {
        let mut key = vec![0; 17];
        key[9..13].copy_from_slice(&(authority.len() as u32).to_le_bytes());
        key[13..17].copy_from_slice(&(target.len() as u32).to_le_bytes());
        key.extend_from_slice(authority.as_bytes());
        key.extend_from_slice(target.as_bytes());
        let fields = format!("Surrogate-Key: {tags}\r\n");
        let draft = Draft {
            key: &key,
            selecting: b"",
            fields: fields.as_bytes(),
            status: 200,
            freshness: Freshness::default(),
            modified: None,
        };
        draft.small(b"")
    }

    #[test]
    fn each_kind_means_what_it_says() {
        let one = entry("h", "/a/b?c=d", "red blue");
        let bytes = |text: &str| text.as_bytes().to_vec();
        let cases = [
            (What::Url(one.key().to_vec()), true),
            (What::Url(entry("h", "/a/b", "").key().to_vec()), false),
            (What::url(false, b"H", b"/a/b?c=d"), true),
            (What::url(true, b"h", b"/a/b?c=d"), false),
            (What::Prefix(bytes("h"), bytes("/a/")), true),
            (What::Prefix(bytes("x"), bytes("/a/")), false),
            (What::Pattern(bytes("h"), bytes("/a/*?c=*")), true),
            (What::Pattern(bytes("h"), bytes("/a/*x")), false),
            (What::Tags(vec![bytes("green"), bytes("blue")]), true),
            (What::Tags(vec![bytes("re")]), false),
            (What::All, true),
        ];
        for (what, expected) in cases {
            assert_eq!(what.means(&one), expected, "{what:?}");
        }
    }

    #[test]
    fn patterns() {
        let cases = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*b*b*", "abab", true),
            ("**a", "ba", true),
            ("a*", "a", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn entries_are_held_against_what_came_after_them() {
        let mut log = Log::default();
        let one = entry("h", "/", "red");
        let red = What::Tags(vec![b"red".to_vec()]);
        log.push(Purge { what: red, is_soft: true });
        assert_eq!((log.verdict(&one, 0), log.verdict(&one, 1)), (Some(true), None));
        log.push(Purge { what: What::All, is_soft: false });
        assert_eq!((log.verdict(&one, 1), log.last()), (Some(false), 2));
        log.forget(2);
        assert!(log.is_empty() && log.last() == 2);
    }
}
