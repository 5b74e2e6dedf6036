//! What a configuration asks of this machine: cores, addresses, files; and what the machine has against it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use core_affinity::CoreId;

use super::{plan, secrets};
use crate::config::access_log::AccessLog;
use crate::config::admin::AdminAddress;
use crate::config::model::{Config, Cores, Listener};
use crate::net::handover::Inherited;
use crate::net::log_file;
use crate::net::privileges::RunAs;
use crate::net::{disk, listener, notice, sys};

/// What this machine has against a configuration that is good in itself: a core that is not there,
/// an address that is taken, a log that cannot be opened, a certificate that is none; and what is no fault, but worth
/// a word. What this program has open itself, in another process, is no objection: it may be about to be reloaded.
#[must_use]
pub fn objections(config: &Config) -> (Vec<String>, Vec<String>) {
    let cores = choose_cores(&config.server.cores).err();
    let log = config.access_log.as_ref();
    let log =
        log.and_then(|log| log_file::probe(&log.to).err().map(|error| log_fault(log, &error)));
    let disk = config.cache.disk.as_ref();
    let disk = disk.and_then(|path| {
        let found = disk::probe(path).err();
        found.map(|error| plan::disk_fault(path, &error))
    });
    let (tls, mut warnings) = match secrets::inspect(config) {
        Ok(loaded) => (Vec::new(), loaded.warnings),
        Err(faults) => (faults, Vec::new()),
    };
    // Without its disk a cache is still a cache.
    warnings.extend(disk);
    let listeners = config
        .listeners
        .iter()
        .filter_map(|one| listener::probe(one.address).err().map(|error| not_open(one, &error)));
    let user = identity(config).err();
    (cores.into_iter().chain(user).chain(listeners).chain(log).chain(tls).collect(), warnings)
}

/// Whom the process becomes, if that is configured.
pub(super) fn identity(config: &Config) -> Result<Option<RunAs>, String> {
    let server = &config.server;
    let find = |user: &String| RunAs::find(user, server.group.as_deref());
    server.user.as_ref().map(find).transpose()
}

/// What an upgrade and a reload will want of the folder of the admin socket.
pub(super) fn warn_of_socket_folder(config: &Config) {
    let folder = admin_socket(config).and_then(Path::parent);
    if let Some(folder) = folder.filter(|folder| !RunAs::may_write(folder)) {
        notice::warn(format_args!(
            "admin: server.user may not write in {}: an upgrade could not put its socket there; give the user a folder of \
             its own, as systemd does by RuntimeDirectory=",
            folder.display()
        ));
    }
}

/// Makes the folder of the admin socket, if there is none, for the user that will serve.
pub(super) fn make_socket_folder(config: &Config) {
    let folder = admin_socket(config).and_then(Path::parent);
    let Some(folder) = folder.filter(|folder| !folder.exists()) else { return };
    // What is wrong with either is told by what wants to open the socket, and to become the user.
    if let Ok(Some(user)) = identity(config)
        && std::fs::create_dir(folder).is_ok()
    {
        user.own(folder);
    }
}

/// Where the admin socket is, if there is one.
pub(super) fn admin_socket(config: &Config) -> Option<&Path> {
    match &config.admin.as_ref()?.address {
        AdminAddress::Unix(path) => Some(path),
        AdminAddress::Tcp(_) => None,
    }
}

pub(super) fn not_open(listener: &Listener, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => ": another program listens there",
        std::io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need root or CAP_NET_BIND_SERVICE"
        }
        std::io::ErrorKind::AddrNotAvailable => ": no interface has this address",
        _ => "",
    };
    format!("listener \"{}\" on {}: {error}{hint}", listener.name, listener.address)
}

pub(super) fn log_fault(log: &AccessLog, error: &std::io::Error) -> String {
    format!("access log {}: {error}", log.to)
}

/// A proxied connection takes two descriptors; clients that take them all leave none for upstreams.
pub(super) fn warn_of_few_files(config: &Config) {
    let (files, connections) = (sys::raise_open_files(), config.limits.connections);
    let is_set = config.limits != crate::config::model::Limits::default();
    if files < 1024 || (is_set && files < 2 * connections as u64) {
        notice::warn(format_args!(
            "{files} open files cannot carry limits.connections = {connections}: each takes one for \
             the client and one for the server. Raise `ulimit -n` or lower the limit"
        ));
    }
}

/// The cores to run on. Fewer than asked for is a warning; a core that is not there an error.
pub(super) fn choose_cores(cores: &Cores) -> Result<Vec<CoreId>, String> {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    if available.is_empty() {
        return Err("the system does not say which cores this process may use".to_owned());
    }
    match cores {
        Cores::All => Ok(available),
        Cores::First(count) => {
            if *count > available.len() {
                let there = available.len();
                notice::warn(format_args!(
                    "{count} cores asked for, {there} available: using {there}"
                ));
            }
            Ok(available.into_iter().take(*count).collect())
        }
        Cores::These(wanted) => wanted
            .iter()
            .map(|id| {
                available.iter().copied().find(|core| core.id == *id).ok_or_else(|| {
                    let ids: Vec<String> =
                        available.iter().map(|core| core.id.to_string()).collect();
                    format!("core {id} is not available; these are: {}", ids.join(", "))
                })
            })
            .collect(),
    }
}

/// Sockets by worker, then by listener: one, or several where more were inherited than there are workers.
pub(super) type Sockets = Vec<Vec<Vec<OwnedFd>>>;

/// One socket for each listener and worker, as far as they are not inherited.
pub(super) fn open_listeners(
    config: &Config,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<(Sockets, Vec<SocketAddr>), String> {
    let mut all: Sockets = std::iter::repeat_with(Vec::new).take(workers).collect();
    let mut bound = Vec::new();
    for one in &config.listeners {
        let opened = match inherited.of(&one.name, one.address) {
            Some(given) => listener::complete(given.sockets, given.bound, workers)
                .map(|sockets| (sockets, given.bound)),
            None => listener::open(one.address, workers),
        };
        let (sockets, address) = opened.map_err(|error| not_open(one, &error))?;
        all.iter_mut().for_each(|worker| worker.push(Vec::new()));
        for (at, socket) in sockets.into_iter().enumerate() {
            // One that no worker accepted on would lose what waits there.
            if let Some(place) = all[at % workers].last_mut() {
                place.push(socket);
            }
        }
        bound.push(address);
    }
    Ok((all, bound))
}
