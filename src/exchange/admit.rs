//! What a request may say of its client and may ask for on its connection, before it is routed.

use super::respond;
use super::state::{ClientFacts, Exchange};
use crate::base::error::{Kind, Result};
use crate::config::model::{Redirect, Route};
use crate::filter::verdict::Certificate;
use crate::filter::{Facts, Verdict};
use crate::message::hop;

/// Takes out what the client may not say of itself, and finds out its address and certificate.
///
/// # Errors
/// `Misdirected`: its connection is for another host.
pub fn check(ex: &mut Exchange<'_>, facts: &Facts<'_>) -> Result<()> {
    let (shard, client) = (ex.shard, ex.client);
    let chain = shard.listener_filters(client.listener);
    let verdict = chain.on_request(&mut ex.work.request, facts);
    let listener = shard.listener(client.listener);
    let trusts = |ip| listener.trusts(ip);
    ex.record.client = hop::client_address(&ex.work.request, &client.client, trusts);
    match verdict {
        Verdict::Refuse(kind) => Err(kind),
        Verdict::Go | Verdict::Options => Ok(()),
    }
}

/// What filters may know beside the request's head.
#[must_use]
pub fn facts<'a>(ex: &Exchange<'a>) -> Facts<'a> {
    let ClientFacts { client, tls, .. } = ex.client;
    let told = tls.as_ref().and_then(|peer| peer.greeting.told.as_ref());
    Facts {
        is_trusted: client.is_trusted,
        is_secure: client.is_secure,
        is_led_here: tls.as_ref().is_none_or(|peer| peer.leads_to(ex.work.request.host())),
        certificate: told.map(|told| Certificate {
            subject: told.subject.as_deref(),
            alternatives: told.alternatives.as_deref(),
            fingerprint: &told.fingerprint,
            whole: &told.certificate,
        }),
    }
}

/// The port at which a request must come again by HTTPS: all but those for a route of this very listener.
#[must_use]
pub fn https_port(ex: &Exchange<'_>, route: Result<&Route>) -> Option<u16> {
    let listener = ex.client.listener;
    let port = ex.shard.listener(listener).redirect_https?;
    let is_ours = route.is_ok_and(|route| route.listener == Some(listener));
    (!is_ours).then_some(port)
}

/// Sends a client to the same place by HTTPS.
///
/// # Errors
/// The client is gone; there is no host to send it to.
pub async fn redirect(ex: &mut Exchange<'_>, port: u16) -> Result<()> {
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
    respond::redirect(ex, &redirect).await
}
