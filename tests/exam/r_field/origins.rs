//! Rows R38 to R41: origins as they are: their checks, their faults, their turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::Row;
use crate::support::client::find;
use crate::support::proxy::temporary;
use crate::support::tls::{Authority, Flaw, TlsLink, server};
use crate::support::{Does, Driver, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r38_checks_send_the_proxy_header", r38_checks_send_the_header),
        ("r38_in_front_of_tls_too", r38_in_front_of_tls),
        ("r39_a_retried_status_then_a_dead_connection", r39_status_then_dead),
        ("r39_the_same_for_a_fetch_of_the_cache", r39_for_the_cache),
        ("r39_a_dead_connection_at_each_of_two", r39_dead_at_each),
        ("r40_what_is_wrong_and_where", r40_what_is_wrong_and_where),
        ("r40_it_is_not_said_for_each_request", r40_not_for_each),
        ("r41_restarts_begin_anywhere", r41_restarts),
        ("r41_reloads_begin_anywhere", r41_reloads),
        ("r41_chance_does_not_repeat_itself", r41_chance),
    ]
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The header of a connection of the proxy's own, in each version.
fn local(version: &str) -> Vec<u8> {
    match version {
        "v1" => b"PROXY UNKNOWN\r\n".to_vec(),
        // LOCAL, of no family, with no addresses.
        _ => [V2, &[0x20, 0, 0, 0]].concat(),
    }
}

/// An origin that knows PROXY headers: `/up` and everything else is answered with its path.
fn behind_proxy_protocol() -> Origin {
    Origin::raw(|link| {
        // The header of version 2 has an empty line in it.
        let is_whole =
            |bytes: &[u8]| find(bytes, b"GET ").is_some() && bytes.ends_with(b"\r\n\r\n");
        while !is_whole(&link.rest) && link.more() {}
        let text = String::from_utf8_lossy(&link.rest).into_owned();
        let path = text.split("GET ").nth(1).and_then(|rest| rest.split(' ').next());
        if let Some(path) = path {
            let len = path.len();
            link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{path}"));
        }
        while link.more() {}
    })
}

fn r38_checks_send_the_header(driver: Driver) {
    for version in ["v1", "v2"] {
        for probe in ["type = \"tcp\"", "path = \"/up\""] {
            let origin = behind_proxy_protocol();
            let more = format!(
                "proxy_protocol = \"{version}\"\nhealth = {{ {probe}, interval = \"100ms\" }}"
            );
            let proxy = Proxy::run(driver, &cluster(&[origin.address], &more), &[], None);
            let what = format!("{version}, {probe}");
            let good = |bytes: &&Vec<u8>| bytes.starts_with(&local(version));
            until("three checks, or one without a header", || {
                let seen = origin.bytes();
                seen.iter().filter(good).count() >= 3 || seen.len() >= 8
            });
            let seen = origin.bytes();
            let bad: Vec<_> = seen.iter().filter(|bytes| !good(bytes)).collect();
            // The last may be on its way.
            let is_last = bad.len() == 1 && bad[0].is_empty() && seen.last() == Some(bad[0]);
            let sent = bad.first().map(|bytes| bytes.escape_ascii().to_string());
            assert!(bad.is_empty() || is_last, "{what}: a check sent {sent:?}");
            let before = origin.connections();
            assert_eq!(proxy.get("/own").body, b"/own", "{what}");
            // A request tells of its client, as before.
            let all = origin.bytes();
            let own =
                all[before.saturating_sub(1)..].iter().find(|bytes| find(bytes, b"/own").is_some());
            let own = own.expect("the request's connection");
            assert!(!own.starts_with(&local(version)), "{what}: {}", own.escape_ascii());
            assert!(!proxy.log().contains("is down"), "{what}: {}", proxy.log());
        }
    }
}

