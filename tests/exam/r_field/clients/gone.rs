//! Row R20, a client that resets its connection: the origin is told at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{Holding, h2_origin, h2_proxy, soon};
use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::h2::{HEADERS, RST_STREAM};
use crate::support::tls::{Authority, Flaw, TlsClient};
use crate::support::{Client, Driver, Proxy, cluster, mark, reset, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r20_a_reset_while_the_origin_thinks", r20_a_reset_while_the_origin_thinks),
        ("r20_a_reset_while_a_stream_is_silent", r20_a_reset_while_a_stream_is_silent),
        ("r20_a_reset_over_tls", r20_a_reset_over_tls),
        ("r20_a_reset_and_an_origin_of_http2", r20_a_reset_and_an_origin_of_http2),
        ("r20_a_reset_on_a_cached_route", r20_a_reset_on_a_cached_route),
        ("r20_followers_of_a_client_that_left", r20_followers_of_a_client_that_left),
        ("r20_a_client_that_left_gives_its_place_back", r20_gives_its_place_back),
        ("r20_a_client_that_resets_in_the_queue", r20_a_client_that_resets_in_the_queue),
        ("r20_a_client_that_ends_in_the_queue", r20_a_client_that_ends_in_the_queue),
    ]
}

/// "At once", on a machine that is shared.
const AT_ONCE: Duration = Duration::from_secs(3);

/// One failure would put an endpoint out.
const TOUCHY: &str = "passive = { failures = 1 }";

pub fn leave(client: Client) {
    reset(&client.stream);
    drop(client);
}

/// The line of this path says that its client has gone, and the endpoint is not blamed.
fn is_noted(log: &Log, proxy: &Proxy, path: &str) {
    assert_eq!(log.line("target", path)["flag"], "client_gone", "{}", log.text());
    assert!(!proxy.log().contains("is put out"), "{}", proxy.log());
}

