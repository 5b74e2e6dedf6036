//! From an accepted socket to a client whose requests can be served: the PROXY header first, then
//! TLS, then what is spoken.

use std::net::SocketAddr;
use std::rc::Rc;

use super::preface;
use crate::base::clock::Moment;
use crate::base::error::Kind;
use crate::base::id::ListenerId;
use crate::base::limits::{LINGER, LINGER_BYTES};
use crate::exchange::state::ClientFacts;
use crate::exchange::tls_peer::TlsPeer;
use crate::message::hop::Client;
use crate::net::inbound::Inbound;
use crate::net::size::Size;
use crate::net::tls::handshake::{self, HandshakeRefusal, Means};
use crate::net::transport::Transport;
use crate::observe::record::Record;
use crate::protocol::pace::period;
use crate::shard::Shard;
use crate::wire::proxy_protocol::ReadHeader;

/// What is said in clear text to a client that speaks no TLS where TLS is spoken. The row of
/// `Kind::PlainOnTls`, before there is a request to answer.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Proxy-Status: millrace; error=http_request_error\r\nConnection: close\r\n\
    Content-Length: 80\r\n\r\n400 Bad Request\nThis port speaks HTTPS: write https:// in front of \
    the address.\n";

/// A client's connection.
pub struct ClientConnection {
    pub transport: Transport,
    pub inbound: Inbound,
    pub facts: ClientFacts,
    /// When it was accepted.
    pub born: Moment,
}

/// Lets a client in. `None` if it is gone, or was told why not.
pub async fn enter(
    shard: &Rc<Shard>,
    mut client: Box<ClientConnection>,
) -> Option<Box<ClientConnection>> {
    let model = shard.listener(client.facts.listener);
    if model.proxy_protocol && !client.read_proxy_header(shard).await {
        return None;
    }
    if model.tls.is_some() {
        return client.secure(shard).await;
    }
    Some(client)
}

impl ClientConnection {
    /// A connection that was accepted, and nothing more.
    pub fn new(
        shard: &Shard,
        transport: Transport,
        address: SocketAddr,
        listener: ListenerId,
    ) -> Box<Self> {
        let model = shard.listener(listener);
        let client = Client {
            address,
            is_trusted: model.trusts(address.ip()),
            is_secure: model.tls.is_some(),
        };
        let facts = ClientFacts { listener, client, tls: None };
        Box::new(Self { transport, inbound: Inbound::default(), facts, born: shard.now() })
    }

    /// Learns the client's true address from a proxy in front of us that may say so.
    async fn read_proxy_header(&mut self, shard: &Shard) -> bool {
        let model = shard.listener(self.facts.listener);
        self.transport.read_by(self.born.after(model.head_timeout));
        let inbound = &mut self.inbound;
        let (address, listener) = (self.facts.client.address, self.facts.listener);
        let header = preface::read(shard, &self.transport, inbound, address, listener).await;
        let Ok(header) = header else {
            // A check of a balancer connects and says nothing.
            if !self.inbound.is_empty() {
                shard.count(|counters| counters.no_proxy_header += 1);
                self.note(shard, Kind::ProxyProtocol);
            }
            return false;
        };
        self.transport.read_by(Moment::NEVER);
        if let Some(ReadHeader { source: Some(source), is_secure, .. }) = header {
            // The peer was trusted to name the client; the client itself is not trusted by that.
            self.facts.client.is_trusted = model.trusts(source.ip());
            self.facts.client.address = source;
            self.facts.client.is_secure = is_secure.unwrap_or(self.facts.client.is_secure);
        }
        true
    }

    /// Takes down what became of a connection that did not get as far as a request.
    fn note(&self, shard: &Shard, fault: Kind) {
        shard.note(Record { fault: Some(fault), ..Record::open(self.facts.client.peer(), 0) });
    }

    async fn secure(mut self: Box<Self>, shard: &Rc<Shard>) -> Option<Box<Self>> {
        let server = shard.server(self.facts.listener)?;
        let model = shard.listener(self.facts.listener);
        self.transport.read_by(self.born.after(model.tls_handshake));
        let means = Means { period: period(model.tls_handshake), ..shard.means() };
        let raw = self.inbound.take();
        let accepted = handshake::accept(self.transport.socket(), &server, raw, means).await;
        self.transport.read_by(Moment::NEVER);
        match accepted {
            Ok((greeting, channel)) => {
                self.transport.secure(channel);
                shard.count(|counters| counters.handshakes += 1);
                self.facts.tls = Some(Box::new(TlsPeer { greeting, server }));
                Some(self)
            }
            Err(HandshakeRefusal::Silent) => {
                shard.count(|counters| counters.silent += 1);
                None
            }
            Err(refused) => {
                shard.count(|counters| counters.handshake_failures += 1);
                let mut record = Record::open(self.facts.client.peer(), 0);
                let is_plain = matches!(refused, HandshakeRefusal::Plain);
                record.fault = Some(if is_plain { Kind::PlainOnTls } else { Kind::Handshake });
                record.detail = Some(refused.why());
                record.status = if is_plain { 400 } else { 0 };
                shard.note(record);
                match refused {
                    HandshakeRefusal::Plain => {
                        self.transport.say(PLAIN);
                        self.linger(shard).await;
                    }
                    HandshakeRefusal::Tls(_) => self.linger(shard).await,
                    HandshakeRefusal::Gone | HandshakeRefusal::Busy | HandshakeRefusal::Silent => {}
                }
                None
            }
        }
    }

    /// Says that we are through, and reads what the client still sends, within bounds.
    pub async fn linger(mut self: Box<Self>, shard: &Shard) {
        self.transport.shutdown_write();
        self.transport.read_by(shard.now().after(LINGER));
        let mut read = 0;
        while read < LINGER_BYTES {
            self.inbound.release(&shard.buffers);
            match self.inbound.fill(&self.transport, &shard.buffers, Size::Small).await {
                Ok(len @ 1..) => read += len as u64,
                _ => break,
            }
        }
        self.inbound.release(&shard.buffers);
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, PLAIN};

    #[test]
    fn the_last_word_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(body.contains(Kind::PlainOnTls.row().sentence));
    }
}
