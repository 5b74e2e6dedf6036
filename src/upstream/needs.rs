//! What a try at an endpoint needs to know, and a connection that was dialled for it.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::base::clock::Moment;
use crate::config::model;
use crate::net::alarm::Alarms;
use crate::net::connect::Peer;
use crate::net::sweep::Sweep;
use crate::net::tls::handshake::Means;
use crate::net::transport::Transport;

/// What a try needs to know.
#[derive(Clone, Copy)]
pub struct Needs<'a> {
    pub sweep: &'a Rc<Sweep>,
    pub alarms: &'a Rc<Alarms>,
    /// For a TLS handshake.
    pub means: Means<'a>,
    pub http2: &'a model::Http2,
    pub now: Moment,
    pub timeouts: &'a model::Timeouts,
    /// The client: told to the endpoint if the cluster says so.
    pub client: SocketAddr,
    /// A pooled connection has just failed; only a new one will do.
    pub fresh: bool,
}

/// A new connection, of the endpoint as it was when it was dialled.
pub struct Dialled {
    pub transport: Transport,
    pub peer: Peer,
    pub generation: u32,
}
