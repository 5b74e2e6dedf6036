//! The admin listener from the coordinator's side: it is opened before anything is served, on a thread of its own, and
//! ends when its configuration goes.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use crossbeam_channel::Receiver;
use tokio::sync::oneshot;

use super::helper;
use crate::admin::api::{self, Api};
use crate::admin::guard::Guard;
use crate::admin::order::AdminOrder;
use crate::base::clock::monotonic;
use crate::base::limits::{ADMIN_ORDERS, LISTEN_EVERY, LISTEN_PATIENCE};
use crate::config::admin::{Admin, AdminAddress, Token};
use crate::net::admin::{AdminListener, serve};

/// A running admin listener: dropped, it ends.
pub(super) struct AdminServer {
    pub(super) orders: Receiver<AdminOrder>,
    /// Where it listens, as people write it.
    pub(super) place: String,
    _end: oneshot::Sender<()>,
}

impl AdminServer {
    /// Opens the listener and serves.
    ///
    /// # Errors
    /// A sentence that says what could not be had.
    pub(super) fn start(model: &Admin) -> Result<Self, String> {
        let token = model.token.as_ref().map(read).transpose()?;
        let listener = open(&model.address)
            .map_err(|error| format!("admin: cannot listen on {}: {error}", model.address))?;
        let place = listener.place();
        let (host, is_loopback) = match &model.address {
            AdminAddress::Unix(_) => (String::new(), true),
            AdminAddress::Tcp(address) if address.is_ipv6() => {
                (format!("[{}]", address.ip()), address.ip().is_loopback())
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
        let api = Arc::new(Api { guard, is_loopback, orders });
        let (end, ended) = oneshot::channel::<()>();
        helper::start("admin", "nothing can be asked of this process", move || {
            let answer = Arc::new(move |request| api::answer(Arc::clone(&api), request));
            let serving = async move {
                tokio::select! {
                    () = serve(listener, answer) => {}
                    _ = ended => {}
                }
            };
            vec![serving]
        });
        Ok(Self { orders: given, place, _end: end })
    }
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
    if old == new {
        return Ok(running.take());
    }
    model.token.as_ref().map(read).transpose()?;
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
