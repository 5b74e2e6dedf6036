//! Bytes that were read from a connection and not yet used: nothing while it idles.

use std::io;

use super::buffer::{Buffer, Buffers, Size};
use super::stream::Stream;

/// The reading side of an HTTP/1 connection.
#[derive(Debug, Default)]
pub struct Inbound {
    buffer: Option<Buffer>,
}

impl Inbound {
    /// What waits to be used.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::data)
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data().is_empty()
    }

    /// Uses up octets; gives the buffer back when nothing is left.
    pub fn consume(&mut self, len: usize, buffers: &Buffers) {
        if let Some(buffer) = &mut self.buffer {
            buffer.consume(len);
            if buffer.is_empty() {
                self.release(buffers);
            }
        }
    }

    /// Takes the buffer with everything in it.
    pub fn take(&mut self) -> Option<Buffer> {
        self.buffer.take()
    }

    /// Puts bytes back that belong to what comes next.
    pub fn put(&mut self, buffer: Buffer) {
        debug_assert!(self.buffer.is_none(), "one buffer at a time");
        self.buffer = Some(buffer);
    }

    /// Forgets what waits.
    pub fn release(&mut self, buffers: &Buffers) {
        if let Some(buffer) = self.buffer.take() {
            buffers.give(buffer);
        }
    }

    /// Reads more behind what waits, into a buffer of at least `size`. While nothing waits, no
    /// buffer is held. `Ok(0)` is the end of the stream, or a deadline.
    ///
    /// # Errors
    /// What the system says.
    pub async fn fill(
        &mut self,
        stream: &Stream,
        buffers: &Buffers,
        size: Size,
    ) -> io::Result<usize> {
        let buffer = match self.buffer.take() {
            Some(buffer) if buffer.space() > 0 => buffer,
            Some(full) => enlarge(full, buffers),
            None => {
                stream.quiet().await;
                buffers.take(size)
            }
        };
        let (result, buffer) = stream.recv(buffer).await;
        if buffer.is_empty() {
            buffers.give(buffer);
        } else {
            self.buffer = Some(buffer);
        }
        result
    }
}

/// A head that does not fit, or a buffer whose front was used up: its rest goes into another.
fn enlarge(full: Buffer, buffers: &Buffers) -> Buffer {
    let mut larger = buffers.take(Size::fitting(2 * full.len()));
    larger.append(full.data());
    buffers.give(full);
    larger
}
