//! One shard's entries: an index by URL, the variants of each, and the order in which they leave:
//! S3-FIFO (Yang et al., SOSP 2023), which keeps one-hit wonders from pushing the rest out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;

use super::entry::Entry;
use super::key;
use super::vary::{self, Selecting, Selection};
use crate::base::limits::VARIANTS_MAX;
use crate::message::fields::Fields;

/// The small queue's share: a tenth.
const SMALL_SHARE: u64 = 10;

/// No slot.
const NONE: u32 = u32::MAX;

/// A place for an entry. It is free again when its queue has come to it.
#[derive(Debug)]
struct EntrySlot {
    entry: Option<Arc<Entry>>,
    /// The next variant of the same URL.
    next: u32,
    is_small: bool,
}

/// The entries of one shard.
#[derive(Debug)]
pub struct Store {
    seed: u64,
    index: HashTable<u32>,
    slots: Vec<EntrySlot>,
    free: Vec<u32>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    small_bytes: u64,
    bytes: u64,
    large: u64,
    count: usize,
    ghosts: Ghosts,
    /// Entries that came back soon after they were let go, since this was asked last.
    regrets: u64,
    hand: usize,
    /// Memory for what a request has in the fields that select responses.
    asked: RefCell<Selecting>,
}

impl Store {
    /// An empty one. The seed is the process's.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_bytes: 0,
            bytes: 0,
            large: 0,
            count: 0,
            ghosts: Ghosts::default(),
            regrets: 0,
            hand: 0,
            asked: RefCell::default(),
        }
    }

    /// Octets of all entries.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of these, what pieces of large bodies count as.
    #[must_use]
    pub const fn large(&self) -> u64 {
        self.large
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Places for entries, taken or not: what `look` looks through.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many came back soon after they were let go, since this was asked last.
    pub fn take_regrets(&mut self) -> u64 {
        std::mem::take(&mut self.regrets)
    }

    /// The newest entry that answers a request; whether there are others for the same key.
    #[must_use]
    pub fn find(&self, hash: u64, key: &[u8], fields: &Fields) -> (Option<&Arc<Entry>>, bool) {
        let mut has_others = false;
        let mut text = self.asked.borrow_mut();
        let mut asked = Selection::new(fields, &mut text);
        for entry in self.variants(hash, key).filter(|entry| entry.key() == key) {
            if asked.suits(entry.selecting()) {
                return (Some(entry), has_others);
            }
            has_others = true;
        }
        (None, has_others)
    }

    /// Every entry of a key's URL, newest first.
    pub fn variants(&self, hash: u64, key: &[u8]) -> impl Iterator<Item = &Arc<Entry>> {
        let mut at = self.first(hash, key).unwrap_or(NONE);
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.next;
            slot.entry.as_ref()
        })
    }

    fn first(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let url = key::url(key);
        self.index.find(hash, |at| self.url_of(*at) == url).copied()
    }

    fn url_of(&self, at: u32) -> &[u8] {
        let entry = self.slots.get(at as usize).and_then(|slot| slot.entry.as_ref());
        entry.map_or(&[], |entry| key::url(entry.key()))
    }

    /// Takes an entry in. It replaces the one with the same key and the same selecting values, and
    /// all that other fields select: the origin has changed its mind.
    pub fn put(&mut self, hash: u64, entry: Arc<Entry>) {
        let was_here = self.ghosts.take(hash);
        self.regrets += u64::from(was_here);
        self.put_into(hash, entry, !was_here);
    }

    /// The same, for one that was asked for before: it need not prove itself.
    pub fn put_wanted(&mut self, hash: u64, entry: Arc<Entry>) {
        self.put_into(hash, entry, false);
    }

    fn put_into(&mut self, hash: u64, entry: Arc<Entry>, is_small: bool) {
        self.drop_matching(hash, entry.key(), |old| {
            old.key() == entry.key()
                && (old.selecting() == entry.selecting()
                    || !vary::same_names(old.selecting(), entry.selecting()))
        });
        if self.variants(hash, entry.key()).count() >= VARIANTS_MAX {
            let last = self.variants(hash, entry.key()).last().map(Arc::clone);
            self.drop_matching(hash, entry.key(), |one| {
                last.as_ref().is_some_and(|last| std::ptr::eq(one, last.as_ref()))
            });
        }
        let weight = entry.weight();
        self.bytes += weight;
        self.large += entry.large_cost();
        self.count += 1;
        let next = self.first(hash, entry.key());
        let slot = EntrySlot { entry: Some(entry), next: next.unwrap_or(NONE), is_small };
        let at = self.place(slot);
        match next {
            Some(next) => {
                if let Some(head) = self.index.find_mut(hash, |at| *at == next) {
                    *head = at;
                }
            }
            None => {
                let (slots, seed) = (&self.slots, self.seed);
                self.index.insert_unique(hash, at, |at| hash_of(slots, *at, seed));
            }
        }
        if is_small {
            self.small_bytes += weight;
            self.small.push_back(at);
        } else {
            self.main.push_back(at);
        }
    }

    fn place(&mut self, slot: EntrySlot) -> u32 {
        if let Some(at) = self.free.pop() {
            self.slots[at as usize] = slot;
            return at;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
    }

    /// Lets those entries of a key's URL go of which this is true; how many.
    pub fn drop_matching(
        &mut self,
        hash: u64,
        key: &[u8],
        is_over: impl Fn(&Entry) -> bool,
    ) -> usize {
        let Some(first) = self.first(hash, key) else { return 0 };
        let (mut at, mut dropped) = (first, 0);
        let (mut kept_first, mut kept_last) = (NONE, NONE);
        while at != NONE {
            let next = self.slots[at as usize].next;
            let is_over = self.slots[at as usize].entry.as_deref().is_none_or(&is_over);
            if is_over {
                dropped += 1;
                self.forget_entry(at);
            } else {
                match kept_last {
                    NONE => kept_first = at,
                    last => self.slots[last as usize].next = at,
                }
                kept_last = at;
            }
            at = next;
        }
        if let Some(last) = self.slots.get_mut(kept_last as usize) {
            last.next = NONE;
        }
        if let Ok(place) = self.index.find_entry(hash, |at| *at == first) {
            if kept_first == NONE {
                place.remove();
            } else {
                *place.into_mut() = kept_first;
            }
        }
        dropped
    }

    /// The entry is gone; its slot waits for its queue.
    fn forget_entry(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if let Some(entry) = slot.entry.take() {
            entry.kill();
            let weight = entry.weight();
            self.bytes -= weight;
            self.large -= entry.large_cost();
            self.count -= 1;
            if slot.is_small {
                self.small_bytes -= weight;
            }
        }
    }

    /// Lets one entry go, the least wanted. False if there is none.
    pub fn evict(&mut self) -> bool {
        while self.count > 0 {
            let is_small = self.small_bytes * SMALL_SHARE >= self.bytes || self.main.is_empty();
            let at = if is_small { self.small.pop_front() } else { self.main.pop_front() };
            let Some(at) = at else { continue };
            let Some(entry) = self.slots[at as usize].entry.clone() else {
                self.free.push(at);
                continue;
            };
            if is_small && entry.heat() > 1 {
                self.small_bytes -= entry.weight();
                self.slots[at as usize].is_small = false;
                self.main.push_back(at);
            } else if !is_small && entry.heat() > 0 {
                entry.cool();
                self.main.push_back(at);
            } else {
                let hash = key::hash(entry.key(), self.seed);
                if is_small {
                    self.ghosts.put(hash, self.count);
                }
                self.drop_matching(hash, entry.key(), |one| std::ptr::eq(one, entry.as_ref()));
                self.free.push(at);
                return true;
            }
        }
        self.sweep_queues();
        false
    }

    /// Slots whose entries were taken out leave their queues, once they are many.
    fn sweep_queues(&mut self) {
        let (slots, free) = (&self.slots, &mut self.free);
        for queue in [&mut self.small, &mut self.main] {
            queue.retain(|at| {
                let is_there = slots[*at as usize].entry.is_some();
                if !is_there {
                    free.push(*at);
                }
                is_there
            });
        }
    }

    /// Now and then: gives slots back that entries left behind.
    pub fn tidy(&mut self) {
        if self.small.len() + self.main.len() > 2 * self.count + 64 {
            self.sweep_queues();
        }
    }

    /// Looks at up to `many` slots, from where it stopped the last time, and lets entries go of
    /// which `is_over` is true. Returns true when it has come round.
    pub fn look(&mut self, many: usize, mut is_over: impl FnMut(&Entry) -> bool) -> bool {
        for _ in 0..many {
            let Some(slot) = self.slots.get(self.hand) else {
                self.hand = 0;
                return true;
            };
            self.hand += 1;
            if let Some(entry) = slot.entry.clone()
                && is_over(&entry)
            {
                let hash = key::hash(entry.key(), self.seed);
                self.drop_matching(hash, entry.key(), |one| std::ptr::eq(one, entry.as_ref()));
            }
        }
        false
    }

    /// Begins looking from the front.
    pub const fn look_again(&mut self) {
        self.hand = 0;
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref())
    }
}

