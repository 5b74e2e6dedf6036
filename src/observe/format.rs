//! Access log lines: JSON, or the combined format that every log reader knows.

use super::record::TlsTerms;
use rustls::{CipherSuite, ProtocolVersion};
use std::io::Write;

use serde_json::{Value, json};

use crate::base::id::{ClusterId, EndpointId};
use crate::config::access_log::{LogFormat, LogPiece};
use crate::config::model::{Config, Listener, Mode};
use crate::message::head::Version;
use crate::observe::record::{Batch, Choice, LogEntry};

/// Appends one line for each entry.
pub fn lines(batch: &Batch, config: &Config, format: &LogFormat, out: &mut Vec<u8>) {
    for entry in &batch.entries {
        match format {
            // Writing to memory cannot fail.
            LogFormat::Json => drop(serde_json::to_writer(&mut *out, &told(batch, entry, config))),
            LogFormat::Combined => combined(batch, entry, out),
            LogFormat::Own(pieces) => own(pieces, &told(batch, entry, config), out),
        }
        out.push(b'\n');
    }
}

fn own(pieces: &[LogPiece], told: &Value, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            LogPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
            LogPiece::Field(name) => match &told[*name] {
                Value::Null => out.push(b'-'),
                Value::String(text) => or_dash(text.as_bytes(), out),
                other => drop(write!(out, "{other}")),
            },
        }
    }
}

/// All that is known, by `LOG_FIELDS`.
pub(super) fn told(batch: &Batch, entry: &LogEntry, config: &Config) -> Value {
    let record = &entry.record;
    let text = |piece| String::from_utf8_lossy(batch.text(piece)).into_owned();
    let optional = |piece| Some(text(piece)).filter(|text| !text.is_empty());
    let (cluster, endpoint) = upstream(config, record.cluster, record.endpoint);
    let upstream_us = record.endpoint.map(|_| record.upstream);
    let listener = record.listener.and_then(|id| config.listeners.get(usize::from(id.0)));
    let scheme = |one: &Listener| if one.tls.is_some() { "https" } else { "http" };
    json!({
        "time": timestamp(record.wall, "%Y-%m-%dT%H:%M:%S%.3fZ"),
        "client": record.client,
        "scheme": listener.filter(|one| one.mode == Mode::Http).map(scheme),
        "tls_version": record.tls.and_then(tls_version),
        "tls_cipher": record.tls.and_then(tls_cipher),
        "method": text(entry.method),
        "host": text(entry.host),
        "target": text(entry.target),
        // What did not become a request has none.
        "version": optional(entry.method).map(|_| version(entry.version)),
        "status": record.status,
        "flag": record.fault.map(|kind| kind.row().flag),
        "detail": record.detail.map(|detail| detail.to_string()),
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "duration_us": record.took,
        "upstream_us": upstream_us,
        "connect_us": Some(record.connecting).filter(|micros| *micros > 0),
        "queue_us": Some(record.queued).filter(|micros| *micros > 0),
        "upstream_version": record.upstream_version.map(version),
        "listener": listener.map(|one| &one.name),
        "route": record.route.and_then(|id| Some(&*config.routes.get(usize::from(id.0))?.name)),
        "cluster": cluster,
        "endpoint": endpoint,
        "choice": record.choice.map(Choice::word),
        "address": record.address.map(|address| address.to_string()),
        "cache": record.cache,
        "attempts": record.attempts,
        "reused": record.reused,
        "request_id": optional(entry.request_id),
        "traceparent": optional(entry.traceparent),
        "referer": optional(entry.referer),
        "user_agent": optional(entry.user_agent),
        "worker": batch.worker,
    })
}

/// By the IANA registry; rustls calls those of TLS 1.3 otherwise.
fn tls_cipher(terms: TlsTerms) -> Option<String> {
    CipherSuite::from(terms.cipher).as_str().map(|name| name.replace("TLS13_", "TLS_"))
}

/// As people write it: TLSv1.3.
fn tls_version(terms: TlsTerms) -> Option<String> {
    ProtocolVersion::from(terms.version).as_str().map(|name| name.replace('_', "."))
}

pub(super) fn upstream(
    config: &Config,
    cluster: Option<ClusterId>,
    endpoint: Option<EndpointId>,
) -> (Option<&str>, Option<String>) {
    let Some(cluster) = cluster.and_then(|id| config.clusters.get(usize::from(id.0))) else {
        return (None, None);
    };
    let endpoint = endpoint.and_then(|id| cluster.endpoints.get(usize::from(id.0)));
    (Some(&cluster.name), endpoint.map(|endpoint| endpoint.address.to_string()))
}

