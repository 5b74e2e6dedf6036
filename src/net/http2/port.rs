//! A stream as h2 wants it: asked again and again whether something can be read or written. The
//! operations themselves are the stream's and own their buffers until they are through; what is
//! written is put together first, so that many frames go out in one call.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::clock::Moment;
use crate::base::limits::H2_FLUSH;
use crate::net::buffer::{Buffer, Buffers, Size};
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;
use crate::wire::meter::{Abuse, Meter};

type Read = Pin<Box<dyn Future<Output = (io::Result<usize>, Inbound)>>>;
type Write = Pin<Box<dyn Future<Output = (io::Result<()>, Buffer)>>>;

/// What a connection's owner and its port both look at.
pub struct Watched {
    pub stream: Stream,
    /// The time as the owner knows it.
    pub now: Cell<Moment>,
    /// Milliseconds in which the peer must take some of what is written.
    pub period: u32,
    /// What is wrong with how the peer behaves.
    pub abuse: Cell<Option<Abuse>>,
    /// Half of a head has come.
    pub in_block: Cell<bool>,
    /// How often something was received.
    pub reads: Cell<u64>,
    /// Who waits for something to be received, or for room.
    waiting: RefCell<Vec<Waker>>,
    /// The preface is through: what is abused from now on is the owner's to answer.
    pub is_begun: Cell<bool>,
    is_told: Cell<bool>,
}

impl Watched {
    /// A connection that has not begun.
    #[must_use]
    pub fn new(stream: Stream, now: Moment, period: u32) -> Self {
        Self {
            stream,
            now: Cell::new(now),
            period,
            abuse: Cell::default(),
            in_block: Cell::default(),
            reads: Cell::default(),
            waiting: RefCell::default(),
            is_begun: Cell::default(),
            is_told: Cell::default(),
        }
    }

    /// Is woken when something is received, or there may be room.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waiting.borrow_mut().push(waker.clone());
    }

    /// Wakes those who wait.
    pub(super) fn wake(&self) {
        if !self.waiting.borrow().is_empty() {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    fn is_mute(&self) -> bool {
        self.abuse.get().is_some()
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// The reading and writing of one connection.
pub struct Port {
    watched: Rc<Watched>,
    buffers: Rc<Buffers>,
    inbound: RefCell<Inbound>,
    meter: Option<Meter>,
    read: Option<Read>,
    out: Option<Buffer>,
    write: Option<Write>,
}

impl Port {
    /// Over a stream of which `inbound` has come already. `meter` counts what a client does.
    pub fn new(
        watched: Rc<Watched>,
        inbound: Inbound,
        buffers: &Rc<Buffers>,
        mut meter: Option<Meter>,
    ) -> Self {
        if let Some(meter) = &mut meter
            && let Err(abuse) = meter.feed(inbound.data(), 0)
        {
            watched.abuse.set(Some(abuse));
        }
        Self {
            watched,
            buffers: Rc::clone(buffers),
            inbound: RefCell::new(inbound),
            meter,
            read: None,
            out: None,
            write: None,
        }
    }

    fn start_reading(&self) -> Read {
        let (watched, buffers) = (Rc::clone(&self.watched), Rc::clone(&self.buffers));
        Box::pin(async move {
            let mut inbound = Inbound::default();
            let read = inbound.fill(&watched.stream, &buffers, Size::Small).await;
            (read, inbound)
        })
    }

    fn count(&mut self, data: &[u8]) {
        let second = self.watched.now.get().0 / 1000;
        if let Some(meter) = &mut self.meter {
            if let Err(abuse) = meter.feed(data, second) {
                self.watched.abuse.set(Some(abuse));
            }
            self.watched.in_block.set(meter.is_in_block());
        }
        self.watched.reads.set(self.watched.reads.get() + 1);
        self.watched.wake();
    }

    /// Who misbehaves is not listened to any more: the owner is woken to end it, if there is one yet.
    fn refuse(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.watched.is_begun.get() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if !self.watched.is_told.replace(true) {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Waits until what was put together is with the kernel.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(write) = &mut self.write {
                let (result, buffer) = ready!(write.as_mut().poll(context));
                self.write = None;
                self.buffers.give(buffer);
                result?;
            }
            let Some(out) = self.out.take() else { return Poll::Ready(Ok(())) };
            if let Some(meter) = &mut self.meter {
                meter.sent(out.len());
            }
            let watched = Rc::clone(&self.watched);
            self.write = Some(Box::pin(async move {
                let (now, period) = (watched.now.get(), watched.period);
                watched.stream.send_frames(out, now, period).await
            }));
        }
    }
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let port = self.get_mut();
        if port.watched.is_mute() {
            return port.refuse(context);
        }
        if port.inbound.get_mut().is_empty() {
            if port.read.is_none() {
                port.read = Some(port.start_reading());
            }
            let Some(read) = &mut port.read else { return Poll::Pending };
            let (result, inbound) = ready!(read.as_mut().poll(context));
            port.read = None;
            match result {
                Ok(1..) => {
                    port.count(inbound.data());
                    *port.inbound.get_mut() = inbound;
                    if port.watched.is_mute() {
                        return port.refuse(context);
                    }
                }
                Ok(0) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let inbound = port.inbound.get_mut();
        let len = inbound.data().len().min(out.remaining());
        out.put_slice(&inbound.data()[..len]);
        inbound.consume(len, &port.buffers);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let port = self.get_mut();
        if port.out.as_ref().is_some_and(|out| out.space() == 0) {
            ready!(port.poll_sent(context))?;
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let buffers = &port.buffers;
        let out = port.out.get_or_insert_with(|| buffers.take(Size::fitting(total.min(H2_FLUSH))));
        if out.space() < total && out.len() + total <= H2_FLUSH {
            let mut larger = buffers.take(Size::fitting(H2_FLUSH));
            larger.append(out.data());
            buffers.give(std::mem::replace(out, larger));
        }
        let mut taken = 0;
        for piece in pieces {
            let len = piece.len().min(out.space());
            out.append(&piece[..len]);
            taken += len;
            if len < piece.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let port = self.get_mut();
        ready!(port.poll_sent(context))?;
        port.watched.stream.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
