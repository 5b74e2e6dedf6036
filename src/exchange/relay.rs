//! Moves a request's body up and a response down. Data stays in the buffer that the kernel filled.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::deliver;
use super::fill::{Fill, Judged};
use super::replay::Replay;
use super::respond::connection_field;
use super::side::Answer;
use crate::base::clock::{Moment, millis};
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::base::limits::INTERIM_MAX;
use crate::config::model::{Route, Timeouts};
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{RequestHead, ResponseHead, Version};
use crate::net::body::{self, BodyReader, BodyWriter, Pace};
use crate::net::buffer::{Buffer, Buffers, Size};
use crate::net::inbound::Inbound;
use crate::net::stream::Stream;
use crate::route::rewrite;
use crate::shard::Shard;
use crate::upstream::choose::Ask;
use crate::upstream::flight::Flight;
use crate::upstream::{Cluster, http1};
use crate::wire::http1::reuse::peer_keeps;
use crate::wire::http1::write::{self, Writer};
use crate::wire::http1::{diagnose, upgrade};

/// What both directions of one try need to know.
pub struct Hop<'a, 'c> {
    pub shard: &'a Rc<Shard>,
    pub route: &'a Route,
    /// The cache wants to see the answer.
    pub fill: Option<&'a Fill<'a>>,
    /// The client's connection.
    pub stream: &'a Stream,
    pub answer: &'a Answer,
    pub may_keep: bool,
    pub request: &'a RequestHead,
    /// The protocol that we asked the upstream to switch to.
    pub upgrade: Option<&'a [u8]>,
    pub target: Target<'a, 'c>,
    /// Another endpoint has answered first.
    pub won: RefCell<Option<Flight<'c>>>,
}

/// Where one try goes.
#[derive(Clone, Copy)]
pub struct Target<'a, 'c> {
    pub cluster: &'c Cluster,
    pub id: EndpointId,
    pub ask: &'a Ask,
    pub total_by: Moment,
    pub timeouts: &'a Timeouts,
    /// What was sent of the request's body.
    pub replay: &'a RefCell<Replay>,
    /// Told to the endpoint if the cluster says so.
    pub client: SocketAddr,
    /// The client came by TLS.
    pub is_secure: bool,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By its framing, all of it written to the client.
    Whole,
    /// With a 101 that was asked for.
    Switched,
    /// By its framing, and the client gets something else for it.
    Answered,
    /// Its body is for the cache, and still to be read.
    Stored,
    /// Its body is for nobody: the connection is of no use any more.
    Dropped,
}

impl Hop<'_, '_> {
    /// When the head of the answer must have come, counted from now.
    #[must_use]
    pub fn first_byte_by(&self) -> Moment {
        let mut patience = self.target.timeouts.first_byte;
        if self.target.cluster.is_impatient && self.is_impatient() {
            patience = self.target.cluster.model.resilience.retry.try_timeout;
        }
        self.shard.now().after(patience).min(self.target.total_by)
    }

    /// The endpoint whose answer this is.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        if self.target.cluster.pace.is_none() {
            return self.target.id;
        }
        self.won.borrow().as_ref().map_or(self.target.id, |flight| flight.id)
    }

    /// An answer that takes longer than one try may is given up: there is another to be had.
    #[must_use]
    pub fn is_impatient(&self) -> bool {
        let policy = &self.target.cluster.model.resilience.retry;
        self.target.cluster.is_impatient
            && policy.try_timeout < self.target.timeouts.first_byte
            && self.may_repeat()
    }

    /// The request could go to somebody else instead.
    fn may_repeat(&self) -> bool {
        let Target { cluster, id, ask: Ask { tries, .. }, .. } = self.target;
        self.request.method.is_idempotent()
            && self.request.framing.is_empty()
            && tries.has_left(&cluster.model.resilience.retry)
            && cluster.has_other(tries, id)
    }

    /// Gives an answer up for another try, if its status asks for that and the budget allows it.
    fn is_given_up(&self, status: u16) -> bool {
        let cluster = self.target.cluster;
        let is_wanted = cluster.model.resilience.retry.on.statuses.contains(status);
        let is_given_up = is_wanted && self.may_repeat() && cluster.may_retry();
        if is_given_up {
            cluster.answered(self.id(), status);
        }
        is_given_up
    }
}

