//! One TLS connection without its socket: what was received goes in, what must be sent comes out.
//! Nothing here waits.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, ServerConfig};

use crate::base::limits::{TLS_DUE_MAX, TLS_EMPTY_RECORDS_MAX, TLS_HANDSHAKE_MAX};
use crate::net::buffer::Buffer;

/// What a record takes on top of its data, in the version that takes most: header, explicit nonce or
/// content type, tag (RFC 8446 section 5.2; RFC 5246 section 6.2.3).
pub const OVERHEAD: usize = 48;
/// Data of one record, at most (RFC 8446 section 5.1).
pub const RECORD: usize = 16 * 1024;
/// Data of a record while a flow is young: with its overhead in three segments, so that the peer
/// can use what has come before the rest is there.
pub const EARLY_RECORD: usize = 4 * 1024 - OVERHEAD;

/// What became of octets that were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// More is needed before anything else can happen.
    Handshaking,
    /// Data may be sent and received.
    Open,
    /// The peer has said that nothing more comes.
    PeerClosed,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum TlsFault {
    /// What the peer sent, or what it is.
    Tls(rustls::Error),
    /// It makes us work without getting on (exam L09).
    Flood,
}

impl From<rustls::Error> for TlsFault {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// One connection's state.
pub struct Session {
    side: Rustls,
    /// What was received and not used up. It stays here while more is read into another buffer, for
    /// rustls remembers places in it and wants to see it whenever it is asked anything.
    raw: Option<Buffer>,
    /// Records that go out before any other: handshake, tickets, alerts.
    due: Vec<u8>,
    /// Data that came in one go with the end of the handshake: the side that resumes by TLS 1.2 speaks last.
    early: Vec<u8>,
    has_ended: bool,
    is_broken: bool,
    /// Octets received of a handshake that is not through.
    greeting: usize,
    /// Records without data, one after the other.
    empty: u32,
}

enum Rustls {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("due", &self.due.len()).finish_non_exhaustive()
    }
}

/// What one step of rustls brought.
enum TlsStep {
    Again,
    Data,
    Blocked,
    Open,
    PeerClosed,
}

