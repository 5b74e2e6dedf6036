//! An entry of the cache to a client: whole, in part, or "not modified". Small bodies go out with
//! their head; of large ones nothing is copied but what fits beside it.

use std::rc::Rc;
use std::sync::Arc;

use super::respond::connection_field;
use super::side::{Answer as Told, Downstream};
use crate::base::error::{Kind, Result};
use crate::cache::entry::{Entry, Large, lines};
use crate::cache::octets::Chunk;
use crate::cache::status::{self, Status};
use crate::cache::validate::Answer;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{Method, RequestHead};
use crate::message::name::Name;
use crate::net::body::BodyWriter;
use crate::net::buffer::{Buffer, Shared, Size};
use crate::shard::Shard;
use crate::wire::http1::reuse::peer_keeps;
use crate::wire::http1::write::{self, Writer};

/// Between the parts of a multipart answer; what is between them is counted, not searched.
const BOUNDARY: &[u8] = b"millrace-part-5f1d9a";

/// The fields of RFC 9211 and of an answer's own, at most.
const ADDED: usize = 1024;

/// What goes to the client first, and what is left then.
pub struct Parcel {
    pub buffer: Buffer,
    pub rest: Vec<Piece>,
}

/// A piece of an answer's body.
#[derive(Clone, Debug)]
pub enum Piece {
    Octets(Vec<u8>),
    /// Of a body that stands in its entry's own block.
    Small(Arc<Entry>, usize, usize),
    Shared(Shared),
}

/// Everything that decides what an answer looks like.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    pub entry: &'a Arc<Entry>,
    pub request: &'a RequestHead,
    pub answer: &'a Answer,
    pub status: Status,
    /// How the body is framed, where it is not known whole.
    pub growing: Option<Framing>,
    /// Field lines for this client alone.
    pub own: &'a [u8],
}

/// Sends an entry.
///
/// # Errors
/// The client is gone.
pub async fn send(shard: &Rc<Shard>, parcel: Parcel, down: &Downstream<'_>) -> Result<()> {
    let period = shard.plan.config.listeners[usize::from(down.listener.0)].keepalive;
    let framing = Framing::None;
    let mut writer = BodyWriter::downstream(down.stream, &shard.buffers, framing, period);
    if parcel.rest.is_empty() {
        return writer.raw(parcel.buffer, shard.now()).await;
    }
    let pieces: Vec<&[u8]> = parcel.rest.iter().map(Piece::octets).collect();
    if parcel.buffer.is_counted() {
        writer.raw(parcel.buffer, shard.now()).await?;
        return writer.rest(&pieces, shard.now()).await;
    }
    writer.pieces(parcel.buffer, &pieces, shard.now()).await
}

/// Makes an answer of an entry: from here on no other can be given.
///
/// # Errors
/// `Internal` if the head has outgrown every bound.
pub fn parcel(shard: &Shard, down: &Downstream<'_>, order: Order<'_>) -> Result<Parcel> {
    let Order { entry, request, answer, .. } = order;
    let body = Body::of(entry, answer, order.growing);
    let keeps = down.may_keep
        && down.answer.body_done.get()
        && peer_keeps(request.version, request.options)
        && body.framing != Framing::UntilClose
        && shard.may_keep();
    let sends_body = request.method != Method::Head && order.growing.is_none();
    let (small, from) = if sends_body { (body.small, body.from) } else { (&b""[..], 0) };
    let room = entry.fields().len() + order.own.len() + ADDED;
    // A client of HTTP/2 may take its time for the body: it stays where it is, and only the head is copied.
    let backlog = down.stream.backlog();
    let mut buffer = match &backlog {
        None => shard.buffers.take(Size::fitting(room + small.len())),
        Some(backlog) => {
            let mut buffer = shard.buffers.take(Size::snug(room));
            buffer.count(backlog.hold(buffer.space()));
            buffer
        }
    };
    let mut out = Writer::new(buffer.spare());
    head(shard, down, &order, &body, keeps, &mut out);
    let Some(len) = out.finish() else {
        shard.buffers.give(buffer);
        return Err(Kind::Internal);
    };
    buffer.filled(len);
    let told = down.answer;
    told.begun.set(true);
    told.cache.set(Some(order.status));
    told.keeps.set(keeps);
    told.status.set(body.status);
    told.ends_by_close.set(body.framing == Framing::UntilClose);
    let mut rest = if sends_body { body.rest } else { Vec::new() };
    if small.len() <= buffer.space() && backlog.is_none() {
        buffer.append(small);
    } else if !small.is_empty() {
        rest.insert(0, Piece::Small(Arc::clone(entry), from, from + small.len()));
    }
    if sends_body && let Framing::Length(len) = body.framing {
        told.sent.set(len);
    }
    Ok(Parcel { buffer, rest })
}

