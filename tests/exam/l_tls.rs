//! Group L: TLS. A client that does not shake hands properly gets nothing, and costs little.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::Row;
use crate::support::h2;
use crate::support::proxy::temporary;
use crate::support::tls::{Authority, Flaw, Pair, TlsClient, TlsLink, server};
use crate::support::{Client, Does, Driver, End, Ends, Origin, PATIENCE, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("l01_hellos_that_drip_or_never_end", l01_hellos_that_drip_or_never_end),
        ("l02_an_end_at_every_octet_of_the_handshake", l02_an_end_at_every_octet),
        ("l03_names_of_all_kinds", l03_names_of_all_kinds),
        ("l04_another_host_on_the_same_connection", l04_another_host),
        ("l04_a_session_does_not_lead_into_another_zone", l04_another_zone),
        ("l05_client_certificates", l05_client_certificates),
        ("l06_certificates_change_under_load", l06_certificates_change_under_load),
        ("l06_reload_on_command", l06_reload_on_command),
        ("l06_one_bad_pair_of_two", l06_one_bad_pair_of_two),
        ("l06_the_local_authority", l06_the_local_authority),
        ("l07_no_early_data", l07_no_early_data),
        ("l08_truncation_by_the_client", l08_truncation_by_the_client),
        ("l08_truncation_by_the_origin", l08_truncation_by_the_origin),
        ("l08_our_own_end_is_no_truncation", l08_our_own_end_is_no_truncation),
        ("l09_floods_that_get_nobody_on", l09_floods_that_get_nobody_on),
        ("l09_renegotiation", l09_renegotiation),
        ("l10_upstreams_that_are_somebody_else", l10_upstreams_that_are_somebody_else),
        ("l10_another_authority", l10_another_authority),
        ("l10_our_own_certificate", l10_our_own_certificate),
        ("l11_a_flood_of_handshakes", l11_a_flood_of_handshakes),
        ("l12_protocols_and_no_tls_at_all", l12_protocols_and_no_tls_at_all),
        ("l12_http2_by_agreement", l12_http2_by_agreement),
        ("l12_from_http_to_https", l12_from_http_to_https),
        ("l12_staples", l12_staples),
        ("l12_what_an_endpoint_agrees_on", l12_what_an_endpoint_agrees_on),
        ("l12_auto_agrees_on_the_best", l12_auto_agrees_on_the_best),
        ("l12_resumption_and_versions", l12_resumption_and_versions),
        ("l12_who_resumes_by_12_speaks_last", l12_who_resumes_by_12_speaks_last),
        ("l12_bodies_of_all_sizes_are_exact", l12_bodies_of_all_sizes_are_exact),
    ]
}

/// A listener's TLS with these pairs.
fn tls(pairs: &[&Pair], more: &str) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|pair| {
            let (certificate, key) = (pair.certificate.display(), pair.key.display());
            format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}")
        })
        .collect();
    format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = \
         [{}]\n{more}\n",
        pairs.join(", ")
    )
}

/// A proxy with a certificate for `a.example`, and a client that trusts it.
fn secure(driver: Driver, origin: &Origin, more: &str) -> (Proxy, Arc<ClientConfig>, Authority) {
    let authority = Authority::new();
    let pair = authority.pair(&["a.example"], Flaw::None);
    let proxy = Proxy::with(driver, origin, &tls(&[&pair], more));
    let config = Arc::new(authority.client(None));
    (proxy, config, authority)
}

fn works(proxy: &Proxy, config: &Arc<ClientConfig>) {
    let mut client = TlsClient::connect(proxy.address, "a.example", config).unwrap();
    assert_eq!(client.get("a.example", "/works").unwrap().body, b"/works");
}

/// Cuts records into records of one octet of data.
fn cut_up(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let [kind, major, minor, high, low, body @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        for byte in &body[..len] {
            out.extend_from_slice(&[*kind, *major, *minor, 0, 1, *byte]);
        }
        rest = &body[len..];
    }
    out
}

