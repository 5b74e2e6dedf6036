//! The cache's disk: threads of its own that read, write and look through files, so that no worker
//! ever waits for one (exam Q03). Shards give orders through a `DiskHandle`; what comes of them is told.

mod faults;
mod folder;
mod job;
mod state;
mod sweeper;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::notice;
use crate::base::clock::{self, Moment};
use crate::base::limits::{DISK_ORDERS, DISK_QUEUE, FOLDER_PATIENCE, LISTEN_EVERY};
use crate::base::limits::{DISK_READERS, DISK_REST, DISK_TELLS};
use crate::cache::disk_index::{Books, DiskNews, DiskOrder, LoadOrder, LoadedEntry};
use crate::cache::entry::Entry;
use crate::cache::file::When;
use crate::cache::ledger::Ledger;
use crate::cache::purge::Purge;
use folder::Folder;
use job::{DiskCommon, SweeperJob, Tell};
use state::FolderState;
use sweeper::Sweeper;

/// A folder that was taken over.
pub struct OpenedFolder {
    state: FolderState,
    folder: Folder,
}

impl OpenedFolder {
    /// Takes a folder over for a cache.
    ///
    /// # Errors
    /// It cannot be had: not written, no folder, another process's, or another version's.
    pub fn new(path: &Path) -> io::Result<Self> {
        // The process before this one gives it up soon after it was told to end (exam R43).
        let begun = clock::monotonic();
        let state = loop {
            match FolderState::open(path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    if clock::monotonic().since(begun) >= FOLDER_PATIENCE {
                        return Err(error);
                    }
                    std::thread::park_timeout(LISTEN_EVERY);
                }
                opened => break opened?,
            }
        };
        let folder = state.files()?;
        Ok(Self { state, folder })
    }

    /// Places keys, as when its files were written.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.state.seed
    }

    /// The books for so many octets.
    #[must_use]
    pub fn books(&self, budget: u64, shards: usize) -> Arc<Books> {
        Arc::new(Books::new(budget, shards, self.state.last, self.state.unmet.clone()))
    }
}

/// Whether a folder could be had, found out without taking it or making it.
///
/// # Errors
/// What stands in the way.
pub fn probe(path: &Path) -> io::Result<()> {
    let place = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            std::fs::metadata(parent.unwrap_or_else(|| Path::new(".")))?
        }
        found => found?,
    };
    if place.permissions().readonly() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if !place.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if path.is_dir() { state::is_for_us(path) } else { Ok(()) }
}

/// Where shards leave their orders.
#[derive(Clone, Debug)]
pub struct DiskHandle {
    pub books: Arc<Books>,
    loads: Sender<(usize, LoadOrder)>,
    changes: Sender<Change>,
    jobs: Sender<SweeperJob>,
    /// Octets that wait to be written.
    queued: Arc<AtomicU64>,
    done: Receiver<()>,
}

/// What the writer is told.
#[derive(Debug)]
enum Change {
    Write {
        shard: usize,
        hash: u64,
        entry: Arc<Entry>,
        born: u64,
    },
    Remove {
        shard: usize,
        hash: u64,
    },
    /// Says when all before it is done.
    Fence {
        shard: usize,
        number: u64,
    },
    /// All that was written before this may have to go.
    Sweep {
        number: u64,
    },
    End,
}

impl DiskHandle {
    /// Hands an order over.
    ///
    /// # Errors
    /// The order, if there is no room for it.
    pub fn order(&self, shard: usize, order: DiskOrder) -> Result<(), DiskOrder> {
        match order {
            DiskOrder::Load(load) => self
                .loads
                .try_send((shard, load))
                .map_err(|error| DiskOrder::Load(error.into_inner().1)),
            DiskOrder::Write { hash, entry, born } => {
                let octets = entry.weight();
                if self.queued.fetch_add(octets, Relaxed) + octets > DISK_QUEUE {
                    self.queued.fetch_sub(octets, Relaxed);
                    return Err(DiskOrder::Write { hash, entry, born });
                }
                let change = Change::Write { shard, hash, entry: Arc::clone(&entry), born };
                self.changes.try_send(change).map_err(|_| {
                    self.queued.fetch_sub(octets, Relaxed);
                    DiskOrder::Write { hash, entry, born }
                })
            }
            DiskOrder::Remove { hash } => self
                .changes
                .try_send(Change::Remove { shard, hash })
                .map_err(|_| DiskOrder::Remove { hash }),
        }
    }

    /// Has all files listed for a shard.
    pub fn list(&self, shard: usize) {
        // There is room for one of each shard at the start.
        let _ = self.jobs.try_send(SweeperJob::List { shard });
    }

    /// Has a wide purge written down; `Noted { answer }` says when it is.
    /// False: there is no room.
    #[must_use]
    pub fn note(&self, shard: usize, answer: u64, number: u64, purge: Purge) -> bool {
        self.jobs.try_send(SweeperJob::Note { shard, answer, number, purge }).is_ok()
    }

    /// Nothing that is there counts at the next start: a shard has lost its part of the books.
    pub fn distrust(&self) {
        if self.jobs.send_timeout(SweeperJob::Distrust, Duration::from_secs(1)).is_err() {
            notice::warn("cache: the disk is too busy to be told that it cannot be believed");
        }
    }

    /// Has files held against a purge that all shards have heard.
    pub fn sweep(&self, number: u64) {
        // Without room for it the next start will do it.
        let _ = self.changes.try_send(Change::Sweep { number });
    }

