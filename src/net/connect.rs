//! Opens a connection to an endpoint. The socket is ours from the beginning, so that a deadline
//! can shut it down while it connects.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use super::deadline::Class;
use super::sweep::Sweep;
use super::sys;
use super::transport::Transport;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::config::model::Address;

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Socket(SocketAddr),
    Unix(PathBuf),
}

impl Peer {
    /// Where an address is, unless it is a name, which is resolved elsewhere.
    #[must_use]
    pub fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Socket(address) => Some(Self::Socket(*address)),
            Address::Unix(path) => Some(Self::Unix(path.clone())),
            Address::Name { .. } => None,
        }
    }
}

/// Connects.
///
/// # Errors
/// `ConnectRefused`, `ConnectTimeout`, `ConnectFailed`; `LocalPorts` or `OpenFiles` if it is the proxy that
/// cannot.
pub async fn connect(peer: &Peer, sweep: &Rc<Sweep>, deadline: Moment) -> Result<Transport> {
    let (socket, is_done) = match peer {
        Peer::Socket(address) => sys::connect(*address),
        Peer::Unix(path) => sys::connect_unix(path),
    }
    .map_err(|error| fault(&error))?;
    let transport = Transport::new(socket, sweep, Class::Upstream).map_err(|_| Kind::LocalPorts)?;
    if !is_done {
        transport.read_by(deadline);
        transport.writable().await;
        transport.read_by(Moment::NEVER);
        if transport.expired().is_some() {
            return Err(Kind::ConnectTimeout);
        }
        transport.take_error().map_err(|error| fault(&error))?;
    }
    Ok(transport)
}

/// Whether it is this machine that has too few descriptors, ports or buffers: nothing that says something of
/// an endpoint.
#[must_use]
pub fn is_own_shortage(error: &io::Error) -> bool {
    matches!(fault(error), Kind::OpenFiles | Kind::LocalPorts)
}

fn fault(error: &io::Error) -> Kind {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ENOENT) => Kind::ConnectRefused,
        Some(libc::ETIMEDOUT) => Kind::ConnectTimeout,
        Some(libc::EMFILE | libc::ENFILE) => Kind::OpenFiles,
        // EAGAIN is a Unix socket whose backlog is full.
        Some(libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => Kind::LocalPorts,
        _ => Kind::ConnectFailed,
    }
}
