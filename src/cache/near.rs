//! Other shards' entries that this shard is often asked for: a bounded set of references, so that
//! a hot hit needs no message. Each is looked at before it is used: its owner has the last word.

use std::sync::Arc;

use hashbrown::HashTable;

use super::entry::Entry;
use super::key;
use super::vary::{Selecting, Selection};
use crate::message::fields::Fields;

/// One reference.
#[derive(Debug)]
struct NearItem {
    entry: Arc<Entry>,
    hash: u64,
    /// The count of wide purges when its owner was asked.
    epoch: u32,
    was_used: bool,
}

/// The near set.
#[derive(Debug)]
pub struct Near {
    items: Vec<NearItem>,
    index: HashTable<u32>,
    most: usize,
    hand: usize,
    /// Fingerprints of what was asked for once.
    seen: Box<[u32]>,
    /// Memory for what a request has in the fields that select responses.
    asked: Selecting,
}

impl Near {
    /// For at most so many entries.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let seen = vec![0; (4 * most).next_power_of_two()].into_boxed_slice();
        Self { items: Vec::new(), index: HashTable::new(), most, hand: 0, seen, asked: Vec::new() }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entry for a request, if it is here and still the one.
    pub fn find(
        &mut self,
        hash: u64,
        key: &[u8],
        fields: &Fields,
        epoch: u32,
    ) -> Option<&Arc<Entry>> {
        let items = &self.items;
        let mut asked = Selection::new(fields, &mut self.asked);
        let mut suits = |at: u32| {
            let item = &items[at as usize];
            item.hash == hash && item.entry.key() == key && asked.suits(item.entry.selecting())
        };
        let at = self.index.iter_hash(hash).copied().find(|at| suits(*at))?;
        let at = at as usize;
        if !self.items[at].entry.is_live() || self.items[at].epoch != epoch {
            self.remove(at);
            return None;
        }
        let item = &mut self.items[at];
        item.was_used = true;
        Some(&item.entry)
    }

    /// An owner has answered with this entry. It is kept if it was asked for before.
    pub fn offer(&mut self, hash: u64, entry: &Arc<Entry>, epoch: u32) {
        let print = u32::try_from(hash >> 32).unwrap_or(0) | 1;
        let place = usize::try_from(hash).unwrap_or(0) & (self.seen.len() - 1);
        if std::mem::replace(&mut self.seen[place], print) != print || self.most == 0 {
            return;
        }
        let items = &self.items;
        let same = self.index.find(hash, |at| {
            let old = &items[*at as usize].entry;
            old.key() == entry.key() && old.selecting() == entry.selecting()
        });
        if let Some(at) = same.copied() {
            self.remove(at as usize);
        }
        if self.items.len() >= self.most {
            self.make_room();
        }
        let at = u32::try_from(self.items.len()).unwrap_or(0);
        self.items.push(NearItem { entry: Arc::clone(entry), hash, epoch, was_used: false });
        let items = &self.items;
        self.index.insert_unique(hash, at, |at| items[*at as usize].hash);
    }

    /// The first that was not used since the hand passed it (CLOCK).
    fn make_room(&mut self) {
        loop {
            self.hand = if self.hand + 1 < self.items.len() { self.hand + 1 } else { 0 };
            let item = &mut self.items[self.hand];
            if !std::mem::take(&mut item.was_used) || !item.entry.is_live() {
                return self.remove(self.hand);
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let hash = self.items[at].hash;
        if let Ok(place) = self.index.find_entry(hash, |one| *one as usize == at) {
            place.remove();
        }
        self.items.swap_remove(at);
        if let Some(moved) = self.items.get(at) {
            let last = self.items.len();
            if let Some(place) = self.index.find_mut(moved.hash, |one| *one as usize == last) {
                *place = u32::try_from(at).unwrap_or(0);
            }
        }
    }

    /// Lets go of what is not the one any more: its memory is counted nowhere.
    pub fn sweep(&mut self, epoch: u32) {
        let mut at = 0;
        while let Some(item) = self.items.get(at) {
            if item.entry.is_live() && item.epoch == epoch {
                at += 1;
            } else {
                self.remove(at);
            }
        }
    }

    /// Where a key's fingerprint stands, for tests and tools.
    #[must_use]
    pub fn holds(&self, key: &[u8], seed: u64) -> bool {
        let hash = key::hash(key, seed);
        self.index.find(hash, |at| self.items[*at as usize].entry.key() == key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;
    use crate::cache::entry::Draft;
    use crate::cache::freshness::Freshness;

    fn entry(name: u32) -> Arc<Entry> {
        let mut key = vec![0; 17];
        key[13] = 4;
        key.extend_from_slice(&name.to_le_bytes());
        let draft = Draft {
            key: &key,
            selecting: b"",
            fields: b"",
            status: 200,
            freshness: Freshness::default(),
            modified: None,
        };
        Arc::new(draft.small(b""))
    }

    #[test]
    fn only_what_its_owner_still_has_is_found() {
        let mut near = Near::new(8);
        let one = entry(1);
        let hash = key::hash(one.key(), 0);
        let fields = Fields::default();
        near.offer(hash, &one, 0);
        assert!(near.is_empty(), "the first time is no reason yet");
        near.offer(hash, &one, 0);
        assert!(near.find(hash, one.key(), &fields, 0).is_some());
        assert!(near.find(hash, one.key(), &fields, 1).is_none(), "a wide purge came between");
        near.offer(hash, &one, 1);
        one.kill();
        assert!(near.find(hash, one.key(), &fields, 1).is_none() && near.is_empty());
    }

    #[test]
    fn it_stays_within_its_bound_and_finds_what_it_holds() {
        let mut near = Near::new(16);
        let mut random = Random::new(1);
        let all: Vec<Arc<Entry>> = (0..64).map(entry).collect();
        for step in 0..5000 {
            let one = &all[random.below(64) as usize];
            let hash = key::hash(one.key(), 0);
            let is_held = near.holds(one.key(), 0);
            let found = near.find(hash, one.key(), &Fields::default(), 0).cloned();
            assert_eq!(found.is_some(), is_held && one.is_live());
            if let Some(found) = found {
                assert_eq!(found.key(), one.key());
            }
            near.offer(hash, one, 0);
            if step == 2500 {
                all[..8].iter().for_each(|one| one.kill());
                near.sweep(0);
            }
            assert!(near.len() <= 16 && near.index.len() == near.len());
        }
        near.sweep(1);
        assert!(near.is_empty());
    }
}
