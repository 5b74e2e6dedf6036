//! One health check over a socket of its own. Runs on the prober's tokio thread, never on a
//! worker: it is rare, and must not wait for a core that is busy.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::connect::{self, Peer};
use super::tls::trust::{ServerName, TlsClient};
use crate::base::limits::PROBE_BYTES;
use crate::config::tls::Alpn;

/// Judges what has come so far, and is told whether that is all; `None` to read on.
pub type Judge<'a> = dyn Fn(&[u8], bool) -> Option<Result<(), String>> + Sync + 'a;

/// What is asked once the connection stands.
pub enum ProbeCall<'a> {
    /// In HTTP/1.1.
    Text { request: &'a [u8], judge: &'a Judge<'a> },
    /// In HTTP/2: a request with its body, and what its answer must be.
    Call { request: Box<Request<()>>, body: Bytes, judge: &'a CallJudge<'a> },
    /// In whichever a TLS handshake agrees on; without one in the first.
    Agreed(Box<[Self; 2]>),
}

/// Judges an answer of HTTP/2: its status, its fields, its body and its trailers.
pub type CallJudge<'a> = dyn Fn(&ProbeAnswer) -> Result<(), String> + Sync + 'a;

/// An answer of HTTP/2.
#[derive(Debug)]
pub struct ProbeAnswer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

/// How a connection is encrypted, and the name that its certificate must be for.
pub struct Secure<'a> {
    pub tls: &'a TlsClient,
    pub name: ServerName<'static>,
}

/// Why a check says nothing good of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFault {
    /// The endpoint did not do what it should: the end of a sentence.
    Endpoint(String),
    /// We could not ask: that is not held against it.
    Own(String),
}

impl From<String> for ProbeFault {
    fn from(why: String) -> Self {
        Self::Endpoint(why)
    }
}

/// Connects, says `preface`, and asks if there is something to ask. At most `PROBE_BYTES` of an answer are held.
///
/// # Errors
/// Why the check failed.
pub async fn run(
    peer: &Peer,
    preface: &[u8],
    secure: Option<Secure<'_>>,
    exchange: Option<ProbeCall<'_>>,
    timeout: Duration,
) -> Result<(), ProbeFault> {
    let probe = async {
        match peer {
            Peer::Socket(address) => {
                let mut stream = TcpStream::connect(address).await.map_err(refused)?;
                stream.write_all(preface).await.map_err(refused)?;
                Ok(ask_through(stream, secure, exchange).await?)
            }
            Peer::Unix(path) => {
                let mut stream = UnixStream::connect(path).await.map_err(refused)?;
                stream.write_all(preface).await.map_err(refused)?;
                Ok(ask_through(stream, secure, exchange).await?)
            }
        }
    };
    tokio::time::timeout(timeout, probe)
        .await
        .unwrap_or_else(|_| Err(ProbeFault::Endpoint(format!("no answer within {timeout:?}"))))
}

fn refused(error: io::Error) -> ProbeFault {
    let why = format!("no connection ({error})");
    if connect::is_own_shortage(&error) { ProbeFault::Own(why) } else { ProbeFault::Endpoint(why) }
}

async fn ask_through(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    secure: Option<Secure<'_>>,
    exchange: Option<ProbeCall<'_>>,
) -> Result<(), String> {
    let Some(exchange) = exchange else { return Ok(()) };
    let offered: &[Alpn] = match &exchange {
        ProbeCall::Text { .. } => &[Alpn::Http1],
        ProbeCall::Call { .. } => &[Alpn::Http2],
        ProbeCall::Agreed(_) => &[Alpn::Http2, Alpn::Http1],
    };
    let Some(Secure { tls, name }) = secure else {
        return ask(stream, exchange.of(Alpn::Http1)).await;
    };
    let connector = TlsConnector::from(tls.offering(offered));
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|error| format!("no secure connection ({error})"))?;
    let agreed = stream.get_ref().1.alpn_protocol().and_then(Alpn::of);
    ask(stream, exchange.of(agreed.unwrap_or(Alpn::Http1))).await
}

impl ProbeCall<'_> {
    /// What is asked in this protocol.
    fn of(self, protocol: Alpn) -> Self {
        match self {
            Self::Agreed(both) => {
                let [text, call] = *both;
                if protocol == Alpn::Http2 { call } else { text }
            }
            one => one,
        }
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    exchange: ProbeCall<'_>,
) -> Result<(), String> {
    match exchange {
        ProbeCall::Text { request, judge } => ask_text(stream, request, judge).await,
        ProbeCall::Agreed(_) => Err("nothing was agreed on".to_owned()),
        ProbeCall::Call { request, body, judge } => {
            let (send, connection) = h2::client::handshake(stream)
                .await
                .map_err(|error| format!("no HTTP/2 ({error})"))?;
            let call = call(send, *request, body);
            let mut call = std::pin::pin!(call);
            // The connection is driven until the answer is there.
            let answer = tokio::select! {
                answer = &mut call => answer,
                ended = connection => match ended {
                    Ok(()) => call.await,
                    Err(error) => Err(error),
                },
            };
            judge(&answer.map_err(|error| format!("it did not answer ({error})"))?)
        }
    }
}

async fn call(
    send: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<ProbeAnswer, h2::Error> {
    let mut send = send.ready().await?;
    let (response, mut stream) = send.send_request(request, false)?;
    stream.send_data(body, true)?;
    let (parts, mut incoming) = response.await?.into_parts();
    let mut body = Vec::new();
    // Of a long body the beginning is enough, as it is in HTTP/1.
    let mut is_all = true;
    while let Some(data) = incoming.data().await {
        let data = data?;
        let _ = incoming.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data[..data.len().min(PROBE_BYTES - body.len())]);
        is_all = body.len() < PROBE_BYTES;
        if !is_all {
            break;
        }
    }
    let trailers = if is_all { incoming.trailers().await? } else { None };
    let trailers = trailers.unwrap_or_default();
    Ok(ProbeAnswer { status: parts.status.as_u16(), fields: parts.headers, body, trailers })
}

async fn ask_text(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
    judge: &Judge<'_>,
) -> Result<(), String> {
    let lost = |error: io::Error| format!("the connection broke ({error})");
    stream.write_all(request).await.map_err(lost)?;
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let room = (PROBE_BYTES - before) as u64;
        (&mut stream).take(room).read_buf(&mut bytes).await.map_err(lost)?;
        let is_end = bytes.len() == before || bytes.len() >= PROBE_BYTES;
        if let Some(verdict) = judge(&bytes, is_end) {
            return verdict;
        }
        if is_end {
            return Err("its answer has no end".to_owned());
        }
    }
}
