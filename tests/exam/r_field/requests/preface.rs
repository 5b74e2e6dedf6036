//! Row R31: the PROXY header that is missing, or that says that the client came by TLS.

use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::h2::{self, Peer, get};
use crate::support::{Driver, End, Origin, Proxy};

pub fn rows() -> Vec<Row> {
    vec![
        ("r31_plain_http_from_a_trusted_peer", r31_plain_http_from_a_trusted_peer),
        ("r31_what_is_no_header", r31_what_is_no_header),
        ("r31_a_listener_of_octets", r31_a_listener_of_octets),
        ("r31_a_client_that_came_by_tls", r31_a_client_that_came_by_tls),
    ]
}

const LISTENER: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
                        trusted_proxies = [\"127.0.0.0/8\"]\n";

const GET: &str = "GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Lines with the flag. Each connection has one, and each is counted when the proxy ends.
fn is_told(mut proxy: Proxy, log: &Log, count: usize) {
    crate::support::until("its lines", || log.lines().len() >= count);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let lines = log.lines();
    assert_eq!(lines.len(), count, "{}", log.text());
    for line in lines {
        assert_eq!(
            (&line["flag"], &line["client"]),
            (&"proxy_protocol".into(), &"127.0.0.1".into())
        );
    }
    let said = proxy.log();
    let is_counted = |line: &str| line.contains("PROXY") && line.contains(&count.to_string());
    assert!(said.lines().any(is_counted), "{count} are not counted: {said}");
}

fn r31_plain_http_from_a_trusted_peer(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &format!("{LISTENER}{}", log.table()));
    for _ in 0..3 {
        let mut client = proxy.connect();
        client.send(GET);
        assert_ne!(client.read_to_end().1, End::Open);
    }
    assert!(origin.requests().is_empty());
    is_told(proxy, &log, 3);
}

fn r31_what_is_no_header(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let more = format!("{LISTENER}{}[timeouts]\nhead = \"500ms\"\n", log.table());
    let proxy = Proxy::with(driver, &origin, &more);
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let malformed: [&[u8]; 5] = [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\nGET / HTTP/1.1\r\n\r\n",
        &[&signature[..], &[0x31, 0x11, 0, 12]].concat(),
        // Half of one, and then silence.
        b"PROXY TCP4 1.2.3.4",
        &signature[..],
        h2::PREFACE,
    ];
    for bytes in malformed {
        let mut client = proxy.connect();
        client.send(bytes);
        assert_ne!(client.read_to_end().1, End::Open, "{}", bytes.escape_ascii());
    }
    // A balancer's check connects, and says nothing: no fault.
    for _ in 0..3 {
        let client = proxy.connect();
        client.half_close();
        drop(client);
    }
    is_told(proxy, &log, malformed.len());
}

fn r31_a_listener_of_octets(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let more =
        LISTENER.to_owned() + "mode = \"tcp\"\n[[route]]\nlistener = \"web\"\ncluster = \"app\"\n";
    let proxy = Proxy::with(driver, &origin, &format!("{more}{}", log.table()));
    let mut client = proxy.connect();
    client.send(GET);
    assert_ne!(client.read_to_end().1, End::Open);
    is_told(proxy, &log, 1);
}

/// A header of version 2 with these TLVs.
fn header(tlvs: &[u8]) -> Vec<u8> {
    let len = 12 + tlvs.len() as u16;
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0, 80]);
    out.extend_from_slice(tlvs);
    out
}

/// PP2_TYPE_SSL: how the client came by TLS, and TLVs in it (proxy-protocol.txt section 2.2.6).
fn ssl(client: u8) -> Vec<u8> {
    let version = [0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3'];
    let mut out = vec![0x20, 0, 5 + version.len() as u8, client, 0, 0, 0, 0];
    out.extend_from_slice(&version);
    out
}

fn r31_a_client_that_came_by_tls(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, LISTENER);
    let other = [0x02, 0, 3, b'a', b'.', b'b'];
    for (tlvs, proto) in [
        (ssl(1), "https"),
        (ssl(7), "https"),
        ([&other[..], &ssl(1)].concat(), "https"),
        (ssl(0), "http"),
        (other.to_vec(), "http"),
        (Vec::new(), "http"),
    ] {
        let mut client = proxy.connect();
        client.send([&header(&tlvs)[..], GET.as_bytes()].concat());
        assert_eq!(client.reply().status, 200, "{tlvs:?}");
        let request = origin.last();
        assert_eq!(request.header("x-forwarded-for"), Some("1.2.3.4"));
        assert_eq!(request.header("x-forwarded-proto"), Some(proto), "{tlvs:?}: {}", request.head);
        let forwarded = request.header("forwarded").unwrap();
        assert!(forwarded.ends_with(&format!("proto={proto}")), "{forwarded}");
        // The same over HTTP/2, which begins behind the header.
        let mut client = proxy.connect();
        client.send(header(&tlvs));
        client.send(h2::PREFACE);
        let mut peer = Peer::of(client.stream);
        peer.settings(&[]);
        peer.headers(1, &get("/h2"), true);
        assert_eq!(peer.outcome(1).status(), 200);
        assert_eq!(origin.last().header("x-forwarded-proto"), Some(proto));
    }
}
