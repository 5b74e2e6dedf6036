//! Group E, the first half: what is stored, under which key, and for which clients. No client ever gets
//! another's answer, or a wrong one.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::Row;
use crate::support::{Client, Does, Driver, Link, Origin, Proxy, Reply, Request};

pub fn rows() -> Vec<Row> {
    vec![
        ("e01_different_requests_have_different_keys", e01),
        ("e02_keys_are_injective", e02),
        ("e03_the_key_is_what_is_forwarded", e03),
        ("e04_a_suffix_makes_nothing_cacheable", e04),
        ("e05_unkeyed_inputs", e05),
        ("e06_a_get_with_a_body", e06),
        ("e07_what_is_somebodys_own", e07),
        ("e08_variants", e08),
        ("e09_nothing_faulty_is_stored", e09),
        ("e14_head_and_get", e14),
        ("e15_ranges", e15),
        ("e15_parts_and_wholes", parts),
        ("e16_not_modified", e16),
        ("e17_invalidation", e17),
        ("e18_odd_ages", e18),
        ("e20_errors", e20),
        ("e14_a_body_that_comes_with_its_head_has_a_bound", bounded),
        ("e15_a_416_has_the_routes_headers", ruled_416),
        ("e18_a_date_that_says_nothing", e18_odd_date),
    ]
}

/// Two cores, and a route that caches.
pub(super) const CACHES: &str = "[server]\ncores = 2\n[[route]]\ncluster = \"app\"\ncache = true\n";

/// Answers with this, and the number of the request among all.
pub(super) fn say(link: &mut Link, head: &str, body: &str) -> Does {
    let length = body.len();
    link.send(format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}"));
    Does::Keep
}

/// Everything is fresh for a minute, and says which request it answers.
pub(super) fn numbered(more: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::scripted(move |request, link| {
        let number = count.fetch_add(1, SeqCst);
        let host = request.header("host").unwrap_or_default();
        let body = format!("{number} {host} {}", request.path());
        say(link, &format!("200 OK\r\nCache-Control: max-age=60\r\n{more}X: y"), &body)
    })
}

/// One request with these lines, on a connection of its own.
pub(super) fn ask(proxy: &Proxy, start: &str, lines: &str) -> Reply {
    let mut client = Client::connect(proxy.address);
    client.asked_head = start.starts_with("HEAD ");
    let host = if lines.starts_with("Host:") { "" } else { "Host: a.example\r\n" };
    client.send(format!("{start} HTTP/1.1\r\n{host}{lines}Connection: close\r\n\r\n"));
    client.reply()
}

pub(super) fn get(proxy: &Proxy, path: &str, lines: &str) -> Reply {
    ask(proxy, &format!("GET {path}"), lines)
}

pub(super) fn is_hit(reply: &Reply) -> bool {
    reply.header("cache-status").is_some_and(|status| status.contains("; hit"))
}

