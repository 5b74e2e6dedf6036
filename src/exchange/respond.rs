//! Answers that come from us: errors, redirects, fixed responses, OPTIONS that ends here.

use std::rc::Rc;

use super::deliver;
use super::grpc;
use super::side::Downstream;
use crate::base::error::{Kind, Result};
use crate::config::model::{Redirect, Respond, Route};
use crate::message::canned::{self, Form};
use crate::message::framing::Framing;
use crate::message::head::{Method, Version};
use crate::message::name::Name;
use crate::net::body::BodyWriter;
use crate::net::buffer::Size;
use crate::route::rewrite;
use crate::shard::{Shard, Workspace};
use crate::wire::http1::reuse::peer_keeps;
use crate::wire::http1::write::{self, ResponseConnection, Writer};

const METHODS: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Answers with an error.
///
/// # Errors
/// The client is gone.
pub async fn error(
    shard: &Rc<Shard>,
    kind: Kind,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
) -> Result<()> {
    if work.request.version == Version::Http2 && grpc::is_call(&work.request) {
        return failed_call(shard, kind, work, down).await;
    }
    let row = kind.row();
    let form = Form::preferred(work.request.fields.values(Name::Accept));
    let body = canned::body(kind, form);
    let response = &mut work.response;
    response.clear();
    response.status = row.status;
    let fields = &mut response.fields;
    fields.push(b"Content-Type", form.content_type().as_bytes());
    // RFC 9209: which intermediary, and what kind of fault.
    if !row.proxy_status.is_empty() {
        let parts = [shard.plan.name.as_bytes(), b"; error=", row.proxy_status.as_bytes()];
        fields.push_parts(Name::ProxyStatus, b"Proxy-Status", &parts);
    }
    if let Some(status) = down.answer.cache.get() {
        deliver::add_status(shard, down.answer, status, fields);
    }
    fields.push(b"Cache-Control", b"no-store");
    match row.status {
        405 if kind == Kind::MethodNotRouted => {
            fields.push(b"Allow", &shard.methods(down.listener, &work.request));
        }
        405 => fields.push(b"Allow", METHODS),
        503 => fields.push(b"Retry-After", b"1"),
        _ => {}
    }
    send(shard, work, down, body.as_bytes()).await
}

/// Answers a call of gRPC with a status of its own: nothing but a head.
async fn failed_call(
    shard: &Rc<Shard>,
    kind: Kind,
    work: &mut Workspace,
    down: &Downstream<'_>,
) -> Result<()> {
    let response = &mut work.response;
    response.clear();
    response.status = 200;
    response.fields.push(b"Content-Type", b"application/grpc");
    response.fields.push(b"grpc-status", grpc::status(kind));
    response.fields.push(b"grpc-message", kind.row().sentence.as_bytes());
    send(shard, work, down, b"").await
}

/// Sends the client elsewhere.
///
/// # Errors
/// The client is gone.
pub async fn redirect(
    shard: &Rc<Shard>,
    redirect: &Redirect,
    route: Option<&Route>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
) -> Result<()> {
    if let Some(route) = route {
        rewrite::path(&mut work.request, &route.rewrite);
    }
    let location = rewrite::location(&work.request, redirect, down.client.is_secure);
    work.response.clear();
    work.response.status = redirect.status;
    work.response.fields.push(b"Location", &location);
    if let Some(route) = route {
        rewrite::fields(&mut work.response.fields, &route.response_headers);
    }
    send(shard, work, down, b"").await
}

/// Answers with what the configuration says.
///
/// # Errors
/// The client is gone.
pub async fn canned(
    shard: &Rc<Shard>,
    respond: &Respond,
    route: &Route,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
) -> Result<()> {
    let response = &mut work.response;
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
    rewrite::fields(&mut response.fields, &route.response_headers);
    send(shard, work, down, respond.body.as_bytes()).await
}

/// Answers with a piece of JSON.
///
/// # Errors
/// The client is gone.
pub async fn json(
    shard: &Rc<Shard>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
    text: &str,
) -> Result<()> {
    work.response.clear();
    work.response.status = 200;
    work.response.fields.push(b"Content-Type", b"application/json");
    work.response.fields.push(b"Cache-Control", b"no-store");
    send(shard, work, down, text.as_bytes()).await
}

/// Answers OPTIONS whose Max-Forwards ran out here (RFC 9110 section 7.6.2).
///
/// # Errors
/// The client is gone.
pub async fn options(
    shard: &Rc<Shard>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
) -> Result<()> {
    work.response.clear();
    work.response.status = 200;
    work.response.fields.push(b"Allow", METHODS);
    send(shard, work, down, b"").await
}

/// Writes `work.response` with a body.
async fn send(
    shard: &Rc<Shard>,
    work: &mut Workspace,
    down: &Downstream<'_>,
    body: &[u8],
) -> Result<()> {
    let (request, response) = (&work.request, &mut work.response);
    let answer = down.answer;
    let keeps = down.may_keep
        && answer.body_done.get()
        && peer_keeps(request.version, request.options)
        && shard.may_keep();
    answer.keeps.set(keeps);
    answer.begun.set(true);
    answer.status.set(response.status);

    let is_bodiless = matches!(response.status, 204 | 304);
    let length = Framing::Length(body.len() as u64);
    let framing = if is_bodiless { Framing::None } else { length };
    let sends_body = request.method != Method::Head && !is_bodiless;
    let mut date = [0; 29];
    let date_len = shard.date(&mut date);
    let connection = connection_field(keeps, request.version);

    let bound = response.fields.wire_len() + body.len() + 256;
    let mut buffer = shard.buffers.take(Size::fitting(bound));
    let mut out = Writer::new(buffer.spare());
    write::response(response, framing, &date[..date_len], connection, &mut out);
    let head_len = out.finish().ok_or(Kind::Internal)?;
    buffer.filled(head_len);
    let period = shard.plan.config.listeners[usize::from(down.listener.0)].head_timeout;
    let mut writer = BodyWriter::downstream(down.stream, &shard.buffers, framing, period);
    let mut rest = if sends_body { body } else { b"" };
    answer.sent.set(rest.len() as u64);
    loop {
        let len = rest.len().min(buffer.space());
        buffer.append(&rest[..len]);
        rest = &rest[len..];
        writer.raw(buffer, shard.now()).await?;
        if rest.is_empty() {
            return Ok(());
        }
        buffer = shard.buffers.take(Size::Medium);
    }
}

/// What the Connection field of an answer says to a client of this version.
#[must_use]
pub fn connection_field(keeps: bool, version: Version) -> ResponseConnection {
    match (keeps, version) {
        (false, _) => ResponseConnection::Close,
        (true, Version::Http10) => ResponseConnection::KeepAlive,
        (true, Version::Http11 | Version::Http2) => ResponseConnection::Keep,
    }
}
