//! What goes out on a stream: as it is, through TLS, or as a strand of HTTP/2.

use std::io;

use monoio::io::AsyncWriteRent;

use super::{Later, Stream, Way, not_connected};
use crate::base::clock::Moment;
use crate::net::buffer::{Buffer, Outgoing, Sealed};
use crate::net::http2::strand::Strand;
use crate::net::socket;

/// Pieces that go out in one call.
const PIECES_AT_ONCE: usize = 16;

impl Stream {
    /// Writes everything that is in the buffer and hands it back, empty if all went well. The peer
    /// must take some of it every `period` milliseconds or so.
    pub async fn send<B: Outgoing>(
        &self,
        mut buffer: B,
        now: Moment,
        period: u32,
    ) -> (io::Result<()>, B) {
        if !self.is_plain {
            let is_counted = buffer.is_counted();
            let result = self.send_wrapped(buffer.data(), is_counted, now, period).await;
            if result.is_ok() {
                buffer.consume(buffer.len());
            }
            return (result, buffer);
        }
        // As in `send_raw`.
        self.watch.write_within(now, period);
        let result = loop {
            let Some(socket) = self.exclusive() else { break not_connected() };
            let (sent, back) = socket.write(buffer).await;
            buffer = back;
            match self.took(sent, &mut buffer) {
                Took::All(len) => break Ok(len),
                Took::Some => {}
                Took::Nothing => self.writable().await,
                Took::Fault(error) => break Err(error),
            }
        };
        self.watch.write_done(*result.as_ref().unwrap_or(&0));
        (result.map(|_| ()), buffer)
    }

    fn send_wrapped<'a>(
        &'a self,
        data: &'a [u8],
        is_counted: bool,
        now: Moment,
        period: u32,
    ) -> Later<'a, io::Result<()>> {
        match self.way() {
            Way::Plain => Box::pin(std::future::ready(not_connected())),
            Way::Tls(tls) => Box::pin(tls.send_one(self, data, now, period)),
            Way::Strand(strand) => {
                Box::pin(self.send_strand(strand, data, is_counted, now, period))
            }
        }
    }

    async fn send_strand(
        &self,
        strand: &Strand,
        data: &[u8],
        is_counted: bool,
        now: Moment,
        period: u32,
    ) -> io::Result<()> {
        self.watch.write_within(now, period);
        let result = strand.send(&self.watch, data, is_counted).await;
        self.watch.write_done(0);
        result
    }

    /// Gives the socket everything that is in the buffer.
    pub(in crate::net) async fn send_raw(
        &self,
        buffer: Buffer,
        now: Moment,
        period: u32,
    ) -> (io::Result<()>, Buffer) {
        let mut buffer = Sealed(buffer);
        self.watch.write_within(now, period);
        let result = loop {
            let Some(socket) = self.exclusive() else { break not_connected() };
            let (sent, back) = socket.write(buffer).await;
            buffer = back;
            match self.took(sent, &mut buffer) {
                Took::All(len) => break Ok(len),
                Took::Some => {}
                Took::Nothing => self.writable().await,
                Took::Fault(error) => break Err(error),
            }
        };
        self.watch.write_done(*result.as_ref().unwrap_or(&0));
        (result.map(|_| ()), buffer.0)
    }

    /// Sends what is no message of HTTP/1, through TLS if there is any.
    pub async fn send_frames(
        &self,
        buffer: Buffer,
        now: Moment,
        period: u32,
    ) -> (io::Result<()>, Buffer) {
        if self.is_plain {
            return self.send_raw(buffer, now, period).await;
        }
        (self.send_wrapped(buffer.data(), false, now, period).await, buffer)
    }

    /// Writes pieces that lie apart, in as few calls as they go in: at once, by the calling thread, for
    /// they stay where they are. What does not go at once goes when there is room.
    ///
    /// # Errors
    /// As `send`.
    pub async fn send_pieces(&self, pieces: &[&[u8]], now: Moment, period: u32) -> io::Result<()> {
        match self.way() {
            Way::Plain => {}
            Way::Tls(tls) => return Box::pin(tls.send(self, pieces, now, period)).await,
            Way::Strand(strand) => {
                for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                    Box::pin(self.send_strand(strand, piece, false, now, period)).await?;
                }
                return Ok(());
            }
        }
        self.watch.write_within(now, period);
        let (mut at, mut skip) = (0, 0);
        let result = loop {
            // What is empty would look like the end.
            while pieces.get(at).is_some_and(|piece| skip >= piece.len()) {
                skip -= pieces[at].len();
                at += 1;
            }
            if at == pieces.len() {
                break Ok(0);
            }
            let mut slices = [io::IoSlice::new(b""); PIECES_AT_ONCE];
            let count = PIECES_AT_ONCE.min(pieces.len() - at);
            for (slice, piece) in slices.iter_mut().zip(&pieces[at..at + count]) {
                *slice = io::IoSlice::new(piece);
            }
            slices[0] = io::IoSlice::new(&pieces[at][skip..]);
            match socket::send_pieces(self.fd, &slices[..count]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    skip += len;
                    self.watch.wrote(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.watch.write_done(*result.as_ref().unwrap_or(&0));
        result.map(|_| ())
    }

    /// What a write has done, and what follows.
    fn took<B: Outgoing>(&self, sent: io::Result<usize>, buffer: &mut B) -> Took {
        match sent {
            Ok(len) if len == buffer.len() => {
                buffer.consume(len);
                Took::All(len)
            }
            Ok(0) => Took::Fault(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                buffer.consume(len);
                self.watch.wrote(len);
                Took::Some
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Took::Nothing,
            Err(error) => Took::Fault(error),
        }
    }
}

/// What became of a write.
enum Took {
    All(usize),
    Some,
    Nothing,
    Fault(io::Error),
}