fn hash_of(slots: &[EntrySlot], at: u32, seed: u64) -> u64 {
    let entry = slots.get(at as usize).and_then(|slot| slot.entry.as_ref());
    entry.map_or(0, |entry| key::hash(entry.key(), seed))
}

/// Fingerprints of entries that left without having been asked for again: four octets each, in
/// buckets of four, of which the oldest is replaced.
#[derive(Debug, Default)]
struct Ghosts {
    prints: Vec<[u32; 4]>,
    turn: u32,
}

impl Ghosts {
    fn place(&self, hash: u64) -> Option<(usize, u32)> {
        let at = usize::try_from(hash).unwrap_or(0).checked_rem(self.prints.len())?;
        let [.., a, b, c, d] = hash.to_be_bytes();
        let [e, f, g, h, ..] = hash.rotate_left(13).to_be_bytes();
        let print = u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h]);
        Some((at, print | 1))
    }

    /// Remembers one; as many are remembered as there are entries.
    fn put(&mut self, hash: u64, entries: usize) {
        let wanted = (entries / 4).max(16);
        if wanted > 2 * self.prints.len() || 4 * wanted < self.prints.len() {
            self.prints = vec![[0; 4]; wanted.next_power_of_two()];
        }
        if let Some((at, print)) = self.place(hash) {
            self.turn = self.turn.wrapping_add(1);
            let bucket = &mut self.prints[at];
            bucket.rotate_right(1);
            bucket[0] = print;
        }
    }

    /// Whether it is remembered; it is forgotten then.
    fn take(&mut self, hash: u64) -> bool {
        let Some((at, print)) = self.place(hash) else { return false };
        let found = self.prints[at].iter_mut().find(|one| **one == print);
        found.is_some_and(|one| {
            *one = 0;
            true
        })
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "short names")]
mod tests {
    use super::*;
    use crate::base::random::Random;
    use crate::cache::entry::Draft;
    use crate::cache::freshness::Freshness;

