//! The cache's folder: names, and what is done to files. A file is written under another name and
//! renamed when it is whole; links are not followed, and what is not ours is left alone (exam Q04).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::faults::DiskFaults;
use crate::base::limits::VARIANTS_MAX;
use crate::cache::disk_index::LoadOrder;
use crate::cache::entry::Entry;
use crate::cache::file::{self, FileHeader, Front, HEADER, When};
use crate::cache::octets::{Chunk, Gauge, Octets};
use crate::cache::vary;

/// Folders that files are spread over, by the first three digits of their names.
pub(super) const BUCKETS: u64 = 4096;
/// What a file takes of a disk, at the least: small ones would be many times what they hold.
const BLOCK: u64 = 4096;
/// Octets of a body that are read at a time.
const PIECE: u64 = 256 * 1024;

/// What a file is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    pub(super) hash: u64,
    variant: u64,
}

/// A file that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub(super) name: FileName,
    pub(super) octets: u64,
    /// Nanoseconds since 1970.
    written: i128,
}

/// The files of a cache.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    seed: u64,
    /// Tells unfinished files of this process from those that others left behind.
    nonce: u64,
    next: AtomicU64,
    faults: DiskFaults,
}

impl Folder {
    /// In `path`, which must be a folder and no link. Names depend on the seed.
    pub(super) fn open(path: PathBuf, seed: u64, nonce: u64) -> io::Result<Self> {
        make_folder(&path)?;
        Ok(Self { path, seed, nonce, next: AtomicU64::new(0), faults: DiskFaults::from_env() })
    }

