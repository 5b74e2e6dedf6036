//! The files of certificates, keys and lists that a configuration names, and how one version is told from another.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::model::Config;
use crate::config::tls::Pair;

/// Every file that a configuration's TLS depends on.
fn files(config: &Config) -> Vec<&Path> {
    let mut all: Vec<&Path> = Vec::new();
    for tls in config.listeners.iter().filter_map(|one| one.tls.as_ref()) {
        tls.certificates.iter().for_each(|one| all.extend(of_pair(one)));
        if let Some(auth) = &tls.client_auth {
            all.push(&auth.ca);
            all.extend(auth.crl.as_deref());
        }
    }
    for tls in config.clusters.iter().filter_map(|one| one.tls.as_ref()) {
        all.extend(tls.ca.as_deref());
        tls.own.iter().for_each(|one| all.extend(of_pair(one)));
    }
    all
}

fn of_pair(pair: &Pair) -> impl Iterator<Item = &Path> {
    [Some(&pair.certificate), Some(&pair.key), pair.ocsp.as_ref()]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
}

/// What tells one version of a file from another; `None` if it is not there.
pub(super) type Stamp = Option<(i64, i64, u64, u64)>;

/// Of all files.
pub(super) type Stamps = Vec<Stamp>;

/// As the files are now.
pub(super) fn stamps(config: &Config) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
    };
    files(config).into_iter().map(stamp).collect()
}
