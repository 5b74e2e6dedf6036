//! Row R03: what one connection can make us hold is bounded, whatever the number of its streams and
//! a client that does not read.

use std::sync::Arc;

use super::crowd::{Gate, MIB, assert_held, held, origin, request, settled, streams};
use crate::Row;
use crate::support::h2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, Peer, SETTINGS, block, frame, get,
};
use crate::support::tls::{Authority, Flaw};
use crate::support::{Does, Driver, Origin, Proxy, cluster, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r03_streams_from_the_origin", r03_streams_from_the_origin),
        ("r03_streams_from_the_cache", r03_streams_from_the_cache),
        ("r03_streams_over_tls", r03_streams_over_tls),
        ("r03_heads_of_answers", r03_heads_of_answers),
        ("r03_heads_of_requests_in_the_queue", r03_heads_in_the_queue),
        ("r03_heads_of_requests_at_the_origin", r03_heads_at_the_origin),
        ("r03_slow_readers_of_http1", r03_slow_readers_of_http1),
        ("r03_slow_readers_over_tls", r03_slow_readers_over_tls),
        ("r03_what_is_held_back_comes_in_the_end", r03_comes_in_the_end),
        ("r03_shut_streams_do_not_starve_others", r03_shut_streams_do_not_starve_others),
    ]
}

/// Of one connection, in KiB: responses and heads of requests.
const RESPONSES: u64 = 512;
const HEADS: u64 = 256;
/// What a machine under load adds to all of it, in KiB.
const NOISE: u64 = 5 * 1024;

const STREAMS: u32 = 100;
const PEERS: usize = 4;
const CACHES: &str = "[[route]]\npath = \"/wait\"\ncluster = \"app\"\n[[route]]\ncluster = \"app\"\n\
                      cache = true\n";

fn r03_streams_from_the_origin(driver: Driver) {
    let gate = Gate::default();
    let origin = origin(&gate);
    let proxy = Proxy::before(driver, &origin);
    let (small, large) = (streams("/wait", STREAMS), streams("/large", STREAMS));
    let held = held(&proxy, None, PEERS, (&small, &large), || gate.open());
    assert_held("streams from the origin", held, PEERS, RESPONSES + HEADS, NOISE);
    mark(&proxy);
}

fn r03_streams_from_the_cache(driver: Driver) {
    let gate = Gate::default();
    let origin = origin(&gate);
    let proxy = Proxy::with(driver, &origin, CACHES);
    assert_eq!(proxy.get("/large").body.len(), MIB);
    until("it to be stored", || proxy.get("/large").header("age").is_some());
    let (small, large) = (streams("/wait", STREAMS), streams("/large", STREAMS));
    let held = held(&proxy, None, PEERS, (&small, &large), || gate.open());
    assert_held("streams from the cache", held, PEERS, RESPONSES + HEADS, NOISE);
    mark(&proxy);
}

