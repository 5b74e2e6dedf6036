//! Row R21: an upload that is answered before its end. Clients (curl 7.88) lose an answer whose stream is
//! reset while they still send; so what they send is read and dropped for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::field;
use crate::Row;
use crate::support::h2::{
    ACK, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame, post,
};
use crate::support::{Driver, Link, Origin, Proxy, mark};

pub fn rows() -> Vec<Row> {
    vec![
        ("r21_an_early_answer_arrives_before_a_reset", r21_an_early_answer_arrives),
        ("r21_our_own_early_answer_arrives_before_a_reset", r21_our_own_early_answer),
        ("r21_a_client_that_ends_first_is_not_reset", r21_a_client_that_ends_first),
        ("r21_a_client_that_never_ends_is_reset", r21_a_client_that_never_ends),
        ("r21_what_is_dropped_gives_its_window_back", r21_gives_its_window_back),
    ]
}

const SIZE: usize = 30_000_000;

/// An upload on one stream, as far as the windows go.
struct Upload<'a> {
    peer: &'a mut Peer,
    id: u32,
    /// What may be sent: on the connection, and on the stream.
    windows: (usize, usize),
    sent: usize,
    size: usize,
    status: u16,
    length: Option<usize>,
    body: Vec<u8>,
    answered: Option<Instant>,
    /// When, and with which code.
    reset: Option<(Instant, u32)>,
}

impl<'a> Upload<'a> {
    fn begin(peer: &'a mut Peer, id: u32, path: &str) -> Self {
        let size = SIZE.to_string();
        peer.headers(id, &[&post(path)[..], &[("content-length", &size)]].concat(), false);
        Self::on(peer, id, SIZE)
    }

    /// An upload that has begun, of so many octets.
    fn on(peer: &'a mut Peer, id: u32, size: usize) -> Self {
        Self {
            size,
            peer,
            id,
            windows: (65_535, 65_535),
            sent: 0,
            status: 0,
            length: None,
            body: Vec::new(),
            answered: None,
            reset: None,
        }
    }

    /// Sends as much as it may, and reads frames, until this holds; `false` after `most`.
    fn until(&mut self, most: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let begun = Instant::now();
        self.peer.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while !holds(self) {
            if begun.elapsed() > most {
                return false;
            }
            self.send();
            if let Some(next) = self.peer.frame() {
                self.take(&next);
            } else {
                assert!(self.peer.end != Some(Ok(())), "the connection ended");
            }
        }
        true
    }

    fn send(&mut self) {
        while self.reset.is_none() && self.sent < self.size {
            let len = 16_384.min(self.windows.0).min(self.windows.1).min(self.size - self.sent);
            if len == 0 {
                return;
            }
            self.peer.data(self.id, &vec![b'x'; len], false);
            self.windows = (self.windows.0 - len, self.windows.1 - len);
            self.sent += len;
        }
    }

    fn take(&mut self, next: &Frame) {
        let number = || u32::from_be_bytes(next.payload[..4].try_into().unwrap()) as usize;
        match (next.kind, next.id) {
            (SETTINGS, _) if next.flags & ACK == 0 => {
                self.peer.send(frame(SETTINGS, ACK, 0, b""));
            }
            (PING, _) if next.flags & ACK == 0 => {
                self.peer.send(frame(PING, ACK, 0, &next.payload));
            }
            (WINDOW_UPDATE, 0) => self.windows.0 += number(),
            (WINDOW_UPDATE, id) if id == self.id => self.windows.1 += number(),
            (HEADERS, id) if id == self.id => {
                self.status = field(&next.fields, ":status").unwrap().parse().unwrap();
                self.length = field(&next.fields, "content-length").map(|one| one.parse().unwrap());
            }
            (DATA, id) if id == self.id => self.body.extend_from_slice(&next.payload),
            (RST_STREAM, id) if id == self.id => {
                self.reset = Some((Instant::now(), number() as u32))
            }
            _ => {}
        }
        if matches!(next.kind, HEADERS | DATA) && next.id == self.id && next.flags & END_STREAM != 0
        {
            self.answered = Some(Instant::now());
        }
    }

    /// How long after its answer it was reset; it must have been whole by then.
    fn reset_after(&mut self) -> Duration {
        let most = Duration::from_secs(8);
        assert!(self.until(most, |one| one.answered.is_some() || one.reset.is_some()), "no answer");
        let answered = self.answered.expect("the answer is whole before anything is reset");
        assert!(self.until(most, |one| one.reset.is_some()), "never reset, and never at its end");
        let (reset, code) = self.reset.unwrap();
        assert_eq!(code, 0, "NO_ERROR: the answer is good");
        assert!(self.length.is_none_or(|length| length == self.body.len()), "half a body");
        reset - answered
    }
}

const BODY: &str = "too large, or not for you; and this is why";

