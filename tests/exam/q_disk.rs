//! Group Q: the cache's disk. Whatever happens to files, nothing wrong is ever served, and no request waits.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::e_cache::{CACHES, ask, get, is_hit, say};
use crate::Row;
use crate::support::{Driver, Origin, Proxy, proxy::temporary, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("q01_no_bit_may_differ", q01),
        ("q02_killed_at_each_step", q02),
        ("q03_full_broken_slow_or_read_only", q03),
        ("q04_files_of_others", q04),
        ("q04_a_folder_of_others", others),
        ("q_it_survives_and_purges_do_too", survives),
        ("q_it_keeps_to_its_size", size),
    ]
}

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(temporary("cache"))
    }

    fn config(&self) -> String {
        format!("{CACHES}[cache]\npurge = [\"127.0.0.1\"]\ndisk = \"{}\"\n", self.0.display())
    }

    /// Responses that are there, whole.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for bucket in fs::read_dir(self.0.join("files")).into_iter().flatten().flatten() {
            let all = fs::read_dir(bucket.path()).into_iter().flatten().flatten();
            let paths = all.map(|file| file.path());
            found.extend(paths.filter(|path| name_of(path).len() == 33));
        }
        found.sort();
        found
    }

    fn wait_for(&self, count: usize) {
        until("files to be written", || self.files().len() == count);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn start(driver: Driver, origin: &Origin, config: &str, fault: Option<&str>) -> Proxy {
    let text = format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n{config}",
        origin.address
    );
    let env: Vec<(&str, &str)> = fault.map(|fault| ("MILLRACE_TEST", fault)).into_iter().collect();
    Proxy::run(driver, &text, &env, None)
}

/// Ends in order; all that was to be written is.
fn stop(mut proxy: Proxy) {
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
}

fn kill(mut proxy: Proxy) {
    proxy.forget_death();
    if !proxy.is_dead() {
        proxy.signal("KILL");
    }
    proxy.wait();
}

/// What is at a path does not change: its own name, so many times.
fn body(path: &str) -> String {
    let times: usize = path.rsplit('/').next().unwrap().parse().unwrap_or(1);
    path.repeat(times)
}

fn steady() -> Origin {
    Origin::scripted(|request, link| {
        let vary = if request.path() == "/vary" { "\r\nVary: Kind" } else { "" };
        let head = format!(
            "200 OK\r\nCache-Control: max-age=600\r\nETag: \"1\"\r\nSurrogate-Key: all{vary}"
        );
        say(link, &head, &body(request.path()))
    })
}

fn q01(driver: Driver) {
    let count = if std::env::var_os("MILLRACE_LONG").is_some() { 1000 } else { 300 };
    let (origin, folder) = (steady(), Folder::new());
    let paths: Vec<String> = (0..count).map(|number| format!("/{number}/7")).collect();
    let proxy = start(driver, &origin, &folder.config(), None);
    paths.iter().for_each(|path| assert_eq!(get(&proxy, path, "").status, 200));
    stop(proxy);
    let files = folder.files();
    assert_eq!(files.len(), count, "all was written before the end");
    // One fault in each file, the n-th of its possible ones.
    for (number, file) in files.iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        match number % 20 {
            0 => bytes.truncate(bytes.len() * number / count),
            1 => bytes.push(0),
            _ => {
                let bit = (bytes.len() * 8 - 1) * number / (count - 1);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        fs::write(file, bytes).unwrap();
    }
    let before = origin.requests().len();
    let proxy = start(driver, &origin, &folder.config(), None);
    for path in &paths {
        let reply = get(&proxy, path, "");
        assert!(!is_hit(&reply), "{path}: {}", reply.head);
        assert_eq!(reply.body, body(path).as_bytes(), "{path}");
    }
    assert_eq!(origin.requests().len() - before, count);
    // What replaces them is good again.
    stop(proxy);
    let proxy = start(driver, &origin, &folder.config(), None);
    for path in &paths {
        assert!(is_hit(&get(&proxy, path, "")), "{path}");
    }
    // The seed of all names, or what was purged, is nothing to guess at.
    stop(proxy);
    let state = folder.0.join("state");
    for bit in [200, 300, 3] {
        let mut bytes = fs::read(&state).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&state, bytes).unwrap();
        let proxy = start(driver, &origin, &folder.config(), None);
        assert!(!is_hit(&get(&proxy, &paths[0], "")), "bit {bit}");
        stop(proxy);
    }
}

