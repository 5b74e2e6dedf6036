//! Why a client's handshake failed, in a few words for the access log (exam R32): nothing of another
//! crate's `Debug` reaches a person.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// The words for an error.
#[must_use]
pub const fn of(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "the client showed no certificate",
        Error::InvalidCertificate(error) => certificate(error),
        Error::NoApplicationProtocol => "no common application protocol (ALPN)",
        Error::PeerIncompatible(error) => incompatible(error),
        Error::AlertReceived(alert) => told(*alert),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => "a malformed message",
        Error::InappropriateHandshakeMessage { .. } | Error::PeerMisbehaved(_) => {
            "the client does not do what TLS says"
        }
        Error::DecryptError => "a record that cannot be decrypted",
        Error::PeerSentOversizedRecord => "a record that is too large",
        _ => "another fault of the handshake",
    }
}

const fn certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the client's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the client's certificate is not valid yet"
        }
        CertificateError::Revoked => "the client's certificate is revoked",
        CertificateError::UnknownIssuer => "the client's certificate is of an unknown issuer",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the client's certificate is not one for clients"
        }
        CertificateError::BadEncoding => "the client's certificate is malformed",
        CertificateError::BadSignature => {
            "the client's certificate is of an unknown issuer: its signature is not the CA's"
        }
        _ => "the client's certificate is not believed",
    }
}

const fn incompatible(error: &PeerIncompatible) -> &'static str {
    match error {
        PeerIncompatible::NoCipherSuitesInCommon => "no common cipher suite",
        PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::KeyShareExtensionRequired
        | PeerIncompatible::NoEcPointFormatsInCommon => "no common key exchange group",
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => "no common version of TLS",
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired => "no common signature scheme",
        _ => "the client cannot do what is needed",
    }
}

/// What the client said.
const fn told(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "the client says: unknown CA",
        AlertDescription::DecryptError => {
            "the client says: a wrong signature, such as an unknown issuer's"
        }
        AlertDescription::CertificateExpired => "the client says: certificate expired",
        AlertDescription::CertificateRevoked => "the client says: certificate revoked",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "the client does not accept the certificate",
        AlertDescription::ProtocolVersion => "the client says: no common version of TLS",
        AlertDescription::HandshakeFailure => "the client says: nothing in common",
        AlertDescription::UserCanceled | AlertDescription::CloseNotify => "the client gave up",
        _ => "the client ended it with an alert",
    }
}
