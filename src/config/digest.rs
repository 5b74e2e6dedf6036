//! What stored responses of a route stand under: all that makes them what they are, field by field.
//!
//! A field that has its default is not written: a key that a later version adds leaves the stored responses of
//! all routes that do not use it. What is written, and how, is the format of [`VERSION`].

use super::cache::{CacheRule, RequestPart};
use super::model::{HeaderRules, HostPolicy};

/// Goes up when the meaning of a field changes: then nothing that was stored before is served.
const VERSION: u8 = 1;

/// Where the responses of a route come from, and what is changed about them.
pub(super) struct RouteOrigin<'a> {
    pub(super) cluster: &'a str,
    /// The host that the cluster's servers are asked for; the cluster is faulty without it.
    pub(super) host: Option<&'a HostPolicy>,
    pub(super) requests: &'a HeaderRules,
    pub(super) responses: &'a HeaderRules,
}

/// The digest of a route's part in the cache.
pub(super) fn of(origin: &RouteOrigin<'_>, rule: &CacheRule) -> u64 {
    let mut out = DigestText(vec![VERSION]);
    out.field("cluster", [origin.cluster]);
    match origin.host {
        None | Some(HostPolicy::Preserve) => {}
        Some(HostPolicy::Endpoint) => out.field("host_of_endpoint", [""]),
        Some(HostPolicy::Fixed(host)) => out.field("host", [host.as_str()]),
    }
    write_rule(rule, &mut out);
    write_headers(["request_set", "request_add", "request_remove"], origin.requests, &mut out);
    write_headers(["response_set", "response_add", "response_remove"], origin.responses, &mut out);
    crate::base::hash::stable(&out.0)
}

fn write_rule(rule: &CacheRule, out: &mut DigestText) {
    // Each field has a name here, so that the compiler asks about a new one.
    let CacheRule {
        key,
        ignore_query,
        keep_query,
        sort_query,
        default_ttl,
        negative_ttl,
        ignore_clients,
        grace,
        grace_down,
        bypass,
        cookies,
    } = rule;
    let default = CacheRule::default();
    out.field("key", key.iter().flat_map(texts_of));
    out.field("ignore_query", ignore_query.iter().map(String::as_str));
    out.field("keep_query", keep_query.iter().map(String::as_str));
    out.number("sort_query", u32::from(*sort_query), 0);
    out.number("default_ttl", default_ttl.map_or(0, |ttl| ttl.saturating_add(1)), 0);
    out.number("negative_ttl", negative_ttl.map_or(0, |ttl| ttl.saturating_add(1)), 0);
    out.number("ignore_clients", u32::from(*ignore_clients), 0);
    out.number("grace", *grace, default.grace);
    out.number("grace_down", *grace_down, default.grace_down);
    out.field("bypass", bypass.iter().flat_map(texts_of));
    out.number("cookies", u32::from(*cookies), 0);
}

fn write_headers(names: [&str; 3], rules: &HeaderRules, out: &mut DigestText) {
    let HeaderRules { set, add, remove } = rules;
    out.field(names[0], set.iter().flat_map(|(name, value)| [name.as_str(), value]));
    out.field(names[1], add.iter().flat_map(|(name, value)| [name.as_str(), value]));
    out.field(names[2], remove.iter().map(String::as_str));
}

fn texts_of(part: &RequestPart) -> [&str; 2] {
    match part {
        RequestPart::Header(name) => ["header", name],
        RequestPart::Cookie(name) => ["cookie", name],
        RequestPart::Query(name) => ["query", name],
    }
}

/// Fields, each text behind its length, so that no two lists are written alike.
struct DigestText(Vec<u8>);

impl DigestText {
    /// A field with these texts; nothing if there are none.
    fn field<'t>(&mut self, name: &str, texts: impl IntoIterator<Item = &'t str>) {
        let mut texts = texts.into_iter().peekable();
        if texts.peek().is_none() {
            return;
        }
        self.text(name);
        for text in texts {
            self.0.push(1);
            self.text(text);
        }
        self.0.push(0);
    }

    fn number(&mut self, name: &str, value: u32, default: u32) {
        if value != default {
            self.field(name, [value.to_string().as_str()]);
        }
    }

    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: HeaderRules = HeaderRules { set: Vec::new(), add: Vec::new(), remove: Vec::new() };

    fn digest(rule: &CacheRule, responses: &HeaderRules) -> u64 {
        let host = Some(&HostPolicy::Preserve);
        of(&RouteOrigin { cluster: "shop", host, requests: &PLAIN, responses }, rule)
    }

    /// The value itself: another one gives up what every disk holds, and wants another `VERSION`.
    #[test]
    fn a_route_with_defaults_has_the_digest_that_it_had_when_disks_were_written() {
        assert_eq!(digest(&CacheRule::default(), &PLAIN), 17_770_137_194_348_216_094);
    }

    #[test]
    fn all_that_changes_a_response_changes_the_digest() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rules = [
            CacheRule { key: vec![RequestPart::Header("a".into())], ..CacheRule::default() },
            CacheRule { key: vec![RequestPart::Cookie("a".into())], ..CacheRule::default() },
            CacheRule { bypass: vec![RequestPart::Cookie("a".into())], ..CacheRule::default() },
            CacheRule { ignore_query: names(&["a", "b"]), ..CacheRule::default() },
            CacheRule { ignore_query: names(&["ab"]), ..CacheRule::default() },
            CacheRule { keep_query: names(&["ab"]), ..CacheRule::default() },
            CacheRule { sort_query: true, ..CacheRule::default() },
            CacheRule { default_ttl: Some(0), ..CacheRule::default() },
            CacheRule { default_ttl: Some(1), ..CacheRule::default() },
            CacheRule { negative_ttl: Some(0), ..CacheRule::default() },
            CacheRule { ignore_clients: true, ..CacheRule::default() },
            CacheRule { grace: 1, ..CacheRule::default() },
            CacheRule { grace_down: 0, ..CacheRule::default() },
            CacheRule { cookies: true, ..CacheRule::default() },
        ];
        let pair = || vec![("a".to_owned(), "b".to_owned())];
        let headers = [
            HeaderRules { set: pair(), ..PLAIN },
            HeaderRules { add: pair(), ..PLAIN },
            HeaderRules { remove: names(&["a", "b"]), ..PLAIN },
        ];
        let mut all: Vec<u64> = rules.iter().map(|rule| digest(rule, &PLAIN)).collect();
        all.extend(headers.iter().map(|rules| digest(&CacheRule::default(), rules)));
        all.push(digest(&CacheRule::default(), &PLAIN));
        for host in [HostPolicy::Endpoint, HostPolicy::Fixed("shop".into())] {
            let origin = RouteOrigin {
                cluster: "shop",
                host: Some(&host),
                requests: &PLAIN,
                responses: &PLAIN,
            };
            all.push(of(&origin, &CacheRule::default()));
        }
        let requests = &HeaderRules { set: pair(), ..PLAIN };
        all.push(of(
            &RouteOrigin { cluster: "shop", host: None, requests, responses: &PLAIN },
            &CacheRule::default(),
        ));
        all.push(of(
            &RouteOrigin { cluster: "b", host: None, requests: &PLAIN, responses: &PLAIN },
            &CacheRule::default(),
        ));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "two of them are stored alike");
    }
}
