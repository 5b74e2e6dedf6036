//! Row R34: event streams and calls of gRPC may be silent for `timeouts.stream_idle`, which has nothing to
//! do with `body_idle`.

use std::time::Duration;

use super::{field, h2_origin, h2_proxy};
use crate::Row;
use crate::support::h2::{HEADERS, Outcome, Peer, get, post};
use crate::support::{Does, Driver, Origin, Proxy, Reply};

pub fn rows() -> Vec<Row> {
    vec![
        ("r34_a_silent_event_stream", r34_a_silent_event_stream),
        ("r34_a_silent_event_stream_over_http2", r34_a_silent_event_stream_over_http2),
        ("r34_a_silent_event_stream_of_an_http2_origin", r34_of_an_http2_origin),
        ("r34_a_silent_call_of_grpc", r34_a_silent_call_of_grpc),
        ("r34_streams_have_an_end_too", r34_streams_have_an_end_too),
        ("r34_calls_have_an_end_too", r34_calls_have_an_end_too),
        ("r34_other_bodies_are_cut_as_before", r34_other_bodies_are_cut_as_before),
    ]
}

const SHORT: &str = "[timeouts]\nbody_idle = \"300ms\"\n";

/// Longer than a body may be silent, however late the sweep comes.
const SILENCE: Duration = Duration::from_millis(1800);

/// Says a word, is silent, and says another. The path is what it says that it is.
fn talks() -> Origin {
    Origin::scripted(|request, link| {
        let kind = match request.path() {
            "/plain" => "text/plain",
            "/json" => "application/json",
            "/parameter" => "text/event-stream; charset=utf-8",
            "/case" => "Text/Event-Stream",
            _ => "text/event-stream",
        };
        let is_length = request.path() == "/length";
        let cached = if request.path() == "/stored" { "Cache-Control: max-age=60\r\n" } else { "" };
        let (framing, first, second) = if is_length {
            ("Content-Length: 8\r\n", "one\n", "two\n")
        } else {
            ("Transfer-Encoding: chunked\r\n", "4\r\none\n\r\n", "4\r\ntwo\n\r\n0\r\n\r\n")
        };
        link.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{cached}{framing}\r\n{first}"
        ));
        std::thread::park_timeout(SILENCE);
        link.send(second);
        Does::Keep
    })
}

fn r34_a_silent_event_stream(driver: Driver) {
    let origin = talks();
    let cached = |path| format!("[[route]]\npath = \"{path}\"\ncluster = \"app\"\ncache = true\n");
    let routes =
        format!("[[route]]\ncluster = \"app\"\n{}{}", cached("/cached"), cached("/stored"));
    let proxy = Proxy::with(driver, &origin, &format!("{routes}{SHORT}"));
    let paths = ["/stream", "/parameter", "/case", "/length", "/cached", "/stored"];
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let asked: Vec<_> = paths
            .map(|path| {
                let proxy = &proxy;
                scope.spawn(move || proxy.get(path))
            })
            .into();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (path, reply) in paths.iter().zip(replies) {
        assert!(reply.is_complete, "{path} was cut off: {}", reply.text());
        assert_eq!(reply.body, b"one\ntwo\n", "{path}");
    }
}

fn r34_a_silent_event_stream_over_http2(driver: Driver) {
    let origin = talks();
    let proxy = Proxy::with(driver, &origin, SHORT);
    let mut peer = Peer::connect(proxy.address);
    assert_eq!(peer.ask(1, "/stream").answer().body, b"one\ntwo\n");
}

fn r34_of_an_http2_origin(driver: Driver) {
    let origin = h2_origin(|_, next, peer| {
        if next.kind == HEADERS {
            let kind = ("content-type", "text/event-stream");
            peer.headers(next.id, &[(":status", "200"), kind], false);
            peer.data(next.id, b"one\n", false);
            std::thread::park_timeout(SILENCE);
            peer.data(next.id, b"two\n", true);
        }
    });
    let proxy = h2_proxy(driver, &origin, SHORT);
    assert_eq!(proxy.get("/stream").body, b"one\ntwo\n");
}

