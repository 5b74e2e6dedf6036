//! Rows M18 and M19: HTTP/2 on the other side, and both at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{REFUSED_STREAM, odd};
use crate::Row;
use crate::support::h2::{
    ACK, DATA, END_STREAM, GOAWAY, HEADERS, Outcome, Peer, SETTINGS, frame, get,
};
use crate::support::{Does, Driver, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("m18_upstream_goaway_and_refusal", m18_upstream_goaway_and_refusal),
        ("m18_goaway_with_others_under_way", m18_goaway_with_others_under_way),
        ("m18_upstream_breaks_off", m18_upstream_breaks_off),
        ("m18_upstream_without_room", m18_upstream_without_room),
        ("m18_room_that_comes_later", m18_room_that_comes_later),
        ("m19_clients_that_do_not_read_share_a_connection", m19_clients_that_do_not_read),
        ("m19_the_cache_serves_all_versions", m19_the_cache_serves_all_versions),
        ("m19_one_slow_reader_of_a_hundred", m19_one_slow_reader_of_a_hundred),
    ]
}

/// An origin that speaks HTTP/2: `script` sees each frame that comes, and which connection it is.
fn h2_origin(
    settings: &'static [(u16, u32)],
    script: impl Fn(usize, crate::support::h2::Frame, &mut Peer) + Send + Sync + 'static,
) -> Origin {
    Origin::raw(move |link| {
        let mut peer = Peer::accept(link.stream.try_clone().unwrap(), settings);
        while let Some(next) = peer.frame() {
            if next.kind == SETTINGS && next.flags & ACK == 0 {
                peer.send(frame(SETTINGS, ACK, 0, b""));
            }
            script(link.number, next, &mut peer);
        }
    })
}

fn h2_proxy(driver: Driver, origin: &Origin, more: &str) -> Proxy {
    Proxy::run(
        driver,
        &format!("{}{more}", cluster(&[origin.address], "protocol = \"http2\"")),
        &[],
        None,
    )
}

const OK: &[(&str, &str)] = &[(":status", "200")];