    fn bucket(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:03x}"))
    }

    fn bucket_of(&self, hash: u64) -> PathBuf {
        self.bucket(hash >> 52)
    }

    fn file(&self, name: FileName) -> PathBuf {
        self.bucket_of(name.hash).join(format!("{:016x}-{:016x}", name.hash, name.variant))
    }

    /// The files of a bucket. What an earlier process did not finish is taken away.
    pub(super) fn list(&self, bucket: u64) -> Vec<Listed> {
        let path = self.bucket(bucket);
        let mut found = Vec::new();
        if !is_folder(&path) {
            return found;
        }
        let Ok(entries) = fs::read_dir(&path) else { return found };
        for entry in entries.flatten() {
            let text = entry.file_name();
            let Some(text) = text.to_str() else { continue };
            let Ok(facts) = entry.metadata() else { continue };
            if !facts.is_file() {
                continue;
            }
            if let Some(nonce) = unfinished(text) {
                if nonce != self.nonce {
                    let _ = fs::remove_file(entry.path());
                }
            } else if let Some(name) = parse(text).filter(|name| name.hash >> 52 == bucket) {
                let octets = facts.len().next_multiple_of(BLOCK);
                let written =
                    i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
                found.push(Listed { name, octets, written });
            }
        }
        found
    }

    fn of(&self, hash: u64) -> Vec<Listed> {
        let mut all = self.list(hash >> 52);
        all.retain(|one| one.name.hash == hash);
        all
    }

    /// Octets of all files of a URL.
    pub(super) fn octets(&self, hash: u64) -> u64 {
        self.of(hash).iter().map(|one| one.octets).sum()
    }

    /// Takes the oldest files of a URL away if they are too many (exam E08); octets of the rest.
    pub(super) fn bound_variants(&self, hash: u64) -> u64 {
        let mut all = self.of(hash);
        if all.len() > VARIANTS_MAX {
            all.sort_by_key(|one| std::cmp::Reverse(one.written));
            all.drain(VARIANTS_MAX..).for_each(|one| self.remove_one(one.name));
        }
        all.iter().map(|one| one.octets).sum()
    }

    /// Takes all files of a URL away.
    pub(super) fn remove(&self, hash: u64) {
        for one in self.of(hash) {
            self.remove_one(one.name);
        }
    }

    pub(super) fn remove_one(&self, name: FileName) {
        // A faster process has done the same.
        let _ = fs::remove_file(self.file(name));
    }

    /// Writes a response: under another name until it is whole.
    pub(super) fn write(&self, hash: u64, entry: &Entry, born: u64, when: When) -> io::Result<()> {
        let bucket = self.bucket_of(hash);
        make_folder(&bucket)?;
        let number = self.next.fetch_add(1, Relaxed);
        let unfinished = bucket.join(format!("new-{:016x}-{number:x}", self.nonce));
        let written = self.write_to(&unfinished, &file::front(entry, born, when), entry);
        let name = FileName { hash, variant: file::variant(entry, self.seed) };
        let done = written.and_then(|()| self.faults.step()).and_then(|()| {
            fs::rename(&unfinished, self.file(name))?;
            self.faults.step()
        });
        if done.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        done
    }

    fn write_to(&self, path: &Path, front: &[u8], entry: &Entry) -> io::Result<()> {
        self.faults.step()?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(path)?;
        self.faults.step()?;
        file.write_all(front)?;
        let mut result = Ok(());
        file::each_piece(entry, |piece| {
            if result.is_ok() {
                result = self.faults.step().and_then(|()| file.write_all(piece));
            }
        });
        result
    }

    /// Reads the newest response that a request can be answered with, and says how many octets
    /// there are of its URL. `may_take` is asked for memory, which `gauge` counts. What was harmed is taken away.
    pub(super) fn load(
        &self,
        wanted: &LoadOrder,
        when: When,
        gauge: &Gauge,
        may_take: impl Fn(u64) -> bool,
    ) -> (Option<(Entry, u64)>, u64) {
        if self.faults.read().is_err() {
            return (None, 0);
        }
        let mut octets = 0;
        let mut fronts: Vec<(FileName, Front, File)> = Vec::new();
        for Listed { name, octets: len, .. } in self.of(wanted.hash) {
            match self.front(name) {
                Ok(Some((front, file))) => {
                    octets += len;
                    if front.key() == wanted.key {
                        fronts.push((name, front, file));
                    }
                }
                Ok(None) => {}
                Err(_) => self.remove_one(name),
            }
        }
        fronts.sort_by_key(|(_, front, _)| std::cmp::Reverse(front.header.received));
        // The newest says what selects; those that other fields select are history.
        let newest = fronts.first().map(|(_, front, _)| front.selecting().to_vec());
        let mut text = Vec::new();
        let mut asked = vary::Selection::new(&wanted.fields, &mut text);
        for (name, front, mut file) in fronts {
            let is_now = newest.as_ref().is_some_and(|it| vary::same_names(it, front.selecting()));
            if !is_now {
                self.remove_one(name);
            } else if asked.suits(front.selecting()) {
                let len = front.header.body_len;
                if !may_take(len) {
                    return (None, octets);
                }
                let entry = read_body(&mut file, len, gauge).ok();
                let entry = entry.and_then(|chunks| front.entry(&chunks, when));
                if entry.is_none() {
                    self.remove_one(name);
                    octets = octets.saturating_sub(len.next_multiple_of(BLOCK));
                }
                return (entry.map(|entry| (entry, front.header.born)), octets);
            }
        }
        (None, octets)
    }

    /// All of a file but its body. `None`: it is not ours, or not of our time.
    ///
    /// # Errors
    /// It was harmed.
    pub(super) fn front(&self, name: FileName) -> io::Result<Option<(Front, File)>> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let Ok(mut file) = options.open(self.file(name)) else { return Ok(None) };
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Ok(None);
        }
        let harmed = || io::Error::from(io::ErrorKind::InvalidData);
        let mut bytes = vec![0; HEADER];
        file.read_exact(&mut bytes)?;
        let mut header = [0; HEADER];
        header.copy_from_slice(&bytes);
        if !FileHeader::is_of_our_time(&header) {
            return Ok(None);
        }
        let header = FileHeader::read(&header).ok_or_else(harmed)?;
        if header.file_len() != Some(facts.len()) {
            return Err(harmed());
        }
        bytes.resize(HEADER + usize::try_from(header.texts()).map_err(|_| harmed())?, 0);
        file.read_exact(&mut bytes[HEADER..])?;
        let front = Front::check(header, bytes).ok_or_else(harmed)?;
        let is_here = front.is_at(name.hash, self.seed)
            && file::variant(&front.bare(), self.seed) == name.variant;
        if is_here { Ok(Some((front, file))) } else { Err(harmed()) }
    }
}

fn read_body(file: &mut File, len: u64, gauge: &Gauge) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    let mut left = len;
    while left > 0 {
        let size = usize::try_from(left.min(PIECE)).unwrap_or(0);
        let mut piece = vec![0; size];
        file.read_exact(&mut piece)?;
        left -= size as u64;
        chunks.push(Octets::counted(piece, gauge));
    }
    Ok(chunks)
}

/// A folder of that name is there, and nothing else.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    if is_folder(path) { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir())
}

fn parse(text: &str) -> Option<FileName> {
    let digits = |text: &str| {
        let is_ours =
            text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(text, 16).ok().filter(|_| is_ours)
    };
    let (hash, variant) = text.split_once('-')?;
    Some(FileName { hash: digits(hash)?, variant: digits(variant)? })
}

/// The nonce of a file that was not finished.
fn unfinished(text: &str) -> Option<u64> {
    let (nonce, _) = text.strip_prefix("new-")?.split_once('-')?;
    u64::from_str_radix(nonce, 16).ok()
}
