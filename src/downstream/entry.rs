//! From an accepted socket to somebody whose requests can be served: the PROXY header first, then
//! TLS, then what is spoken.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::preface;
use crate::base::clock::{Moment, millis};
use crate::base::error::Kind;
use crate::base::id::ListenerId;
use crate::base::limits::{LINGER, LINGER_BYTES};
use crate::exchange::secure::Secured;
use crate::message::hop::{AddressText, Client};
use crate::net::buffer::Size;
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;
use crate::net::tls::handshake::{self, Means, Refused};
use crate::observe::record::Record;
use crate::shard::Shard;
use crate::wire::proxy_protocol::Header;

/// What is said in clear text to who speaks no TLS where TLS is spoken. The row of
/// `Kind::PlainOnTls`, before there is a request to answer.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Proxy-Status: millrace; error=http_request_error\r\nConnection: close\r\n\
    Content-Length: 80\r\n\r\n400 Bad Request\nThis port speaks HTTPS: write https:// in front of \
    the address.\n";

/// A client that may speak now.
pub struct Visitor {
    pub stream: Stream,
    pub inbound: Inbound,
    /// Address and port, as far as we believe them.
    pub address: SocketAddr,
    pub client: Client,
    pub listener: ListenerId,
    /// When it was accepted.
    pub born: Moment,
    /// What it said in its TLS handshake.
    pub greeting: Option<Box<Secured>>,
}

/// Lets a client in. `None` if it is gone, or was told why not.
pub async fn enter(shard: &Rc<Shard>, mut visitor: Box<Visitor>) -> Option<Box<Visitor>> {
    let model = shard.listener(visitor.listener);
    if model.proxy_protocol && !visitor.read_proxy_header(shard).await {
        return None;
    }
    if model.tls.is_some() {
        return visitor.secure(shard).await;
    }
    Some(visitor)
}

impl Visitor {
    /// Somebody who was accepted, of whom nothing is known yet.
    pub fn new(
        shard: &Shard,
        stream: Stream,
        address: SocketAddr,
        listener: ListenerId,
    ) -> Box<Self> {
        let model = shard.listener(listener);
        Box::new(Self {
            stream,
            inbound: Inbound::default(),
            address,
            client: Client {
                peer: address.ip(),
                text: AddressText::new(address.ip()),
                is_trusted: model.trusts(address.ip()),
                is_secure: model.tls.is_some(),
            },
            listener,
            born: shard.now(),
            greeting: None,
        })
    }

    /// Learns who it really is from a proxy in front of us that may say so.
    async fn read_proxy_header(&mut self, shard: &Shard) -> bool {
        let model = shard.listener(self.listener);
        self.stream.read_by(self.born.after(model.head_timeout));
        let inbound = &mut self.inbound;
        let header = preface::read(shard, &self.stream, inbound, self.address, self.listener).await;
        let Ok(header) = header else {
            // A check of a balancer connects and says nothing.
            if !self.inbound.is_empty() {
                shard.count(|counters| counters.no_proxy_header += 1);
                self.note(shard, Kind::ProxyProtocol);
            }
            return false;
        };
        self.stream.read_by(Moment::NEVER);
        if let Some(Header { source: Some(source), is_secure, .. }) = header {
            self.address = source;
            // The peer was trusted to say who connected; that one is a stranger again.
            self.client.is_trusted = model.trusts(source.ip());
            self.client.peer = source.ip();
            self.client.is_secure = is_secure.unwrap_or(self.client.is_secure);
            self.client.text = AddressText::new(source.ip());
        }
        true
    }

    /// Takes down what became of a connection that did not get as far as a request.
    fn note(&self, shard: &Shard, fault: Kind) {
        shard.note(Record { fault: Some(fault), ..Record::open(self.client.peer, Duration::ZERO) });
    }

    async fn secure(mut self: Box<Self>, shard: &Rc<Shard>) -> Option<Box<Self>> {
        let server = shard.server(self.listener)?;
        let model = shard.listener(self.listener);
        self.stream.read_by(self.born.after(model.tls_handshake));
        let means = Means {
            period: u32::try_from(millis(model.tls_handshake) / 2).unwrap_or(u32::MAX),
            ..shard.means()
        };
        let raw = self.inbound.take();
        let accepted = handshake::accept(&mut self.stream, &server, raw, means).await;
        self.stream.read_by(Moment::NEVER);
        match accepted {
            Ok(greeting) => {
                shard.count(|counters| counters.handshakes += 1);
                self.greeting = Some(Box::new(Secured { greeting, server }));
                Some(self)
            }
            Err(Refused::Silent) => {
                shard.count(|counters| counters.silent += 1);
                None
            }
            Err(refused) => {
                shard.count(|counters| counters.handshake_failures += 1);
                let mut record = Record::open(self.client.peer, Duration::ZERO);
                let is_plain = matches!(refused, Refused::Plain);
                record.fault = Some(if is_plain { Kind::PlainOnTls } else { Kind::Handshake });
                record.detail = Some(refused.why());
                record.status = if is_plain { 400 } else { 0 };
                shard.note(record);
                match refused {
                    Refused::Plain => {
                        self.stream.say(PLAIN);
                        self.linger(shard).await;
                    }
                    Refused::Tls(_) => self.linger(shard).await,
                    Refused::Gone | Refused::Busy | Refused::Silent => {}
                }
                None
            }
        }
    }

    /// Says that we are through, and reads what the client still sends, within bounds.
    pub async fn linger(mut self: Box<Self>, shard: &Shard) {
        self.stream.shutdown_write();
        self.stream.read_by(shard.now().after(LINGER));
        let mut read = 0;
        while read < LINGER_BYTES {
            self.inbound.release(&shard.buffers);
            match self.inbound.fill(&self.stream, &shard.buffers, Size::Small).await {
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
