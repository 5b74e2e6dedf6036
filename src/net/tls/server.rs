//! What a listener shows to its clients and wants of them: one immutable value for all workers.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::identity::{Identities, Identity};
use super::pem;
use super::pinned::Pinned;
use crate::config::tls::{self, Alpn, ClientAuth};

/// TLS of one listener.
#[derive(Clone, Debug)]
pub struct TlsServer {
    pub(super) config: Arc<ServerConfig>,
    identities: Arc<Identities>,
}

/// Seals the sessions that clients may resume, for all workers; rotates by itself. One for each
/// listener: a session of one must not open another, which may ask for certificates (CVE-2025-23419).
pub type Tickets = Arc<dyn ProducesTickets>;

/// New tickets.
///
/// # Errors
/// The system has no randomness.
pub fn tickets() -> Result<Tickets, String> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|error| format!("no keys for session tickets: {error}"))
}

/// The cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl TlsServer {
    /// Names of each certificate, and when it ends, in seconds since 1970.
    pub fn certificates(&self) -> impl Iterator<Item = (&[Box<str>], i64)> {
        self.identities.all().iter().map(|one| (one.names(), one.valid.1))
    }

    /// With these identities.
    ///
    /// # Errors
    /// What is wrong with the files that are named.
    pub fn new(
        model: &tls::ListenerTls,
        identities: Vec<Identity>,
        tickets: Tickets,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let versions: &[_] = if model.only_13 {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let identities = Arc::new(Identities::new(identities));
        let builder = match &model.client_auth {
            None => builder.with_no_client_auth(),
            Some(auth) => builder.with_client_cert_verifier(verifier(auth, provider)?),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&identities) as Arc<_>);
        config.alpn_protocols =
            model.alpn.iter().map(|protocol| protocol.name().as_bytes().to_vec()).collect();
        if model.alpn.contains(&Alpn::Http1) {
            config.alpn_protocols.push(Alpn::HTTP10.to_vec());
        }
        config.ticketer = tickets;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // exam L07: what can be replayed is not accepted.
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), identities })
    }

    /// Whether a connection for `name` may ask for `host`, both in lower case.
    #[must_use]
    pub fn covers(&self, name: &str, host: &str) -> bool {
        self.identities.covers(name, host)
    }

    /// Its identities.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        self.identities.all()
    }
}

fn verifier(
    auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let authorities = pem::certificates(&auth.ca)?;
    for certificate in authorities.iter().cloned() {
        roots.add(certificate).map_err(|error| format!("{}: {error}", auth.ca.display()))?;
    }
    let provider = Arc::clone(provider);
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(crl) = &auth.crl {
        builder = builder.with_crls(pem::revocations(crl)?).only_check_end_entity_revocation();
    }
    if !auth.is_required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| format!("client_auth: {error}"))?;
    Ok(Arc::new(Pinned::new(verifier, authorities)))
}
