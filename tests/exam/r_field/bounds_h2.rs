//! Rows R05, R08 and R09: resets are counted whatever stands between them, an upload that stalls
//! stalls no other, and is not held against the endpoint. R03 is in `r_held.rs`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::crowd::set;
use crate::Row;
use crate::support::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, Peer, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, get, post,
};
use crate::support::{Does, Driver, Ends, Link, Origin, Proxy, cluster, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r05_resets_between_answers_of_ours", r05_answers_of_ours),
        ("r05_resets_between_hits", r05_hits),
        ("r05_resets_between_refusals", r05_refusals),
        ("r05_resets_that_we_are_made_to_send", r05_made_to_send),
        ("r05_giving_up_now_and_then", r05_giving_up_now_and_then),
        ("r08_uploads_that_the_origin_does_not_read", r08_not_read),
        ("r08_uploads_that_wait_for_their_turn", r08_waiting),
        ("r08_uploads_to_a_shut_window", r08_shut_window),
        ("r09_uploads_that_stall", r09_uploads_that_stall),
        ("r09_uploads_that_stall_over_http2", r09_over_http2),
    ]
}

const CALM: u32 = 11;

// === R05 ===

/// Most requests that may reach the origin before the client is told to calm down.
const PASSED: usize = 500;

/// Requests that are under way at a time before the first of them is reset.
const UNDER_WAY: u32 = 30;
/// Pairs of requests that are sent at most.
const PAIRS: u32 = 10_000;

/// One cheap request and one that the origin thinks about until it is reset, over and over: how the
/// connection ended, and how many of the latter the origin saw. Given up when those are too many.
fn alternate(driver: Driver, cheap: &[(&str, &str)], reset: &[u8]) -> (Option<u32>, usize) {
    let passed = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&passed);
    let origin = Origin::scripted(move |request, link| {
        if request.path() == "/reset" {
            shared.fetch_add(1, SeqCst);
            link.more();
            return Does::Close;
        }
        link.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 0\r\n\r\n");
        Does::Keep
    });
    let body = "x".repeat(2000);
    let more = format!(
        "[[route]]\npath = \"=/own\"\nrespond = {{ status = 200, body = \"{body}\" }}\n[[route]]\n\
         path = \"=/hit\"\ncluster = \"app\"\ncache = true\n[[route]]\ncluster = \"app\"\n"
    );
    let proxy = Proxy::with(driver, &origin, &more);
    until("it to be stored", || proxy.get("/hit").header("age").is_some());
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut peer = Peer::of(stream.try_clone().unwrap());
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    let end = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _ends = Ends(&is_over);
            read_on(&mut peer, &answered)
        });
        for number in 0..PAIRS {
            let (one, other) = (4 * number + 1, 4 * number + 3);
            let mut says = frame(HEADERS, END_HEADERS | END_STREAM, one, &block(cheap));
            says.extend(frame(HEADERS, END_HEADERS | END_STREAM, other, &block(&get("/reset"))));
            if number >= UNDER_WAY {
                says.extend(about(other - 4 * UNDER_WAY, reset));
            }
            let is_enough = || is_over.load(SeqCst) || passed.load(SeqCst) > 4 * PASSED;
            if stream.write_all(&says).is_err() || is_enough() {
                break;
            }
            let least = (number as usize).saturating_sub(10);
            until("cheap answers", || answered.load(SeqCst) >= least || is_enough());
        }
        let _ = stream.shutdown(Shutdown::Write);
        reader.join().unwrap()
    });
    mark(&proxy);
    (end, passed.load(SeqCst))
}

/// Reads whatever comes, opens the connection's window for it, counts answers; the code of a GOAWAY.
fn read_on(peer: &mut Peer, answered: &AtomicUsize) -> Option<u32> {
    while let Some(next) = peer.frame() {
        match next.kind {
            HEADERS => {
                answered.fetch_add(1, SeqCst);
            }
            DATA => {
                peer.window(0, next.payload.len() as u32);
            }
            GOAWAY => return Some(u32::from_be_bytes(next.payload[4..8].try_into().unwrap())),
            _ => {}
        }
    }
    None
}

/// Frames of 13 octets, about another stream.
fn about(id: u32, frames: &[u8]) -> Vec<u8> {
    let one = |frame: &[u8]| [&frame[..5], &id.to_be_bytes(), &frame[9..]].concat();
    frames.chunks(13).flat_map(one).collect()
}

fn by_the_client() -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())
}

fn assert_calmed(driver: Driver, cheap: &[(&str, &str)], reset: &[u8]) {
    let (end, passed) = alternate(driver, cheap, reset);
    assert!(passed <= PASSED, "{passed} requests got through; the end: {end:?}");
    assert_eq!(end, Some(CALM), "after {passed} that got through");
}

