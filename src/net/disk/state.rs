//! What a cache's folder says of itself: the seed of its names, and the wide purges that some file may
//! not have met. If that cannot be read, it is not known what was purged: then nothing there counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::folder::{Folder, make_folder};
use crate::base::limits::PURGE_LOG_MAX;
use crate::base::random::Random;
use crate::cache::file::FORMAT;
use crate::cache::purge::{Purge, What};
use crate::net::notice;

const MAGIC: &[u8] = b"millrace cache\n";

/// Whether a folder is empty or a cache's.
pub(super) fn is_for_us(path: &Path) -> io::Result<()> {
    if path.join("state").exists() || is_empty(path)? {
        return Ok(());
    }
    let message = "it holds something, and not a cache of ours";
    Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, message))
}

/// A folder that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct FolderState {
    path: PathBuf,
    _lock: File,
    pub(super) seed: u64,
    /// The number of the last wide purge.
    pub(super) last: u64,
    pub(super) unmet: Vec<(u64, Purge)>,
    /// It stays as it is until the next start.
    is_distrusted: bool,
}

impl FolderState {
    /// Takes a folder over; makes it if need be. Nothing in it is touched that is not a cache's.
    ///
    /// # Errors
    /// It is no folder, may not be written, is another process's, of another format, or holds
    /// something else.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // The folder itself may be a link: that is the operator's choice.
        if !path.is_dir() {
            make_folder(path)?;
        }
        is_for_us(path)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let lock = options.open(path.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "another process uses this folder")
        })?;
        let mut state = Self {
            path: path.to_owned(),
            _lock: lock,
            seed: 0,
            last: 0,
            unmet: Vec::new(),
            is_distrusted: false,
        };
        if state.read()?.is_none() {
            if path.join("state").exists() {
                notice::warn(format_args!(
                    "cache: what {} says of purges was harmed: nothing that is there counts",
                    path.display()
                ));
            }
            state.begin_anew()?;
        }
        Ok(state)
    }

    /// Its files.
    pub(super) fn files(&self) -> io::Result<Folder> {
        Folder::open(self.path.join("files"), self.seed, Random::seed_from_os())
    }

    /// What is written; `None` if there is nothing, or nothing that can be believed.
    fn read(&mut self) -> io::Result<Option<()>> {
        let mut bytes = Vec::new();
        match open_to_read(&self.path.join("state")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?.take(PURGE_LOG_MAX).read_to_end(&mut bytes)?,
        };
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            let message = "its file \"state\" is not ours; if it was, take the folder away";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        let mut records = Records(rest);
        let Some(Some((format, seed))) = records.next().map(|one| one.and_then(first)) else {
            return Ok(None);
        };
        if format != FORMAT {
            let message = format!("its format is {format}, ours is {FORMAT}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let (mut last, mut unmet) = (0, Vec::new());
        for record in records {
            let Some((number, purge)) = record.and_then(decode) else { return Ok(None) };
            last = number.max(last);
            unmet.extend(purge.map(|purge| (number, purge)));
        }
        (self.seed, self.last, self.unmet) = (seed, last, unmet);
        Ok(Some(()))
    }

    /// All that was there is nothing now. Its files are taken away later.
    fn begin_anew(&mut self) -> io::Result<()> {
        self.seed = Random::seed_from_os();
        let (old, files) =
            (self.path.join(format!("old-{:016x}", self.seed)), self.path.join("files"));
        match fs::rename(&files, old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.write()
    }

    /// Takes away what `begin_anew` put aside.
    pub(super) fn clear_old(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let is_old = entry.file_name().to_str().is_some_and(|name| {
                let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let digits = name.strip_prefix("old-");
                digits.is_some_and(|rest| rest.len() == 16 && rest.bytes().all(is_digit))
            });
            if is_old {
                // What cannot be taken away now may be the next time.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Writes a purge down. When this returns it outlives even a loss of power.
    ///
    /// # Errors
    /// It could not be written. Then what is there counts for nothing at the next start.
    pub(super) fn note(&mut self, number: u64, purge: Purge) -> io::Result<()> {
        let mut out = Vec::new();
        push(&mut out, &encode(number, Some(&purge)));
        self.last = self.last.max(number);
        self.unmet.push((number, purge));
        if self.is_distrusted {
            return Ok(());
        }
        let path = self.path.join("state");
        let mut options = OpenOptions::new();
        options.append(true).custom_flags(libc::O_NOFOLLOW);
        let written = options.open(&path).and_then(|mut file| {
            file.write_all(&out)?;
            file.sync_data()
        });
        if written.is_err() {
            self.distrust();
        }
        written
    }

    /// What is left of the state says that the folder is ours, and nothing more.
    pub(super) fn distrust(&mut self) {
        self.is_distrusted = true;
        let emptied = OpenOptions::new().write(true).open(self.path.join("state"));
        let _ = emptied.and_then(|file| file.set_len(MAGIC.len() as u64));
    }

    /// All files have met these purges.
    ///
    /// # Errors
    /// It could not be written: it will be met again.
    pub(super) fn forget(&mut self, numbers: &[u64]) -> io::Result<()> {
        self.unmet.retain(|(one, _)| !numbers.contains(one));
        if self.is_distrusted { Ok(()) } else { self.write() }
    }

    fn write(&self) -> io::Result<()> {
        let mut out = MAGIC.to_vec();
        push(&mut out, &[&FORMAT.to_le_bytes()[..], &self.seed.to_le_bytes()].concat());
        push(&mut out, &encode(self.last, None));
        self.unmet.iter().for_each(|(number, purge)| push(&mut out, &encode(*number, Some(purge))));
        let new = self.path.join("state.new");
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(&out)?;
        file.sync_data()?;
        fs::rename(&new, self.path.join("state"))
    }
}

/// Nothing is there but what a cache's beginning may have left.
fn is_empty(path: &Path) -> io::Result<bool> {
    let mut entries = fs::read_dir(path)?;
    let is_ours = |name: &std::ffi::OsStr| name == "lock" || name == "state.new";
    Ok(entries.all(|entry| entry.is_ok_and(|entry| is_ours(&entry.file_name()))))
}

fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn first(record: &[u8]) -> Option<(u32, u64)> {
    let format = record.get(..4)?.try_into().ok()?;
    // Only our own form is known to go on like this.
    let seed = record.get(4..12).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    Some((u32::from_le_bytes(format), u64::from_le_bytes(seed)))
}

/// Texts, each behind its length and its sum. `None` for one that was harmed, and then the end.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let all = std::mem::take(&mut self.0);
        if all.is_empty() {
            return None;
        }
        let record = || {
            let len = u32::from_le_bytes(all.get(..4)?.try_into().ok()?) as usize;
            let text = all.get(12..)?.get(..len)?;
            let is_same = all[4..12] == xxh3_64(text).to_le_bytes();
            is_same.then_some((text, &all[12 + len..]))
        };
        let Some((text, rest)) = record() else { return Some(None) };
        self.0 = rest;
        Some(Some(text))
    }
}

fn push(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&xxh3_64(text).to_le_bytes());
    out.extend_from_slice(text);
}

/// A number, and what was purged under it; `None` says only how many there have been.
fn encode(number: u64, purge: Option<&Purge>) -> Vec<u8> {
    let mut out = number.to_le_bytes().to_vec();
    let Some(Purge { what, is_soft }) = purge else { return out };
    let (kind, texts): (u8, Vec<&[u8]>) = match what {
        What::Url(key) => (1, vec![key]),
        What::Prefix(authority, path) => (2, vec![authority, path]),
        What::Pattern(authority, pattern) => (3, vec![authority, pattern]),
        What::Tags(tags) => (4, tags.iter().map(Vec::as_slice).collect()),
        What::All => (5, Vec::new()),
    };
    out.extend_from_slice(&[kind, u8::from(*is_soft)]);
    for text in texts {
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text);
    }
    out
}

