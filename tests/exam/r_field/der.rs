//! An authority that writes its certificates and OCSP responses octet by octet: subjects and staples
//! that no library makes.

use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
    SigningKey,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::support::proxy::temporary;
use crate::support::tls::Pair;

pub(super) const CN: &[u8] = &[0x55, 4, 3];
pub(super) const COUNTRY: &[u8] = &[0x55, 4, 6];
pub(super) const ORGANISATION: &[u8] = &[0x55, 4, 10];
/// 1.2.3, which has no name.
pub(super) const UNKNOWN: &[u8] = &[0x2a, 3];

pub(super) const UTF8: u8 = 0x0c;
pub(super) const PRINTABLE: u8 = 0x13;
pub(super) const BMP: u8 = 0x1e;

/// One attribute of a subject: its type, and the tag and octets of its value.
pub(super) type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// A value with its tag and length.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        len @ 0..128 => out.push(len as u8),
        len @ 128..256 => out.extend_from_slice(&[0x81, len as u8]),
        len => out.extend_from_slice(&[0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(&content);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

fn number(value: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&value.to_be_bytes());
    while bytes.len() > 1 && bytes[0] == 0 && bytes[1] < 128 {
        bytes.remove(0);
    }
    tlv(2, &[&bytes])
}

/// A name: several attributes in one of its parts are a multi-valued RDN.
pub(super) fn name(parts: &[&[Attribute<'_>]]) -> Vec<u8> {
    let parts: Vec<u8> = parts
        .iter()
        .flat_map(|attributes| {
            let attributes: Vec<u8> = attributes
                .iter()
                .flat_map(|(kind, tag, value)| sequence(&[&tlv(6, &[kind]), &tlv(*tag, &[value])]))
                .collect();
            tlv(0x31, &[&attributes])
        })
        .collect();
    sequence(&[&parts])
}

/// An authority.
pub(super) struct Ca {
    key: KeyPair,
    name: Vec<u8>,
    pub(super) pem: String,
}

impl Ca {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        let name = parsed.subject().as_raw().to_vec();
        Self { key, name, pem: certificate.pem() }
    }

    /// Its certificate in a file.
    pub(super) fn file(&self) -> std::path::PathBuf {
        let file = temporary("pem");
        std::fs::write(&file, &self.pem).unwrap();
        file
    }

    fn signed(&self, contents: &[u8], more: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(contents).unwrap();
        sequence(&[contents, ECDSA_SHA256, &tlv(3, &[&[0], &signature]), more])
    }

    /// For this subject, and these alternative names (GeneralName after GeneralName).
    pub(super) fn issue(&self, subject: &[u8], alternatives: &[u8], serial: u32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let validity = sequence(&[&tlv(23, &[b"240101000000Z"]), &tlv(23, &[b"400101000000Z"])]);
        let usages = sequence(&[
            &tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, 1]]),
            &tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, 2]]),
        ]);
        let mut extensions = sequence(&[&tlv(6, &[&[0x55, 0x1d, 0x25]]), &tlv(4, &[&usages])]);
        if !alternatives.is_empty() {
            let names = sequence(&[alternatives]);
            extensions.extend(sequence(&[&tlv(6, &[&[0x55, 0x1d, 0x11]]), &tlv(4, &[&names])]));
        }
        let contents = sequence(&[
            &tlv(0xa0, &[&number(2)]),
            &number(serial),
            ECDSA_SHA256,
            &self.name,
            &validity,
            subject,
            &key.subject_public_key_info(),
            &tlv(0xa3, &[&sequence(&[&extensions])]),
        ]);
        let pair = Pair { certificate: temporary("pem"), key: temporary("key") };
        let pem = data_encoding::BASE64.encode(&self.signed(&contents, b""));
        let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
        std::fs::write(&pair.certificate, pem).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&pair.key, mode).unwrap();
        pair
    }

    /// For a host.
    pub(super) fn host(&self, host: &str, serial: u32) -> Pair {
        let subject = name(&[&[(CN, UTF8, host.as_bytes())]]);
        self.issue(&subject, &tlv(0x82, &[host.as_bytes()]), serial)
    }

    /// What it says of a serial number, from and until so many seconds from now (RFC 6960).
    pub(super) fn staple(&self, serial: u32, says: Says, from: i64, until: i64) -> Vec<u8> {
        use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY as SHA1, digest};
        let key_hash = digest(&SHA1, self.key.der_bytes());
        let name_hash = digest(&SHA1, &self.name);
        let sha1 = sequence(&[&tlv(6, &[&[0x2b, 14, 3, 2, 26]]), &tlv(5, &[])]);
        let id = sequence(&[
            &sha1,
            &tlv(4, &[name_hash.as_ref()]),
            &tlv(4, &[key_hash.as_ref()]),
            &number(serial),
        ]);
        let status = match says {
            Says::Good => tlv(0x80, &[]),
            Says::Revoked => tlv(0xa1, &[&tlv(24, &[b"20240101000000Z"])]),
            Says::Unknown => tlv(0x82, &[]),
        };
        let next = tlv(0xa0, &[&time(until)]);
        let single = sequence(&[&id, &status, &time(from), &next]);
        let responder = tlv(0xa2, &[&tlv(4, &[key_hash.as_ref()])]);
        let contents = sequence(&[&responder, &time(from), &sequence(&[&single])]);
        let basic = self.signed(&contents, b"");
        let kind = tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 48, 1, 1]]);
        let bytes = sequence(&[&kind, &tlv(4, &[&basic])]);
        sequence(&[&tlv(10, &[&[0]]), &tlv(0xa0, &[&bytes])])
    }

    /// A client that believes it, and shows this certificate.
    pub(super) fn client(&self, own: Option<&Pair>) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let Some(own) = own else { return builder.with_no_client_auth() };
        let chain = vec![der(own)];
        let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    }
}

/// What an authority says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Good,
    Revoked,
    Unknown,
}

/// A pair's certificate.
pub(super) fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&pair.certificate).unwrap()
}

/// So many seconds from now, as GeneralizedTime.
fn time(from_now: i64) -> Vec<u8> {
    let at = time::OffsetDateTime::from_unix_timestamp(i64::try_from(now()).unwrap() + from_now);
    let at = at.unwrap();
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    tlv(24, &[text.as_bytes()])
}

fn now() -> u64 {
    UnixTime::now().as_secs()
}

/// Believes every certificate, and remembers the staple that came.
#[derive(Debug, Default)]
pub(super) struct Collector(pub(super) Mutex<Option<Vec<u8>>>);

impl Collector {
    /// A client that collects here.
    pub(super) fn client(self: &Arc<Self>) -> ClientConfig {
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<_>)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config
    }
}

impl ServerCertVerifier for Collector {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(ocsp.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
