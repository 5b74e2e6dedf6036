//! What octets of HTTP go over: a socket, or TLS on a socket. Nothing above asks which.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use super::buffer::{Buffer, Outgoing, Sealed};
use super::deadline::{Class, Due};
use super::socket::Socket;
use super::sweep::{Paused, Sweep};
use super::sys::{self, Peek};
use super::tls::channel::Channel;
use crate::base::clock::Moment;

/// A connection to a client or an endpoint.
#[derive(Debug)]
pub struct Transport {
    // Dropped before the socket: it has a last word to say.
    tls: Option<Box<Channel>>,
    socket: Socket,
}

/// A future of what is rare. In a box, so that what is frequent stays small: small futures are one with their
/// callers, which is a thousand instructions for each request.
type Later<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl Transport {
    /// Takes over a socket, which must not block.
    ///
    /// # Errors
    /// What the driver says when it cannot register the socket.
    pub fn new(socket: OwnedFd, sweep: &Rc<Sweep>, class: Class) -> io::Result<Self> {
        Ok(Self { tls: None, socket: Socket::new(socket, sweep, class)? })
    }

    /// From here on everything that passes is encrypted.
    pub fn secure(&mut self, channel: Channel) {
        self.tls = Some(Box::new(channel));
    }

    /// What passes is encrypted.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket underneath, for a handshake.
    #[must_use]
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The shard's clock.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Moment {
        self.socket.watch().now()
    }

    // === octets ===

    /// Waits until something can be read, or the peer has closed. Holds no buffer meanwhile.
    pub async fn readable(&self) {
        match &self.tls {
            None => self.socket.readable().await,
            Some(tls) => self.readable_sealed(tls).await,
        }
    }

    fn readable_sealed<'a>(&'a self, tls: &'a Channel) -> Later<'a, ()> {
        Box::pin(async move {
            if !tls.is_ready() {
                // The peer may be waiting for it.
                tls.flush();
                self.socket.readable().await;
            }
        })
    }

    /// Waits for something to read before a buffer is taken for it, where that is of use.
    pub async fn quiet(&self) {
        if self.socket.waits_first() {
            self.readable().await;
        }
    }

    /// Reads behind what is in the buffer, or in one that takes its place. `Ok(0)` is the end, or a
    /// deadline: see `expired`.
    pub async fn recv(&self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        debug_assert!(buffer.space() > 0, "a read needs room");
        match &self.tls {
            None => self.socket.recv(buffer).await,
            Some(tls) => self.recv_sealed(tls, buffer).await,
        }
    }

    fn recv_sealed<'a>(
        &'a self,
        tls: &'a Channel,
        buffer: Buffer,
    ) -> Later<'a, (io::Result<usize>, Buffer)> {
        Box::pin(tls.recv(&self.socket, buffer))
    }

    /// Writes everything that is in the buffer and hands it back, empty if all went well. The peer
    /// must take some of it every `period` milliseconds or so.
    pub async fn send<B: Outgoing>(&self, mut buffer: B, period: u32) -> (io::Result<()>, B) {
        let Some(tls) = &self.tls else { return self.socket.send(buffer, period).await };
        let result = self.seal(tls, buffer.data(), period).await;
        if result.is_ok() {
            buffer.consume(buffer.len());
        }
        (result, buffer)
    }

    fn seal<'a>(
        &'a self,
        tls: &'a Channel,
        data: &'a [u8],
        period: u32,
    ) -> Later<'a, io::Result<()>> {
        Box::pin(tls.send_one(&self.socket, data, period))
    }

    /// Sends what is no message of HTTP/1.
    pub async fn send_frames(&self, buffer: Buffer, period: u32) -> (io::Result<()>, Buffer) {
        let Some(tls) = &self.tls else {
            let (result, buffer) = self.socket.send(Sealed(buffer), period).await;
            return (result, buffer.0);
        };
        (self.seal(tls, buffer.data(), period).await, buffer)
    }

    /// Writes pieces that lie apart, in as few calls as they go in.
    ///
    /// # Errors
    /// As `send`.
    pub async fn send_pieces(&self, pieces: &[&[u8]], period: u32) -> io::Result<()> {
        match &self.tls {
            None => self.socket.send_pieces(pieces, period).await,
            Some(tls) => Box::pin(tls.send(&self.socket, pieces, period)).await,
        }
    }

    /// Waits until something can be written, or a connect is through.
    pub async fn writable(&self) {
        self.socket.writable().await;
    }

    /// Says something in clear text that need not arrive.
    pub fn say(&self, bytes: &[u8]) {
        self.socket.say(bytes);
    }

    /// The kernel takes so many octets at once.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        sys::has_room(self.socket.fd(), len)
    }

    // === deadlines ===

    /// Nothing may arrive after this; `NEVER` for no deadline.
    #[inline]
    pub fn read_by(&self, deadline: Moment) {
        self.socket.watch().read_by(deadline);
    }

    /// The deadline for reading stands still until the guard is dropped.
    #[must_use]
    pub fn pause_reading(&self) -> Paused<'_> {
        self.socket.watch().pause_reading()
    }

    /// The deadline that ended this connection, if one did.
    #[must_use]
    pub fn expired(&self) -> Option<Due> {
        self.socket.watch().expired()
    }

    /// Counts as idle since then, which may be later than now; `NEVER` when a request has begun.
    pub fn idle_since(&self, since: Moment) {
        self.socket.watch().idle_since(since);
    }

    /// A client's request is waited for, until then; it counts as idle since then, which may be later than now.
    #[inline]
    pub fn idles(&self, until: Moment, since: Moment) {
        self.socket.watch().idles(until, since);
    }

    /// It has come.
    #[inline]
    pub fn is_busy(&self) {
        self.socket.watch().is_busy();
    }

    // === presence ===

    /// The client has left while its request is served; `context` is woken when it does. While the request
    /// itself is still coming (`is_sending`), only a reset counts.
    #[must_use]
    pub fn has_left(&self, context: &Context<'_>, is_sending: bool) -> bool {
        self.socket.watch().has_left(context, is_sending)
    }

    /// No request of it is served any more, or not one whose client is looked after.
    pub fn looks_no_more(&self) {
        self.socket.watch().looks_no_more();
    }

    /// Looks into an idle connection.
    #[must_use]
    pub fn peek(&self) -> Peek {
        match &self.tls {
            Some(tls) if !tls.is_quiet() => Peek::Stirred,
            _ => sys::peek(self.socket.fd()),
        }
    }

    /// The peer has ended its side.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.socket.is_hung_up()
    }

    // === the end ===

    /// Says that nothing more will be written.
    pub fn shutdown_write(&self) {
        self.close_tls();
        self.socket.shutdown_write();
    }

    /// Ends both directions without a word; operations that wait return.
    pub fn shutdown(&self) {
        sys::shutdown(self.socket.fd(), sys::Directions::Both);
    }

    /// Ends a connection that will not be used again.
    pub fn end(&self) {
        if !self.socket.is_cut() {
            self.close_tls();
        }
        self.socket.shutdown();
    }

    /// Closing will reset the connection: the peer sees that something was lost.
    pub fn reset_on_close(&self) {
        if let Some(tls) = &self.tls {
            tls.mute();
        }
        self.socket.reset_on_close();
    }

    fn close_tls(&self) {
        if let Some(tls) = &self.tls {
            tls.close();
        }
    }

    /// The error that a finished connect left.
    ///
    /// # Errors
    /// That error.
    pub fn take_error(&self) -> io::Result<()> {
        self.socket.take_error()
    }

    /// Our address on this connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<std::net::SocketAddr> {
        sys::local_address(self.socket.fd())
    }
}
