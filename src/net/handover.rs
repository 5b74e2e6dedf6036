//! Listening sockets that go from one process to the next: by an upgrade of the running binary, or from systemd, which
//! opens them for us or has kept them (sd_listen_fds(3)). Shared sockets have one queue: whichever process accepts, no
//! client is lost.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crossbeam_channel::{Receiver, bounded};
use serde_json::{Value, json};

use super::{notice, sys};

/// Where the new process finds what it gets.
const VARIABLE: &str = "MILLRACE_HANDOVER";

/// The sockets of one listener.
#[derive(Debug)]
pub struct Bequest {
    /// Its name; empty if that is not known.
    pub name: String,
    pub bound: SocketAddr,
    pub sockets: Vec<OwnedFd>,
}

/// What this process was started with.
#[derive(Debug, Default)]
pub struct Inherited {
    listeners: Vec<Bequest>,
    /// The admin listener's.
    admin: Option<OwnedFd>,
    /// What an operator has said of endpoints: cluster, address, and a duty or a weight.
    orders: Vec<[String; 3]>,
    /// To the process before us, as long as it serves.
    link: Option<UnixStream>,
    /// The sockets belong to systemd too.
    is_activated: bool,
}

impl Inherited {
    /// Takes it over: once, at the start.
    #[must_use]
    pub fn take() -> Self {
        let from_parent = std::env::var(VARIABLE).ok().and_then(|text| Self::from_parent(&text));
        from_parent.unwrap_or_else(Self::from_systemd)
    }

    fn from_parent(text: &str) -> Option<Self> {
        let told: Value = serde_json::from_str(text).ok()?;
        // It stays in the environment: what a grandchild finds there is not meant for it.
        if told["parent"].as_u64() != Some(u64::from(sys::parent())) {
            return None;
        }
        let fd = |value: &Value| RawFd::try_from(value.as_i64()?).ok().and_then(sys::inherited);
        let listener = |one: &Value| {
            Some(Bequest {
                name: one["name"].as_str()?.to_owned(),
                bound: one["bound"].as_str()?.parse().ok()?,
                sockets: one["sockets"].as_array()?.iter().filter_map(fd).collect(),
            })
        };
        let order = |one: &Value| serde_json::from_value(one.clone()).ok();
        Some(Self {
            orders: told["orders"].as_array()?.iter().filter_map(order).collect(),
            listeners: told["listeners"].as_array()?.iter().filter_map(listener).collect(),
            admin: fd(&told["admin"]),
            link: fd(&told["link"]).map(UnixStream::from),
            is_activated: told["activated"].as_bool().unwrap_or_default(),
        })
    }

    fn from_systemd() -> Self {
        let mut listeners: Vec<Bequest> = Vec::new();
        let fds = sd_notify::listen_fds().into_iter().flatten();
        for socket in fds.filter_map(sys::inherited) {
            let Ok(bound) = sys::local_address(socket.as_raw_fd()) else { continue };
            if sys::set_nonblocking(socket.as_raw_fd()).is_err() {
                continue;
            }
            match listeners.iter_mut().find(|one| one.bound == bound) {
                Some(one) => one.sockets.push(socket),
                None => {
                    listeners.push(Bequest { name: String::new(), bound, sockets: vec![socket] })
                }
            }
        }
        let is_activated = !listeners.is_empty();
        Self { listeners, is_activated, ..Self::default() }
    }

    /// The sockets of a listener that is configured with this name and address.
    pub fn of(&mut self, name: &str, address: SocketAddr) -> Option<Bequest> {
        let is_it = |one: &Bequest| match address.port() {
            0 => one.name == name && one.bound.ip() == address.ip(),
            _ => one.bound == address,
        };
        let at = self.listeners.iter().position(is_it)?;
        Some(self.listeners.swap_remove(at))
    }

    /// The admin listener's socket.
    pub const fn admin(&mut self) -> Option<OwnedFd> {
        self.admin.take()
    }