fn body(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

fn e01(driver: Driver) {
    let origin = numbered("");
    let proxy = Proxy::with(driver, &origin, CACHES);
    let different = [
        ("/x", "Host: a.example\r\n"),
        ("/x", "Host: b.example\r\n"),
        ("/x", "Host: a.example:81\r\n"),
        ("/x?", "Host: a.example\r\n"),
        ("/x?a=1&b=2", "Host: a.example\r\n"),
        ("/x?b=2&a=1", "Host: a.example\r\n"),
        ("/X", "Host: a.example\r\n"),
        ("/x/", "Host: a.example\r\n"),
    ];
    let first: Vec<String> =
        different.iter().map(|(path, host)| body(&get(&proxy, path, host))).collect();
    assert_eq!(origin.requests().len(), different.len(), "each its own: {first:?}");
    for ((path, host), before) in different.iter().zip(&first) {
        let again = get(&proxy, path, host);
        assert!(is_hit(&again), "{path} {host} {}", again.head);
        assert_eq!(body(&again), *before);
        assert!(again.header("age").is_some());
    }
    assert_eq!(origin.requests().len(), different.len());
    // Another method is another thing altogether.
    let posted = ask(&proxy, "POST /other", "Content-Length: 0\r\n");
    assert!(!is_hit(&posted) && posted.status == 200);
    assert!(posted.header("cache-status").unwrap().contains("fwd=method"));
    assert!(!is_hit(&get(&proxy, "/other", "")));
}

fn e02(driver: Driver) {
    let origin = numbered("");
    let proxy = Proxy::with(driver, &origin, CACHES);
    // Whatever could run into each other does not.
    let pairs = [
        ("/b/c", "a"),
        ("/c", "a.b"),
        ("/a", "a"),
        ("/aa", "a"),
        ("/", "aa"),
        ("/%00", "x"),
        ("/a%3fb", "x"),
        ("/a?b", "x"),
        ("/a%0d%0ab", "x"),
    ];
    for (path, host) in pairs {
        let lines = format!("Host: {host}\r\n");
        let (one, two) = (get(&proxy, path, &lines), get(&proxy, path, &lines));
        let is_refused = path == "/%00";
        assert_eq!(one.status, if is_refused { 400 } else { 200 }, "{path}");
        // Each refusal names its own request.
        assert_eq!(one.body == two.body, !is_refused, "{path} {host}");
        assert!(is_refused || is_hit(&two) && !is_hit(&one), "{path} {host} {}", one.head);
    }
}

fn e03(driver: Driver) {
    let origin = numbered("");
    let proxy = Proxy::with(driver, &origin, CACHES);
    let paths = [
        "/a/../b",
        "/b",
        "/%61",
        "/a",
        "//a",
        "/a;x",
        "/a%2f..%2fb",
        "/a%23",
        "/a%3f",
        "/./a",
        "/b/.",
    ];
    for path in paths {
        let reply = get(&proxy, path, "");
        assert_eq!(reply.status, 200, "{path}");
        // A request like this gets what the origin said to just this form of it.
        let forwarded = body(&reply).split(' ').nth(2).unwrap().to_owned();
        let same = get(&proxy, &forwarded, "");
        assert!(is_hit(&same), "{path} went out as {forwarded}: {}", same.head);
        assert_eq!(same.body, reply.body, "{path}");
    }
    let mut seen: Vec<String> = origin.requests().iter().map(|one| one.path().to_owned()).collect();
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all, "one form, one fetch: {seen:?}");
}

fn e04(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let head = if request.path().contains("private") {
            "200 OK\r\nCache-Control: private, max-age=60"
        } else {
            "200 OK"
        };
        say(link, head, "secret")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for path in ["/account/x.css", "/account;x.js", "/account%0a.css", "/private/x.png"] {
        get(&proxy, path, "");
        let again = get(&proxy, path, "");
        assert!(!is_hit(&again), "{path}: {}", again.head);
    }
    assert_eq!(origin.requests().len(), 8);
}

