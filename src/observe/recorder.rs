//! The last exchanges of a shard, in records of one size: what an operator asks about afterwards. Some stores an
//! exchange; no allocation once it is full, no formatting.

use serde_json::{Value, json};

use super::format::{timestamp, upstream, version};
use super::record::{Choice, Record};
use crate::base::clock::Micros;
use crate::base::limits::{RECORDS_FAILED, RECORDS_KEPT};
use crate::config::model::Config;
use crate::message::head::{Method, RequestHead, Version};
use crate::message::name::Name;

/// A text that is cut off where it is too long.
#[derive(Clone, Copy, Debug)]
pub struct Short<const MOST: usize> {
    len: u8,
    octets: [u8; MOST],
}

impl<const MOST: usize> Short<MOST> {
    const EMPTY: Self = Self { len: 0, octets: [0; MOST] };

    /// In place: what stood there behind its end stays, and is not seen.
    fn set(&mut self, text: &[u8]) {
        let len = text.len().min(MOST);
        self.octets[..len].copy_from_slice(&text[..len]);
        self.len = u8::try_from(len).unwrap_or(u8::MAX);
    }

    /// It may have been longer.
    const fn is_cut(&self) -> bool {
        self.len as usize == MOST
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets[..usize::from(self.len)]).into_owned()
    }
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub record: Record,
    version: Version,
    method: Method,
    /// A method that is none of these; nothing in what did not become a request.
    other: Short<15>,
    host: Short<47>,
    target: Short<95>,
    request_id: Short<47>,
}

/// The last ones, and the last of those that failed: these would be gone too soon among all.
#[derive(Debug, Default)]
pub struct Recorder {
    all: Ring,
    failed: Ring,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    Failed,
}

#[derive(Debug, Default)]
struct Ring {
    kept: Vec<Kept>,
    next: usize,
}

impl Ring {
    /// The place of the next one, which was the oldest's.
    fn place(&mut self, record: &Record, most: usize) -> &mut Kept {
        let at = self.next;
        self.next = (at + 1) % most;
        if at == self.kept.len() {
            self.kept.push(Kept::new(record));
        }
        &mut self.kept[at]
    }
}

impl Recorder {
    /// An exchange has ended.
    pub fn keep(&mut self, record: &Record, head: &RequestHead) -> &Kept {
        let place = self.all.place(record, RECORDS_KEPT);
        place.record = *record;
        place.version = head.version;
        let text = head.method_text();
        place.method = if text.is_empty() { Method::Other } else { head.method };
        if place.method == Method::Other {
            place.other.set(text);
        }
        place.host.set(head.authority());
        place.target.set(head.original().0);
        // It is among the last that a proxy adds.
        let id = head.fields.iter().rev().find(|field| field.known == Name::XRequestId);
        place.request_id.set(id.map_or(b"", |field| field.value));
        if record.status >= 500 || record.fault.is_some_and(|kind| !kind.blames_client()) {
            let kept = *place;
            *self.failed.place(record, RECORDS_FAILED) = kept;
        }
        place
    }

    /// A copy of what is kept, in no order.
    #[must_use]
    pub fn kept(&self, which: Which) -> Vec<Kept> {
        match which {
            Which::All => self.all.kept.clone(),
            Which::Failed => self.failed.kept.clone(),
        }
    }
}

impl Kept {
    fn new(record: &Record) -> Self {
        Self {
            record: *record,
            version: Version::default(),
            method: Method::Other,
            other: Short::EMPTY,
            host: Short::EMPTY,
            target: Short::EMPTY,
            request_id: Short::EMPTY,
        }
    }

    fn method(&self) -> String {
        match self.method {
            Method::Other => self.other.text(),
            known => known.word().to_owned(),
        }
    }

    /// Whether it is the exchange with this X-Request-Id.
    #[must_use]
    pub fn has_id(&self, id: &str) -> bool {
        self.request_id.len > 0 && self.request_id.text() == id
    }

    /// Its request, as a line for people and as the octets of a head without other fields; `None` if it was too
    /// long to be kept as a whole.
    #[must_use]
    pub fn request(&self) -> Option<(String, String)> {
        let [method, host, target] = [self.method(), self.host.text(), self.target.text()];
        // What stood in `other` before stays behind a method that is known.
        let is_method = self.method != Method::Other || !self.other.is_cut();
        let is_whole = is_method && !self.host.is_cut() && !self.target.is_cut();
        let line = format!("{method} {host}{target}");
        is_whole.then(|| (line, format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")))
    }

    /// All that is known, by names.
    #[must_use]
    pub fn json(&self, config: &Config) -> Value {
        let record = &self.record;
        let (cluster, endpoint) = upstream(config, record.cluster, record.endpoint);
        let millis = |micros: Micros| micros as f64 / 1e3;
        let some = |micros: u32| Some(millis(micros.into())).filter(|_| micros > 0);
        json!({
            "time": timestamp(record.wall, "%Y-%m-%dT%H:%M:%S%.3fZ"),
            "request_id": self.request_id.text(),
            "client": record.client,
            "method": self.method(),
            "host": self.host.text(),
            "path": self.target.text(),
            "version": version(self.version),
            "status": record.status,
            "flag": record.fault.map(|kind| kind.row().flag),
            "reason": record.fault.map(|kind| kind.row().sentence),
            "detail": record.detail.map(|detail| detail.to_string()),
            "listener": record.listener.and_then(|id| Some(&config.listeners.get(usize::from(id.0))?.name)),
            "route": record.route.and_then(|id| Some(&*config.routes.get(usize::from(id.0))?.name)),
            "cluster": cluster,
            "endpoint": endpoint,
            "choice": record.choice.map(Choice::word),
            "attempts": record.attempts,
            "reused": record.reused,
            "cache": record.cache,
            "duration_ms": millis(record.took),
            "upstream_ms": record.endpoint.map(|_| millis(record.upstream)),
            "connect_ms": some(record.connecting),
            "queue_ms": some(record.queued),
            "upstream_version": record.upstream_version.map(version),
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn the_last_ones_stay_and_failures_longer() {
        let mut recorder = Recorder::default();
        let mut record = Record::open(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let head = RequestHead::default();
        (record.status, record.fault) = (502, Some(Kind::UpstreamGone));
        recorder.keep(&record, &head);
        (record.status, record.fault) = (200, None);
        (0..3 * RECORDS_KEPT).for_each(|_| {
            let _ = recorder.keep(&record, &head);
        });
        assert_eq!(recorder.kept(Which::All).len(), RECORDS_KEPT);
        assert!(recorder.kept(Which::All).iter().all(|one| one.record.status == 200));
        let failed = recorder.kept(Which::Failed);
        assert_eq!((failed.len(), failed[0].record.status), (1, 502));
    }

    #[test]
    fn long_texts_are_cut_off() {
        let mut text = Short::<4>::EMPTY;
        text.set(b"abcdef");
        assert_eq!(text.text(), "abcd");
        text.set(b"xy");
        assert_eq!(text.text(), "xy");
        text.set(b"");
        assert_eq!(text.text(), "");
    }
}