fn l01_hellos_that_drip_or_never_end(driver: Driver) {
    let origin = Origin::echo();
    let more = "[listener.timeouts]\ntls_handshake = \"700ms\"\n";
    let (proxy, config, _authority) = secure(driver, &origin, more);
    // Nothing at all, and an octet now and then.
    let mut silent = Client::connect(proxy.address);
    let mut dripping = Client::connect(proxy.address);
    let hello = TlsClient::begin(proxy.address, "a.example", &config).says();
    let begun = Instant::now();
    for byte in hello.iter().take(200) {
        if !dripping.try_send([*byte]) || begun.elapsed() > Duration::from_secs(3) {
            break;
        }
        if dripping.is_closed_within(Duration::from_millis(50)) {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "a hello may take for ever");
    assert!(silent.is_closed_within(PATIENCE));
    // In records of one octet it is a hello all the same.
    let mut client = TlsClient::begin(proxy.address, "a.example", &config);
    let hello = cut_up(&client.says());
    client.socket.write_all(&hello).unwrap();
    assert_eq!(client.get("a.example", "/cut").unwrap().body, b"/cut");
    // One that is longer than any.
    let mut large = Client::connect(proxy.address);
    let mut records = Vec::new();
    for at in 0..5 {
        records.extend_from_slice(&[22, 3, 1, 0x3f, 0xff]);
        let begins: &[u8] = if at == 0 { &[1, 0, 0xff, 0xff] } else { &[] };
        records.extend_from_slice(begins);
        records.resize(records.len() + 0x3fff - begins.len(), b'x');
    }
    large.try_send(&records);
    assert!(large.is_closed_within(PATIENCE));
    works(&proxy, &config);
}

fn l02_an_end_at_every_octet(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, config, _authority) = secure(driver, &origin, "");
    works(&proxy, &config);
    let hello = TlsClient::begin(proxy.address, "a.example", &config).says();
    let close = [21, 3, 3, 0, 2, 1, 0];
    for at in (0..hello.len()).step_by(3) {
        for tail in [&close[..], b""] {
            let mut client = Client::connect(proxy.address);
            client.try_send(&hello[..at]);
            client.try_send(tail);
            client.try_half_close();
        }
    }
    // And at every one of the second flight.
    for at in [0, 1, 5, 6, 7, 20, 60] {
        let mut client = TlsClient::begin(proxy.address, "a.example", &config);
        client.flush().unwrap();
        while client.tls.is_handshaking() && !client.tls.wants_write() {
            client.tls.read_tls(&mut client.socket).unwrap();
            client.tls.process_new_packets().unwrap();
        }
        let flight = client.says();
        let _ = client.socket.write_all(&flight[..at.min(flight.len())]);
        let _ = client.socket.shutdown(Shutdown::Write);
        let _ = client.socket.read(&mut [0; 4096]);
    }
    works(&proxy, &config);
    until("connections to be closed", || proxy.fds() < 40);
    // No client is redirected in circles.
    let before = proxy.cpu_ticks();
    std::thread::park_timeout(Duration::from_millis(1000));
    assert!(proxy.cpu_ticks() - before <= 5, "it spins");
}

/// What OpenSSL's client says, with these arguments and this input.
fn openssl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .arg("s_client")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    // It ends with its input, and should see some of the answer before.
    std::thread::park_timeout(Duration::from_millis(300));
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn l03_names_of_all_kinds(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let first = authority.pair(&["a.example"], Flaw::None);
    let wild = authority.pair(&["*.b.example"], Flaw::None);
    let exact = authority.pair(&["x.b.example"], Flaw::None);
    let rsa = authority.pair(&["a.example"], Flaw::Rsa);
    let config = tls(&[&first, &wild, &exact, &rsa], "");
    let proxy = Proxy::with(driver, &origin, &config);
    let address = proxy.address.to_string();
    for (name, shown) in [
        (Some("a.example"), "a.example"),
        (Some("A.ExAmPlE"), "a.example"),
        (Some("y.b.example"), "*.b.example"),
        (Some("x.b.example"), "x.b.example"),
        (Some("z.y.b.example"), "a.example"),
        (Some("b.example"), "a.example"),
        (Some("unknown.example"), "a.example"),
        (None, "a.example"),
    ] {
        let mut arguments = vec!["-connect", &address];
        match name {
            Some(name) => arguments.extend(["-servername", name]),
            None => arguments.push("-noservername"),
        }
        let said = openssl(&arguments, "");
        assert!(said.contains(&format!("CN = {shown}\n")), "{name:?}: {said}");
    }
    // ECDSA goes first; a client that cannot do it gets RSA.
    let only_rsa =
        ["-connect", &address, "-sigalgs", "rsa_pss_rsae_sha256", "-servername", "a.example"];
    assert!(openssl(&only_rsa, "").contains("Peer signature type: RSA-PSS"));
    let any = ["-connect", &address, "-servername", "a.example"];
    assert!(openssl(&any, "").contains("Peer signature type: ECDSA"));
    // An address or a NUL is no name: it gets the default, or nothing.
    let config = Arc::new(authority.client(None));
    let says = TlsClient::begin(proxy.address, "a.example", &config).says();
    for name in [b"127.0.0.1", b"a.examp\0e", b"a.examp.."] {
        let at = says.windows(9).position(|part| part == b"a.example").unwrap();
        let mut hello = says.clone();
        hello[at..at + 9].copy_from_slice(name);
        let mut client = Client::connect(proxy.address);
        client.send(&hello);
        client.half_close();
        assert!(client.is_closed_within(PATIENCE), "{}", name.escape_ascii());
    }
    works(&proxy, &config);
}

fn l04_another_host(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let both = authority.pair(&["a.example", "b.example"], Flaw::None);
    let other = authority.pair(&["c.example"], Flaw::None);
    let proxy = Proxy::with(driver, &origin, &tls(&[&both, &other], ""));
    let config = Arc::new(authority.client(None));
    let status = |name: &str, host: &str| {
        let mut client = TlsClient::connect(proxy.address, name, &config).unwrap();
        client.get(host, "/").unwrap().status
    };
    assert_eq!(status("a.example", "a.example"), 200);
    assert_eq!(status("a.example", "A.example:8443"), 200);
    // The certificate speaks for it: connections may be shared (RFC 9113 section 9.1.1).
    assert_eq!(status("a.example", "b.example"), 200);
    assert_eq!(status("a.example", "c.example"), 421);
    assert_eq!(status("c.example", "a.example"), 421);
    assert_eq!(status("c.example", "nobody.example"), 421);
}

