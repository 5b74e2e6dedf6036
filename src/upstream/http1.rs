//! An HTTP/1 connection to an endpoint: heads out, heads in. Bodies are `net::body`'s.

use std::net::SocketAddr;

use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::message::head::{Method, RequestHead, ResponseHead};
use crate::message::limits::HeadLimits;
use crate::net::buffer::{Buffer, Buffers, Size};
use crate::net::deadline::Due;
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;
use crate::wire::http1::parse;
use crate::wire::http1::scan::Scan;
use crate::wire::http1::write::{self, RequestConnection, Writer};

/// A connection and what was read from it too early.
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub inbound: Inbound,
    /// When it was opened.
    pub born: Moment,
    /// Which of its endpoint's addresses it belongs to: those that DNS no longer tells are not
    /// used again.
    pub generation: u32,
    /// The client that a PROXY header named on it: it must serve nobody else (RELIABILITY D09).
    pub identity: Option<SocketAddr>,
    /// Goes out before the first request.
    pub preface: Vec<u8>,
}

impl Drop for Connection {
    /// The endpoint is told at once, before its place is somebody else's: on a ring the descriptor itself
    /// is closed when what still waits on it has been cancelled, which is later (RELIABILITY M02).
    fn drop(&mut self) {
        self.stream.end();
    }
}

impl Connection {
    /// The bytes of a request's head, in a buffer with room behind them if there is any.
    ///
    /// # Errors
    /// `Internal` if the head has outgrown every bound.
    pub fn head_bytes(
        &mut self,
        head: &RequestHead,
        authority: &[u8],
        connection: RequestConnection,
        buffers: &Buffers,
    ) -> Result<Buffer> {
        let preface = std::mem::take(&mut self.preface);
        // Start line, Host, framing and Connection come on top of the fields.
        let bound = head.fields.wire_len() + authority.len() + preface.len() + 256;
        let mut buffer = buffers.take(Size::fitting(bound));
        let mut out = Writer::new(buffer.spare());
        out.put(&preface);
        write::request(head, authority, connection, &mut out);
        let Some(len) = out.finish() else {
            buffers.give(buffer);
            return Err(Kind::Internal);
        };
        buffer.filled(len);
        Ok(buffer)
    }
}

/// Reads one response head, interim or final.
///
/// # Errors
/// `UpstreamGone` if the connection ended first, `FirstByteTimeout`, or what is wrong with the
/// head.
pub async fn read_head(
    stream: &Stream,
    inbound: &mut Inbound,
    buffers: &Buffers,
    asked: Method,
    head: &mut ResponseHead,
) -> Result<()> {
    // Nearly always it comes whole.
    if inbound.is_empty() && !more(stream, inbound, buffers).await? {
        return Err(Kind::UpstreamGone);
    }
    head.clear();
    if let Some(len) = parse::response_at_once(inbound.data(), asked, head) {
        inbound.consume(len, buffers);
        return Ok(());
    }
    let mut scan = Scan::default();
    loop {
        match scan.response(inbound.data(), &HeadLimits::RESPONSE) {
            Ok(Some(found)) => {
                head.clear();
                parse::response(&inbound.data()[..found.end], asked, head)?;
                inbound.consume(found.end, buffers);
                return Ok(());
            }
            Ok(None) => {}
            Err(Kind::HeadTooLarge | Kind::TargetTooLong) => {
                return Err(Kind::UpstreamHeadTooLarge);
            }
            Err(_) => return Err(Kind::UpstreamHead),
        }
        if !more(stream, inbound, buffers).await? {
            return Err(Kind::UpstreamGone);
        }
    }
}

/// Reads more; `false` at the end.
async fn more(stream: &Stream, inbound: &mut Inbound, buffers: &Buffers) -> Result<bool> {
    match inbound.fill(stream, buffers, Size::Small).await {
        Ok(1..) => Ok(true),
        // Our own shortage, for which the endpoint is not to blame.
        Err(error) if error.kind() == std::io::ErrorKind::OutOfMemory => Err(Kind::Overloaded),
        Ok(0) | Err(_) => match stream.expired() {
            None | Some(Due::Look) => Ok(false),
            Some(Due::Read) => Err(Kind::FirstByteTimeout),
            Some(Due::Write) => Err(Kind::UpstreamWriteTimeout),
        },
    }
}
