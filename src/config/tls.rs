//! `tls = { … }` of listeners and clusters, validated as far as that goes without opening a file.

use std::path::PathBuf;

pub use super::source::SourceLine;

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub line: SourceLine,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// What the authority says of the certificate, in DER.
    pub ocsp: Option<PathBuf>,
}

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    pub line: SourceLine,
    pub certificates: Vec<Pair>,
    /// Names that the local authority makes a certificate for.
    pub self_signed: Vec<String>,
    /// In the order of preference.
    pub alpn: Vec<Alpn>,
    pub client_auth: Option<ClientAuth>,
    /// Nothing below TLS 1.3.
    pub only_13: bool,
}

/// What is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    Http2,
    Http1,
}

impl Alpn {
    /// Names in the configuration, and on the wire (RFC 7301 section 6).
    pub const NAMES: [(&'static str, Self); 2] = [("h2", Self::Http2), ("http/1.1", Self::Http1)];

    /// What a client that speaks only HTTP/1.0 calls it: a server of HTTP/1.1 serves that too.
    pub const HTTP10: &'static [u8] = b"http/1.0";

    /// As on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http2 => Self::NAMES[0].0,
            Self::Http1 => Self::NAMES[1].0,
        }
    }

    /// By its name on the wire.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        if name == Self::HTTP10 {
            return Some(Self::Http1);
        }
        let found = Self::NAMES.iter().find(|(one, _)| one.as_bytes() == name);
        found.map(|(_, protocol)| *protocol)
    }
}

/// `client_auth = { … }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    pub line: SourceLine,
    /// A client without a certificate is turned away.
    pub is_required: bool,
    pub ca: PathBuf,
    pub crl: Option<PathBuf>,
    pub headers: Headers,
}

/// Fields that identify a client to upstreams by its certificate; in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pub subject: Option<String>,
    pub san: Option<String>,
    pub fingerprint: Option<String>,
    pub certificate: Option<String>,
}

impl Headers {
    /// All that there are.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        [&self.subject, &self.san, &self.fingerprint, &self.certificate].into_iter().flatten()
    }
}

/// `[cluster.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTls {
    pub line: SourceLine,
    /// Certificates of endpoints are verified.
    pub verify: bool,
    /// Instead of the system's authorities.
    pub ca: Option<PathBuf>,
    /// Instead of the endpoint's own name.
    pub name: Option<String>,
    /// Ours, if endpoints ask for one.
    pub own: Option<Pair>,
}

impl ClusterTls {
    /// Verified by the system's authorities, and nothing else.
    #[must_use]
    pub fn verified() -> Self {
        Self { line: SourceLine::default(), verify: true, ca: None, name: None, own: None }
    }
}
