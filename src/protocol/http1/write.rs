//! A body of HTTP/1 on its way out: chunk framing is put around the data in its own buffer.

use std::time::Duration;

use crate::base::error::{Kind, Result};
use crate::message::fields::Fields;
use crate::net::buffer::{Buffer, Buffers, Outgoing};
use crate::net::deadline::Due;
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::protocol::pace::period;
use crate::wire::http1::chunked;
use crate::wire::http1::write::{self, Writer};

/// How one message is written.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    /// Its body has no length.
    pub is_chunked: bool,
    /// The peer is gone.
    gone: Kind,
    /// The peer takes nothing.
    slow: Kind,
    /// Milliseconds in which the peer must take some of what is written.
    period: u32,
}

impl Writing {
    /// To a client; it may take nothing for so long.
    #[must_use]
    pub fn downstream(idle: Duration) -> Self {
        let (gone, slow) = (Kind::ClientGone, Kind::ClientTooSlow);
        Self { is_chunked: false, gone, slow, period: period(idle) }
    }

    /// To an endpoint that may take nothing for so long.
    #[must_use]
    pub fn upstream(idle: Duration, is_chunked: bool) -> Self {
        let (gone, slow) = (Kind::UpstreamGone, Kind::UpstreamWriteTimeout);
        Self { is_chunked, gone, slow, period: period(idle) }
    }

    /// The peer may take nothing for so long.
    pub fn set_stall(&mut self, idle: Duration) {
        self.period = period(idle);
    }

    /// Writes octets as they are.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn raw<B: Outgoing>(&self, to: &Transport, octets: B) -> (Result<()>, B) {
        let (result, octets) = to.send(octets, self.period).await;
        (self.sent(to, result), octets)
    }

    /// Writes a buffer as it is, and gives it back to its pool.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn buffer(&self, to: &Transport, buffers: &Buffers, buffer: Buffer) -> Result<()> {
        let (result, buffer) = to.send(buffer, self.period).await;
        buffers.give(buffer);
        self.sent(to, result)
    }

    /// Writes pieces that lie apart.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn pieces(&self, to: &Transport, pieces: &[&[u8]]) -> Result<()> {
        let result = to.send_pieces(pieces, self.period).await;
        self.sent(to, result)
    }

    fn sent(&self, to: &Transport, result: std::io::Result<()>) -> Result<()> {
        result.map_err(|_| self.fault(to.expired() == Some(Due::Write)))
    }

    /// Puts the first of a body behind its head if there is room, so that both go out at once; hands it back if not.
    #[must_use]
    pub fn join(
        &self,
        head: &mut Buffer,
        mut data: Buffer,
        is_last: bool,
        buffers: &Buffers,
    ) -> Option<Buffer> {
        self.frame(&mut data, is_last);
        if data.len() > head.space() {
            return Some(data);
        }
        head.append(data.data());
        buffers.give(data);
        None
    }

    /// Writes data; `is_last` ends the body with it.
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn data(
        &self,
        to: &Transport,
        buffers: &Buffers,
        mut data: Buffer,
        is_last: bool,
    ) -> Result<()> {
        debug_assert!(!data.is_empty(), "an empty chunk would be the last");
        self.frame(&mut data, is_last);
        self.buffer(to, buffers, data).await
    }

    /// Ends a body that is complete: by nothing, where its length or the connection does (exam, rule 5).
    ///
    /// # Errors
    /// The peer is gone or does not read.
    pub async fn end(
        &self,
        to: &Transport,
        buffers: &Buffers,
        trailers: Option<&Fields>,
    ) -> Result<()> {
        if !self.is_chunked {
            return Ok(());
        }
        self.buffer(to, buffers, last_chunk(buffers, trailers)).await
    }

    /// What a peer is blamed for that did not take what was written: it was late, or is gone.
    #[must_use]
    pub const fn fault(&self, is_late: bool) -> Kind {
        if is_late { self.slow } else { self.gone }
    }

    /// Milliseconds in which the peer must take some of what is written.
    #[must_use]
    pub const fn period(&self) -> u32 {
        self.period
    }

    /// Puts a chunk's frame around the data, and the last chunk behind it.
    fn frame(&self, buffer: &mut Buffer, is_last: bool) {
        if !self.is_chunked {
            return;
        }
        let mut line = [0; 18];
        let at = chunked::size_line(buffer.len(), &mut line);
        buffer.prepend(&line[at..]);
        buffer.append(b"\r\n");
        if is_last {
            buffer.append(chunked::LAST);
        }
    }
}

fn last_chunk(buffers: &Buffers, trailers: Option<&Fields>) -> Buffer {
    let mut buffer = buffers.take(Size::Small);
    let none = Fields::default();
    let mut out = Writer::new(buffer.spare());
    write::last_chunk(trailers.unwrap_or(&none), &mut out);
    // A trailer section that does not fit is left out; its bound is below a small buffer.
    let len = out.finish().unwrap_or(0);
    debug_assert!(len > 0, "limits::TRAILERS_MAX fits in a small buffer");
    buffer.filled(len);
    buffer
}