fn m18_upstream_goaway_and_refusal(driver: Driver) {
    let posts = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&posts);
    let origin = h2_origin(&[], move |number, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let fields = next.fields;
        let path = fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        if fields.iter().any(|(_, value)| value == "POST") {
            shared.fetch_add(1, SeqCst);
        }
        match path.as_str() {
            // On the first connection nothing is done of it.
            "/refused" if number == 0 => {
                peer.reset(next.id, REFUSED_STREAM);
            }
            "/away" if number < 2 => {
                let last = next.id.saturating_sub(2).to_be_bytes();
                peer.send(frame(GOAWAY, 0, 0, &[&last[..], &[0; 4]].concat()));
                peer.headers(next.id.saturating_sub(2).max(1), &[], false);
            }
            "/always" => {
                peer.reset(next.id, REFUSED_STREAM);
            }
            path => {
                let path = path.to_owned();
                peer.headers(next.id, OK, false);
                peer.data(next.id, path.as_bytes(), true);
            }
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    assert_eq!(proxy.get("/first").body, b"/first");
    // What was refused is asked again, whatever the method, for nothing was done.
    let mut client = proxy.connect();
    client.send("POST /refused HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"/refused"[..]), "{}", reply.text());
    assert_eq!(posts.load(SeqCst), 2);
    // Not for ever.
    let reply = proxy.get("/always");
    assert!(reply.status >= 500, "{}", reply.text());
    assert_eq!(proxy.get("/later").body, b"/later");
}

#[expect(clippy::too_many_lines, reason = "an origin with many faults")]
fn m18_upstream_breaks_off(driver: Driver) {
    let origin = h2_origin(&[], |_, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let fields = next.fields;
        let path = fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        match path.as_str() {
            "/cut" => {
                peer.headers(
                    next.id,
                    &[(":status", "200"), ("cache-control", "max-age=60")],
                    false,
                );
                peer.data(next.id, b"some", false);
                peer.reset(next.id, 2);
            }
            "/short" => {
                peer.headers(next.id, &[(":status", "200"), ("content-length", "10")], false);
                peer.data(next.id, b"some", true);
            }
            "/interim" => {
                peer.headers(next.id, &[(":status", "103"), ("link", "</a>")], false);
                peer.headers(next.id, OK, false);
                peer.data(next.id, b"final", true);
            }
            "/trailers" => {
                peer.headers(next.id, OK, false);
                peer.data(next.id, b"body", false);
                peer.headers(next.id, &[("x-sum", "4")], true);
            }
            "/none" => {
                peer.headers(next.id, &[(":status", "200"), ("grpc-status", "0")], true);
            }
            path => {
                let path = path.to_owned();
                peer.headers(next.id, OK, false);
                peer.data(next.id, path.as_bytes(), true);
            }
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    for path in ["/cut", "/short"] {
        let reply = proxy.get(path);
        assert!(!reply.is_complete || reply.status == 502, "{path} looks whole: {}", reply.text());
        let outcome = Peer::connect(proxy.address).ask(1, path);
        let is_told = matches!(outcome, Outcome::Reset(_)) || outcome.status() == 502;
        assert!(is_told, "{path}: {outcome:?}");
        assert_eq!(proxy.get("/next").body, b"/next");
    }
    let mut client = proxy.connect();
    client.send("GET /interim HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let interim = client.head();
    assert!(interim.starts_with("HTTP/1.1 103") && interim.contains("</a>"), "{interim}");
    assert_eq!(client.reply().body, b"final");
    let reply = proxy.get("/trailers");
    assert_eq!((reply.body.as_slice(), reply.trailers.trim()), (&b"body"[..], "x-sum: 4"));
    let answer = Peer::connect(proxy.address).ask(1, "/trailers").answer();
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "4".to_owned())]);
    // An answer that is nothing but a head stays one.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &get("/none"), true);
    let head = loop {
        let next = peer.frame().expect("an answer");
        if next.kind == HEADERS {
            break next;
        }
    };
    assert!(head.flags & END_STREAM != 0, "trailers-only became something else");
    // All of it went over one connection.
    assert_eq!(origin.connections(), 1);
}

/// A connection that is told to go away while it still owes an answer takes no more requests, and
/// nothing waits for it.
fn m18_goaway_with_others_under_way(driver: Driver) {
    let held_back = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&held_back);
    let origin = h2_origin(&[], move |number, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let path = next.fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        // Both are on their way; the first is answered, the second never is.
        if path == "/held" && number == 0 {
            peer.send(frame(GOAWAY, 0, 0, &[&next.id.to_be_bytes()[..], &[0; 4]].concat()));
            shared.fetch_add(1, SeqCst);
            return;
        }
        peer.headers(next.id, OK, false);
        peer.data(next.id, path.as_bytes(), true);
    });
    let proxy = h2_proxy(driver, &origin, "");
    assert_eq!(proxy.get("/first").body, b"/first");
    let mut held = proxy.connect();
    held.send("GET /held HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("the second request", || held_back.load(SeqCst) == 1);
    std::thread::park_timeout(Duration::from_millis(100));
    for number in 0..20 {
        let path = format!("/after/{number}");
        assert_eq!(proxy.get(&path).body, path.as_bytes());
    }
    assert!(origin.connections() >= 2);
    drop(held);
}

fn m18_upstream_without_room(driver: Driver) {
    // No stream is allowed at first, then one at a time.
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let shared = Arc::clone(&at_once);
    let origin = h2_origin(&[(3, 1)], move |_, next, peer| {
        if next.kind == HEADERS {
            let now = shared.0.fetch_add(1, SeqCst) + 1;
            shared.1.fetch_max(now, SeqCst);
            std::thread::park_timeout(Duration::from_millis(10));
            shared.0.fetch_sub(1, SeqCst);
            peer.headers(next.id, OK, false);
            peer.data(next.id, b"ok", true);
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let reply = proxy.get("/x");
                assert_eq!(reply.status, 200, "{}", reply.text());
            });
        }
    });
    assert!(origin.connections() <= 17, "{} connections", origin.connections());
    // None at all: nothing wedges.
    let shut = h2_origin(&[(3, 0)], |_, _, _| {});
    let proxy =
        h2_proxy(driver, &shut, "[timeouts]\nconnect = \"300ms\"\nfirst_byte = \"500ms\"\n");
    let begun = Instant::now();
    assert!(proxy.get("/x").status >= 500);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// What one version has fetched another is served, whole, in part or as "not modified".
