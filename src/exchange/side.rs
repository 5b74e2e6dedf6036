//! The client's side of an exchange: its connection, and what has been answered so far.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use super::secure::Secured;
use crate::base::error::Detail;
use crate::base::id::ListenerId;
use crate::cache::status::Status;
use crate::message::hop::{Client, Kept};
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;

/// The client's side.
pub struct Downstream<'a> {
    pub stream: &'a Stream,
    pub inbound: &'a mut Inbound,
    pub listener: ListenerId,
    pub client: &'a Client,
    /// What is known of its TLS connection.
    pub secured: Option<&'a Secured>,
    /// The lines that this connection's requests get.
    pub kept: &'a RefCell<Kept>,
    /// Address and port of the client, as far as we believe it.
    pub address: SocketAddr,
    /// Nothing but this exchange speaks against keeping the connection.
    pub may_keep: bool,
    pub answer: &'a Answer,
}

/// What has been answered. Cells, because the request's body and the answer are relayed at once.
#[derive(Debug, Default)]
pub struct Answer {
    /// The final head is on its way: no other can be sent.
    pub begun: Cell<bool>,
    /// The client was told that the connection stays.
    pub keeps: Cell<bool>,
    /// The whole request body was read, and passed on.
    pub body_done: Cell<bool>,
    /// All of the request has come, passed on or not.
    pub has_come: Cell<bool>,
    /// If it ends now, only a reset tells the client that something is missing.
    pub ends_by_close: Cell<bool>,
    /// The connection became a tunnel, which has ended.
    pub was_tunnel: Cell<bool>,
    pub status: Cell<u16>,
    /// What exactly went wrong, if that is known.
    pub detail: Cell<Option<Detail>>,
    /// What the cache did, where it was asked.
    pub cache: Cell<Option<Status>>,
    /// Octets of the request's body.
    pub received: Cell<u64>,
    /// Octets of the response's body.
    pub sent: Cell<u64>,
}

/// What becomes of a client's connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It may carry another request.
    Keep,
    /// It ends, and what the client still sends is read for a while, so that our last words are
    /// not lost to a reset (RFC 9112 section 9.6).
    Linger,
    /// It is closed at once.
    Close,
}

impl Downstream<'_> {
    /// What becomes of the connection.
    #[must_use]
    pub fn next(&self, is_whole: bool) -> Next {
        if !is_whole {
            // Only a reset tells that something is missing.
            if self.answer.ends_by_close.get() || self.stream.as_strand().is_some() {
                self.stream.reset_on_close();
            }
            return Next::Close;
        }
        if self.answer.was_tunnel.get() {
            return Next::Close;
        }
        if self.answer.keeps.get() && self.answer.body_done.get() {
            return Next::Keep;
        }
        Next::Linger
    }
}
