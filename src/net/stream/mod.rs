//! A connected socket, TCP or Unix, as the rest of the program sees it: owned buffers go in and
//! come back, deadlines are set on it, and nothing about it is ever dropped half-way.

#![expect(unsafe_code, reason = "reading and writing at once through one monoio stream")]

mod send;

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;

use super::backlog::Backlog;
use super::buffer::{Buffer, Sealed};
use super::deadline::{Class, Due, NO_SOCKET};
use super::http2::strand::Strand;
use super::socket::{self, How, Peek};
use super::sweep::{Paused, Sweep, Watch};
use super::tls::channel::Channel;
use crate::base::clock::Moment;

/// A connection to a client or an endpoint, or one stream of an HTTP/2 connection.
pub struct Stream {
    // Dropped first: the sweep must forget the descriptor before it is closed.
    watch: Watch,
    fd: RawFd,
    class: Class,
    /// Neither TLS nor HTTP/2 is in between.
    is_plain: bool,
    /// Its close will be a reset.
    is_cut: Cell<bool>,
    // Dropped before the socket: it has a last word to say.
    tls: Option<Box<Channel>>,
    kind: Kind,
}

enum Kind {
    /// monoio sends and receives on any stream socket; its `TcpStream` is also our Unix stream.
    Socket(UnsafeCell<TcpStream>),
    Strand(Box<Strand>),
}

/// A future of the others.
type Later<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How what passes is to be treated.
enum Way<'a> {
    Plain,
    Tls(&'a Channel),
    Strand(&'a Strand),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("fd", &self.fd).finish()
    }
}

impl Stream {
    /// Takes over a socket, which must not block.
    ///
    /// # Errors
    /// What the driver says when it cannot register the socket.
    pub fn new(socket: OwnedFd, sweep: &Rc<Sweep>, class: Class) -> io::Result<Self> {
        let fd = socket.as_raw_fd();
        let inner = into_monoio(socket)?;
        let kind = Kind::Socket(UnsafeCell::new(inner));
        let (watch, is_cut) = (sweep.watch(fd, class), Cell::default());
        Ok(Self { watch, fd, class, is_plain: true, is_cut, tls: None, kind })
    }

    /// Stands for a client where there is none: nothing ever comes from it, nothing may be sent.
    ///
    /// # Errors
    /// What the system says.
    pub fn nobody(sweep: &Rc<Sweep>) -> io::Result<Self> {
        Self::new(socket::eventfd()?, sweep, Class::Upstream)
    }

    /// One stream of an HTTP/2 connection.
    #[must_use]
    pub fn strand(strand: Strand, sweep: &Rc<Sweep>, class: Class) -> Self {
        let (fd, kind) = (NO_SOCKET, Kind::Strand(Box::new(strand)));
        let (watch, is_cut) = (sweep.watch(fd, class), Cell::default());
        Self { watch, fd, class, is_plain: false, is_cut, tls: None, kind }
    }

    /// From here on everything that passes is encrypted.
    pub(super) fn secure(&mut self, channel: Channel) {
        self.tls = Some(Box::new(channel));
        self.is_plain = false;
    }

    /// The descriptor, for those who say a word without waiting.
    pub(super) const fn fd(&self) -> RawFd {
        self.fd
    }