fn l04_another_zone(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let ca = authority.file();
    let open = tls(&[&pair], "");
    let shut = tls(&[&pair], &format!("client_auth = {{ ca = \"{}\" }}\n", ca.display()));
    let config = format!("{open}{}", shut.replace("\"web\"", "\"shut\""));
    let proxy = Proxy::with(driver, &origin, &config);
    let (open, shut) = (proxy.addresses()[0], proxy.addresses()[1]);
    let config = Arc::new(authority.client(None));
    for _ in 0..2 {
        let mut client = TlsClient::connect(open, "a.example", &config).unwrap();
        assert_eq!(client.get("a.example", "/").unwrap().status, 200);
    }
    let resumed = TlsClient::connect(open, "a.example", &config).unwrap();
    assert_eq!(resumed.tls.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    let got = TlsClient::connect(shut, "a.example", &config)
        .and_then(|mut client| client.get("a.example", "/secret"));
    assert!(got.is_err(), "a session of the open listener led into the other");
    assert!(!origin.requests().iter().any(|one| one.path() == "/secret"));
}

fn l05_client_certificates(driver: Driver) {
    let (origin, authority, stranger) = (Origin::echo(), Authority::new(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let (ca, crl) = (authority.file(), temporary("pem"));
    std::fs::write(&crl, authority.revoke("revoked.example")).unwrap();
    let auth = |mode: &str| {
        format!(
            "client_auth = {{ mode = \"{mode}\", ca = \"{}\", crl = \"{}\", header = \"X-Subject\" \
             }}\n",
            ca.display(),
            crl.display()
        )
    };
    let required = Proxy::with(driver, &origin, &tls(&[&pair], &auth("require")));
    let requested = Proxy::with(driver, &origin, &tls(&[&pair], &auth("request")));
    let ask = |proxy: &Proxy, own: Option<&Pair>| {
        let config = Arc::new(authority.client(own));
        let mut client = TlsClient::connect(proxy.address, "a.example", &config)?;
        let head = "GET /x HTTP/1.1\r\nHost: a.example\r\nX-Subject: CN=admin\r\nx-subject: forged\r\n\r\n";
        client.send(head)?;
        client.reply()
    };
    let good = authority.pair(&["client one"], Flaw::None);
    for proxy in [&required, &requested] {
        assert_eq!(ask(proxy, Some(&good)).unwrap().status, 200);
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.header("x-subject"), Some("CN=client one"), "{}", request.head);
        assert!(!request.head.contains("forged") && !request.head.contains("admin"));
        let before = origin.requests().len();
        for (what, bad) in [
            ("a stranger's", stranger.pair(&["client one"], Flaw::None)),
            ("an expired", authority.pair(&["old.example"], Flaw::Expired)),
            ("a revoked", authority.pair(&["revoked.example"], Flaw::None)),
            ("a server's", authority.pair(&["purpose.example"], Flaw::Purpose)),
        ] {
            assert!(ask(proxy, Some(&bad)).is_err(), "{what} certificate was accepted");
        }
        assert_eq!(origin.requests().len(), before, "a request came through");
    }
    assert!(ask(&required, None).is_err());
    assert_eq!(ask(&requested, None).unwrap().status, 200);
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.header("x-subject"), None, "{}", request.head);
    let _ = (std::fs::remove_file(&ca), std::fs::remove_file(&crl));
}

/// Puts another pair in place of this one.
fn replace(pair: &Pair, by: &Pair) {
    std::fs::rename(&by.key, &pair.key).unwrap();
    std::fs::rename(&by.certificate, &pair.certificate).unwrap();
}

fn shown(proxy: &Proxy, config: &Arc<ClientConfig>) -> Vec<u8> {
    let client = TlsClient::connect(proxy.address, "a.example", config).unwrap();
    client.tls.peer_certificates().unwrap()[0].to_vec()
}

fn l06_certificates_change_under_load(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let proxy = Proxy::with(driver, &origin, &tls(&[&pair], ""));
    let mut config = authority.client(None);
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let first = shown(&proxy, &config);
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        let lasting = TlsClient::connect(proxy.address, "a.example", &config);
        let mut lasting = lasting.unwrap();
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                works(&proxy, &config);
                served.fetch_add(1, SeqCst);
            }
        });
        let other = authority.pair(&["a.example"], Flaw::None);
        replace(&pair, &other);
        until("the new certificate", || shown(&proxy, &config) != first);
        let second = shown(&proxy, &config);
        // A key that belongs to something else.
        std::fs::copy(&authority.pair(&["a.example"], Flaw::None).key, &pair.key).unwrap();
        until("the bad pair to be refused", || proxy.log().contains("the old ones stay"));
        assert!(proxy.log().contains("does not belong"), "{}", proxy.log());
        assert!(proxy.log().contains(pair.key.to_str().unwrap()), "{}", proxy.log());
        assert_eq!(shown(&proxy, &config), second);
        // A client that was connected before stays connected.
        assert_eq!(lasting.get("a.example", "/old").unwrap().body, b"/old");
        drop(ends);
    });
    assert!(served.load(SeqCst) > 3);
}

