//! What the sweeper of the disk is told, and what all threads of the disk have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crossbeam_channel::Sender;

use super::folder::Folder;
use crate::cache::disk_index::DiskNews;
use crate::cache::ledger::Ledger;
use crate::cache::purge::Purge;

/// Tells a shard; hands the news back if there is no room for it.
pub(super) type Tell = dyn Fn(usize, DiskNews) -> Result<(), DiskNews> + Send + Sync;

/// What the sweeper is told.
#[derive(Debug)]
pub(super) enum SweeperJob {
    List { shard: usize },
    Note { shard: usize, answer: u64, number: u64, purge: Purge },
    Sweep { number: u64 },
    Distrust,
    End,
}

/// What all threads have.
pub(super) struct DiskCommon {
    pub(super) folder: Folder,
    pub(super) ledger: Arc<Ledger>,
    pub(super) queued: Arc<AtomicU64>,
    pub(super) jobs: Sender<SweeperJob>,
    pub(super) tell: Box<Tell>,
    /// The folder is another process's now, or will be.
    pub(super) is_ended: AtomicBool,
}
