//! The thread that looks through all files: at the start, and after wide purges.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::folder::{BUCKETS, FileName, Listed};
use super::job::{DiskCommon, SweeperJob};
use super::state::FolderState;
use crate::base::limits::SWEEP_GATHER;
use crate::cache::disk_index::DiskNews;
use crate::cache::key;
use crate::cache::purge::Purge;
use crate::net::notice;

/// What it has to do.
pub(super) struct Sweeper {
    common: Arc<DiskCommon>,
    state: FolderState,
    /// Shards that want a list.
    waiting: Vec<usize>,
    /// Purges that files have to be held against.
    unmet: Vec<u64>,
    /// The folder is to be given up.
    is_ended: bool,
}

impl Sweeper {
    pub(super) fn new(common: Arc<DiskCommon>, state: FolderState) -> Self {
        let unmet = state.unmet.iter().map(|(number, _)| *number).collect();
        Self { common, state, waiting: Vec::new(), unmet, is_ended: false }
    }

    pub(super) fn run(mut self, jobs: &Receiver<SweeperJob>) {
        let mut is_first = true;
        while !self.is_ended {
            // Lists and sweeps are done at once for all shards that want one.
            let is_idle = self.waiting.is_empty() && (is_first || self.unmet.is_empty());
            let job = if is_idle { jobs.recv().ok() } else { jobs.recv_timeout(SWEEP_GATHER).ok() };
            match job {
                Some(job) => self.hear(job),
                None if is_idle => return,
                None => {
                    self.list(jobs);
                    if std::mem::take(&mut is_first) {
                        self.state.clear_old();
                    }
                    self.sweep(jobs);
                }
            }
        }
    }

    fn hear(&mut self, job: SweeperJob) {
        match job {
            SweeperJob::List { shard } => self.waiting.push(shard),
            SweeperJob::Note { shard, answer, number, purge } => {
                if let Err(error) = self.state.note(number, purge) {
                    notice::warn(format_args!(
                        "cache: a purge cannot be written down: {error}; after the next start \
                         nothing that is on disk now counts"
                    ));
                }
                self.common.tell(shard, DiskNews::Noted { number: answer });
            }
            SweeperJob::Sweep { number } => self.unmet.push(number),
            SweeperJob::Distrust => self.state.distrust(),
            SweeperJob::End => self.is_ended = true,
        }
    }

    /// Between two folders: a purge does not wait for a whole round to be written down.
    fn hear_all(&mut self, jobs: &Receiver<SweeperJob>) {
        while let Ok(job) = jobs.try_recv() {
            self.hear(job);
        }
    }

    /// Tells shards what there is of theirs.
    fn list(&mut self, jobs: &Receiver<SweeperJob>) {
        let (to, shards) = (std::mem::take(&mut self.waiting), self.common.ledger.shards());
        for bucket in 0..BUCKETS {
            self.hear_all(jobs);
            if self.is_ended {
                return;
            }
            let mut by_hash: Vec<(u64, u64)> = Vec::new();
            let mut files = self.common.folder.list(bucket);
            files.sort_unstable_by_key(|one| one.name.hash);
            for Listed { name, octets, .. } in files {
                match by_hash.last_mut().filter(|(hash, _)| *hash == name.hash) {
                    Some((_, sum)) => *sum += octets,
                    None => by_hash.push((name.hash, octets)),
                }
            }
            for shard in &to {
                let of = |one: &&(u64, u64)| key::owner(one.0, shards) == *shard;
                let own: Vec<(u64, u64)> = by_hash.iter().filter(of).copied().collect();
                if !own.is_empty() {
                    self.common.tell(*shard, DiskNews::Listed(own));
                }
            }
        }
        to.iter().for_each(|shard| self.common.tell(*shard, DiskNews::AllListed));
    }

    /// Takes away what purges mean, and forgets them.
    fn sweep(&mut self, jobs: &Receiver<SweeperJob>) {
        let (mut numbers, shards) = (std::mem::take(&mut self.unmet), self.common.ledger.shards());
        let mut purges = self.state.unmet.clone();
        purges.retain(|(number, _)| numbers.contains(number));
        // What was not written down in time is nothing that files were held against.
        numbers.retain(|number| purges.iter().any(|(one, _)| one == number));
        if purges.is_empty() {
            return;
        }
        for bucket in 0..BUCKETS {
            self.hear_all(jobs);
            if self.is_ended {
                // The next start has them held against it.
                return;
            }
            for Listed { name, .. } in self.common.folder.list(bucket) {
                if self.is_meant(name, &purges) {
                    self.common.folder.remove_one(name);
                    let (hash, octets) = (name.hash, self.common.folder.octets(name.hash));
                    self.common.tell(key::owner(hash, shards), DiskNews::Swept { hash, octets });
                }
            }
        }
        if let Err(error) = self.state.forget(&numbers) {
            notice::warn(format_args!("cache: the folder's state cannot be written: {error}"));
        }
        for number in numbers {
            (0..shards).for_each(|shard| self.common.tell(shard, DiskNews::SweptAll { number }));
        }
    }

    /// Soft purges mean it too: a file cannot say that it is stale now.
    fn is_meant(&self, name: FileName, purges: &[(u64, Purge)]) -> bool {
        let Ok(Some((front, _))) = self.common.folder.front(name) else { return false };
        let entry = front.bare();
        let born = front.header.born;
        purges.iter().any(|(number, purge)| *number > born && purge.what.means(&entry))
    }
}
