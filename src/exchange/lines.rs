//! What of a response's head is for the cache, for others, and for one client only.

use crate::cache::{key, range};
use crate::message::date;
use crate::message::fields::Fields;
use crate::message::framing::Framing;
use crate::message::head::{RequestHead, ResponseHead};
use crate::message::name::Name;
use crate::shard::Shard;

/// Field lines, each with its CRLF.
#[derive(Debug, Default)]
pub struct Lines {
    /// What is stored.
    pub stored: Vec<u8>,
    /// What is withheld from others: it goes to the client that asked, and to no other.
    pub own: Vec<u8>,
}

/// Sorts a response's fields. What is stored has a Date.
pub fn sorted(shard: &Shard, fields: &Fields, withheld: &[Box<[u8]>]) -> Lines {
    let mut lines = Lines { stored: Vec::with_capacity(fields.wire_len() + 40), own: Vec::new() };
    let mut has_date = false;
    for field in fields.iter() {
        if field.known == Name::Age || field.name.eq_ignore_ascii_case(b"proxy-authentication-info")
        {
            continue;
        }
        // One that says nothing gives way to ours: two would be worse than either.
        let is_date = field.known == Name::Date;
        if is_date && (has_date || date::parse(field.value).is_none()) {
            continue;
        }
        has_date |= is_date;
        let is_own = withheld.iter().any(|name| field.name.eq_ignore_ascii_case(name));
        let out = if is_own { &mut lines.own } else { &mut lines.stored };
        for part in [field.name, b": ", field.value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if !has_date {
        let mut date = [0; 29];
        let len = shard.date(&mut date);
        for part in [b"Date: ", &date[..len], b"\r\n"] {
            lines.stored.extend_from_slice(part);
        }
    }
    lines
}

/// The path and query of a reference, if it leads to the origin that the request went to: no origin invalidates
/// what is another's (RFC 9111 section 4.4).
pub fn same_origin(uri: &[u8], own: &[u8], request: &RequestHead) -> Option<Vec<u8>> {
    let (authority, _) = key::parts(own);
    let uri = uri.split(|byte| *byte == b'#').next()?;
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let absolute = schemes.iter().find_map(|scheme| {
        let head = uri.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| &uri[scheme.len()..])
    });
    let rest = absolute.or_else(|| uri.strip_prefix(b"//"));
    let target = match rest {
        Some(rest) => {
            let end =
                rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            if !rest[..end].eq_ignore_ascii_case(authority) {
                return None;
            }
            &rest[end..]
        }
        None => uri,
    };
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at..])),
        None => (target, None),
    };
    // A relative path is one from the folder of the request's own.
    let mut full = Vec::new();
    match path {
        [] if rest.is_some() => full.push(b'/'),
        [] => full.extend_from_slice(request.path()),
        [b'/', ..] => full.extend_from_slice(path),
        _ => {
            let folder = request.path().iter().rposition(|byte| *byte == b'/')?;
            full.extend_from_slice(&request.path()[..=folder]);
            full.extend_from_slice(path);
        }
    }
    let mut out = Vec::new();
    crate::message::target::normalise(&full, &mut out).ok()?;
    out.extend_from_slice(query.unwrap_or_default());
    Some(out)
}

/// Where the octets of a 206 belong.
pub fn part_of(response: &ResponseHead) -> Option<(u64, u64, u64)> {
    let (first, count, total) = range::content_range(response.fields.only(Name::ContentRange)?)?;
    // Only a length that is known before can be held against it.
    (response.framing == Framing::Length(count)).then_some((first, count, total))
}
