//! Row R27: a request of which an endpoint says that nothing was done is sent again, with its body: as long
//! as that is still whole in our buffer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{field, h2_origin, h2_proxy};
use crate::Row;
use crate::support::h2::{DATA, END_STREAM, GOAWAY, HEADERS, Peer, frame, post};
use crate::support::{Driver, Origin};

pub fn rows() -> Vec<Row> {
    vec![
        ("r27_a_refused_post_with_a_body", r27_a_refused_post_with_a_body),
        ("r27_a_post_below_a_goaway", r27_a_post_below_a_goaway),
        ("r27_a_refused_call_of_grpc", r27_a_refused_call_of_grpc),
        ("r27_a_body_that_fills_the_buffer", r27_a_body_that_fills_the_buffer),
        ("r27_a_body_that_is_too_large_is_not_cut", r27_a_body_that_is_too_large),
        ("r27_what_may_have_been_done_is_not_repeated", r27_what_may_have_been_done),
    ]
}

const REFUSED_STREAM: u32 = 7;

/// Bodies that came whole, with their path.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Refuses the first try of each path, by the way that it names: `/refused`, `/away` or `/broken`; at the
/// head, or (`/late`) when the body has ended. Answers the next ones with their bodies.
fn refusing() -> (Origin, Seen) {
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    let tries = Mutex::new(HashMap::<String, usize>::new());
    let open = Mutex::new(HashMap::<(usize, u32), (String, Vec<u8>, bool)>::new());
    let origin = h2_origin(move |number, next, peer| {
        let key = (number, next.id);
        let mut open = open.lock().unwrap();
        if next.kind == HEADERS {
            let path = field(&next.fields, ":path").unwrap().to_owned();
            let mut tries = tries.lock().unwrap();
            let count = tries.entry(path.clone()).or_default();
            *count += 1;
            let is_refused = *count == 1 && path != "/first";
            open.insert(key, (path, Vec::new(), is_refused));
        }
        if next.kind == DATA && !next.payload.is_empty() {
            peer.window(0, next.payload.len() as u32);
            // A second try may have all of a body that is larger than a window.
            if next.flags & END_STREAM == 0 {
                peer.window(next.id, next.payload.len() as u32);
            }
        }
        let Some((path, body, is_refused)) = open.get_mut(&key) else { return };
        if next.kind == DATA {
            body.extend_from_slice(&next.payload);
        }
        let is_end = matches!(next.kind, HEADERS | DATA) && next.flags & END_STREAM != 0;
        let is_due = if path.contains("late") { is_end } else { next.kind == HEADERS };
        if *is_refused && is_due {
            refuse(path, next.id, peer);
            open.remove(&key);
        } else if is_end {
            shared.lock().unwrap().push((path.clone(), body.clone()));
            peer.headers(
                next.id,
                &[(":status", "200"), ("content-type", "application/grpc")],
                false,
            );
            let body = std::mem::take(body);
            // No more than its window takes.
            for part in body.chunks(16_384).take(3) {
                peer.data(next.id, part, false);
            }
            peer.headers(next.id, &[("grpc-status", "0")], true);
        }
    });
    (origin, seen)
}

fn refuse(path: &str, id: u32, peer: &mut Peer) {
    if path.starts_with("/away") {
        let last = id.saturating_sub(2).to_be_bytes();
        peer.send(frame(GOAWAY, 0, 0, &[&last[..], &[0; 4]].concat()));
    } else {
        let code = if path.starts_with("/broken") { 2 } else { REFUSED_STREAM };
        peer.reset(id, code);
    }
}

