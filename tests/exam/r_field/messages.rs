//! Rows R45 and R46: a target without a path, and streams that have not ended yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::Row;
use crate::support::h2::{ACK, DATA, HEADERS, Outcome, Peer, SETTINGS, frame, get, post};
use crate::support::{Driver, Origin, Proxy, cluster, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r45_options_without_a_path", r45_options_without_a_path),
        ("r45_options_of_all_in_http2", r45_options_in_http2),
        ("r46_a_request_is_not_over_before_its_end", r46_a_request),
        ("r46_a_request_to_an_http2_origin", r46_a_request_to_http2),
        ("r46_an_end_that_comes_later_is_one", r46_a_late_end),
        ("r46_an_answer_is_not_over_before_its_end", r46_an_answer),
        ("r46_an_answer_is_not_stored_before_its_end", r46_an_answer_is_not_stored),
        ("r46_an_answer_that_ends_later_is_whole", r46_a_late_end_of_an_answer),
    ]
}

const PROTOCOL_ERROR: u32 = 1;
/// Between what looks like the end and what comes behind it.
const LATER: Duration = Duration::from_millis(300);

fn r45_options_without_a_path(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for (line, expected) in [
        ("OPTIONS http://a.example", "OPTIONS *"),
        ("OPTIONS HTTP://a.example:8080", "OPTIONS *"),
        // RFC 9112 section 3.2.4: without a path and without a query.
        ("OPTIONS http://a.example/", "OPTIONS /"),
        ("OPTIONS http://a.example?x=1", "OPTIONS /?x=1"),
        ("OPTIONS *", "OPTIONS *"),
        ("OPTIONS /", "OPTIONS /"),
        ("GET http://a.example", "GET /"),
    ] {
        let mut client = proxy.connect();
        let authority = if line.contains(":8080") { "a.example:8080" } else { "a.example" };
        client.send(format!("{line} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(reply.status, 200, "{line}: {}", reply.text());
        let seen = origin.last();
        assert!(
            seen.head.starts_with(&format!("{expected} HTTP/1.1\r\n")),
            "{line}: {}",
            seen.head
        );
        assert_eq!(seen.header("host"), Some(authority), "{line}");
    }
}

/// `*` from a client of HTTP/2, and to an origin of HTTP/2.
fn r45_options_in_http2(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let fields =
        [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a.example"), (":path", "*")];
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 200);
    assert!(origin.last().head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{}", origin.last().head);

    let stars = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&stars);
    let origin = h2_origin(move |peer, id, path| {
        counted.fetch_add(usize::from(path == "*"), SeqCst);
        peer.headers(id, &[(":status", "204")], true);
    });
    let proxy = h2_proxy(driver, &origin, "");
    for line in ["OPTIONS *", "OPTIONS http://a.example"] {
        let before = stars.load(SeqCst);
        let mut client = proxy.connect();
        client.send(format!("{line} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(reply.status, 204, "{line}: {}", reply.text());
        assert_eq!(stars.load(SeqCst), before + 1, "{line}");
    }
}

/// Requests whose length is used up before their end, and what comes behind it: octets, or a frame
/// that says the same in other words.
const TOO_MUCH: &[(&str, &str, &[&str])] = &[
    ("nothing, then octets", "0", &["abc"]),
    ("all of it, then more", "3", &["abc", "d"]),
    ("all of it in two, then more", "6", &["abc", "def", "g"]),
];

/// Sends each part a while after the one before, the last with the end of the stream.
fn say_slowly(peer: &mut Peer, path: &str, length: &str, parts: &[&str]) {
    peer.headers(1, &[&post(path)[..], &[("content-length", length)]].concat(), false);
    for (at, part) in parts.iter().enumerate() {
        if at + 1 == parts.len() {
            std::thread::park_timeout(LATER);
        }
        peer.data(1, part.as_bytes(), at + 1 == parts.len());
    }
}

fn r46_a_request(driver: Driver) {
    for (what, length, parts) in TOO_MUCH {
        let origin = Origin::echo();
        let proxy = Proxy::before(driver, &origin);
        let mut peer = Peer::connect(proxy.address);
        say_slowly(&mut peer, "/odd", length, parts);
        let outcome = peer.outcome(1);
        let seen = origin.requests();
        assert!(!seen.iter().any(|one| one.is_complete), "{what}: it was whole: {seen:?}");
        assert!(
            matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Away(PROTOCOL_ERROR)),
            "{what}: {outcome:?}"
        );
        mark(&proxy);
    }
}

/// An origin that speaks HTTP/2: `script` gets each request's stream and path.
fn h2_origin(script: impl Fn(&mut Peer, u32, &str) + Send + Sync + 'static) -> Origin {
    Origin::raw(move |link| {
        let mut peer = Peer::accept(link.stream.try_clone().unwrap(), &[]);
        while let Some(next) = peer.frame() {
            if next.kind == SETTINGS && next.flags & ACK == 0 {
                peer.send(frame(SETTINGS, ACK, 0, b""));
            }
            if next.kind == HEADERS {
                let path = next.fields.iter().find(|(name, _)| name == ":path");
                let path = path.map(|(_, path)| path.clone()).unwrap_or_default();
                script(&mut peer, next.id, &path);
            }
        }
    })
}

fn h2_proxy(driver: Driver, origin: &Origin, more: &str) -> Proxy {
    let config = cluster(&[origin.address], "protocol = \"http2\"");
    Proxy::run(driver, &config.replace("[[route]]\n", &format!("[[route]]\n{more}\n")), &[], None)
}

/// In HTTP/2 the end is a flag, which must not be set before it was seen.
fn r46_a_request_to_http2(driver: Driver) {
    for (what, length, parts) in TOO_MUCH {
        let ends = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&ends);
        let origin = Origin::raw(move |link| {
            let mut peer = Peer::accept(link.stream.try_clone().unwrap(), &[]);
            while let Some(next) = peer.frame() {
                if next.kind == SETTINGS && next.flags & ACK == 0 {
                    peer.send(frame(SETTINGS, ACK, 0, b""));
                }
                if matches!(next.kind, HEADERS | DATA) && next.flags & 1 != 0 {
                    counted.fetch_add(1, SeqCst);
                    peer.headers(next.id, &[(":status", "204")], true);
                }
            }
        });
        let proxy = h2_proxy(driver, &origin, "");
        let mut peer = Peer::connect(proxy.address);
        say_slowly(&mut peer, "/odd", length, parts);
        let outcome = peer.outcome(1);
        assert_eq!(ends.load(SeqCst), 0, "{what}: it was whole; the client: {outcome:?}");
        assert!(
            matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Away(PROTOCOL_ERROR)),
            "{what}: {outcome:?}"
        );
    }
}

/// What is waited for may come: an empty DATA frame, or trailers.
fn r46_a_late_end(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for (length, body) in [("0", ""), ("3", "abc")] {
        for has_trailers in [false, true] {
            let mut peer = Peer::connect(proxy.address);
            let path = format!("/late/{length}/{has_trailers}");
            peer.headers(1, &[&post(&path)[..], &[("content-length", length)]].concat(), false);
            if !body.is_empty() {
                peer.data(1, body.as_bytes(), false);
            }
            std::thread::park_timeout(LATER);
            if has_trailers {
                peer.headers(1, &[("x-sum", "1")], true);
            } else {
                peer.data(1, b"", true);
            }
            assert_eq!(peer.outcome(1).status(), 200, "{path}");
            let seen: Vec<_> =
                origin.requests().into_iter().filter(|one| one.path() == path).collect();
            assert_eq!(seen.len(), 1, "{path}");
            assert!(seen[0].is_complete && seen[0].body == body.as_bytes(), "{path}: {seen:?}");
        }
    }
}

/// An origin whose answers have more than they say, a while after what they say.
fn overflowing() -> Origin {
    h2_origin(|peer, id, path| {
        let (length, first) = match path {
            "/zero" => ("0", ""),
            "/three" => ("3", "abc"),
            _ => {
                peer.headers(id, &[(":status", "200")], false);
                peer.data(id, path.as_bytes(), true);
                return;
            }
        };
        let fields =
            [(":status", "200"), ("content-length", length), ("cache-control", "max-age=60")];
        peer.headers(id, &fields, false);
        if !first.is_empty() {
            peer.data(id, first.as_bytes(), false);
        }
        std::thread::park_timeout(LATER);
        peer.data(id, b"more", true);
    })
}

fn r46_an_answer(driver: Driver) {
    let origin = overflowing();
    let proxy = h2_proxy(driver, &origin, "");
    for path in ["/zero", "/three"] {
        let reply = proxy.get(path);
        let is_whole = reply.status == 200 && reply.is_complete;
        assert!(!is_whole, "{path}: whole in HTTP/1.1: {}", reply.text());
        let outcome = Peer::connect(proxy.address).ask(1, path);
        assert!(outcome.status() != 200, "{path}: whole in HTTP/2: {outcome:?}");
        assert_eq!(proxy.get("/mark/1").body, b"/mark/1");
    }
}

/// What was shown to be broken is not what the next client gets.
fn r46_an_answer_is_not_stored(driver: Driver) {
    let origin = overflowing();
    let proxy = h2_proxy(driver, &origin, "cache = true");
    for path in ["/zero", "/three"] {
        for round in 0..2 {
            let reply = proxy.get(path);
            let is_whole = reply.status == 200 && reply.is_complete;
            assert!(!is_whole, "{path}, round {round}: whole: {}", reply.text());
        }
        // By then the origin has said all of it.
        std::thread::park_timeout(LATER);
        let reply = proxy.get(path);
        let is_hit = reply.header("cache-status").is_some_and(|text| text.contains("; hit"));
        assert!(!is_hit, "{path}: it was stored: {}", reply.head);
    }
}

fn r46_a_late_end_of_an_answer(driver: Driver) {
    let origin = h2_origin(|peer, id, path| {
        let (length, body) = if path == "/zero" { ("0", "") } else { ("3", "abc") };
        peer.headers(id, &[(":status", "200"), ("content-length", length)], false);
        if !body.is_empty() {
            peer.data(id, body.as_bytes(), false);
        }
        std::thread::park_timeout(LATER);
        peer.data(id, b"", true);
    });
    let proxy = h2_proxy(driver, &origin, "");
    for (path, body) in [("/zero", ""), ("/three", "abc")] {
        let reply = proxy.get(path);
        assert_eq!((reply.status, reply.is_complete), (200, true), "{path}: {}", reply.text());
        assert_eq!(reply.body, body.as_bytes(), "{path}");
        let mut peer = Peer::connect(proxy.address);
        peer.headers(1, &get(path), true);
        let answer = peer.outcome(1).answer();
        assert_eq!((answer.status, answer.body.as_slice()), (200, body.as_bytes()), "{path}");
    }
    until("nothing is left open", || proxy.get("/three").status == 200);
}
