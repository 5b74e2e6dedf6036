//! TLS for tests: an authority that signs anything, a client and an origin on top of rustls.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::proxy::temporary;
use super::{Link, PATIENCE, Reply};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in files that go with it.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What is special about a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    #[default]
    None,
    Expired,
    /// For the other side than it is used on.
    Purpose,
    /// RSA, which is none.
    Rsa,
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.certificate);
        let _ = std::fs::remove_file(&self.key);
    }
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For these names; the first is the subject's.
    pub fn pair(&self, names: &[&str], flaw: Flaw) -> Pair {
        let key = match flaw {
            Flaw::Rsa => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
            _ => KeyPair::generate().unwrap(),
        };
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(all).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = match flaw {
            Flaw::Purpose => vec![ExtendedKeyUsagePurpose::CodeSigning],
            _ => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        if flaw == Flaw::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        params.serial_number = Some(SerialNumber::from(serial(names[0])));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair { certificate: temporary("pem"), key: temporary("key") };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&pair.key, mode).unwrap();
        pair
    }

    /// Says that this subject's certificate is not to be believed any more.
    pub fn revoke(&self, subject: &str) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial(subject)),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Its certificate in a file.
    pub fn file(&self) -> PathBuf {
        let file = temporary("pem");
        std::fs::write(&file, &self.pem).unwrap();
        file
    }

    /// What a client is that believes it, and speaks these versions.
    pub fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// What a client is that believes it.
    pub fn client(&self, own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let (chain, key) = read(pair);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

fn serial(subject: &str) -> u64 {
    subject.bytes().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte))
}

fn read(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap();
    let chain = chain.map(|one| one.unwrap()).collect();
    (chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap())
}

/// A client's connection.
pub struct TlsClient {
    pub tls: ClientConnection,
    pub socket: TcpStream,
    rest: Vec<u8>,
}

impl TlsClient {
    /// Connects, and shakes hands.
    pub fn connect(
        address: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        let mut client = Self::begin(address, name, config);
        while client.tls.is_handshaking() {
            client.tls.complete_io(&mut client.socket)?;
        }
        client.flush()?;
        Ok(client)
    }

    /// Connects; nothing is said yet.
    pub fn begin(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self { tls, socket, rest: Vec::new() }
    }

    /// What it would say now.
    pub fn says(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    pub fn flush(&mut self) -> std::io::Result<()> {
        let bytes = self.says();
        self.socket.write_all(&bytes)
    }

    pub fn send(&mut self, data: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.tls.writer().write_all(data.as_ref())?;
        self.flush()
    }

    /// Reads more; `Ok(0)` is an end that was announced.
    pub fn more(&mut self) -> std::io::Result<usize> {
        let mut block = [0; 65536];
        loop {
            match self.tls.reader().read(&mut block) {
                Ok(len) => {
                    self.rest.extend_from_slice(&block[..len]);
                    return Ok(len);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let read = self.tls.read_tls(&mut self.socket)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let processed = self.tls.process_new_packets();
            self.flush()?;
            processed.map_err(std::io::Error::other)?;
        }
    }

    /// What was read and not used.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// An answer with a Content-Length, or one that ends with its connection.
    pub fn reply(&mut self) -> std::io::Result<Reply> {
        let end = loop {
            if let Some(at) = super::client::find(&self.rest, b"\r\n\r\n") {
                break at + 4;
            }
            if self.more()? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest.drain(..end);
        let status = head.get(9..12).and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut reply =
            Reply { status, head, body: Vec::new(), is_complete: true, trailers: String::new() };
        match reply.header("content-length").map(|text| text.parse::<usize>().unwrap()) {
            Some(len) => {
                while self.rest.len() < len {
                    if self.more()? == 0 {
                        reply.is_complete = false;
                        break;
                    }
                }
                let len = len.min(self.rest.len());
                reply.body = self.rest.drain(..len).collect();
            }
            None => {
                while self.more()? > 0 {}
                reply.body = std::mem::take(&mut self.rest);
            }
        }
        Ok(reply)
    }

    /// Asks for a path of a host.
    pub fn get(&mut self, host: &str, path: &str) -> std::io::Result<Reply> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
        self.reply()
    }
}

/// What an origin shows.
pub fn server(pair: &Pair) -> Arc<ServerConfig> {
    let (chain, key) = read(pair);
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    Arc::new(config.unwrap())
}

/// An origin's end of a TLS connection: what was asked, up to the end of a head.
pub struct TlsLink<'a> {
    pub tls: ServerConnection,
    pub socket: &'a mut TcpStream,
}

impl<'a> TlsLink<'a> {
    pub fn new(link: &'a mut Link, config: &Arc<ServerConfig>) -> Self {
        let tls = ServerConnection::new(Arc::clone(config)).unwrap();
        Self { tls, socket: &mut link.stream }
    }

    /// The next request's head; `None` at the end, orderly or not.
    pub fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        let mut byte = [0];
        let mut stream = rustls::Stream::new(&mut self.tls, self.socket);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        Some(String::from_utf8_lossy(&head).into_owned())
    }

    pub fn send(&mut self, data: impl AsRef<[u8]>) {
        let mut stream = rustls::Stream::new(&mut self.tls, self.socket);
        let _ = stream.write_all(data.as_ref()).and_then(|()| stream.flush());
    }

    /// Announces the end.
    pub fn close(&mut self) {
        self.tls.send_close_notify();
        let _ = self.tls.complete_io(self.socket);
    }
}
