//! Group R, row 18: what an authority says of a certificate is shown while it is true of that
//! certificate, and never else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::der::{Ca, Collector, Says, der};
use crate::Row;
use crate::support::proxy::temporary;
use crate::support::tls::{Pair, TlsClient};
use crate::support::{Driver, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r18_a_staple_that_is_good_is_sent", r18_good),
        ("r18_a_staple_that_is_not_true_is_dropped", r18_dropped),
        ("r18_a_staple_of_the_certificate_before", r18_renewed),
        ("r18_a_staple_that_expires_meanwhile", r18_expires),
        ("r18_a_staple_that_is_missing", r18_missing),
    ]
}

const DAY: i64 = 24 * 3600;

/// A listener with these certificates and what is said of them.
fn listener(pairs: &[(&Pair, &Path)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(pair, ocsp)| {
            let (certificate, key) = (pair.certificate.display(), pair.key.display());
            let ocsp = ocsp.display();
            format!("{{ certificate = \"{certificate}\", key = \"{key}\", ocsp = \"{ocsp}\" }}")
        })
        .collect();
    let pairs = pairs.join(", ");
    format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = \
         [{pairs}]\n"
    )
}

/// A file that goes with its test.
struct File(PathBuf);

impl File {
    fn of(bytes: &[u8]) -> Self {
        let file = Self(temporary("ocsp"));
        std::fs::write(&file.0, bytes).unwrap();
        file
    }

