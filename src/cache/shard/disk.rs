//! A shard and its disk index: entries that are not in memory may be on disk. A request for one waits for
//! the answer, like those that wait for a fetch, and then asks again.

use std::sync::Arc;

use super::{CacheRequest, CacheShard};
use crate::base::clock::Moment;
use crate::base::limits::DISK_PATIENCE;
use crate::cache::disk_index::{DiskNews, LoadOrder, LoadedEntry};
use crate::cache::entry::Entry;
use crate::cache::fill_stream::{FillStream, Start};
use crate::cache::purge::Purge;
use crate::cache::vary;

impl CacheShard {
    /// Has the disk looked into for a request, unless there is nothing to look for.
    pub(super) fn look_on_disk(
        &mut self,
        question: &CacheRequest,
        now: Moment,
    ) -> Option<Arc<FillStream>> {
        let hash = question.hash;
        if self.is_crowded(hash)
            || !self.disk_index.as_ref().is_some_and(|disk_index| disk_index.may_have(hash))
        {
            return None;
        }
        let last = self.purges.last();
        let mut fills = self.fills.get(&hash).into_iter().flatten();
        let same = fills.find(|fill| {
            fill.is_load && !fill.is_doomed && fill.purges == last && fill.key == question.key
        });
        if let Some(fill) = same {
            // A disk that takes this long is not waited for any more.
            let is_slow = fill.begun.after(DISK_PATIENCE) < now;
            return (!is_slow).then(|| Arc::clone(&fill.stream));
        }
        let ticket = self.begin(question, true, now);
        let fill = self.fills.get_mut(&hash).and_then(|fills| fills.last_mut());
        fill.into_iter().for_each(|fill| fill.is_load = true);
        let (key, fields) = (question.key.clone(), question.fields.clone());
        if let Some(disk_index) = &mut self.disk_index {
            disk_index.load(LoadOrder { hash, key, fields, id: ticket.id });
        }
        Some(ticket.stream)
    }

    /// Hears what has become of files. Returns the stream that a request may wait on for it.
    pub fn hear(&mut self, news: DiskNews, now: Moment) -> Option<Arc<FillStream>> {
        let disk_index = self.disk_index.as_mut()?;
        disk_index.hear(&news);
        if let DiskNews::SweptAll { number } = news {
            disk_index.swept(number, self.next_id);
        }
        let DiskNews::Loaded { hash, id, found, .. } = news else { return None };
        let Some(found) = found else { return self.not_loaded(hash, id) };
        let fills = self.fills.get(&hash);
        let fill = fills.and_then(|fills| fills.iter().find(|fill| fill.id == id));
        let stream = fill.map(|fill| Arc::clone(&fill.stream));
        let entry = self.loaded(hash, id, &found, now);
        stream.inspect(|stream| stream.begin(Start::Looked(entry)))
    }

    /// The disk could not be asked. Returns the stream that a request may wait on for it.
    pub fn not_loaded(&mut self, hash: u64, id: u64) -> Option<Arc<FillStream>> {
        let fill = self.end(hash, id)?;
        fill.stream.begin(Start::Looked(None));
        Some(fill.stream)
    }

    /// What was found, if it may be served.
    fn loaded(
        &mut self,
        hash: u64,
        id: u64,
        found: &LoadedEntry,
        now: Moment,
    ) -> Option<Arc<Entry>> {
        let verdict = self.disk_index.as_ref().and_then(|disk_index| disk_index.verdict(found));
        let entry = &found.entry;
        let is_good = self.accept(hash, id, entry, now) && verdict != Some(false);
        // A fetch may have been faster: then what it has brought is newer, and says what selects.
        let is_there = self.store.variants(hash, entry.key()).any(|one| {
            one.key() == entry.key()
                && (one.selecting() == entry.selecting()
                    || !vary::same_names(one.selecting(), entry.selecting()))
        });
        let is_new = is_good && !is_there;
        if is_new {
            if verdict == Some(true) {
                entry.demote(now);
            }
            self.store.put_wanted(hash, Arc::clone(entry));
        }
        self.trim();
        is_new.then(|| Arc::clone(entry))
    }

    /// Ten times a second.
    pub(super) fn tick_shelf(&mut self) {
        let Some(disk_index) = &mut self.disk_index else { return };
        disk_index.tick();
        if disk_index.has_met() {
            let loads = self.fills.values().flatten().filter(|fill| fill.is_load);
            disk_index.forget_met(loads.map(|fill| fill.id).min().unwrap_or(u64::MAX));
        }
    }

    /// A wide purge has its number among those that files are held against.
    pub fn purge_disk(&mut self, number: u64, purge: &Purge) {
        if let Some(disk_index) = &mut self.disk_index {
            disk_index.purge(number, purge);
        }
    }
}
