//! What one shard's entries have on disk: which URLs, how many octets, which leave first, and which
//! wide purges files may not have met. Files are others' work: this gives orders and hears news.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::entry::Entry;
use super::file;
use super::freshness::Freshness;
use super::ledger::Ledger;
use super::purge::Purge;
use crate::base::clock::Moment;
use crate::base::limits::FILE_LIFETIME_MIN;
use crate::message::fields::Fields;

/// A response that was only confirmed is not written again within so many seconds.
const REWRITE_EVERY: u64 = 60;

/// What is to be done to files. All of them are of one URL, which its hash names.
#[derive(Debug)]
pub enum DiskOrder {
    /// Read the newest response that answers these fields.
    Load(LoadOrder),
    /// Write a response. `born` counts the wide purges that it has outlived.
    Write { hash: u64, entry: Arc<Entry>, born: u64 },
    /// Take all files of the URL away.
    Remove { hash: u64 },
}

/// A file is wanted.
#[derive(Clone, Debug)]
pub struct LoadOrder {
    pub hash: u64,
    pub key: Vec<u8>,
    pub fields: Fields,
    /// The fetch that waits for it.
    pub id: u64,
}

/// What has become of files.
#[derive(Debug)]
pub enum DiskNews {
    /// These were there before: hashes, and octets under each.
    Listed(Vec<(u64, u64)>),
    /// And that was all.
    AllListed,
    /// What was read, and octets that are there under its hash.
    Loaded {
        hash: u64,
        id: u64,
        found: Option<LoadedEntry>,
        octets: u64,
    },
    /// Octets that are there after a `Write`; `is_done` if it was carried out.
    Written {
        hash: u64,
        octets: u64,
        is_done: bool,
    },
    Removed {
        hash: u64,
    },
    /// A purge has taken files away; so many octets are left.
    Swept {
        hash: u64,
        octets: u64,
    },
    /// Every file was held against this purge.
    SweptAll {
        number: u64,
    },
    /// What `number` asked to be written down is, or could not be.
    Noted {
        number: u64,
    },
}

/// A response from a file.
#[derive(Clone, Debug)]
pub struct LoadedEntry {
    pub entry: Arc<Entry>,
    pub born: u64,
}

/// What shards share of the books about files.
#[derive(Debug)]
pub struct Books {
    pub ledger: Ledger,
    /// The number of the last wide purge.
    last: AtomicU64,
    /// Those that not all files had met when the process began.
    pub unmet: Vec<(u64, Purge)>,
    /// The last one before it began.
    first: u64,
}

impl Books {
    /// For so many octets of files.
    #[must_use]
    pub fn new(budget: u64, shards: usize, last: u64, unmet: Vec<(u64, Purge)>) -> Self {
        let ledger = Ledger::new(budget, budget, shards, 0);
        Self { ledger, last: AtomicU64::new(last), unmet, first: last }
    }

    /// Numbers one more wide purge.
    #[must_use]
    pub fn next_purge(&self) -> u64 {
        self.last.fetch_add(1, Relaxed) + 1
    }
}

/// A URL's files.
#[derive(Debug, Default)]
struct DiskItem {
    octets: u64,
    /// Orders under way. Until they are carried out it is not known what would be read.
    pending: u32,
    /// It was read since the hand passed it.
    was_used: bool,
    is_queued: bool,
    /// An order to remove it waits to be sent.
    is_leaving: bool,
    /// When it was written, in seconds of the monotonic clock.
    written: u64,
}

/// One shard's files.
#[derive(Debug)]
pub struct DiskIndex {
    shard: usize,
    books: Arc<Books>,
    items: HashMap<u64, DiskItem, Xxh3DefaultBuilder>,
    queue: VecDeque<u64>,
    octets: u64,
    /// URLs with files.
    filled: usize,
    is_listed: bool,
    purges: Purges,
    orders: Vec<DiskOrder>,
}

impl DiskIndex {
    /// With nothing known yet of what is there.
    #[must_use]
    pub fn new(shard: usize, books: Arc<Books>) -> Self {
        let (heard, unmet) = (books.first, books.unmet.clone());
        let purges = Purges { heard, ahead: Vec::new(), unmet, met: Vec::new() };
        Self {
            shard,
            books,
            items: HashMap::default(),
            queue: VecDeque::new(),
            octets: 0,
            filled: 0,
            is_listed: false,
            purges,
            orders: Vec::new(),
        }
    }

    /// The orders since this was asked last.
    pub fn take_orders(&mut self) -> Vec<DiskOrder> {
        for order in &self.orders {
            if let DiskOrder::Remove { hash } = order
                && let Some(item) = self.items.get_mut(hash)
            {
                item.is_leaving = false;
            }
        }
        std::mem::take(&mut self.orders)
    }