/// Writes the request's head with as much of its body as has come already, in one go if it fits.
///
/// # Errors
/// What is wrong with the body, or that the upstream does not take it.
pub async fn begin(
    hop: &Hop<'_, '_>,
    mut head: Buffer,
    body: &mut BodyReader<'_>,
    up: &mut BodyWriter<'_>,
) -> Result<()> {
    let shard = hop.shard;
    if !hop.target.replay.borrow().sent().is_empty() {
        return begin_again(hop, head, body, up).await;
    }
    let mut is_ended = false;
    let mut rest = None;
    match body.ready() {
        Ok(Some(mut data)) => {
            hop.target.replay.borrow_mut().keep(data.data(), up.is_stream());
            is_ended = body.is_done() && !body.has_trailers();
            up.frame(&mut data, is_ended);
            rest = join(&mut head, data, &shard.buffers);
        }
        Ok(None) => {}
        Err(kind) => {
            shard.buffers.give(head);
            return Err(kind);
        }
    }
    up.raw(head, shard.now()).await?;
    if let Some(rest) = rest {
        up.raw(rest, shard.now()).await?;
    }
    if body.is_done() && !is_ended {
        let trailers = trailers_of(hop, body);
        up.end(trailers.as_ref(), shard.now()).await?;
    }
    Ok(())
}

