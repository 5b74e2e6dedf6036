//! The two handshakes. Each flight goes out in one call, and what we owe at the end of one (a
//! client's Finished, a server's tickets) goes with the first data.

use crate::observe::record::TlsTerms;
use std::io;
use std::rc::Rc;

use rustls::pki_types::ServerName;

use super::channel::Channel;
use super::handshake_semaphore::{HandshakeSemaphore, Turn};
use super::reason;
use super::server::TlsServer;
use super::session::{Session, SessionState, TlsFault};
use super::subject;
use super::trust::TlsClient;
use crate::base::error::{Detail, Kind, Result};
use crate::config::tls::Alpn;
use crate::net::buffer::{Buffer, Buffers, Sealed};
use crate::net::size::Size;
use crate::net::socket::Socket;
use crate::net::sys;
use crate::wire::client_hello;

/// What a shard gives to handshakes.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    pub buffers: &'a Rc<Buffers>,
    pub turns: &'a Rc<HandshakeSemaphore>,
    /// Milliseconds in which the peer must take some of what is written.
    pub period: u32,
}

/// What is known of a client after its handshake.
#[derive(Clone, Debug, Default)]
pub struct HandshakeInfo {
    /// The name that it asked for, in lower case.
    pub name: Option<Box<str>>,
    pub protocol: Option<Alpn>,
    pub terms: TlsTerms,
    /// What its certificate says of it.
    pub told: Option<Box<subject::ClientIdentity>>,
}

/// Why a client did not get in.
#[derive(Debug)]
pub enum HandshakeRefusal {
    /// It does not speak TLS; this is what it said.
    Plain,
    /// It connected, and left without a word: a check of a balancer's.
    Silent,
    /// It left, or took too long.
    Gone,
    /// The handshake failed, which it was told.
    Tls(TlsFault),
    /// Too many are at it.
    Busy,
}

/// Secures a client's connection. `raw` is what was read of it before. The caller sets the
/// deadline.
///
/// # Errors
/// Why there is no secure connection.
pub async fn accept(
    socket: &Socket,
    server: &TlsServer,
    raw: Option<Buffer>,
    means: Means<'_>,
) -> std::result::Result<(HandshakeInfo, Channel), HandshakeRefusal> {
    let mut session = Session::server(&server.config).map_err(HandshakeRefusal::Tls)?;
    let is_there = match raw {
        Some(raw) => session.feed(raw).is_none(),
        None => {
            socket.readable().await;
            more(socket, &mut session, means.buffers).await
        }
    };
    if !is_there {
        return Err(if session.leftover().is_empty() {
            HandshakeRefusal::Silent
        } else {
            HandshakeRefusal::Gone
        });
    }
    // A handshake's record (RFC 8446 section 5.1); or an alert: one that has failed already.
    if !matches!(session.leftover().first(), Some(20..=22)) {
        return Err(HandshakeRefusal::Plain);
    }
    let mut name = None;
    loop {
        if name.is_none()
            && let Ok(Some(hello)) = client_hello::parse(session.leftover())
        {
            name = hello.name;
        }
        let turn = means.turns.take().await.ok_or(HandshakeRefusal::Busy)?;
        let refused = match session.shake() {
            Ok(SessionState::Open) => break,
            Ok(SessionState::Handshaking) => None,
            Ok(SessionState::PeerClosed) => Some(HandshakeRefusal::Gone),
            Err(fault) => Some(HandshakeRefusal::Tls(fault)),
        };
        give_back(turn, socket, &mut session).await;
        let is_told = flush(socket, &mut session, means).await;
        if let Some(refused) = refused {
            return Err(refused);
        }
        // What is left is a part of a message: only more makes a difference.
        if !is_told || !more(socket, &mut session, means.buffers).await {
            return Err(HandshakeRefusal::Gone);
        }
    }
    let facts = session.facts();
    let peer = facts.peer_certificates().and_then(|chain| chain.first());
    let greeting = HandshakeInfo {
        name: name.and_then(|name| String::from_utf8(name).ok().map(Into::into)),
        protocol: facts.alpn_protocol().and_then(Alpn::of),
        terms: TlsTerms {
            version: facts.protocol_version().map_or(0, u16::from),
            cipher: facts.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
        },
        told: peer.and_then(subject::told).map(Box::new),
    };
    let channel = Channel::new(session, socket, means.buffers).map_err(HandshakeRefusal::Tls)?;
    Ok((greeting, channel))
}