/// A listener with TLS, beside more tables.
fn secure(driver: Driver, origin: &Origin, more: &str) -> (Proxy, Arc<rustls::ClientConfig>) {
    let authority = Authority::new();
    let pair = authority.pair(&["a.example"], Flaw::None);
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let listener = format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = \
         [{{ certificate = \"{certificate}\", key = \"{key}\" }}]\n{more}"
    );
    let proxy = Proxy::with(driver, origin, &listener);
    (proxy, Arc::new(authority.client(None)))
}

/// Sealing adds 192 KiB at most.
fn r03_streams_over_tls(driver: Driver) {
    let gate = Gate::default();
    let origin = origin(&gate);
    let (proxy, config) = secure(driver, &origin, "");
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (small, large) = (streams("/wait", STREAMS), streams("/large", STREAMS));
    let config = Some(Arc::new(config));
    let held = held(&proxy, config.as_ref(), PEERS, (&small, &large), || gate.open());
    assert_held("streams over TLS", held, PEERS, RESPONSES + HEADS + 192, NOISE);
}

/// Heads go out whatever the windows are: only the socket keeps them back.
fn r03_heads_of_answers(driver: Driver) {
    const COUNT: usize = 8;
    let gate = Gate::default();
    let passed = gate.clone();
    let origin = Origin::scripted(move |request, link| {
        match request.path() {
            "/heads" => {
                let line = format!("X-Long: {}\r\n", "x".repeat(7000));
                let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n";
                link.send(format!("{head}{}Content-Length: 0\r\n\r\n", line.repeat(5)));
            }
            "/wait" => passed.pass(),
            _ => {}
        }
        Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    until("it to be stored", || proxy.get("/heads").header("age").is_some());
    let (small, large) = (streams("/wait", STREAMS), streams("/heads", STREAMS));
    let held = held(&proxy, None, COUNT, (&small, &large), || gate.open());
    assert_held("heads of answers", held, COUNT, RESPONSES + HEADS, NOISE);
    mark(&proxy);
}

/// GETs whose heads are 28 KiB, of which the client sends 7 octets: HPACK remembers one field.
fn inflated(path: &str, count: u32) -> Vec<u8> {
    let mut says = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    // A literal that goes into the table, of 4000 octets: 127 + 0xa1 + 0x1e * 128.
    let mut entry = vec![0x40, 1, b'x', 127, 0xa1, 0x1e];
    entry.extend_from_slice(&[b'a'; 4000]);
    for number in 0..count {
        let first: &[u8] = if number == 0 { &entry } else { &[0x80 | 62] };
        let fields = [&block(&get(path)), first, &[0x80 | 62; 6]].concat();
        says.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &fields));
    }
    says
}

/// An endpoint takes one request at a time and does not answer it.
fn r03_heads_in_the_queue(driver: Driver) {
    const COUNT: usize = 8;
    let origin = origin(&Gate::default());
    let more = "max_connections = 1\nqueue = { max = 4000, timeout = \"60s\" }";
    let proxy = Proxy::run(driver, &cluster(&[origin.address], more), &[], None);
    let mut first = proxy.connect();
    first.send(request("/wait"));
    until("one to be served", || origin.connections() == 1);
    let (small, large) = (streams("/wait", STREAMS), inflated("/wait", STREAMS));
    let held = held(&proxy, None, COUNT, (&small, &large), || {});
    assert_held("heads in the queue", held, COUNT, HEADS, NOISE);
}

/// The origin has them and thinks.
fn r03_heads_at_the_origin(driver: Driver) {
    let origin = origin(&Gate::default());
    let proxy = Proxy::before(driver, &origin);
    let (small, large) = (streams("/wait", STREAMS), inflated("/wait", STREAMS));
    let held = held(&proxy, None, PEERS, (&small, &large), || {});
    assert_held("heads at the origin", held, PEERS, HEADS, NOISE);
    mark(&proxy);
}

/// 128 KiB each.
fn r03_slow_readers_of_http1(driver: Driver) {
    const COUNT: usize = 100;
    let gate = Gate::default();
    let origin = origin(&gate);
    let proxy = Proxy::before(driver, &origin);
    let said = (request("/wait"), request("/large"));
    let held = held(&proxy, None, COUNT, (&said.0, &said.1), || gate.open());
    assert_held("slow readers of HTTP/1", held, COUNT, 128, NOISE);
    mark(&proxy);
}

/// 192 KiB each.
fn r03_slow_readers_over_tls(driver: Driver) {
    const COUNT: usize = 100;
    let gate = Gate::default();
    let origin = origin(&gate);
    let (proxy, config) = secure(driver, &origin, "");
    let said = (request("/wait"), request("/large"));
    let held = held(&proxy, Some(&config), COUNT, (&said.0, &said.1), || gate.open());
    assert_held("slow readers over TLS", held, COUNT, 192, NOISE);
}

/// More streams than the share of a connection has room for, a client that begins late: all bodies
/// come whole. (Passes where there is no bound; it keeps the bound from losing or locking up anything.)
fn r03_comes_in_the_end(driver: Driver) {
    const COUNT: u32 = 40;
    let origin = origin(&Gate::default());
    let proxy = Proxy::with(driver, &origin, CACHES);
    let mut peer = Peer::of(std::net::TcpStream::connect(proxy.address).unwrap());
    peer.send(streams("/large", COUNT));
    settled(&proxy);
    let (mut got, mut ended) = (vec![0; COUNT as usize], 0);
    while ended < COUNT {
        let next = peer.frame().expect("a frame");
        if next.kind == DATA {
            got[next.id as usize / 2] += next.payload.len();
            ended += u32::from(next.flags & END_STREAM != 0);
        }
    }
    assert!(got.iter().all(|octets| *octets == MIB), "{got:?}");
}

/// Sixty answers whose windows are shut have taken what they can; the next one still gets through.
fn r03_shut_streams_do_not_starve_others(driver: Driver) {
    const COUNT: u32 = 60;
    let origin = origin(&Gate::default());
    for more in ["", CACHES] {
        let proxy = Proxy::with(driver, &origin, more);
        let mut peer = Peer::connect_with(proxy.address, &[(4, 1)]);
        peer.window(0, 0x4000_0000);
        for number in 0..COUNT {
            peer.headers(2 * number + 1, &get("/large"), true);
        }
        settled(&proxy);
        let id = 2 * COUNT + 1;
        peer.headers(id, &get("/large"), true);
        peer.window(id, 0x4000_0000);
        let answer = peer.outcome(id).answer();
        assert_eq!((answer.status, answer.body.len()), (200, MIB));
    }
}
