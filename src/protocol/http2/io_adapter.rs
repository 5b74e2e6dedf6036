//! A stream as h2 wants it: asked again and again whether something can be read or written. The
//! operations themselves are the stream's and own their buffers until they are through; what is
//! written is put together first, so that many frames go out in one call.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::limits::{H2_FLUSH, LINGER_BYTES};
use crate::net::backlog::Backlog;
use crate::net::buffer::{Buffer, Buffers};
use crate::net::inbound::Inbound;
use crate::net::size::Size;
use crate::net::transport::Transport;
use crate::net::wakers::Wakers;
use crate::wire::error_code_rewriter::{ErrorCodeRewriter, Told};
use crate::wire::frames::RST_STREAM;
use crate::wire::meter::{Abuse, Meter};
use crate::wire::rules::is_fault;

type Read = Pin<Box<dyn Future<Output = (io::Result<usize>, Inbound)>>>;
type Write = Pin<Box<dyn Future<Output = (io::Result<()>, Buffer)>>>;

/// What a connection's owner and its adapter both look at.
pub struct ConnectionState {
    pub transport: Transport,
    /// Milliseconds in which the peer must take some of what is written.
    pub period: u32,
    /// What is wrong with how the peer behaves.
    pub abuse: Cell<Option<Abuse>>,
    /// Half of a head has come.
    pub in_block: Cell<bool>,
    /// Faults that a client was told of and its owner has not taken note of.
    pub told: Cell<u32>,
    /// The same of an end because of abuse.
    pub has_calmed: Cell<bool>,
    /// Everything was said, and what still comes is dropped: until the peer ends its side, or its owner
    /// loses patience.
    pub is_lingering: Cell<bool>,
    /// What of answers the client has not taken.
    pub backlog: Rc<Backlog>,
    /// Octets of the heads of requests that are served now.
    pub heads: Cell<usize>,
    /// Requests that origins have answered and that the meter has not heard of.
    pub answered: Cell<u32>,
    /// How often something was received.
    pub reads: Cell<u64>,
    /// The tasks that wait for something to be received, or for room.
    waiting: Wakers,
}

impl ConnectionState {
    /// A connection that has not begun.
    #[must_use]
    pub fn new(transport: Transport, period: u32) -> Self {
        Self {
            transport,
            period,
            abuse: Cell::default(),
            in_block: Cell::default(),
            told: Cell::default(),
            has_calmed: Cell::default(),
            is_lingering: Cell::default(),
            backlog: Rc::default(),
            heads: Cell::default(),
            answered: Cell::default(),
            reads: Cell::default(),
            waiting: Wakers::default(),
        }
    }

    /// Is woken when something is received, or there may be room.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waiting.add(waker);
    }

    /// Wakes the tasks that wait.
    pub(super) fn wake(&self) {
        self.waiting.wake();
    }

    fn is_mute(&self) -> bool {
        self.abuse.get().is_some()
    }
}

impl std::fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionState")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// What looks at a client's frames on their way in and out.
#[derive(Debug)]
pub struct FrameGuard {
    meter: Meter,
    rewriter: ErrorCodeRewriter,
    /// The end was said.
    is_over: bool,
}

impl FrameGuard {
    /// Of a client that may have so many streams open.
    #[must_use]
    pub fn new(streams: u32) -> Self {
        let meter = Meter::new(usize::try_from(streams).unwrap_or(usize::MAX));
        Self { meter, rewriter: ErrorCodeRewriter::default(), is_over: false }
    }
}

/// The reading and writing of one connection.
pub struct IoAdapter {
    watched: Rc<ConnectionState>,
    buffers: Rc<Buffers>,
    inbound: RefCell<Inbound>,
    guard: Option<FrameGuard>,
    read: Option<Read>,
    out: Option<Buffer>,
    write: Option<Write>,
    /// Octets that came when everything was said.
    dropped: u64,
}

impl IoAdapter {
    /// Over a transport of which `inbound` has come already. A client's is guarded.
    pub fn new(
        watched: Rc<ConnectionState>,
        inbound: Inbound,
        buffers: &Rc<Buffers>,
        guard: Option<FrameGuard>,
    ) -> Self {
        Self {
            watched,
            buffers: Rc::clone(buffers),
            inbound: RefCell::new(inbound),
            guard,
            read: None,
            out: None,
            write: None,
            dropped: 0,
        }
    }

    fn start_reading(&self) -> Read {
        let (watched, buffers) = (Rc::clone(&self.watched), Rc::clone(&self.buffers));
        Box::pin(async move {
            let mut inbound = Inbound::default();
            let read = inbound.fill(&watched.transport, &buffers, Size::Small).await;
            (read, inbound)
        })
    }

