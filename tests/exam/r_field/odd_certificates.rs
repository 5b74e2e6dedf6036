//! Row R42: certificates as authorities, tools and editors make them: served where others serve them,
//! else a sentence that names the file, the reason and the way out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::operators::check;
use crate::Row;
use crate::support::proxy::temporary;
use crate::support::tls::{Pair, TlsClient, TlsLink, server};
use crate::support::{Driver, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r42_version_1_of_x509", r42_version_1),
        ("r42_rsa_of_1024_bits", r42_rsa_of_1024),
        ("r42_pkcs12_for_pem", r42_pkcs12),
        ("r42_files_of_editors", r42_files_of_editors),
        ("r42_an_authority_as_a_listener", r42_an_authority_as_a_listener),
        ("r42_an_authority_as_an_endpoint", r42_an_authority_as_an_endpoint),
        ("r42_an_authority_as_a_client", r42_an_authority_as_a_client),
        ("r42_an_expired_revocation_list", r42_an_expired_list),
    ]
}

/// A file that is gone afterwards.
pub(super) struct File(PathBuf);

impl File {
    pub(super) fn new(extension: &str, content: impl AsRef<[u8]>) -> Self {
        let path = temporary(extension);
        std::fs::write(&path, content).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        Self(path)
    }

    pub(super) fn shown(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// HTTPS before an origin; `more` are further keys of the listener's `tls`.
fn https(origin: &Origin, certificate: &Path, key: &Path, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = \
         [{{ certificate = \"{}\", key = \"{}\" }}]\n{more}\n[[cluster]]\nname = \"app\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n[[route]]\ncluster = \"app\"\n",
        certificate.display(),
        key.display(),
        origin.address
    )
}

/// A client that believes every server, and looks into no certificate.
#[derive(Debug)]
struct Blind;

impl ServerCertVerifier for Blind {
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
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

fn blind(own: Option<(&Certificate, &KeyPair)>) -> Arc<ClientConfig> {
    let builder =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(Blind));
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
    })
}

/// One request; why there was no answer.
fn asked(proxy: &Proxy, config: &Arc<ClientConfig>) -> Result<u16, String> {
    let client = TlsClient::connect(proxy.address, "a.example", config);
    let reply = client.and_then(|mut client| client.get("a.example", "/a"));
    reply.map(|reply| reply.status).map_err(|error| error.to_string())
}

fn is_served(driver: Driver, what: &str, certificate: &File, key: &File) {
    let origin = Origin::echo();
    let config = https(&origin, &certificate.0, &key.0, "");
    let (passes, said) = check(config.as_bytes());
    assert!(passes, "{what}: {said}");
    let proxy = Proxy::run(driver, &config, &[], None);
    assert_eq!(asked(&proxy, &blind(None)), Ok(200), "{what}: {}", proxy.log());
}

/// Either it is served, or the refusal has all of these words.
fn is_served_or_explained(
    driver: Driver,
    what: &str,
    (certificate, key): (&File, &File),
    words: &[&str],
) {
    let origin = Origin::echo();
    let (passes, said) = check(https(&origin, &certificate.0, &key.0, "").as_bytes());
    if passes {
        return is_served(driver, what, certificate, key);
    }
    let line = said.lines().find(|line| words.iter().all(|word| line.contains(word)));
    let names = |line: &str| line.contains(&certificate.shown()) || line.contains(&key.shown());
    assert!(line.is_some_and(names), "{what}: a file and {words:?} in one line of: {said}");
}

fn r42_version_1(driver: Driver) {
    // Old authorities, and `openssl x509 -req` without extensions. Clients that do not look at names
    // take it, as they take it from others.
    let (certificate, key) = (File::new("pem", VERSION_1), File::new("key", KEY));
    is_served(driver, "version 1", &certificate, &key);
}

fn r42_rsa_of_1024(driver: Driver) {
    let (certificate, key) = (File::new("pem", RSA_1024), File::new("key", RSA_1024_KEY));
    is_served_or_explained(driver, "RSA-1024", (&certificate, &key), &["1024", "2048", "openssl"]);
}

fn r42_pkcs12(driver: Driver) {
    let text = format!("-----BEGIN CERTIFICATE-----\n{PKCS12}\n-----END CERTIFICATE-----\n");
    let bytes = CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec();
    let bundle = File::new("p12", bytes);
    let (certificate, key) = (File::new("pem", AUTHORITY), File::new("key", KEY));
    for (what, pair) in [
        ("both", (&bundle, &bundle)),
        ("the certificate", (&bundle, &key)),
        ("the key", (&certificate, &bundle)),
    ] {
        is_served_or_explained(driver, what, pair, &["PKCS#12", "openssl pkcs12"]);
    }
}

/// Windows' editors and shells put marks in front, or write two octets for each.
fn r42_files_of_editors(driver: Driver) {
    let mark = |text: &str| format!("\u{feff}{text}");
    let wide = |text: &str| {
        let units = mark(text).encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        File::new("pem", units)
    };
    let (plain, plain_key) = (File::new("pem", AUTHORITY), File::new("key", KEY));
    let (marked, marked_key) = (File::new("pem", mark(AUTHORITY)), File::new("key", mark(KEY)));
    let words = ["byte order mark"];
    is_served_or_explained(driver, "a mark, both", (&marked, &marked_key), &words);
    is_served_or_explained(driver, "a mark, the certificate", (&marked, &plain_key), &words);
    is_served_or_explained(driver, "a mark, the key", (&plain, &marked_key), &words);
    is_served_or_explained(driver, "UTF-16", (&wide(AUTHORITY), &plain_key), &["UTF-16"]);
    is_served_or_explained(driver, "UTF-16, the key", (&plain, &wide(KEY)), &["UTF-16"]);
    let lines = AUTHORITY.replace('\n', "\r\n");
    is_served(driver, "CRLF", &File::new("pem", lines), &plain_key);
    // The configuration itself comes from the same editors.
    let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = { status = 204 }\n";
    let (passes, said) = check(mark(text).as_bytes());
    assert!(passes || said.contains("byte order mark"), "a configuration with a mark: {said}");
    let units: Vec<u8> = mark(text).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (passes, said) = check(&units);
    assert!(passes || said.contains("UTF-16"), "a configuration in UTF-16: {said}");
}

/// `openssl req -x509` makes an authority of what is meant to be a server's certificate.
fn r42_an_authority_as_a_listener(driver: Driver) {
    let (certificate, key) = (File::new("pem", AUTHORITY), File::new("key", KEY));
    is_served(driver, "an authority", &certificate, &key);
}

/// A certificate and its key. It signs itself, and may sign others.
fn authority(name: &str) -> (CertificateParams, KeyPair, Certificate) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap();
    (params, key, certificate)
}

/// The same from an endpoint, which is believed because its very certificate is the `ca`; and no other,
/// nor for another name.
fn r42_an_authority_as_an_endpoint(driver: Driver) {
    let (_, key, certificate) = authority("a.example");
    let (_, _, stranger) = authority("a.example");
    let pem = File::new("pem", certificate.pem());
    let other = File::new("pem", stranger.pem());
    // Its files go with it.
    let pair = Pair { certificate: temporary("pem"), key: temporary("key") };
    std::fs::write(&pair.certificate, certificate.pem()).unwrap();
    std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    let shown = server(&pair);
    let origin = Origin::raw(move |link| {
        let mut tls = TlsLink::new(link, &shown);
        while tls.head().is_some() {
            tls.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    for (ca, name, status) in
        [(&pem, "a.example", 200), (&other, "a.example", 502), (&pem, "b.example", 502)]
    {
        let tls = format!("tls = {{ ca = \"{}\", name = \"{name}\" }}", ca.shown());
        let proxy = Proxy::run(driver, &cluster(&[origin.address], &tls), &[], None);
        let reply = proxy.get("/a");
        assert_eq!(reply.status, status, "as {name}: {}{}", reply.text(), proxy.log());
    }
}

/// And from a client.
fn r42_an_authority_as_a_client(driver: Driver) {
    let (_, own_key, own) = authority("client");
    let (_, other_key, other) = authority("client");
    let (ca, pem, key) =
        (File::new("pem", own.pem()), File::new("pem", AUTHORITY), File::new("key", KEY));
    let origin = Origin::echo();
    let more = format!("client_auth = {{ ca = \"{}\" }}", ca.shown());
    let proxy = Proxy::run(driver, &https(&origin, &pem.0, &key.0, &more), &[], None);
    assert!(asked(&proxy, &blind(None)).is_err(), "without any");
    assert!(asked(&proxy, &blind(Some((&other, &other_key)))).is_err(), "another one");
    assert_eq!(asked(&proxy, &blind(Some((&own, &own_key)))), Ok(200), "{}", proxy.log());
}

/// A list that should have been renewed still says what is revoked. Clients are served, and the
/// operator is told. That this is said again each day is for a test with a clock of its own.
fn r42_an_expired_list(driver: Driver) {
    let (params, key, certificate) = authority("an authority");
    let issuer = Issuer::new(params, key);
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2024, 2, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(2_u64),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = File::new("crl", list.signed_by(&issuer).unwrap().pem().unwrap());
    let client = |serial: u64| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let ((good, good_key), (revoked, revoked_key)) = (client(1), client(2));
    let (ca, pem, key) =
        (File::new("pem", certificate.pem()), File::new("pem", AUTHORITY), File::new("key", KEY));
    let origin = Origin::echo();
    let more = format!("client_auth = {{ ca = \"{}\", crl = \"{}\" }}", ca.shown(), list.shown());
    let config = https(&origin, &pem.0, &key.0, &more);
    let warned = |text: &str| {
        text.lines().any(|line| {
            ["warning", "expired", &list.shown()].iter().all(|word| line.contains(word))
        })
    };
    let (passes, said) = check(config.as_bytes());
    assert!(passes && warned(&said), "check: {said}");
    let proxy = Proxy::run(driver, &config, &[], None);
    until("a warning", || warned(&proxy.log()));
    assert_eq!(asked(&proxy, &blind(Some((&good, &good_key)))), Ok(200), "{}", proxy.log());
    assert!(asked(&proxy, &blind(Some((&revoked, &revoked_key)))).is_err(), "revoked");
}

// Made by OpenSSL 3.0, for a.example, until 2126.

/// P-256.
pub(super) const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzTzbUzoNMuDmP2d7
AkwissI9fcSnYvnu9OIRmvxNTCWhRANCAAS9FADejjoB+oLCR25QH9KqU1lEjCXf
yiEoY8G1RSWRbhKbKZcI+XtMXRNt79YXB1qW/sQD7vBQbqflMOjK861q
-----END PRIVATE KEY-----
";

/// Of that key, and of version 1: `openssl x509 -req` without extensions.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBJDCBywIUc8DyxSFHBDuEslv87JNxOymPeqwwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJYS5leGFtcGxlMCAXDTI2MTEyODE4MjI1N1oYDzIxMjYxMTA0MTgyMjU3
WjAUMRIwEAYDVQQDDAlhLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAS9FADejjoB+oLCR25QH9KqU1lEjCXfyiEoY8G1RSWRbhKbKZcI+XtMXRNt79YX
B1qW/sQD7vBQbqflMOjK861qMAoGCCqGSM49BAMCA0gAMEUCIQDTfYkubbHzPIwQ
FvoIdWUmsBHXHUSJwlrmtHRH2po1PgIgD1YJb5uLgD3EgvoyAYkdCtsDf+ubKBIR
EUZO7gxONJY=
-----END CERTIFICATE-----
";

/// Of that key, CA:TRUE: `openssl req -x509`.
pub(super) const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBljCCATugAwIBAgIUOugBSquKO0+Tqilz2/3CdIWjyfYwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYS5leGFtcGxlMCAXDTI2MTEyODE4MjI1N1oYDzIxMjYxMTA0
MTgyMjU3WjAUMRIwEAYDVQQDDAlhLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAS9FADejjoB+oLCR25QH9KqU1lEjCXfyiEoY8G1RSWRbhKbKZcI+XtM
XRNt79YXB1qW/sQD7vBQbqflMOjK861qo2kwZzAdBgNVHQ4EFgQUj7mQ7XYHTQHT
py2jZjLhnava1OgwHwYDVR0jBBgwFoAUj7mQ7XYHTQHTpy2jZjLhnava1OgwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglhLmV4YW1wbGUwCgYIKoZIzj0EAwID
SQAwRgIhAMxvrxWx3UFF3BBqnNRbuo3YEqFWe51XUFb+DDLnqSSVAiEA1vCFTI00
jGVhBWNgdtGr9Fj1Mmsz1PF4Gng7Mw9nxpE=
-----END CERTIFICATE-----
";

const RSA_1024_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBALbliF14rj+GVMZv
vXLvNCDpwh0tPabp3M8XZ2SvCqBmvJDSiCpdFBDSPZriHCaezlDDVVN9w3wEg/xb
OzKJN8BJPx0BN86/swluJohIALweDK4M2VMb1/ifF520XJYSdKTIrj7KlCHePk33
9Qtqn8qjXQbs3/EUPEAvdZaUzAmXAgMBAAECgYBrRIHO+GmR/lIYNA7zqtFzAEaF
4DPJgl2r4/kS9wqPetHbSm7sEb0kBHp3LWf/SqKMgZO4rQkK4ocaadN1Vz8ne74R
hMiVhMTUp21Z9TLnbo9w6hKolKqQUU6Rw8MOytwhz3m0G/o/er/Zifcm51bJ72gh
FTo0EzAT1pxkI2T1mQJBAOxnvb2g0pTcRGRjwYhJg9xYX1mL6idMjo5JxK48lO32
XQ7fM3OlqStL+q5LO50Zh1a2ddTRpolnnIjmS2dfVgMCQQDGDmW5txyv3lHQaM6h
hpUY8cdCxFncaClm8tF9LZuPnE6JAynb5PUlUiNEwbx4tU8evAXYg+A43ls8XgC5
VEPdAkAzixbqjnL7c98RiFJ89ZJja302l/Pwp5d5XIoedyT9kTaO9IlSUK9GumUo
tUyFHzjL5jJguWk3Ejkl/Bg6rKWjAkBY1tpwfJ+kj6/ZMToGoEy+3K0J2POJ9zsj
D6ZCZTPTLkTYFpAvL7t62yYw0EpPRtzPp31jynvIZo08PdpLR24NAkEAyRjZuk7D
jB5EucXtf5W/lpQv6CYL2I4So7OYoRg73NakUECr9F5jRRb7FCJkji2yxifyOsAj
U0SOLStskjjT5A==
-----END PRIVATE KEY-----
";

const RSA_1024: &str = "\
-----BEGIN CERTIFICATE-----
MIICGzCCAYSgAwIBAgITZHGGJ/rZ92I4zncAR+x5TgqeRjANBgkqhkiG9w0BAQsF
ADAUMRIwEAYDVQQDDAlhLmV4YW1wbGUwIBcNMjYxMTI4MTgyMjU3WhgPMjEyNjEx
MDQxODIyNTdaMBQxEjAQBgNVBAMMCWEuZXhhbXBsZTCBnzANBgkqhkiG9w0BAQEF
AAOBjQAwgYkCgYEAtuWIXXiuP4ZUxm+9cu80IOnCHS09punczxdnZK8KoGa8kNKI
Kl0UENI9muIcJp7OUMNVU33DfASD/Fs7Mok3wEk/HQE3zr+zCW4miEgAvB4MrgzZ
UxvX+J8XnbRclhJ0pMiuPsqUId4+Tff1C2qfyqNdBuzf8RQ8QC91lpTMCZcCAwEA
AaNpMGcwHQYDVR0OBBYEFMHz/RWCxCBj3UiDRgl9uEss0+zyMB8GA1UdIwQYMBaA
FMHz/RWCxCBj3UiDRgl9uEss0+zyMA8GA1UdEwEB/wQFMAMBAf8wFAYDVR0RBA0w
C4IJYS5leGFtcGxlMA0GCSqGSIb3DQEBCwUAA4GBAG/rBmHAfxuLz44AMa1Ak2Mo
mn3qmQZ3fUV30jB4b6cR4fNpRnS+X40MoTsvqGz59SG/y0fyVLN53TKi3SbaJbxO
TVUUoYJLuIWFfClW1XetqDZpBqCcOp37XtHsv17GgMDV/z5VkukwZb5S293S6QKj
D29YA2qZWP43d8bNnJ5G
-----END CERTIFICATE-----
";

/// That key and the authority's certificate, with a passphrase, in Base64: `openssl pkcs12 -export`.
const PKCS12: &str = "\
MIIELAIBAzCCA+IGCSqGSIb3DQEHAaCCA9MEggPPMIIDyzCCAoIGCSqGSIb3DQEH
BqCCAnMwggJvAgEAMIICaAYJKoZIhvcNAQcBMFcGCSqGSIb3DQEFDTBKMCkGCSqG
SIb3DQEFDDAcBAil3W52ioyfhAICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQME
ASoEEOkQHL3yu6wN1MbJAQ0jpR6AggIAy/kaZe4MXWAoL1hRSa/VNv/I5L1yFK/v
3Ni32t0DRc6sx3975MMTkU9OQQjYD2OGylO/+j+Rn3kkGapPG++QProUOxrQz8nB
79MBIiO59igyowD4P/Trr6iQ+/6e6d8+jj5+EyP/XiPPuuj8/8vMfKPIqZH3Wan1
UWCTc7+hRyO0T1RMKg/pQxx9Dcb7XbLKZ0bufU8IIxulG1kpFRJLh9Y2zWoCLiM3
VMr2rv50XHRaMSFl/UHSq9NH8cHPDrz21efrGsPTWwrVyPz+O7mafrA2lwNRRC76
ltagoFgOU/NqEbwsF8cG3Tnx30ggvMLe9ngoNfkBxSLXobmkh5JbU8V9AvGfCbK1
5QweTS9ckJ3Fsw+ytI+ld+BfAUTRfRuFn3LWgV/X+QZN90vxzWdQxlwD6jIcQNDn
UFYj2F980E/IKZdfmPpzIDXkpcOJsQory0YHPRE/WkRuE7V+y6486VDFUxSAIRpU
oxdaXx6iBrn0Lsr71RvVhtvutQ+LN4W5fzomGoH9DqR9R0kBTMPUnYeLR472Ziaw
1SPVKNuTy3B71ls4/hTTaQ/hmBYWCQUEsRiQ6gJWzU2YxxFjGxBaC7QI5LoJx9jI
Krwzf69uphGT7+fJvOcgeO0aY2h3Qp0SLlxF7iGfSCzIiHHOsRZIEurts7Eji+qH
7t5oBoevkMowggFBBgkqhkiG9w0BBwGgggEyBIIBLjCCASowggEmBgsqhkiG9w0B
DAoBAqCB7zCB7DBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQICOcJIp0g
/gICAggAMAwGCCqGSIb3DQIJBQAwHQYJYIZIAWUDBAEqBBA7Ud0SaS7hnzxE7yz2
v2s+BIGQsFcwjwpPNW+hMa+8VmzJqypFc2CjJ02fs2nKQP7NtgH2sWKIC2A+fY88
jMb9zlp2tl1b9nu85xzm0rQ8U8nXGkGeKjDbt+XGv57IOd7Jz6CyKGHsLR9DseEQ
vZFUYAKNWb5vhkcnBzNHgwn/qzpgtK6FNsOxMwWFFfdExwc6eq5ApDt6AO7+c7FQ
7GsGXOuMMSUwIwYJKoZIhvcNAQkVMRYEFAMdGjZKsQqU+L3ksy7nJwJrzq+kMEEw
MTANBglghkgBZQMEAgEFAAQgyakaOICd9dufrrVem43mYBX+fDCEYvOGZY0DShF3
1dcECK1kdh/a6oEmAgIIAA==";