fn l06_reload_on_command(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let text = format!(
        "{}[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{}\"\n[[route]]\n\
         cluster = \"app\"\n",
        tls(&[&pair], ""),
        origin.address
    );
    let proxy = Proxy::run(driver, &text, &[], None);
    let config = Arc::new(authority.client(None));
    let first = shown(&proxy, &config);
    replace(&pair, &authority.pair(&["a.example"], Flaw::None));
    proxy.reload(&text);
    until("the new certificate", || shown(&proxy, &config) != first);
    // A session from before is still good.
    let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    assert_eq!(client.get("a.example", "/x").unwrap().status, 200);
    let resumed = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    assert_eq!(resumed.tls.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    // With a bad one nothing of the new configuration is used.
    std::fs::write(&pair.key, "no key").unwrap();
    proxy.rewrite(&text);
    proxy.signal("HUP");
    until("the refusal", || proxy.log().contains("the configuration is refused"));
    works(&proxy, &config);
}

/// The authority of a cluster changes: a connection to a server that was trusted before is not used again.
fn l10_another_authority(driver: Driver) {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.pair(&["origin.example"], Flaw::None);
    let (origin, ca) = (tls_origin(&pair), authority.file());
    let trust = format!("ca = \"{}\"\nname = \"origin.example\"", ca.display());
    let proxy = Proxy::with(driver, &origin, &secure_cluster(&origin, &trust));
    for _ in 0..3 {
        assert_eq!(proxy.get("/x").status, 200);
    }
    assert_eq!(origin.connections(), 1);
    let believe = |authority: &Authority, times: usize| {
        let new = authority.file();
        std::fs::rename(&new, &ca).unwrap();
        until("it to be read", || proxy.log().matches("were read anew").count() >= times);
    };
    believe(&other, 1);
    until("nobody to be believed", || proxy.get("/x").status == 502);
    assert!(proxy.get("/x").status >= 500);
    believe(&authority, 2);
    until("it to be believed again", || proxy.get("/x").status == 200);
    let _ = std::fs::remove_file(&ca);
}

/// A pair that is no good stays as it was, and keeps no other from being renewed.
fn l06_one_bad_pair_of_two(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pairs = ["a.example", "b.example"].map(|name| authority.pair(&[name], Flaw::None));
    let proxy = Proxy::with(driver, &origin, &tls(&[&pairs[0], &pairs[1]], ""));
    let mut config = authority.client(None);
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let serial = |name: &str| {
        let client = TlsClient::connect(proxy.address, name, &config).unwrap();
        client.tls.peer_certificates().unwrap()[0].to_vec()
    };
    let before = (serial("a.example"), serial("b.example"));
    std::fs::write(&pairs[0].certificate, "junk").unwrap();
    until("the bad one to be refused", || proxy.log().contains("no certificate in it"));
    replace(&pairs[1], &authority.pair(&["b.example"], Flaw::None));
    until("the good one to be renewed", || serial("b.example") != before.1);
    assert_eq!(serial("a.example"), before.0);
}

/// A process without a place to keep the local authority has one all the same, as long as it lives; and one that only
/// checks a configuration makes none.
fn l06_the_local_authority(driver: Driver) {
    let origin = Origin::echo();
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ self_signed = [\"localhost\"] }}\n[[cluster]]\nname = \
         \"app\"\n[[cluster.endpoint]]\naddress = \"{}\"\n[[route]]\ncluster = \"app\"\n",
        origin.address
    );
    let proxy = Proxy::run(driver, &config, &[("XDG_DATA_HOME", "/proc/nowhere")], None);
    let chain = || {
        let said = openssl(&["-connect", &proxy.address.to_string(), "-showcerts"], "");
        let mut parts = said.split("-----BEGIN CERTIFICATE-----").skip(1);
        (
            parts.next().unwrap().to_owned(),
            parts.next().unwrap().split("-----").next().unwrap().to_owned(),
        )
    };
    let first = chain();
    proxy.reload(&config);
    until("a new certificate", || chain().0 != first.0);
    assert_eq!(chain().1, first.1, "another authority");
    let (folder, file) = (temporary("data"), temporary("toml"));
    std::fs::write(&file, &config).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_millrace"));
    check.arg("check").arg(&file).env("XDG_DATA_HOME", &folder);
    let said = check.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && !text.contains("authority"), "{text}");
    assert!(!folder.exists(), "it was made");
    let _ = std::fs::remove_file(&file);
}

fn l07_no_early_data(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, _, authority) = secure(driver, &origin, "");
    let mut config = authority.client(None);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        works(&proxy, &config);
    }
    let mut client = TlsClient::begin(proxy.address, "a.example", &config);
    assert!(client.tls.early_data().is_none(), "a ticket allows early data");
    // A client that sends some all the same is not served by it: it looks like a record that cannot be read.
    let mut hello = client.says();
    hello.extend_from_slice(&[23, 3, 3, 0, 40]);
    hello.extend_from_slice(&[7; 40]);
    client.socket.write_all(&hello).unwrap();
    assert!(client.get("a.example", "/early").is_err());
    assert!(!origin.requests().iter().any(|one| one.path() == "/early"));
    works(&proxy, &config);
}

fn l08_truncation_by_the_client(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, config, _authority) = secure(driver, &origin, "");
    for announced in [false, true] {
        let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
        client.send("POST /cut HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").unwrap();
        if announced {
            client.tls.send_close_notify();
            client.flush().unwrap();
        }
        client.socket.shutdown(Shutdown::Write).unwrap();
        let _ = client.reply();
    }
    until("both uploads to be seen", || {
        let requests = origin.requests();
        requests.iter().filter(|one| one.path() == "/cut").count() == 2
    });
    assert!(origin.requests().iter().all(|one| !one.is_complete || one.path() != "/cut"));
    works(&proxy, &config);
}

