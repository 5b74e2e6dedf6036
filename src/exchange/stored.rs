//! Answers with what is stored, whole, in part, or "not modified", and with what is on its way into the cache. Of
//! large bodies nothing is copied.

use std::sync::Arc;

use super::cursor::Cursor;
use super::relay::silence_of_type;
use super::reply::{self, Opening};
use super::state::Exchange;
use crate::base::error::{Kind, Result};
use crate::cache::entry::{Entry, Large, lines};
use crate::cache::key;
use crate::cache::octets::Chunk;
use crate::cache::status::{self, Status};
use crate::cache::validate::StoredAnswer;
use crate::config::model::Route;
use crate::message::fields::Fields;
use crate::message::framing::BodySize;
use crate::message::head::Method;
use crate::message::name::Name;
use crate::net::buffer::SharedOctets;
use crate::protocol::reply::Opened;
use crate::protocol::with::With;

/// Between the parts of a multipart answer; what is between them is counted, not searched.
const BOUNDARY: &[u8] = b"millrace-part-5f1d9a";

/// A piece of an answer's body.
#[derive(Clone, Debug)]
enum BodyPiece {
    Octets(Vec<u8>),
    Shared(SharedOctets),
}

/// How an entry answers a request.
#[derive(Debug)]
pub struct StoredReply {
    pub status: Status,
    pub answer: StoredAnswer,
    /// Field lines for this client alone.
    pub own: Vec<u8>,
}

/// Answers with an entry.
///
/// # Errors
/// The client is gone.
pub async fn serve(ex: &mut Exchange<'_>, entry: &Arc<Entry>, how: &StoredReply) -> Result<()> {
    let body = Body::of(entry, &how.answer, None);
    let (small, all);
    let pieces: &[&[u8]] = if ex.work.request.method == Method::Head {
        &[]
    } else if body.rest.is_empty() {
        small = [body.small];
        &small
    } else {
        all = body.rest.iter().map(BodyPiece::octets).collect::<Vec<_>>();
        &all
    };
    let opened = open(ex, entry, how, &body, With::Whole(pieces))?;
    ex.reply.begin(opened).await
}

/// Answers with what is on its way into the cache, as it comes; without a cursor, with its head.
///
/// # Errors
/// The client is gone; the body ends before its end.
pub async fn follow(
    ex: &mut Exchange<'_>,
    entry: &Arc<Entry>,
    cursor: Option<Cursor>,
    how: &StoredReply,
) -> Result<()> {
    let size = entry.body_len().map_or(BodySize::Unknown, BodySize::Known);
    let body = Body::of(entry, &how.answer, Some(size));
    let opened = open(ex, entry, how, &body, With::First(None, false))?;
    ex.reply.begin(opened).await?;
    let Some(mut cursor) = cursor.filter(|_| reads_body(ex.work.request.method, how)) else {
        return Ok(());
    };
    // What the pump that reads the body waits for, its readers wait for too.
    let silence =
        |route: &Route| silence_of_type(content_type(entry).unwrap_or_default(), &route.timeouts);
    let (shard, idle) = (ex.shard, ex.route.map_or_else(|| ex.stall(), silence));
    loop {
        let next = shard.cache.next(&cursor.stream, &cursor.node, idle).await;
        let Some(next) = next.map_err(|()| Kind::UpstreamBodyCutShort)? else {
            return ex.reply.end(None).await;
        };
        cursor.go(next);
        let data = &cursor.node.data;
        ex.reply.shared(SharedOctets::new(data, 0..data.len())).await?;
        cursor.passed();
    }
}

/// Whether a client gets the body of what is on its way into the cache.
#[must_use]
pub fn reads_body(method: Method, how: &StoredReply) -> bool {
    method != Method::Head && how.answer == StoredAnswer::Whole
}

fn open<'w>(
    ex: &mut Exchange<'_>,
    entry: &Entry,
    how: &StoredReply,
    body: &Body<'_>,
    with: With<'w>,
) -> Result<Opened<'w>> {
    let now = ex.now();
    ex.cache = Some(how.status);
    let response = &mut ex.work.response;
    response.clear();
    response.status = body.status;
    put_number(&mut response.fields, b"Age", entry.freshness().age(now));
    body.put_fields(&mut response.fields);
    for (_, line) in lines(&how.own) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 2..).unwrap_or_default();
        response.fields.push(&line[..colon], value);
    }
    let is_all = matches!(how.answer, StoredAnswer::Whole | StoredAnswer::Part(..));
    let kept = if is_all { None } else { Some(body.kept_fields(entry)) };
    let opening = Opening {
        stored: kept.as_deref().unwrap_or_else(|| entry.fields()),
        size: body.size,
        key: ex.client.client.is_trusted.then(|| key::parts(entry.key())),
        cookie: None,
    };
    reply::open(ex, opening, with)
}

fn put_number(fields: &mut Fields, name: &[u8], number: u64) {
    let mut text = [0; 20];
    let mut len = 0;
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    status::put_number(number, &mut |part: &[u8]| {
        text[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    });
    fields.push(name, &text[..len]);
}

/// What an answer says and holds behind its stored fields.
struct Body<'a> {
    status: u16,
    size: BodySize,
    /// What stands in the entry's own block.
    small: &'a [u8],
    rest: Vec<BodyPiece>,
    answer: &'a StoredAnswer,
    len: u64,
}

