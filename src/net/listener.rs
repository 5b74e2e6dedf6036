//! Listening sockets: opened once by the coordinator, one for each worker, and accepted from by
//! one task for ever. An accept is never dropped: readiness is waited for, then `accept4` takes
//! what there is (net, rule 3).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use monoio::net::TcpStream;

use super::socket::into_monoio;
use super::sys::{self, Directions};
use crate::base::clock::monotonic;
use crate::base::limits::{ACCEPT_BATCH, BACKLOG, LISTEN_EVERY, LISTEN_PATIENCE};

/// The sockets of one listener: they share an address, one for each worker.
///
/// # Errors
/// What the system says: the address is taken, not ours, or not allowed.
pub fn open(address: SocketAddr, workers: usize) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    // A process that was killed gives its port back when its ring is taken down, which is some milliseconds
    // later (exam R43).
    let begun = monotonic();
    while let Err(error) = sys::claim(address) {
        let waited = monotonic().since(begun);
        if error.kind() != io::ErrorKind::AddrInUse || waited >= LISTEN_PATIENCE {
            return Err(error);
        }
        std::thread::park_timeout(LISTEN_EVERY);
    }
    let first = sys::listen(address, BACKLOG)?;
    let bound = sys::local_address(first.as_raw_fd())?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(sys::listen(bound, BACKLOG)?);
    }
    Ok((sockets, bound))
}

/// What was inherited of a listener, and as many more sockets as it takes for each worker to have one. If the others
/// cannot be had (the socket does not share its address), the workers share one.
///
/// # Errors
/// Nothing was inherited, or there are no descriptors.
pub fn complete(
    mut sockets: Vec<OwnedFd>,
    bound: SocketAddr,
    workers: usize,
) -> io::Result<Vec<OwnedFd>> {
    while sockets.len() < workers {
        let more = match sys::listen(bound, BACKLOG) {
            Ok(more) => more,
            Err(_) => sockets.first().ok_or(io::ErrorKind::NotFound)?.try_clone()?,
        };
        sockets.push(more);
    }
    Ok(sockets)
}

/// Whether an address could be listened on, found out without listening: beside what listens there for us.
///
/// # Errors
/// As `open`.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    sys::bind(address).map(drop)
}

/// A worker's end of a listening socket.
#[derive(Debug)]
pub struct Acceptor {
    ready: TcpStream,
}

/// What one go at accepting brought.
#[derive(Debug)]
pub enum Accepted {
    /// These came in.
    Some(Vec<(OwnedFd, SocketAddr)>),
    /// Descriptors or memory ran out: close something, or wait.
    Exhausted(io::Error),
    /// The listener was shut down.
    Closed,
}

impl Acceptor {
    /// Takes over a listening socket; must be called on the worker.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        into_monoio(socket).map(|ready| Self { ready })
    }

    /// Waits, then takes what there is, up to a bound; nothing any more, and `Closed`, once it is not open. What
    /// waits then is left in the queue, for another process perhaps.
    pub async fn accept(&self, is_open: impl Fn() -> bool) -> Accepted {
        loop {
            let _ = self.ready.readable(false).await;
            if !is_open() {
                return Accepted::Closed;
            }
            let found = self.take();
            match found {
                Accepted::Some(some) if some.is_empty() => {}
                found => return found,
            }
        }
    }

    /// Takes what there is without waiting.
    #[must_use]
    pub fn take(&self) -> Accepted {
        let mut found = Vec::new();
        let mut faults = 0;
        while found.len() < ACCEPT_BATCH {
            match sys::accept(self.ready.as_raw_fd()) {
                Ok(one) => found.push(one),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINVAL | libc::EBADF | libc::ENOTSOCK) => return Accepted::Closed,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
                        if found.is_empty() =>
                    {
                        return Accepted::Exhausted(error);
                    }
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => break,
                    // The client gave up meanwhile, or a network error that belongs to it. Anything
                    // that stays must not hold the core.
                    _ if faults >= ACCEPT_BATCH => return Accepted::Exhausted(error),
                    _ => faults += 1,
                },
            }
        }
        Accepted::Some(found)
    }

    /// Stops: a waiting `accept` returns `Closed`.
    pub fn shutdown(&self) {
        sys::shutdown(self.ready.as_raw_fd(), Directions::Both);
    }
}
