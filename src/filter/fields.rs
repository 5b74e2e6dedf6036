//! Header fields that a route changes, and Cache-Status.

use super::verdict::Answering;
use crate::config::model::HeaderRules;
use crate::message::fields::Fields;
use crate::message::name::Name;

/// Removes, then sets, then adds.
pub(super) fn change(fields: &mut Fields, rules: &HeaderRules) {
    rules.remove.iter().for_each(|name| fields.remove_named(name.as_bytes()));
    rules.set.iter().for_each(|(name, value)| fields.set(name.as_bytes(), value.as_bytes()));
    rules.add.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
}

pub(super) fn add_cache_status(fields: &mut Fields, facts: &Answering<'_>) {
    if let Some(status) = facts.cache_status {
        fields.push_known(Name::CacheStatus, b"Cache-Status", status);
    }
}
