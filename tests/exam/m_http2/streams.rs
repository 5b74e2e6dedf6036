//! Rows M14 to M17: streams and connections, from their first frame to their end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{CALM, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED, flood, lives, odd};
use crate::Row;
use crate::support::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Outcome, PING, Peer, RST_STREAM,
    WINDOW_UPDATE, block, frame, get, post,
};
use crate::support::{Does, Driver, Origin, PATIENCE, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("m14_stream_ids", m14_stream_ids),
        ("m14_too_many_before_it_could_know", m14_too_many_before_it_could_know),
        ("m15_faults_are_in_the_log", m15_faults_are_in_the_log),
        ("m16_data_behind_a_reset", m16_data_behind_a_reset),
        ("m17_goaway_at_reload", m17_goaway_at_reload),
    ]
}

/// What is no HTTP/2, and what is too much of it, leaves a line in the log, and a word at the end.
fn m15_faults_are_in_the_log(driver: Driver) {
    let origin = Origin::echo();
    let log = crate::support::proxy::temporary("log");
    let more = format!("[access_log]\npath = \"{}\"\n", log.display());
    let mut proxy = Proxy::with(driver, &origin, &more);
    faulty(&proxy, "an even id", PROTOCOL_ERROR, &[frame(HEADERS, 5, 2, &block(&get("/x")))]);
    // A stream's fault, on a connection that goes on.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &[&post("/short")[..], &[("content-length", "1")]].concat(), false);
    peer.data(1, b"more", true);
    assert_eq!(peer.outcome(1), Outcome::Reset(PROTOCOL_ERROR));
    assert_eq!(peer.ask(3, "/good").status(), 200);
    let (end, _) = flood(&proxy, 5000, |peer, _| peer.send(frame(PING, 0, 0, &[0; 8])));
    assert_eq!(end, Some(CALM));
    drop(peer);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let text = std::fs::read_to_string(&log).unwrap();
    let flags: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["flag"].as_str().unwrap_or("none").to_owned())
        .collect();
    for (flag, times) in [("http2", 2), ("http2_abuse", 1), ("none", 1)] {
        assert_eq!(flags.iter().filter(|one| *one == flag).count(), times, "{flag}: {text}");
    }
    let said = proxy.log();
    assert!(said.contains("2 faults in the HTTP/2 of clients"), "{said}");
    assert!(said.contains("1 HTTP/2 connections told to calm down"), "{said}");
    let _ = std::fs::remove_file(log);
}

/// These frames are a fault with this code.
fn faulty(proxy: &Proxy, what: &str, code: u32, frames: &[Vec<u8>]) {
    let mut peer = Peer::connect(proxy.address);
    for one in frames {
        peer.send(one);
    }
    // An answer to something earlier may come first.
    for _ in 0..4 {
        let outcome = peer.outcome_within(1, Duration::from_secs(3));
        match outcome {
            Outcome::Reset(found) | Outcome::Away(found) => {
                return assert_eq!(found, code, "{what}");
            }
            Outcome::Answer(_) => {}
            Outcome::Closed | Outcome::Silence => panic!("{what}: {outcome:?}"),
        }
    }
    panic!("{what}: it is answered");
}

fn m14_stream_ids(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let ask = |id: u32| frame(HEADERS, END_HEADERS | END_STREAM, id, &block(&get("/x")));
    let open = |id: u32| frame(HEADERS, END_HEADERS, id, &block(&post("/x")));
    faulty(&proxy, "an even id", PROTOCOL_ERROR, &[ask(2)]);
    faulty(&proxy, "id 0", PROTOCOL_ERROR, &[ask(0)]);
    faulty(&proxy, "a smaller id", PROTOCOL_ERROR, &[ask(5), ask(3)]);
    faulty(&proxy, "data on an idle stream", PROTOCOL_ERROR, &[frame(DATA, END_STREAM, 7, b"x")]);
    faulty(
        &proxy,
        "a reset of an idle stream",
        PROTOCOL_ERROR,
        &[frame(RST_STREAM, 0, 7, &[0; 4])],
    );
    faulty(
        &proxy,
        "a window of an idle stream",
        PROTOCOL_ERROR,
        &[frame(WINDOW_UPDATE, 0, 7, &[0, 0, 0, 1])],
    );
    faulty(
        &proxy,
        "data behind the end",
        STREAM_CLOSED,
        &[ask(1), frame(DATA, END_STREAM, 1, b"x")],
    );
    faulty(&proxy, "a head behind the end", STREAM_CLOSED, &[ask(1), ask(1)]);
    // More streams at once than are allowed are refused, and nothing else happens to them.
    let mut peer = Peer::connect(proxy.address);
    for number in 0..105 {
        peer.send(open(odd(number)));
    }
    assert_eq!(peer.outcome(odd(104)), Outcome::Reset(REFUSED_STREAM));
    peer.data(1, b"", true);
    assert_eq!(peer.outcome(1).status(), 200);
    lives(&proxy);
}