    /// Waits until there is something in `inbound`; how much was read for it, 0 at the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.is_none() {
            self.read = Some(self.start_reading());
        }
        let Some(read) = &mut self.read else { return Poll::Pending };
        let (result, inbound) = ready!(read.as_mut().poll(context));
        self.read = None;
        *self.inbound.get_mut() = inbound;
        Poll::Ready(result)
    }

    /// How many of the octets that wait h2 may have now.
    fn admit(&mut self, most: usize) -> usize {
        let data = self.inbound.get_mut().data();
        let data = &data[..data.len().min(most)];
        let Some(FrameGuard { meter, .. }) = &mut self.guard else { return data.len() };
        let answered = self.watched.answered.get();
        // An odd one waits for the next: two pay for one.
        self.watched.answered.set(answered % 2);
        meter.earned(answered - answered % 2);
        let admitted = meter.admit(data, self.watched.transport.now().0 / 1000);
        self.watched.in_block.set(meter.rules().is_in_block());
        if meter.frame().kind == RST_STREAM {
            self.watched.backlog.drop_head(meter.frame().stream);
        }
        admitted.unwrap_or_else(|abuse| {
            self.watched.abuse.set(Some(abuse));
            0
        })
    }

    /// Reads and drops what a client sends that will not be heard, so that what was said to it is not lost
    /// in the reset of a connection that is closed with data unread (RFC 9112 section 9.6).
    fn poll_drop(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.inbound.get_mut().release(&self.buffers);
            if self.dropped > LINGER_BYTES {
                return Poll::Ready(());
            }
            match ready!(self.poll_fill(context)) {
                Ok(len @ 1..) => self.dropped += len as u64,
                Ok(0) | Err(_) => {
                    self.dropped = u64::MAX;
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Rewrites the error codes in the frames that stand behind the first `from` octets of what goes out.
    fn rewrite_codes(&mut self, from: usize) {
        let (Some(guard), Some(out)) = (&mut self.guard, &mut self.out) else { return };
        let FrameGuard { meter, rewriter, is_over } = guard;
        let abuse = &self.watched.abuse;
        let mut ended = Vec::new();
        let name = || match abuse.get() {
            // It has its name.
            Some(_) => Reason::PROTOCOL_ERROR,
            None => meter.rules().name(),
        };
        let backlog = &self.watched.backlog;
        rewriter.pass(&mut out.data_mut()[from..], name, |told| match told {
            Told::Head(stream) => backlog.drop_head(stream),
            told => ended.push(told),
        });
        for one in ended {
            let is_fault = match one {
                Told::Head(_) => false,
                Told::Stream(stream, reason) => {
                    backlog.drop_head(stream);
                    meter.reset(stream, reason).unwrap_or_else(|found| {
                        abuse.set(abuse.get().or(Some(found)));
                        reason != Reason::REFUSED_STREAM
                    })
                }
                Told::Connection(reason) => {
                    *is_over = true;
                    let is_calm = reason == Reason::ENHANCE_YOUR_CALM;
                    self.watched.has_calmed.set(self.watched.has_calmed.get() || is_calm);
                    is_fault(reason) && !is_calm
                }
            };
            let told = &self.watched.told;
            told.set(told.get().saturating_add(u32::from(is_fault)));
        }
    }

    /// Nothing more can be put together.
    fn is_full(&self) -> bool {
        self.out.as_ref().is_some_and(|out| out.space() == 0)
    }

    /// Nothing that comes is listened to any more.
    fn is_deaf(&self) -> bool {
        self.watched.is_mute() || self.guard.as_ref().is_some_and(|guard| guard.is_over)
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
            if let Some(guard) = &mut self.guard {
                guard.meter.sent(out.len());
            }
            let watched = Rc::clone(&self.watched);
            self.write =
                Some(Box::pin(
                    async move { watched.transport.send_frames(out, watched.period).await },
                ));
        }
    }
}

impl AsyncRead for IoAdapter {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let adapter = self.get_mut();
        // A peer that misbehaves is not read any more: the task that polls this ends it.
        if adapter.watched.is_mute() {
            return Poll::Pending;
        }
        if adapter.guard.is_some() && adapter.is_full() {
            // A peer that does not take what it is owed is not owed more.
            ready!(adapter.poll_sent(context))?;
        }
        if adapter.inbound.get_mut().is_empty() {
            if let Some(guard) = &mut adapter.guard {
                guard.meter.settle();
            }
            if ready!(adapter.poll_fill(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
            adapter.watched.reads.set(adapter.watched.reads.get() + 1);
            adapter.watched.wake();
        }
        let len = adapter.admit(out.remaining());
        if adapter.watched.is_mute() {
            return Poll::Pending;
        }
        let inbound = adapter.inbound.get_mut();
        out.put_slice(&inbound.data()[..len]);
        inbound.consume(len, &adapter.buffers);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for IoAdapter {
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
        let adapter = self.get_mut();
        if adapter.is_full() {
            if adapter.is_deaf() {
                let _ = adapter.poll_drop(context);
            }
            ready!(adapter.poll_sent(context))?;
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let buffers = &adapter.buffers;
        let out =
            adapter.out.get_or_insert_with(|| buffers.take(Size::fitting(total.min(H2_FLUSH))));
        if out.space() < total && out.len() + total <= H2_FLUSH {
            let mut larger = buffers.take(Size::fitting(H2_FLUSH));
            larger.append(out.data());
            buffers.give(std::mem::replace(out, larger));
        }
        let (mut taken, before) = (0, out.len());
        for piece in pieces {
            let len = piece.len().min(out.space());
            out.append(&piece[..len]);
            taken += len;
            if len < piece.len() {
                break;
            }
        }
        adapter.rewrite_codes(before);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let adapter = self.get_mut();
        if adapter.is_deaf() {
            // A peer that does not read while it writes would wait for us, and we for it.
            let _ = adapter.poll_drop(context);
        }
        adapter.poll_sent(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let adapter = self.get_mut();
        if adapter.guard.is_none() {
            ready!(adapter.poll_sent(context))?;
            adapter.watched.transport.shutdown_write();
            return Poll::Ready(Ok(()));
        }
        let is_over = adapter.poll_drop(context).is_ready();
        ready!(adapter.poll_sent(context))?;
        if !adapter.watched.is_lingering.replace(true) {
            adapter.watched.transport.shutdown_write();
        }
        if is_over { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
