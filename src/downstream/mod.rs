//! Floor 9: the front door: accepted connections into exchanges.

pub mod entry;
pub mod http1;
pub mod http2;
pub mod preface;
pub mod task_pool;
pub mod tcp;

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use entry::ClientConnection;
use http2::Http2Job;
use task_pool::TaskPool;

use crate::base::id::ListenerId;
use crate::config::model::Mode;
use crate::config::tls::Alpn;
use crate::net::deadline::Class;
use crate::net::guard::Caught;
use crate::net::listener::{Accepted, Acceptor};
use crate::net::notice;
use crate::net::runtime::{Ticker, spawn};
use crate::net::sys::last_word;
use crate::net::transport::Transport;
use crate::shard::Shard;

/// Idle connections that are ended to make room when descriptors run out.
const MAKE_ROOM: usize = 16;

/// What a connection beyond a limit is told. The row of `Kind::TooManyConnections`, before there is
/// a request to answer.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Proxy-Status: millrace; error=connection_limit_reached\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Length: 68\r\n\r\n503 Service Unavailable\nToo many connections. Try again in a while.\n";

/// Accepts until the listener is shut down, for whichever shard takes connections then, and under the number that the
/// listener has there; `None` if it is closed. `pause` is the wait after a shortage; it must be there before descriptors run out.
pub async fn accept(
    current: &impl Fn() -> Option<(Rc<Shard>, ListenerId)>,
    pool: &Rc<TaskPool<Http2Job>>,
    acceptor: &Acceptor,
    pause: &Ticker,
) {
    let mut last_warning = None;
    loop {
        let accepted = acceptor.accept(|| current().is_some()).await;
        let Some((shard, listener)) = current() else { return };
        match accepted {
            Accepted::Some(sockets) => {
                for (socket, address) in sockets {
                    admit(&shard, pool, socket, address, listener);
                }
            }
            Accepted::Exhausted(error) => {
                shard.count(|counters| counters.accept_errors += 1);
                let ended = shard.sweep.end_idle(shard.now(), MAKE_ROOM);
                let second = shard.now().0 / 1000;
                if last_warning.replace(second) != Some(second) {
                    notice::warn(format_args!(
                        "accepting pauses: {error}; {ended} idle connections were ended. \
                         Raise the limit on open files (ulimit -n) or lower limits.connections"
                    ));
                }
                pause.pause().await;
            }
            Accepted::Closed => return,
        }
    }
}

/// Starts a task for a connection, if it may come in.
pub fn admit(
    shard: &Rc<Shard>,
    pool: &Rc<TaskPool<Http2Job>>,
    socket: OwnedFd,
    address: SocketAddr,
    listener: ListenerId,
) {
    let mode = shard.listener(listener).mode;
    let Ok(pass) = shard.enter(address.ip()) else {
        if mode == Mode::Http && shard.listener(listener).tls.is_none() {
            last_word(socket.as_raw_fd(), BUSY);
        }
        return;
    };
    let Ok(transport) = Transport::new(socket, &shard.sweep, Class::Downstream) else { return };
    // In a box, and so is the way in: an idle connection is small.
    let client = ClientConnection::new(shard, transport, address, listener);
    let (shard, pool) = (Rc::clone(shard), Rc::clone(pool));
    spawn(async move {
        let served = match mode {
            Mode::Http => Caught(serve(&shard, &pool, client)).await,
            Mode::Tcp => Caught(Box::pin(tcp::serve(&shard, client))).await,
        };
        if served.is_err() {
            shard.count(|counters| counters.panics += 1);
        }
        drop(pass);
    });
}

/// Serves a client in the version that it speaks.
async fn serve(shard: &Rc<Shard>, pool: &Rc<TaskPool<Http2Job>>, client: Box<ClientConnection>) {
    let Some(client) = Box::pin(entry::enter(shard, client)).await else { return };
    let agreed = client.facts.tls.as_ref().and_then(|peer| peer.greeting.protocol);
    if agreed == Some(Alpn::Http2) {
        return Box::pin(http2::serve(shard, pool, client)).await;
    }
    // Without a word on it in the handshake, or without a handshake, the first octets tell.
    let may_be_http2 = agreed.is_none() && shard.listener(client.facts.listener).http2;
    if let Some(client) = http1::serve(shard, client, may_be_http2).await {
        Box::pin(http2::serve(shard, pool, client)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{BUSY, serve};

    /// Octets of the future that a function makes.
    fn size<F: Future>(_: impl FnOnce() -> F) -> usize {
        size_of::<F>()
    }

    fn never<T>() -> T {
        unreachable!("it is never made")
    }

    #[test]
    fn an_idle_connection_is_a_small_future() {
        // What a request takes is in the shard's store while there is one.
        let idle = size(|| serve(never(), never(), never()));
        assert!(idle <= 320, "{idle} octets");
    }

    #[test]
    fn the_last_word_is_as_long_as_it_says() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}
