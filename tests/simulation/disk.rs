//! A disk for the simulation of the cache: real bytes of real files, in memory; orders are carried out
//! late, in order for writes, and some never, when the process is killed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millrace::base::random::Random;
use millrace::cache::disk_index::{DiskNews, DiskOrder, LoadOrder, LoadedEntry};
use millrace::cache::entry::Entry;
use millrace::cache::file::{self, FileHeader, Front, HEADER, When};
use millrace::cache::octets::{Chunk, Octets};
use millrace::cache::purge::Purge;
use millrace::cache::vary;

/// Files by hash and variant, and what was written down of purges.
#[derive(Default)]
pub(crate) struct Disk {
    files: BTreeMap<(u64, u64), Vec<u8>>,
    pub(crate) last: u64,
    pub(crate) unmet: Vec<(u64, Purge)>,
    /// Nothing of it counts at the next start.
    pub(crate) is_distrusted: bool,
    /// Orders to the writer, each with its shard.
    pub(crate) orders: VecDeque<(usize, Change)>,
}

pub(crate) enum Change {
    Order(DiskOrder),
    /// A shard waits for all before it.
    Fence(usize),
    Sweep(u64),
}

impl Disk {
    /// Carries out the writer's next order.
    pub(crate) fn write(&mut self, seed: u64, when: When, random: &mut Random) -> Option<Wrote> {
        let (shard, change) = self.orders.pop_front()?;
        Some(match change {
            Change::Fence(purge) => Wrote::Fence(purge),
            Change::Sweep(number) => Wrote::Sweep(number),
            Change::Order(DiskOrder::Remove { hash }) => {
                self.files.retain(|(of, _), _| *of != hash);
                Wrote::News(shard, DiskNews::Removed { hash })
            }
            Change::Order(DiskOrder::Write { hash, entry, born }) => {
                let is_done = random.below(20) > 0;
                if is_done {
                    let mut bytes = file::front(&entry, born, when);
                    file::each_piece(&entry, |piece| bytes.extend_from_slice(piece));
                    self.files.insert((hash, file::variant(&entry, seed)), bytes);
                }
                Wrote::News(shard, DiskNews::Written { hash, octets: self.octets(hash), is_done })
            }
            Change::Order(DiskOrder::Load(_)) => unreachable!("read elsewhere"),
        })
    }

    fn octets(&self, hash: u64) -> u64 {
        self.of(hash).map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn of(&self, hash: u64) -> impl Iterator<Item = (&(u64, u64), &Vec<u8>)> {
        self.files.range((hash, 0)..=(hash, u64::MAX))
    }

    /// What a reader finds.
    pub(crate) fn load(&self, load: &LoadOrder, seed: u64, when: When) -> DiskNews {
        let mut found: Vec<(Front, Chunk)> = self
            .of(load.hash)
            .filter_map(|(_, bytes)| read(bytes))
            .filter(|(front, _)| front.key() == load.key && front.is_at(load.hash, seed))
            .collect();
        found.sort_by_key(|(front, _)| std::cmp::Reverse(front.header.received));
        let newest = found.first().map(|(front, _)| front.selecting().to_vec());
        let found = found.iter().find(|(front, _)| {
            newest.as_ref().is_some_and(|names| vary::same_names(names, front.selecting()))
                && vary::matches(front.selecting(), &load.fields)
        });
        let found = found.and_then(|(front, body)| {
            let entry: Arc<Entry> = Arc::new(front.entry(&[Arc::clone(body)], when)?);
            Some(LoadedEntry { entry, born: front.header.born })
        });
        let (hash, id, octets) = (load.hash, load.id, self.octets(load.hash));
        DiskNews::Loaded { hash, id, found, octets }
    }

    /// Takes away what a purge means.
    pub(crate) fn sweep(&mut self, number: u64) {
        let Some((_, purge)) = self.unmet.iter().find(|(one, _)| *one == number).cloned() else {
            return;
        };
        self.files.retain(|_, bytes| {
            let Some((front, _)) = read(bytes) else { return true };
            front.header.born >= number || !purge.what.means(&front.bare())
        });
        self.unmet.retain(|(one, _)| *one != number);
    }

    /// What there is, by hash.
    pub(crate) fn list(&self) -> Vec<(u64, u64)> {
        let mut hashes: Vec<u64> = self.files.keys().map(|(hash, _)| *hash).collect();
        hashes.dedup();
        hashes.into_iter().map(|hash| (hash, self.octets(hash))).collect()
    }

    /// The process was killed: what was ordered and not done never is. A bit here and there flips.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        self.orders.clear();
        if std::mem::take(&mut self.is_distrusted) {
            self.files.clear();
            self.unmet.clear();
        }
        for bytes in self.files.values_mut() {
            if random.below(20) > 0 {
                continue;
            }
            let bit = random.below(u32::try_from(bytes.len() * 8).unwrap()) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

pub(crate) enum Wrote {
    News(usize, DiskNews),
    Fence(usize),
    Sweep(u64),
}

fn read(bytes: &[u8]) -> Option<(Front, Chunk)> {
    let header = FileHeader::read(bytes.get(..HEADER)?.try_into().ok()?)?;
    if header.file_len() != Some(bytes.len() as u64) {
        return None;
    }
    let at = HEADER + usize::try_from(header.texts()).ok()?;
    let front = Front::check(header, bytes.get(..at)?.to_vec())?;
    Some((front, Octets::plain(&bytes[at..])))
}