    /// What an operator has said of endpoints: cluster, address, and a duty or a weight.
    pub fn orders(&mut self) -> Vec<[String; 3]> {
        std::mem::take(&mut self.orders)
    }

    /// Tells the process before us why this one does not come to serve.
    pub fn refuses(&mut self, why: &str) {
        if let Some(mut link) = self.link.take() {
            let _ = link.write_all(format!("refused {}\n", json!(why)).as_bytes());
        }
    }

    /// A process before us serves still.
    #[must_use]
    pub const fn has_predecessor(&self) -> bool {
        self.link.is_some()
    }

    /// The sockets outlive this process whatever becomes of it: systemd has them.
    #[must_use]
    pub const fn is_activated(&self) -> bool {
        self.is_activated
    }

    /// Has the process before us give the cache's folder up, and waits for that.
    pub fn ask_for_disk(&mut self) {
        if let Some(link) = &mut self.link {
            let asked = link.write_all(b"disk\n");
            let mut line = String::new();
            let _ = asked.and_then(|()| BufReader::new(link).read_line(&mut line));
        }
    }

    /// Tells the process before us that this one serves. What no listener wants any more is shut: clients would wait
    /// there for ever.
    pub fn serves(&mut self) {
        let unwanted = self.listeners.drain(..).flat_map(|one| one.sockets);
        unwanted.for_each(|socket| sys::shutdown(socket.as_raw_fd(), sys::Directions::Both));
        if let Some(mut link) = self.link.take() {
            let _ = link.write_all(b"ready\n");
        }
    }
}

/// What a new process says, or what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeirNews {
    /// It wants the cache's folder.
    Disk,
    /// It serves.
    Ready,
    /// It does not come to serve, and why.
    Refused(String),
    /// It has ended.
    Gone,
}

/// A new process that takes over.
#[derive(Debug)]
pub struct Heir {
    child: Child,
    link: UnixStream,
    pub news: Receiver<HeirNews>,
}

impl Heir {
    /// Starts this program anew, with its arguments, from where it is installed: with these sockets.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        listeners: &[(&str, SocketAddr, Vec<RawFd>)],
        admin: Option<RawFd>,
        orders: &[[String; 3]],
        is_activated: bool,
    ) -> io::Result<Self> {
        let (own, other) = UnixStream::pair()?;
        // Copies that are passed on; closed again when the new process has them.
        let mut copies = Vec::new();
        let mut copy = |fd: RawFd| -> io::Result<RawFd> {
            let copied = sys::inheritable(fd)?;
            let number = copied.as_raw_fd();
            copies.push(copied);
            Ok(number)
        };
        let mut told = Vec::new();
        for (name, bound, sockets) in listeners {
            let sockets: io::Result<Vec<RawFd>> = sockets.iter().map(|fd| copy(*fd)).collect();
            told.push(json!({ "name": name, "bound": bound.to_string(), "sockets": sockets? }));
        }
        let admin = admin.map(&mut copy).transpose()?;
        let link = copy(other.as_raw_fd())?;
        let told = json!({
            "parent": std::process::id(),
            "listeners": told,
            "admin": admin,
            "orders": orders,
            "link": link,
            "activated": is_activated,
        });
        let news = listen(own.try_clone()?)?;
        let child = Command::new(program()?)
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, told.to_string())
            // What is said to this process by its number is not meant for the next one.
            .envs([("LISTEN_FDS", "0")])
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .spawn();
        drop((copies, other));
        // Without a child the other end is closed: the thread hears that and ends.
        Ok(Self { child: child?, link: own, news })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives the cache's folder up, and says so; on a thread, for much may have to be written first.
    pub fn give_disk(&self, close: impl FnOnce() + Send + 'static) {
        let Ok(mut link) = self.link.try_clone() else { return };
        std::thread::spawn(move || {
            close();
            let _ = link.write_all(b"given\n");
        });
    }

    /// It took too long, or has failed.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where this program was started from.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Takes down where this program is: called before its file can be renamed or replaced, for the kernel follows a renamed