    /// There are orders.
    #[must_use]
    pub fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// An order could not be sent: later, again.
    pub fn put_back(&mut self, order: DiskOrder) {
        if let DiskOrder::Remove { hash } = &order
            && let Some(item) = self.items.get_mut(hash)
        {
            item.is_leaving = true;
        }
        self.orders.push(order);
    }

    /// An order to write was not even sent: what is there is older than what should be.
    pub fn not_written(&mut self, hash: u64) {
        let octets = self.items.get(&hash).map_or(0, |item| item.octets);
        self.hear(&DiskNews::Written { hash, octets, is_done: false });
    }

    /// Whether it is worth looking for a URL there.
    #[must_use]
    pub fn may_have(&self, hash: u64) -> bool {
        match self.items.get(&hash) {
            Some(item) => item.pending == 0 && item.octets > 0,
            None => !self.is_listed,
        }
    }

    /// Orders a URL's file to be read.
    pub fn load(&mut self, load: LoadOrder) {
        if let Some(item) = self.items.get_mut(&load.hash) {
            item.was_used = true;
        }
        self.orders.push(DiskOrder::Load(load));
    }

    /// A response is stored; `is_same` if its body was stored before and was only confirmed.
    pub fn store(&mut self, hash: u64, entry: &Arc<Entry>, is_same: bool, now: Moment) {
        if !file::is_whole(entry) || !is_worth_it(&entry.freshness(), now) {
            return self.remove(hash);
        }
        let seconds = now.0 / 1000;
        let item = self.items.entry(hash).or_default();
        if is_same && item.octets > 0 && seconds < item.written + REWRITE_EVERY {
            // What is there says the same, and something older of how long it is fresh.
            return;
        }
        item.pending += 1;
        item.written = seconds;
        // An order to remove it that waits comes before this one: the next one is another.
        item.is_leaving = false;
        let (entry, born) = (Arc::clone(entry), self.purges.heard);
        self.orders.push(DiskOrder::Write { hash, entry, born });
    }

    /// What is there of a URL is over.
    pub fn remove(&mut self, hash: u64) {
        if self.is_listed && !self.items.contains_key(&hash) {
            return;
        }
        let item = self.items.entry(hash).or_default();
        let octets = std::mem::take(&mut item.octets);
        if !std::mem::replace(&mut item.is_leaving, true) {
            item.pending += 1;
            self.orders.push(DiskOrder::Remove { hash });
        }
        self.settle(octets, 0);
    }

    /// A wide purge, under its number.
    pub fn purge(&mut self, number: u64, purge: &Purge) {
        self.purges.hear(number, purge);
    }

    /// Whether a response from a file was purged since it was written: softly or not.
    #[must_use]
    pub fn verdict(&self, loaded: &LoadedEntry) -> Option<bool> {
        self.purges.verdict(&loaded.entry, loaded.born)
    }

    /// All files have met a purge, but loads up to this one may have read theirs before.
    pub fn swept(&mut self, number: u64, last_load: u64) {
        self.purges.met.push((number, last_load));
    }

    /// Whether there are purges that wait for loads to come home.
    #[must_use]
    pub const fn has_met(&self) -> bool {
        !self.purges.met.is_empty()
    }

    /// No load before this one is under way any more.
    pub fn forget_met(&mut self, oldest_load: u64) {
        let purges = &mut self.purges;
        let unmet = &mut purges.unmet;
        purges.met.retain(|(number, last_load)| {
            let is_over = *last_load < oldest_load;
            if is_over {
                unmet.retain(|(one, _)| one != number);
            }
            !is_over
        });
    }

    /// Hears what has become of files. `Loaded` is the cache's to hear first.
    pub fn hear(&mut self, news: &DiskNews) {
        match news {
            DiskNews::Listed(all) => all.iter().for_each(|(hash, octets)| {
                if !self.items.contains_key(hash) {
                    self.set(*hash, *octets, 0);
                }
            }),
            DiskNews::AllListed => self.is_listed = true,
            DiskNews::Loaded { hash, octets, .. } | DiskNews::Swept { hash, octets } => {
                let is_busy = self.items.get(hash).is_some_and(|item| item.pending > 0);
                if !is_busy {
                    self.set(*hash, *octets, 0);
                }
            }
            DiskNews::Written { hash, octets, is_done } => {
                self.set(*hash, *octets, 1);
                if !is_done {
                    // What is there is older than what should be.
                    self.remove(*hash);
                }
            }
            DiskNews::Removed { hash } => self.set(*hash, 0, 1),
            // A load that is under way may have read what was swept: `forget_met` comes later.
            DiskNews::SweptAll { .. } | DiskNews::Noted { .. } => {}
        }
    }

