//! Which certificates we believe when we connect by TLS, and which we show.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
pub use rustls::pki_types::ServerName;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::pem;
use super::pinned::Pinned;
use crate::base::limits::TLS_SESSIONS;
use crate::config::model::Address;
use crate::config::tls::{self, Alpn};

/// TLS to one cluster.
#[derive(Clone, Debug)]
pub struct TlsClient {
    pub(super) config: Arc<ClientConfig>,
    /// Of the files it was made of.
    pub digest: u64,
}

impl TlsClient {
    /// For a cluster that speaks one of these protocols.
    ///
    /// # Errors
    /// What is wrong with the files that are named, or with the system's authorities.
    pub fn new(
        model: &tls::ClusterTls,
        alpn: &[Alpn],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        // Before they are read for good: what changes in between will be noticed.
        let own = model.own.iter().flat_map(|own| [&own.certificate, &own.key]);
        let digest = pem::digest(model.ca.iter().chain(own).map(PathBuf::as_path));
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if model.verify {
            let (roots, own) = roots(model)?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                    .build()
                    .map_err(|error| error.to_string())?;
            let pinned = Arc::new(Pinned::new(verifier, own));
            builder.dangerous().with_custom_certificate_verifier(pinned)
        } else {
            let unverified = Arc::new(Unverified(Arc::clone(provider)));
            builder.dangerous().with_custom_certificate_verifier(unverified)
        };
        let mut config = match &model.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = pem::certificates(&own.certificate)?;
                builder.with_client_auth_cert(chain, pem::key(&own.key)?).map_err(|error| {
                    format!("{} and {}: {error}", own.certificate.display(), own.key.display())
                })?
            }
        };
        config.alpn_protocols = names(alpn);
        Ok(Self { config: Arc::new(config), digest })
    }

    /// The same, with sessions of its own: no lock is shared between cores.
    #[must_use]
    pub fn for_shard(&self) -> Self {
        let mut config = (*self.config).clone();
        config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
        Self { config: Arc::new(config), digest: self.digest }
    }
}

impl TlsClient {
    /// The same, with other protocols to choose from.
    pub(in crate::net) fn offering(&self, protocols: &[Alpn]) -> Arc<ClientConfig> {
        let mut config = (*self.config).clone();
        config.alpn_protocols = names(protocols);
        Arc::new(config)
    }
}

fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.to_owned()).ok()
}

fn names(protocols: &[Alpn]) -> Vec<Vec<u8>> {
    protocols.iter().map(|one| one.name().as_bytes().to_vec()).collect()
}

/// The name that the certificate of an endpoint must be for.
#[must_use]
pub fn name_of(model: &tls::ClusterTls, address: &Address) -> Option<ServerName<'static>> {
    server_name(&model.name.clone().unwrap_or_else(|| address.host()))
}

/// The authorities, and of these the ones of a file: they may be shown themselves.
fn roots(model: &tls::ClusterTls) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = &model.ca {
        let own = pem::certificates(ca)?;
        for certificate in own.iter().cloned() {
            roots.add(certificate).map_err(|error| format!("{}: {error}", ca.display()))?;
        }
        return Ok((roots, own));
    }
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("the system knows no certificate authority (the package is often called \
                    ca-certificates); name one with tls.ca"
            .to_owned());
    }
    Ok((roots, Vec::new()))
}

/// Believes every server, as `verify = false` says; signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
