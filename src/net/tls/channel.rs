//! A TLS connection on its socket. Ciphertext is read into a buffer of its own and opened from
//! there into the reader's; data is sealed into another, which goes out in one call. All three come
//! from the shard's pool, and while nothing is under way none is held.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::session::{EARLY_RECORD, OVERHEAD, RECORD, Session, SessionState, TlsFault};
use crate::base::clock::Moment;
use crate::base::limits::{EARLY_DATA_MAX, TLS_PAUSE};
use crate::base::limits::{TLS_BATCH, TLS_BATCH_SLOW};
use crate::net::buffer::{Buffer, Buffers, Sealed};
use crate::net::size::Size;
use crate::net::socket::Socket;
use crate::net::sys;

/// TLS on a socket.
pub struct Channel {
    /// For words that are said without waiting.
    fd: RawFd,
    session: RefCell<Session>,
    buffers: Rc<Buffers>,
    /// Data that came with the end of the handshake.
    ahead: Cell<Option<Buffer>>,
    /// There is some.
    is_ahead: Cell<bool>,
    /// For the next read.
    size: Cell<Size>,
    /// Octets sent since the last pause, and when that was.
    flow: Cell<(usize, Moment)>,
    is_writing: Cell<bool>,
    /// Nothing more is said: the peer is gone, or must not take the end for an orderly one.
    is_mute: Cell<bool>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Channel {
    /// After a handshake. What has come behind it is opened at once: nothing is ever left in the
    /// session that could be.
    ///
    /// # Errors
    /// What has come cannot be opened; the peer is to be told what is due.
    pub(super) fn new(
        mut session: Session,
        socket: &Socket,
        buffers: &Rc<Buffers>,
    ) -> Result<Self, TlsFault> {
        let mut ahead = None;
        let early = session.take_early();
        if !early.is_empty() || !session.leftover().is_empty() {
            let mut plain = buffers.take(Size::fitting(early.len() + session.leftover().len()));
            plain.append(&early);
            session.open(&mut plain)?;
            if plain.is_empty() {
                buffers.give(plain);
            } else {
                ahead = Some(plain);
            }
        }
        if let Some(spare) = session.spare() {
            buffers.give(spare);
        }
        Ok(Self {
            fd: socket.fd(),
            session: RefCell::new(session),
            buffers: Rc::clone(buffers),
            is_ahead: Cell::new(ahead.is_some()),
            ahead: Cell::new(ahead),
            size: Cell::new(Size::Small),
            flow: Cell::new((0, Moment(0))),
            is_writing: Cell::new(false),
            is_mute: Cell::new(false),
        })
    }

    /// Something can be had without a look at the socket: data, or the end.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ahead.get() || self.session.borrow().has_ended()
    }

