//! The one door through which every answer begins: relayed, cached, in part, a redirect, an error. Here it is
//! decided whether the connection stays, and what every answer gets: the route's header rules, Date, Cache-Status, a
//! cookie that keeps the client at its endpoint, and how long the client may take nothing.

use super::state::Exchange;
use crate::base::clock::Micros;
use crate::base::error::Result;
use crate::cache::status::Status;
use crate::config::model::RequestIds;
use crate::filter::Answering;
use crate::message::framing::BodySize;
use crate::message::head::FinalHead;
use crate::message::name::Name;
use crate::message::reuse::peer_keeps;
use crate::protocol::reply::Opened;
use crate::protocol::with::With;
use crate::shard::{Heads, Shard};
use std::fmt::Write;

/// What an answer is made of beside `work.response`, which has its status and its fields.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Field lines of a stored response: they had the route's rules when they were stored, and have a Date.
    pub stored: &'a [u8],
    pub size: BodySize,
    /// The cache key, for clients that may see it.
    pub key: Option<(&'a [u8], &'a [u8])>,
    /// The value of a Set-Cookie that keeps the client at its endpoint.
    pub cookie: Option<String>,
}

impl Opening<'_> {
    /// An answer with a body of this size, and nothing else about it.
    #[must_use]
    pub const fn new(size: BodySize) -> Self {
        Self { stored: b"", size, key: None, cookie: None }
    }
}

/// Opens an answer: what it says is decided here, and no other can be given from here on. `ex.reply.begin` writes it.
///
/// # Errors
/// The head has outgrown every bound, or cannot be said to this client.
pub fn open<'w>(ex: &mut Exchange<'_>, opening: Opening<'_>, with: With<'w>) -> Result<Opened<'w>> {
    let shard = ex.shard;
    ex.keeps = keeps(ex, opening.size);
    ex.reply.set_stall(ex.stall());
    if shard.plan.config.server.request_id == RequestIds::All {
        say_id(ex);
    }
    if ex.client.client.is_trusted && shard.plan.config.server.server_timing {
        say_times(ex);
    }
    let Heads { response, text, .. } = &mut *ex.work;
    if let Some(filters) = ex.filters {
        let is_ruled = !opening.stored.is_empty();
        let cache_status = ex.cache.map(|status| cache_status(shard, status, opening.key, text));
        filters.on_response(&mut response.fields, &Answering { cache_status, is_ruled });
    }
    if let Some(cookie) = &opening.cookie {
        response.fields.push(b"Set-Cookie", cookie.as_bytes());
    }
    let mut date = [0; 29];
    let has_date = !opening.stored.is_empty() || response.fields.has(Name::Date);
    let date_len = if has_date { 0 } else { shard.date(&mut date) };
    let head = FinalHead {
        stored: opening.stored,
        date: &date[..date_len],
        size: opening.size,
        keeps: ex.keeps,
        ..response.as_final()
    };
    ex.reply.open(&head, with)
}

/// Says the request's id, unless the answer has one.
fn say_id(ex: &mut Exchange<'_>) {
    if !ex.work.response.fields.has(Name::XRequestId) {
        ex.name_request();
        let Heads { request, response, .. } = &mut *ex.work;
        let id = request.fields.values(Name::XRequestId).next().unwrap_or_default();
        response.fields.push_known(Name::XRequestId, b"X-Request-Id", id);
    }
}

/// Says how long it took so far, in milliseconds (W3C Server Timing).
fn say_times(ex: &mut Exchange<'_>) {
    let record = &ex.record;
    let millis = |micros: Micros| micros as f64 / 1e3;
    let mut value = format!("total;dur={}", millis(ex.shard.since(record.started)));
    let times = [
        ("queue", record.queued.into()),
        ("connect", record.connecting.into()),
        ("upstream", record.upstream),
    ];
    for (name, micros) in times.into_iter().filter(|(_, micros)| *micros > 0) {
        let _ = write!(value, ", {name};dur={}", millis(micros));
    }
    if let Some(status) = ex.cache {
        let _ = write!(value, ", cache;desc={}", status.word());
    }
    ex.work.response.fields.push(b"Server-Timing", value.as_bytes());
}

/// Whether the client's connection may carry another request after this answer.
fn keeps(ex: &Exchange<'_>, size: BodySize) -> bool {
    let request = &ex.work.request;
    ex.may_keep
        // The rest of the request would stand between this answer and the next request.
        && ex.traffic.has_come.get()
        && peer_keeps(request.version, request.options)
        && ex.shard.may_keep()
        && !ex.reply.must_end(size)
}

/// What a key is cut off at, where it is shown.
const KEY_SHOWN: usize = 512;

/// The value of Cache-Status (RFC 9211), in `text`. A client that may see it gets the key.
fn cache_status<'t>(
    shard: &Shard,
    status: Status,
    key: Option<(&[u8], &[u8])>,
    text: &'t mut Vec<u8>,
) -> &'t [u8] {
    let key = key.map(|(authority, target)| {
        let mut all = [authority, target].concat();
        all.truncate(KEY_SHOWN);
        all
    });
    text.clear();
    status.write(&shard.plan.name, key.as_deref(), |part| text.extend_from_slice(part));
    text
}