/// The header comes before the handshake, for checks as for requests.
fn r38_in_front_of_tls(driver: Driver) {
    let authority = Authority::new();
    let pair = authority.pair(&["app.internal"], Flaw::None);
    let shown = server(&pair);
    let headers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&headers);
    let origin = Origin::raw(move |link| {
        let header = local("v2");
        let mut first = vec![0; header.len()];
        if std::io::Read::read_exact(&mut link.stream, &mut first).is_err() {
            return;
        }
        if first != header {
            // Another one: a request's, with its two addresses, or none at all.
            if !first.starts_with(V2) {
                return;
            }
            let mut rest = vec![0; usize::from(first[15])];
            std::io::Read::read_exact(&mut link.stream, &mut rest).unwrap();
        } else {
            counted.fetch_add(1, SeqCst);
        }
        let mut tls = TlsLink::new(link, &shown);
        while tls.head().is_some() {
            tls.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let ca = authority.file();
    let more = format!(
        "proxy_protocol = \"v2\"\nhealth = {{ path = \"/up\", interval = \"100ms\" }}\n\
         tls = {{ ca = \"{}\", name = \"app.internal\" }}",
        ca.display()
    );
    let proxy = Proxy::run(driver, &cluster(&[origin.address], &more), &[], None);
    until("three checks with a header", || headers.load(SeqCst) >= 3);
    assert_eq!(proxy.get("/own").status, 200);
    assert!(!proxy.log().contains("is down"), "{}", proxy.log());
    let _ = std::fs::remove_file(ca);
}

/// Answers `/warm…`; anything else, asked on a connection that has served before, ends it.
fn forgetful() -> Origin {
    Origin::raw(|link| {
        let mut served = 0;
        while let Some(request) = link.request() {
            if served > 0 && !request.path().starts_with("/warm") {
                return;
            }
            served += 1;
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

/// Answers 503 to anything but `/warm…`.
fn busy() -> Origin {
    Origin::scripted(|request, link| {
        if !request.path().starts_with("/warm") {
            link.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
        }
        Does::Keep
    })
}

fn asked(origin: &Origin, path: &str) -> usize {
    origin.requests().iter().filter(|one| one.path() == path).count()
}

fn status_then_dead(driver: Driver, more: &str) {
    let (busy, forgetful) = (busy(), forgetful());
    let config = cluster(
        &[busy.address, forgetful.address],
        "retry = { budget = 100 }\npassive = { failures = 0, failure_rate = 0 }",
    );
    let config = config.replace("[[route]]\n", &format!("[[route]]\n{more}\n"));
    let proxy = Proxy::run(driver, &config, &[], None);
    let mut tried = 0;
    for round in 0..8 {
        // Both have a connection that has served, and is kept.
        for _ in 0..2 {
            assert_eq!(proxy.get(&format!("/warm/{round}")).status, 200);
        }
        let path = format!("/x/{round}");
        let reply = proxy.get(&path);
        tried += asked(&busy, &path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.body, b"ok");
        let times = asked(&forgetful, &path);
        assert!((1..=2).contains(&times), "{path}: asked {times} times");
    }
    assert!(tried > 0, "none was answered 503 first");
}

fn r39_status_then_dead(driver: Driver) {
    status_then_dead(driver, "");
}

fn r39_for_the_cache(driver: Driver) {
    status_then_dead(driver, "cache = true");
}

/// Two servers that were both started anew: each has the right to one fresh connection.
fn r39_dead_at_each(driver: Driver) {
    // Its fresh connection is answered 503, which leads to the other.
    let first = Origin::raw(|link| {
        let mut served = 0;
        while let Some(request) = link.request() {
            if !request.path().starts_with("/warm") {
                if served == 0 {
                    link.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
                }
                return;
            }
            served += 1;
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let second = forgetful();
    let more = "retry = { budget = 100 }\npassive = { failures = 0, failure_rate = 0 }";
    let proxy = Proxy::run(driver, &cluster(&[first.address, second.address], more), &[], None);
    let mut tried = 0;
    for round in 0..8 {
        for _ in 0..2 {
            assert_eq!(proxy.get(&format!("/warm/{round}")).status, 200);
        }
        let path = format!("/x/{round}");
        let reply = proxy.get(&path);
        tried += usize::from(asked(&first, &path) == 2);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    assert!(tried > 0, "the first was never asked twice");
}

/// Malformed answers, and what an operator should read of each.
const MALFORMED: &[(&str, &str, &[&str])] = &[
    (
        "/fold",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n and more\r\n\r\nok",
        &["answer head: line 4: folded field"],
    ),
    (
        "/feed",
        "HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 2\r\n\r\nok",
        &["answer head: line 2: ", "line feed"],
    ),
    (
        "/feed-first",
        "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
        &["answer head: line 1: ", "line feed"],
    ),
    (
        "/lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\nContent-Length: 2\r\n\r\nok",
        &["answer head: ", "Content-Length"],
    ),
    (
        "/both",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: gzip\r\n\r\nok",
        &["answer head: ", "Transfer-Encoding"],
    ),
    (
        "/name",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-\x1b[31mA : 1\r\n\r\nok",
        &["answer head: line 3: ", "name"],
    ),
    ("/status", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", &["answer head: line 1: "]),
    ("/noise", "SSH-2.0-OpenSSH_9.2\r\n", &["answer head: line 1: "]),
    (
        "/chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
        &["answer body: ", "chunk size"],
    ),
];

fn malformed() -> Origin {
    Origin::scripted(|request, link| {
        let found = MALFORMED.iter().find(|(path, ..)| *path == request.path());
        let Some((_, answer, _)) = found else { return Does::Keep };
        link.send(answer);
        Does::Close
    })
}

/// The words that describe a fault stand in one line with the endpoint, or with the request.
fn says(text: &str, beside: &str, words: &[&str]) -> bool {
    text.lines().any(|line| line.contains(beside) && words.iter().all(|word| line.contains(word)))
}

fn r40_what_is_wrong_and_where(driver: Driver) {
    for (path, _, words) in MALFORMED {
        let (origin, log) = (malformed(), temporary("log"));
        let more = format!(
            "[access_log]\npath = \"{}\"\n[[cluster]]\nname = \"app\"\n\
             passive = {{ failures = 0, failure_rate = 0 }}\n\
             [[cluster.endpoint]]\naddress = \"{{origin}}\"\n",
            log.display()
        );
        let proxy = Proxy::with(driver, &origin, &more);
        let reply = proxy.get(path);
        assert_eq!(reply.status, 502, "{path}: {}", reply.text());
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        until("the log's line", || read().contains(path));
        assert!(says(&read(), path, words), "{path}: the log says {}", read());
        let address = origin.address.to_string();
        until(&format!("a notice of {path}: {words:?}"), || says(&proxy.log(), &address, words));
        // What an origin sends is not what a terminal gets.
        assert!(!proxy.log().contains('\x1b') && !read().contains('\x1b'), "{path}");
        let _ = std::fs::remove_file(&log);
    }
}

/// A broken origin under load does not fill the disk with notices.
fn r40_not_for_each(driver: Driver) {
    let origin = malformed();
    let more = "[[cluster]]\nname = \"app\"\npassive = { failures = 0, failure_rate = 0 }\n\
                [[cluster.endpoint]]\naddress = \"{origin}\"\n";
    let proxy = Proxy::with(driver, &origin, more);
    for _ in 0..100 {
        assert_eq!(proxy.get("/fold").status, 502);
    }
    until("a notice", || proxy.log().contains("folded field"));
    let times = proxy.log().matches("folded field").count();
    assert!(times <= 5, "said {times} times");
}

/// Four servers, and how often each was asked.
fn four() -> Vec<Origin> {
    (0..4).map(|_| Origin::echo()).collect()
}

/// By chance twenty picks of four never look like this, but for once in some 80,000 times.
fn assert_none_is_favoured(counts: &[usize]) {
    assert_eq!(counts.iter().sum::<usize>(), 20, "{counts:?}");
    let (most, asked) = (counts.iter().max(), counts.iter().filter(|one| **one > 0).count());
    assert!(most <= Some(&14) && asked >= 3, "favoured: {counts:?}");
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(|origin| asked(origin, "/a")).collect()
}

fn r41_restarts(driver: Driver) {
    let origins = four();
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    for _ in 0..20 {
        let proxy = Proxy::run(driver, &cluster(&addresses, ""), &[], None);
        assert_eq!(proxy.get("/a").status, 200);
    }
    assert_none_is_favoured(&counts(&origins));
}

/// A plan that is read anew builds its balancers anew: where configurations change every minute
/// that is as good as a restart.
fn r41_reloads(driver: Driver) {
    let origins = four();
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let proxy = Proxy::run(driver, &cluster(&addresses, ""), &[], None);
    for number in 0..20 {
        let more = format!("timeouts = {{ first_byte = \"{}s\" }}", 10 + number);
        proxy.reload(&cluster(&addresses, &more));
        // A connection that was opened before is served by the plan of before.
        assert_eq!(proxy.get("/a").status, 200);
    }
    assert_none_is_favoured(&counts(&origins));
}

/// What is taken by chance after a reload is not what was taken before it: the nonce of a sealed cookie,
/// above all, whose key is the same.
fn r41_chance(driver: Driver) {
    let (origins, mut nonces) = (four(), std::collections::BTreeSet::new());
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let config = |number: u32| {
        let sticky = "sticky = { key = \"0123456789abcdef\" }";
        let more = format!("{sticky}\ntimeouts = {{ first_byte = \"{}s\" }}", 10 + number);
        cluster(&addresses, &more)
    };
    let proxy = Proxy::run(driver, &config(0), &[], None);
    for number in 1..=4 {
        for _ in 0..4 {
            let reply = proxy.get("/a");
            let cookie = reply.header("set-cookie").expect("a cookie");
            // 24 octets in Base64.
            let nonce = cookie.split('=').nth(1).unwrap()[..32].to_owned();
            assert!(nonces.insert(nonce.clone()), "{nonce} again after {} reloads", number - 1);
        }
        proxy.reload(&config(number));
    }
}
