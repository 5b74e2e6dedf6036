//! Group R, rows 11 and 12: whose answer it is by a client's certificate, and what endpoints are told
//! of it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sha2::Digest;

use super::super::e_cache::{is_hit, say};
use super::der::{
    Attribute, BMP, CN, COUNTRY, Ca, ORGANISATION, PRINTABLE, UNKNOWN, UTF8, der, name, tlv,
};
use crate::Row;
use crate::support::h2;
use crate::support::tls::{Pair, TlsClient};
use crate::support::{Client, Driver, Origin, Proxy, Reply};

pub fn rows() -> Vec<Row> {
    vec![
        ("r11_what_a_certificate_brought", r11_what_a_certificate_brought),
        ("r11_no_client_waits_for_anothers_answer", r11_no_client_waits),
        ("r11_another_listener", r11_another_listener),
        ("r11_a_trusted_proxy_names_the_client", r11_trusted),
        ("r12_subjects_do_not_look_alike", r12_subjects),
        ("r12_more_than_the_subject", r12_more_than_the_subject),
        ("r12_no_client_says_it_instead", r12_no_client_says_it_instead),
    ]
}

/// A TLS listener with these lines.
fn listener(name: &str, pair: &Pair, more: &str) -> String {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    format!(
        "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates \
         = [{{ certificate = \"{certificate}\", key = \"{key}\" }}]\n{more}\n"
    )
}

const CACHES: &str = "[server]\ncores = 2\n[[route]]\ncluster = \"app\"\ncache = true\n";

/// An authority with a host's certificate and its own in a file, and two clients.
struct Scene {
    ca: Ca,
    file: std::path::PathBuf,
    host: Pair,
    alice: Pair,
    bob: Pair,
}

impl Scene {
    fn new() -> Self {
        let ca = Ca::new();
        let person =
            |cn: &str, serial| ca.issue(&name(&[&[(CN, UTF8, cn.as_bytes())]]), b"", serial);
        let (alice, bob) = (person("alice", 2), person("bob", 3));
        Self { file: ca.file(), host: ca.host("a.example", 1), alice, bob, ca }
    }

    /// A listener that asks for certificates, and tells of them by these keys.
    fn asking(&self, keys: &str) -> String {
        let file = self.file.display();
        let auth = format!("client_auth = {{ mode = \"request\", ca = \"{file}\", {keys} }}");
        listener("web", &self.host, &auth)
    }

