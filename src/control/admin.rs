//! The admin listener from the coordinator's side: it is opened before anything is served, on a thread of its own, and
//! ends when its configuration goes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crossbeam_channel::Receiver;
use tokio::sync::oneshot;

use super::helper;
use crate::admin::api::Api;
use crate::admin::guard::Guard;
use crate::admin::order::AdminOrder;
use crate::base::clock::monotonic;
use crate::base::limits::{ADMIN_LINGERS, ADMIN_ORDERS, LISTEN_EVERY, LISTEN_PATIENCE};
use crate::config::admin::{Admin, AdminAddress, Token};
use crate::net::admin::{AdminListener, AdminPlaces, serve};
use crate::net::handover::Inherited;
use crate::net::sys;

/// A running admin listener: dropped, it ends.
pub(super) struct AdminServer {
    pub(super) orders: Receiver<AdminOrder>,
    /// Where it listens, as people write it.
    pub(super) place: String,
    /// A copy of the socket that a new process may inherit, if it is one of TCP.
    socket: Option<OwnedFd>,
    /// The file of a unix socket.
    inode: Option<u64>,
    token: Option<String>,
    /// Disconnected when the last answer is written.
    is_done: Receiver<()>,
    end: oneshot::Sender<()>,
}

impl AdminServer {
    /// Opens the listener and serves.
    ///
    /// # Errors
    /// A sentence that says what could not be had.
    pub(super) fn start(model: &Admin) -> Result<Self, String> {
        let listener = open(&model.address)
            .map_err(|error| format!("admin: cannot listen on {}: {error}", model.address))?;
        Self::serve(model, listener)
    }

    /// The same in a process that takes another's place.
    ///
    /// # Errors
    /// As `start`.
    pub(super) fn inherit(model: &Admin, inherited: &mut Inherited) -> Result<Self, String> {
        let fault = |error| format!("admin: cannot listen on {}: {error}", model.address);
        match (&model.address, inherited.admin()) {
            (AdminAddress::Tcp(address), Some(socket)) if socket_is_at(&socket, *address) => {
                Self::serve(model, AdminListener::Tcp(socket.into()))
            }
            (AdminAddress::Unix(path), _) if inherited.has_predecessor() => {
                Self::serve(model, AdminListener::replace(path).map_err(fault)?)
            }
            _ => Self::start(model),
        }
    }

    /// Another in its place, where a process that has come to nothing had put its own socket there.
    pub(super) fn regained(&self, model: &Admin) -> Option<Result<Self, String>> {
        let AdminAddress::Unix(path) = &model.address else { return None };
        if AdminListener::inode_at(path) == self.inode {
            return None;
        }
        let listener = AdminListener::replace(path);
        let listener = listener.map_err(|error| format!("admin: {}: {error}", path.display()));
        Some(listener.and_then(|listener| Self::serve(model, listener)))
    }

    /// The socket that a new process may inherit.
    pub(super) fn socket(&self) -> Option<RawFd> {
        self.socket.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// It is one of TCP.
    pub(super) fn has_port(&self) -> bool {
        self.socket.is_some()
    }

    /// Takes no more orders and accepts no more. What it returns waits until the answers that are under way are written.
    pub(super) fn retire(self) -> impl FnOnce() {
        let Self { orders, is_done, end, .. } = self;
        drop((orders, end));
        move || {
            let _ = is_done.recv_timeout(2 * ADMIN_LINGERS);
        }
    }

    fn serve(model: &Admin, listener: AdminListener) -> Result<Self, String> {
        let token = model.token.as_ref().map(read).transpose()?;
        let place = listener.place();
        let (socket, inode) = (listener.copy(), listener.inode());
        let (host, is_loopback) = match &model.address {
            AdminAddress::Unix(_) => (String::new(), true),
            AdminAddress::Tcp(address) if address.is_ipv6() => {
                (format!("[{}]", address.ip()), address.ip().to_canonical().is_loopback())
            }
            AdminAddress::Tcp(address) => (address.ip().to_string(), address.ip().is_loopback()),
        };
        if !is_loopback && token.is_none() {
            return Err(format!(
                "admin: {} can be reached from other machines, and [admin] has no token",
                model.address
            ));
        }
        let guard = Guard::new(token.as_deref(), &host, is_loopback);
        let (orders, given) = crossbeam_channel::bounded(ADMIN_ORDERS);
        let api = Arc::new(Api {
            guard,
            is_loopback,
            orders,
            taps: Arc::default(),
            last: Arc::default(),
        });
        let (end, ended) = oneshot::channel::<()>();
        let (done, is_done) = crossbeam_channel::bounded::<()>(0);
        helper::start("admin", "nothing can be asked of this process", move || {
            let service = Arc::new(api);
            let serving = async move {
                let places = AdminPlaces::default();
                tokio::select! {
                    () = serve(listener, places.clone(), service) => {}
                    _ = ended => {}
                }
                places.emptied().await;
                drop(done);
            };
            vec![serving]
        });
        Ok(Self { orders: given, place, socket, inode, token, is_done, end })
    }
}

fn socket_is_at(socket: &OwnedFd, address: SocketAddr) -> bool {
    sys::local_address(socket.as_raw_fd()).is_ok_and(|bound| bound == address)
}

/// Opens the listener; one that has just been given up may take a moment to go.
fn open(address: &AdminAddress) -> std::io::Result<AdminListener> {
    let begun = monotonic();
    loop {
        match AdminListener::open(address) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && monotonic().since(begun) < LISTEN_PATIENCE =>
            {
                std::thread::park_timeout(LISTEN_EVERY);
            }
            opened => return opened,
        }
    }
}

/// The admin listener of a new configuration: the same, another one, or none.
///
/// # Errors
/// It cannot be had. If it was to be at the same place with another token, the old one is gone then.
pub(super) fn changed(
    running: &mut Option<AdminServer>,
    old: Option<&Admin>,
    new: Option<&Admin>,
) -> Result<Option<AdminServer>, String> {
    let Some(model) = new else { return Ok(None) };
    // The file of a token may have another one in it.
    let token = model.token.as_ref().map(read).transpose()?;
    if old == new && running.as_ref().is_some_and(|one| one.token == token) {
        return Ok(running.take());
    }
    if old.is_some_and(|old| old.address == model.address) {
        *running = None;
    }
    AdminServer::start(model).map(Some)
}

/// The token itself.
///
/// # Errors
/// Its file cannot be read, or has none.
fn read(token: &Token) -> Result<String, String> {
    match token {
        Token::Text(text) => Ok(text.clone()),
        Token::File(path) => {
            let fault = |why: String| format!("admin.token {}: {why}", path.display());
            let file = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
            let mut line = String::new();
            BufReader::new(file).read_line(&mut line).map_err(|error| fault(error.to_string()))?;
            let text = line.trim();
            if text.len() < 16 {
                return Err(fault("its first line must have at least 16 letters".to_owned()));
            }
            Ok(text.to_owned())
        }
    }
}