impl Session {
    /// A client is about to connect.
    ///
    /// # Errors
    /// The configuration is of no use.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, TlsFault> {
        Ok(Self::new(Rustls::Server(UnbufferedServerConnection::new(Arc::clone(config))?)))
    }

    /// Speaks first.
    ///
    /// # Errors
    /// The configuration is of no use.
    pub fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsFault> {
        Ok(Self::new(Rustls::Client(UnbufferedClientConnection::new(Arc::clone(config), name)?)))
    }

    const fn new(side: Rustls) -> Self {
        Self {
            side,
            raw: None,
            due: Vec::new(),
            early: Vec::new(),
            has_ended: false,
            is_broken: false,
            greeting: 0,
            empty: 0,
        }
    }

    /// What rustls knows of the connection.
    #[must_use]
    pub fn facts(&self) -> &CommonState {
        match &self.side {
            Rustls::Server(one) => one,
            Rustls::Client(one) => one,
        }
    }

    /// What was received and not used up: a buffer that more is read into begins with this.
    #[must_use]
    pub fn leftover(&self) -> &[u8] {
        self.raw.as_ref().map_or(&[], Buffer::data)
    }

    /// Takes what was received, with the leftover in front of it, and hands the buffer back that was
    /// there.
    pub fn feed(&mut self, raw: Buffer) -> Option<Buffer> {
        debug_assert!(raw.data().starts_with(self.leftover()), "nothing is lost");
        self.raw.replace(raw)
    }

    /// The buffer, if nothing is left in it.
    pub fn spare(&mut self) -> Option<Buffer> {
        self.raw.take_if(|raw| raw.is_empty())
    }

    /// Goes on with a handshake. Stops when it is through: what has come behind it stays.
    ///
    /// # Errors
    /// The handshake failed; what is due then tells the peer why.
    pub fn shake(&mut self) -> Result<SessionState, TlsFault> {
        if self.greeting > TLS_HANDSHAKE_MAX || self.leftover().len() > TLS_HANDSHAKE_MAX {
            return Err(TlsFault::Flood);
        }
        while self.facts().is_handshaking() {
            let before = self.leftover().len();
            let step = self.step(None);
            self.greeting += before - self.leftover().len();
            match step? {
                TlsStep::Again | TlsStep::Data => {}
                TlsStep::Blocked | TlsStep::Open => return Ok(SessionState::Handshaking),
                TlsStep::PeerClosed => return Ok(SessionState::PeerClosed),
            }
        }
        // What ends a handshake may still have to be written down (RFC 5246 section 7.4.9).
        while self.facts().wants_write() {
            self.step(None)?;
        }
        Ok(SessionState::Open)
    }

    /// Uses up what was received and puts the data behind that in `plain`, which must have room for
    /// as much as the leftover.
    ///
    /// # Errors
    /// The connection cannot go on; what is due then tells the peer why.
    pub fn open(&mut self, plain: &mut Buffer) -> Result<SessionState, TlsFault> {
        debug_assert!(plain.space() >= self.leftover().len(), "there is room");
        loop {
            if self.has_ended {
                return Ok(SessionState::PeerClosed);
            }
            let before = plain.len();
            match self.step(Some(plain))? {
                TlsStep::Again => {}
                TlsStep::Data => self.count(plain.len() > before)?,
                TlsStep::Blocked => return Ok(SessionState::Handshaking),
                TlsStep::Open => return Ok(SessionState::Open),
                TlsStep::PeerClosed => self.has_ended = true,
            }
        }
    }

    /// Puts records with this data behind what is in `out`, `due` first; `out` must have room
    /// for them. `record` is the data of one record at most.
    ///
    /// # Errors
    /// Nothing can be sent on this connection any more.
    pub fn seal(&mut self, data: &[u8], record: usize, out: &mut Buffer) -> Result<(), TlsFault> {
        self.settle()?;
        self.put_due(out);
        for part in data.chunks(record) {
            let len = self.write(&Op::Data(part), out.spare())?;
            out.filled(len);
        }
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub fn close(&mut self) {
        let mut record = [0; 128];
        if self.settle().is_ok()
            && let Ok(len) = self.write(&Op::Close, &mut record)
        {
            self.due.extend_from_slice(&record[..len]);
        }
    }

    /// Data that came in one go with the end of the handshake.
    pub fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }

    /// What goes out before anything else.
    #[must_use]
    pub fn due(&self) -> &[u8] {
        &self.due
    }

    /// So much of it was sent.
    pub fn sent_due(&mut self, len: usize) {
        self.due.drain(..len);
        if self.due.is_empty() {
            // Tickets and certificates are a few KiB, once.
            self.due = Vec::new();
        }
    }

    /// Moves as much of it as there is room for.
    pub fn put_due(&mut self, out: &mut Buffer) {
        let len = self.due.len().min(out.space());
        out.append(&self.due[..len]);
        self.sent_due(len);
    }

    /// The peer has said that nothing more comes.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Records without data bring no exchange on.
    fn count(&mut self, has_data: bool) -> Result<(), TlsFault> {
        self.empty = if has_data { 0 } else { self.empty + 1 };
        if self.empty > TLS_EMPTY_RECORDS_MAX { Err(TlsFault::Flood) } else { Ok(()) }
    }

    /// One step; a fault brings the alert that tells the peer of it.
    fn step(&mut self, plain: Option<&mut Buffer>) -> Result<TlsStep, TlsFault> {
        // After a fault rustls wants to be left alone.
        if self.is_broken {
            return Err(rustls::Error::EncryptError.into());
        }
        let step = self.process(plain);
        if step.is_err() {
            self.is_broken = true;
            while self.facts().wants_write() && matches!(self.process(None), Ok(TlsStep::Again)) {}
        } else if self.due.len() > TLS_DUE_MAX {
            return Err(TlsFault::Flood);
        }
        step
    }

    fn process(&mut self, plain: Option<&mut Buffer>) -> Result<TlsStep, TlsFault> {
        let incoming = self.raw.as_mut().map_or(&mut [][..], Buffer::data_mut);
        let out = (&mut self.due, &mut self.early, plain);
        let (discard, step) = match &mut self.side {
            Rustls::Server(one) => advance(one.process_tls_records(incoming), out),
            Rustls::Client(one) => advance(one.process_tls_records(incoming), out),
        };
        if let Some(raw) = &mut self.raw {
            raw.consume(discard);
        }
        step
    }

    /// Goes on until data can be sent: what is due until then is due before it.
    fn settle(&mut self) -> Result<(), TlsFault> {
        loop {
            match self.step(None)? {
                TlsStep::Open => return Ok(()),
                TlsStep::Again | TlsStep::Data => {}
                // Said twice, it means that both have ended.
                TlsStep::PeerClosed if self.has_ended => {
                    return Err(rustls::Error::EncryptError.into());
                }
                TlsStep::PeerClosed => self.has_ended = true,
                TlsStep::Blocked => return Err(rustls::Error::HandshakeNotComplete.into()),
            }
        }
    }

    /// Only when settled.
    fn write(&mut self, op: &Op<'_>, out: &mut [u8]) -> Result<usize, TlsFault> {
        let incoming = self.raw.as_mut().map_or(&mut [][..], Buffer::data_mut);
        let written = match &mut self.side {
            Rustls::Server(one) => act(one.process_tls_records(incoming), op, out),
            Rustls::Client(one) => act(one.process_tls_records(incoming), op, out),
        };
        written.ok_or(TlsFault::Tls(rustls::Error::EncryptError))
    }
}

