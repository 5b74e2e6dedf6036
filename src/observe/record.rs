//! One exchange's facts. Filled in along the way by plain stores; turned into text elsewhere, by
//! the log's own thread.

use std::net::{IpAddr, SocketAddr};

use crate::base::clock::Micros;
use crate::base::error::{Detail, Kind};
use crate::base::id::{ClusterId, EndpointId, ListenerId, RouteId};
use crate::base::limits::LOG_TEXT_MAX;
use crate::message::head::{RequestHead, Version};
use crate::message::name::Name;

/// What both ends of a TLS connection agreed on, by the numbers of the IANA registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsTerms {
    pub version: u16,
    pub cipher: u16,
}

/// Why an exchange went to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// There is no other.
    Only,
    /// The balancer chose it.
    Balanced,
    /// The client's cookie says so.
    Sticky,
    /// It was put out, and this one request tries whether it works again.
    Trial,
    /// All that could be chosen were put out.
    Ejected,
    /// The checks call all of them down.
    Down,
    /// Another address of the name did not take the connection.
    Sibling,
}

impl Choice {
    /// In a word, for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::Balanced => "balanced",
            Self::Sticky => "sticky",
            Self::Trial => "trial",
            Self::Ejected => "all_ejected",
            Self::Down => "all_down",
            Self::Sibling => "sibling",
        }
    }
}

/// What happened in one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The status that the client was given; 0 if none.
    pub status: u16,
    /// What went wrong, if anything did.
    pub fault: Option<Kind>,
    /// What exactly that was.
    pub detail: Option<Detail>,
    /// The listener that the client came in by; none in a refresh of the cache.
    pub listener: Option<ListenerId>,
    pub route: Option<RouteId>,
    pub cluster: Option<ClusterId>,
    pub endpoint: Option<EndpointId>,
    pub choice: Option<Choice>,
    /// Which address of its name was used, where it is a name.
    pub address: Option<SocketAddr>,
    /// What the cache did, in a word, if it was asked.
    pub cache: Option<&'static str>,
    /// Tries at upstreams.
    pub attempts: u8,
    /// The last try used a pooled connection.
    pub reused: bool,
    /// Octets of the request's body.
    pub bytes_in: u64,
    /// Octets of the response's body.
    pub bytes_out: u64,
    /// The client.
    pub client: IpAddr,
    /// When it began, if the access log shows it.
    pub started: Micros,
    /// How long it took.
    pub took: Micros,
    /// From the beginning to the head of the endpoint's answer, where that is measured.
    pub upstream: Micros,
    /// Microseconds in which it waited for an endpoint with room, and for new connections to open; up to an hour.
    pub queued: u32,
    pub connecting: u32,
    /// What the endpoint was asked in.
    pub upstream_version: Option<Version>,
    /// The exchange is a span of a trace that is recorded, below this one of its client's; zero for none.
    pub is_sampled: bool,
    pub parent: u64,
    /// What the client's connection is encrypted with.
    pub tls: Option<TlsTerms>,
    /// When it ended, on the wall clock.
    pub wall: u64,
}

impl Record {
    /// One more try, at this endpoint.
    pub fn try_at(&mut self, endpoint: EndpointId) {
        self.endpoint = Some(endpoint);
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Begins.
    #[must_use]
    pub fn open(client: IpAddr, started: Micros) -> Self {
        Self {
            status: 0,
            fault: None,
            detail: None,
            listener: None,
            route: None,
            cluster: None,
            endpoint: None,
            choice: None,
            address: None,
            cache: None,
            attempts: 0,
            reused: false,
            bytes_in: 0,
            bytes_out: 0,
            client,
            started,
            took: 0,
            upstream: 0,
            queued: 0,
            connecting: 0,
            upstream_version: None,
            is_sampled: false,
            parent: 0,
            tls: None,
            wall: 0,
        }
    }
}

/// A piece of a batch's text.
pub type TextSpan = (u32, u32);

/// A record and the texts that go with it.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry {
    pub record: Record,
    pub version: Version,
    pub method: TextSpan,
    pub host: TextSpan,
    pub target: TextSpan,
    pub request_id: TextSpan,
    pub referer: TextSpan,
    pub user_agent: TextSpan,
    pub traceparent: TextSpan,
}

/// Entries on their way to the writer. Making one formats nothing.
#[derive(Debug, Default)]
pub struct Batch {
    pub entries: Vec<LogEntry>,
    /// Whose they are.
    pub worker: u16,
    text: Vec<u8>,
}

impl Batch {
    /// Adds an exchange.
    pub fn push(&mut self, record: Record, head: &RequestHead) {
        let (path, query) = head.original();
        let target =
            self.keep(&[path, if query.is_some() { b"?" } else { b"" }, query.unwrap_or_default()]);
        let traceparent = head.fields.values_named(b"traceparent").next().unwrap_or_default();
        let field = |name| head.fields.values(name).next().unwrap_or_default();
        let entry = LogEntry {
            record,
            version: head.version,
            method: self.keep(&[head.method_text()]),
            host: self.keep(&[head.authority()]),
            target,
            request_id: self.keep(&[field(Name::XRequestId)]),
            referer: self.keep(&[field(Name::Referer)]),
            user_agent: self.keep(&[field(Name::UserAgent)]),
            traceparent: self.keep(&[traceparent]),
        };
        self.entries.push(entry);
    }

    /// How much waits: octets of text, and one for each entry, which may have none.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len() + self.entries.len()
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The text of a piece.
    #[must_use]
    pub fn text(&self, piece: TextSpan) -> &[u8] {
        &self.text[piece.0 as usize..piece.1 as usize]
    }

    #[expect(clippy::cast_possible_truncation, reason = "a batch is handed over at 64 KiB")]
    fn keep(&mut self, parts: &[&[u8]]) -> TextSpan {
        let from = self.text.len();
        let mut room = LOG_TEXT_MAX;
        for part in parts {
            let len = part.len().min(room);
            self.text.extend_from_slice(&part[..len]);
            room -= len;
        }
        (from as u32, self.text.len() as u32)
    }
}
