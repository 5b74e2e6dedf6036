//! A certificate authority of this machine's own, for an operator that wants to see HTTPS without having
//! any files: made once, kept in the user's data folder, so that it can be trusted once.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::identity::Identity;
use super::{pem, server};

const CERTIFICATE: &str = "millrace-ca.pem";
const KEY: &str = "millrace-ca.key";
/// Seconds that its certificates are valid before and after they are made. Browsers accept no more
/// than 398 days.
const BEFORE: i64 = 24 * 3600;
const AFTER: i64 = 397 * 24 * 3600;
const AUTHORITY_AFTER: i64 = 10 * 365 * 24 * 3600;

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Where its certificate is, to be trusted; `None` if there was no place for it.
    pub file: Option<PathBuf>,
}

/// The folder that this user's authority lives in.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let data = set("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/share")))?;
    Some(data.join("millrace"))
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the one in a folder, or makes one there if it may; where that cannot be, one that lives as
    /// long as the process. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// What is in the folder is of no use.
    pub fn open(folder: Option<&Path>, may_write: bool, now: i64) -> Result<Self, String> {
        if let Some(folder) = folder {
            let paths = (folder.join(CERTIFICATE), folder.join(KEY));
            match (paths.0.exists(), paths.1.exists()) {
                (true, true) => return Self::read(paths.0, &paths.1),
                (false, false) => {}
                // A client may trust the one that is there.
                (has_certificate, _) => {
                    let (there, gone) =
                        if has_certificate { (paths.0, paths.1) } else { (paths.1, paths.0) };
                    return Err(format!(
                        "{} is there, and {} is not: put it back, or remove the first for a new \
                         authority",
                        there.display(),
                        gone.display()
                    ));
                }
            }
        }
        let fault = |error: rcgen::Error| format!("a local certificate authority: {error}");
        let key = KeyPair::generate().map_err(fault)?;
        let params = authority_params(now).map_err(fault)?;
        let certificate = params.self_signed(&key).map_err(fault)?;
        let file = folder.filter(|_| may_write).and_then(|folder| {
            keep(folder, &certificate.pem(), &key.serialize_pem()).ok()?;
            Some(folder.join(CERTIFICATE))
        });
        let certificate = certificate.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate, file })
    }

    fn read(certificate: PathBuf, key: &Path) -> Result<Self, String> {
        let text = |path: &Path| {
            String::from_utf8(pem::read(path)?).map_err(|_| format!("{}: no text", path.display()))
        };
        let hint = "remove both files for a new one";
        let parsed = KeyPair::from_pem(&text(key)?);
        let pair = parsed.map_err(|error| format!("{}: {error}; {hint}", key.display()))?;
        let der = pem::certificates(&certificate)?.swap_remove(0);
        let own = PrivateKeyDer::try_from(pair.serialize_der())
            .map_err(|error| format!("{}: {error}; {hint}", key.display()))?;
        Identity::new(vec![der.clone()], own, &server::provider()).map_err(|error| {
            format!("{} and {}: {error}; {hint}", certificate.display(), key.display())
        })?;
        let issuer = Issuer::from_ca_cert_der(&der, pair)
            .map_err(|error| format!("{}: {error}; {hint}", certificate.display()))?;
        Ok(Self { issuer, certificate: der, file: Some(certificate) })
    }

    /// Makes a certificate for these names and addresses.
    ///
    /// # Errors
    /// A name is none.
    pub fn issue(
        &self,
        names: &[String],
        now: i64,
        provider: &CryptoProvider,
    ) -> Result<Identity, String> {
        let fault = |error: rcgen::Error| format!("self_signed: {error}");
        let key = KeyPair::generate().map_err(fault)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(fault)?;
        params.distinguished_name = called("millrace");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = span(now, AFTER);
        let leaf = params.signed_by(&key, &self.issuer).map_err(fault)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| format!("self_signed: {error}"))?;
        Identity::new(chain, key, provider)
    }
}

fn authority_params(now: i64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = called("millrace local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = span(now, AUTHORITY_AFTER);
    Ok(params)
}

fn called(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

fn span(now: i64, after: i64) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let at = |second: i64| {
        time::OffsetDateTime::from_unix_timestamp(second)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    (at(now - BEFORE), at(now + after))
}

/// Writes both files; the key is for its owner only.
fn keep(folder: &Path, certificate: &str, key: &str) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let write = |name: &str, mode: u32, text: &str| {
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).clone();
        open.open(folder.join(name))?.write_all(text.as_bytes())
    };
    write(KEY, 0o600, key)?;
    write(CERTIFICATE, 0o644, certificate)
}
