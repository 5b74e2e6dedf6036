//! Rows R22 to R24: what clients of HTTP/2 and of TLS may say, and what an origin makes of it.

use std::sync::Arc;

use super::{field, h2_origin, h2_proxy};
use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::h2::{END_STREAM, HEADERS, Outcome, Peer, get};
use crate::support::tls::{Authority, Flaw, TlsClient};
use crate::support::{Driver, Origin, Proxy, mark};

pub fn rows() -> Vec<Row> {
    vec![
        ("r22_a_protocol_that_the_route_does_not_allow", r22_a_protocol_that_is_not_allowed),
        ("r22_a_protocol_and_a_cached_answer", r22_a_protocol_and_a_cached_answer),
        ("r22_a_protocol_and_an_origin_of_http2", r22_a_protocol_and_an_origin_of_http2),
        ("r23_alpn_of_http10_alone", r23_alpn_of_http10_alone),
        ("r24_no_body_has_a_length_of_nothing", r24_no_body_has_a_length),
        ("r24_no_length_and_no_body_over_http1", r24_no_length_over_http1),
        ("r24_a_trailers_only_answer_has_no_length", r24_a_trailers_only_answer),
    ]
}

/// Asks for a tunnel (RFC 8441).
fn tunnel(peer: &mut Peer, id: u32, protocol: &str, path: &str) -> Outcome {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", path),
    ];
    peer.headers(id, &fields, false);
    peer.outcome(id)
}

fn r22_a_protocol_that_is_not_allowed(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let more = "[[route]]\ncluster = \"app\"\n[[route]]\npath = \"/none\"\ncluster = \"app\"\nupgrade = []\n\
                [[route]]\npath = \"/other\"\ncluster = \"app\"\nupgrade = [\"other\"]\n\
                [[route]]\npath = \"/fixed\"\nrespond = { status = 404, body = \"x\" }\n";
    let proxy = Proxy::with(driver, &origin, &format!("{more}{}", log.table()));
    let mut peer = Peer::connect(proxy.address);
    for (at, (protocol, path)) in [
        ("foo", "/x"),
        ("h2c", "/h2c"),
        ("connect-udp", "/.well-known/masque/udp/a/1/"),
        ("websocket", "/none"),
        ("websocket", "/other"),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = tunnel(&mut peer, 2 * at as u32 + 1, protocol, path);
        assert_eq!(outcome.status(), 501, "{protocol} at {path}: {outcome:?}");
        let asked = origin.requests();
        assert!(asked.is_empty(), "{protocol} at {path}: forwarded as {}", asked[0].head);
        assert_eq!(log.line("target", path)["status"], 501, "{}", log.text());
    }
    // Whatever is not passed on at all is answered as it is.
    assert_eq!(tunnel(&mut peer, 21, "foo", "/fixed").status(), 404);
    assert_eq!(peer.ask(23, "/after").answer().body, b"/after");
}

/// What is stored for a GET is no answer to a tunnel.
fn r22_a_protocol_and_a_cached_answer(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send(
            "HTTP/1.1 404 Not Found\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nnone",
        );
        crate::support::Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, "[[route]]\ncluster = \"app\"\ncache = true\n");
    assert_eq!(proxy.get("/stored").status, 404);
    let mut peer = Peer::connect(proxy.address);
    assert_eq!(tunnel(&mut peer, 1, "foo", "/stored").status(), 501);
    assert_eq!(tunnel(&mut peer, 3, "foo", "/not/stored").status(), 501);
    assert_eq!(origin.requests().len(), 1);
}