    fn way(&self) -> Way<'_> {
        match (&self.kind, &self.tls) {
            (Kind::Socket(_), None) => Way::Plain,
            (Kind::Socket(_), Some(tls)) => Way::Tls(tls),
            (Kind::Strand(strand), _) => Way::Strand(strand),
        }
    }

    /// What passes is encrypted.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// As a stream of an HTTP/2 connection, if it is one.
    #[must_use]
    pub const fn as_strand(&self) -> Option<&Strand> {
        match &self.kind {
            Kind::Strand(strand) => Some(strand),
            Kind::Socket(_) => None,
        }
    }

    /// Waits until something can be read, or the peer has closed. Holds no buffer meanwhile.
    pub async fn readable(&self) {
        if !self.is_plain {
            return self.readable_wrapped().await;
        }
        if let Some(socket) = self.shared() {
            // An error shows again in the read that follows.
            let _ = socket.readable(false).await;
        }
    }

    /// What follows the plain way is kept out of it: small futures are one with their callers, which is
    /// a thousand instructions for each request.
    fn readable_wrapped(&self) -> Later<'_, ()> {
        match self.way() {
            Way::Plain => Box::pin(self.wait_readable()),
            Way::Strand(strand) => Box::pin(strand.readable(&self.watch)),
            Way::Tls(tls) if tls.is_ready() => Box::pin(std::future::ready(())),
            Way::Tls(tls) => {
                // The peer may be waiting for it.
                tls.flush();
                Box::pin(self.wait_readable())
            }
        }
    }

    /// Waits until the socket has something.
    pub(super) async fn wait_readable(&self) {
        // An error shows again in the read that follows.
        if let Some(socket) = self.shared() {
            let _ = socket.readable(false).await;
        }
    }

    /// Waits for something to read before a buffer is taken for it. On epoll this is left out for
    /// upstreams: there it costs two system calls more, and an answer is on its way.
    pub async fn quiet(&self) {
        if self.class == Class::Downstream || is_ring() {
            self.readable().await;
        }
    }

    /// Waits until something can be written, or a connect is through.
    pub async fn writable(&self) {
        if let Some(socket) = self.shared() {
            let _ = socket.writable(false).await;
        }
    }

    /// Reads behind what is in the buffer, or in one that takes its place. `Ok(0)` is the end, or a
    /// deadline: see `expired`.
    pub async fn recv(&self, mut buffer: Buffer) -> (io::Result<usize>, Buffer) {
        debug_assert!(buffer.space() > 0, "a read needs room");
        if !self.is_plain {
            return self.recv_wrapped(buffer).await;
        }
        // As in `recv_raw`: one future less on the way of most connections.
        loop {
            let Some(socket) = self.exclusive() else { return (not_connected(), buffer) };
            let (result, back) = socket.read(buffer).await;
            if !is_would_block(&result) {
                return (result, back);
            }
            buffer = back;
            self.wait_readable().await;
        }
    }

    fn recv_wrapped(&self, buffer: Buffer) -> Later<'_, (io::Result<usize>, Buffer)> {
        match self.way() {
            Way::Plain => Box::pin(self.recv_raw(buffer)),
            Way::Tls(tls) => Box::pin(tls.recv(self, buffer)),
            Way::Strand(strand) => Box::pin(strand.recv(&self.watch, buffer)),
        }
    }

    /// Reads what the socket has.
    pub(super) async fn recv_raw(&self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        let mut buffer = Sealed(buffer);
        loop {
            let Some(socket) = self.exclusive() else { return (not_connected(), buffer.0) };
            let (result, back) = socket.read(buffer).await;
            if !is_would_block(&result) {
                return (result, back.0);
            }
            buffer = back;
            self.wait_readable().await;
        }
    }

    /// Says something in clear text that need not arrive.
    pub fn say(&self, bytes: &[u8]) {
        socket::last_word(self.fd, bytes);
    }

    /// Nothing may arrive after this; `NEVER` for no deadline.
    pub fn read_by(&self, deadline: Moment) {
        self.watch.read_by(deadline);
    }

    /// The deadline for reading stands still until the guard is dropped.
    #[must_use]
    pub fn pause_reading(&self) -> Paused<'_> {
        self.watch.pause_reading()
    }

    /// Where answers to this client are counted, if its connection has a bound for them.
    #[must_use]
    pub fn backlog(&self) -> Option<Rc<Backlog>> {
        self.as_strand().and_then(Strand::backlog)
    }

    /// The kernel takes so many octets at once.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        matches!(self.kind, Kind::Socket(_)) && socket::has_room(self.fd, len)
    }

    /// Waits until the peer takes more, where it says so: nothing is read for a stream whose window is shut.
    /// How much it takes; `None` if it takes nothing for about two periods of so many milliseconds.
    pub async fn room(&self, now: Moment, period: u32) -> Option<usize> {
        let Kind::Strand(strand) = &self.kind else { return Some(usize::MAX) };
        self.watch.write_within(now, period);
        let room = strand.room(&self.watch).await;
        self.watch.write_done(0);
        (self.expired() != Some(Due::Write)).then_some(room)
    }

    /// The deadline that ended this connection, if one did.
    #[must_use]
    pub fn expired(&self) -> Option<Due> {
        self.watch.expired()
    }

    /// Counts as idle since then, which may be later than now; `NEVER` when a request has begun.
    pub fn idle_since(&self, since: Moment) {
        self.watch.idle_since(since);
    }

    /// A client's request is waited for, until then; it counts as idle since then, which may be later than now.
    #[inline]
    pub fn idles(&self, until: Moment, since: Moment) {
        self.watch.idles(until, since);
    }

    /// It has come.
    #[inline]
    pub fn is_busy(&self) {
        self.watch.is_busy();
    }

    /// The client has left while its request is served; `context` is woken when it does. While the request
    /// itself is still coming, only a reset counts.
    #[must_use]
    pub fn has_left(&self, context: &Context<'_>, now: Moment, has_come: bool) -> bool {
        self.watch.has_left(context, now, !has_come)
    }

    /// No request of it is served any more.
    pub fn looks_no_more(&self) {
        self.watch.looks_no_more();
    }

    /// Looks into an idle connection.
    #[must_use]
    pub fn peek(&self) -> Peek {
        match self.way() {
            Way::Tls(tls) if !tls.is_quiet() => Peek::Stirred,
            // It is never used twice.
            Way::Strand(_) => Peek::Stirred,
            Way::Plain | Way::Tls(_) => socket::peek(self.fd),
        }
    }

    /// The peer has ended its side.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        if let Some(strand) = self.as_strand() {
            return strand.is_dead();
        }
        socket::is_hung_up(self.fd)
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&self) {
        match self.way() {
            Way::Plain => {}
            Way::Tls(tls) => tls.close(),
            Way::Strand(strand) => {
                // Where it cannot be said any more, nobody is there to hear it.
                let _ = strand.finish(None);
                return;
            }
        }
        socket::shutdown(self.fd, How::Write);
    }

    /// Ends both directions; operations that wait return.
    pub fn shutdown(&self) {
        match self.way() {
            Way::Strand(strand) => strand.reset(),
            Way::Plain | Way::Tls(_) => socket::shutdown(self.fd, How::Both),
        }
    }

    /// Ends a socket that will not be used again. A strand ends by itself when it is dropped.
    pub fn end(&self) {
        match self.way() {
            _ if self.is_cut.get() => return socket::disconnect(self.fd),
            Way::Strand(_) => return,
            Way::Plain => {}
            Way::Tls(tls) => tls.close(),
        }
        socket::shutdown(self.fd, How::Both);
    }

    /// Closing will reset the connection: the peer sees that something was lost.
    pub fn reset_on_close(&self) {
        match self.way() {
            Way::Plain => {}
            Way::Tls(tls) => tls.mute(),
            Way::Strand(strand) => return strand.reset(),
        }
        self.is_cut.set(true);
        socket::reset_on_close(self.fd);
    }

    /// The error that a finished connect left.
    ///
    /// # Errors
    /// That error.
    pub fn take_error(&self) -> io::Result<()> {
        socket::take_error(self.fd)
    }

    /// Our address on this connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<std::net::SocketAddr> {
        socket::local_address(self.fd)
    }

    const fn socket(&self) -> Option<&UnsafeCell<TcpStream>> {
        match &self.kind {
            Kind::Socket(inner) => Some(inner),
            Kind::Strand(_) => None,
        }
    }

    fn shared(&self) -> Option<&TcpStream> {
        // SAFETY: the value is neither moved nor replaced while `self` lives, and the only methods
        // that take it exclusively hold no reference to its fields across an await (see below).
        self.socket().map(|inner| unsafe { &*inner.get() })
    }

    #[expect(clippy::mut_from_ref, reason = "see the safety comment")]
    fn exclusive(&self) -> Option<&mut TcpStream> {
        // SAFETY: monoio declares `TcpStream: Split`: reads and writes may run at once. Both copy
        // the reference-counted descriptor into the operation when they are called and touch no
        // field afterwards, so no two live references are used at the same time; and a Stream is
        // neither Send nor Sync.
        self.socket().map(|inner| unsafe { &mut *inner.get() })
    }
}

fn not_connected<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotConnected.into())
}

/// A monoio stream around a descriptor of ours, for its readiness or its transfers.
pub(super) fn into_monoio(socket: OwnedFd) -> io::Result<TcpStream> {
    use std::os::fd::FromRawFd;
    // SAFETY: the descriptor is open and ours; ownership goes to the new value.
    let socket = unsafe { std::net::TcpStream::from_raw_fd(socket.into_raw_fd()) };
    TcpStream::from_std(socket)
}

/// Whether this thread's runtime is the ring.
fn is_ring() -> bool {
    !monoio::utils::is_legacy()
}

fn is_would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