impl<'a> Body<'a> {
    fn of(entry: &'a Entry, answer: &'a StoredAnswer, growing: Option<BodySize>) -> Self {
        let len = entry.body_len().unwrap_or(0);
        let mut body = Self {
            status: entry.status(),
            size: BodySize::Empty,
            small: b"",
            rest: Vec::new(),
            answer,
            len,
        };
        match answer {
            StoredAnswer::NotModified => body.status = 304,
            StoredAnswer::Unsatisfiable => {
                body.status = 416;
                body.size = BodySize::Known(0);
            }
            _ if matches!(entry.status(), 204 | 304) => {}
            StoredAnswer::Whole => {
                body.size = growing.unwrap_or(BodySize::Known(len));
                body.part(entry, 0, len);
            }
            StoredAnswer::Part(first, count) => {
                body.status = 206;
                body.size = BodySize::Known(*count);
                body.part(entry, *first, *count);
            }
            StoredAnswer::Parts(parts) => {
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
        } else {
            self.rest = pieces(entry, first, count);
        }
    }

    /// RFC 9110 section 14.6.
    fn multipart(&mut self, entry: &Entry, parts: &[(u64, u64)]) {
        let kind = content_type(entry);
        let mut total = 0;
        let mut add = |rest: &mut Vec<BodyPiece>, piece: BodyPiece, len: u64| {
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
            add(&mut self.rest, BodyPiece::Octets(line), len);
            for piece in pieces(entry, *first, *count) {
                let len = piece.len();
                add(&mut self.rest, piece, len);
            }
        }
        let end = [b"\r\n--", BOUNDARY, b"--\r\n"].concat();
        let len = end.len() as u64;
        add(&mut self.rest, BodyPiece::Octets(end), len);
        self.size = BodySize::Known(total);
    }

    /// The stored lines that belong into an answer which is not the whole.
    fn kept_fields(&self, entry: &Entry) -> Vec<u8> {
        let mut kept = Vec::with_capacity(entry.fields().len());
        for (at, line) in lines(entry.fields()) {
            if self.keeps_field(line) {
                kept.extend_from_slice(&entry.fields()[at..at + line.len() + 2]);
            }
        }
        kept
    }

    /// Whether a stored field belongs into an answer that is not the whole (RFC 9110 sections
    /// 15.4.5, 15.5.17 and 14.6).
    fn keeps_field(&self, line: &[u8]) -> bool {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = &line[..colon];
        let is_body = name.len() > 8 && name[..8].eq_ignore_ascii_case(b"content-");
        match self.answer {
            StoredAnswer::Parts(_) => !name.eq_ignore_ascii_case(b"content-type"),
            StoredAnswer::NotModified => !is_body || Name::of(name) == Name::ContentLocation,
            // Nothing of the entry: the answer is ours.
            StoredAnswer::Unsatisfiable => false,
            StoredAnswer::Whole | StoredAnswer::Part(..) => true,
        }
    }

    /// The fields that this answer has and the entry has not.
    fn put_fields(&self, fields: &mut Fields) {
        let mut range = Vec::new();
        let mut put = |part: &[u8]| range.extend_from_slice(part);
        match self.answer {
            StoredAnswer::Part(first, count) => put_range(*first, *count, self.len, &mut put),
            StoredAnswer::Parts(_) => {
                let parts = [&b"multipart/byteranges; boundary="[..], BOUNDARY];
                fields.push_parts(Name::Other, b"Content-Type", &parts);
            }
            StoredAnswer::Unsatisfiable => {
                put(b"bytes */");
                status::put_number(i64::try_from(self.len).unwrap_or(i64::MAX), &mut put);
            }
            StoredAnswer::Whole | StoredAnswer::NotModified => {}
        }
        if !range.is_empty() {
            fields.push(b"Content-Range", &range);
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
fn pieces(entry: &Entry, first: u64, count: u64) -> Vec<BodyPiece> {
    match entry.large() {
        None => {
            let small = entry.small().unwrap_or_default();
            let from = usize::try_from(first).unwrap_or(usize::MAX).min(small.len());
            let len = usize::try_from(count).unwrap_or(usize::MAX).min(small.len() - from);
            vec![BodyPiece::Octets(small[from..from + len].to_vec())]
        }
        Some(Large::Growing(_)) => Vec::new(),
        Some(Large::Whole(bulk)) => cut(bulk.chunks(), first, count),
        Some(Large::Partial { first: begins, data, .. }) => {
            cut(std::slice::from_ref(data), first.saturating_sub(*begins), count)
        }
    }
}

fn cut(chunks: &[Chunk], first: u64, count: u64) -> Vec<BodyPiece> {
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
        out.push(BodyPiece::Shared(SharedOctets::new(chunk, from..to)));
        left -= take;
        skip = 0;
    }
    out
}

impl BodyPiece {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Octets(octets) => octets,
            Self::Shared(shared) => shared.data(),
        }
    }

    fn len(&self) -> u64 {
        self.octets().len() as u64
    }
}
