//! Floor 3: a shared HTTP cache (RFC 9111): what may be stored, what may be served, and which entry
//! it is. Pure: `now` is an argument, and what must be fetched is fetched by `exchange`.

pub mod directive;
pub mod disk_index;
pub mod entry;
pub mod file;
pub mod fill_stream;
pub mod freshness;
pub mod key;
pub mod ledger;
pub mod near;
pub mod octets;
pub mod policy;
pub mod purge;
pub mod range;
pub mod shard;
pub mod status;
pub mod store;
pub mod validate;
pub mod vary;
