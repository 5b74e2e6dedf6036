//! Seeded hashing for tables whose keys come from the network (RELIABILITY F11).

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

/// Hashes bytes with a seed: without the seed nobody can aim for a collision.
#[must_use]
pub fn seeded(bytes: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// A map whose keys come from the configuration, never from the network.
pub type ConfigMap<K, V> = HashMap<K, V, Xxh3DefaultBuilder>;
