//! A certificate that is an authority's, shown by a server or a client itself: `openssl req -x509` makes such.
//! It is believed where its very octets stand in the `ca` file, as others believe it (exam R42), if its
//! time and, for a server, its name are right.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A verifier, and the certificates that are believed as they are.
#[derive(Debug)]
pub struct Pinned<Verifier: ?Sized> {
    verifier: Arc<Verifier>,
    all: Vec<CertificateDer<'static>>,
}

impl<Verifier: ?Sized> Pinned<Verifier> {
    /// Beside what `verifier` believes.
    #[must_use]
    pub const fn new(verifier: Arc<Verifier>, all: Vec<CertificateDer<'static>>) -> Self {
        Self { verifier, all }
    }

    /// What is to be said of a certificate that was refused.
    fn judge<T>(
        &self,
        shown: &CertificateDer<'_>,
        now: UnixTime,
        refused: Error,
        believed: T,
    ) -> Result<T, Error> {
        if !self.all.iter().any(|one| one.as_ref() == shown.as_ref()) {
            return Err(refused);
        }
        let bad = |_| Error::from(CertificateError::BadEncoding);
        let (_, parsed) = X509Certificate::from_der(shown).map_err(bad)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        if now < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > validity.not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        Ok(believed)
    }
}

impl ServerCertVerifier for Pinned<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Err(refused) = self.verifier.verify_server_cert(shown, others, name, ocsp, now) else {
            return Ok(ServerCertVerified::assertion());
        };
        let believed = self.judge(shown, now, refused, ServerCertVerified::assertion())?;
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        Ok(believed)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Pinned<dyn ClientCertVerifier> {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(shown, others, now);
        let Err(refused) = verified else { return verified };
        // Revoked is revoked.
        if refused == CertificateError::Revoked.into() {
            return Err(refused);
        }
        self.judge(shown, now, refused, ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
