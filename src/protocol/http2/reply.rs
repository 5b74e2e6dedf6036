//! An answer to a client of HTTP/2, on its stream.

use super::send::Sender;
use crate::base::error::{Kind, Result};
use crate::message::fields::Fields;
use crate::message::framing::BodySize;
use crate::message::head::{FinalHead, Method, ResponseHead};
use crate::net::buffer::{Buffer, Buffers, Outgoing};
use crate::wire::http2;

/// The answer to one request. Shared by the exchange that gives it and the task that asks whether the client still
/// wants it.
#[derive(Debug)]
pub struct Reply {
    sender: Sender,
    asked: Method,
}

impl Reply {
    /// To a request of this method: CONNECT if it asks for a tunnel.
    #[must_use]
    pub const fn new(sender: Sender, asked: Method) -> Self {
        Self { sender, asked }
    }

    /// The stream that it goes out on.
    #[must_use]
    pub const fn sender(&self) -> &Sender {
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

    /// Writes the final head.
    ///
    /// # Errors
    /// The client is gone or does not read; `UpstreamHead` for what cannot be said. `is_counted`: what follows it is
    /// counted already, and so it waits for nothing.
    pub async fn head(&self, head: &FinalHead<'_>, is_counted: bool, period: u32) -> Result<()> {
        let is_bodiless = self.asked == Method::Head
            || matches!(head.status, 204 | 304)
            || matches!(head.size, BodySize::Empty | BodySize::Known(0)) && head.status != 101;
        let is_tunnel = self.asked == Method::Connect;
        if is_tunnel && (200..300).contains(&head.status) {
            // RFC 8441 section 4: any 2xx would open a tunnel that is none.
            let mut refused = http::Response::new(());
            *refused.status_mut() = http::StatusCode::NOT_IMPLEMENTED;
            let _ = self.sender.head(refused, true, 0);
            return Err(Kind::ClientGone);
        }
        let len = head.stored.len() + head.fields.wire_len();
        let said = http2::final_head(head).ok_or(Kind::UpstreamHead)?;
        if !is_counted {
            self.sender.has_turn(len, period).await.map_err(|_| Kind::ClientTooSlow)?;
        }
        self.sender.head(said, is_bodiless, len).map_err(|_| Kind::ClientGone)
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