/// An origin that speaks TLS: answers without a length, and ends as the path says.
fn tls_origin(pair: &Pair) -> Origin {
    let config = server(pair);
    Origin::raw(move |link| {
        let mut link = TlsLink::new(link, &config);
        while let Some(head) = link.head() {
            if head.starts_with("GET /until") {
                link.send("HTTP/1.1 200 OK\r\n\r\nsome");
                if !head.starts_with("GET /until-cut") {
                    link.close();
                }
                let _ = link.socket.shutdown(Shutdown::Both);
                return;
            }
            let resumed = link.tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            let body = format!("secure, {}", if resumed { "resumed" } else { "new" });
            link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            if head.starts_with("GET /close") {
                return link.close();
            }
        }
    })
}

/// A connection to an endpoint that is not needed any more ends as TLS has it (RFC 8446 section 6.1).
fn l08_our_own_end_is_no_truncation(driver: Driver) {
    let authority = Authority::new();
    let pair = authority.pair(&["origin.example"], Flaw::None);
    let (config, ca) = (server(&pair), authority.file());
    let ends = Arc::new(std::sync::Mutex::new(Vec::new()));
    let shared = Arc::clone(&ends);
    let origin = Origin::raw(move |link| {
        let mut link = TlsLink::new(link, &config);
        let _ = link.head();
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let end = rustls::Stream::new(&mut link.tls, link.socket).read(&mut [0]);
        shared.lock().unwrap().push(end.map_err(|error| error.kind()));
    });
    let trust = format!("ca = \"{}\"\nname = \"origin.example\"", ca.display());
    let text = secure_cluster(&origin, &trust);
    let text = text.replace("name = \"app\"", "name = \"app\"\npool = { idle = \"200ms\" }");
    let proxy = Proxy::with(driver, &origin, &text);
    assert_eq!(proxy.get("/x").body, b"ok");
    until("the end", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [Ok(0)]);
    let _ = std::fs::remove_file(&ca);
}

fn secure_cluster(origin: &Origin, more: &str) -> String {
    format!(
        "[[cluster]]\nname = \"app\"\n[cluster.tls]\n{more}\n[[cluster.endpoint]]\naddress = \"{}\"\n",
        origin.address
    )
}

fn l08_truncation_by_the_origin(driver: Driver) {
    let authority = Authority::new();
    let pair = authority.pair(&["origin.example"], Flaw::None);
    let (origin, ca) = (tls_origin(&pair), authority.file());
    let tls = format!("ca = \"{}\"\nname = \"origin.example\"", ca.display());
    let proxy = Proxy::with(driver, &origin, &secure_cluster(&origin, &tls));
    let whole = proxy.get("/until-end");
    assert!(whole.is_complete && whole.body == b"some", "{}", whole.text());
    let cut = proxy.get("/until-cut");
    assert!(!cut.is_complete, "a body that was cut off was shown as whole: {}", cut.text());
    // Connections are used again, and sessions where they are not.
    assert_eq!(proxy.get("/close").body, b"secure, resumed");
    assert_eq!(proxy.get("/x").body, b"secure, resumed");
    assert_eq!(proxy.get("/x").body, b"secure, resumed");
    assert_eq!(origin.connections(), 4);
}

fn l09_floods_that_get_nobody_on(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, config, authority) = secure(driver, &origin, "");
    // Octet by octet is a request all the same.
    let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    for byte in b"GET /bytes HTTP/1.1\r\nHost: a.example\r\n\r\n" {
        client.send([*byte]).unwrap();
    }
    assert_eq!(client.reply().unwrap().body, b"/bytes");
    // Keys that change all the time.
    let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    let refused = (0..1000).any(|_| {
        let renewed = client.tls.refresh_traffic_keys();
        renewed.is_err() || client.flush().is_err()
    });
    assert!(refused || client.get("a.example", "/keys").is_err(), "1,000 new keys in a row");
    // Records without data.
    let mut config = authority.client(None);
    config.enable_secret_extraction = true;
    let client = TlsClient::connect(proxy.address, "a.example", &Arc::new(config)).unwrap();
    let mut socket = client.socket.try_clone().unwrap();
    let mut sealer = Sealer::new(client.tls);
    let mut out = Vec::new();
    for _ in 0..1000 {
        sealer.seal(b"", &mut out);
    }
    sealer.seal(b"GET /empty HTTP/1.1\r\nHost: a.example\r\n\r\n", &mut out);
    let _ = socket.write_all(&out);
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(!origin.requests().iter().any(|one| one.path() == "/empty"), "1,000 empty records");
    let before = proxy.cpu_ticks();
    std::thread::park_timeout(Duration::from_millis(500));
    assert!(proxy.cpu_ticks() - before <= 5, "it spins");
}

/// Makes records that no library makes.
struct Sealer {
    key: aws_lc_rs::aead::LessSafeKey,
    iv: [u8; 12],
    at: u64,
}