fn e05(driver: Driver) {
    // An origin that believes everything and says it back.
    let origin = Origin::scripted(|request, link| {
        let told: String = request.head.lines().filter(|line| line.contains("evil")).collect();
        say(link, "200 OK\r\nCache-Control: max-age=60", &format!("[{told}]"))
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let inputs = [
        "X-Forwarded-Host",
        "X-Forwarded-Scheme",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Host",
        "X-Real-IP",
        "X-Forwarded-Server",
    ];
    for (at, input) in inputs.into_iter().enumerate() {
        let path = format!("/{at}");
        get(&proxy, &path, &format!("{input}: evil.example\r\n"));
        let clean = get(&proxy, &path, "");
        assert_eq!(body(&clean), "[]", "{input} reached somebody else");
        let attacked = get(&proxy, &path, &format!("{input}: evil.example\r\n"));
        assert_eq!(attacked.status, 200, "{input}: {}", attacked.text());
        assert_eq!(body(&get(&proxy, &path, "")), "[]", "{input}");
    }
}

fn e06(driver: Driver) {
    let origin = numbered("");
    let proxy = Proxy::with(driver, &origin, CACHES);
    let fat = get(&proxy, "/fat", "Content-Length: 4\r\n\r\nevil");
    assert!(fat.header("cache-status").unwrap().contains("fwd=bypass"), "{}", fat.head);
    let clean = get(&proxy, "/fat", "");
    assert!(!is_hit(&clean) && clean.body != fat.body);
    let mut client = proxy.connect();
    client.send("GET /fat HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi");
    assert!(!is_hit(&client.reply()), "a body may ask for something else");
    assert!(is_hit(&get(&proxy, "/fat", "")));
}

fn e07(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let control = match request.path() {
            path if path.starts_with("/public") => "public, max-age=60",
            path if path.starts_with("/shared") => "s-maxage=60",
            "/targeted" => "max-age=60\r\nCDN-Cache-Control: max-age=60",
            path if path.starts_with("/must") => "max-age=60, must-revalidate",
            _ => "max-age=60",
        };
        let cookie = if request.path().ends_with("/set") { "Set-Cookie: id=7\r\n" } else { "" };
        say(link, &format!("200 OK\r\n{cookie}Cache-Control: {control}"), "x")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for own in ["Authorization: Basic eA==\r\n", "Cookie: id=7\r\n"] {
        let kind = &own[..4];
        for (path, is_stored) in
            [("plain", false), ("public", true), ("shared", true), ("must", true)]
        {
            let path = format!("/{path}/{kind}");
            get(&proxy, &path, own);
            let other = get(&proxy, &path, "");
            assert_eq!(is_hit(&other), is_stored, "{path} {own}: {}", other.head);
        }
    }
    // A lifetime for shared caches is no leave to share (RFC 9111 section 3.5).
    get(&proxy, "/targeted", "Authorization: Basic eA==\r\n");
    assert!(!is_hit(&get(&proxy, "/targeted", "")));
    for (path, is_stored) in [("/plain/set", false), ("/public/set", true)] {
        let first = get(&proxy, path, "");
        let again = get(&proxy, path, "");
        assert_eq!(is_hit(&again), is_stored, "{path}: {}", again.head);
        if is_stored {
            assert!(again.header("set-cookie").is_none(), "{path}: a cookie was replayed");
        }
        assert_eq!(first.header("set-cookie"), Some("id=7"), "who asked gets it");
    }
    withheld(driver);
}

/// What is withheld from others goes to the client that asked: with the answer, and with a 304 that confirms.
fn withheld(driver: Driver) {
    let count = AtomicUsize::new(0);
    let origin = Origin::scripted(move |request, link| {
        let number = count.fetch_add(1, SeqCst);
        let head = match request.path() {
            "/named" => format!(
                "200 OK\r\nCache-Control: max-age=60, no-cache=\"X-Own\"\r\nX-Own: {number}"
            ),
            _ if request.header("if-none-match").is_some() => {
                link.send(format!(
                    "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nSet-Cookie: n={number}\r\n\r\n"
                ));
                return Does::Keep;
            }
            _ => format!(
                "200 OK\r\nCache-Control: no-cache, public\r\nETag: \"1\"\r\nSet-Cookie: n={number}"
            ),
        };
        say(link, &head, "x")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    assert_eq!(get(&proxy, "/named", "").header("x-own"), Some("0"));
    let again = get(&proxy, "/named", "");
    assert!(is_hit(&again) && again.header("x-own").is_none(), "{}", again.head);
    for number in 1..4 {
        let reply = get(&proxy, "/session", "");
        let cookie = format!("n={number}");
        assert_eq!((reply.status, reply.header("set-cookie")), (200, Some(cookie.as_str())));
    }
}

fn e08(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let vary = if request.path() == "/star" { "*" } else { "X-Kind" };
        let kind = request.header("x-kind").unwrap_or("none");
        say(link, &format!("200 OK\r\nCache-Control: max-age=60\r\nVary: {vary}"), kind)
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for round in 0..2 {
        for kind in ["red", "blue"] {
            let reply = get(&proxy, "/v", &format!("X-Kind: {kind}\r\n"));
            assert_eq!((body(&reply).as_str(), is_hit(&reply)), (kind, round > 0));
        }
        let none = get(&proxy, "/v", "");
        assert_eq!((body(&none).as_str(), is_hit(&none)), ("none", round > 0));
    }
    get(&proxy, "/star", "");
    assert!(!is_hit(&get(&proxy, "/star", "")));
    // Ten thousand variants of one URL cost no more than their cap.
    let before = proxy.rss();
    let mut client = proxy.connect();
    for number in 0..10_000 {
        client.send(format!("GET /v HTTP/1.1\r\nHost: a.example\r\nX-Kind: {number}\r\n\r\n"));
        assert_eq!(body(&client.reply()), number.to_string());
    }
    assert!(proxy.rss() < before + 16 * 1024, "{} KiB more", proxy.rss() - before);
    let last = get(&proxy, "/v", "X-Kind: 9999\r\n");
    assert!(is_hit(&last) && body(&last) == "9999");
}

#[expect(clippy::too_many_lines, reason = "a table of faults")]
fn e09(driver: Driver) {
    let fresh = "Cache-Control: max-age=60\r\n";
    let faults: Vec<(String, Does)> = vec![
        (format!("HTTP/1.1 200 OK\r\n{fresh}Content-Length: 100\r\n\r\n12345"), Does::Close),
        (format!("HTTP/1.1 200 OK\r\n{fresh}Content-Length: 100\r\n\r\n12345"), Does::Reset),
        (
            format!("HTTP/1.1 200 OK\r\n{fresh}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            Does::Close,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{fresh}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
            ),
            Does::Reset,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{fresh}Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n"
            ),
            Does::Close,
        ),
        (format!("HTTP/1.1 200 OK\r\n{fresh}\r\nhello"), Does::Reset),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{fresh}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            Does::Close,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{fresh}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
            ),
            Does::Close,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{fresh}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            Does::Close,
        ),
        (format!("HTTP/2.0 200 OK\r\n{fresh}Content-Length: 1\r\n\r\nx"), Does::Close),
        (format!("HTTP/1.1 99 No\r\n{fresh}Content-Length: 1\r\n\r\nx"), Does::Close),
        (
            format!("HTTP/1.1 200 OK\r\n{fresh}X-A: b\x00c\r\nContent-Length: 1\r\n\r\nx"),
            Does::Close,
        ),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), Does::Close),
        (String::new(), Does::Close),
    ];
    let count = faults.len();
    let script = faults.clone();
    let origin = Origin::scripted(move |request, link| {
        let at: usize = request.path()[1..].parse().unwrap();
        link.send(&script[at].0);
        script[at].1
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for (at, (fault, _)) in faults.iter().enumerate().take(count) {
        let before = origin.requests().len();
        for round in 0..2 {
            let reply = get(&proxy, &format!("/{at}"), "");
            // Length beside chunks is read as chunks (RFC 9112 section 6.3), and trusted no further.
            let is_read = fault.contains("Content-Length: 5\r\nTransfer");
            assert!(!reply.is_complete || reply.status >= 500 || is_read, "{fault:?}");
            assert!(!is_hit(&reply), "{fault:?} in round {round}: {}", reply.head);
        }
        assert!(origin.requests().len() >= before + 2, "{fault:?} was stored");
    }
    crate::support::mark(&proxy);
}

fn e14(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let grown = request.path().starts_with("/grown") && request.head.starts_with("HEAD");
        let text = if grown { "longer than before" } else { "text" };
        let age = if request.path().starts_with("/stale") || grown { 0 } else { 60 };
        let tag = if grown { "\"2\"" } else { "\"1\"" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: {tag}\r\nCache-Control: max-age={age}\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        let body = if request.head.starts_with("HEAD") { "" } else { text };
        link.send(format!("{head}{body}"));
        Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let head = ask(&proxy, "HEAD /a", "");
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
    let first = get(&proxy, "/a", "");
    assert!(!is_hit(&first) && first.body == b"text", "HEAD made no entry");
    let head = ask(&proxy, "HEAD /a", "");
    assert!(is_hit(&head) && head.header("content-length") == Some("4"));
    // A HEAD that shows another length and tag: what is stored is history.
    assert_eq!(get(&proxy, "/grown", "").body, b"text");
    ask(&proxy, "HEAD /grown", "Cache-Control: no-cache\r\n");
    let before = origin.requests().len();
    get(&proxy, "/grown", "");
    assert_eq!(origin.requests().len(), before + 1, "fetched anew");
}

#[expect(clippy::too_many_lines, reason = "one story: a body, its parts, its versions")]
fn e15(driver: Driver) {
    let text: String =
        (0..100_000).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap())).collect();
    let version = std::sync::Arc::new(AtomicUsize::new(1));
    let (shared, full) = (std::sync::Arc::clone(&version), text.clone());
    let origin = Origin::scripted(move |request, link| {
        let tag = shared.load(SeqCst);
        let weak = if request.path() == "/weak" { "W/" } else { "" };
        let fields = format!("ETag: {weak}\"{tag}\"\r\nCache-Control: max-age=60");
        match request.header("range").and_then(|range| range.strip_prefix("bytes=")) {
            None => say(link, &format!("200 OK\r\n{fields}"), &full),
            Some(range) => {
                let (first, last) = range.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let head = format!(
                    "206 Partial Content\r\n{fields}\r\nContent-Range: bytes {first}-{last}/100000"
                );
                say(link, &head, &full[first..=last])
            }
        }
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    get(&proxy, "/whole", "");
    let part = |path: &str, range: &str| get(&proxy, path, &format!("Range: bytes={range}\r\n"));
    let cases: &[(&str, u16, std::ops::Range<usize>)] = &[
        ("0-9", 206, 0..10),
        ("99990-", 206, 99_990..100_000),
        ("-5", 206, 99_995..100_000),
        ("50000-60000", 206, 50_000..60_001),
        ("5-1", 200, 0..100_000),
    ];
    for (range, status, expected) in cases {
        let reply = part("/whole", range);
        assert_eq!(reply.status, *status, "{range}");
        assert!(is_hit(&reply) && reply.body == text.as_bytes()[expected.clone()], "{range}");
    }
    for none in ["100000-", "-0"] {
        let reply = part("/whole", none);
        assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */100000")));
    }
    // Several parts come in one body; too many, or overlapping ones, as the whole.
    let several = part("/whole", "0-1,10-12");
    let shown = several.text();
    assert!(several.status == 206 && several.is_complete, "{}", several.head);
    assert!(shown.contains("Content-Range: bytes 0-1/100000\r\n\r\nab\r\n"), "{shown}");
    assert!(shown.contains("Content-Range: bytes 10-12/100000\r\n\r\nklm\r\n"), "{shown}");
    let many: Vec<String> = (0..1000).map(|at| format!("{at}-{}", at + 5)).collect();
    let reply = part("/whole", &many.join(","));
    assert_eq!((reply.status, reply.body.len()), (200, 100_000));
    // Parts are stored, and joined if they are of the very same body.
    assert!(!is_hit(&part("/parts", "0-9")));
    assert!(is_hit(&part("/parts", "3-5")));
    assert!(!is_hit(&part("/parts", "10-19")));
    let joined = part("/parts", "5-15");
    assert!(is_hit(&joined) && joined.body == text.as_bytes()[5..16], "{}", joined.head);
    version.store(2, SeqCst);
    assert!(!is_hit(&part("/parts", "20-29")));
    let old = part("/parts", "5-15");
    assert!(!is_hit(&old), "two versions were mixed");
    // A weak tag proves nothing about octets.
    part("/weak", "0-9");
    part("/weak", "10-19");
    assert!(!is_hit(&part("/weak", "5-15")));
    let whole = get(&proxy, "/parts", "");
    assert!(whole.status == 200 && whole.body.len() == 100_000, "a part is no whole");
    let condition = get(&proxy, "/whole", "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n");
    assert_eq!((condition.status, condition.body.len()), (200, 100_000));
}

/// A part never takes the place of the whole, nor does a wrong one become it.
fn parts(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let range = request.header("range").map(str::to_owned);
        match (request.path(), range.as_deref()) {
            ("/chunked", Some(_)) => {
                link.send("HTTP/1.1 206 Partial\r\nCache-Control: max-age=60\r\nContent-Range: bytes 0-2/9\r\n\
                           Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n");
                Does::Keep
            }
            ("/young", _) => {
                let date = "Sun, 06 Nov 2044 08:49:37 GMT";
                say(
                    link,
                    &format!(
                        "200 OK\r\nCache-Control: max-age=60\r\nDate: {date}\r\nLast-Modified: {date}"
                    ),
                    "0123456789",
                )
            }
            (_, Some(_)) => say(
                link,
                "206 Partial\r\nCache-Control: max-age=60\r\nETag: \"1\"\r\nContent-Range: bytes 0-0/10",
                "0",
            ),
            _ if request.header("if-none-match").is_some() => {
                link.send(
                    "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\n",
                );
                Does::Keep
            }
            _ => say(link, "200 OK\r\nCache-Control: max-age=60\r\nETag: \"1\"", "0123456789"),
        }
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    get(&proxy, "/whole", "");
    let part = get(&proxy, "/whole", "Range: bytes=0-0\r\nCache-Control: no-cache\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"0"[..]));
    let again = get(&proxy, "/whole", "");
    assert!(is_hit(&again) && again.body == b"0123456789", "{}", again.head);
    let asked = origin.requests();
    assert!(asked.last().unwrap().header("range").is_none(), "the whole was asked about");
    get(&proxy, "/chunked", "Range: bytes=0-2\r\n");
    let whole = get(&proxy, "/chunked", "");
    assert!(!is_hit(&whole) && whole.body == b"0123456789", "{}", whole.text());
    // RFC 9110 sections 13.1.5 and 14.2: no parts by a weak date, none for HEAD.
    get(&proxy, "/young", "");
    let weak =
        get(&proxy, "/young", "Range: bytes=0-0\r\nIf-Range: Sun, 06 Nov 2044 08:49:37 GMT\r\n");
    assert_eq!(weak.status, 200);
    let head = ask(&proxy, "HEAD /whole", "Range: bytes=0-0\r\n");
    assert!(head.status == 200 && head.header("content-length") == Some("10"), "{}", head.head);
}

fn e16(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let asked = request.header("if-none-match").map(str::to_owned);
        match (request.path(), asked) {
            ("/good", Some(_)) => {
                link.send("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nX-New: yes\r\nCache-Control: max-age=60\r\nContent-Length: 999\r\n\r\n");
                Does::Keep
            }
            ("/other", Some(_)) => {
                link.send("HTTP/1.1 304 Not Modified\r\nETag: \"9\"\r\n\r\n");
                Does::Keep
            }
            ("/body", Some(_)) => {
                link.send("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\nbytes that must not be here");
                Does::Close
            }
            (path, _) => {
                let body = format!("body of {path}");
                say(link, "200 OK\r\nETag: \"1\"\r\nX-Old: yes\r\nCache-Control: max-age=0", &body)
            }
        }
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for path in ["/good", "/other", "/body"] {
        get(&proxy, path, "");
        let reply = get(&proxy, path, "");
        assert_eq!(body(&reply), format!("body of {path}"), "{}", reply.head);
        assert_eq!((reply.status, reply.header("x-old")), (200, Some("yes")));
    }
    let good = get(&proxy, "/good", "");
    assert!(is_hit(&good) && good.header("x-new") == Some("yes"), "{}", good.head);
    assert_eq!(good.header("content-length"), Some("13"));
    let paths: Vec<Request> = origin.requests();
    let others = paths.iter().filter(|one| one.path() == "/other").count();
    assert_eq!(others, 3, "asked, asked about, asked again without conditions");
    // A client's own condition is answered here.
    let same = get(&proxy, "/good", "If-None-Match: W/\"1\"\r\n");
    assert!(same.status == 304 && is_hit(&same) && same.header("etag") == Some("\"1\""));
    crate::support::mark(&proxy);
    // Where nothing can be stored, conditions are the origin's to judge.
    let private = Origin::scripted(|request, link| {
        if request.header("if-none-match") == Some("\"a,b\"") {
            link.send("HTTP/1.1 304 Not Modified\r\nETag: \"a,b\"\r\n\r\n");
            return Does::Keep;
        }
        let control = if request.path() == "/private" { "private" } else { "max-age=60" };
        say(link, &format!("200 OK\r\nCache-Control: {control}\r\nETag: \"a,b\""), "x")
    });
    let proxy = Proxy::with(driver, &private, CACHES);
    let condition = "If-None-Match: \"x\", \"a,b\"\r\n";
    get(&proxy, "/private", "");
    let same = get(&proxy, "/private", "If-None-Match: \"a,b\"\r\n");
    assert!(same.status == 304 && !is_hit(&same), "{}", same.head);
    get(&proxy, "/public", "");
    let same = get(&proxy, "/public", condition);
    assert!(same.status == 304 && is_hit(&same), "a comma in a tag: {}", same.head);
}

fn e17(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.head.starts_with("GET") {
            return say(link, "200 OK\r\nCache-Control: max-age=60", request.path());
        }
        let head = match request.path() {
            "/fails" => "500 No",
            "/redirects" => "303 See Other\r\nLocation: /target?x=1",
            "/moves" => "201 Created\r\nContent-Location: http://a.example/target",
            "/attacks" => "201 Created\r\nLocation: http://b.example/target",
            "/form" => {
                "200 OK\r\nContent-Location: /form\r\nCache-Control: max-age=60\r\nETag: \"1\""
            }
            "/form-elsewhere" => "200 OK\r\nContent-Location: /x\r\nCache-Control: max-age=60",
            "/form-unsure" => "200 OK\r\nContent-Location: /form-unsure",
            _ => "200 OK",
        };
        say(link, head, "done")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let stored = |path: &str, host: &str| is_hit(&get(&proxy, path, host));
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        get(&proxy, "/own", "");
        assert!(stored("/own", ""));
        ask(&proxy, &format!("{method} /own"), "Content-Length: 0\r\n");
        assert!(!stored("/own", ""), "{method} invalidates");
        get(&proxy, "/fails", "");
        ask(&proxy, &format!("{method} /fails"), "Content-Length: 0\r\n");
        assert!(stored("/fails", ""), "{method} has changed nothing");
    }
    let post = |path: &str| ask(&proxy, &format!("POST {path}"), "Content-Length: 0\r\n");
    for (does, target) in [("/redirects", "/target?x=1"), ("/moves", "/target")] {
        get(&proxy, target, "");
        post(does);
        assert!(!stored(target, ""), "{does}");
    }
    get(&proxy, "/target", "Host: b.example\r\n");
    post("/attacks");
    assert!(stored("/target", "Host: b.example\r\n"), "another host's is not ours to touch");
    ask(&proxy, "OPTIONS /own", "");
    assert!(stored("/own", ""), "a safe method changes nothing");
    // A POST whose answer is what a GET would get, and says so, is what the next GET gets.
    for (path, is_stored) in [("/form", true), ("/form-elsewhere", false), ("/form-unsure", false)]
    {
        let reply =
            ask(&proxy, &format!("POST {path}"), "If-None-Match: *\r\nContent-Length: 0\r\n");
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"done"[..]), "{path}");
        let next = get(&proxy, path, "");
        assert_eq!(is_hit(&next), is_stored, "{path}: {}", next.head);
        assert_eq!(next.body == b"done", is_stored, "{path}");
    }
}