/// `host ident user [time] "request" status bytes "referer" "agent"`.
fn combined(batch: &Batch, entry: &LogEntry, out: &mut Vec<u8>) {
    let record = &entry.record;
    let time = timestamp(record.wall, "%d/%b/%Y:%H:%M:%S +0000");
    let _ = write!(out, "{} - - [{time}] \"", record.client);
    match batch.text(entry.method) {
        // What did not become a request has no request line.
        b"" => out.push(b'-'),
        method => {
            word(method, out);
            out.push(b' ');
            word(batch.text(entry.target), out);
            let _ = write!(out, " {}", version(entry.version));
        }
    }
    let _ = write!(out, "\" {:03} {} \"", record.status, record.bytes_out);
    or_dash(batch.text(entry.referer), out);
    out.extend_from_slice(b"\" \"");
    or_dash(batch.text(entry.user_agent), out);
    out.push(b'"');
}

/// One word of a request line: what was malformed may have white space in it, or nothing.
fn word(text: &[u8], out: &mut Vec<u8>) {
    let mut parts = text.split(|byte| *byte == b' ');
    or_dash(parts.next().unwrap_or_default(), out);
    for part in parts {
        out.extend_from_slice(b"\\x20");
        escape(part, out);
    }
}

fn or_dash(text: &[u8], out: &mut Vec<u8>) {
    escape(if text.is_empty() { b"-" } else { text }, out);
}

/// Nothing from a request may end a line or a quoted string (exam C13).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b' '..=b'!' | b'#'..=b'[' | b']'..=b'~' => out.push(*byte),
            _ => {
                let _ = write!(out, "\\x{byte:02X}");
            }
        }
    }
}

pub(super) const fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
    }
}

/// A time in milliseconds since 1970, as `strftime` writes it.
#[must_use]
pub fn timestamp(wall: u64, format: &str) -> String {
    let millis = i64::try_from(wall).unwrap_or(0);
    jiff::Timestamp::from_millisecond(millis)
        .map(|time| time.strftime(format).to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use crate::config::access_log::{LOG_FIELDS, template};
    use crate::config::lower::lower;
    use crate::message::head::RequestHead;
    use crate::observe::record::Record;

    fn batch() -> Batch {
        let mut head = RequestHead::default();
        head.set_method(b"GET");
        head.set_target(b"/a\"b", Some(b"c"));
        head.set_authority(b"h:80", 1);
        head.fields.push(b"User-Agent", b"x\"\xff\\");
        let mut record = Record::open("127.0.0.1".parse().unwrap(), 0);
        record.status = 503;
        record.tls = Some(TlsTerms { version: 0x0304, cipher: 0x1301 });
        record.fault = Some(Kind::NoEndpoint);
        record.wall = 784_111_777_000;
        let mut batch = Batch::default();
        batch.push(record, &head);
        batch
    }

    fn shown(format: &LogFormat) -> String {
        let text = "[[listener]]\naddress=\"127.0.0.1:0\"\n[[route]]\nrespond={}\n";
        let config = lower(text).0.unwrap();
        let mut out = Vec::new();
        lines(&batch(), &config, format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_lines_are_json() {
        let line: Value = serde_json::from_str(&shown(&LogFormat::Json)).unwrap();
        assert_eq!(line["status"], 503);
        assert_eq!(line["flag"], "no_endpoint");
        assert_eq!(line["tls_version"], "TLSv1.3");
        assert_eq!(line["tls_cipher"], "TLS_AES_128_GCM_SHA256");
        assert_eq!(line["target"], "/a\"b?c");
        assert_eq!(line["time"], "1994-11-06T08:49:37.000Z");
        let names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, LOG_FIELDS);
    }

    #[test]
    fn lines_of_ones_own_cannot_be_broken_out_of() {
        let format = template("{status} {flag} [{user_agent}] {target} {route}").unwrap();
        assert_eq!(shown(&format), "503 no_endpoint [x\\x22\\xEF\\xBF\\xBD\\x5C] /a\\x22b?c -\n");
    }

    #[test]
    fn combined_lines_cannot_be_broken_out_of() {
        assert_eq!(
            shown(&LogFormat::Combined),
            "127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a\\x22b?c HTTP/1.1\" 503 0 \"-\" \
             \"x\\x22\\xFF\\x5C\"\n"
        );
    }
}
