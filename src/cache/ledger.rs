//! How much memory the cache may take, and which shard how much of it: by use, not evenly for ever.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::octets::Gauge;

/// One shard's line; a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ShardLine {
    /// Octets stored.
    used: AtomicU64,
    /// Of these, what pieces of large bodies count as.
    large: AtomicU64,
    /// Octets that it keeps when memory is short.
    share: AtomicU64,
    /// Entries that were let go and wanted again, since they were counted last.
    regrets: AtomicU64,
}

/// What the shards share of the cache's books.
#[derive(Debug)]
pub struct Ledger {
    /// Octets in all.
    budget: AtomicU64,
    /// A larger body is not stored.
    object: AtomicU64,
    lines: Box<[ShardLine]>,
    /// Pieces of bodies, whichever task holds them.
    pub bodies: Gauge,
    /// Purges of more than one URL so far.
    epoch: AtomicU32,
    /// Places keys.
    pub seed: u64,
}

impl Ledger {
    /// For so many shards, each with an even share to begin with.
    #[must_use]
    pub fn new(budget: u64, object: u64, shards: usize, seed: u64) -> Self {
        let lines: Box<[ShardLine]> = (0..shards).map(|_| ShardLine::default()).collect();
        let share = budget / shards.max(1) as u64;
        lines.iter().for_each(|line| line.share.store(share, Relaxed));
        let (bodies, epoch) = (Gauge::default(), AtomicU32::new(0));
        let (budget, object) = (AtomicU64::new(budget), AtomicU64::new(object));
        Self { budget, object, lines, bodies, epoch, seed }
    }

    /// Octets in all.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.budget.load(Relaxed)
    }

    /// A larger body is not stored.
    #[must_use]
    pub fn object(&self) -> u64 {
        self.object.load(Relaxed)
    }

    /// Other bounds hold from now on: shares follow at the next balance.
    pub fn resize(&self, budget: u64, object: u64) {
        self.budget.store(budget, Relaxed);
        self.object.store(object, Relaxed);
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.lines.len()
    }

    /// A shard says how much it has stored, and how much of that are pieces of large bodies.
    pub fn set_used(&self, shard: usize, bytes: u64, large: u64) {
        self.lines[shard].used.store(bytes, Relaxed);
        self.lines[shard].large.store(large, Relaxed);
    }

    /// Octets that are taken: what is stored, and what is held besides.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let stored: u64 = self.lines.iter().map(|line| line.used.load(Relaxed)).sum();
        stored + self.held()
    }

    /// Pieces that are not stored: on their way into the store, or held by a task that still reads them.
    fn held(&self) -> u64 {
        let large: u64 = self.lines.iter().map(|line| line.large.load(Relaxed)).sum();
        self.bodies.load(Relaxed).saturating_sub(large)
    }

    /// Whether a shard has to let entries go: there is too much in all, and it has more than its
    /// share.
    #[must_use]
    pub fn is_over(&self, shard: usize) -> bool {
        let line = &self.lines[shard];
        self.taken() > self.budget() && line.used.load(Relaxed) > self.room(shard)
    }

    /// A shard has more than its share, of which it lent something while it had no use for it: it
    /// takes that back, up to three quarters of an even share, from the shard that has most.
    pub fn reclaim(&self, shard: usize) {
        let line = &self.lines[shard];
        let even = self.budget() / self.lines.len() as u64;
        let (share, used) = (line.share.load(Relaxed), line.used.load(Relaxed));
        let wanted = used.min(even / 4 * 3);
        let richest = self.lines.iter().max_by_key(|one| one.share.load(Relaxed));
        if let (Some(more), Some(from)) = (wanted.checked_sub(share), richest)
            && from.share.load(Relaxed) > even + more
        {
            let took = from.share.fetch_update(Relaxed, Relaxed, |share| share.checked_sub(more));
            if took.is_ok() {
                line.share.fetch_add(more, Relaxed);
            }
        }
    }

    /// What a shard may keep while others take their part of the memory.
    fn room(&self, shard: usize) -> u64 {
        let held = self.held() / self.lines.len() as u64;
        self.lines[shard].share.load(Relaxed).saturating_sub(held)
    }

    /// Whether so much more may be fetched: what is held without being stored takes no more than half
    /// of all.
    #[must_use]
    pub fn may_take(&self, bytes: u64) -> bool {
        self.held() + bytes <= self.budget() / 2
    }

    /// Entries were wanted that a shard had just let go.
    pub fn regret(&self, shard: usize, count: u64) {
        if count > 0 {
            self.lines[shard].regrets.fetch_add(count, Relaxed);
        }
    }

    /// How many wide purges there have been: what was read before the last one is asked for again.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    /// A wide purge has been heard by all.
    pub fn next_epoch(&self) {
        self.epoch.fetch_add(1, Relaxed);
    }

    /// Once a second, by one thread: gives each shard its share anew.
    pub fn balance(&self) {
        let uses: Vec<ShardUse> = self
            .lines
            .iter()
            .map(|line| ShardUse {
                used: line.used.load(Relaxed),
                share: line.share.load(Relaxed),
                regrets: line.regrets.swap(0, Relaxed),
            })
            .collect();
        for (line, share) in self.lines.iter().zip(shares(&uses, self.budget())) {
            line.share.store(share, Relaxed);
        }
    }
}

