//! Row R20, a client that ends its side: it may still want its answer, for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Holding, soon};
use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::tls::{Authority, Flaw, TlsClient};
use crate::support::{Does, Driver, End, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r20_an_end_while_the_origin_thinks", r20_an_end_while_the_origin_thinks),
        ("r20_an_end_while_a_stream_is_silent", r20_an_end_while_a_stream_is_silent),
        ("r20_an_end_over_tls", r20_an_end_over_tls),
        ("r20_an_answer_that_flows_reaches_a_half_closed_client", r20_an_answer_that_flows),
        ("r20_a_late_answer_within_half_closed", r20_a_late_answer_within_half_closed),
        ("r20_pipelined_requests_before_an_end", r20_pipelined_requests_before_an_end),
    ]
}

/// Far below `first_byte` and `body_idle`, far above a second.
const IN_TIME: Duration = Duration::from_secs(6);

fn r20_an_end_while_the_origin_thinks(driver: Driver) {
    let (held, log) = (Holding::new(), Log::new());
    let text = cluster(&[held.origin.address], "passive = { failures = 1 }") + &log.table();
    let proxy = Proxy::run(driver, &text, &[], None);
    for (path, more) in [
        ("/held/get", "\r\n"),
        ("/held/post", "Content-Length: 3\r\n\r\nabc"),
        ("/held/chunked", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let mut client = proxy.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a.example\r\n{more}"));
        until("the origin to be asked", || held.is_asked(path));
        let begun = Instant::now();
        client.half_close();
        soon(&format!("the origin of {path} is told"), IN_TIME, || held.is_told(path));
        assert!(begun.elapsed() > Duration::from_millis(500), "{path}: {:?}", begun.elapsed());
        assert_eq!(log.line("target", path)["flag"], "client_gone", "{}", log.text());
    }
    assert!(!proxy.log().contains("is put out"), "{}", proxy.log());
}

fn r20_an_end_while_a_stream_is_silent(driver: Driver) {
    let (held, log) = (Holding::new(), Log::new());
    let proxy = Proxy::with(driver, &held.origin, &log.table());
    for path in ["/sse/close", "/sse/chunked"] {
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        client.half_close();
        soon(&format!("the origin of {path} is told"), IN_TIME, || held.is_told(path));
        assert_eq!(log.line("target", path)["flag"], "client_gone", "{}", log.text());
        // The client that still reads cannot take this for the stream's own end.
        let (_, end) = client.read_to_end();
        assert_ne!(end, End::Open);
    }
}

fn r20_an_end_over_tls(driver: Driver) {
    let (held, authority) = (Holding::new(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let more = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [{{ certificate = \
         \"{}\", key = \"{}\" }}]\n",
        pair.certificate.display(),
        pair.key.display()
    );
    let proxy = Proxy::with(driver, &held.origin, &more);
    let config = Arc::new(authority.client(None));
    let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    client.send("GET /held/tls HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    until("the origin to be asked", || held.is_asked("/held/tls"));
    client.tls.send_close_notify();
    client.flush().unwrap();
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    soon("the origin is told", IN_TIME, || held.is_told("/held/tls"));
}

/// An origin that answers after `before`, then a piece each 400 ms, six of them.
fn slow(before: Duration) -> Origin {
    Origin::scripted(move |_, link| {
        std::thread::park_timeout(before);
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n");
        for _ in 0..6 {
            std::thread::park_timeout(Duration::from_millis(400));
            link.send("part");
        }
        Does::Keep
    })
}

/// A guard that a mend must not break: silence counts, not how long the answer takes.
fn r20_an_answer_that_flows(driver: Driver) {
    let origin = slow(Duration::from_millis(200));
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    client.half_close();
    let reply = client.reply();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"part".repeat(6)[..]));
    assert!(reply.is_complete);
    assert_eq!(client.read_to_end().1, End::Fin);
}

/// `timeouts.half_closed` is new: this does not start before it is there.
fn r20_a_late_answer_within_half_closed(driver: Driver) {
    let origin = slow(Duration::from_millis(2500));
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nhalf_closed = \"30s\"\n");
    let mut client = proxy.connect();
    client.send("GET /late HTTP/1.1\r\nHost: a.example\r\n\r\n");
    client.half_close();
    assert_eq!(client.reply().body, b"part".repeat(6));
}

/// A guard that a mend must not break: `printf … | nc` sends several requests and ends its side.
fn r20_pipelined_requests_before_an_end(driver: Driver) {
    let origin = Origin::scripted(|_, _| {
        std::thread::park_timeout(Duration::from_millis(400));
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    for number in 0..5 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    }
    client.half_close();
    for number in 0..5 {
        assert_eq!(client.reply().body, format!("/{number}").as_bytes());
    }
    assert_eq!(client.read_to_end().1, End::Fin);
}