/// Requests of all framings, with a path of their own, all of them complete.
const ASKS: &[(&str, &str)] = &[
    ("/held/get", "GET /held/get HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ("/held/head", "HEAD /held/head HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ("/held/10", "GET /held/10 HTTP/1.0\r\nHost: a.example\r\n\r\n"),
    ("/held/post", "POST /held/post HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc"),
    (
        "/held/chunked",
        "POST /held/chunked HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    // More requests wait behind this one, unread.
    (
        "/held/pipelined",
        "GET /held/pipelined HTTP/1.1\r\nHost: a.example\r\n\r\nGET /next HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ),
];

fn r20_a_reset_while_the_origin_thinks(driver: Driver) {
    let (held, log) = (Holding::new(), Log::new());
    let text = cluster(&[held.origin.address], TOUCHY) + &log.table();
    let proxy = Proxy::run(driver, &text, &[], None);
    for (path, request) in ASKS {
        let mut client = proxy.connect();
        client.send(request);
        until("the origin to be asked", || held.is_asked(path));
        leave(client);
        soon(&format!("the origin of {path} is told"), AT_ONCE, || held.is_told(path));
        is_noted(&log, &proxy, path);
    }
    mark(&proxy);
}

fn r20_a_reset_while_a_stream_is_silent(driver: Driver) {
    let (held, log) = (Holding::new(), Log::new());
    let text = cluster(&[held.origin.address], TOUCHY) + &log.table();
    let proxy = Proxy::run(driver, &text, &[], None);
    for path in ["/sse/close", "/sse/chunked"] {
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        leave(client);
        soon(&format!("the origin of {path} is told"), AT_ONCE, || held.is_told(path));
        is_noted(&log, &proxy, path);
    }
}

fn r20_a_reset_over_tls(driver: Driver) {
    let (held, log, authority) = (Holding::new(), Log::new(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let more = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [{{ certificate = \
         \"{}\", key = \"{}\" }}]\n{}",
        pair.certificate.display(),
        pair.key.display(),
        log.table()
    );
    let proxy = Proxy::with(driver, &held.origin, &more);
    let config = Arc::new(authority.client(None));
    for path in ["/held/tls", "/sse/chunked/tls"] {
        let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")).unwrap();
        until("the origin to be asked", || held.is_asked(path));
        reset(&client.socket);
        drop(client);
        soon(&format!("the origin of {path} is told"), AT_ONCE, || held.is_told(path));
        is_noted(&log, &proxy, path);
    }
}

fn r20_a_reset_and_an_origin_of_http2(driver: Driver) {
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let shared = Arc::clone(&counts);
    let origin = h2_origin(move |_, next, _| match next.kind {
        HEADERS => drop(shared.0.fetch_add(1, SeqCst)),
        RST_STREAM => drop(shared.1.fetch_add(1, SeqCst)),
        _ => {}
    });
    let proxy = h2_proxy(driver, &origin, "");
    let mut client = proxy.connect();
    client.send("GET /held HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("the origin to be asked", || counts.0.load(SeqCst) == 1);
    leave(client);
    soon("the stream is reset", AT_ONCE, || counts.1.load(SeqCst) == 1);
}

const CACHED: &str = "[[route]]\ncluster = \"app\"\ncache = true\n";

fn r20_a_reset_on_a_cached_route(driver: Driver) {
    let (held, log) = (Holding::new(), Log::new());
    let proxy = Proxy::with(driver, &held.origin, &format!("{CACHED}{}", log.table()));
    let mut client = proxy.connect();
    client.send("GET /held/cached HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("the origin to be asked", || held.is_asked("/held/cached"));
    leave(client);
    soon("the origin is told", AT_ONCE, || held.is_told("/held/cached"));
    is_noted(&log, &proxy, "/held/cached");
}

/// A guard that a mend must not break: a client that waits for the same fetch is served all the same.
fn r20_followers_of_a_client_that_left(driver: Driver) {
    let held = Holding::new();
    let proxy = Proxy::with(driver, &held.origin, CACHED);
    let request = "GET /gate/shared HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut first = proxy.connect();
    first.send(request);
    until("the origin to be asked", || held.is_asked("/gate/shared"));
    let mut second = proxy.connect();
    second.send(request);
    // The one core has answered this one: it has seen the second client's request by then.
    assert_eq!(proxy.get("/other").body, b"/other");
    leave(first);
    assert_eq!(proxy.get("/another").body, b"/another");
    held.open();
    assert_eq!(second.reply().body, b"/gate/shared");
}

fn r20_gives_its_place_back(driver: Driver) {
    let held = Holding::new();
    let bounds = "max_connections = 1\nqueue = { max = 4, timeout = \"9s\" }";
    let proxy = Proxy::run(driver, &cluster(&[held.origin.address], bounds), &[], None);
    let mut client = proxy.connect();
    client.send("GET /held/only HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("the origin to be asked", || held.is_asked("/held/only"));
    leave(client);
    let begun = Instant::now();
    let reply = proxy.get("/next");
    assert_eq!(reply.body, b"/next", "{}", reply.text());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

fn r20_a_client_that_resets_in_the_queue(driver: Driver) {
    leaves_the_queue(driver, leave);
}

fn r20_a_client_that_ends_in_the_queue(driver: Driver) {
    leaves_the_queue(driver, drop);
}

/// The queue has room for one: when its client has left, another one may wait there.
fn leaves_the_queue(driver: Driver, go: impl Fn(Client)) {
    let (held, log) = (Holding::new(), Log::new());
    let bounds = "max_connections = 1\nqueue = { max = 1, timeout = \"9s\" }";
    let text = cluster(&[held.origin.address], bounds) + &log.table();
    let proxy = Proxy::run(driver, &text, &[], None);
    let ask = |path: &str| {
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        client
    };
    let mut first = ask("/gate/first");
    until("the origin to be asked", || held.is_asked("/gate/first"));
    // Of two, one waits and one is turned away, whichever comes first.
    let (mut one, mut other) = (ask("/gate/waits"), ask("/gate/waits"));
    let mut waits = None;
    until("the queue to be full", || {
        if one.reply().status == 503 {
            waits = Some(true);
        } else if other.reply().status == 503 {
            waits = Some(false);
        }
        waits.is_some()
    });
    go(if waits == Some(true) { other } else { one });
    let mut last = None;
    soon("the place in the queue is free", AT_ONCE, || {
        let mut client = ask("/gate/last");
        last = (client.reply().status == 0).then_some(client);
        last.is_some()
    });
    until("its line", || log.lines().iter().any(|line| line["flag"] == "client_gone"));
    held.open();
    for client in [&mut first, last.as_mut().unwrap()] {
        client.stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        assert_eq!(client.reply().status, 200);
    }
    assert!(!held.is_asked("/gate/waits"), "the origin was asked for a client that had left");
}