    /// Nothing has come that was not read.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.is_ready() && self.session.borrow().leftover().is_empty()
    }

    /// Reads data behind what is in the buffer, or into a larger one in its place. `Ok(0)` is an
    /// end that the peer has announced (RFC 8446 section 6.1); without that it is an error.
    pub(in crate::net) async fn recv(
        &self,
        socket: &Socket,
        mut plain: Buffer,
    ) -> (io::Result<usize>, Buffer) {
        if let Some(ahead) = self.ahead.take() {
            self.is_ahead.set(false);
            let len = ahead.len();
            plain = self.with_room(plain, len);
            plain.append(ahead.data());
            self.buffers.give(ahead);
            return (Ok(len), plain);
        }
        let before = plain.len();
        loop {
            if self.session.borrow().has_ended() {
                return (Ok(0), plain);
            }
            self.flush();
            let most = if plain.is_empty() { Size::Large } else { Size::Medium };
            if let Err(error) = self.fill(socket, most).await {
                self.is_mute.set(true);
                return (Err(error), plain);
            }
            let len = self.session.borrow().leftover().len();
            plain = self.with_room(plain, len);
            let opened = self.session.borrow_mut().open(&mut plain);
            let spare = self.session.borrow_mut().spare();
            if let Some(spare) = spare {
                self.buffers.give(spare);
            }
            match opened {
                Ok(_) if plain.len() > before => return (Ok(plain.len() - before), plain),
                Ok(SessionState::PeerClosed) => return (Ok(0), plain),
                // Something else than data: it may be long until more comes.
                Ok(_) => {
                    self.flush();
                    socket.readable().await;
                }
                Err(_) => {
                    self.flush();
                    self.is_mute.set(true);
                    return (Err(io::ErrorKind::InvalidData.into()), plain);
                }
            }
        }
    }

    /// Reads more ciphertext, into another buffer than the one that the session looks at. Reads grow
    /// with the flow.
    async fn fill(&self, socket: &Socket, most: Size) -> io::Result<()> {
        let left = self.session.borrow().leftover().len();
        let size =
            if left == 0 { self.size.get() } else { self.size.get().max(Size::fitting(2 * left)) };
        let mut raw = self.buffers.take(size.min(most).max(Size::fitting(left + 1)));
        raw.append(self.session.borrow().leftover());
        let (read, Sealed(raw)) = socket.recv(Sealed(raw)).await;
        if raw.space() == 0 {
            self.size.set(self.size.get().larger());
        } else if raw.len() < EARLY_RECORD {
            self.size.set(Size::Small);
        }
        match read {
            Ok(1..) => {
                let old = self.session.borrow_mut().feed(raw);
                old.into_iter().for_each(|old| self.buffers.give(old));
                Ok(())
            }
            end => {
                self.buffers.give(raw);
                end.and_then(|_| Err(io::ErrorKind::UnexpectedEof.into()))
            }
        }
    }

    fn with_room(&self, plain: Buffer, len: usize) -> Buffer {
        if plain.space() >= len {
            return plain;
        }
        let mut larger = self.buffers.take(Size::fitting(plain.len() + len));
        larger.append(plain.data());
        self.buffers.give(plain);
        larger
    }

    /// Sends data, in as few calls as it goes in.
    pub(in crate::net) async fn send_one(
        &self,
        socket: &Socket,
        data: &[u8],
        period: u32,
    ) -> io::Result<()> {
        self.send(socket, &[data], period).await
    }

    /// Sends pieces of data that lie apart.
    pub(in crate::net) async fn send(
        &self,
        socket: &Socket,
        pieces: &[&[u8]],
        period: u32,
    ) -> io::Result<()> {
        self.is_writing.set(true);
        let result = self.send_all(socket, pieces, period).await;
        self.is_writing.set(false);
        if result.is_err() {
            self.is_mute.set(true);
        }
        result
    }

    async fn send_all(&self, socket: &Socket, pieces: &[&[u8]], period: u32) -> io::Result<()> {
        let now = socket.watch().now();
        let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut rest = pieces.iter().copied().filter(|piece| !piece.is_empty());
        let mut piece: &[u8] = &[];
        while left > 0 {
            let record = self.record(now);
            let due = self.session.borrow().due().len();
            // A batch that the kernel does not take at once waits in our memory for a slow reader.
            let is_small = left <= TLS_BATCH_SLOW || !sys::has_room(self.fd, left.min(TLS_BATCH));
            let data = left.min(if is_small { TLS_BATCH_SLOW } else { TLS_BATCH });
            // Pieces are sealed one by one: each may end with a short record.
            let records = data / record + pieces.len().min(data) + 2;
            let mut out = self.buffers.take(Size::fitting(due + data + records * OVERHEAD));
            let mut batch = 0;
            while batch < data {
                if piece.is_empty() {
                    piece = rest.next().unwrap_or_default();
                }
                let part = &piece[..piece.len().min(data - batch).min(fitting(out.space()))];
                if part.is_empty() {
                    break;
                }
                let sealed = self.session.borrow_mut().seal(part, record, &mut out);
                if sealed.is_err() {
                    self.buffers.give(out);
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                piece = &piece[part.len()..];
                batch += part.len();
            }
            left -= batch;
            let (sent, Sealed(out)) = socket.send(Sealed(out), period).await;
            self.buffers.give(out);
            sent?;
            if batch == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let (flow, _) = self.flow.get();
            self.flow.set((flow.saturating_add(batch), now));
        }
        Ok(())
    }

    /// Data of a record, at most: small ones first, so that the peer can use what is there already;
    /// then large ones, which cost less.
    fn record(&self, now: Moment) -> usize {
        let (flow, last) = self.flow.get();
        if now.since(last) >= TLS_PAUSE {
            self.flow.set((0, now));
            return EARLY_RECORD;
        }
        if flow < EARLY_DATA_MAX { EARLY_RECORD } else { RECORD }
    }

    /// Sends what is due as far as it goes without waiting; the rest goes with the next data.
    pub(in crate::net) fn flush(&self) {
        if self.is_writing.get() || self.is_mute.get() {
            return;
        }
        let mut session = self.session.borrow_mut();
        if session.due().is_empty() {
            return;
        }
        match sys::send_pieces(self.fd, &[io::IoSlice::new(session.due())]) {
            Ok(len) => session.sent_due(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_mute.set(true),
        }
    }

    /// Says that nothing more will be sent, once.
    pub(in crate::net) fn close(&self) {
        if self.is_mute.get() || self.is_writing.get() {
            return;
        }
        self.session.borrow_mut().close();
        self.flush();
        self.is_mute.set(true);
    }

    /// The end must not look like an orderly one.
    pub(in crate::net) fn mute(&self) {
        self.is_mute.set(true);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}

/// How much data fits with its records, in the worst case.
const fn fitting(space: usize) -> usize {
    let records = space / EARLY_RECORD + 2;
    space.saturating_sub(records * OVERHEAD)
}