    /// All at once, as tools do it.
    fn replace(&self, bytes: &[u8]) {
        let new = temporary("ocsp");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The certificate and the staple that a client gets for a name, by both versions of TLS.
fn shown(proxy: &Proxy, name: &str) -> (Vec<u8>, Vec<u8>) {
    let collector = Arc::new(Collector::default());
    let config = Arc::new(collector.client());
    let client = TlsClient::connect(proxy.address, name, &config).unwrap();
    let certificate = client.tls.peer_certificates().unwrap()[0].to_vec();
    (certificate, collector.0.lock().unwrap().take().unwrap())
}

fn staple(proxy: &Proxy, name: &str) -> Vec<u8> {
    shown(proxy, name).1
}

/// How many lines of the log name a file.
fn says(proxy: &Proxy, file: &Path) -> usize {
    let file = file.display().to_string();
    proxy.log().lines().filter(|line| line.contains(&file)).count()
}

fn r18_good(driver: Driver) {
    let (origin, ca) = (Origin::echo(), Ca::new());
    let pair = ca.host("a.example", 1);
    let first = ca.staple(1, Says::Good, -DAY, DAY);
    let file = File::of(&first);
    let proxy = Proxy::with(driver, &origin, &listener(&[(&pair, &file.0)]));
    assert_eq!(staple(&proxy, "a.example"), first);
    let second = ca.staple(1, Says::Good, -60, DAY);
    assert_ne!(first, second);
    file.replace(&second);
    until("the newer one", || staple(&proxy, "a.example") == second);
    // One that is no good is never sent; what is still true may stay.
    file.replace(b"0\x03\x0a\x01\x03");
    until("a word on it", || says(&proxy, &file.0) == 1);
    let left = staple(&proxy, "a.example");
    assert!(left.is_empty() || left == second, "what is no good was sent");
}

fn r18_dropped(driver: Driver) {
    let (origin, ca) = (Origin::echo(), Ca::new());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("expired", ca.staple(1, Says::Good, -2 * DAY, -DAY)),
        ("future", ca.staple(2, Says::Good, DAY, 2 * DAY)),
        ("other", ca.staple(99, Says::Good, -DAY, DAY)),
        ("revoked", ca.staple(4, Says::Revoked, -DAY, DAY)),
        ("unknown", ca.staple(5, Says::Unknown, -DAY, DAY)),
        // "Try later" (RFC 6960 section 4.2.1).
        ("later", b"0\x03\x0a\x01\x03".to_vec()),
        ("cut", ca.staple(7, Says::Good, -DAY, DAY)[..60].to_vec()),
        ("text", b"0 certificates to speak of".to_vec()),
    ];
    let hosts: Vec<String> = cases.iter().map(|(name, _)| format!("{name}.example")).collect();
    let pairs: Vec<Pair> = (1..).zip(&hosts).map(|(serial, host)| ca.host(host, serial)).collect();
    let files: Vec<File> = cases.iter().map(|(_, bytes)| File::of(bytes)).collect();
    let both: Vec<(&Pair, &Path)> =
        pairs.iter().zip(&files).map(|(pair, file)| (pair, &*file.0)).collect();
    let proxy = Proxy::with(driver, &origin, &listener(&both));
    let sent: Vec<&String> = hosts.iter().filter(|host| !staple(&proxy, host).is_empty()).collect();
    assert!(sent.is_empty(), "these were sent: {sent:?}");
    for (host, file) in hosts.iter().zip(&files) {
        assert_eq!(says(&proxy, &file.0), 1, "{host}: said once: {}", proxy.log());
    }
    // Not each time something else is read.
    let new = ca.host("expired.example", 100);
    std::fs::rename(&new.key, &pairs[0].key).unwrap();
    std::fs::rename(&new.certificate, &pairs[0].certificate).unwrap();
    until("the new one", || shown(&proxy, "expired.example").0 == *der(&pairs[0]));
    for file in &files[1..] {
        assert_eq!(says(&proxy, &file.0), 1, "said once: {}", proxy.log());
    }
}

/// certbot renews a certificate; what was said of the old one stays in its file until something
/// fetches the new one.
fn r18_renewed(driver: Driver) {
    let (origin, ca) = (Origin::echo(), Ca::new());
    let pair = ca.host("a.example", 1);
    let old = ca.staple(1, Says::Good, -DAY, DAY);
    let file = File::of(&old);
    let proxy = Proxy::with(driver, &origin, &listener(&[(&pair, &file.0)]));
    assert_eq!(staple(&proxy, "a.example"), old);
    let new = ca.host("a.example", 2);
    std::fs::rename(&new.key, &pair.key).unwrap();
    std::fs::rename(&new.certificate, &pair.certificate).unwrap();
    let certificate = der(&pair);
    let mut seen = Vec::new();
    until("the new certificate", || {
        let (shown, staple) = shown(&proxy, "a.example");
        seen = staple;
        shown == *certificate
    });
    assert!(seen.is_empty(), "another certificate's staple was sent");
    // Notices have a thread of their own.
    until("a word on it", || says(&proxy, &file.0) == 1);
    let new = ca.staple(2, Says::Good, -DAY, DAY);
    file.replace(&new);
    until("its own staple", || staple(&proxy, "a.example") == new);
}

fn r18_expires(driver: Driver) {
    let (origin, ca) = (Origin::echo(), Ca::new());
    let pair = ca.host("a.example", 1);
    let bytes = ca.staple(1, Says::Good, -DAY, 6);
    let file = File::of(&bytes);
    let proxy = Proxy::with(driver, &origin, &listener(&[(&pair, &file.0)]));
    assert_eq!(staple(&proxy, "a.example"), bytes);
    until("it to be dropped", || staple(&proxy, "a.example").is_empty());
    until("a word on it", || says(&proxy, &file.0) == 1);
    let new = ca.staple(1, Says::Good, -DAY, DAY);
    file.replace(&new);
    until("the new one", || staple(&proxy, "a.example") == new);
}

fn r18_missing(driver: Driver) {
    let (origin, ca) = (Origin::echo(), Ca::new());
    let pair = ca.host("a.example", 1);
    let file = File(temporary("ocsp"));
    let config = format!(
        "{}[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{}\"\n[[route]]\ncluster \
         = \"app\"\n",
        listener(&[(&pair, &file.0)]),
        origin.address
    );
    let text = temporary("toml");
    std::fs::write(&text, &config).unwrap();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_millrace")).arg("check").arg(&text).output().unwrap();
    let _ = std::fs::remove_file(&text);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("warning") && said.contains(&file.0.display().to_string()), "{said}");
    let proxy = Proxy::run(driver, &config, &[], None);
    assert!(staple(&proxy, "a.example").is_empty());
    assert_eq!(says(&proxy, &file.0), 1, "{}", proxy.log());
    // It comes, and it goes.
    let bytes = ca.staple(1, Says::Good, -DAY, DAY);
    file.replace(&bytes);
    until("it to be read", || staple(&proxy, "a.example") == bytes);
    std::fs::remove_file(&file.0).unwrap();
    until("a word on it", || says(&proxy, &file.0) == 2);
    let left = staple(&proxy, "a.example");
    assert!(left.is_empty() || left == bytes, "what is still true may stay");
}