fn q02(driver: Driver) {
    let (origin, folder) = (steady(), Folder::new());
    // A few pieces of a body, and the steps around them.
    let path = "/large/20000";
    let (mut was_stored, mut was_lost) = (false, false);
    for step in 1..=12 {
        let _ = fs::remove_dir_all(&folder.0);
        let mut proxy =
            start(driver, &origin, &folder.config(), Some(&format!("disk-dies-{step}")));
        proxy.forget_death();
        // It may die while it answers; what is cut off must look so.
        let reply = get(&proxy, path, "");
        assert!(!reply.is_complete || reply.body == body(path).as_bytes(), "step {step}");
        until("it to die, or to be through", || proxy.is_dead() || folder.files().len() == 1);
        kill(proxy);
        let unfinished = |folder: &Folder| {
            let buckets = fs::read_dir(folder.0.join("files")).unwrap().flatten();
            let files = buckets.flat_map(|bucket| fs::read_dir(bucket.path()).unwrap().flatten());
            files.filter(|file| name_of(&file.path()).starts_with("new-")).count()
        };
        let proxy = start(driver, &origin, &folder.config(), None);
        let reply = get(&proxy, path, "");
        assert!(reply.is_complete && reply.body == body(path).as_bytes(), "step {step}");
        was_stored |= is_hit(&reply);
        was_lost |= !is_hit(&reply);
        until("what was not finished to be taken away", || unfinished(&folder) == 0);
    }
    assert!(was_stored && was_lost, "the last steps come after the file is whole");
}

fn q03(driver: Driver) {
    let origin = steady();
    let folder = Folder::new();
    let proxy = start(driver, &origin, &folder.config(), None);
    (0..20).for_each(|number| assert_eq!(get(&proxy, &format!("/{number}"), "").status, 200));
    stop(proxy);
    for fault in ["disk-full", "disk-broken", "disk-slow"] {
        let proxy = start(driver, &origin, &folder.config(), Some(fault));
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            for path in [format!("/{number}"), format!("/new/{fault}/{number}")] {
                let begun = Instant::now();
                let reply = get(&proxy, &path, "");
                slowest = slowest.max(begun.elapsed());
                assert!(reply.status == 200 && reply.body == body(&path).as_bytes(), "{fault}");
                assert!(is_hit(&get(&proxy, &path, "")), "memory works on: {fault} {path}");
            }
        }
        // The bound is a quarter of a second; the rest is for a loaded machine.
        assert!(slowest < Duration::from_millis(900), "{fault}: {slowest:?}");
        assert!(fault != "disk-full" || proxy.log().contains("nothing is written"));
        kill(proxy);
    }
    let nowhere = format!("{CACHES}[cache]\ndisk = \"/proc/millrace\"\n");
    let proxy = start(driver, &origin, &nowhere, None);
    assert!(proxy.log().contains("cache.disk /proc/millrace"), "{}", proxy.log());
    assert!(!is_hit(&get(&proxy, "/x", "")) && is_hit(&get(&proxy, "/x", "")));
}