    /// So many octets are there now, with so many orders less under way.
    fn set(&mut self, hash: u64, octets: u64, done: u32) {
        let item = self.items.entry(hash).or_default();
        item.pending = item.pending.saturating_sub(done);
        let before = std::mem::replace(&mut item.octets, octets);
        if octets > 0 && !std::mem::replace(&mut item.is_queued, true) {
            self.queue.push_back(hash);
        }
        if octets == 0 && item.pending == 0 && !item.is_queued {
            self.items.remove(&hash);
        }
        self.settle(before, octets);
    }

    fn settle(&mut self, before: u64, after: u64) {
        self.octets = (self.octets + after).saturating_sub(before);
        self.filled = self.filled + usize::from(after > 0) - usize::from(before > 0);
        self.books.ledger.set_used(self.shard, self.octets, 0);
    }

    /// Ten times a second: lets files go while there is too much.
    pub fn tick(&mut self) {
        // A round for each file at most: the hand clears what it passes.
        let mut rounds = 2 * self.queue.len();
        while rounds > 0 && self.books.ledger.is_over(self.shard) {
            rounds -= 1;
            let Some(hash) = self.queue.pop_front() else { break };
            let Some(item) = self.items.get_mut(&hash) else { continue };
            if item.octets > 0 && std::mem::take(&mut item.was_used) {
                self.queue.push_back(hash);
                continue;
            }
            item.is_queued = false;
            if item.octets > 0 {
                self.remove(hash);
            } else if item.pending == 0 {
                self.items.remove(&hash);
            }
        }
        self.tidy();
    }

    /// URLs without files leave the queue, once they are many.
    fn tidy(&mut self) {
        if self.items.len().max(self.queue.len()) < 2 * self.filled + 1024 {
            return;
        }
        let items = &mut self.items;
        self.queue.retain(|hash| {
            let Some(item) = items.get_mut(hash) else { return false };
            item.is_queued = item.octets > 0;
            item.is_queued
        });
        self.items.retain(|_, item| item.octets > 0 || item.pending > 0);
    }

    /// Octets of all files.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// URLs with files.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

fn is_worth_it(freshness: &Freshness, now: Moment) -> bool {
    freshness.ttl(now) >= FILE_LIFETIME_MIN
}

/// Wide purges that some file may not have met. They are numbered for the whole process, and need
/// not be heard in order.
#[derive(Debug)]
struct Purges {
    /// All up to this one were heard.
    heard: u64,
    /// Heard before one that comes before them.
    ahead: Vec<u64>,
    unmet: Vec<(u64, Purge)>,
    /// Those that all files have met, and the last load that may have been under way then.
    met: Vec<(u64, u64)>,
}

impl Purges {
    fn hear(&mut self, number: u64, purge: &Purge) {
        self.unmet.push((number, purge.clone()));
        self.ahead.push(number);
        while let Some(at) = self.ahead.iter().position(|one| *one == self.heard + 1) {
            self.ahead.swap_remove(at);
            self.heard += 1;
        }
    }

    fn verdict(&self, entry: &Entry, born: u64) -> Option<bool> {
        let newer = self.unmet.iter().filter(|(number, _)| *number > born);
        let mut hits = newer.filter(|(_, purge)| purge.what.means(entry)).map(|one| one.1.is_soft);
        let first = hits.next()?;
        Some(first && hits.all(|is_soft| is_soft))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::Draft;
    use crate::cache::purge::What;

    fn entry(lifetime: u32) -> Arc<Entry> {
        let draft = Draft {
            key: &[0; 17],
            selecting: b"",
            fields: b"",
            status: 200,
            freshness: Freshness { lifetime, ..Freshness::default() },
            modified: None,
        };
        Arc::new(draft.small(b"body"))
    }

    fn disk_index(budget: u64) -> DiskIndex {
        DiskIndex::new(0, Arc::new(Books::new(budget, 1, 0, Vec::new())))
    }

    fn kinds(disk_index: &mut DiskIndex) -> Vec<&'static str> {
        let kind = |order: &DiskOrder| match order {
            DiskOrder::Load(_) => "load",
            DiskOrder::Write { .. } => "write",
            DiskOrder::Remove { .. } => "remove",
        };
        disk_index.take_orders().iter().map(kind).collect()
    }

    fn written(hash: u64, octets: u64) -> DiskNews {
        DiskNews::Written { hash, octets, is_done: true }
    }

