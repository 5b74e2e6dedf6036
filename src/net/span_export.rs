//! Takes spans to a collector (OTLP over HTTP, in JSON), on a thread of its own. What it does not take is lost, and counted:
//! no request ever waits for it.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::runtime::Runtime;

use super::connect::Peer;
use super::log_file::LogMessage;
use super::notice;
use super::probe::{self, ProbeCall, ProbeFault, Secure};
use super::tls::server;
use super::tls::trust::{ServerName, TlsClient};
use crate::base::clock::{Moment, monotonic};
use crate::base::limits::{
    EXPORT_EVERY, EXPORT_SPANS, EXPORT_TIMEOUT, EXPORT_TOLD_EVERY, LOG_BATCHES,
};
use crate::config::model::Config;
use crate::config::tls::{Alpn, ClusterTls};
use crate::config::trace::Trace;
use crate::observe::record::Batch;
use crate::observe::span;

/// Where shards hand spans over.
#[derive(Clone, Debug)]
pub struct SpanExport {
    to: Sender<LogMessage>,
    end: Receiver<()>,
    lost: Arc<AtomicU64>,
}

impl SpanExport {
    /// Starts the thread, which ends when it is told to, or when there is none left that could send.
    ///
    /// # Errors
    /// No thread, no runtime, or no authorities to verify a collector by, as a sentence.
    pub fn start(model: &Trace) -> Result<Self, String> {
        let lost = Arc::new(AtomicU64::new(0));
        let tls = model.collector.is_secure.then(|| secure(&model.collector.host)).transpose()?;
        let exporter = Exporter {
            request: head(model),
            model: model.clone(),
            tls,
            runtime: runtime().map_err(|error| format!("trace: {error}"))?,
            lost: Arc::clone(&lost),
            told: Moment::default(),
        };
        let (to, spans) = bounded(LOG_BATCHES);
        let (done, end) = bounded(1);
        let started = thread::Builder::new().name("spans".to_owned()).spawn(move || {
            exporter.run(&spans);
            drop(done);
        });
        started.map_err(|error| format!("trace: no thread: {error}"))?;
        Ok(Self { to, end, lost })
    }

    /// Hands spans over; they are lost where the collector does not keep up.
    pub fn send(&self, batch: Batch, config: &Arc<Config>) {
        let count = batch.entries.len() as u64;
        if self.to.try_send(LogMessage::Write(batch, Arc::clone(config))).is_err() {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until what was handed over has gone, but not for a collector that does not take it.
    pub fn end(&self, patience: Duration) {
        if self.to.send_timeout(LogMessage::End, patience).is_ok() {
            let _ = self.end.recv_timeout(patience);
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn secure(host: &str) -> Result<(TlsClient, ServerName<'static>), String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name =
        ServerName::try_from(bare).map_err(|_| format!("trace.otlp: \"{host}\" is no name"))?;
    let tls = TlsClient::new(&ClusterTls::verified(), &[Alpn::Http1], &server::provider());
    tls.map(|tls| (tls, name)).map_err(|why| format!("trace.otlp: {why}"))
}

/// The head of each request, but for the length.
fn head(model: &Trace) -> String {
    let mut text = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: millrace/{}\r\nContent-Type: application/json\r\n\
         Connection: close\r\n",
        model.collector.path,
        model.collector.authority(),
        env!("CARGO_PKG_VERSION")
    );
    model.headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    text
}

struct Exporter {
    model: Trace,
    request: String,
    tls: Option<(TlsClient, ServerName<'static>)>,
    runtime: Runtime,
    lost: Arc<AtomicU64>,
    /// When the operator was told last that spans are lost.
    told: Moment,
}

impl Exporter {
    fn run(mut self, spans: &Receiver<LogMessage>) {
        let (mut waiting, mut count, mut due) = (Vec::new(), 0, None);
        loop {
            let wait = due.map_or(EXPORT_EVERY, |due: Moment| due.since(monotonic()));
            let message = spans.recv_timeout(wait);
            let is_end =
                matches!(message, Ok(LogMessage::End) | Err(RecvTimeoutError::Disconnected));
            if let Ok(LogMessage::Write(batch, config)) = message {
                count += batch.entries.len();
                waiting.push((batch, config));
                due = due.or_else(|| Some(monotonic().after(EXPORT_EVERY)));
            }
            let is_due = due.is_some_and(|due| monotonic() >= due);
            if count > 0 && (is_end || is_due || count >= EXPORT_SPANS) {
                self.export(&waiting, count as u64);
                (waiting, count, due) = (Vec::new(), 0, None);
            }
            if is_end {
                return;
            }
        }
    }

    fn export(&mut self, all: &[(Batch, Arc<Config>)], count: u64) {
        let body = span::export(all, &self.model.service).to_string();
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", self.request, body.len());
        let Err(why) = self.runtime.block_on(self.post(request.as_bytes())) else { return };
        self.lost.fetch_add(count, Ordering::Relaxed);
        let now = monotonic();
        if self.told == Moment::default() || now.since(self.told) >= EXPORT_TOLD_EVERY {
            self.told = now;
            let (authority, lost) =
                (self.model.collector.authority(), self.lost.load(Ordering::Relaxed));
            notice::warn(format_args!(
                "trace: collector {authority}: {why}; {lost} spans are lost so far"
            ));
        }
    }

    async fn post(&self, request: &[u8]) -> Result<(), String> {
        let found = self.model.collector.authority().to_socket_addrs();
        let mut why = found
            .as_ref()
            .err()
            .map_or_else(|| "its name has no address".to_owned(), ToString::to_string);
        for address in found.into_iter().flatten() {
            let secure = self.tls.as_ref().map(|(tls, name)| Secure { tls, name: name.clone() });
            let call = ProbeCall::Text { request, judge: &judge };
            let peer = Peer::Socket(address);
            match probe::run(&peer, b"", secure, Some(call), EXPORT_TIMEOUT).await {
                Ok(()) => return Ok(()),
                Err(ProbeFault::Endpoint(fault) | ProbeFault::Own(fault)) => why = fault,
            }
        }
        Err(why)
    }
}

/// Of an answer the status counts.
fn judge(bytes: &[u8], is_end: bool) -> Option<Result<(), String>> {
    let line = match memchr::memchr(b'\r', bytes) {
        Some(end) => &bytes[..end],
        None if is_end => return Some(Err("it ended the connection".to_owned())),
        None => return None,
    };
    let line = String::from_utf8_lossy(line);
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    Some(match status {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        Some(status) => Err(format!("it answered {status}")),
        None => Err("what it answers is no HTTP/1 response".to_owned()),
    })
}