    fn entry(name: &str, vary: &str, size: usize) -> Arc<Entry> {
        let mut key = vec![0; 17];
        key[13..17].copy_from_slice(&(name.len() as u32).to_le_bytes());
        key.extend_from_slice(name.as_bytes());
        let selecting = vary.replace(['=', ';'], "\0");
        let draft = Draft {
            key: &key,
            selecting: selecting.as_bytes(),
            fields: b"",
            status: 200,
            freshness: Freshness::default(),
            modified: None,
        };
        Arc::new(draft.small(&vec![0; size]))
    }

    fn put(store: &mut Store, one: &Arc<Entry>) {
        store.put(key::hash(one.key(), 0), Arc::clone(one));
    }

    fn find(store: &Store, name: &str, foo: &str) -> Option<Arc<Entry>> {
        let one = entry(name, "", 0);
        let mut fields = Fields::default();
        fields.push(b"foo", foo.as_bytes());
        store.find(key::hash(one.key(), 0), one.key(), &fields).0.cloned()
    }

    #[test]
    fn an_entry_costs_little_beside_its_texts() {
        // Entry with its two counts, the two words of its block, slot, queue, index, ghost.
        let fixed = size_of::<Entry>() + 2 * size_of::<usize>();
        let places = size_of::<EntrySlot>() + 2 * size_of::<u32>() + 1 + size_of::<u32>();
        assert!(fixed + places <= 128, "{fixed} and {places} octets");
        let one = entry("/name", "", 100);
        let texts = one.key().len() as u64 + 100;
        assert!(
            one.weight() - texts <= 160,
            "with what tables keep free: {}",
            one.weight() - texts
        );
    }

