//! Rows M08 to M13: nothing is passed on that HTTP/1 could read in two ways.

use super::{PROTOCOL_ERROR, lives};
use crate::Row;
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, Peer, block, frame, get,
    literal, post,
};
use crate::support::{Driver, Origin, Proxy, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("m08_lengths_that_do_not_hold", m08_lengths_that_do_not_hold),
        ("m09_fields_of_another_version", m09_fields_of_another_version),
        ("m10_octets_that_end_lines", m10_octets_that_end_lines),
        ("m11_pseudo_fields", m11_pseudo_fields),
        ("m12_cookies_and_many_fields", m12_cookies_and_many_fields),
        ("m13_connect", m13_connect),
        ("m13_protocols_that_end_lines", m13_protocols_that_end_lines),
        ("m14_a_tunnel_that_is_none", m14_a_tunnel_that_is_none),
    ]
}

fn m08_lengths_that_do_not_hold(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let with = |length: &'static str| [&post("/short")[..], &[("content-length", length)]].concat();
    for (what, length, parts) in [
        ("less", "10", vec!["abc"]),
        ("more", "2", vec!["abc"]),
        ("more, later", "4", vec!["abc", "def"]),
        ("nothing", "5", vec![]),
    ] {
        let mut peer = Peer::connect(proxy.address);
        peer.headers(1, &with(length), parts.is_empty());
        for (at, part) in parts.iter().enumerate() {
            peer.data(1, part.as_bytes(), at + 1 == parts.len());
        }
        let outcome = peer.outcome(1);
        assert!(
            matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Away(PROTOCOL_ERROR)),
            "{what}: {outcome:?}"
        );
    }
    for bad in ["+5", "0x5", "5, 5", "-1", "5 5"] {
        let mut peer = Peer::connect(proxy.address);
        peer.headers(1, &with(bad), false);
        peer.data(1, b"abcde", true);
        let outcome = peer.outcome(1);
        assert!(outcome.status() != 200, "{bad}: {outcome:?}");
    }
    // Trailers that do not end the stream.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/short"), false);
    peer.data(1, b"abc", false);
    peer.headers(1, &[("x-sum", "1")], false);
    let outcome = peer.outcome(1);
    assert!(matches!(outcome, Outcome::Reset(_) | Outcome::Away(_)), "{outcome:?}");
    // Pseudo-fields in trailers.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/pseudo"), false);
    peer.headers(1, &[(":path", "/x")], true);
    assert_eq!(peer.outcome(1), Outcome::Away(PROTOCOL_ERROR));
    let seen = origin.requests().into_iter().find(|one| one.path() == "/pseudo");
    assert!(seen.is_none_or(|one| !one.is_complete && one.trailers.is_empty()));
    until("uploads to be broken off", || {
        origin.requests().iter().all(|one| one.path() != "/short" || !one.is_complete)
    });
    // Good trailers arrive.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/good"), false);
    peer.data(1, b"abc", false);
    peer.headers(1, &[("x-sum", "1")], true);
    assert_eq!(peer.outcome(1).status(), 200);
    let good = origin.requests().into_iter().find(|one| one.path() == "/good").unwrap();
    assert_eq!((good.body.as_slice(), good.trailers.trim()), (&b"abc"[..], "x-sum: 1"));
    lives(&proxy);
}

/// A request with these fields behind its own must not reach the origin; nor may the connection be
/// used to ask for something else.
fn refused(proxy: &Proxy, origin: &Origin, what: &str, fields: &[u8]) {
    let before = origin.byte_count();
    let mut peer = Peer::connect(proxy.address);
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, fields));
    let outcome = peer.outcome(1);
    let is_refused = match &outcome {
        Outcome::Reset(_) | Outcome::Away(_) | Outcome::Closed => true,
        Outcome::Answer(answer) => (400..500).contains(&answer.status),
        Outcome::Silence => false,
    };
    assert!(is_refused, "{what}: {outcome:?}");
    assert_eq!(origin.byte_count(), before, "{what} reached the origin");
}