fn head(
    shard: &Shard,
    down: &Downstream<'_>,
    order: &Order<'_>,
    body: &Body<'_>,
    keeps: bool,
    out: &mut Writer<'_>,
) {
    let Order { entry, request, answer, status, own, .. } = *order;
    let now = shard.now();
    let more = |out: &mut Writer<'_>| {
        out.put(b"Age: ");
        out.number(entry.freshness().age(now));
        out.put(b"\r\n");
        body.own_fields(out);
        out.put(own);
        let key = down.client.is_trusted.then(|| crate::cache::key::parts(entry.key()));
        put_status(shard, status, key, out);
    };
    let connection = connection_field(keeps, request.version);
    let framing = body.framing;
    let is_all = matches!(answer, Answer::Whole | Answer::Part(..)) && !body.is_refused();
    if is_all {
        return write::stored(body.status, entry.fields(), more, framing, connection, out);
    }
    let mut kept = Vec::with_capacity(entry.fields().len());
    for (at, line) in lines(entry.fields()) {
        if body.keeps_field(line) {
            kept.extend_from_slice(&entry.fields()[at..at + line.len() + 2]);
        }
    }
    write::stored(body.status, &kept, more, framing, connection, out);
}

/// Writes the Cache-Status field. Who may see it gets the key.
fn put_status(shard: &Shard, status: Status, key: Option<(&[u8], &[u8])>, out: &mut Writer<'_>) {
    out.put(b"Cache-Status: ");
    let key = key.map(|(authority, target)| {
        let most = ADDED / 2;
        let all = [authority, target].concat();
        all[..all.len().min(most)].to_vec()
    });
    status.write(&shard.plan.name, key.as_deref(), |part| out.put(part));
    out.put(b"\r\n");
}

/// Adds the Cache-Status field to an answer that comes from elsewhere.
pub fn add_status(shard: &Shard, told: &Told, status: Status, fields: &mut Fields) {
    told.cache.set(Some(status));
    let mut text = Vec::with_capacity(64);
    status.write(&shard.plan.name, None, |part| text.extend_from_slice(part));
    fields.push_known(Name::CacheStatus, b"Cache-Status", &text);
}

/// What an answer says and holds behind its stored fields.
struct Body<'a> {
    status: u16,
    framing: Framing,
    /// What stands in the entry's own block.
    small: &'a [u8],
    /// Where in that block it begins.
    from: usize,
    rest: Vec<Piece>,
    answer: &'a Answer,
    len: u64,
}

impl<'a> Body<'a> {
    fn of(entry: &'a Entry, answer: &'a Answer, growing: Option<Framing>) -> Self {
        let len = entry.body_len().unwrap_or(0);
        let mut body = Self {
            status: entry.status(),
            framing: Framing::None,
            small: b"",
            from: 0,
            rest: Vec::new(),
            answer,
            len,
        };
        match answer {
            Answer::NotModified => body.status = 304,
            Answer::Unsatisfiable => {
                body.status = 416;
                body.framing = Framing::Length(0);
            }
            _ if matches!(entry.status(), 204 | 304) => {}
            Answer::Whole => {
                body.framing = growing.unwrap_or(Framing::Length(len));
                body.part(entry, 0, len);
            }
            Answer::Part(first, count) => {
                body.status = 206;
                body.framing = Framing::Length(*count);
                body.part(entry, *first, *count);
            }
            Answer::Parts(parts) => {
                body.status = 206;
                body.multipart(entry, parts);
            }
        }
        body
    }

    fn part(&mut self, entry: &'a Entry, first: u64, count: u64) {
        if let (Some(small), Ok(from), Ok(len)) =
            (entry.small(), usize::try_from(first), usize::try_from(count))
        {
            self.small = small.get(from..from + len).unwrap_or_default();
            self.from = from;
        } else {
            self.rest = pieces(entry, first, count);
        }
    }

