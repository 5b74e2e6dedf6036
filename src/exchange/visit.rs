//! A request on a route that caches.

use crate::base::id::ClusterId;
use crate::cache::key;
use crate::config::cache::Cached;
use crate::config::model::Route;
use crate::message::fields::Fields;
use crate::shard::Shard;

/// A request on its way through the cache.
#[derive(Clone, Copy)]
pub struct Visit<'a> {
    pub route: &'a Route,
    pub cached: &'a Cached,
    pub cluster: ClusterId,
}

/// What of a key is not in the request.
#[must_use]
pub fn frame(shard: &Shard, digest: u64, is_secure: bool) -> key::KeyFrame<'_> {
    key::KeyFrame { digest, is_secure, reserved: &shard.plan.config.reserved }
}

/// Whether a request says by its certificate whose it is: like `Authorization`, such a response is shared with
/// the origin's leave only (exam R11).
#[must_use]
pub fn names_client(shard: &Shard, fields: &Fields) -> bool {
    let reserved = &shard.plan.config.reserved;
    reserved.iter().any(|name| fields.values_named(name.as_bytes()).next().is_some())
}
