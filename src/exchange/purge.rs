//! `PURGE`: takes entries out of the cache, for clients that may. What exactly, two fields say:
//! `Millrace-Purge` (`soft`, `prefix`, `pattern`, `all`), and `Surrogate-Key` or `Cache-Tag`.

use super::respond;
use super::state::Exchange;
use super::visit::frame;
use crate::base::error::{Kind, Result};
use crate::cache::key;
use crate::cache::purge::{Purge, What};
use crate::config::cache::{CacheRule, Cached};
use crate::message::fields::list;
use crate::message::head::RequestHead;
use crate::message::name::{Name, NameSet};
use crate::shard::{Heads, Shard};

/// The field that says how.
const FIELD: &[u8] = b"millrace-purge";

/// Whether a request is a purge, and not an origin's own method.
#[must_use]
pub fn is_one(shard: &Shard, request: &RequestHead) -> bool {
    !shard.plan.config.cache.purge.is_empty() && request.method_text() == b"PURGE"
}

/// Takes out what the request means. When the answer goes out no core serves it any more.
///
/// # Errors
/// `PurgeRefused` for clients that may not; `PurgeWord` for words that mean nothing; `PurgeUnsure`.
pub async fn run(ex: &mut Exchange<'_>, cached: Option<&Cached>) -> Result<()> {
    let (shard, client) = (ex.shard, ex.record.client);
    let allowed = &shard.plan.config.cache.purge;
    if !allowed.iter().any(|block| block.contains(&client.to_canonical())) {
        return Err(Kind::PurgeRefused);
    }
    let is_secure = ex.client.client.is_secure;
    let Heads { request, key, .. } = &mut *ex.work;
    // What a URL is called does not depend on whose rules stored it, but for its query.
    let plain = CacheRule::default();
    let (digest, rule) = cached.map_or((0, &plain), |cached| (cached.digest, &cached.rule));
    key::write(request, frame(shard, digest, is_secure), rule, key);
    let purge = parse(request, key)?;
    let purged = shard.cache.purge(purge, shard.now()).await;
    let count = purged.map_err(|_| Kind::PurgeUnsure)?;
    respond::json(ex, &format!("{{\"purged\":{count}}}\n")).await
}

fn parse(request: &RequestHead, key: &[u8]) -> Result<Purge> {
    let (authority, target) = key::parts(key);
    let (authority, target) = (authority.to_vec(), target.to_vec());
    let mut kinds = Vec::new();
    let mut is_soft = false;
    for word in list(request.fields.values_named(FIELD)) {
        match word {
            b"soft" => is_soft = true,
            b"prefix" => kinds.push(What::Prefix(authority.clone(), target.clone())),
            b"pattern" => kinds.push(What::Pattern(authority.clone(), target.clone())),
            b"all" => kinds.push(What::All),
            _ => return Err(Kind::PurgeWord),
        }
    }
    let names = [Name::SurrogateKey, Name::CacheTag];
    if request.fields.has_any(NameSet::of(&names)) {
        let values = names.into_iter().flat_map(|name| request.fields.values(name));
        let tags = values.flat_map(|value| value.split(|byte| matches!(byte, b',' | b' ')));
        let tags = tags.filter(|tag| !tag.is_empty()).map(<[u8]>::to_vec).collect();
        kinds.push(What::Tags(tags));
    }
    // It is not guessed which of two was meant.
    match (kinds.pop(), kinds.is_empty()) {
        (None, _) => Ok(Purge { what: What::Url(key.to_vec()), is_soft }),
        (Some(what), true) => Ok(Purge { what, is_soft }),
        (Some(_), false) => Err(Kind::PurgeWord),
    }
}
