//! Bytes that were read from a connection and not yet used: nothing while it idles.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use super::backlog::Backlog;
use super::buffer::{Buffer, Buffers};
use super::size::Size;
use super::transport::Transport;

/// What was read from a connection and not used.
#[derive(Debug, Default)]
pub struct Inbound {
    buffer: Option<Buffer>,
    /// Of the client that what is read is for, where it has a bound.
    backlog: Option<Rc<Backlog>>,
    /// It has begun to read for it.
    has_begun: bool,
    /// The next read is for no more than its stream has room for.
    most: Option<usize>,
    /// A read is under way; for ever, if it was given up.
    is_reading: bool,
}

impl Inbound {
    /// What is read from now on is for a client that may hold only so much.
    pub fn read_for(&mut self, backlog: Option<Rc<Backlog>>) {
        self.backlog = backlog;
        self.has_begun = false;
        self.most = None;
    }

    /// The next read takes no more, where there is a client that has room for no more.
    pub const fn limit(&mut self, most: usize) {
        self.most = Some(most);
    }

    /// What waits to be used.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::data)
    }

    /// A read was given up under way, and took along what it had: what can be read now follows a gap.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        self.is_reading
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
    /// What the system says; `OutOfMemory` if there is nothing to read into.
    pub async fn fill(
        &mut self,
        transport: &Transport,
        buffers: &Buffers,
        size: Size,
    ) -> io::Result<usize> {
        if self.buffer.is_none() && self.backlog.is_none() {
            transport.quiet().await;
        }
        self.fill_ready(transport, buffers, size).await
    }

    /// The same where something is there to be read already.
    ///
    /// # Errors
    /// As `fill`.
    pub async fn fill_ready(
        &mut self,
        transport: &Transport,
        buffers: &Buffers,
        size: Size,
    ) -> io::Result<usize> {
        let buffer = match self.buffer.take() {
            Some(buffer) if buffer.space() > 0 => buffer,
            None if self.backlog.is_none() => {
                let Some(buffer) = buffers.try_take(size) else {
                    return Err(io::ErrorKind::OutOfMemory.into());
                };
                buffer
            }
            full => self.another(full, transport, buffers).await?,
        };
        // Given up under way, this takes the buffer along, and perhaps octets that came into it meanwhile.
        self.is_reading = true;
        let (result, buffer) = transport.recv(buffer).await;
        self.is_reading = false;
        if buffer.is_empty() {
            buffers.give(buffer);
        } else {
            self.buffer = Some(buffer);
        }
        result
    }
}

impl Inbound {
    /// What is rare: a buffer in place of a full one, or one that counts where a client's are counted. In a
    /// box, so that what is frequent stays one piece.
    fn another<'a>(
        &'a mut self,
        full: Option<Buffer>,
        transport: &'a Transport,
        buffers: &'a Buffers,
    ) -> Pin<Box<dyn Future<Output = io::Result<Buffer>> + 'a>> {
        Box::pin(async move {
            match full {
                Some(full) if self.backlog.is_some() => {
                    Ok(self.larger_for_client(full, transport, buffers).await)
                }
                Some(full) => enlarge(full, buffers).map_err(|full| {
                    buffers.give(full);
                    io::ErrorKind::OutOfMemory.into()
                }),
                None => Ok(self.buffer_for_client(transport, buffers).await),
            }
        })
    }

    /// A buffer that counts where the client's are counted, once there is something to read into it. While
    /// the client has too much that it does not take, what its server has sent stays in the kernel, and the
    /// server is not to blame for the wait.
    async fn buffer_for_client(&mut self, transport: &Transport, buffers: &Buffers) -> Buffer {
        transport.readable().await;
        let Some(backlog) = &self.backlog else { return buffers.take(Size::Small) };
        let (size, hold) = {
            let _paused = transport.pause_reading();
            if self.has_begun { backlog.piece().await } else { backlog.first().await }
        };
        self.has_begun = true;
        let mut buffer = buffers.take(size);
        buffer.count(hold);
        if let Some(most) = self.most.take() {
            buffer.limit(most);
        }
        buffer
    }

    /// The same for a head that did not fit.
    async fn larger_for_client(
        &self,
        full: Buffer,
        transport: &Transport,
        buffers: &Buffers,
    ) -> Buffer {
        let Some(backlog) = &self.backlog else { return full };
        let (_, hold) = {
            let _paused = transport.pause_reading();
            backlog.piece().await
        };
        let mut larger = buffers.take(larger_than(&full));
        move_over(full, &mut larger, buffers);
        larger.count(hold);
        larger
    }
}

fn larger_than(full: &Buffer) -> Size {
    Size::fitting(2 * full.len())
}

/// A head that does not fit, or a buffer whose front was used up: its rest goes into another. Handed back when
/// the memory is full: many heads that each take four times as much would overshoot it (exam R02).
fn enlarge(full: Buffer, buffers: &Buffers) -> Result<Buffer, Buffer> {
    let Some(mut larger) = buffers.try_take(larger_than(&full)) else { return Err(full) };
    move_over(full, &mut larger, buffers);
    Ok(larger)
}

fn move_over(full: Buffer, larger: &mut Buffer, buffers: &Buffers) {
    larger.append(full.data());
    buffers.give(full);
}