fn e18(driver: Driver) {
    const CASES: [(&str, bool); 13] = [
        ("Cache-Control: max-age=2147483648", true),
        ("Cache-Control: max-age=9223372036854775808", true),
        ("Cache-Control: max-age=99999999999999999999999999", true),
        ("Cache-Control: max-age=-1", false),
        ("Cache-Control: max-age=60, max-age=0", false),
        ("Cache-Control: max-age=60\r\nCache-Control: max-age=0", false),
        ("Cache-Control: max-age=\"60\"", true),
        ("Cache-Control: max-age=60\r\nAge: 1000000000000", false),
        ("Cache-Control: max-age=60\r\nAge: 59", true),
        ("Cache-Control: max-age=60\r\nDate: Fri, 01 Jan 2100 00:00:00 GMT", true),
        ("Cache-Control: max-age=60\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT", false),
        ("Expires: 0", false),
        ("Expires: Fri, 01 Jan 2100 00:00:00 GMT", true),
    ];
    let origin = Origin::scripted(|request, link| {
        let at: usize = request.path()[1..].parse().unwrap();
        say(link, &format!("200 OK\r\n{}", CASES[at].0), "x")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for (at, (fields, is_fresh)) in CASES.iter().enumerate() {
        get(&proxy, &format!("/{at}"), "");
        let again = get(&proxy, &format!("/{at}"), "");
        assert_eq!(is_hit(&again), *is_fresh, "{fields}: {}", again.head);
    }
}

fn e20(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let fresh = "Cache-Control: max-age=3600";
        let is_odd = request.head.len() > 3000;
        match request.path() {
            "/odd" if is_odd => say(link, &format!("400 Bad Request\r\n{fresh}"), "too much"),
            "/missing" => say(link, &format!("404 Not Found\r\n{fresh}"), "explicitly"),
            "/broken" => say(link, "500 Oops", "nothing said of storing"),
            "/gone" => Does::Reset,
            _ => say(link, &format!("200 OK\r\n{fresh}"), "fine"),
        }
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let odd = format!("X-Odd: {}\r\n", "x".repeat(4000));
    assert_eq!(get(&proxy, "/odd", &odd).status, 400);
    assert_eq!(get(&proxy, "/odd", "").status, 200, "poisoned by an odd request");
    get(&proxy, "/missing", "");
    assert!(is_hit(&get(&proxy, "/missing", "")), "what the origin says may be stored is");
    for path in ["/broken", "/gone", "/missing.host"] {
        let host = if path.ends_with("host") { "Host: bad host\r\n" } else { "" };
        for _ in 0..2 {
            let reply = get(&proxy, path, host);
            assert!(reply.status >= 400 && !is_hit(&reply), "{path}: {}", reply.head);
        }
    }
    let own = get(&proxy, "/gone", "");
    assert_eq!((own.status, own.header("cache-control")), (502, Some("no-store")));
}

/// Whatever way a body comes, what is larger than `cache.object` is not stored.
fn bounded(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let len = if request.path() == "/small" { 1000 } else { 3000 };
        let body = "x".repeat(len);
        link.send(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n{body}\r\n0\r\n\r\n"
        ));
        Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, &format!("{CACHES}[cache]\nobject = \"2KiB\"\n"));
    for (path, len, is_stored) in [("/small", 1000, true), ("/large", 3000, false)] {
        let (one, two) = (get(&proxy, path, ""), get(&proxy, path, ""));
        assert!(one.is_complete && one.body.len() == len && two.body.len() == len, "{path}");
        assert_eq!(is_hit(&two), is_stored, "{path}: {}", two.head);
    }
}