fn q04(driver: Driver) {
    let (origin, folder) = (steady(), Folder::new());
    let paths = ["/version/1", "/link/1", "/bucket/1", "/good/1", "/name/1"];
    let mut files = Vec::new();
    for path in paths {
        let proxy = start(driver, &origin, &folder.config(), None);
        let before: BTreeSet<PathBuf> = folder.files().into_iter().collect();
        get(&proxy, path, "");
        stop(proxy);
        let new = folder.files().into_iter().find(|file| !before.contains(file));
        files.push(new.unwrap());
    }
    // Of another version; a link; in a folder that is a link; of another name.
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[8] = 99;
    fs::write(&files[0], &bytes).unwrap();
    let outside = Folder::new();
    fs::create_dir(&outside.0).unwrap();
    let target = outside.0.join("target");
    fs::rename(&files[1], &target).unwrap();
    std::os::unix::fs::symlink(&target, &files[1]).unwrap();
    let (bucket, moved) = (files[2].parent().unwrap(), outside.0.join("bucket"));
    fs::rename(bucket, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, bucket).unwrap();
    let name = name_of(&files[4]);
    let last = if name.ends_with('0') { '1' } else { '0' };
    let other = files[4].with_file_name(format!("{}{last}", &name[..32]));
    fs::rename(&files[4], other).unwrap();
    let foreign = [folder.0.join("README"), files[3].with_file_name("notes.txt")];
    foreign.iter().for_each(|file| fs::write(file, "not ours").unwrap());
    let kept = fs::read(&target).unwrap();

    let proxy = start(driver, &origin, &folder.config(), None);
    for path in paths {
        let reply = get(&proxy, path, "");
        assert_eq!(is_hit(&reply), path == "/good/1", "{path}: {}", reply.head);
        assert_eq!(reply.body, body(path).as_bytes());
    }
    // Another process leaves a folder alone that is in use, and serves.
    let second = start(driver, &origin, &folder.config(), None);
    assert!(second.log().contains("another process uses this folder"), "{}", second.log());
    assert!(!is_hit(&get(&second, "/good/1", "")));
    stop(proxy);
    assert!(foreign.iter().all(|file| fs::read(file).unwrap() == b"not ours"));
    assert_eq!(fs::read(&target).unwrap(), kept, "nothing was written through the link");
    // A whole folder of another version: it is left as it is.
    drop(second);
    let state = fs::read(folder.0.join("state")).unwrap();
    let newer = newer(&state);
    fs::write(folder.0.join("state"), &newer).unwrap();
    let proxy = start(driver, &origin, &folder.config(), None);
    assert!(proxy.log().contains("its format is 2, ours is 1"), "{}", proxy.log());
    assert!(!is_hit(&get(&proxy, "/good/1", "")));
    assert_eq!(fs::read(folder.0.join("state")).unwrap(), newer);
}

/// A folder that holds something else loses nothing.
fn others(driver: Driver) {
    let (origin, folder) = (steady(), Folder::new());
    let precious =
        ["files/precious.txt", "old-2023/precious.txt", "old-0123456789abcdef/precious.txt"];
    for state in [None, Some("theirs")] {
        for path in precious {
            let path = folder.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "precious").unwrap();
        }
        state.into_iter().for_each(|text| fs::write(folder.0.join("state"), text).unwrap());
        let proxy = start(driver, &origin, &folder.config(), None);
        assert!(proxy.log().contains("cache.disk"), "{}", proxy.log());
        get(&proxy, "/x", "");
        assert!(is_hit(&get(&proxy, "/x", "")));
        stop(proxy);
        for path in precious {
            assert_eq!(fs::read(folder.0.join(path)).unwrap(), b"precious", "{path}");
        }
    }
}

/// A state file as format 2 would begin: the first record says the format.
fn newer(state: &[u8]) -> Vec<u8> {
    let at = b"millrace cache\n".len();
    let mut text = state[at + 12..at + 24].to_vec();
    text[0] = 2;
    let mut out = state.to_vec();
    out[at + 4..at + 12].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&text).to_le_bytes());
    out[at + 12..at + 24].copy_from_slice(&text);
    out
}