/// What is written when nothing else is due.
enum Op<'a> {
    Data(&'a [u8]),
    Close,
}

fn act<D>(status: UnbufferedStatus<'_, '_, D>, op: &Op<'_>, out: &mut [u8]) -> Option<usize> {
    let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else { return None };
    match op {
        Op::Data(data) => traffic.encrypt(data, out).ok(),
        Op::Close => traffic.queue_close_notify(out).ok(),
    }
}

/// Does what rustls asks for.
fn advance<D>(
    status: UnbufferedStatus<'_, '_, D>,
    (due, early, plain): (&mut Vec<u8>, &mut Vec<u8>, Option<&mut Buffer>),
) -> (usize, Result<TlsStep, TlsFault>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut out = plain;
            loop {
                match traffic.next_record() {
                    None => break Ok(TlsStep::Data),
                    Some(Err(error)) => break Err(error.into()),
                    Some(Ok(record)) => {
                        discard += record.discard;
                        match &mut out {
                            Some(plain) if plain.space() >= record.payload.len() => {
                                plain.append(record.payload);
                            }
                            // No task asked for data yet. It is no more than what was read.
                            None if early.len() <= TLS_HANDSHAKE_MAX => {
                                early.extend_from_slice(record.payload);
                            }
                            _ => break Err(TlsFault::Flood),
                        }
                    }
                }
            }
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(&mut data, due);
            Ok(TlsStep::Again)
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            // It is as good as sent: nothing goes out before it.
            transmit.done();
            Ok(TlsStep::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(TlsStep::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(TlsStep::Open),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(TlsStep::PeerClosed),
        // Early data is off; anything else is unheard of.
        Ok(_) => Err(TlsFault::Flood),
    };
    (discard, step)
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, due: &mut Vec<u8>) {
    let at = due.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        due.resize(at + size.required_size, 0);
        let written = data.encode(&mut due[at..]).unwrap_or(0);
        due.truncate(at + written);
    }
}