/// file. A symbolic link stays one, so that an upgrade may turn it.
pub fn remember_program() {
    let Ok(exact) = std::env::current_exe() else { return };
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let candidates: Vec<PathBuf> = match called.parent() {
        Some(folder) if folder.as_os_str().is_empty() => std::env::var_os("PATH")
            .map(|all| std::env::split_paths(&all).map(|folder| folder.join(&called)).collect())
            .unwrap_or_default(),
        _ => std::path::absolute(&called).into_iter().collect(),
    };
    let same = |path: &PathBuf| std::fs::canonicalize(path).is_ok_and(|found| found == exact);
    let _ = PROGRAM.set(candidates.into_iter().find(same).unwrap_or(exact));
}

/// The program as it is installed now: its file may have been replaced.
fn program() -> io::Result<PathBuf> {
    PROGRAM.get().cloned().map_or_else(std::env::current_exe, Ok)
}

fn listen(link: UnixStream) -> io::Result<Receiver<HeirNews>> {
    let (sender, news) = bounded(4);
    std::thread::Builder::new().name("heir".to_owned()).spawn(move || {
        for line in BufReader::new(link).lines() {
            let one = match line.as_deref() {
                Ok("disk") => HeirNews::Disk,
                Ok("ready") => HeirNews::Ready,
                Ok(line) => match line.strip_prefix("refused ").map(serde_json::from_str) {
                    Some(Ok(why)) => HeirNews::Refused(why),
                    _ => continue,
                },
                Err(_) => break,
            };
            let is_last = one != HeirNews::Disk;
            if sender.send(one).is_err() || is_last {
                return;
            }
        }
        let _ = sender.send(HeirNews::Gone);
    })?;
    Ok(news)
}

/// What the service manager is told, where there is one.
#[derive(Clone, Copy, Debug)]
pub enum ManagerNews {
    Serves,
    Reloads,
    Drains,
    /// Another process is the service now.
    Successor(u32),
    Lives,
}

/// Tells systemd (sd_notify(3)). Without it this does nothing.
pub fn tell(what: ManagerNews) {
    use sd_notify::NotifyState;
    let now = NotifyState::monotonic_usec_now();
    let result = match what {
        ManagerNews::Serves => {
            sd_notify::notify(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())])
        }
        ManagerNews::Reloads => match now {
            Ok(now) => sd_notify::notify(&[NotifyState::Reloading, now]),
            Err(error) => Err(error),
        },
        ManagerNews::Drains => sd_notify::notify(&[NotifyState::Stopping]),
        ManagerNews::Successor(pid) => sd_notify::notify(&[NotifyState::MainPid(pid)]),
        ManagerNews::Lives => sd_notify::notify(&[NotifyState::Watchdog]),
    };
    if let Err(error) = result {
        notice::warn(format_args!("systemd cannot be told: {error}"));
    }
}

/// Has systemd keep these sockets over a restart (`FileDescriptorStoreMax=`). Whether it was asked to.
pub fn store(sockets: &[&OwnedFd]) -> bool {
    use std::os::fd::AsFd;
    if std::env::var_os("FDSTORE").is_none() {
        return false;
    }
    let states = [sd_notify::NotifyState::FdStore, sd_notify::NotifyState::FdName("millrace")];
    // A message carries no more than 253 (SCM_MAX_FD).
    sockets.chunks(200).all(|some| {
        let fds: Vec<_> = some.iter().map(|one| one.as_fd()).collect();
        sd_notify::notify_with_fds(&states, &fds).is_ok()
    })
}

/// How often the service manager wants to hear that we live.
#[must_use]
pub fn watchdog() -> Option<std::time::Duration> {
    sd_notify::watchdog_enabled()
}