fn decode(record: &[u8]) -> Option<(u64, Option<Purge>)> {
    let number = u64::from_le_bytes(record.get(..8)?.try_into().ok()?);
    let Some((kind, rest)) = record[8..].split_first() else { return Some((number, None)) };
    let (is_soft, mut rest) = rest.split_first()?;
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        texts.push(rest.get(4..)?.get(..len)?.to_vec());
        rest = &rest[4 + len..];
    }
    let what = match (kind, texts.len()) {
        (1, 1) => What::Url(texts.pop()?),
        (2 | 3, 2) => {
            let (path, authority) = (texts.pop()?, texts.pop()?);
            if *kind == 2 { What::Prefix(authority, path) } else { What::Pattern(authority, path) }
        }
        (4, _) => What::Tags(texts),
        (5, 0) => What::All,
        _ => return None,
    };
    Some((number, Some(Purge { what, is_soft: *is_soft == 1 })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    #[test]
    fn purges_are_read_as_they_were_written() {
        let all = [
            What::Url(text("key")),
            What::Prefix(text("h"), text("/a")),
            What::Pattern(text(""), text("/*")),
            What::Tags(vec![text("a"), text("b")]),
            What::Tags(Vec::new()),
            What::All,
        ];
        for what in all {
            let purge = Purge { what, is_soft: true };
            assert_eq!(decode(&encode(7, Some(&purge))), Some((7, Some(purge))));
        }
        assert_eq!(decode(&encode(9, None)), Some((9, None)));
        let mut out = Vec::new();
        push(&mut out, b"one");
        push(&mut out, b"two");
        let read = |bytes: &[u8]| Records(bytes).map(|one| one.map(<[u8]>::to_vec)).collect();
        let both: Vec<_> = read(&out);
        assert_eq!(both, [Some(text("one")), Some(text("two"))]);
        for at in 0..out.len() {
            let mut bad = out.clone();
            bad[at] ^= 1;
            let found: Vec<Option<Vec<u8>>> = read(&bad);
            assert!(found.contains(&None), "octet {at}");
        }
    }
}
