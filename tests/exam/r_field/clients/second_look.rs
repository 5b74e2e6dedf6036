//! What a second look at the code has found: shortages of streams, starts that fail, bodies that are not taken, ends
//! that could be taken for the end.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{field, h2_origin, h2_origin_with, h2_proxy};
use crate::Row;
use crate::support::client::End;
use crate::support::h2::{DATA, END_STREAM, GOAWAY, HEADERS, Peer, frame};
use crate::support::{Does, Driver, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r09_streams_that_run_out_blame_no_endpoint", r09_streams_that_run_out),
        ("r27_a_goaway_where_a_request_waits", r27_a_goaway_where_a_request_waits),
        ("r27_a_start_of_http2_that_fails", r27_a_start_that_fails),
        ("r27_a_retry_in_the_middle_of_a_chunk", r27_a_retry_in_the_middle_of_a_chunk),
        ("r27_trailers_of_a_body_that_is_sent_again", r27_trailers),
        ("r34_an_upload_that_is_not_taken", r34_an_upload_that_is_not_taken),
        ("r22_half_a_body_is_no_whole_one", r22_half_a_body),
    ]
}

const OK: &[(&str, &str)] = &[(":status", "200")];
const REFUSED_STREAM: u32 = 7;
/// Connections of HTTP/2 to an endpoint, of one core.
const CONNECTIONS: usize = 16;

/// Streams that wait for their answers.
type Held = Arc<Mutex<Vec<(Peer, u32)>>>;

/// An origin that takes one stream a connection. It holds what is asked for `/hold` until the test has it answered.
fn holding() -> (Origin, Held) {
    let held = Held::default();
    let shared = Arc::clone(&held);
    let origin = h2_origin_with(&[(3, 1)], move |_, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        if field(&next.fields, ":path") == Some("/hold") {
            let twin = Peer::of(peer.stream.try_clone().unwrap());
            shared.lock().unwrap().push((twin, next.id));
        } else {
            peer.headers(next.id, OK, false);
            peer.data(next.id, b"ok", true);
        }
    });
    (origin, held)
}

fn release(held: &Mutex<Vec<(Peer, u32)>>) {
    for (peer, id) in &mut *held.lock().unwrap() {
        peer.headers(*id, OK, false);
        peer.data(*id, b"held", true);
    }
}

fn r09_streams_that_run_out(driver: Driver) {
    let (origin, held) = holding();
    let proxy = h2_proxy(driver, &origin, "[timeouts]\nconnect = \"300ms\"\n");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| proxy.get("/hold"))).collect();
        until("all streams to be taken", || held.lock().unwrap().len() == CONNECTIONS);
        let reply = proxy.get("/more");
        assert_eq!(reply.status, 503, "{}", reply.text());
        release(&held);
        for one in asked {
            assert_eq!(one.join().unwrap().body, b"held");
        }
    });
    // The endpoint did nothing wrong: it is asked at once.
    let reply = proxy.get("/after");
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]), "{}", reply.text());
}

fn r27_a_goaway_where_a_request_waits(driver: Driver) {
    let (origin, held) = holding();
    let proxy = h2_proxy(driver, &origin, "");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| proxy.get("/hold"))).collect();
        until("all streams to be taken", || held.lock().unwrap().len() == CONNECTIONS);
        let mut waiting = proxy.connect();
        waiting.send("GET /waits HTTP/1.1\r\nHost: a.example\r\n\r\n");
        // Nothing can be seen of a request that waits: one that comes later finds new connections all the same.
        std::thread::park_timeout(Duration::from_millis(200));
        for (peer, id) in &mut *held.lock().unwrap() {
            peer.send(frame(GOAWAY, 0, 0, &[&id.to_be_bytes()[..], &[0; 4]].concat()));
        }
        let reply = waiting.reply();
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]), "{}", reply.text());
        release(&held);
        for one in asked {
            assert_eq!(one.join().unwrap().body, b"held");
        }
    });
}

/// Nothing of a request was sent: whatever it is, another endpoint gets it.
fn r27_a_start_that_fails(driver: Driver) {
    let closing = Origin::raw(|link| {
        link.more();
    });
    let good = h2_origin(|_, next, peer| {
        if next.kind == HEADERS {
            peer.headers(next.id, OK, false);
            peer.data(next.id, b"ok", true);
        }
    });
    let addresses = [closing.address, good.address];
    let proxy = Proxy::run(driver, &cluster(&addresses, "protocol = \"http2\""), &[], None);
    for at in 0..6 {
        let mut client = proxy.connect();
        client.send("POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nab");
        let reply = client.reply();
        assert_eq!(reply.status, 200, "{at}: {}", reply.text());
    }
}