/// Answers a call at once, after a silence, or never.
fn calls() -> Origin {
    h2_origin(|_, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let path = field(&next.fields, ":path").unwrap();
        if path == "/s/Never" {
            return;
        }
        if path == "/s/Late" {
            std::thread::park_timeout(SILENCE);
        }
        let kind = ("content-type", "application/grpc");
        peer.headers(next.id, &[(":status", "200"), kind], false);
        peer.data(next.id, &[0, 0, 0, 0, 0], false);
        if path == "/s/Watch" {
            std::thread::park_timeout(SILENCE);
        }
        if path != "/s/Mute" {
            peer.headers(next.id, &[("grpc-status", "0")], true);
        }
    })
}

fn call(peer: &mut Peer, id: u32, path: &str) -> Outcome {
    let more = [("content-type", "application/grpc"), ("te", "trailers")];
    peer.headers(id, &[&post(path)[..], &more].concat(), false);
    peer.data(id, &[0, 0, 0, 0, 0], true);
    peer.outcome_within(id, Duration::from_secs(6))
}

/// What bounds them is their own: neither `body_idle` nor `first_byte`, nor what a tunnel may be silent for.
fn r34_a_silent_call_of_grpc(driver: Driver) {
    let origin = calls();
    let short = format!("{SHORT}first_byte = \"300ms\"\ntunnel_idle = \"300ms\"\n");
    let proxy = h2_proxy(driver, &origin, &short);
    let mut peer = Peer::connect(proxy.address);
    for (id, path) in [(1, "/s/Watch"), (3, "/s/Late")] {
        let outcome = call(&mut peer, id, path);
        let Outcome::Answer(answer) = outcome else { panic!("{path}: {outcome:?}") };
        assert_eq!(field(&answer.trailers, "grpc-status"), Some("0"), "{path}: {answer:?}");
    }
}

/// `timeouts.stream_idle` is new: this does not start before it is there.
fn r34_streams_have_an_end_too(driver: Driver) {
    let origin = talks();
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nstream_idle = \"300ms\"\n");
    let reply = proxy.get("/stream");
    assert_eq!(
        (reply.status, reply.is_complete, reply.body.as_slice()),
        (200, false, &b"one\n"[..])
    );
    // It is no bound for others.
    assert!(proxy.get("/plain").is_complete);
    // A route may set it for itself.
    let routes = "[[route]]\ncluster = \"app\"\ntimeouts = { stream_idle = \"300ms\" }\n";
    assert!(!Proxy::with(driver, &origin, routes).get("/stream").is_complete);
}

/// `timeouts.stream_idle` is new: this does not start before it is there.
fn r34_calls_have_an_end_too(driver: Driver) {
    let origin = calls();
    let proxy = h2_proxy(driver, &origin, "[timeouts]\nstream_idle = \"300ms\"\n");
    let mut peer = Peer::connect(proxy.address);
    for (id, path) in [(1, "/s/Mute"), (3, "/s/Never")] {
        let outcome = call(&mut peer, id, path);
        let is_good = matches!(&outcome, Outcome::Answer(answer)
            if field(&answer.trailers, "grpc-status") == Some("0"));
        assert!(!is_good && outcome != Outcome::Silence, "{path}: {outcome:?}");
    }
    peer.headers(5, &get("/s/Other"), true);
    assert_eq!(peer.outcome(5).status(), 200);
}

/// A guard that a mend must not break.
fn r34_other_bodies_are_cut_as_before(driver: Driver) {
    let origin = talks();
    let proxy = Proxy::with(driver, &origin, SHORT);
    for path in ["/plain", "/json"] {
        let reply = proxy.get(path);
        assert!(!reply.is_complete, "{path}: {}", reply.text());
    }
}