fn r05_answers_of_ours(driver: Driver) {
    assert_calmed(driver, &get("/own"), &by_the_client());
}

fn r05_hits(driver: Driver) {
    assert_calmed(driver, &get("/hit"), &by_the_client());
}

/// Nothing is cheaper than a request that is refused.
fn r05_refusals(driver: Driver) {
    let [_, scheme, authority, path] = get("/own");
    let trace = [(":method", "TRACE"), scheme, authority, path];
    assert_calmed(driver, &trace, &by_the_client());
}

/// A window beyond 2^31-1 makes us reset the stream (CVE-2025-8671).
fn r05_made_to_send(driver: Driver) {
    let wide = frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes());
    assert_calmed(driver, &get("/own"), &wide.repeat(2));
}

/// A browser that leaves a page gives up what is under way, and goes on with the next one.
fn r05_giving_up_now_and_then(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    let mut id = 1;
    for _ in 0..4 {
        for _ in 0..20 {
            peer.headers(id, &get("/given-up"), true);
            peer.reset(id, 8);
            assert_eq!(peer.ask(id + 2, "/mark/0").status(), 200);
            id += 4;
        }
    }
    mark(&proxy);
}

// === R08 ===

/// Octets that may come of one stream.
const WINDOW: i64 = 64 * 1024;
const UPLOADS: u32 = 30;
/// And of one frame.
const PIECE: usize = 16_384;

/// A client that sends as much of its bodies as windows allow.
struct Uploads {
    peer: Peer,
    connection: i64,
    streams: BTreeMap<u32, i64>,
    sent: i64,
}

impl Uploads {
    fn connect(address: SocketAddr) -> Self {
        let peer = Peer::connect(address);
        peer.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { peer, connection: 65_535, streams: BTreeMap::new(), sent: 0 }
    }

    fn begin(&mut self, id: u32, path: &str) {
        self.peer.headers(id, &post(path), false);
        self.streams.insert(id, WINDOW);
    }

    fn push(&mut self) {
        for (id, window) in &mut self.streams {
            loop {
                let len = (*window).min(self.connection).min(PIECE as i64);
                if len <= 0 {
                    break;
                }
                self.peer.data(*id, &[b'x'; PIECE][..len.unsigned_abs() as usize], false);
                (*window, self.connection) = (*window - len, self.connection - len);
                self.sent += len;
            }
        }
    }

    /// Looks at one frame, if one comes: false if not.
    fn hear(&mut self) -> bool {
        let Some(next) = self.peer.frame() else { return false };
        if next.kind == WINDOW_UPDATE {
            let more = i64::from(u32::from_be_bytes(next.payload[..4].try_into().unwrap()));
            match self.streams.get_mut(&next.id) {
                Some(window) => *window += more,
                None if next.id == 0 => self.connection += more,
                None => {}
            }
        }
        true
    }

    /// Sends until nothing has moved for half a second.
    fn stall(&mut self) {
        let (mut since, mut before) = (Instant::now(), self.sent);
        until("the uploads to stall", || {
            self.push();
            while self.hear() && self.connection <= 0 {}
            if self.sent != before {
                (since, before) = (Instant::now(), self.sent);
            }
            since.elapsed() > Duration::from_millis(500)
        });
    }

    /// One more request on the same connection: its body goes as fast as the windows let it.
    fn post(&mut self, id: u32, path: &str, len: i64) -> Option<u16> {
        self.streams.clear();
        self.begin(id, path);
        let (begun, mut left) = (Instant::now(), len);
        while left > 0 {
            if begun.elapsed() > Duration::from_secs(5) {
                return None;
            }
            let piece = self.streams[&id].min(self.connection).min(PIECE as i64).min(left);
            if piece > 0 {
                left -= piece;
                self.connection -= piece;
                *self.streams.get_mut(&id).unwrap() -= piece;
                self.peer.data(id, &[b'y'; PIECE][..piece.unsigned_abs() as usize], left == 0);
            } else {
                self.hear();
            }
        }
        Some(self.peer.outcome(id).status())
    }
}

/// Takes connections and reads nothing, with little room in the kernel.
fn deaf() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set(&listener, libc::SOL_SOCKET, libc::SO_RCVBUF, 8192);
    set(&listener, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 536);
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let all: Vec<_> = listener.incoming().take(2 * UPLOADS as usize).flatten().collect();
        drop(all);
    });
    address
}

