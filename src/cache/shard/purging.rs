//! A part and purges: one URL at once; the others are remembered until every entry was held against
//! them, a few thousand at a time.

use super::CacheShard;
use crate::base::clock::Moment;
use crate::base::limits::PURGE_LOOKS;
use crate::cache::entry::Entry;
use crate::cache::key;
use crate::cache::purge::{Log, Purge, What};

impl CacheShard {
    /// Takes out what a purge means; how many entries that were, as far as that is known already.
    pub fn purge(&mut self, purge: &Purge, now: Moment) -> usize {
        if let What::Url(key) = &purge.what {
            let hash = key::hash(key, self.ledger.seed);
            for fill in self.fills.get_mut(&hash).into_iter().flatten() {
                fill.is_doomed |= key::url(&fill.key) == key::url(key);
            }
            if let Some(disk_index) = &mut self.disk_index {
                disk_index.remove(hash);
            }
            if purge.is_soft {
                let variants = self.store.variants(hash, key);
                return variants.map(|entry| entry.demote(now)).count();
            }
            let dropped = self.store.drop_matching(hash, key, |_| true);
            self.say_used();
            return dropped;
        }
        let is_idle = self.purges.is_empty();
        self.purges.push(purge.clone());
        let is_small = self.store.slots() < PURGE_LOOKS;
        if is_idle || is_small {
            self.begin_round();
        }
        if !is_small {
            return 0;
        }
        // A small cache is looked through at once, and the number is right; a large one meanwhile.
        let before = self.store.len();
        let mut soft = 0;
        self.go_round(now, &mut soft);
        before - self.store.len() + soft
    }

    /// Begins to hold every entry against the purges so far.
    fn begin_round(&mut self) {
        self.store.look_again();
        self.sweeping = self.purges.last();
    }

    /// Goes on with it. Purges that come meanwhile are for the next round.
    pub(super) fn go_round(&mut self, now: Moment, soft: &mut usize) {
        if self.look(PURGE_LOOKS, now, soft) {
            self.forget_purges();
            self.begin_round();
        }
    }

    fn look(&mut self, many: usize, now: Moment, soft: &mut usize) -> bool {
        let (last, purges) = (self.purges.last(), &self.purges);
        self.store.look(many, |entry| {
            let verdict = purges.verdict(entry, entry.purges());
            *soft += usize::from(verdict == Some(true));
            is_purged(entry, purges, last, now)
        })
    }

    /// Every entry has been held against them; fetches that are older still may bring others.
    fn forget_purges(&mut self) {
        let oldest = self.fills.values().flatten().map(|fill| fill.purges).min();
        self.purges.forget(self.sweeping.min(oldest.unwrap_or(u32::MAX)));
    }

    pub(super) fn hold_against_purges(&mut self, hash: u64, key: &[u8], now: Moment) {
        let (last, purges) = (self.purges.last(), &self.purges);
        self.store.drop_matching(hash, key, |entry| is_purged(entry, purges, last, now));
    }
}

/// Holds an entry against the purges that it has not met. True if it has to go.
fn is_purged(entry: &Entry, purges: &Log, last: u32, now: Moment) -> bool {
    if entry.purges() == last {
        return false;
    }
    let verdict = purges.verdict(entry, entry.purges());
    if verdict == Some(true) {
        entry.demote(now);
    }
    entry.set_purges(last);
    verdict == Some(false)
}