/// A client that has not heard yet how many streams it may have sends more, with all that belongs to them:
/// they are refused, and that is all.
fn m14_too_many_before_it_could_know(driver: Driver) {
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let shared = Arc::clone(&gate);
    let origin = Origin::scripted(move |_, _| {
        let mut is_open = shared.0.lock().unwrap();
        while !*is_open {
            is_open = shared.1.wait(is_open).unwrap();
        }
        Does::Keep
    });
    let log = crate::support::proxy::temporary("log");
    let more = format!("[access_log]\npath = \"{}\"\n[http2]\nstreams = 10\n", log.display());
    let mut proxy = Proxy::with(driver, &origin, &more);
    let mut peer = Peer::connect(proxy.address);
    let count = 400;
    for number in 0..count {
        let head = frame(HEADERS, END_HEADERS, odd(number), &block(&post("/held")));
        let data = frame(DATA, 0, odd(number), b"some");
        peer.send([head, data.clone(), data].concat());
    }
    for number in 10..count {
        assert_eq!(peer.outcome(odd(number)), Outcome::Reset(REFUSED_STREAM), "{number}");
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for number in 0..10 {
        peer.data(odd(number), b"end", true);
        assert_eq!(peer.outcome(odd(number)).status(), 200, "{number}");
    }
    drop(peer);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(!text.contains("\"http2\""), "{text}");
    let _ = std::fs::remove_file(log);
}

fn m16_data_behind_a_reset(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    let mut all = frame(HEADERS, END_HEADERS, 1, &block(&post("/reset")));
    all.extend_from_slice(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    all.extend_from_slice(&frame(DATA, END_STREAM, 1, b"late"));
    peer.send(all);
    // A closed stream's data is dropped, or ends the connection; no endpoint gets it as a body.
    let _ = peer.ask(3, "/after");
    assert!(origin.requests().iter().all(|one| one.path() != "/reset" || !one.is_complete));
    assert!(!origin.requests().iter().any(|one| one.body == b"late"));
    lives(&proxy);
}

fn m17_goaway_at_reload(driver: Driver) {
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let shared = Arc::clone(&gate);
    let origin = Origin::scripted(move |request, _| {
        if request.path().starts_with("/held") {
            let mut is_open = shared.0.lock().unwrap();
            while !*is_open {
                is_open = shared.1.wait(is_open).unwrap();
            }
        }
        Does::Keep
    });
    let text = cluster(&[origin.address], "");
    let proxy = Proxy::run(driver, &text, &[], None);
    let mut peer = Peer::connect(proxy.address);
    for number in 0..99 {
        peer.headers(odd(number), &get("/held"), true);
    }
    until("all to be asked", || origin.requests().len() == 99);
    proxy.reload(&text);
    // The connection is told to end, and what was begun goes on: whatever was sent before the client
    // could know.
    let (last, code) = away(&mut peer);
    assert_eq!((last, code), (0x7fff_ffff, 0));
    peer.headers(199, &get("/held/early"), true);
    let ping = loop {
        let next = peer.frame().expect("a PING");
        if next.kind == PING {
            break next;
        }
    };
    peer.send(frame(PING, ACK, 0, &ping.payload));
    let (last, code) = away(&mut peer);
    assert_eq!((last, code), (199, 0));
    // What comes now is for another connection.
    peer.headers(201, &get("/late"), true);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for number in 0..100 {
        assert_eq!(peer.outcome(odd(number)).status(), 200, "{number}");
    }
    assert_eq!(peer.outcome_within(201, PATIENCE), Outcome::Closed);
    assert!(!origin.requests().iter().any(|one| one.path() == "/late"), "it was done");
    assert_eq!(Peer::connect(proxy.address).ask(1, "/late").answer().body, b"/late");
    lives(&proxy);
}

/// The last stream and the code of the next GOAWAY.
fn away(peer: &mut Peer) -> (u32, u32) {
    loop {
        let next = peer.frame().expect("a GOAWAY");
        if next.kind == GOAWAY {
            let number =
                |at: usize| u32::from_be_bytes(next.payload[at..at + 4].try_into().unwrap());
            return (number(0), number(4));
        }
    }
}