fn m09_fields_of_another_version(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("connection", "x"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("host", "b.example"),
    ] {
        let fields = [&get("/x")[..], &[(name, value)]].concat();
        refused(&proxy, &origin, name, &block(&fields));
    }
    // What says the same is fine, and `te: trailers` ends here.
    let mut peer = Peer::connect(proxy.address);
    let fields = [&get("/fine")[..], &[("host", "a.example"), ("te", "trailers")]].concat();
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 200);
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.head.matches("a.example\r\n").count(), 2, "{}", request.head);
    assert!(request.header("te").is_none(), "{}", request.head);
    lives(&proxy);
}

fn m10_octets_that_end_lines(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let base = || block(&get("/x"));
    for evil in ["\r\n", "\n", "\r", "\0", "a\r\nHost: evil"] {
        let value = format!("v{evil}x");
        refused(&proxy, &origin, "a value", &[base(), literal(b"x-a", value.as_bytes())].concat());
        refused(
            &proxy,
            &origin,
            "a name",
            &[base(), literal(format!("x{evil}a").as_bytes(), b"v")].concat(),
        );
        for at in 0..4 {
            let mut fields = get("/x");
            let text = format!("{}{evil}{}", fields[at].1, "tail");
            fields[at].1 = &text;
            refused(&proxy, &origin, fields[at].0, &block(&fields));
        }
    }
    for name in ["X-Upper", "x a", "x:a", "", "x(", "x\u{e9}", "x\x7f"] {
        refused(&proxy, &origin, name, &[base(), literal(name.as_bytes(), b"v")].concat());
    }
    // A fragment is cut off by the library that reads the URI: no endpoint sees any of it.
    for path in ["/a b", "/a HTTP/1.1", "x", "http://b.example/", "/\x7f"] {
        refused(&proxy, &origin, path, &block(&get(path)));
    }
    for authority in ["u@a.example", "a.example/x", "a b", "a,b", "a.example:99999", "[::1", ""] {
        let mut fields = get("/x");
        fields[2].1 = authority;
        refused(&proxy, &origin, authority, &block(&fields));
    }
    for method in ["GET ", "G\"T", "GET\tX", ""] {
        let mut fields = get("/x");
        fields[0].1 = method;
        refused(&proxy, &origin, method, &block(&fields));
    }
    lives(&proxy);
}

fn m11_pseudo_fields(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let all = get("/x");
    for missing in 0..4 {
        let left: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != missing).collect();
        let fields: Vec<_> = left.into_iter().map(|(_, field)| *field).collect();
        refused(&proxy, &origin, all[missing].0, &block(&fields));
    }
    for (what, fields) in [
        ("doubled", [&all[..], &[(":path", "/y")]].concat()),
        ("late", [&[("x-a", "1")][..], &all].concat()),
        ("unknown", [&all[..], &[(":strange", "1")]].concat()),
        ("an answer's", [&all[..], &[(":status", "200")]].concat()),
        ("a protocol without CONNECT", [&all[..], &[(":protocol", "websocket")]].concat()),
    ] {
        refused(&proxy, &origin, what, &block(&fields));
    }
    for path in ["", "*"] {
        refused(&proxy, &origin, "a path", &block(&get(path)));
    }
    lives(&proxy);
}

