//! A connected socket, TCP or Unix: owned buffers go in and come back, deadlines are set on it, and no operation
//! on it is ever dropped half-way.

#![expect(unsafe_code, reason = "reading and writing at once through one monoio stream")]

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::buffer::Outgoing;
use super::deadline::Class;
use super::sweep::{SocketWatch, Sweep};
use super::sys::{self, Directions};

/// Pieces that go out in one call.
const PIECES_AT_ONCE: usize = 16;

/// A connection to a client or an endpoint, as the kernel sees it.
pub struct Socket {
    // Dropped first: the sweep must forget the descriptor before it is closed.
    watch: SocketWatch,
    fd: RawFd,
    class: Class,
    /// Its close will be a reset.
    is_cut: Cell<bool>,
    /// monoio sends and receives on any stream socket; its `TcpStream` is also our Unix stream.
    inner: UnsafeCell<TcpStream>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("fd", &self.fd).finish()
    }
}

impl Socket {
    /// Takes over a socket, which must not block.
    ///
    /// # Errors
    /// What the driver says when it cannot register the socket.
    pub fn new(socket: OwnedFd, sweep: &Rc<Sweep>, class: Class) -> io::Result<Self> {
        let fd = socket.as_raw_fd();
        let inner = UnsafeCell::new(into_monoio(socket)?);
        Ok(Self { watch: sweep.watch(fd, class), fd, class, is_cut: Cell::default(), inner })
    }

    /// The descriptor, for calls that do not wait.
    #[must_use]
    pub const fn fd(&self) -> RawFd {
        self.fd
    }

    /// Its deadlines.
    #[must_use]
    pub const fn watch(&self) -> &SocketWatch {
        &self.watch
    }

    /// Waits until something can be read, or the peer has closed. Holds no buffer meanwhile.
    pub async fn readable(&self) {
        // An error shows again in the read that follows.
        let _ = self.shared().readable(false).await;
    }

    /// Whether a read should wait for readiness before a buffer is taken for it. On epoll this is left out for
    /// upstreams: there it costs two system calls more, and an answer is on its way.
    pub(super) fn waits_first(&self) -> bool {
        self.class == Class::Downstream || is_ring()
    }

    /// Waits until something can be written, or a connect is through.
    pub async fn writable(&self) {
        let _ = self.shared().writable(false).await;
    }

    /// Reads behind what is in the buffer. `Ok(0)` is the end, or a deadline.
    pub async fn recv<B: IoBufMut>(&self, mut buffer: B) -> (io::Result<usize>, B) {
        loop {
            let (result, back) = self.exclusive().read(buffer).await;
            if !is_would_block(&result) {
                return (result, back);
            }
            buffer = back;
            self.readable().await;
        }
    }

    /// Writes everything that is in the buffer and hands it back, empty if all went well. The peer must take
    /// some of it every `period` milliseconds or so.
    pub async fn send<B: Outgoing>(&self, mut buffer: B, period: u32) -> (io::Result<()>, B) {
        self.watch.write_within(period);
        let result = loop {
            let (sent, back) = self.exclusive().write(buffer).await;
            buffer = back;
            match self.took(sent, &mut buffer) {
                Took::All(len) => break Ok(len),
                Took::Some => {}
                Took::Nothing => self.writable().await,
                Took::Fault(error) => break Err(error),
            }
        };
        self.watch.write_done(*result.as_ref().unwrap_or(&0));
        (result.map(|_| ()), buffer)
    }

    /// Writes pieces that lie apart, in as few calls as they go in: at once, by the calling thread, for
    /// they stay where they are. What does not go at once goes when there is room.
    ///
    /// # Errors
    /// As `send`.
    pub async fn send_pieces(&self, pieces: &[&[u8]], period: u32) -> io::Result<()> {
        self.watch.write_within(period);
        let (mut at, mut skip) = (0, 0);
        let result = loop {
            // What is empty would look like the end.
            while pieces.get(at).is_some_and(|piece| skip >= piece.len()) {
                skip -= pieces[at].len();
                at += 1;
            }
            if at == pieces.len() {
                break Ok(0);
            }
            let mut slices = [io::IoSlice::new(b""); PIECES_AT_ONCE];
            let count = PIECES_AT_ONCE.min(pieces.len() - at);
            for (slice, piece) in slices.iter_mut().zip(&pieces[at..at + count]) {
                *slice = io::IoSlice::new(piece);
            }
            slices[0] = io::IoSlice::new(&pieces[at][skip..]);
            match sys::send_pieces(self.fd, &slices[..count]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    skip += len;
                    self.watch.wrote(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.watch.write_done(*result.as_ref().unwrap_or(&0));
        result.map(|_| ())
    }

    /// Says something that need not arrive, without waiting.
    pub fn say(&self, bytes: &[u8]) {
        sys::last_word(self.fd, bytes);
    }

    /// The peer has ended its side.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        sys::is_hung_up(self.fd)
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&self) {
        sys::shutdown(self.fd, Directions::Write);
    }

    /// Ends both directions; operations that wait return.
    pub fn shutdown(&self) {
        if self.is_cut.get() {
            return sys::disconnect(self.fd);
        }
        sys::shutdown(self.fd, Directions::Both);
    }

    /// Its close will be a reset: the peer sees that something was lost.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Closing will reset the connection: the peer sees that something was lost.
    pub fn reset_on_close(&self) {
        self.is_cut.set(true);
        sys::reset_on_close(self.fd);
    }

    /// The error that a finished connect left.
    ///
    /// # Errors
    /// That error.
    pub fn take_error(&self) -> io::Result<()> {
        sys::take_error(self.fd)
    }

    fn shared(&self) -> &TcpStream {
        // SAFETY: the value is neither moved nor replaced while `self` lives, and the only methods
        // that take it exclusively hold no reference to its fields across an await (see below).
        unsafe { &*self.inner.get() }
    }

    #[expect(clippy::mut_from_ref, reason = "see the safety comment")]
    fn exclusive(&self) -> &mut TcpStream {
        // SAFETY: monoio declares `TcpStream: Split`: reads and writes may run at once. Both copy
        // the reference-counted descriptor into the operation when they are called and touch no
        // field afterwards, so no two live references are used at the same time; and a Socket is
        // neither Send nor Sync.
        unsafe { &mut *self.inner.get() }
    }

    /// What a write has done, and what follows.
    fn took<B: Outgoing>(&self, sent: io::Result<usize>, buffer: &mut B) -> Took {
        match sent {
            Ok(len) if len == buffer.len() => {
                buffer.consume(len);
                Took::All(len)
            }
            Ok(0) => Took::Fault(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                buffer.consume(len);
                self.watch.wrote(len);
                Took::Some
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Took::Nothing,
            Err(error) => Took::Fault(error),
        }
    }
}

/// What became of a write.
enum Took {
    All(usize),
    Some,
    Nothing,
    Fault(io::Error),
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