/// An answer of our own has what every answer of the route has.
fn ruled_416(driver: Driver) {
    let origin = numbered("");
    let rules = "response_headers = { set = { x-frame-options = \"DENY\" } }\n";
    let proxy = Proxy::with(driver, &origin, &format!("{CACHES}{rules}"));
    get(&proxy, "/a", "");
    for (range, status) in [("0-1", 206), ("100000-", 416)] {
        let reply = get(&proxy, "/a", &format!("Range: bytes={range}\r\n"));
        assert_eq!(reply.status, status);
        assert!(is_hit(&reply), "{}", reply.head);
        let lower = reply.head.to_ascii_lowercase();
        for name in ["\r\nx-frame-options: deny\r\n", "\r\ndate: "] {
            assert_eq!(lower.matches(name).count(), 1, "{range}: {}", reply.head);
        }
    }
}

/// A Date that cannot be read gives way to ours (RFC 9110 section 6.6.1): two say less than one.
fn e18_odd_date(driver: Driver) {
    for date in ["Date: x\r\n", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""] {
        let origin = numbered(date);
        let proxy = Proxy::with(driver, &origin, CACHES);
        for _ in 0..2 {
            let reply = get(&proxy, "/a", "");
            let dates = reply.head.to_ascii_lowercase().matches("\r\ndate: ").count();
            assert_eq!(dates, 1, "{date}: {}", reply.head);
        }
    }
}
