//! Which client it is by its certificate, said to upstreams in fields that no client may send itself; and whether the
//! connection's certificate speaks for the host that is asked for.

use super::verdict::{Facts, Verdict};
use crate::base::error::Kind;
use crate::config::model::{Config, Listener};
use crate::config::tls::Headers;
use crate::message::head::RequestHead;

/// Names of fields.
#[derive(Clone, Debug, Default)]
pub struct IdentityNames {
    /// Those that some listener says such things in: a client's own are taken out on every listener.
    reserved: Box<[Box<str>]>,
    /// Those of this listener.
    own: Headers,
}

impl IdentityNames {
    /// Of a listener.
    #[must_use]
    pub fn of(config: &Config, listener: &Listener) -> Self {
        let auth = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        let own = auth.map(|auth| auth.headers.clone()).unwrap_or_default();
        Self { reserved: config.reserved.iter().map(|name| name.as_str().into()).collect(), own }
    }
}

pub(super) fn judge(
    names: &IdentityNames,
    request: &mut RequestHead,
    facts: &Facts<'_>,
) -> Verdict {
    if !facts.is_trusted {
        for name in &names.reserved {
            request.fields.remove_named(name.as_bytes());
        }
    }
    if !facts.is_led_here {
        return Verdict::Refuse(Kind::Misdirected);
    }
    let Some(certificate) = &facts.certificate else { return Verdict::Go };
    for (name, value) in [
        (&names.own.subject, certificate.subject),
        (&names.own.san, certificate.alternatives),
        (&names.own.fingerprint, Some(certificate.fingerprint)),
        (&names.own.certificate, Some(certificate.whole)),
    ] {
        if let (Some(name), Some(value)) = (name, value) {
            request.fields.set(name.as_bytes(), value);
        }
    }
    Verdict::Go
}
