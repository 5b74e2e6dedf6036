//! Taking entries out on every core, and on disk.

use super::{CacheHandle, CacheMessage, CacheSaid, Unsure};
use crate::base::clock::Moment;
use crate::cache::disk_index::DiskIndex;
use crate::cache::purge::{Purge, What};

impl CacheHandle {
    /// An operator's purge: like `invalidate`, and when it returns it has come to stay, whatever
    /// becomes of the process.
    ///
    /// # Errors
    /// Not every core has confirmed it in time: it may have to be given again.
    pub async fn purge(&self, purge: Purge, now: Moment) -> Result<usize, Unsure> {
        let Some(disk) = &self.disk else { return self.invalidate(purge, None, now).await };
        let (shard, answer) = (usize::from(self.shard.0), self.number(now));
        if matches!(purge.what, What::Url(_)) {
            let count = self.invalidate(purge, None, now).await;
            let is_done = disk.fence(shard, answer) && self.answer(answer).await.is_some();
            self.waiting.borrow_mut().remove(&answer);
            return if is_done { count } else { Err(Unsure) };
        }
        let number = disk.books.next_purge();
        let is_noted = disk.note(shard, answer, number, purge.clone());
        let is_noted = is_noted && self.answer(answer).await.is_some();
        self.waiting.borrow_mut().remove(&answer);
        let count = self.invalidate(purge, Some(number), now).await;
        // What some core has not heard of must stay written down.
        if count.is_ok() {
            disk.sweep(number);
        }
        if is_noted { count } else { Err(Unsure) }
    }

    /// Takes entries out on every core; how many, as far as that is known at once. When it returns
    /// no core serves them any more. `on_disk` numbers a wide purge of files.
    ///
    /// # Errors
    /// Not every core has confirmed it in time.
    pub async fn invalidate(
        &self,
        purge: Purge,
        on_disk: Option<u64>,
        now: Moment,
    ) -> Result<usize, Unsure> {
        let (mut count, mut is_sure) = (0, true);
        let mut numbers = Vec::new();
        for shard in 0..self.posts.len() {
            let is_url =
                matches!(&purge.what, What::Url(key) if self.owner(self.hash(key)) != shard);
            if is_url {
                continue;
            }
            if shard == usize::from(self.shard.0) {
                let own = self.purge_own(&purge, on_disk, now);
                is_sure &= own.is_ok();
                count += own.unwrap_or(0);
                continue;
            }
            let number = self.number(now);
            let (from, purge) = (self.shard, purge.clone());
            self.send(shard, CacheMessage::Purge { purge, on_disk, from, number });
            numbers.push(number);
        }
        for number in numbers {
            match self.answer(number).await {
                Some(CacheSaid::Purged(Ok(one))) => count += one,
                _ => is_sure = false,
            }
        }
        if !matches!(purge.what, What::Url(_)) {
            self.ledger.next_epoch();
        }
        if is_sure { Ok(count) } else { Err(Unsure) }
    }

    /// Our own part of it. That of a URL is unsure as long as the disk does not take our orders.
    pub(super) fn purge_own(
        &self,
        purge: &Purge,
        on_disk: Option<u64>,
        now: Moment,
    ) -> Result<usize, Unsure> {
        let count = self.own(|part| {
            on_disk.into_iter().for_each(|number| part.purge_disk(number, purge));
            part.purge(purge, now)
        });
        // What a wide purge means on disk is known by its number.
        let is_left = || self.part.borrow().disk_index.as_ref().is_some_and(DiskIndex::has_orders);
        if on_disk.is_none() && is_left() { Err(Unsure) } else { Ok(count) }
    }
}
