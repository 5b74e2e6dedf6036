//! Passes for client connections: so many in all, so many from one address. Each shard has its
//! share of both, because the kernel spreads connections over the shards by hash.

use std::collections::HashMap;
use std::net::IpAddr;

use xxhash_rust::xxh3::Xxh3Builder;

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many in all.
    Full,
    /// Too many from this address.
    FullForClient,
}

/// One shard's counts. Keys come from the network, so the table is seeded and bounded by `most`.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    most_per_client: usize,
    inside: usize,
    clients: HashMap<IpAddr, u32, Xxh3Builder>,
}

impl Gate {
    /// A gate for one of `shards` shards.
    #[must_use]
    pub fn new(most: usize, most_per_client: usize, shards: usize, seed: u64) -> Self {
        let share = |all: usize| all.div_ceil(shards.max(1)).max(1);
        Self {
            most: share(most),
            most_per_client: share(most_per_client),
            inside: 0,
            clients: HashMap::with_hasher(Xxh3Builder::new().with_seed(seed)),
        }
    }

    /// Lets a connection in, or says why not. A connection that is let in must `leave`.
    ///
    /// # Errors
    /// The bound that was met.
    pub fn enter(&mut self, client: IpAddr) -> Result<(), Refusal> {
        if self.inside >= self.most {
            return Err(Refusal::Full);
        }
        if self.most_per_client < self.most {
            let count = self.clients.entry(client).or_insert(0);
            if *count as usize >= self.most_per_client {
                return Err(Refusal::FullForClient);
            }
            *count += 1;
        }
        self.inside += 1;
        Ok(())
    }

    /// A connection ended.
    pub fn leave(&mut self, client: IpAddr) {
        debug_assert!(self.inside > 0, "only what has entered leaves");
        self.inside = self.inside.saturating_sub(1);
        if let Some(count) = self.clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&client);
            }
        }
    }

    /// How many are inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_passes_come_back() {
        let (one, two): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        let mut gate = Gate::new(6, 4, 2, 1);
        assert_eq!((gate.enter(one), gate.enter(one)), (Ok(()), Ok(())));
        assert_eq!(gate.enter(one), Err(Refusal::FullForClient));
        assert_eq!(gate.enter(two), Ok(()));
        assert_eq!(gate.enter(two), Err(Refusal::Full));
        gate.leave(one);
        assert_eq!(gate.enter(two), Ok(()));
        assert_eq!(gate.inside(), 3);
    }
}