/// The same for another try: what the last one has sent goes out first.
async fn begin_again(
    hop: &Hop<'_, '_>,
    head: Buffer,
    body: &BodyReader<'_>,
    up: &mut BodyWriter<'_>,
) -> Result<()> {
    let shard = hop.shard;
    up.raw(head, shard.now()).await?;
    let mut from = 0;
    loop {
        let (buffer, is_last) = {
            let replay = hop.target.replay.borrow();
            let rest = &replay.sent()[from..];
            let mut buffer = shard.buffers.take(Size::Small);
            let len = rest.len().min(buffer.space());
            buffer.append(&rest[..len]);
            from += len;
            (buffer, len == rest.len())
        };
        // Trailers that were sent are not kept: a body with some is not sent again.
        up.data(buffer, is_last && body.is_done(), shard.now()).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// A request's trailers, without what only we may say: some servers put them among the fields.
fn trailers_of(hop: &Hop<'_, '_>, body: &mut BodyReader<'_>) -> Option<Fields> {
    let mut trailers = body.take_trailers()?;
    hop.target.replay.borrow_mut().lose();
    for name in &hop.shard.plan.config.reserved {
        trailers.remove_named(name.as_bytes());
    }
    Some(trailers)
}

/// Puts data behind a head if there is room, so that both go out at once; hands it back if not.
fn join(head: &mut Buffer, data: Buffer, buffers: &Buffers) -> Option<Buffer> {
    if data.len() > head.space() {
        return Some(data);
    }
    head.append(data.data());
    buffers.give(data);
    None
}

/// Moves the rest of the request's body. Its last octet starts the wait for an answer.
///
/// # Errors
/// What is wrong with the body, or that the upstream does not take it.
pub async fn request(
    hop: &Hop<'_, '_>,
    upstream: &Stream,
    body: &mut BodyReader<'_>,
    up: &mut BodyWriter<'_>,
) -> Result<()> {
    let shard = hop.shard;
    let mut is_ended = false;
    loop {
        body.pace_for(upstream);
        let Some(data) = body.next(|| shard.now()).await? else { break };
        is_ended = body.is_done() && !body.has_trailers();
        hop.target.replay.borrow_mut().keep(data.data(), up.is_stream());
        up.data(data, is_ended, shard.now()).await?;
        hop.answer.received.set(body.received);
    }
    hop.answer.has_come.set(true);
    if !is_ended {
        let trailers = trailers_of(hop, body);
        up.end(trailers.as_ref(), shard.now()).await?;
    }
    hop.answer.body_done.set(true);
    if !hop.answer.begun.get() {
        upstream.read_by(hop.first_byte_by());
    }
    Ok(())
}

/// Relays interim responses, the final head and the body.
///
/// # Errors
/// Why there was no answer, or no whole one; or that the client is gone.
pub async fn response(
    hop: &Hop<'_, '_>,
    upstream: &Stream,
    inbound: &mut Inbound,
    response: &mut ResponseHead,
) -> Result<Ended> {
    if final_head(hop, upstream, inbound, response).await? == Ended::Switched {
        return Ok(Ended::Switched);
    }
    if response.status >= 400 && hop.is_given_up(response.status) {
        return Err(Kind::UpstreamStatus);
    }
    if let Some(fill) = hop.fill {
        hop.answer.status.set(response.status);
        if let Judged::Taken(ended) = Box::pin(fill.judge(hop, response)).await {
            return Ok(ended);
        }
        deliver::add_status(hop.shard, hop.answer, fill.status.get(), &mut response.fields);
    }
    rewrite::fields(&mut response.fields, &hop.route.response_headers);
    add_cookie(hop, response);
    let shard = hop.shard;
    let idle = hop.target.timeouts.body_idle;
    let framing = framing_for(hop.request.version, response.framing);
    let pace = Pace { idle, total_by: hop.target.total_by, rate: 0 };
    let (read, faults) = (response.framing, body::RESPONSE);
    let buffers = &shard.buffers;
    let mut body = BodyReader::new(upstream, inbound, buffers, read, faults, pace, shard.now());
    // What came with the head goes out with the head. A fault in it is found before anything has
    // been said, so that the client gets a proper error.
    let first = body.ready();
    hop.answer.detail.set(body.detail);
    let first = first?;
    if !body.is_done() {
        body.may_be_silent(silence_of(response, hop.target.timeouts));
    }
    let mut writer = BodyWriter::downstream(hop.stream, &shard.buffers, framing, idle);
    let mut out = final_bytes(hop, response, framing)?;
    let mut is_ended = false;
    let mut rest = None;
    if let Some(mut data) = first {
        is_ended = body.is_done() && !body.has_trailers();
        writer.frame(&mut data, is_ended);
        hop.answer.sent.set(writer.sent);
        rest = join(&mut out, data, &shard.buffers);
    }
    writer.raw(out, shard.now()).await?;
    if let Some(rest) = rest {
        writer.raw(rest, shard.now()).await?;
    }
    loop {
        if !body.is_done() && hop.request.version == Version::Http2 {
            body.limit(room_for(hop).await?);
        }
        body.pace_for(hop.stream);
        let next = body.next(|| shard.now()).await;
        let Some(data) = next.inspect_err(|_| hop.answer.detail.set(body.detail))? else { break };
        is_ended = body.is_done() && !body.has_trailers();
        writer.data(data, is_ended, shard.now()).await?;
        hop.answer.sent.set(writer.sent);
    }
    if !is_ended && !response.framing.is_empty() {
        let trailers = body.take_trailers();
        writer.end(trailers.as_ref(), shard.now()).await?;
    }
    Ok(Ended::Whole)
}

/// Sends the client to the same endpoint next time, if the cluster is to do so.
fn add_cookie(hop: &Hop<'_, '_>, response: &mut ResponseHead) {
    let Target { cluster, id, ask, is_secure, .. } = hop.target;
    if cluster.is_sticky()
        && let Some(cookie) = cluster.cookie(ask, id, hop.shard.wall(), is_secure)
    {
        response.fields.push(b"Set-Cookie", cookie.as_bytes());
    }
}

/// How long a body may be silent: one of events, or of a call, for as long as nothing happens.
#[must_use]
pub fn silence_of(response: &ResponseHead, timeouts: &Timeouts) -> Duration {
    let kind = response.fields.values_named(b"content-type").next().unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_stream = kind.eq_ignore_ascii_case(b"text/event-stream")
        || kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"));
    if is_stream { timeouts.stream_idle } else { timeouts.body_idle }
}

/// How much a client of HTTP/2 takes now; waits until it takes some.
async fn room_for(hop: &Hop<'_, '_>) -> Result<usize> {
    let period = u32::try_from(millis(hop.target.timeouts.body_idle) / 2).unwrap_or(u32::MAX);
    hop.stream.room(hop.shard.now(), period).await.ok_or(Kind::ClientTooSlow)
}

/// How the body ends for this client: nothing needs the connection's end but HTTP/1.0.
fn framing_for(client: Version, upstream: Framing) -> Framing {
    match (upstream, client) {
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        // Of HTTP/2 the stream itself is the frame: its writer knows.
        (Framing::Chunked | Framing::UntilClose, _) => Framing::Chunked,
        (known, _) => known,
    }
}

/// The final head's bytes. From here on no other answer can be given.
fn final_bytes(hop: &Hop<'_, '_>, response: &ResponseHead, framing: Framing) -> Result<Buffer> {
    let (shard, answer) = (hop.shard, hop.answer);
    let keeps = hop.may_keep
        && framing != Framing::UntilClose
        // The rest of the request would stand between this answer and the next request.
        && answer.body_done.get()
        && peer_keeps(hop.request.version, hop.request.options)
        && shard.may_keep();
    let mut date = [0; 29];
    let date_len = shard.date(&mut date);
    let field = connection_field(keeps, hop.request.version);
    let mut out = shard.buffers.take(Size::fitting(response.fields.wire_len() + 320));
    let mut head = Writer::new(out.spare());
    write::response(response, framing, &date[..date_len], field, &mut head);
    let len = head.finish().ok_or(Kind::UpstreamHeadTooLarge)?;
    out.filled(len);
    answer.begun.set(true);
    answer.keeps.set(keeps);
    answer.status.set(response.status);
    answer.ends_by_close.set(framing == Framing::UntilClose);
    Ok(out)
}

/// Reads heads until the final one, passing interim ones on.
async fn final_head(
    hop: &Hop<'_, '_>,
    upstream: &Stream,
    inbound: &mut Inbound,
    response: &mut ResponseHead,
) -> Result<Ended> {
    let (shard, asked) = (hop.shard, hop.request.method);
    let mut interim = 0;
    loop {
        let read = http1::read_head(upstream, inbound, &shard.buffers, asked, response).await;
        if read == Err(Kind::FirstByteTimeout) && shard.now() >= hop.target.total_by {
            return Err(Kind::TotalTimeout);
        }
        read.inspect_err(|kind| {
            if *kind == Kind::UpstreamHead {
                hop.answer.detail.set(Some(diagnose::answer(inbound.data())));
            }
        })?;
        if !response.is_interim() {
            upstream.read_by(Moment::NEVER);
            if !hop.request.framing.is_empty() {
                hop.target.replay.borrow_mut().lose();
            }
            return Ok(Ended::Whole);
        }
        if response.status == 101 {
            // RFC 9110 section 7.8: only a protocol that was asked for.
            let is_granted = hop.upgrade.is_some_and(|asked| upgrade::is_granted(asked, response));
            return if is_granted { Ok(Ended::Switched) } else { Err(Kind::UpstreamUpgrade) };
        }
        interim += 1;
        if interim > INTERIM_MAX {
            return Err(Kind::UpstreamInterim);
        }
        // RFC 9110 section 15.2: HTTP/1.0 does not know them.
        let is_heard = hop.fill.is_none_or(|fill| !fill.is_alone);
        if hop.request.version != Version::Http10 && is_heard {
            send_interim(hop, response).await?;
        }
    }
}

async fn send_interim(hop: &Hop<'_, '_>, response: &ResponseHead) -> Result<()> {
    let shard = hop.shard;
    let mut buffer = shard.buffers.take(Size::fitting(response.fields.wire_len() + 64));
    let mut out = Writer::new(buffer.spare());
    write::interim(response, &mut out);
    let len = out.finish().ok_or(Kind::UpstreamHeadTooLarge)?;
    buffer.filled(len);
    let idle = hop.target.timeouts.body_idle;
    let mut writer = BodyWriter::downstream(hop.stream, &shard.buffers, Framing::None, idle);
    writer.raw(buffer, shard.now()).await
}