/// The connection is lost when half a chunk's size has come: what is sent again is the whole.
fn r27_a_retry_in_the_middle_of_a_chunk(driver: Driver) {
    let bodies = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let shared = Arc::clone(&bodies);
    let origin = Origin::raw(move |link| {
        while let Some(head) = link.head() {
            if head.path() == "/first" {
                link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            } else if link.number == 0 {
                // The pooled connection ends before anything of the body has come.
                return;
            } else {
                while crate::support::client::find(&link.rest, b"0\r\n\r\n").is_none()
                    && link.more()
                {}
                shared.lock().unwrap().push(link.rest.clone());
                link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                return;
            }
        }
    });
    let proxy = Proxy::before(driver, &origin);
    assert_eq!(proxy.get("/first").status, 200);
    let mut client = proxy.connect();
    client.send("PUT /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1");
    until("the pooled connection to be lost", || origin.bytes()[0].ends_with(b"\r\n\r\n"));
    std::thread::park_timeout(Duration::from_millis(100));
    client.try_send("0\r\n0123456789abcdef\r\n0\r\n\r\n");
    let reply = client.reply();
    let bodies = bodies.lock().unwrap();
    let is_whole =
        |body: &Vec<u8>| crate::support::client::find(body, b"0123456789abcdef").is_some();
    assert!(bodies.iter().all(is_whole), "{bodies:?}");
    assert_eq!((reply.status, bodies.len()), (200, 1), "{}", reply.text());
}

fn r27_trailers(driver: Driver) {
    let seen = Arc::<Mutex<Vec<(Vec<u8>, bool)>>>::default();
    let shared = Arc::clone(&seen);
    let tries = AtomicUsize::new(0);
    // Takes nothing of a body at first.
    let body = Mutex::new(Vec::new());
    let origin = h2_origin_with(&[(4, 0)], move |_, next, peer| match next.kind {
        HEADERS if !next.fields.iter().any(|(name, _)| name == ":path") => {
            let has_sum = field(&next.fields, "x-sum") == Some("5");
            shared.lock().unwrap().push((std::mem::take(&mut *body.lock().unwrap()), has_sum));
            peer.headers(next.id, OK, true);
        }
        HEADERS if tries.fetch_add(1, SeqCst) == 0 => {
            peer.reset(next.id, REFUSED_STREAM);
        }
        HEADERS => {
            peer.window(next.id, 1000);
        }
        DATA => {
            body.lock().unwrap().extend_from_slice(&next.payload);
            if next.flags & END_STREAM != 0 {
                let whole = std::mem::take(&mut *body.lock().unwrap());
                shared.lock().unwrap().push((whole, false));
                peer.headers(next.id, OK, true);
            }
        }
        _ => {}
    });
    let proxy = h2_proxy(driver, &origin, "");
    let mut client = proxy.connect();
    client.send(
        "POST /x HTTP/1.1\r\nHost: a.example\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
         x-sum: 5\r\n\r\n",
    );
    let reply = client.reply();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(*seen.lock().unwrap(), [(b"hello".to_vec(), true)]);
}

/// The window stays shut and no answer comes: that has an end.
fn r34_an_upload_that_is_not_taken(driver: Driver) {
    let origin = h2_origin(|_, _, _| {});
    let times = "[timeouts]\nbody_idle = \"400ms\"\nfirst_byte = \"600ms\"\n";
    let proxy = h2_proxy(driver, &origin, times);
    for len in [1 << 20, 100_000] {
        let mut client = proxy.connect();
        client
            .send(format!("POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: {len}\r\n\r\n"));
        client.try_send(vec![b'x'; len]);
        let begun = Instant::now();
        let reply = client.reply();
        assert_eq!(reply.status, 504, "{}", reply.text());
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

/// A client of HTTP/1.0 that has ended its side still reads: what ends early must not look like the end.
fn r22_half_a_body(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        while link.more() {}
        Does::Close
    });
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send("GET /x HTTP/1.0\r\n\r\n");
    client.half_close();
    let (bytes, end) = client.read_to_end();
    assert!(bytes.ends_with(b"half") || end == End::Reset, "{}", bytes.escape_ascii());
    assert_eq!(end, End::Reset, "half a body ended like a whole one");
}