    /// `Noted { answer }` says when all orders before this are carried out. False: there is no room.
    #[must_use]
    pub fn fence(&self, shard: usize, answer: u64) -> bool {
        self.changes.try_send(Change::Fence { shard, number: answer }).is_ok()
    }

    /// Gives the folder up to another process: what is to be written is written, and from then on nothing is read or
    /// written. Waits for it, but no longer than this.
    pub fn end(&self, patience: Duration) {
        let told = self.changes.send_timeout(Change::End, patience);
        // Without a receiver it has ended before.
        let is_told = !matches!(told, Err(SendTimeoutError::Timeout(_)));
        let is_done =
            is_told && self.done.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
        if !is_done {
            notice::warn("cache: the disk is slow; not all that was stored is written");
        }
    }
}

/// Starts the threads. `ledger` counts the memory of what is read.
///
/// # Errors
/// There are no threads to be had.
pub fn start(
    opened: OpenedFolder,
    books: Arc<Books>,
    ledger: Arc<Ledger>,
    tell: Box<Tell>,
) -> io::Result<DiskHandle> {
    let OpenedFolder { state, folder } = opened;
    let (loads, to_load) = bounded(DISK_ORDERS);
    let (changes, to_change) = bounded(DISK_ORDERS);
    let (jobs, to_do) = bounded(DISK_ORDERS);
    let (ended, done) = bounded(1);
    let queued = Arc::new(AtomicU64::new(0));
    let (queue, own_jobs, is_ended) = (Arc::clone(&queued), jobs.clone(), AtomicBool::new(false));
    let common = DiskCommon { folder, ledger, queued: queue, jobs: own_jobs, tell, is_ended };
    let common = Arc::new(common);
    for _ in 0..DISK_READERS {
        let (common, to_load) = (Arc::clone(&common), to_load.clone());
        Builder::new().name("cache-read".to_owned()).spawn(move || read(&common, &to_load))?;
    }
    let (writer, also_ended) = (Arc::clone(&common), ended.clone());
    Builder::new().name("cache-write".to_owned()).spawn(move || {
        write(&writer, &to_change);
        writer.is_ended.store(true, Relaxed);
        let _ = writer.jobs.send(SweeperJob::End);
        drop(ended);
    })?;
    let sweeper = Sweeper::new(common, state);
    Builder::new().name("cache-sweep".to_owned()).spawn(move || {
        sweeper.run(&to_do);
        drop(also_ended);
    })?;
    Ok(DiskHandle { books, loads, changes, jobs, queued, done })
}

fn when() -> When {
    When { now: clock::monotonic(), wall: clock::wall() }
}

impl DiskCommon {
    fn tell(&self, shard: usize, news: DiskNews) {
        let mut news = news;
        for _ in 0..DISK_TELLS {
            match (self.tell)(shard, news) {
                Ok(()) => return,
                Err(back) => news = back,
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn read(common: &DiskCommon, loads: &Receiver<(usize, LoadOrder)>) {
    for (shard, load) in loads {
        let ledger = &common.ledger;
        let may_take = |octets| octets <= ledger.object() && ledger.may_take(octets);
        // Whatever a file holds, it ends no reader.
        let read = || match common.is_ended.load(Relaxed) {
            true => (None, 0),
            false => common.folder.load(&load, when(), &ledger.bodies, may_take),
        };
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
        let (found, octets) = read.unwrap_or((None, 0));
        let found = found.map(|(entry, born)| LoadedEntry { entry: Arc::new(entry), born });
        common.tell(shard, DiskNews::Loaded { hash: load.hash, id: load.id, found, octets });
    }
}

/// Writes, but not for a while after a fault.
struct Pen<'a> {
    common: &'a DiskCommon,
    rests_until: Option<Moment>,
}

impl Pen<'_> {
    /// True if it is written.
    fn write(&mut self, hash: u64, entry: &Entry, born: u64) -> bool {
        let now = clock::monotonic();
        if self.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        let Err(error) = self.common.folder.write(hash, entry, born, when()) else {
            self.rests_until = None;
            return true;
        };
        // Something of that name is in the way: that is this one's trouble alone.
        if error.kind() != io::ErrorKind::IsADirectory {
            if self.rests_until.is_none() {
                let rest = DISK_REST.as_secs();
                notice::warn(format_args!(
                    "cache: {error}; nothing is written for {rest} s, and then tried again"
                ));
            }
            self.rests_until = Some(now.after(DISK_REST));
        }
        false
    }
}

fn write(common: &DiskCommon, changes: &Receiver<Change>) {
    let mut pen = Pen { common, rests_until: None };
    for change in changes {
        match change {
            Change::Write { shard, hash, entry, born } => {
                let is_done = pen.write(hash, &entry, born);
                common.queued.fetch_sub(entry.weight(), Relaxed);
                drop(entry);
                let octets = common.folder.bound_variants(hash);
                common.tell(shard, DiskNews::Written { hash, octets, is_done });
            }
            Change::Remove { shard, hash } => {
                common.folder.remove(hash);
                common.tell(shard, DiskNews::Removed { hash });
            }
            Change::Fence { shard, number } => common.tell(shard, DiskNews::Noted { number }),
            Change::Sweep { number } => {
                // Without room for it the next start will do it.
                let _ = common.jobs.try_send(SweeperJob::Sweep { number });
            }
            Change::End => return,
        }
    }
}