/// Secures a connection to an endpoint. The caller sets the deadline.
///
/// # Errors
/// `UpstreamCertificate` if its certificate is not for the name that was asked; `UpstreamTls` for everything else.
pub async fn connect(
    socket: &Socket,
    client: &TlsClient,
    name: ServerName<'static>,
    means: Means<'_>,
    tell: impl Fn(&dyn std::fmt::Display),
) -> Result<(Option<Alpn>, Channel)> {
    let mut session = Session::client(&client.config, name).map_err(|_| Kind::UpstreamTls)?;
    loop {
        match session.shake() {
            Ok(SessionState::Open) => break,
            Ok(SessionState::Handshaking) => {}
            Ok(SessionState::PeerClosed) => return Err(Kind::UpstreamTls),
            Err(fault) => {
                flush(socket, &mut session, means).await;
                if let TlsFault::Tls(error) = &fault {
                    tell(error);
                }
                return Err(kind(&fault));
            }
        }
        let is_told = flush(socket, &mut session, means).await;
        if !is_told || !more(socket, &mut session, means.buffers).await {
            return Err(Kind::UpstreamTls);
        }
    }
    let protocol = session.facts().alpn_protocol().and_then(Alpn::of);
    let channel = Channel::new(session, socket, means.buffers).map_err(|fault| kind(&fault))?;
    Ok((protocol, channel))
}

fn kind(fault: &TlsFault) -> Kind {
    match fault {
        TlsFault::Tls(rustls::Error::InvalidCertificate(_)) => Kind::UpstreamCertificate,
        _ => Kind::UpstreamTls,
    }
}

impl HandshakeRefusal {
    /// Why, for the access log.
    #[must_use]
    pub fn why(&self) -> Detail {
        Detail::new(match self {
            Self::Plain => "it speaks no TLS",
            Self::Silent => "it said nothing",
            Self::Gone => "the client left, or took too long",
            Self::Busy => "too many handshakes were under way",
            Self::Tls(TlsFault::Tls(error)) => reason::of(error),
            Self::Tls(_) => "what came is no TLS handshake",
        })
    }
}

/// Reads more behind what there is. False at the end.
async fn more(socket: &Socket, session: &mut Session, buffers: &Buffers) -> bool {
    let mut raw = buffers.take(Size::fitting(2 * session.leftover().len()));
    raw.append(session.leftover());
    let (read, Sealed(raw)) = socket.recv(Sealed(raw)).await;
    let old = match read {
        Ok(1..) => session.feed(raw),
        _ => Some(raw),
    };
    old.into_iter().for_each(|old| buffers.give(old));
    matches!(read, Ok(1..))
}

/// Sends what the socket takes at once, and ends the turn: after the loop has gone round, so that other
/// tasks run between two handshakes, but without waiting for the peer, which may never read.
async fn give_back(turn: Turn, socket: &Socket, session: &mut Session) {
    if !session.due().is_empty()
        && let Ok(len) = sys::send_pieces(socket.fd(), &[io::IoSlice::new(session.due())])
    {
        session.sent_due(len);
    }
    if sys::is_writable(socket.fd()) {
        socket.writable().await;
    }
    drop(turn);
}

/// Sends a flight.
async fn flush(socket: &Socket, session: &mut Session, means: Means<'_>) -> bool {
    while !session.due().is_empty() {
        let mut out = means.buffers.take(Size::fitting(session.due().len()));
        session.put_due(&mut out);
        let (sent, Sealed(out)) = socket.send(Sealed(out), means.period).await;
        means.buffers.give(out);
        if sent.is_err() {
            return false;
        }
    }
    true
}