/// POSTs a body over HTTP/1, with a length and in chunks, and over HTTP/2.
fn posts(driver: Driver, paths: [&str; 4], body: &[u8]) {
    let (origin, seen) = refusing();
    let proxy = h2_proxy(driver, &origin, "");
    assert_eq!(proxy.get("/first").status, 200);
    let len = body.len();
    for (path, framing) in [
        (paths[0], format!("Content-Length: {len}\r\n\r\n")),
        (paths[1], format!("Transfer-Encoding: chunked\r\n\r\n{len:x}\r\n")),
    ] {
        let mut client = proxy.connect();
        let end: &[u8] = if framing.starts_with('T') { b"\r\n0\r\n\r\n" } else { b"" };
        let head = format!("POST {path} HTTP/1.1\r\nHost: a.example\r\n{framing}");
        client.send([head.as_bytes(), body, end].concat());
        let reply = client.reply();
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert!(reply.body == body, "{path}: {} octets came back", reply.body.len());
    }
    let mut peer = Peer::connect(proxy.address);
    for (id, path) in [(1, paths[2]), (3, paths[3])] {
        peer.window(0, 1 << 20);
        peer.headers(id, &post(path), false);
        let parts: Vec<&[u8]> = body.chunks(16_000).collect();
        for (at, part) in parts.iter().enumerate() {
            peer.data(id, part, at + 1 == parts.len());
        }
        let answer = peer.outcome(id).answer();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == body, "{path}: {} octets came back", answer.body.len());
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 5, "each was done once");
}

fn r27_a_refused_post_with_a_body(driver: Driver) {
    posts(driver, ["/refused/1", "/refused/2", "/refused/3", "/refused/4"], &[b'x'; 200]);
    posts(driver, ["/late/1", "/late/2", "/late/3", "/late/4"], &[b'x'; 200]);
}

fn r27_a_post_below_a_goaway(driver: Driver) {
    posts(driver, ["/away/1", "/away/2", "/away/3", "/away/4"], &[b'x'; 200]);
    posts(driver, ["/away/late/1", "/away/late/2", "/away/late/3", "/away/late/4"], &[b'x'; 200]);
}

/// A unary call: five octets and a message, and trailers behind the answer.
fn r27_a_refused_call_of_grpc(driver: Driver) {
    let (origin, seen) = refusing();
    let proxy = h2_proxy(driver, &origin, "");
    let mut peer = Peer::connect(proxy.address);
    let message = [&[0, 0, 0, 0, 195][..], &[b'm'; 195]].concat();
    for (id, path) in
        [(1, "/refused.Service/Call"), (3, "/away.Service/Call"), (5, "/late.Service/Call")]
    {
        let more = [("content-type", "application/grpc"), ("te", "trailers")];
        peer.headers(id, &[&post(path)[..], &more].concat(), false);
        peer.data(id, &message, true);
        let answer = peer.outcome(id).answer();
        assert_eq!(
            field(&answer.trailers, "grpc-status"),
            Some("0"),
            "{path}: {:?}",
            answer.fields
        );
        assert_eq!(answer.body, message);
    }
    assert_eq!(seen.lock().unwrap().len(), 3);
}

/// 48 KiB: three of the pieces that come in one read.
fn r27_a_body_that_fills_the_buffer(driver: Driver) {
    let body: Vec<u8> = (0..48 * 1024_u32).map(|at| b'a' + (at % 23) as u8).collect();
    posts(driver, ["/late/1", "/late/2", "/late/3", "/late/4"], &body);
}

/// A guard that a mend must not break: beyond 64 KiB there is an error, or all of it; never a part.
fn r27_a_body_that_is_too_large(driver: Driver) {
    let (origin, seen) = refusing();
    let proxy = h2_proxy(driver, &origin, "");
    let body: Vec<u8> = (0..300 * 1024_u32).map(|at| b'a' + (at % 23) as u8).collect();
    let mut client = proxy.connect();
    let head = format!(
        "POST /refused HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(head);
    client.try_send(&body);
    let reply = client.reply();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(_, one)| *one == body), "a part of it was done");
    assert!(reply.status >= 500 || (reply.status == 200 && seen.len() == 1), "{}", reply.head);
}

/// A guard that a mend must not break: only what says that nothing was done is repeated.
fn r27_what_may_have_been_done(driver: Driver) {
    let (origin, seen) = refusing();
    let proxy = h2_proxy(driver, &origin, "");
    let mut client = proxy.connect();
    client.send("POST /broken/late HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.reply().status, 502);
    assert!(seen.lock().unwrap().is_empty(), "it was done twice");
}
