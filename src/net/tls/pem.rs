//! Files of certificates, keys and revocation lists. Every message says which file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::base::limits::PEM_MAX;

/// What is in a file.
///
/// # Errors
/// It cannot be read, or is larger than any file of this kind.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fault)?;
    file.take(PEM_MAX + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > PEM_MAX {
        return Err(format!("{}: more than {PEM_MAX} bytes", path.display()));
    }
    Ok(bytes)
}

/// The certificates in a file, in their order.
///
/// # Errors
/// There is none, or one is malformed.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| format!("{}: {error}", path.display()))?;
    if found.is_empty() {
        let hint = "it must be PEM: \"-----BEGIN CERTIFICATE-----\"";
        return Err(format!("{}: no certificate in it; {hint}", path.display()));
    }
    Ok(found)
}

/// The private key in a file.
///
/// # Errors
/// There is none that can be used.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let hint = if bytes.windows(9).any(|part| part == b"ENCRYPTED") {
            "it is encrypted; take the passphrase off with \"openssl pkey\""
        } else {
            "it must be PEM: \"-----BEGIN PRIVATE KEY-----\" (or EC, or RSA)"
        };
        format!("{}: {error}; {hint}", path.display())
    })
}

/// The revocation lists in a file.
///
/// # Errors
/// There is none, or one is malformed.
pub fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{}: no revocation list in it", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