impl Sealer {
    fn new(tls: rustls::ClientConnection) -> Self {
        use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};
        use rustls::ConnectionTrafficSecrets as Secrets;
        let (at, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
        let (algorithm, key, iv) = match &secrets {
            Secrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            Secrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => panic!("another cipher"),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
        Self { key, iv: iv.as_ref().try_into().unwrap(), at }
    }

    fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) {
        use aws_lc_rs::aead::{Aad, Nonce};
        let mut nonce = self.iv;
        for (place, byte) in nonce[4..].iter_mut().zip(self.at.to_be_bytes()) {
            *place ^= byte;
        }
        self.at += 1;
        let mut record = data.to_vec();
        record.push(23);
        let len = u16::try_from(record.len() + 16).unwrap().to_be_bytes();
        let head = [23, 3, 3, len[0], len[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(head), &mut record).unwrap();
        out.extend_from_slice(&head);
        out.extend_from_slice(&record);
    }
}

fn l09_renegotiation(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, config, _authority) = secure(driver, &origin, "");
    let address = proxy.address.to_string();
    let said = openssl(&["-tls1_2", "-connect", &address], "R\n");
    assert!(said.contains("no renegotiation") || said.contains("alert"), "{said}");
    let before = proxy.cpu_ticks();
    std::thread::park_timeout(Duration::from_millis(300));
    assert!(proxy.cpu_ticks() - before <= 5, "it spins");
    works(&proxy, &config);
}

fn l10_upstreams_that_are_somebody_else(driver: Driver) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = authority.file();
    let ask = |origin: &Origin, more: &str| {
        let tls = format!("ca = \"{}\"\n{more}", ca.display());
        let proxy = Proxy::with(driver, origin, &secure_cluster(origin, &tls));
        proxy.get("/x")
    };
    let named = "name = \"origin.example\"";
    for (what, pair, more, error) in [
        (
            "another name",
            authority.pair(&["x.example"], Flaw::None),
            named,
            "tls_certificate_error",
        ),
        (
            "an expired one",
            authority.pair(&["origin.example"], Flaw::Expired),
            named,
            "tls_certificate_error",
        ),
        (
            "a stranger's",
            stranger.pair(&["origin.example"], Flaw::None),
            named,
            "tls_certificate_error",
        ),
        (
            "no address in it",
            authority.pair(&["origin.example"], Flaw::None),
            "",
            "tls_certificate_error",
        ),
    ] {
        let origin = tls_origin(&pair);
        let reply = ask(&origin, more);
        assert_eq!(reply.status, 502, "{what}: {}", reply.text());
        assert!(reply.header("proxy-status").unwrap().contains(error), "{what}: {}", reply.head);
    }
    // An authority that is trusted without proof must be asked for by name.
    let pair = stranger.pair(&["anybody.example"], Flaw::None);
    let origin = tls_origin(&pair);
    let proxy = Proxy::with(driver, &origin, &secure_cluster(&origin, "verify = false"));
    assert_eq!(proxy.get("/x").body, b"secure, new");
    assert!(proxy.log().contains("verify = false"), "{}", proxy.log());
    // Clear text in front of the handshake: none of it is an answer, and nothing was asked.
    let plain = Origin::raw(|link| {
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake");
        while link.more() {}
    });
    let reply = ask(&plain, named);
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(reply.header("proxy-status").unwrap().contains("tls_protocol_error"), "{}", reply.head);
    assert!(plain.requests().is_empty());
    let _ = std::fs::remove_file(&ca);
}

/// Our own certificate may be asked for.
fn l10_our_own_certificate(driver: Driver) {
    let authority = Authority::new();
    let (ca, named) = (authority.file(), "name = \"origin.example\"");
    let pair = authority.pair(&["origin.example"], Flaw::None);
    let origin = tls_origin(&pair);
    let own = authority.pair(&["proxy.example"], Flaw::None);
    let more = format!(
        "{named}\ncertificate = \"{}\"\nkey = \"{}\"",
        own.certificate.display(),
        own.key.display()
    );
    let tls = format!("ca = \"{}\"\n{more}", ca.display());
    let proxy = Proxy::with(driver, &origin, &secure_cluster(&origin, &tls));
    assert_eq!(proxy.get("/x").body, b"secure, new");
    let _ = std::fs::remove_file(&ca);
}

fn l11_a_flood_of_handshakes(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, config, authority) = secure(driver, &origin, "");
    let mut fresh = authority.client(None);
    fresh.resumption = rustls::client::Resumption::disabled();
    let fresh = Arc::new(fresh);
    let (is_over, flood) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&is_over);
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    drop(TlsClient::connect(proxy.address, "a.example", &fresh));
                    flood.fetch_add(1, SeqCst);
                }
            });
        }
        let mut established = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
        for number in 0..200 {
            let path = format!("/{number}");
            assert_eq!(established.get("a.example", &path).unwrap().body, path.as_bytes());
        }
        until("a flood", || flood.load(SeqCst) > 200);
        drop(ends);
    });
    works(&proxy, &config);
}