/// Purges that were answered hold, even if the process is killed right after, and so do changes.
fn survives(driver: Driver) {
    let version = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&version);
    let origin = Origin::scripted(move |request, link| {
        let tag = request.path()[1..].split('/').next().unwrap();
        let vary = if tag == "vary" { "\r\nVary: Kind" } else { "" };
        let head =
            format!("200 OK\r\nCache-Control: max-age=600\r\nSurrogate-Key: {tag} all{vary}");
        let kind = request.header("kind").unwrap_or_default();
        say(link, &head, &format!("{} {kind} {}", now.load(SeqCst), request.path()))
    });
    let folder = Folder::new();
    let all = ["/a/1", "/a/2", "/b/1", "/c/1", "/d/1", "/e/1"];
    let proxy = start(driver, &origin, &folder.config(), None);
    all.iter().for_each(|path| assert_eq!(get(&proxy, path, "").status, 200));
    for kind in 0..3 {
        get(&proxy, "/vary/1", &format!("Kind: {kind}\r\n"));
    }
    folder.wait_for(all.len() + 3);
    kill(proxy);
    // All of it is there from the first request on, variants too.
    let before = origin.requests().len();
    let proxy = start(driver, &origin, &folder.config(), None);
    for path in all {
        let reply = get(&proxy, path, "");
        assert!(is_hit(&reply) && reply.body.starts_with(b"0 "), "{path}: {}", reply.head);
        assert!(reply.header("cache-status").unwrap().contains("detail=disk"), "{}", reply.head);
        assert!(reply.header("age").is_some());
    }
    for kind in [2, 0, 1] {
        let reply = get(&proxy, "/vary/1", &format!("Kind: {kind}\r\n"));
        assert!(is_hit(&reply) && reply.body == format!("0 {kind} /vary/1").as_bytes(), "{kind}");
    }
    assert_eq!(origin.requests().len(), before, "no request reached the origin");
    stop(proxy);
    // Each kind of purge, of what is only on disk, and death right behind it.
    version.store(1, SeqCst);
    let purges = [
        ("PURGE /a/1", ""),
        ("PURGE /a/", "Millrace-Purge: prefix\r\n"),
        ("PURGE /b/*", "Millrace-Purge: pattern\r\n"),
        ("PURGE /", "Surrogate-Key: c\r\n"),
        ("POST /d/1", ""),
        ("PURGE /", "Millrace-Purge: all\r\n"),
    ];
    for ((start_line, lines), gone) in purges.into_iter().zip(all) {
        let proxy = start(driver, &origin, &folder.config(), None);
        assert!(is_hit(&get(&proxy, gone, "")), "{gone} is there");
        stop(proxy);
        let proxy = start(driver, &origin, &folder.config(), None);
        assert_eq!(ask(&proxy, start_line, lines).status, 200);
        assert!(!is_hit(&get(&proxy, &format!("/other{gone}"), "")));
        if start_line.starts_with("POST") {
            // No request waits for the disk there; it comes a moment later.
            stop(proxy);
        } else {
            kill(proxy);
        }
        let proxy = start(driver, &origin, &folder.config(), None);
        let reply = get(&proxy, gone, "");
        assert!(!is_hit(&reply), "{start_line} {lines}: {}", reply.head);
        assert!(reply.body.starts_with(b"1 "), "{start_line}: {}", reply.text());
        kill(proxy);
    }
}

fn size(driver: Driver) {
    let (origin, folder) = (steady(), Folder::new());
    let config = folder.config() + "disk_size = \"1MiB\"\n";
    let proxy = start(driver, &origin, &config, None);
    // 80 times 64 KiB and a little.
    for number in 0..80 {
        assert_eq!(get(&proxy, &format!("/{number}/9000"), "").status, 200);
    }
    let octets =
        || folder.files().iter().map(|file| fs::metadata(file).map_or(0, |it| it.len())).sum();
    until("files to leave", || {
        let octets: u64 = octets();
        (1..=1024 * 1024).contains(&octets)
    });
    // Nor do variants of one URL grow without end (E08).
    for kind in 0..100 {
        get(&proxy, "/vary", &format!("Kind: {kind}\r\n"));
    }
    stop(proxy);
    let in_vary = |file: &PathBuf| fs::read(file).unwrap().windows(5).any(|text| text == b"/vary");
    assert_eq!(folder.files().iter().filter(|file| in_vary(file)).count(), 64);
    let octets: u64 = octets();
    assert!((512 * 1024..=1024 * 1024).contains(&octets), "{octets} octets are left");
    // With less room at the next start, more of them leave.
    assert!(folder.files().len() > 4);
}