fn m12_cookies_and_many_fields(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let crumbs: Vec<String> = (0..90).map(|number| format!("c{number}={number}")).collect();
    let mut fields = get("/crumbs").to_vec();
    fields.extend(crumbs.iter().map(|crumb| ("cookie", crumb.as_str())));
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 200);
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.head.matches("ookie: ").count(), 1);
    assert_eq!(request.header("cookie"), Some(crumbs.join("; ").as_str()));
    // A thousand are put together, and are as long as they are.
    let crumbs: Vec<String> =
        (0..1000).map(|number| format!("crumb{number:04}=0123456789")).collect();
    let mut fields = get("/crumbs").to_vec();
    fields.extend(crumbs.iter().map(|crumb| ("cookie", crumb.as_str())));
    let before = origin.byte_count();
    let payload = block(&fields);
    let mut peer = Peer::connect(proxy.address);
    peer.send(frame(HEADERS, END_STREAM, 1, &payload[..16_000]));
    peer.send(frame(CONTINUATION, END_HEADERS, 1, &payload[16_000..]));
    let outcome = peer.outcome(1);
    assert!(
        outcome.status() == 431 || matches!(outcome, Outcome::Reset(_) | Outcome::Away(_)),
        "{outcome:?}"
    );
    let many: Vec<(String, String)> =
        (0..101).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let mut fields = get("/many").to_vec();
    fields.extend(many.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 431);
    // The connection is as good as before.
    assert_eq!(peer.ask(3, "/after").status(), 200);
    assert!(
        origin.byte_count() > before && origin.requests().iter().all(|one| one.path() != "/many")
    );
    lives(&proxy);
}

fn m13_connect(driver: Driver) {
    let origin = Origin::raw(|link| {
        let Some(request) = link.request() else { return };
        if request.header("upgrade").is_none() {
            return link.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n/lives");
        }
        assert!(request.header("sec-websocket-key").is_some(), "{}", request.head);
        link.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
        link.send("hello");
        // Whatever comes goes back.
        while link.more() {
            let rest = std::mem::take(&mut link.rest);
            link.send(&rest);
        }
    });
    let off = Proxy::before(driver, &origin);
    let plain = [(":method", "CONNECT"), (":authority", "a.example:443")];
    let extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ];
    for fields in [&plain[..], &[(":method", "CONNECT"), (":authority", "127.0.0.1:22")]] {
        refused(&off, &origin, "CONNECT", &block(fields));
    }
    // A tunnel only where the route allows it (RFC 8441).
    let on =
        Proxy::with(driver, &origin, "[[route]]\ncluster = \"app\"\nupgrade = [\"websocket\"]\n");
    let mut peer = Peer::connect(on.address);
    peer.headers(1, &extended, false);
    let mut seen = Vec::new();
    let mut status = String::new();
    peer.data(1, b"ping", false);
    while !seen.ends_with(b"ping") {
        let next = peer.frame().expect("an answer");
        match (next.kind, next.id) {
            (HEADERS, 1) => {
                let fields = next.fields;
                assert!(
                    !fields.iter().any(|(name, _)| name == "sec-websocket-accept"),
                    "{fields:?}"
                );
                status = fields[0].1.clone();
            }
            (DATA, 1) => seen.extend_from_slice(&next.payload),
            _ => {}
        }
    }
    assert_eq!((status.as_str(), seen.as_slice()), ("200", &b"helloping"[..]));
    peer.data(1, b"", true);
    assert!(matches!(peer.outcome(1), Outcome::Answer(_)), "the end of one way ends the other");
}

/// An endpoint that opens no tunnel: the client is told so, and the log says what the client was told.
fn m14_a_tunnel_that_is_none(driver: Driver) {
    let origin = Origin::echo();
    let log = crate::support::proxy::temporary("log");
    let mut proxy =
        Proxy::with(driver, &origin, &format!("[access_log]\npath = \"{}\"\n", log.display()));
    let mut peer = Peer::connect(proxy.address);
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/chat"),
    ];
    peer.headers(1, &fields, false);
    assert_eq!(peer.outcome(1).status(), 501);
    drop(peer);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("\"flag\":\"protocol_refused\""), "{text}");
    assert!(text.contains("\"status\":501"), "{text}");
    let _ = std::fs::remove_file(log);
}

/// A protocol that is none must not become a line of its own, nor a framing.
fn m13_protocols_that_end_lines(driver: Driver) {
    let origin = Origin::echo();
    let allowed = "[[route]]\ncluster = \"app\"\nupgrade = [\"websocket\", \"x\"]\n";
    let proxy = Proxy::with(driver, &origin, allowed);
    for protocol in ["x\r\nContent-Length: 1", "x\nA: b", "x y", "", "x\0"] {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/chat"),
        ];
        refused(&proxy, &origin, protocol, &block(&fields));
    }
    mark(&proxy);
}
