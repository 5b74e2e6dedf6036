//! An answer to a client of HTTP/2, on its stream.

use http::Response;

use super::send::H2Sender;
use crate::base::error::{Kind, Result};
use crate::message::fields::Fields;
use crate::message::framing::BodySize;
use crate::message::head::{FinalHead, Method, ResponseHead};
use crate::net::buffer::{Buffer, Buffers, Outgoing};
use crate::protocol::with::With;
use crate::wire::http2;

/// The answer to one request. Shared by the exchange that gives it and the task that asks whether the client still
/// wants it.
#[derive(Debug)]
pub struct Reply {
    sender: H2Sender,
    asked: Method,
}

/// A beginning that is ready to go out.
pub struct Opened<'w> {
    said: Response<()>,
    /// The head is all of the answer.
    is_bodiless: bool,
    /// How much the head counts.
    len: usize,
    with: With<'w>,
}

impl Reply {
    /// To a request of this method: CONNECT if it asks for a tunnel.
    #[must_use]
    pub const fn new(sender: H2Sender, asked: Method) -> Self {
        Self { sender, asked }
    }

    /// The stream that it goes out on.
    #[must_use]
    pub const fn sender(&self) -> &H2Sender {
        &self.sender
    }

    /// Passes an interim head on.
    ///
    /// # Errors
    /// The client is gone; `UpstreamHead` for what cannot be said.
    pub fn interim(&self, head: &ResponseHead) -> Result<()> {
        let head = http2::interim(head).ok_or(Kind::UpstreamHead)?;
        self.sender.interim(head).map_err(|_| Kind::ClientGone)
    }

    /// Whether a head cannot be passed on: the request asked for a tunnel, the answer is none, and any 2xx would open
    /// one (RFC 8441 section 4).
    #[must_use]
    pub fn would_open_a_tunnel(&self, head: &FinalHead<'_>) -> bool {
        self.asked == Method::Connect && (200..300).contains(&head.status)
    }

    /// Makes the final head ready to go out, with what goes out behind it.
    ///
    /// # Errors
    /// `UpstreamHead` for what cannot be said.
    pub fn open<'w>(&self, head: &FinalHead<'_>, with: With<'w>) -> Result<Opened<'w>> {
        let is_bodiless = self.asked == Method::Head
            || matches!(head.status, 204 | 304)
            || matches!(head.size, BodySize::Empty | BodySize::Known(0)) && head.status != 101;
        let len = head.stored.len() + head.fields.wire_len();
        let said = http2::final_head(head).ok_or(Kind::UpstreamHead)?;
        Ok(Opened { said, is_bodiless, len, with })
    }

    /// Writes what was made ready. Data that is counted already waits for nothing, and its head neither.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn begin(&self, buffers: &Buffers, opened: Opened<'_>, period: u32) -> Result<()> {
        let Opened { said, is_bodiless, len, with } = opened;
        if !matches!(&with, With::First(Some(first), _) if first.is_counted()) {
            self.sender.has_turn(len, period).await.map_err(|_| Kind::ClientTooSlow)?;
        }
        self.sender.head(said, is_bodiless, len).map_err(|_| Kind::ClientGone)?;
        match with {
            With::First(None, _) => Ok(()),
            With::First(Some(data), is_last) => self.buffer(buffers, data, is_last, period).await,
            With::Whole(pieces) => self.pieces(pieces, period).await,
        }
    }

    /// Writes a whole body.
    async fn pieces(&self, pieces: &[&[u8]], period: u32) -> Result<()> {
        let last = pieces.iter().rposition(|piece| !piece.is_empty());
        for (at, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.is_empty()) {
            self.data(piece, Some(at) == last, false, period).await?;
        }
        Ok(())
    }

    /// Writes data; `is_last` ends the stream with it.
    ///
    /// # Errors
    /// The client is gone or does not read.
    pub async fn data(
        &self,
        data: &[u8],
        is_last: bool,
        is_counted: bool,
        period: u32,
    ) -> Result<()> {
        self.sender.data(data, is_last, is_counted, period).await.map_err(|_| self.fault())
    }

    /// Writes a buffer, and gives it back to its pool.
    ///
    /// # Errors
    /// As `data`.
    pub async fn buffer(
        &self,
        buffers: &Buffers,
        buffer: Buffer,
        is_last: bool,
        period: u32,
    ) -> Result<()> {
        let result = self.data(buffer.data(), is_last, Outgoing::is_counted(&buffer), period).await;
        buffers.give(buffer);
        result
    }

    /// Ends a body that is complete.
    ///
    /// # Errors
    /// The client is gone.
    pub fn end(&self, trailers: Option<&Fields>) -> Result<()> {
        self.sender.end(trailers).map_err(|_| Kind::ClientGone)
    }

    fn fault(&self) -> Kind {
        if self.sender.is_late() { Kind::ClientTooSlow } else { Kind::ClientGone }
    }
}