fn m19_the_cache_serves_all_versions(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"1\"\r\nContent-Length: 40000\r\n\r\n");
        link.send(vec![b'x'; 40_000]);
        Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, "[[route]]\ncluster = \"app\"\ncache = true\n");
    let mut peer = Peer::connect(proxy.address);
    peer.window(0, 1 << 20);
    assert_eq!(peer.ask(1, "/cached").answer().body.len(), 40_000);
    assert_eq!(peer.ask(3, "/cached").answer().body.len(), 40_000);
    assert_eq!(proxy.get("/cached").body.len(), 40_000);
    for (id, field, status, len) in
        [(5, ("range", "bytes=0-9"), 206, 10), (7, ("if-none-match", "\"1\""), 304, 0)]
    {
        peer.headers(id, &[&get("/cached")[..], &[field]].concat(), true);
        let answer = peer.outcome(id).answer();
        assert_eq!((answer.status, answer.body.len()), (status, len));
    }
    assert_eq!(origin.requests().len(), 1);
}

/// No stream is allowed at first, then one.
fn m18_room_that_comes_later(driver: Driver) {
    let origin = h2_origin(&[(3, 0)], |_, next, peer| {
        if next.kind == SETTINGS && next.flags & ACK == 0 {
            std::thread::park_timeout(Duration::from_millis(300));
            peer.settings(&[(3, 1)]);
        }
        if next.kind == HEADERS {
            peer.headers(next.id, OK, false);
            peer.data(next.id, b"ok", true);
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    for _ in 0..3 {
        assert_eq!(proxy.get("/x").body, b"ok");
    }
}

/// Twenty clients that take nothing of what an endpoint sends, in large frames and in small ones:
/// other requests on that connection notice nothing.
fn m19_clients_that_do_not_read(driver: Driver) {
    let origin = h2_origin(&[], |_, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let path = next.fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        peer.headers(next.id, OK, false);
        // As much as its window takes, and no end.
        match path.as_str() {
            "/large" => {
                for _ in 0..3 {
                    peer.data(next.id, &[b'x'; 16_384], false);
                }
            }
            "/small" => {
                let many: Vec<u8> = frame(DATA, 0, next.id, &[b'x'; 20]).repeat(3000);
                peer.send(many);
            }
            path => {
                let path = path.to_owned();
                peer.data(next.id, path.as_bytes(), true);
            }
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    let mut stalled = Vec::new();
    for number in 0..20 {
        let mut peer = Peer::connect_with(proxy.address, &[(4, 0)]);
        peer.headers(1, &get(if number % 2 == 0 { "/large" } else { "/small" }), true);
        stalled.push(peer);
    }
    for number in 0..30 {
        let path = format!("/other/{number}");
        assert_eq!(proxy.get(&path).body, path.as_bytes());
    }
    assert_eq!(origin.connections(), 1);
}

fn m19_one_slow_reader_of_a_hundred(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.path() == "/large" {
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n");
            link.send(vec![b'x'; 1 << 20]);
        }
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    // Its window is never opened; the connection's is.
    peer.window(0, 100 << 20);
    peer.headers(1, &get("/large"), true);
    for number in 1..100 {
        peer.headers(odd(number), &get("/small"), true);
    }
    for number in 1..100 {
        assert_eq!(peer.outcome(odd(number)).answer().body, b"/small", "{number}");
    }
    assert_eq!(peer.outcome_within(1, Duration::from_millis(200)), Outcome::Silence);
    assert_eq!(proxy.get("/other").status, 200);
}