/// Uploads to `/stuck`, a cluster of this endpoint, stall; other requests of the same connection do not.
fn others_get_through(driver: Driver, stuck: SocketAddr, more: &str) {
    let origin = Origin::echo();
    let config = format!(
        "{}[[route]]\npath = \"/stuck\"\ncluster = \"stuck\"\n[[cluster]]\nname = \"stuck\"\n{more}\n\
         [[cluster.endpoint]]\naddress = \"{stuck}\"\n[http2]\nstreams = 100\nwindow = \"{WINDOW}B\"\n",
        cluster(&[origin.address], "")
    );
    let proxy = Proxy::run(driver, &config, &[], None);
    let mut client = Uploads::connect(proxy.address);
    (0..UPLOADS).for_each(|number| client.begin(2 * number + 1, "/stuck"));
    client.stall();
    let sent = client.sent;
    assert!(sent >= WINDOW, "an upload begins: {sent}");
    let id = 2 * UPLOADS + 1;
    let small = client.post(id, "/works", 1000);
    assert_eq!(small, Some(200), "after {sent} octets; the window is {}", client.connection);
    // And not by a reserve that is used up.
    for number in 1..4 {
        let large = client.post(id + 2 * number, "/works", 200_000);
        assert_eq!(large, Some(200), "after {sent} octets; the window is {}", client.connection);
    }
    assert_eq!(origin.last().body.len(), 200_000);
}

fn r08_not_read(driver: Driver) {
    others_get_through(driver, deaf(), "");
}

/// One is at the endpoint, the others are in the queue.
fn r08_waiting(driver: Driver) {
    let more = "max_connections = 1\nqueue = { max = 1000, timeout = \"60s\" }";
    others_get_through(driver, deaf(), more);
}

/// The endpoint speaks HTTP/2 and does not open its windows.
fn r08_shut_window(driver: Driver) {
    let origin = Origin::raw(|link| {
        let mut peer = Peer::accept(link.stream.try_clone().unwrap(), &[(4, 1)]);
        while let Some(next) = peer.frame() {
            if next.kind == SETTINGS && next.flags & ACK == 0 {
                peer.send(frame(SETTINGS, ACK, 0, b""));
            }
        }
    });
    others_get_through(driver, origin.address, "protocol = \"http2\"");
}

// === R09 ===

/// How an origin ends a connection whose request does not get on.
#[derive(Clone, Copy, Debug)]
enum Way {
    Closes,
    Resets,
}

/// Reads heads; an upload is given 200 ms.
fn impatient(way: Way) -> Origin {
    Origin::raw(move |link: &mut Link| {
        while let Some(request) = link.head() {
            link.note(&request);
            if request.head.starts_with("POST") {
                std::thread::park_timeout(Duration::from_millis(200));
                if matches!(way, Way::Resets) {
                    link.reset();
                }
                return;
            }
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

const STALLED: usize = 40;

/// Requests go to both endpoints, and nothing was said of either.
fn assert_not_blamed(what: &str, proxy: &Proxy, origins: &[Origin; 2]) {
    let count = |origin: &Origin| {
        origin.requests().iter().filter(|one| one.head.starts_with("GET")).count()
    };
    let before = origins.each_ref().map(count);
    (0..20).for_each(|_| assert_eq!(proxy.get("/after").status, 200, "{what}"));
    let after = origins.each_ref().map(count);
    let each = [after[0] - before[0], after[1] - before[1]];
    assert!(each.iter().all(|gets| *gets >= 5), "{what}: {each:?}");
    assert!(!proxy.log().contains(" is put out"), "{what}: {}", proxy.log());
}

/// Clients say a body is coming, send ten octets, and no more.
fn r09_uploads_that_stall(driver: Driver) {
    for way in [Way::Closes, Way::Resets] {
        for framing in ["Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\na\r\n"] {
            let origins = [impatient(way), impatient(way)];
            let addresses = origins.each_ref().map(|one| one.address);
            let proxy = Proxy::run(driver, &cluster(&addresses, ""), &[], None);
            let mut clients: Vec<_> = (0..STALLED).map(|_| proxy.connect()).collect();
            for client in &mut clients {
                client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}0123456789"));
            }
            for client in &mut clients {
                let status = client.reply().status;
                assert!((400..=599).contains(&status), "{way:?}: {status}");
            }
            let what = format!("{way:?}, {}", &framing[..14]);
            assert_not_blamed(&what, &proxy, &origins);
        }
    }
}

fn r09_over_http2(driver: Driver) {
    let origins = [impatient(Way::Closes), impatient(Way::Closes)];
    let addresses = origins.each_ref().map(|one| one.address);
    let proxy = Proxy::run(driver, &cluster(&addresses, ""), &[], None);
    let mut peer = Peer::connect(proxy.address);
    for number in 0..STALLED as u32 {
        peer.headers(2 * number + 1, &post("/"), false);
        peer.data(2 * number + 1, b"0123456789", false);
    }
    for number in 0..STALLED as u32 {
        peer.outcome(2 * number + 1);
    }
    assert_not_blamed("over HTTP/2", &proxy, &origins);
}