    /// RFC 9110 section 14.6.
    fn multipart(&mut self, entry: &Entry, parts: &[(u64, u64)]) {
        let kind = content_type(entry);
        let mut total = 0;
        let mut add = |rest: &mut Vec<Piece>, piece: Piece, len: u64| {
            total += len;
            rest.push(piece);
        };
        for (first, count) in parts {
            let mut line = Vec::new();
            line.extend_from_slice(b"\r\n--");
            line.extend_from_slice(BOUNDARY);
            if let Some(kind) = kind {
                line.extend_from_slice(b"\r\nContent-Type: ");
                line.extend_from_slice(kind);
            }
            line.extend_from_slice(b"\r\nContent-Range: ");
            put_range(*first, *count, self.len, &mut |part| line.extend_from_slice(part));
            line.extend_from_slice(b"\r\n\r\n");
            let len = line.len() as u64;
            add(&mut self.rest, Piece::Octets(line), len);
            for piece in pieces(entry, *first, *count) {
                let len = piece.len();
                add(&mut self.rest, piece, len);
            }
        }
        let end = [b"\r\n--", BOUNDARY, b"--\r\n"].concat();
        let len = end.len() as u64;
        add(&mut self.rest, Piece::Octets(end), len);
        self.framing = Framing::Length(total);
    }

    fn is_refused(&self) -> bool {
        self.status == 416
    }

    /// Whether a stored field belongs into an answer that is not the whole (RFC 9110 sections
    /// 15.4.5, 15.5.17 and 14.6).
    fn keeps_field(&self, line: &[u8]) -> bool {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = &line[..colon];
        let is_body = name.len() > 8 && name[..8].eq_ignore_ascii_case(b"content-");
        match self.answer {
            Answer::Parts(_) => !name.eq_ignore_ascii_case(b"content-type"),
            Answer::NotModified => !is_body || Name::of(name) == Name::ContentLocation,
            Answer::Unsatisfiable => Name::of(name) == Name::Date,
            Answer::Whole | Answer::Part(..) => true,
        }
    }

    /// The fields that this answer has and the entry has not.
    fn own_fields(&self, out: &mut Writer<'_>) {
        let mut put = |part: &[u8]| out.put(part);
        match self.answer {
            Answer::Part(first, count) => {
                put(b"Content-Range: ");
                put_range(*first, *count, self.len, &mut put);
                put(b"\r\n");
            }
            Answer::Parts(_) => {
                put(b"Content-Type: multipart/byteranges; boundary=");
                put(BOUNDARY);
                put(b"\r\n");
            }
            Answer::Unsatisfiable => {
                put(b"Content-Range: bytes */");
                status::put_number(i64::try_from(self.len).unwrap_or(i64::MAX), &mut put);
                put(b"\r\n");
            }
            Answer::Whole | Answer::NotModified => {}
        }
    }
}

fn content_type(entry: &Entry) -> Option<&[u8]> {
    lines(entry.fields()).find_map(|(_, line)| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(b"content-type").then(|| &line[colon + 2..])
    })
}

fn put_range(first: u64, count: u64, total: u64, put: &mut impl FnMut(&[u8])) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    put(b"bytes ");
    status::put_number(number(first), put);
    put(b"-");
    status::put_number(number(first + count - 1), put);
    put(b"/");
    status::put_number(number(total), put);
}

/// So many octets of a body, from its `first` on, as they lie in memory.
fn pieces(entry: &Entry, first: u64, count: u64) -> Vec<Piece> {
    match entry.large() {
        None => {
            let small = entry.small().unwrap_or_default();
            let from = usize::try_from(first).unwrap_or(usize::MAX).min(small.len());
            let len = usize::try_from(count).unwrap_or(usize::MAX).min(small.len() - from);
            vec![Piece::Octets(small[from..from + len].to_vec())]
        }
        Some(Large::Growing(_)) => Vec::new(),
        Some(Large::Whole(bulk)) => cut(bulk.chunks(), first, count),
        Some(Large::Partial { first: begins, data, .. }) => {
            cut(std::slice::from_ref(data), first.saturating_sub(*begins), count)
        }
    }
}

fn cut(chunks: &[Chunk], first: u64, count: u64) -> Vec<Piece> {
    let (mut skip, mut left) = (first, count);
    let mut out = Vec::new();
    for chunk in chunks {
        let len = chunk.len() as u64;
        if skip >= len {
            skip -= len;
            continue;
        }
        if left == 0 {
            break;
        }
        let take = left.min(len - skip);
        let from = usize::try_from(skip).unwrap_or(0);
        let to = from + usize::try_from(take).unwrap_or(0);
        out.push(Piece::Shared(Shared::new(chunk, from..to)));
        left -= take;
        skip = 0;
    }
    out
}

impl Piece {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Octets(octets) => octets,
            Self::Small(entry, from, to) => {
                entry.small().and_then(|small| small.get(*from..*to)).unwrap_or_default()
            }
            Self::Shared(shared) => shared.data(),
        }
    }

    fn len(&self) -> u64 {
        self.octets().len() as u64
    }
}
