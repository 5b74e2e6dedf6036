//! What an entry is called, and which shard owns it. The key is what is forwarded, piece by piece
//! with lengths, so that no two requests share one by accident (exam E01 to E03).

use crate::config::cache::{CacheRule, RequestPart};
use crate::message::fields::Fields;
use crate::message::head::RequestHead;
use crate::message::name::{Name, NameSet};

/// What of a key is not in the request: where it came in and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct KeyFrame<'a> {
    /// Stands for the route's rules and the cluster's name: other rules, other keys.
    pub digest: u64,
    pub is_secure: bool,
    /// Fields that identify a client by its certificate: their values are in the key.
    pub reserved: &'a [String],
}

/// Octets before the authority: digest, scheme, two lengths.
const FIXED: usize = 8 + 1 + 4 + 4;

/// Fields that make some servers answer for another target or method; a request that has one is
/// no other user's (exam E05).
const UNKEYED: [&[u8]; 11] = [
    b"x-scheme",
    b"x-url-scheme",
    b"x-script-name",
    b"front-end-https",
    b"x-http-method",
    b"x-host",
    b"x-http-destinationurl",
    b"x-proxy-url",
    b"base-url",
    b"request-uri",
    b"destination",
];
/// And families of them: their beginnings and their ends.
const UNKEYED_FAMILIES: [(&[u8], &[u8]); 4] =
    [(b"x-original-", b""), (b"x-rewrite-", b""), (b"x-", b"-override"), (b"x-override-", b"")];

/// A bit for each letter that one of them begins with: most names of fields begin with another.
const UNKEYED_LETTERS: u32 = {
    let (mut letters, mut at) = (0, 0);
    while at < UNKEYED.len() {
        letters |= letter(UNKEYED[at]);
        at += 1;
    }
    let mut at = 0;
    while at < UNKEYED_FAMILIES.len() {
        letters |= letter(UNKEYED_FAMILIES[at].0);
        at += 1;
    }
    letters
};

/// The bit of a name's first letter, in either case.
const fn letter(name: &[u8]) -> u32 {
    if name.is_empty() { 0 } else { 1 << (name[0] & 31) }
}

