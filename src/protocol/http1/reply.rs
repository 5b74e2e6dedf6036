//! An answer to a client of HTTP/1.

use std::time::Duration;

use super::write::Writing;
use crate::base::error::{Kind, Result};
use crate::message::fields::Fields;
use crate::message::framing::{BodySize, Framing};
use crate::message::head::{FinalHead, ResponseHead, Version};
use crate::net::buffer::{Buffer, Buffers, SharedOctets};
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::protocol::with::With;
use crate::wire::http1::write::{self, ResponseConnection, Writer};

/// What a head's start line, framing, Date and Connection take beside its fields.
const BESIDE_FIELDS: usize = 320;
/// Data in one chunk of a body that lies elsewhere: what a medium buffer holds.
const CHUNK: usize = 60 * 1024;

/// The answer to one request of a connection.
#[derive(Debug)]
pub struct Reply<'a> {
    transport: &'a Transport,
    buffers: &'a Buffers,
    version: Version,
    writing: Writing,
}

/// A beginning that is ready to go out.
pub struct Opened<'w> {
    /// The head, and what goes out in one buffer with it.
    out: Buffer,
    rest: Rest<'w>,
}

/// What did not fit behind a head.
enum Rest<'w> {
    None,
    Data(Buffer),
    Pieces(&'w [&'w [u8]]),
}

impl<'a> Reply<'a> {
    /// To a client that speaks this version. How long it may take nothing is set before anything is written.
    #[must_use]
    pub fn new(transport: &'a Transport, buffers: &'a Buffers, version: Version) -> Self {
        Self { transport, buffers, version, writing: Writing::downstream(Duration::ZERO) }
    }

    /// The connection that the answer goes out on.
    #[must_use]
    pub const fn transport(&self) -> &'a Transport {
        self.transport
    }

    /// The client must take something within this time.
    pub fn set_stall(&mut self, stall: Duration) {
        self.writing.set_stall(stall);
    }

    /// Whether the connection must end to end a body of this size.
    #[must_use]
    pub fn ends_by_close(&self, size: BodySize) -> bool {
        self.framing(size) == Framing::UntilClose
    }

    /// How the body ends for this client: nothing needs the connection's end but HTTP/1.0.
    const fn framing(&self, size: BodySize) -> Framing {
        match (size, self.version) {
            (BodySize::Empty, _) => Framing::None,
            (BodySize::Known(length), _) => Framing::Length(length),
            (BodySize::Unknown, Version::Http10) => Framing::UntilClose,
            (BodySize::Unknown, _) => Framing::Chunked,
        }
    }

    /// Passes an interim head on.
    ///
    /// # Errors
    /// The client is gone; `UpstreamHeadTooLarge`.
    pub async fn interim(&mut self, head: &ResponseHead) -> Result<()> {
        // RFC 9110 section 15.2: HTTP/1.0 does not know them.
        if self.version == Version::Http10 {
            return Ok(());
        }
        let mut buffer = self.buffers.take(Size::fitting(head.fields.wire_len() + 64));
        let mut out = Writer::new(buffer.spare());
        write::interim(head, &mut out);
        let len = out.finish().ok_or(Kind::UpstreamHeadTooLarge)?;
        buffer.filled(len);
        self.writing.buffer(self.transport, self.buffers, buffer).await
    }

    /// Makes the final head ready to go out, with what goes out behind it.
    ///
    /// # Errors
    /// `UpstreamHeadTooLarge`.
    pub fn open<'w>(&mut self, head: &FinalHead<'_>, with: With<'w>) -> Result<Opened<'w>> {
        match with {
            With::First(first, is_last) => {
                let mut out = self.head(head, 0)?;
                let rest =
                    first.and_then(|data| self.writing.join(&mut out, data, is_last, self.buffers));
                Ok(Opened { out, rest: rest.map_or(Rest::None, Rest::Data) })
            }
            With::Whole(pieces) => {
                let len = pieces.iter().map(|piece| piece.len()).sum();
                let mut out = self.head(head, len)?;
                if len > out.space() {
                    return Ok(Opened { out, rest: Rest::Pieces(pieces) });
                }
                pieces.iter().for_each(|piece| out.append(piece));
                Ok(Opened { out, rest: Rest::None })
            }
        }
    }

    /// Writes what was made ready.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn begin(&self, opened: Opened<'_>) -> Result<()> {
        let Opened { out, rest } = opened;
        if let Rest::Pieces(pieces) = rest {
            return Box::pin(self.pieces(out, pieces)).await;
        }
        self.writing.buffer(self.transport, self.buffers, out).await?;
        match rest {
            Rest::Data(data) => self.writing.buffer(self.transport, self.buffers, data).await,
            Rest::None | Rest::Pieces(_) => Ok(()),
        }
    }

    /// Writes a head and a whole body that lies elsewhere.
    async fn pieces(&self, out: Buffer, pieces: &[&[u8]]) -> Result<()> {
        let mut all = Vec::with_capacity(pieces.len() + 1);
        all.push(out.data());
        all.extend_from_slice(pieces);
        let result = self.writing.pieces(self.transport, &all).await;
        drop(all);
        self.buffers.give(out);
        result
    }

    /// The head's octets, with room for so much behind them if a small buffer has it.
    fn head(&mut self, head: &FinalHead<'_>, body: usize) -> Result<Buffer> {
        let framing = self.framing(head.size);
        self.writing.is_chunked = framing == Framing::Chunked;
        let connection = match (head.keeps, self.version) {
            _ if !head.upgrade.is_empty() => ResponseConnection::Upgrade,
            (false, _) => ResponseConnection::Close,
            (true, Version::Http10) => ResponseConnection::KeepAlive,
            (true, Version::Http11 | Version::Http2) => ResponseConnection::Keep,
        };
        let bound = head.stored.len() + head.fields.wire_len() + BESIDE_FIELDS;
        let small = Size::fitting(bound + body);
        let size = if small == Size::Large { Size::fitting(bound) } else { small };
        let mut buffer = self.buffers.take(size);
        let mut out = Writer::new(buffer.spare());
        write::final_head(head, framing, connection, &mut out);
        let Some(len) = out.finish() else {
            self.buffers.give(buffer);
            return Err(Kind::UpstreamHeadTooLarge);
        };
        buffer.filled(len);
        Ok(buffer)
    }

    /// Writes data; `is_last` ends the body with it.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn data(&mut self, data: Buffer, is_last: bool) -> Result<()> {
        self.writing.data(self.transport, self.buffers, data, is_last).await
    }

    /// Writes data that others read too: from where it lies, if nothing has to stand around it.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn shared(&mut self, data: SharedOctets) -> Result<()> {
        if !self.writing.is_chunked {
            return self.writing.raw(self.transport, data).await.0;
        }
        for part in data.data().chunks(CHUNK) {
            let mut buffer = self.buffers.take(Size::fitting(part.len()));
            buffer.append(part);
            self.data(buffer, false).await?;
        }
        Ok(())
    }

    /// Ends a body that is complete.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        self.writing.end(self.transport, self.buffers, trailers).await
    }
}