/// What is known of one shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardUse {
    pub used: u64,
    pub share: u64,
    pub regrets: u64,
}

/// The next shares: a shard that does not use its share lends the rest, and from the one that misses least what it let
/// go, a little goes to the one that misses most. They add up to the budget.
#[must_use]
pub fn shares(uses: &[ShardUse], budget: u64) -> Vec<u64> {
    let count = uses.len().max(1) as u64;
    let step = budget / count / 16;
    let mut shares: Vec<u64> = uses.iter().map(|one| one.share).collect();
    let spare = |one: &ShardUse| one.share.saturating_sub(one.used + step);
    // Those that are full want more, the more they regret.
    let full = |one: &&ShardUse| one.used + step >= one.share;
    let wanting: u64 = uses.iter().filter(full).map(|one| one.regrets + 1).sum();
    let mut lent: u64 = 0;
    if wanting > 0 {
        for (share, one) in shares.iter_mut().zip(uses) {
            let part = spare(one) / 2;
            *share -= part;
            lent += part;
        }
        for (share, one) in shares.iter_mut().zip(uses).filter(|(_, one)| full(one)) {
            *share += lent.checked_div(wanting).unwrap_or(0) * (one.regrets + 1);
        }
    }
    let most = (0..uses.len()).max_by_key(|at| uses[*at].regrets);
    let least = (0..uses.len()).min_by_key(|at| uses[*at].regrets);
    if let (Some(most), Some(least)) = (most, least)
        && uses[most].regrets > 2 * uses[least].regrets + 8
        && shares[least] > 2 * step
    {
        shares[least] -= step;
        shares[most] += step;
    }
    // Rounding, and a budget that was changed.
    let sum: u64 = shares.iter().sum();
    match sum.checked_sub(budget) {
        Some(over) => shares.iter_mut().for_each(|share| *share -= (over / count).min(*share)),
        None => shares.iter_mut().for_each(|share| *share += (budget - sum) / count),
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::octets::Octets;

    fn sums(shares: &[u64]) -> bool {
        (900..=1000).contains(&shares.iter().sum::<u64>())
    }

    #[test]
    fn who_needs_it_gets_what_others_do_not() {
        let idle = ShardUse { used: 10, share: 250, regrets: 0 };
        let busy = ShardUse { used: 250, share: 250, regrets: 100 };
        let mut uses = [idle, idle, busy, busy];
        for _ in 0..20 {
            let next = shares(&uses, 1000);
            for (one, share) in uses.iter_mut().zip(next) {
                one.share = share;
                one.used = if one.regrets > 0 { share } else { 10 };
            }
        }
        let shares: Vec<u64> = uses.iter().map(|one| one.share).collect();
        assert!(sums(&shares) && shares[2] > 400 && shares[3] > 400, "{shares:?}");
    }

    #[test]
    fn all_are_full_and_one_regrets_more() {
        let calm = ShardUse { used: 250, share: 250, regrets: 10 };
        let uses = [calm, calm, ShardUse { regrets: 500, ..calm }, calm];
        let found = shares(&uses, 1000);
        assert!(sums(&found) && found[2] > 250, "{found:?}");
        assert_eq!(shares(&[calm; 4], 1000), [250; 4], "and nothing moves without a reason");
    }

    #[test]
    fn what_was_lent_is_taken_back() {
        let ledger = Ledger::new(1600, 100, 2, 0);
        ledger.set_used(0, 1400, 0);
        for _ in 0..10 {
            ledger.balance();
        }
        let share = |at: usize| ledger.lines[at].share.load(Relaxed);
        assert!(share(1) < 300, "it has no use for it: {}", share(1));
        ledger.set_used(1, 500, 0);
        assert!(ledger.is_over(1));
        ledger.reclaim(1);
        assert_eq!(share(1), 500);
        assert!(!ledger.is_over(1) && ledger.is_over(0));
        ledger.set_used(1, 800, 0);
        ledger.reclaim(1);
        assert_eq!(share(1), 600, "but not all of it at once");
    }

    #[test]
    fn fetches_take_half_at_most() {
        let ledger = Ledger::new(2000, 100, 2, 0);
        let coming = Octets::counted(vec![0; 800], &ledger.bodies);
        assert!(ledger.may_take(1000 - coming.cost()) && !ledger.may_take(1001 - coming.cost()));
        ledger.set_used(0, 900, 0);
        ledger.set_used(1, 100, 0);
        assert!(!ledger.is_over(0), "{}", ledger.taken());
        ledger.set_used(1, 200, 0);
        assert!(ledger.is_over(0) && !ledger.is_over(1));
        // It is stored now, and no other holds anything.
        ledger.set_used(1, 200 + coming.cost(), coming.cost());
        assert_eq!(ledger.taken(), 1100 + coming.cost());
        assert!(ledger.may_take(1000));
    }
}
