//! Row R32: connections to a TLS listener without a word, and what the log says of a handshake that failed.

use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::secure;
use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::tls::{Authority, Flaw, TlsClient};
use crate::support::{Client, Driver, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r32_connections_without_a_word", r32_connections_without_a_word),
        ("r32_handshakes_with_a_client_certificate", r32_with_a_client_certificate),
        ("r32_handshakes_that_agree_on_nothing", r32_that_agree_on_nothing),
        ("r32_handshakes_that_the_client_gives_up", r32_that_the_client_gives_up),
    ]
}

/// Balancers check like this, some of them each second.
fn r32_connections_without_a_word(driver: Driver) {
    let (origin, log, authority) = (Origin::echo(), Log::new(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let proxy = Proxy::with(driver, &origin, &format!("{}{}", secure(&pair, ""), log.table()));
    for number in 0..12 {
        let client = Client::connect(proxy.address);
        match number % 3 {
            0 => client.half_close(),
            1 => crate::support::reset(&client.stream),
            _ => {}
        }
        drop(client);
    }
    let config = Arc::new(authority.client(None));
    let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    assert_eq!(client.get("a.example", "/after").unwrap().status, 200);
    drop(client);
    log.line("target", "/after");
    // Something was said by this one: it is a fault.
    let mut client = Client::connect(proxy.address);
    client.send([22, 3, 1, 0, 200, 1, 0]);
    client.half_close();
    drop(client);
    log.line("flag", "tls_handshake");
    let mut proxy = proxy;
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    assert_eq!(log.lines().len(), 2, "{}", log.text());
    let said = proxy.log();
    assert!(said.contains("TLS: 1 handshakes, 1 more failed"), "they are no failures: {said}");
    assert!(said.lines().any(|line| line.contains("12")), "and counted apart: {said}");
}

/// All that a line says, but for what every line says.
fn words(line: &Value) -> String {
    let usual = ["time", "client", "flag", "status"];
    let fields = line.as_object().unwrap().iter().filter(|(key, _)| !usual.contains(&key.as_str()));
    let values: Vec<&str> = fields.filter_map(|(_, value)| value.as_str()).collect();
    values.join("; ").to_ascii_lowercase()
}

/// The next line, which must be of a failed handshake, and say one of these.
fn says(log: &Log, before: usize, any: &[&str]) {
    until("a line", || log.lines().len() > before);
    let line = log.lines().swap_remove(before);
    assert_eq!(line["flag"], "tls_handshake", "{line}");
    let words = words(&line);
    assert!(any.iter().any(|one| words.contains(one)), "one of {any:?} in {words:?} of {line}");
}

fn r32_with_a_client_certificate(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let (ca, crl) = (authority.file(), crate::support::proxy::temporary("pem"));
    std::fs::write(&crl, authority.revoke("revoked")).unwrap();
    let auth = format!(
        "client_auth = {{ mode = \"require\", ca = \"{}\", crl = \"{}\" }}",
        ca.display(),
        crl.display()
    );
    let proxy = Proxy::with(driver, &origin, &format!("{}{}", secure(&pair, &auth), log.table()));
    let stranger = other.pair(&["stranger"], Flaw::None);
    let expired = authority.pair(&["expired"], Flaw::Expired);
    let revoked = authority.pair(&["revoked"], Flaw::None);
    for (at, (own, any)) in [
        (None, &["no certificate", "certificate required", "certificate is missing"][..]),
        (Some(&stranger), &["unknown ca", "unknown issuer", "unknown authority"]),
        (Some(&expired), &["expired"]),
        (Some(&revoked), &["revoked"]),
    ]
    .into_iter()
    .enumerate()
    {
        let config = Arc::new(authority.client(own));
        let client = TlsClient::connect(proxy.address, "a.example", &config);
        // In TLS 1.3 a client learns of it with the first answer.
        assert!(client.and_then(|mut client| client.get("a.example", "/x")).is_err());
        says(&log, at, any);
    }
    assert!(origin.requests().is_empty());
    let _ = (std::fs::remove_file(ca), std::fs::remove_file(crl));
}

/// OpenSSL's client, with these arguments, to a proxy.
fn openssl(proxy: &Proxy, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.arg("s_client").arg("-connect").arg(proxy.address.to_string()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap();
}

fn r32_that_agree_on_nothing(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let cipher = &["cipher", "suite"][..];
    for (more, arguments, any) in [
        ("min_version = \"1.3\"", &["-tls1_2"][..], &["version"][..]),
        // No suite that goes with an ECDSA certificate, none of ours at all.
        ("", &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"], cipher),
        ("", &["-alpn", "spdy/3"], &["alpn", "application"]),
        ("", &["-tls1_3", "-groups", "P-521"], &["group", "key exchange", "kx"]),
    ] {
        let log = Log::new();
        let text = format!("{}{}", secure(&pair, more), log.table());
        let proxy = Proxy::with(driver, &origin, &text);
        openssl(&proxy, arguments);
        says(&log, 0, any);
    }
}

/// The client's own alert says why.
fn r32_that_the_client_gives_up(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let expired = authority.pair(&["b.example"], Flaw::Expired);
    let named = secure(&expired, "").replace("[[listener]]\n", "[[listener]]\nname = \"b\"\n");
    let more = secure(&pair, "") + &named;
    let proxy = Proxy::with(driver, &origin, &format!("{more}{}", log.table()));
    let (believing, strange) = (Arc::new(authority.client(None)), Arc::new(other.client(None)));
    let addresses = proxy.addresses();
    for (at, (address, name, config, any)) in [
        (addresses[0], "a.example", &strange, &["unknown ca", "unknownca", "unknown issuer"][..]),
        (addresses[1], "b.example", &believing, &["expired"]),
        (addresses[0], "c.example", &believing, &["certificate"]),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(TlsClient::connect(address, name, config).is_err());
        says(&log, at, any);
    }
}