fn l12_protocols_and_no_tls_at_all(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let http1 = tls(&[&pair], "alpn = [\"http/1.1\"]\n");
    let plain = "[[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n";
    let proxy = Proxy::with(driver, &origin, &format!("{http1}{plain}"));
    let offering = |names: &[&str]| {
        let mut config = authority.client(None);
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = TlsClient::connect(proxy.address, "a.example", &Arc::new(config))?;
        let chosen = client.tls.alpn_protocol().map(<[u8]>::to_vec);
        client.get("a.example", "/").map(|reply| (reply.status, chosen))
    };
    assert_eq!(offering(&[]).unwrap(), (200, None));
    assert_eq!(offering(&["http/1.1"]).unwrap(), (200, Some(b"http/1.1".to_vec())));
    assert_eq!(offering(&["x", "http/1.1"]).unwrap(), (200, Some(b"http/1.1".to_vec())));
    assert!(offering(&["h2"]).is_err() && offering(&["spdy/1"]).is_err());
    // Clear text on a port for TLS, and the other way round.
    let mut client = Client::connect(proxy.address);
    client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("https://"), "{}", reply.text());
    assert_eq!(client.read_to_end().1, End::Fin);
    let mut client = Client::connect(proxy.addresses()[1]);
    let hello =
        TlsClient::begin(proxy.address, "a.example", &Arc::new(authority.client(None))).says();
    client.send(hello);
    assert_eq!(client.reply().status, 400);
    assert_ne!(client.read_to_end().1, End::Open);
}

/// By ALPN alone: the first frames are sent as soon as the handshake is through.
fn l12_http2_by_agreement(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, _, authority) = secure(driver, &origin, "");
    let mut config = authority.client(None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    for _ in 0..3 {
        let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
        assert_eq!(client.tls.alpn_protocol(), Some(&b"h2"[..]));
        let group = client.tls.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        let asks = h2::frame(h2::HEADERS, 5, 1, &h2::block(&h2::get("/agreed")));
        client.send([h2::PREFACE, &h2::frame(h2::SETTINGS, 0, 0, b""), &asks].concat()).unwrap();
        while !client.rest().windows(7).any(|part| part == b"/agreed") {
            assert!(client.more().unwrap() > 0);
        }
    }
    works(&proxy, &Arc::new(authority.client(None)));
}

/// All requests are redirected to the same place by HTTPS, except those of routes of this very listener.
fn l12_from_http_to_https(driver: Driver) {
    let origin = Origin::echo();
    let more = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nredirect_https = 8443\n\
                [[route]]\ncluster = \"app\"\n[[route]]\nlistener = \"web\"\n\
                path = \"/.well-known/acme-challenge\"\nrespond = { body = \"token\" }\n";
    let proxy = Proxy::with(driver, &origin, more);
    let reply = proxy.get("/a%20b?c=d");
    assert_eq!(reply.status, 308);
    assert_eq!(reply.header("location"), Some("https://a.example:8443/a%20b?c=d"));
    assert_eq!(proxy.get("/.well-known/acme-challenge/x").body, b"token");
    assert!(origin.requests().is_empty());
}

/// What the authority says of a certificate goes along with it.
fn l12_staples(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let staple = temporary("ocsp");
    // The shortest there is: "try later" (RFC 6960 section 4.2.1).
    std::fs::write(&staple, [0x30, 3, 0x0a, 1, 3]).unwrap();
    let text = tls(&[&pair], "");
    let ocsp = format!("key = \"{}\", ocsp = \"{}\"", pair.key.display(), staple.display());
    let text = text.replace(&format!("key = \"{}\"", pair.key.display()), &ocsp);
    let proxy = Proxy::with(driver, &origin, &text);
    let address = proxy.address.to_string();
    let said = openssl(&["-connect", &address, "-servername", "a.example", "-status"], "");
    // That says nothing of the certificate: it is dropped (R18, which has the good ones).
    assert!(said.contains("OCSP response: no response sent"), "{said}");
    let _ = std::fs::remove_file(&staple);
}

/// With `auto`, an endpoint that knows nothing of HTTP/2 is spoken to in HTTP/1.1, and one that does not
/// even speak TLS where it should is not spoken to.
fn l12_what_an_endpoint_agrees_on(driver: Driver) {
    let authority = Authority::new();
    let pair = authority.pair(&["origin.example"], Flaw::None);
    let (origin, ca) = (tls_origin(&pair), authority.file());
    let tls = format!("ca = \"{}\"\nname = \"origin.example\"", ca.display());
    let text = secure_cluster(&origin, &tls);
    let text = text.replace("name = \"app\"", "name = \"app\"\nprotocol = \"auto\"");
    let proxy = Proxy::with(driver, &origin, &text);
    assert_eq!(proxy.get("/x").body, b"secure, new");
    assert_eq!(proxy.get("/y").body, b"secure, new");
    assert_eq!(origin.connections(), 1);
    let plain = Origin::echo();
    let text = secure_cluster(&plain, &tls);
    let text = text.replace("name = \"app\"", "name = \"app\"\nprotocol = \"auto\"");
    assert_eq!(Proxy::with(driver, &plain, &text).get("/x").status, 502);
    let _ = std::fs::remove_file(&ca);
}