/// Whether a request has something that changes the answer and is not in the key.
#[must_use]
pub fn is_unkeyed(fields: &Fields) -> bool {
    let begins = |name: &[u8], with: &[u8]| {
        name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let ends = |name: &[u8], with: &[u8]| {
        let from = name.len().checked_sub(with.len());
        from.is_some_and(|from| name[from..].eq_ignore_ascii_case(with))
    };
    let may_be = |name: &[u8]| letter(name) & UNKEYED_LETTERS != 0;
    let mut others = fields.iter().filter(|field| field.known == Name::Other && may_be(field.name));
    others.any(|field| {
        UNKEYED.iter().any(|name| field.name.eq_ignore_ascii_case(name))
            || UNKEYED_FAMILIES
                .iter()
                .any(|(start, end)| begins(field.name, start) && ends(field.name, end))
    })
}

/// What a proxy in front of us says of its client, and what is in no key by itself.
const OF_PROXIES: NameSet =
    NameSet::of(&[Name::Forwarded, Name::XForwardedPort, Name::XForwardedOther, Name::XRealIp]);

/// Takes out what a trusted proxy says of its client and what is not in the key: it would reach the
/// origin in one client's request, and other clients in the answer (exam R13).
#[inline]
pub fn take_unkeyed(fields: &mut Fields, rule: &CacheRule) {
    if fields.has(Name::XForwardedProto) {
        let proto = fields.only(Name::XForwardedProto);
        let is_plain = proto.is_some_and(|proto| {
            proto.eq_ignore_ascii_case(b"https") || proto.eq_ignore_ascii_case(b"http")
        });
        if !is_plain {
            fields.remove(Name::XForwardedProto);
        }
    }
    if !fields.has_any(OF_PROXIES) {
        return;
    }
    let is_keyed = |name: &[u8]| {
        rule.key.iter().any(
            |part| matches!(part, RequestPart::Header(one) if one.as_bytes().eq_ignore_ascii_case(name)),
        )
    };
    let names: Vec<Vec<u8>> = fields
        .iter()
        .filter(|field| OF_PROXIES.has(field.known) && !is_keyed(field.name))
        .map(|field| field.name.to_vec())
        .collect();
    names.iter().for_each(|name| fields.remove_named(name));
}

/// Writes the key of a request into `out`.
pub fn write(request: &RequestHead, frame: KeyFrame<'_>, rule: &CacheRule, out: &mut Vec<u8>) {
    out.clear();
    let is_secure = match request.fields.only(Name::XForwardedProto) {
        None => frame.is_secure,
        Some(proto) => proto.eq_ignore_ascii_case(b"https"),
    };
    out.extend_from_slice(&frame.digest.to_le_bytes());
    out.push(u8::from(is_secure));
    out.extend_from_slice(&[0; 8]);
    let authority = request.authority();
    out.extend_from_slice(authority);
    out[FIXED..].make_ascii_lowercase();
    let from = out.len();
    out.extend_from_slice(request.path());
    if let Some(query) = request.query() {
        push_query(query, rule, out);
    }
    let target = out.len() - from;
    out[9..13].copy_from_slice(&length(authority.len()).to_le_bytes());
    out[13..17].copy_from_slice(&length(target).to_le_bytes());
    // A trusted proxy's word on the host changes what servers write into links.
    if request.fields.has(Name::XForwardedHost) {
        push_values(request.fields.values(Name::XForwardedHost), out);
    }
    for part in &rule.key {
        match part {
            RequestPart::Header(name) => {
                push_values(request.fields.values_named(name.as_bytes()), out)
            }
            RequestPart::Cookie(name) => push_values(cookies(&request.fields, name), out),
            RequestPart::Query(name) => push_values(parameters(request.query(), name), out),
        }
    }
    for name in frame.reserved {
        push_values(request.fields.values_named(name.as_bytes()), out);
    }
}

/// The key of a URL, by no route's rule: what purges go by.
#[must_use]
pub fn of_url(is_secure: bool, authority: &[u8], target: &[u8]) -> Vec<u8> {
    let mut out = vec![0; FIXED];
    out[8] = u8::from(is_secure);
    out[9..13].copy_from_slice(&length(authority.len()).to_le_bytes());
    out[13..17].copy_from_slice(&length(target.len()).to_le_bytes());
    out.extend(authority.iter().map(u8::to_ascii_lowercase));
    out.extend_from_slice(target);
    out
}

/// Whether a request has one of these.
#[must_use]
pub fn has_any(request: &RequestHead, parts: &[RequestPart]) -> bool {
    parts.iter().any(|part| match part {
        RequestPart::Header(name) => request.fields.values_named(name.as_bytes()).next().is_some(),
        RequestPart::Cookie(name) => cookies(&request.fields, name).next().is_some(),
        RequestPart::Query(name) => parameters(request.query(), name).next().is_some(),
    })
}

/// The key's scheme, authority and target: what a URL says, and all that places it.
#[must_use]
pub fn url(key: &[u8]) -> &[u8] {
    let end = FIXED + part_len(key, 9) + part_len(key, 13);
    key.get(8..end).unwrap_or_default()
}

/// The key's authority, and its path with the query.
#[must_use]
pub fn parts(key: &[u8]) -> (&[u8], &[u8]) {
    let middle = FIXED + part_len(key, 9);
    let end = middle + part_len(key, 13);
    (key.get(FIXED..middle).unwrap_or_default(), key.get(middle..end).unwrap_or_default())
}

/// The key of another target of the same scheme and authority (section 4.4 of RFC 9111): its URL
/// part, which is what invalidation goes by.
#[must_use]
pub fn sibling(key: &[u8], target: &[u8], rule: &CacheRule) -> Vec<u8> {
    let (authority, _) = parts(key);
    let mut out = key[..FIXED].to_vec();
    out.extend_from_slice(authority);
    let from = out.len();
    match target.iter().position(|byte| *byte == b'?') {
        None => out.extend_from_slice(target),
        Some(at) => {
            out.extend_from_slice(&target[..at]);
            push_query(&target[at + 1..], rule, &mut out);
        }
    }
    let len = length(out.len() - from);
    out[13..17].copy_from_slice(&len.to_le_bytes());
    out
}

/// Places a URL: seeded, so that no client can aim (exam F11).
#[must_use]
pub fn hash(key: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(url(key), seed)
}

/// The shard that owns a hash.
#[must_use]
pub fn owner(hash: u64, shards: usize) -> usize {
    // The upper half chooses the shard, the lower half the place in its index.
    usize::try_from(((hash >> 32) * shards as u64) >> 32).unwrap_or(0)
}

fn part_len(key: &[u8], at: usize) -> usize {
    let bytes = key.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes) as usize
}

fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn push_values<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count: u32 = 0;
    for value in values {
        count += 1;
        out.extend_from_slice(&length(value.len()).to_le_bytes());
        out.extend_from_slice(value);
    }
    out[at..at + 4].copy_from_slice(&count.to_le_bytes());
}

/// The query with its `?`, without what the rule leaves out.
fn push_query(query: &[u8], rule: &CacheRule, out: &mut Vec<u8>) {
    if rule.ignore_query.is_empty() && rule.keep_query.is_empty() && !rule.sort_query {
        out.push(b'?');
        out.extend_from_slice(query);
        return;
    }
    let fits = |names: &[String], one: &[u8]| {
        let name = one.split(|byte| *byte == b'=').next().unwrap_or_default();
        names.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning.as_bytes()),
            None => name == wanted.as_bytes(),
        })
    };
    let mut kept: Vec<&[u8]> = query
        .split(|byte| *byte == b'&')
        .filter(|one| !fits(&rule.ignore_query, one))
        .filter(|one| rule.keep_query.is_empty() || fits(&rule.keep_query, one))
        .collect();
    if rule.sort_query {
        // Only names are put in order: that of values may mean something.
        kept.sort_by_key(|one| one.split(|byte| *byte == b'=').next().unwrap_or_default());
    }
    for (at, one) in kept.iter().enumerate() {
        out.push(if at == 0 { b'?' } else { b'&' });
        out.extend_from_slice(one);
    }
}