    #[test]
    fn variants_live_side_by_side_and_are_replaced_one_by_one() {
        let mut store = Store::new(0);
        let (one, two) = (entry("/", "foo=1;", 1), entry("/", "foo=2;", 2));
        put(&mut store, &one);
        put(&mut store, &two);
        assert_eq!(store.len(), 2);
        let again = entry("/", "foo=1;", 9);
        put(&mut store, &again);
        assert!(!one.is_live() && two.is_live() && again.is_live());
        assert_eq!(find(&store, "/", "1").unwrap().body_len(), Some(9));
        assert!(find(&store, "/", "3").is_none());
        // Another Vary: what was there is history.
        put(&mut store, &entry("/", "", 3));
        assert!(!two.is_live() && !again.is_live() && store.len() == 1);
        assert_eq!(find(&store, "/", "3").unwrap().body_len(), Some(3));
        for number in 0..1000 {
            put(&mut store, &entry("/many", &format!("foo={number};"), 0));
        }
        assert_eq!(store.len(), 1 + VARIANTS_MAX);
        let gone = entry("/many", "", 0);
        let hash = key::hash(gone.key(), 0);
        assert_eq!(store.drop_matching(hash, gone.key(), |_| true), VARIANTS_MAX);
        assert!(store.len() == 1 && find(&store, "/many", "999").is_none());
    }

    #[test]
    fn the_books_balance_whatever_happens() {
        let mut random = Random::new(7);
        let mut store = Store::new(0);
        for step in 0..20_000 {
            let name = format!("/{}", random.below(300));
            match random.below(10) {
                0 => {
                    let one = entry(&name, "", 0);
                    store.drop_matching(key::hash(one.key(), 0), one.key(), |_| true);
                }
                1 => _ = store.evict(),
                2 => store.tidy(),
                3..6 => {
                    if let Some(found) = find(&store, &name, "") {
                        assert!(found.is_live());
                        found.warm();
                    }
                }
                _ => {
                    let vary = ["", "foo=a;", "foo=b;"][random.below(3) as usize];
                    put(&mut store, &entry(&name, vary, random.below(500) as usize));
                }
            }
            if step % 500 == 0 {
                let bytes: u64 = store.iter().map(|one| one.weight()).sum();
                assert_eq!((store.bytes(), store.len()), (bytes, store.iter().count()));
                assert!(store.iter().all(|one| one.is_live()));
            }
        }
        while store.evict() {}
        assert_eq!((store.bytes(), store.small_bytes, store.len()), (0, 0, 0));
        assert!(store.index.is_empty());
        assert_eq!(store.free.len(), store.slots.len());
    }

    #[test]
    fn what_is_wanted_stays() {
        let mut store = Store::new(0);
        for number in 0..100 {
            let one = entry(&format!("/hot{number}"), "", 100);
            put(&mut store, &one);
            one.warm();
            one.warm();
        }
        // A scan of things that no request asks for again.
        for number in 0..10_000 {
            put(&mut store, &entry(&format!("/cold{number}"), "", 100));
            while store.len() > 120 {
                store.evict();
            }
        }
        let kept = (0..100).filter(|at| find(&store, &format!("/hot{at}"), "").is_some()).count();
        assert!(kept >= 90, "{kept}");
    }
}