/// With `auto`, what the endpoint's TLS agrees on is what is spoken: another millrace says in Via which it
/// was.
fn l12_auto_agrees_on_the_best(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let ca = authority.file();
    for (protocol, alpn, version) in [
        ("auto", "\"h2\", \"http/1.1\"", "2.0"),
        ("auto", "\"http/1.1\"", "1.1"),
        ("http2", "\"h2\"", "2.0"),
        ("http1", "\"h2\", \"http/1.1\"", "1.1"),
    ] {
        let inner = Proxy::with(driver, &origin, &tls(&[&pair], &format!("alpn = [{alpn}]")));
        let text = format!(
            "[[cluster]]\nname = \"app\"\nprotocol = \"{protocol}\"\n[cluster.tls]\nca = \"{}\"\nname = \
             \"a.example\"\n[[cluster.endpoint]]\naddress = \"{}\"\n",
            ca.display(),
            inner.address
        );
        let outer = Proxy::with(driver, &origin, &text);
        for _ in 0..2 {
            assert_eq!(outer.get("/through-both").body, b"/through-both");
        }
        let last = origin.requests().pop().unwrap();
        let head = last.head.to_ascii_lowercase();
        let said = head.lines().filter_map(|line| line.strip_prefix("via: ")).next_back().unwrap();
        let said = said.split(", ").last().unwrap();
        assert!(said.starts_with(version), "{protocol} and {alpn}: {head}");
    }
    let _ = std::fs::remove_file(&ca);
}

/// The matrix: versions, suites, groups, resumption, with OpenSSL's client and with curl.
fn l12_resumption_and_versions(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["localhost"], Flaw::None);
    let proxy = Proxy::with(driver, &origin, &tls(&[&pair], ""));
    let (address, ca) = (proxy.address.to_string(), authority.file());
    let ca_text = ca.to_str().unwrap();
    let base = ["-connect", &address, "-servername", "localhost", "-CAfile", ca_text];
    let session = temporary("session");
    let session_text = session.to_str().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut first = base.to_vec();
        first.extend([version, "-sess_out", session_text]);
        let said = openssl(&first, "");
        assert!(said.contains("Verify return code: 0 (ok)"), "{version}: {said}");
        let mut second = base.to_vec();
        second.extend([version, "-sess_in", session_text]);
        let said = openssl(&second, "");
        assert!(said.contains("Reused, TLSv1."), "{version}: {said}");
    }
    for arguments in [
        &["-ciphersuites", "TLS_AES_128_GCM_SHA256"][..],
        &["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        &["-groups", "P-256"],
        &["-groups", "X25519"],
    ] {
        let mut all = base.to_vec();
        all.extend(arguments);
        let said = openssl(&all, "");
        assert!(said.contains("Verify return code: 0 (ok)"), "{arguments:?}: {said}");
    }
    for arguments in [&["-tls1_1"][..], &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"]] {
        let mut all = base.to_vec();
        all.extend(arguments);
        let said = openssl(&all, "");
        assert!(!said.contains("Verify return code: 0 (ok)\n---\nread"), "{arguments:?}: {said}");
        assert!(said.contains("alert") || said.contains("no protocols available"), "{said}");
    }
    let port = proxy.address.port();
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let url = format!("https://localhost:{port}/curl");
        let mut arguments = vec!["-sS", "--ipv4", "--cacert", ca_text];
        arguments.extend(version.split('='));
        let out = Command::new("curl").args(&arguments).arg(&url).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "/curl", "{version}: {out:?}");
    }
    let _ = (std::fs::remove_file(&ca), std::fs::remove_file(&session));
}

/// In TLS 1.2 a resumed handshake ends with the client's word, and its request may come with it.
fn l12_who_resumes_by_12_speaks_last(driver: Driver) {
    let origin = Origin::echo();
    let (proxy, _, authority) = secure(driver, &origin, "");
    let config = Arc::new(authority.client_of(&[&rustls::version::TLS12]));
    works(&proxy, &config);
    for number in 0..5 {
        let mut client = TlsClient::begin(proxy.address, "a.example", &config);
        while client.tls.is_handshaking() {
            client.flush().unwrap();
            client.tls.read_tls(&mut client.socket).unwrap();
            client.tls.process_new_packets().unwrap();
        }
        assert_eq!(client.tls.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
        // What ends the handshake has not gone out yet.
        assert!(client.tls.wants_write());
        let path = format!("/{number}");
        assert_eq!(client.get("a.example", &path).unwrap().body, path.as_bytes());
    }
}

/// Down and up, through TLS on both sides.
fn l12_bodies_of_all_sizes_are_exact(driver: Driver) {
    let authority = Authority::new();
    let pair = authority.pair(&["a.example"], Flaw::None);
    let echo = Origin::scripted(|request, link| {
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
        link.send(&request.body);
        Does::Keep
    });
    let proxy = Proxy::with(driver, &echo, &tls(&[&pair], ""));
    let config = Arc::new(authority.client(None));
    let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    for size in [1, 100, 4047, 4048, 4049, 16_383, 16_384, 16_385, 65_536, 300_000, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|at: u32| (at * 31 % 251) as u8).collect();
        let head = format!("POST /b HTTP/1.1\r\nHost: a.example\r\nContent-Length: {size}\r\n\r\n");
        std::thread::scope(|scope| {
            let mut socket = client.socket.try_clone().unwrap();
            client.tls.set_buffer_limit(None);
            client.tls.writer().write_all(head.as_bytes()).unwrap();
            client.tls.writer().write_all(&body).unwrap();
            let bytes = client.says();
            scope.spawn(move || socket.write_all(&bytes).unwrap());
            let reply = client.reply().unwrap();
            assert!(reply.body == body, "{size}: {} octets", reply.body.len());
        });
    }
}