    fn get(&self, address: std::net::SocketAddr, own: Option<&Pair>, path: &str) -> Reply {
        let config = Arc::new(self.ca.client(own));
        let mut client = TlsClient::connect(address, "a.example", &config).unwrap();
        client.get("a.example", path).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Answers with the client that it was told of, in a way that may be stored.
fn told() -> Origin {
    Origin::scripted(|request, link| {
        let subject = request.header("x-client-subject").unwrap_or("anonymous").to_owned();
        let control = match request.path().rsplit('/').next().unwrap() {
            "public" => "public, max-age=60",
            "shared" => "s-maxage=60",
            "must" => "max-age=60, must-revalidate",
            _ => "max-age=60",
        };
        say(link, &format!("200 OK\r\nCache-Control: {control}"), &subject)
    })
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

fn r11_what_a_certificate_brought(driver: Driver) {
    let (origin, scene) = (told(), Scene::new());
    let config = format!("{}{CACHES}", scene.asking("header = \"X-Client-Subject\""));
    let proxy = Proxy::with(driver, &origin, &config);
    let ask = |own, path: &str| scene.get(proxy.address, own, path);
    let all = [(Some(&scene.alice), "CN=alice"), (None, "anonymous"), (Some(&scene.bob), "CN=bob")];
    // Whichever client comes first, each gets an answer of its own.
    for (at, first) in all.iter().enumerate() {
        let path = format!("/{at}/plain");
        assert_eq!(text(&ask(first.0, &path)), first.1);
        for (own, expected) in all {
            let reply = ask(own, &path);
            assert_eq!(text(&reply), expected, "after {}: {}", first.1, reply.head);
            assert!(own.is_none() || !is_hit(&reply), "stored without leave: {}", reply.head);
        }
    }
    // With the origin's leave it is stored, for that client.
    for path in ["/public", "/shared", "/must"] {
        for (own, expected) in all {
            assert_eq!(text(&ask(own, path)), expected, "{path}");
        }
        for (own, expected) in all {
            let again = ask(own, path);
            assert_eq!(text(&again), expected, "{path}");
            assert!(is_hit(&again), "{path} for {expected}: {}", again.head);
        }
    }
}

/// No other client waits for a fetch that is one client's.
fn r11_no_client_waits(driver: Driver) {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let shared = Arc::clone(&gate);
    let origin = Origin::scripted(move |request, link| {
        let (is_open, opened) = &*shared;
        let guard = is_open.lock().unwrap();
        let wait = Duration::from_secs(3);
        drop(opened.wait_timeout_while(guard, wait, |is_open| !*is_open).unwrap());
        let subject = request.header("x-client-subject").unwrap_or("anonymous").to_owned();
        say(link, "200 OK\r\nCache-Control: max-age=60", &subject)
    });
    let scene = Scene::new();
    let config = format!("{}{CACHES}", scene.asking("header = \"X-Client-Subject\""));
    let proxy = Proxy::with(driver, &origin, &config);
    let ask = |own| text(&scene.get(proxy.address, own, "/slow"));
    std::thread::scope(|scope| {
        let alice = scope.spawn(|| ask(Some(&scene.alice)));
        crate::support::until("the first request", || !origin.requests().is_empty());
        let bob = scope.spawn(|| ask(Some(&scene.bob)));
        let anonymous = scope.spawn(|| ask(None));
        let begun = Instant::now();
        while origin.requests().len() < 3 && begun.elapsed() < Duration::from_secs(2) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let asked = origin.requests().len();
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let got = [alice, bob, anonymous].map(|one| one.join().unwrap());
        assert_eq!(got, ["CN=alice", "CN=bob", "anonymous"]);
        assert_eq!(asked, 3, "each asks for itself");
    });
}

/// A listener that asks for no certificate shares the route, and nothing of what others got.
fn r11_another_listener(driver: Driver) {
    let (origin, scene) = (told(), Scene::new());
    let asking = scene.asking("header = \"X-Client-Subject\"");
    let config = format!("{asking}{}{CACHES}", listener("open", &scene.host, ""));
    let proxy = Proxy::with(driver, &origin, &config);
    let (web, open) = (proxy.addresses()[0], proxy.addresses()[1]);
    for path in ["/plain", "/public"] {
        assert_eq!(text(&scene.get(web, Some(&scene.alice), path)), "CN=alice");
        for _ in 0..4 {
            assert_eq!(text(&scene.get(open, None, path)), "anonymous", "{path}");
        }
        assert_eq!(text(&scene.get(web, Some(&scene.alice), path)), "CN=alice", "{path}");
    }
}

/// The field may come from a trusted proxy that has seen the certificate: it is a client's all the
/// same.
fn r11_trusted(driver: Driver) {
    let (origin, scene) = (told(), Scene::new());
    let asking = scene.asking("header = \"X-Client-Subject\"");
    let inner = "[[listener]]\nname = \"inner\"\naddress = \"127.0.0.1:0\"\ntrusted_proxies = \
                 [\"127.0.0.0/8\"]\n";
    let proxy = Proxy::with(driver, &origin, &format!("{asking}{inner}{CACHES}"));
    let inner = proxy.addresses()[1];
    let ask = |lines: &str, path: &str| {
        let mut client = Client::connect(inner);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"));
        client.reply()
    };
    for path in ["/plain", "/public"] {
        assert_eq!(text(&ask("X-Client-Subject: CN=alice\r\n", path)), "CN=alice");
        let other = ask("X-Client-Subject: CN=bob\r\n", path);
        assert_eq!(text(&other), "CN=bob", "{path}: {}", other.head);
        assert_eq!(text(&ask("", path)), "anonymous", "{path}");
        let again = ask("X-Client-Subject: CN=alice\r\n", path);
        assert_eq!(is_hit(&again), path == "/public", "{path}: {}", again.head);
    }
}

/// Subjects, and what RFC 4514 makes of them. What is not printable ASCII is escaped by its octets, as
/// nginx has it; so is a space at an end, since one that is only quoted would be trimmed off the field.
fn subjects() -> Vec<(Vec<u8>, &'static str)> {
    let one = |tag, value: &[u8]| name(&[&[(CN, tag, value)]]);
    let utf8 = |value: &str| one(UTF8, value.as_bytes());
    let pair: [Attribute<'_>; 2] = [(CN, UTF8, b"x"), (CN, UTF8, b"admin")];
    vec![
        (utf8("client one"), "CN=client one"),
        (one(PRINTABLE, b"client one"), "CN=client one"),
        (utf8("x, CN=admin"), "CN=x\\, CN=admin"),
        (name(&[&pair]), "CN=x+CN=admin"),
        (utf8("x + CN=admin"), "CN=x \\+ CN=admin"),
        (utf8("x+CN=admin"), "CN=x\\+CN=admin"),
        (name(&[&pair[1..], &pair[..1]]), "CN=x,CN=admin"),
        (
            name(&[
                &[(COUNTRY, PRINTABLE, b"DE")],
                &[(ORGANISATION, UTF8, b"Sue, Grabbit and Runn")],
                &[(CN, UTF8, b"L. Eagle")],
            ]),
            "CN=L. Eagle,O=Sue\\, Grabbit and Runn,C=DE",
        ),
        (utf8("J\u{fc}rgen"), "CN=J\\C3\\BCrgen"),
        (utf8("J\u{44e}rgen"), "CN=J\\D1\\8Ergen"),
        (utf8("J?rgen"), "CN=J?rgen"),
        (one(BMP, b"\0J\0\xfc\0r\0g\0e\0n\0!"), "CN=J\\C3\\BCrgen!"),
        (utf8("a\"b\\c<d>e;f"), "CN=a\\\"b\\\\c\\<d\\>e\\;f"),
        (utf8("#x"), "CN=\\#x"),
        (utf8("x#"), "CN=x#"),
        (utf8(" lead"), "CN=\\20lead"),
        (utf8("trail "), "CN=trail\\20"),
        (utf8(" "), "CN=\\20"),
        (utf8("a\0b"), "CN=a\\00b"),
        (utf8("a\r\nX-Evil: 1"), "CN=a\\0D\\0AX-Evil: 1"),
        (utf8("a\u{7f}b\tc"), "CN=a\\7Fb\\09c"),
        (name(&[&[(UNKNOWN, UTF8, b"v")]]), "1.2.3=#0C0176"),
    ]
}

fn r12_subjects(driver: Driver) {
    let (origin, scene) = (Origin::echo(), Scene::new());
    let proxy = Proxy::with(driver, &origin, &scene.asking("header = \"X-Client-Subject\""));
    let mut wrong = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for (number, (subject, expected)) in (10..).zip(subjects()) {
        let pair = scene.ca.issue(&subject, b"", number);
        assert_eq!(scene.get(proxy.address, Some(&pair), "/x").status, 200, "{expected}");
        let request = origin.last();
        let found = request.header("x-client-subject").unwrap_or("(none)").to_owned();
        // Two spellings of a character are one; two of our own for one subject are none.
        if found != expected {
            wrong.push(format!("{expected} as {found}"));
        }
        let is_string = !matches!(number, 11);
        assert!(!is_string || !all.contains(&found), "two subjects look like {found}");
        all.push(found);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Names of all kinds, one of which looks like two.
fn alternatives() -> Vec<u8> {
    [
        tlv(0x82, &[b"a.example"]),
        tlv(0x82, &[b"x, DNS:admin.example"]),
        tlv(0x86, &[b"spiffe://t.example/ns/a,b"]),
        tlv(0x81, &[b"a@b.example"]),
        tlv(0x87, &[&[10, 0, 0, 1]]),
        tlv(0x87, &[&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]),
    ]
    .concat()
}

/// Cannot start before `client_auth.headers` exists.
const HEADERS: &str = "headers = { subject = \"X-Client-Subject\", san = \"X-Client-San\", \
                       fingerprint = \"X-Client-Fingerprint\", certificate = \"Client-Cert\" }";

fn r12_more_than_the_subject(driver: Driver) {
    let (origin, scene) = (Origin::echo(), Scene::new());
    let proxy = Proxy::with(driver, &origin, &scene.asking(HEADERS));
    let nameless = scene.ca.issue(&name(&[]), &alternatives(), 20);
    let named = scene.ca.issue(&name(&[&[(CN, UTF8, b"alice")]]), b"", 21);
    let san = "DNS:a.example, DNS:x%2C%20DNS:admin.example, URI:spiffe://t.example/ns/a%2Cb, \
               email:a@b.example, IP:10.0.0.1, IP:::1";
    for (pair, subject, san) in [(&nameless, None, Some(san)), (&named, Some("CN=alice"), None)] {
        let config = Arc::new(scene.ca.client(Some(pair)));
        // The second resumes the session of the first.
        for round in 0..2 {
            let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
            assert_eq!(client.get("a.example", "/x").unwrap().status, 200);
            let request = origin.last();
            let field = |name| request.header(name).filter(|value| !value.is_empty());
            assert_eq!(field("x-client-subject"), subject, "{round}: {}", request.head);
            assert_eq!(field("x-client-san"), san, "{round}: {}", request.head);
            let hash = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(der(pair)));
            assert_eq!(field("x-client-fingerprint"), Some(&*hash), "{round}");
            let whole = format!(":{}:", data_encoding::BASE64.encode(&der(pair)));
            assert_eq!(field("client-cert"), Some(&*whole), "{round}: RFC 9440 section 2.2");
        }
    }
}

fn r12_no_client_says_it_instead(driver: Driver) {
    let (origin, scene) = (Origin::echo(), Scene::new());
    let plain = "[[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n";
    let proxy = Proxy::with(driver, &origin, &format!("{}{plain}", scene.asking(HEADERS)));
    let (web, plain) = (proxy.addresses()[0], proxy.addresses()[1]);
    let names = ["X-Client-Subject", "X-Client-San", "x-client-fingerprint", "CLIENT-CERT"];
    let lines: String = names.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let forged = format!("GET /x HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
    let mut client = Client::connect(plain);
    client.send(&forged);
    assert_eq!(client.reply().status, 200);
    for own in [None, Some(&scene.alice)] {
        let config = Arc::new(scene.ca.client(own));
        let mut client = TlsClient::connect(web, "a.example", &config).unwrap();
        client.send(&forged).unwrap();
        assert_eq!(client.reply().unwrap().status, 200);
    }
    let mut peer = h2::Peer::connect(plain);
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let mut fields = h2::get("/x").to_vec();
    fields.extend(lower.iter().map(|name| (&**name, "forged")));
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 200);
    let requests = origin.requests();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert!(!request.head.contains("forged"), "{}", request.head);
    }
    let of_alice = requests.iter().filter(|one| one.header("client-cert").is_some()).count();
    assert_eq!(of_alice, 1);
}