/// Answers at the head of an upload; `end` says how the connection goes on.
fn early(status: &'static str, is_chunked: bool, end: fn(&mut Link)) -> Origin {
    Origin::raw(move |link| {
        while let Some(request) = link.head() {
            let path = request.path().to_owned();
            if !path.starts_with("/up") {
                let len = path.len();
                link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{path}"));
                continue;
            }
            let len = BODY.len();
            let rest = if is_chunked {
                format!("Transfer-Encoding: chunked\r\n\r\n{len:x}\r\n{BODY}\r\n0\r\n\r\n")
            } else {
                format!("Content-Length: {len}\r\n\r\n{BODY}")
            };
            link.send(format!("HTTP/1.1 {status} No\r\nConnection: close\r\n{rest}"));
            return end(link);
        }
    })
}

/// Reads on until the proxy ends it, as a polite server does.
fn linger(link: &mut Link) {
    let _ = link.stream.shutdown(std::net::Shutdown::Write);
    while link.more() {
        link.rest.clear();
    }
}

/// Closes with octets unread: a reset follows.
fn slam(_: &mut Link) {}

fn r21_an_early_answer_arrives(driver: Driver) {
    for (status, code, is_chunked, end) in [
        ("413", 413, false, linger as fn(&mut Link)),
        ("403", 403, true, linger),
        ("413", 413, true, slam),
        ("200", 200, false, slam),
    ] {
        let origin = early(status, is_chunked, end);
        let proxy = Proxy::before(driver, &origin);
        let mut longest = Duration::ZERO;
        for _ in 0..3 {
            let mut peer = Peer::connect(proxy.address);
            let mut upload = Upload::begin(&mut peer, 1, "/up");
            longest = longest.max(upload.reset_after());
            assert_eq!((upload.status, upload.body.as_slice()), (code, BODY.as_bytes()));
            // The connection is as good as new.
            assert_eq!(peer.ask(3, "/after").answer().body, b"/after");
        }
        // Measured at the client, where a pause can make it shorter: the longest of three counts.
        assert!(longest >= Duration::from_millis(200), "{status}: reset after {longest:?}");
    }
}

/// An answer of the proxy's own: too large for the route, no route, a fixed one.
fn r21_our_own_early_answer(driver: Driver) {
    let origin = Origin::echo();
    let more = "[[route]]\nhost = \"*\"\npath = \"/large\"\ncluster = \"app\"\nlimits = { body = \"1KiB\" }\n\
                [[route]]\npath = \"/fixed\"\nrespond = { status = 403, body = \"no\" }\n";
    let proxy = Proxy::with(driver, &origin, more);
    for (path, status) in [("/large", 413), ("/fixed", 403), ("/none", 404)] {
        let mut longest = Duration::ZERO;
        for _ in 0..3 {
            let mut peer = Peer::connect(proxy.address);
            let mut upload = Upload::begin(&mut peer, 1, path);
            longest = longest.max(upload.reset_after());
            assert_eq!(upload.status, status, "{path}");
            assert!(!upload.body.is_empty());
        }
        assert!(longest >= Duration::from_millis(200), "{path}: reset after {longest:?}");
    }
    assert!(!origin.requests().iter().any(|one| one.is_complete));
}

fn r21_a_client_that_ends_first(driver: Driver) {
    let origin = early("413", false, linger);
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/up"), false);
    peer.data(1, &[b'x'; 16_000], false);
    let mut statuses = HashMap::new();
    let mut resets = HashMap::new();
    // The client has its answer, and ends its side well; a request after that is answered.
    for (id, path) in [(1, "/up"), (3, "/after")] {
        if id == 3 {
            peer.data(1, &[b'x'; 1000], false);
            peer.data(1, b"", true);
            peer.headers(3, &crate::support::h2::get(path), true);
        }
        while let Some(next) = peer.frame() {
            assert!(next.kind != GOAWAY, "the connection was ended: {next:?}");
            if next.kind == HEADERS {
                statuses.insert(next.id, field(&next.fields, ":status").unwrap().to_owned());
            }
            if next.kind == RST_STREAM {
                resets.insert(next.id, next.payload.clone());
            }
            if next.id == id && next.flags & END_STREAM != 0 && matches!(next.kind, HEADERS | DATA)
            {
                break;
            }
        }
    }
    assert_eq!((statuses[&1].as_str(), statuses[&3].as_str()), ("413", "200"));
    assert!(resets.is_empty(), "the client was through, and was reset: {resets:?}");
}

/// What is dropped has an end: a client that goes on for ever is told to stop.
fn r21_a_client_that_never_ends(driver: Driver) {
    let origin = early("413", false, linger);
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/up"), false);
    let mut upload = Upload::on(&mut peer, 1, usize::MAX);
    let after = upload.reset_after();
    assert!(after < Duration::from_secs(6), "{after:?}");
    mark(&proxy);
}

/// Two megaoctets that are not wanted, on a connection that may owe one.
fn r21_gives_its_window_back(driver: Driver) {
    let origin = early("413", false, linger);
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    for number in 0..32 {
        let id = 2 * number + 1;
        peer.headers(id, &post("/up"), false);
        for _ in 0..3 {
            peer.data(id, &[b'x'; 16_384], false);
        }
        peer.data(id, &[b'x'; 16_000], true);
        assert_eq!(peer.outcome(id).status(), 413, "{number}");
    }
    let id = 65;
    peer.headers(id, &post("/other"), false);
    peer.data(id, b"", true);
    assert_eq!(peer.outcome(id).answer().body, b"/other");
}
