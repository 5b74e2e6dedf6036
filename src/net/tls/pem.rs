//! Files of certificates, keys and revocation lists. Every message says which file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::base::limits::PEM_MAX;

/// What some editors put in front of UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A PFX of RFC 7292: a sequence that begins with version 3.
fn is_pkcs12(bytes: &[u8]) -> bool {
    let inner = match bytes {
        [0x30, 0x80..=0x84, rest @ ..] => rest.get(usize::from(bytes[1] & 0x7f)..),
        [0x30, 0..=0x7f, rest @ ..] => Some(rest),
        _ => None,
    };
    inner.is_some_and(|inner| inner.starts_with(&[2, 1, 3]))
}

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
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = *bytes {
        let why = "it is UTF-16, as some editors write it: save it as ASCII or UTF-8";
        return Err(format!("{}: {why}", path.display()));
    }
    if is_pkcs12(&bytes) {
        let why = "it is PKCS#12 (.p12, .pfx), which must become PEM";
        return Err(format!(
            "{}: {why}: \"openssl pkcs12 -in {} -nodes -out both.pem\"; certificate and key may \
             both name that file",
            path.display(),
            path.display()
        ));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
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
    let found = found.map_err(|error| explain(path, &bytes, &error))?;
    if found.is_empty() {
        let hint = match bytes.first() {
            Some(0x30) => "it looks like DER: \"openssl x509 -inform der\" makes PEM of it",
            _ if has(&bytes, b"PRIVATE KEY-----") => "there is a key in it: were the two swapped?",
            _ => "it must be PEM: \"-----BEGIN CERTIFICATE-----\"",
        };
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
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        _ if has(&bytes, b"ENCRYPTED") => {
            let why = "the key in it is encrypted; take the passphrase off with \"openssl pkey\"";
            format!("{}: {why}", path.display())
        }
        pem::Error::NoItemsFound => {
            let why = if has(&bytes, b"BEGIN CERTIFICATE-----") {
                "no private key in it, but a certificate: were the two swapped?"
            } else {
                "no private key in it; it must be PEM: \"-----BEGIN PRIVATE KEY-----\" (or EC, or RSA)"
            };
            format!("{}: {why}", path.display())
        }
        error => explain(path, &bytes, &error),
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
        Err(error) => Err(explain(path, &bytes, &error)),
    }
}

/// Whether a file's revocation lists should have been renewed by now (seconds since 1970).
#[must_use]
pub fn are_overdue(path: &Path, now: i64) -> bool {
    let lists = revocations(path).unwrap_or_default();
    lists.iter().any(|list| {
        let parsed = CertificateRevocationList::from_der(list);
        let next = parsed.ok().and_then(|(_, list)| list.next_update());
        next.is_some_and(|next| next.timestamp() < now)
    })
}

fn has(bytes: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(bytes, word).is_some()
}

/// What tells the contents of these files from others.
#[must_use]
pub fn digest<'a>(files: impl Iterator<Item = &'a Path>) -> u64 {
    let mut all = Vec::new();
    for file in files {
        let bytes = read(file).unwrap_or_default();
        all.extend_from_slice(&bytes.len().to_be_bytes());
        all.extend_from_slice(&bytes);
    }
    xxhash_rust::xxh3::xxh3_64(&all)
}

/// What is wrong with a file, and in which line.
fn explain(path: &Path, bytes: &[u8], error: &pem::Error) -> String {
    let lines = || (1..).zip(bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii));
    let begins = |line: &[u8]| line.starts_with(b"-----BEGIN ");
    let (line, why) = match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let last = lines().filter(|(_, line)| begins(line)).last();
            let end = String::from_utf8_lossy(end_marker);
            let end = end.trim_matches('-').trim_start_matches("END ");
            let why = "what begins here has no end: is the file cut off? Missing is";
            (last, format!("{why} \"-----END {end}-----\""))
        }
        pem::Error::IllegalSectionStart { line } => {
            let line = line.trim_ascii();
            let why = "a section begins with \"-----BEGIN …-----\"".to_owned();
            (lines().find(|(_, one)| *one == line), why)
        }
        pem::Error::Base64Decode(_) => {
            let is_coded = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
            let mut is_within = false;
            let bad = lines().find(|(_, line)| {
                if line.starts_with(b"-----") {
                    is_within = begins(line);
                    return false;
                }
                is_within && !line.iter().all(is_coded)
            });
            // Or it is too short.
            let place = bad.or_else(|| lines().find(|(_, line)| begins(line)));
            (place, "this is no Base64: the file is damaged".to_owned())
        }
        other => (None, other.to_string()),
    };
    match line {
        Some((number, _)) => format!("{}:{number}: {why}", path.display()),
        None => format!("{}: {why}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_a_line() {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("millrace-pem-{}", std::process::id()));
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "-----END CERTIFICATE-----\n";
        for (text, line, word) in [
            (format!("# mine\n{begin}AAAA\n"), ":2:", "has no end"),
            (format!("{begin}AAAA\n{end}\n{begin}AAAA\nBB?B\n{end}"), ":7:", "Base64"),
            (format!("{begin}AAAAA\n{end}"), ":1:", "Base64"),
            ("-----BEGIN CERTIFICATE\nAAAA\n".to_owned(), ":1:", "begins with"),
            ("nothing".to_owned(), ": no certificate", "it must be PEM"),
            (String::new(), ": no certificate", "it must be PEM"),
        ] {
            std::fs::write(&file, &text).unwrap();
            let said = certificates(&file).unwrap_err();
            assert!(said.contains(line) && said.contains(word), "{text:?}: {said}");
        }
        std::fs::write(
            &file,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(key(&file).unwrap_err().contains("is encrypted"));
        std::fs::write(&file, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n").unwrap();
        assert!(key(&file).unwrap_err().contains("is encrypted"));
        std::fs::write(&file, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
            .unwrap();
        assert!(certificates(&file).unwrap_err().contains("swapped"));
        std::fs::write(&file, format!("{begin}AAAA\n{end}")).unwrap();
        assert!(key(&file).unwrap_err().contains("swapped"));
        let _ = std::fs::remove_file(&file);
        assert!(key(&file).unwrap_err().contains("No such file"));
    }
}
