//! `[cache]` and `route.cache` to plan.

use std::time::Duration;

use super::cache::{Cache, CacheRule, Cached, RequestPart};
use super::lower_common::{duration, read_blocks};
use super::model::Action;
use super::raw::ConfigTable;
use super::units;
use crate::base::limits::CACHE_MEMORY_MIN;
use crate::config::model::HashOn;

pub(super) fn read(mut table: ConfigTable<'_>) -> Cache {
    let defaults = Cache::default();
    let memory = table.parsed("memory", |text| match units::size(text)? {
        bytes if bytes >= CACHE_MEMORY_MIN => Ok(bytes),
        _ => {
            Err("a cache takes at least 1MiB; to cache nothing, leave `cache` out of routes".into())
        }
    });
    let memory = memory.unwrap_or(defaults.memory);
    let object = table.parsed("object", |text| match units::size(text)? {
        bytes if (1..=memory / 2).contains(&bytes) => Ok(bytes),
        _ => {
            Err("must be from 1B to half of cache.memory: one body must not take all of it".into())
        }
    });
    let disk = table.string("disk").filter(|path| !path.value.is_empty());
    let disk = disk.map(|path| table.path_at(&path.span, &path.value));
    let disk_size = table.parsed("disk_size", |text| match units::size(text)? {
        bytes if bytes >= CACHE_MEMORY_MIN => Ok(bytes),
        _ => Err("a disk takes at least 1MiB; for none write disk = \"\"".into()),
    });
    let purge = read_blocks(&mut table, "purge");
    table.finish();
    Cache {
        memory,
        object: object.unwrap_or(memory / 8),
        disk,
        disk_size: disk_size.unwrap_or(defaults.disk_size),
        purge,
    }
}

/// `cache = true`, `cache = false`, or a table.
pub(super) fn read_rule(
    route: &mut ConfigTable<'_>,
    action: Option<&Action>,
    digest_of: impl Fn(&CacheRule) -> u64,
) -> Option<Cached> {
    let place = route.place_of("cache");
    let rule = match route.switch("cache") {
        Some(false) => return None,
        Some(true) => CacheRule::default(),
        None if !route.has("cache") => return None,
        None => read_table(route.table("cache")),
    };
    if !matches!(action, None | Some(Action::Forward(_))) {
        route.error(place, "only responses of a cluster are stored: \"cache\" has no use here");
    }
    let digest = digest_of(&rule);
    Some(Cached { rule, digest })
}

fn read_table(mut table: ConfigTable<'_>) -> CacheRule {
    let seconds = |table: &mut ConfigTable<'_>, key| {
        let found: Option<Duration> = duration(table, key, true);
        // HTTP counts whole seconds: what is begun counts.
        found.map(|found| u32::try_from(found.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
    };
    let rule = CacheRule {
        key: parts(&mut table, "key"),
        ignore_query: names(&mut table, "ignore_query"),
        keep_query: names(&mut table, "keep_query"),
        sort_query: table.boolean("sort_query").unwrap_or_default(),
        default_ttl: seconds(&mut table, "default_ttl"),
        negative_ttl: seconds(&mut table, "negative_ttl"),
        ignore_clients: !table.boolean("client_directives").unwrap_or(true),
        grace: seconds(&mut table, "grace").unwrap_or_default(),
        grace_down: seconds(&mut table, "grace_down")
            .unwrap_or_else(|| CacheRule::default().grace_down),
        bypass: parts(&mut table, "bypass"),
        cookies: table.boolean("cookies").unwrap_or_default(),
    };
    table.finish();
    rule
}

fn parts(table: &mut ConfigTable<'_>, key: &'static str) -> Vec<RequestPart> {
    let mut found = Vec::new();
    for text in table.strings(key) {
        match units::hash_on(&text.value) {
            Ok(HashOn::Header(name)) => found.push(RequestPart::Header(name)),
            Ok(HashOn::Cookie(name)) => found.push(RequestPart::Cookie(name)),
            Ok(HashOn::Query(name)) => found.push(RequestPart::Query(name)),
            _ => {
                let wanted = "\"header:NAME\", \"cookie:NAME\" or \"query:NAME\"";
                table.error(text.span, format!("\"{}\" is none of {wanted}", text.value));
            }
        }
    }
    found
}

/// Names of query parameters, of which the last character may be a star.
fn names(table: &mut ConfigTable<'_>, key: &'static str) -> Vec<String> {
    let mut found = Vec::new();
    for name in table.strings(key) {
        let stem = name.value.strip_suffix('*').unwrap_or(&name.value);
        if name.value.is_empty() || stem.contains(['*', '&', '=', '#']) {
            let message = format!(
                "\"{}\" is no name of a query parameter; write \"name\" or \"beginning*\"",
                name.value
            );
            table.error(name.span, message);
        } else {
            found.push(name.value);
        }
    }
    found
}
