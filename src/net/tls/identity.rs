//! A certificate with its key, and the list from which a client's wishes choose one (RFC 6066
//! section 3).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::pem;
use super::staple::{self, Staple};
use crate::config::tls::Pair;

/// The names that a certificate speaks for, in lower case; `*.` in front stands for one label.
type CertificateNames = Arc<[Box<str>]>;

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    names: CertificateNames,
    /// Seconds since 1970.
    pub valid: (i64, i64),
    /// Of its certificate.
    serial: Box<[u8]>,
    /// Until when what its authority says of it may be shown, in seconds since 1970.
    pub stapled: Option<i64>,
}

impl Identity {
    /// Reads one from its files.
    ///
    /// # Errors
    /// A file cannot be read, means nothing, or the key is another's.
    pub fn load(pair: &Pair, provider: &CryptoProvider) -> Result<Self, String> {
        let chain = pem::certificates(&pair.certificate)?;
        let identity = Self::new(chain, pem::key(&pair.key)?, provider);
        let identity = identity.map_err(|message| {
            format!("{} and {}: {message}", pair.certificate.display(), pair.key.display())
        })?;
        Ok(identity)
    }

    /// Puts the two together.
    ///
    /// # Errors
    /// They do not belong together, or mean nothing.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, String> {
        let first = chain.first().ok_or("no certificate")?;
        let CertificateFacts { names, valid, serial, public_key, rsa_bits } = read(first)?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| match rsa_bits {
            Some(bits @ ..2048) => format!(
                "an RSA key of {bits} bits can be broken and is not used; 2048 is the least: \
                 \"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256\" makes a good one"
            ),
            _ => format!("the key cannot be used: {error}"),
        })?;
        // Compared here: of certificates of version 1, which others serve too, rustls reads nothing.
        if key.public_key().is_some_and(|own| own.as_ref() != &*public_key) {
            return Err("the key does not belong to the certificate".to_owned());
        }
        let key = CertifiedKey::new(chain, key);
        Ok(Self { key: Arc::new(key), names, valid, serial, stapled: None })
    }

    /// Adds what its authority says of it (RFC 6066 section 8).
    ///
    /// # Errors
    /// Clients would not believe it, or it is not there: it is served without.
    pub fn staple(&mut self, path: &Path, now: i64) -> Result<(), String> {
        let Staple { bytes, until } = staple::read(path, &self.serial, now)?;
        self.key = Arc::new(CertifiedKey { ocsp: Some(bytes), ..(*self.key).clone() });
        self.stapled = Some(until);
        Ok(())
    }

    /// Whether it speaks for this host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            None => **name == *host,
            Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        })
    }

    /// Names that it speaks for.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }
}

/// What a certificate says of itself.
struct CertificateFacts {
    names: CertificateNames,
    valid: (i64, i64),
    serial: Box<[u8]>,
    /// SubjectPublicKeyInfo, in DER.
    public_key: Box<[u8]>,
    rsa_bits: Option<usize>,
}

fn read(certificate: &CertificateDer<'_>) -> Result<CertificateFacts, String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| format!("no X.509: {error}"))?;
    let valid = parsed.validity();
    let valid = (valid.not_before.timestamp(), valid.not_after.timestamp());
    let mut names: Vec<Box<str>> = Vec::new();
    if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase().into());
            }
        }
    }
    let public_key = parsed.public_key();
    let rsa_bits = match public_key.parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()),
        _ => None,
    };
    Ok(CertificateFacts {
        names: names.into(),
        valid,
        serial: parsed.raw_serial().into(),
        public_key: public_key.raw.into(),
        rsa_bits,
    })
}

/// All identities of a listener.
#[derive(Debug, Default)]
pub struct Identities {
    all: Vec<Identity>,
    /// By exact name, and by what follows `*.`: places in `all`, ECDSA before RSA.
    exact: HashMap<Box<str>, Vec<usize>>,
    wild: HashMap<Box<str>, Vec<usize>>,
    /// For a client that asks for no name, or for a name that no certificate has.
    default: Vec<usize>,
}

impl Identities {
    /// The first is the default, and with it those of the same names.
    #[must_use]
    pub fn new(all: Vec<Identity>) -> Self {
        let mut identities = Self { all, ..Self::default() };
        let mut order: Vec<usize> = (0..identities.all.len()).collect();
        order.sort_by_key(|at| identities.all[*at].is_rsa());
        for at in order {
            for name in identities.all[at].names.iter() {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut identities.wild, rest),
                    None => (&mut identities.exact, &**name),
                };
                table.entry(name.into()).or_default().push(at);
            }
            if identities.all[at].names == identities.all[0].names {
                identities.default.push(at);
            }
        }
        identities
    }

    /// Those that are shown to a client that asks for this name, in lower case.
    fn of(&self, name: Option<&str>) -> &[usize] {
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name));
        let found = name.and_then(|name| {
            let wild = || name.split_once('.').and_then(|(_, rest)| self.wild.get(rest));
            self.exact.get(name).or_else(wild)
        });
        found.unwrap_or(&self.default)
    }

    /// Whether what is shown to a client that asks for `name` speaks for `host` as well.
    #[must_use]
    pub fn covers(&self, name: &str, host: &str) -> bool {
        self.of(Some(name)).iter().any(|at| self.all[*at].covers(host))
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Identity] {
        &self.all
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let keys = self.of(name.as_deref()).iter().map(|at| &self.all[*at].key);
        let schemes = hello.signature_schemes();
        // Where none suits, rustls says so with the first.
        let mut fallback = None;
        for key in keys {
            if key.key.choose_scheme(schemes).is_some() {
                return Some(Arc::clone(key));
            }
            fallback.get_or_insert(key);
        }
        fallback.map(Arc::clone)
    }
}