fn parameters<'a>(query: Option<&'a [u8]>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let all = query.unwrap_or_default().split(|byte| *byte == b'&');
    all.filter_map(move |one| {
        let rest = one.strip_prefix(name.as_bytes())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
    })
}

fn cookies<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let all = fields.values(Name::Cookie).flat_map(|value| value.split(|byte| *byte == b';'));
    all.filter_map(move |one| one.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_with(rule: &CacheRule, authority: &str, path: &str, query: Option<&str>) -> Vec<u8> {
        let mut head = RequestHead::default();
        head.set_authority(authority.as_bytes(), authority.len());
        head.set_target(path.as_bytes(), query.map(str::as_bytes));
        head.fields.push(b"Cookie", b"lang=de; id=7");
        let mut out = Vec::new();
        write(&head, KeyFrame { digest: 7, is_secure: false, reserved: &[] }, rule, &mut out);
        out
    }

    fn key(authority: &str, path: &str, query: Option<&str>) -> Vec<u8> {
        key_with(&CacheRule::default(), authority, path, query)
    }

    #[test]
    fn no_two_requests_share_a_key() {
        // exam E01, E02.
        let keys = [
            key("a", "/b/c", None),
            key("a/b", "/c", None),
            key("a", "/b/c", Some("")),
            key("a", "/b/c?", None),
            key("a:80", "/b/c", None),
            key("a", "/b", Some("c")),
            key("a", "/b", Some("x=1&y=2")),
            key("a", "/b", Some("y=2&x=1")),
        ];
        for (at, one) in keys.iter().enumerate() {
            // `?` cannot be in a path; everything else differs.
            let same = keys.iter().filter(|other| *other == one).count();
            assert!(same == 1 || at == 2 || at == 3, "{at}");
        }
        assert_eq!(key("A.Example", "/", None), key("a.example", "/", None));
        assert_eq!(parts(&key("a", "/b", Some("c"))), (&b"a"[..], &b"/b?c"[..]));
        let other = sibling(&key("a", "/b", None), b"/other?x", &CacheRule::default());
        assert_eq!(other, key("a", "/other", Some("x")));
    }

    #[test]
    fn what_changes_the_answer_and_is_not_keyed_is_known() {
        // exam E05.
        let with = |name: &str| {
            let mut fields = Fields::default();
            fields.push(name.as_bytes(), b"/admin");
            is_unkeyed(&fields)
        };
        for name in [
            "X-Original-URL",
            "x-original-host",
            "X-Rewrite-Url",
            "X-HTTP-Method-Override",
            "X-Host",
            "Base-Url",
            "X-HTTP-Host-Override",
        ] {
            assert!(with(name), "{name}");
        }
        assert!(!with("X-Custom") && !with("Accept") && !with("X-"));
    }

    #[test]
    fn queries_are_what_the_rule_leaves_of_them() {
        let drop = |names: &[&str]| CacheRule {
            ignore_query: names.iter().map(|name| (*name).to_owned()).collect(),
            ..CacheRule::default()
        };
        let query = Some("b=2&utm_source=x&a=1&b=1");
        let target = |rule: &CacheRule| {
            let key = key_with(rule, "h", "/", query);
            String::from_utf8(parts(&key).1.to_vec()).unwrap()
        };
        assert_eq!(target(&drop(&["utm_*"])), "/?b=2&a=1&b=1");
        assert_eq!(target(&drop(&["*"])), "/");
        let keep = CacheRule { keep_query: vec!["a".to_owned()], ..CacheRule::default() };
        assert_eq!(target(&keep), "/?a=1");
        let sort = CacheRule { sort_query: true, ..drop(&["utm_*"]) };
        assert_eq!(target(&sort), "/?a=1&b=2&b=1");
    }

    #[test]
    fn parts_of_a_request_can_belong_to_it() {
        let with = |part| CacheRule { key: vec![part], ..CacheRule::default() };
        let plain = key("h", "/", None);
        let cookie = key_with(&with(RequestPart::Cookie("lang".to_owned())), "h", "/", None);
        let other = key_with(&with(RequestPart::Cookie("none".to_owned())), "h", "/", None);
        assert!(plain != cookie && cookie != other && cookie.ends_with(b"de"));
        // The same URL is at the same place.
        assert_eq!(hash(&plain, 3), hash(&cookie, 3));
        assert!((0..64).all(|hash: u64| owner(hash << 58, 5) < 5));
    }
}