fn r22_a_protocol_and_an_origin_of_http2(driver: Driver) {
    let origin = h2_origin(|_, next, peer| {
        if next.kind == HEADERS {
            peer.headers(next.id, &[(":status", "404")], true);
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    let mut peer = Peer::connect(proxy.address);
    assert_eq!(tunnel(&mut peer, 1, "foo", "/x").status(), 501);
    assert_eq!(origin.connections(), 0, "the origin was asked");
}

fn r23_alpn_of_http10_alone(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let listener = |name: &str, alpn: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n[listener.tls]\nalpn = {alpn}\ncertificates = [{{ \
             certificate = \"{}\", key = \"{}\" }}]\n",
            pair.certificate.display(),
            pair.key.display()
        )
    };
    let more = listener("one", "[\"h2\", \"http/1.1\"]")
        + &listener("two", "[\"http/1.1\"]")
        + &listener("three", "[\"h2\"]");
    let proxy = Proxy::with(driver, &origin, &more);
    let ask = |at: usize, names: &[&str], version: &str| {
        let mut config = authority.client(None);
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let config = Arc::new(config);
        let mut client = TlsClient::connect(proxy.addresses()[at], "a.example", &config)?;
        let chosen = client.tls.alpn_protocol().map(<[u8]>::to_vec);
        assert!(chosen.is_none_or(|chosen| names.iter().any(|name| name.as_bytes() == chosen)));
        client.send(format!("GET /alpn HTTP/{version}\r\nHost: a.example\r\n\r\n"))?;
        client.reply().map(|reply| (reply.status, reply.body))
    };
    let good = (200, b"/alpn".to_vec());
    for at in 0..2 {
        for names in [&["http/1.0"][..], &["http/0.9", "http/1.0"], &["http/1.0", "http/1.1"]] {
            for version in ["1.0", "1.1"] {
                let found = ask(at, names, version);
                assert_eq!(found.expect("a handshake"), good, "{names:?} at listener {at}");
            }
        }
        // What is no version of ours is still refused (RFC 7301 section 3.2).
        assert!(ask(at, &["spdy/3"], "1.1").is_err());
    }
    assert!(ask(2, &["http/1.0"], "1.0").is_err(), "this listener offers HTTP/2 alone");
    mark(&Proxy::before(driver, &origin));
}

fn r24_no_body_has_a_length(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    for (at, (method, length)) in [
        ("POST", Some("0")),
        ("PUT", Some("0")),
        ("PATCH", Some("0")),
        ("GET", None),
        ("HEAD", None),
        ("DELETE", None),
        ("OPTIONS", None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut fields = get("/empty");
        fields[0].1 = method;
        let id = 2 * at as u32 + 1;
        peer.headers(id, &fields, true);
        assert_eq!(peer.outcome(id).status(), 200, "{method}");
        let request = origin.last();
        assert!(request.head.starts_with(method), "{}", request.head);
        assert_eq!(request.header("content-length"), length, "{}", request.head);
        assert_eq!(request.header("transfer-encoding"), None, "{}", request.head);
    }
}

/// Not the row, but its sibling: RFC 9110 section 8.6 asks for the field in any version, and servers that
/// answer 411 do not ask which it was.
fn r24_no_length_over_http1(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for method in ["POST", "PUT", "PATCH"] {
        let mut client = proxy.connect();
        client.send(format!("{method} /empty HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert_eq!(client.reply().status, 200);
        let request = origin.last();
        assert_eq!(request.header("content-length"), Some("0"), "{}", request.head);
    }
}

fn r24_a_trailers_only_answer(driver: Driver) {
    let origin = h2_origin(|_, next, peer| {
        if next.kind == HEADERS {
            let fields = &[
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", "12"),
                ("grpc-message", "there is none"),
            ];
            peer.headers(next.id, fields, true);
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    let mut peer = Peer::connect(proxy.address);
    for (id, more) in [(1, &[("te", "trailers")][..]), (3, &[])] {
        let mut fields = get("/pkg.Service/Method").to_vec();
        fields[0].1 = "POST";
        fields.push(("content-type", "application/grpc"));
        fields.extend_from_slice(more);
        peer.headers(id, &fields, false);
        peer.data(id, &[0, 0, 0, 0, 0], true);
        let head = loop {
            let next = peer.frame().expect("an answer");
            if (next.kind, next.id) == (HEADERS, id) {
                break next;
            }
        };
        assert_eq!(field(&head.fields, "grpc-status"), Some("12"));
        assert_eq!(field(&head.fields, "content-length"), None, "{:?}", head.fields);
        // Only so is it one: the head is the end.
        assert!(head.flags & END_STREAM != 0);
    }
}
