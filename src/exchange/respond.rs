//! Answers that come from us: errors, redirects, fixed responses, OPTIONS that ends here.

use super::grpc;
use super::reply::{self, Opening};
use super::state::Exchange;
use crate::base::error::{Kind, Result};
use crate::config::model::{HealthWord, Redirect, RequestIds, Respond};
use crate::message::canned::{self, ErrorForm};
use crate::message::framing::BodySize;
use crate::message::head::{Method, Version};
use crate::message::name::Name;
use crate::protocol::with::With;
use crate::route::redirect::location;

const METHODS: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Answers with an error.
///
/// # Errors
/// The client is gone.
pub async fn error(ex: &mut Exchange<'_>, kind: Kind) -> Result<()> {
    if ex.work.request.version == Version::Http2 && grpc::is_call(&ex.work.request) {
        return failed_call(ex, kind).await;
    }
    let row = kind.row();
    let form = ErrorForm::preferred(ex.work.request.fields.values(Name::Accept));
    let id = name(ex);
    let body = canned::body(kind, form, id.as_deref());
    let response = &mut ex.work.response;
    response.clear();
    response.status = row.status;
    let fields = &mut response.fields;
    fields.push(b"Content-Type", form.content_type().as_bytes());
    if let Some(id) = &id {
        fields.push_known(Name::XRequestId, b"X-Request-Id", id.as_bytes());
    }
    // RFC 9209: which intermediary, and what kind of fault.
    if !row.proxy_status.is_empty() {
        let parts = [ex.shard.plan.name.as_bytes(), b"; error=", row.proxy_status.as_bytes()];
        fields.push_parts(Name::ProxyStatus, b"Proxy-Status", &parts);
    }
    fields.push(b"Cache-Control", b"no-store");
    match row.status {
        405 if kind == Kind::MethodNotRouted => {
            fields.push(b"Allow", &ex.shard.methods(ex.client.listener, &ex.work.request));
        }
        405 => fields.push(b"Allow", METHODS),
        503 => fields.push(b"Retry-After", b"1"),
        _ => {}
    }
    send(ex, body.as_bytes()).await
}

/// The id that an error says, if one does.
fn name(ex: &mut Exchange<'_>) -> Option<String> {
    if ex.shard.plan.config.server.request_id == RequestIds::None {
        return None;
    }
    ex.name_request();
    let id = ex.work.request.fields.values(Name::XRequestId).next()?;
    // A trusted proxy's may be anything; what is shown in a page is plain.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    id.iter().all(is_plain).then(|| String::from_utf8_lossy(id).into_owned())
}

/// Answers a call of gRPC with a status of its own: nothing but a head.
async fn failed_call(ex: &mut Exchange<'_>, kind: Kind) -> Result<()> {
    let id = name(ex);
    let response = &mut ex.work.response;
    response.clear();
    response.status = 200;
    response.fields.push(b"Content-Type", b"application/grpc");
    if let Some(id) = &id {
        response.fields.push_known(Name::XRequestId, b"X-Request-Id", id.as_bytes());
    }
    response.fields.push(b"grpc-status", grpc::status(kind));
    response.fields.push(b"grpc-message", kind.row().sentence.as_bytes());
    send(ex, b"").await
}

/// Sends the client elsewhere.
///
/// # Errors
/// The client is gone.
pub async fn redirect(ex: &mut Exchange<'_>, redirect: &Redirect) -> Result<()> {
    let location = location(&ex.work.request, redirect, ex.client.client.is_secure);
    ex.work.response.clear();
    ex.work.response.status = redirect.status;
    ex.work.response.fields.push(b"Location", &location);
    send(ex, b"").await
}

/// Answers with what the configuration says.
///
/// # Errors
/// The client is gone.
pub async fn fixed(ex: &mut Exchange<'_>, respond: &Respond) -> Result<()> {
    if let Some(word) = respond.health {
        return health(ex, word, &respond.headers).await;
    }
    let response = &mut ex.work.response;
    response.clear();
    response.status = respond.status;
    let has_type =
        respond.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if !has_type && !respond.body.is_empty() {
        response.fields.push(b"Content-Type", b"text/plain; charset=utf-8");
    }
    for (name, value) in &respond.headers {
        response.fields.push(name.as_bytes(), value.as_bytes());
    }
    send(ex, respond.body.as_bytes()).await
}

/// Answers a check of this process by a balancer in front of it.
async fn health(
    ex: &mut Exchange<'_>,
    word: HealthWord,
    headers: &[(String, String)],
) -> Result<()> {
    let is_good = word == HealthWord::Live || ex.shard.is_ready();
    let (status, body) = if is_good { (200, "ok\n") } else { (503, "draining\n") };
    let response = &mut ex.work.response;
    response.clear();
    response.status = status;
    response.fields.push(b"Content-Type", b"text/plain; charset=utf-8");
    response.fields.push(b"Cache-Control", b"no-store");
    for (name, value) in headers {
        response.fields.push(name.as_bytes(), value.as_bytes());
    }
    send(ex, body.as_bytes()).await
}

/// Answers with a piece of JSON.
///
/// # Errors
/// The client is gone.
pub async fn json(ex: &mut Exchange<'_>, text: &str) -> Result<()> {
    let response = &mut ex.work.response;
    response.clear();
    response.status = 200;
    response.fields.push(b"Content-Type", b"application/json");
    response.fields.push(b"Cache-Control", b"no-store");
    send(ex, text.as_bytes()).await
}

/// Answers OPTIONS whose Max-Forwards ran out here (RFC 9110 section 7.6.2).
///
/// # Errors
/// The client is gone.
pub async fn options(ex: &mut Exchange<'_>) -> Result<()> {
    ex.work.response.clear();
    ex.work.response.status = 200;
    ex.work.response.fields.push(b"Allow", METHODS);
    send(ex, b"").await
}

/// Sends `work.response` with a body.
async fn send(ex: &mut Exchange<'_>, body: &[u8]) -> Result<()> {
    let is_bodiless = matches!(ex.work.response.status, 204 | 304);
    let size = if is_bodiless { BodySize::Empty } else { BodySize::Known(body.len() as u64) };
    let sends_body = ex.work.request.method != Method::Head && !is_bodiless;
    let pieces: &[&[u8]] = if sends_body { &[body] } else { &[] };
    let opened = reply::open(ex, Opening::new(size), With::Whole(pieces))?;
    ex.reply.begin(opened).await
}