    #[test]
    fn what_is_under_way_is_not_read() {
        let mut disk_index = disk_index(1000);
        assert!(disk_index.may_have(1), "it is not known yet");
        disk_index.hear(&DiskNews::Listed(vec![(1, 100)]));
        disk_index.hear(&DiskNews::AllListed);
        assert!(disk_index.may_have(1) && !disk_index.may_have(2));
        disk_index.store(1, &entry(60), false, Moment(0));
        assert!(!disk_index.may_have(1), "an older one is there");
        disk_index.hear(&written(1, 200));
        assert!(disk_index.may_have(1) && disk_index.octets() == 200);
        disk_index.remove(1);
        assert!(!disk_index.may_have(1) && disk_index.octets() == 0);
        assert_eq!(kinds(&mut disk_index), ["write", "remove"]);
        disk_index.hear(&DiskNews::Removed { hash: 1 });
        assert!(!disk_index.may_have(1) && disk_index.is_empty());
        disk_index.remove(2);
        assert_eq!(kinds(&mut disk_index), [""; 0], "there is nothing of it");
    }

    #[test]
    fn only_what_lasts_is_written_and_what_it_replaces_is_removed() {
        let mut disk_index = disk_index(1000);
        disk_index.hear(&DiskNews::AllListed);
        disk_index.store(1, &entry(5), false, Moment(0));
        assert_eq!(kinds(&mut disk_index), [""; 0]);
        disk_index.store(1, &entry(60), false, Moment(0));
        disk_index.hear(&written(1, 10));
        disk_index.store(1, &entry(60), true, Moment(0));
        assert_eq!(kinds(&mut disk_index), ["write"], "it says what is there already");
        disk_index.store(1, &entry(600), true, Moment(61_000));
        disk_index.hear(&written(1, 10));
        disk_index.store(1, &entry(5), false, Moment(0));
        assert_eq!(kinds(&mut disk_index), ["write", "remove"]);
        let failed = DiskNews::Written { hash: 2, octets: 30, is_done: false };
        disk_index.store(2, &entry(60), false, Moment(0));
        disk_index.hear(&failed);
        assert_eq!(kinds(&mut disk_index), ["write", "remove"], "what is there is older");
    }

    #[test]
    fn there_is_a_bound_and_what_is_read_stays_longer() {
        let mut disk_index = disk_index(1000);
        disk_index.hear(&DiskNews::AllListed);
        for hash in 0..20 {
            disk_index.store(hash, &entry(60), false, Moment(0));
            disk_index.hear(&written(hash, 100));
        }
        let (key, fields) = (Vec::new(), Fields::default());
        disk_index.load(LoadOrder { hash: 0, key, fields, id: 0 });
        disk_index.take_orders();
        disk_index.tick();
        assert!(disk_index.octets() <= 1000 && disk_index.len() == 10, "{}", disk_index.octets());
        assert!(disk_index.may_have(0) && !disk_index.may_have(1) && disk_index.may_have(19));
        assert_eq!(kinds(&mut disk_index).len(), 10);
        for hash in 0..5000 {
            disk_index.hear(&written(hash, 1));
            disk_index.remove(hash);
            disk_index.hear(&DiskNews::Removed { hash });
        }
        disk_index.take_orders();
        disk_index.tick();
        assert!(
            disk_index.items.len() <= 1024 && disk_index.queue.len() <= 1024,
            "{}",
            disk_index.items.len()
        );
    }

    #[test]
    fn files_are_held_against_purges_that_they_have_not_met() {
        let mut disk_index = disk_index(1000);
        let all = Purge { what: What::All, is_soft: false };
        let loaded = |born| LoadedEntry { entry: entry(60), born };
        disk_index.purge(2, &all);
        assert_eq!(disk_index.purges.heard, 0, "the first is still under way");
        disk_index.store(1, &entry(60), false, Moment(0));
        let orders = disk_index.take_orders();
        assert!(matches!(orders[0], DiskOrder::Write { born: 0, .. }));
        disk_index.purge(1, &Purge { what: What::Tags(Vec::new()), is_soft: false });
        assert_eq!(disk_index.purges.heard, 2);
        assert_eq!(
            (disk_index.verdict(&loaded(1)), disk_index.verdict(&loaded(2))),
            (Some(false), None)
        );
        disk_index.swept(2, 7);
        disk_index.forget_met(7);
        assert_eq!(disk_index.verdict(&loaded(0)), Some(false), "the seventh load is under way");
        disk_index.forget_met(8);
        assert_eq!(disk_index.verdict(&loaded(0)), None);
    }
}
