//! What a request may do on the connection it came by, and what its handshake tells upstreams.

use std::sync::Arc;

use super::respond;
use super::side::Downstream;
use crate::base::error::{Kind, Result};
use crate::config::model::{Redirect, Route};
use crate::message::head::RequestHead;
use crate::net::tls::handshake::Greeting;
use crate::net::tls::server::Server;
use crate::shard::{Shard, Workspace};

/// A secure client: what it said, and by which certificates it was answered.
pub struct Secured {
    pub greeting: Greeting,
    pub server: Arc<Server>,
}

impl Secured {
    /// Whether this connection may ask for this host: the name that it was opened for, or another
    /// that its certificate speaks for (RFC 9110 section 15.5.20; RELIABILITY L04).
    fn leads_to(&self, host: &[u8]) -> bool {
        let Some(name) = self.greeting.name.as_deref() else { return true };
        let trimmed = |text: &[u8]| text.strip_suffix(b".").unwrap_or(text).to_ascii_lowercase();
        // Nearly always the same, and in lower case.
        if name.as_bytes() == host || host.is_empty() {
            return true;
        }
        let (name, host) = (trimmed(name.as_bytes()), trimmed(host));
        let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
        name == host || self.server.covers(&text(name), &text(host))
    }
}

/// Judges a request by its connection, and adds to it who the client is by its certificate. What
/// clients say of that themselves is taken out, on every listener.
///
/// # Errors
/// `Misdirected`.
pub fn check(shard: &Shard, request: &mut RequestHead, down: &Downstream<'_>) -> Result<()> {
    let config = &shard.plan.config;
    if !down.client.is_trusted {
        for name in &config.reserved {
            request.fields.remove_named(name.as_bytes());
        }
    }
    let Some(secured) = down.secured else { return Ok(()) };
    if !secured.leads_to(request.host()) {
        return Err(Kind::Misdirected);
    }
    let auth = shard.listener(down.listener).tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
    let (Some(auth), Some(told)) = (auth, &secured.greeting.told) else { return Ok(()) };
    let names = &auth.headers;
    for (name, value) in [
        (&names.subject, told.subject.as_deref()),
        (&names.san, told.alternatives.as_deref()),
        (&names.fingerprint, Some(&*told.fingerprint)),
        (&names.certificate, Some(&*told.certificate)),
    ] {
        if let (Some(name), Some(value)) = (name, value) {
            request.fields.set(name.as_bytes(), value);
        }
    }
    Ok(())
}

/// Whether a request must come again by HTTPS: all but those for a route of this very listener.
#[must_use]
pub fn must_redirect(shard: &Shard, route: Result<&Route>, down: &Downstream<'_>) -> bool {
    let is_asked = shard.listener(down.listener).redirect_https.is_some();
    is_asked && !route.is_ok_and(|route| route.listener == Some(down.listener))
}

/// Sends a client to the same place by HTTPS.
///
/// # Errors
/// The client is gone; there is no host to send it to.
pub async fn redirect(
    shard: &std::rc::Rc<Shard>,
    work: &mut Workspace,
    down: &mut Downstream<'_>,
) -> Result<()> {
    let port = shard.listener(down.listener).redirect_https.unwrap_or(443);
    let host = work.request.host();
    if host.is_empty() {
        return Err(Kind::Host);
    }
    let mut host = String::from_utf8_lossy(host).into_owned();
    if port != 443 {
        host.push_str(&format!(":{port}"));
    }
    let scheme = Some("https".to_owned());
    let redirect = Redirect { status: 308, scheme, host: Some(host), path: None };
    respond::redirect(shard, &redirect, None, work, down).await
}
