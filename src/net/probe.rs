//! One health check over a socket of its own. Runs on the prober's tokio thread, never on a
//! worker: it is rare, and must not wait for a core that is busy.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::connect::Peer;
use crate::base::limits::PROBE_BYTES;

/// Judges what has come so far, and is told whether that is all; `None` to read on.
pub type Judge<'a> = dyn Fn(&[u8], bool) -> Option<Result<(), String>> + Sync + 'a;

/// What is asked once the connection stands.
pub struct Exchange<'a> {
    pub request: &'a [u8],
    pub judge: &'a Judge<'a>,
}

/// Connects, and asks if there is something to ask. At most `PROBE_BYTES` of an answer are held.
///
/// # Errors
/// Why the check failed, as the end of a sentence.
pub async fn run(
    peer: &Peer,
    exchange: Option<Exchange<'_>>,
    timeout: Duration,
) -> Result<(), String> {
    let probe = async {
        match peer {
            Peer::Socket(address) => {
                let stream = TcpStream::connect(address).await.map_err(refused)?;
                ask(stream, exchange).await
            }
            Peer::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(refused)?;
                ask(stream, exchange).await
            }
        }
    };
    tokio::time::timeout(timeout, probe)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}

fn refused(error: io::Error) -> String {
    format!("no connection ({error})")
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    exchange: Option<Exchange<'_>>,
) -> Result<(), String> {
    let Some(Exchange { request, judge }) = exchange else { return Ok(()) };
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
