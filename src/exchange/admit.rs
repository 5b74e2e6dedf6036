//! What a request may say of its client and may ask for on its connection, before it is routed.

use super::respond;
use super::state::Exchange;
use crate::base::error::{Kind, Result};
use crate::config::model::{Redirect, Route};
use crate::message::{forwarded, hop};

/// Takes out what the client may not say of itself, and finds out who it is.
///
/// # Errors
/// `Misdirected`: its connection is for another host.
pub fn check(ex: &mut Exchange<'_>) -> Result<()> {
    let (shard, facts) = (ex.shard, ex.client);
    let listener = shard.listener(facts.listener);
    let request = &mut ex.work.request;
    if facts.client.is_trusted {
        forwarded::unify(request, facts.client.is_secure);
    } else {
        hop::distrust(request);
    }
    ex.record.client = hop::client_address(request, &facts.client, |ip| listener.trusts(ip));
    if facts.tls.is_some() || !shard.plan.config.reserved.is_empty() {
        name_client(ex)?;
    }
    Ok(())
}

/// Judges a request by its connection, and adds to it who the client is by its certificate. What
/// clients say of that themselves is taken out, on every listener.
fn name_client(ex: &mut Exchange<'_>) -> Result<()> {
    let (shard, facts, request) = (ex.shard, ex.client, &mut ex.work.request);
    if !facts.client.is_trusted {
        for name in &shard.plan.config.reserved {
            request.fields.remove_named(name.as_bytes());
        }
    }
    let Some(peer) = &facts.tls else { return Ok(()) };
    if !peer.leads_to(request.host()) {
        return Err(Kind::Misdirected);
    }
    let auth = shard.listener(facts.listener).tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
    let (Some(auth), Some(told)) = (auth, &peer.greeting.told) else { return Ok(()) };
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
pub fn must_redirect(ex: &Exchange<'_>, route: Result<&Route>) -> bool {
    let listener = ex.client.listener;
    let is_asked = ex.shard.listener(listener).redirect_https.is_some();
    is_asked && !route.is_ok_and(|route| route.listener == Some(listener))
}

/// Sends a client to the same place by HTTPS.
///
/// # Errors
/// The client is gone; there is no host to send it to.
pub async fn redirect(ex: &mut Exchange<'_>) -> Result<()> {
    let port = ex.shard.listener(ex.client.listener).redirect_https.unwrap_or(443);
    let host = ex.work.request.host();
    if host.is_empty() {
        return Err(Kind::Host);
    }
    let mut host = String::from_utf8_lossy(host).into_owned();
    if port != 443 {
        host.push_str(&format!(":{port}"));
    }
    let scheme = Some("https".to_owned());
    let redirect = Redirect { status: 308, scheme, host: Some(host), path: None };
    respond::redirect(ex, &redirect, None).await
}
