//! Rows M01 to M07: no client makes us work more than it works itself.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millrace::net::sys::is_hung_up;

use super::{CALM, COMPRESSION_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, flood, lives, odd};
use crate::Row;
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PADDED, PING, PREFACE, PRIORITY,
    Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, post,
};
use crate::support::{Does, Driver, Origin, Proxy, cluster, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("m01_rapid_reset", m01_rapid_reset),
        ("m02_making_us_reset", m02_making_us_reset),
        ("m02_slots_are_held_until_the_work_ends", m02_slots_are_held_until_the_work_ends),
        ("m03_continuation_without_end", m03_continuation_without_end),
        ("m04_compression_bombs", m04_compression_bombs),
        ("m05_frames_with_nothing_in_them", m05_frames_with_nothing_in_them),
        ("m05_abuse_with_the_preface", m05_abuse_with_the_preface),
        ("m06_control_frames_whose_answers_are_not_read", m06_control_frames),
        ("m07_windows_that_do_not_open", m07_windows_that_do_not_open),
        ("m07_a_shut_window_and_a_body_that_never_comes", m07_shut_and_silent),
    ]
}

fn m01_rapid_reset(driver: Driver) {
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let shared = Arc::clone(&at_once);
    let origin = Origin::scripted(move |_, link| {
        let now = shared.0.fetch_add(1, SeqCst) + 1;
        shared.1.fetch_max(now, SeqCst);
        // Its client has gone by then, or not.
        std::thread::park_timeout(Duration::from_millis(20));
        shared.0.fetch_sub(1, SeqCst);
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    let (code, _) = flood(&proxy, 100_000, |peer, number| {
        let mut both =
            frame(HEADERS, END_HEADERS | END_STREAM, odd(number), &block(&get("/reset")));
        both.extend_from_slice(&frame(RST_STREAM, 0, odd(number), &8_u32.to_be_bytes()));
        peer.send(both)
    });
    assert_eq!(code, Some(CALM));
    // Trailers are no stream of their own.
    let (code, _) = flood(&proxy, 100_000, |peer, number| {
        let id = odd(number);
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, id, &block(&[("x-sum", "1")]));
        let reset = frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
        let head = frame(HEADERS, END_HEADERS, id, &block(&post("/reset")));
        peer.send([head, trailers, reset].concat())
    });
    assert_eq!(code, Some(CALM));
    assert!(origin.requests().len() <= 1000, "{} requests got through", origin.requests().len());
    assert!(at_once.1.load(SeqCst) <= 100, "{} at once", at_once.1.load(SeqCst));
    // A client that gives up on a page now and then is left alone.
    let mut peer = Peer::connect(proxy.address);
    for number in 0..50 {
        peer.headers(odd(number), &get("/given-up"), true);
        peer.reset(odd(number), 8);
    }
    assert_eq!(peer.ask(odd(50), "/mark/0").status(), 200);
    mark(&proxy);
}

/// What is done, the code that ends it, and a stream that does it.
type Way<'a> = (&'static str, u32, &'a dyn Fn(u32) -> Vec<u8>);

/// Streams that make us reset them (CVE-2025-8671) count like those that their client resets.
fn m02_making_us_reset(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let short = [&post("/made")[..], &[("content-length", "1")]].concat();
    let no_path = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example")];
    let wide = 0x7fff_ffff_u32.to_be_bytes();
    let ways: [Way<'_>; 5] = [
        ("a window beyond 2^31-1", CALM, &|id| {
            let wider = frame(WINDOW_UPDATE, 0, id, &wide).repeat(2);
            [frame(HEADERS, END_HEADERS, id, &block(&post("/made"))), wider].concat()
        }),
        ("more data than was said", CALM, &|id| {
            let data = frame(DATA, END_STREAM, id, b"more");
            [frame(HEADERS, END_HEADERS, id, &block(&short)), data].concat()
        }),
        ("no path", CALM, &|id| frame(HEADERS, END_HEADERS | END_STREAM, id, &block(&no_path))),
        // These end the connection at once.
        ("a window opened by nothing", PROTOCOL_ERROR, &|id| {
            let nothing = frame(WINDOW_UPDATE, 0, id, &[0; 4]);
            [frame(HEADERS, END_HEADERS, id, &block(&post("/made"))), nothing].concat()
        }),
        ("data behind the end", STREAM_CLOSED, &|id| {
            let data = frame(DATA, 0, id, b"x");
            [frame(HEADERS, END_HEADERS | END_STREAM, id, &block(&get("/made"))), data].concat()
        }),
    ];
    for (what, code, way) in ways {
        let before = origin.requests().len();
        let (end, sent) = flood(&proxy, 100_000, |peer, number| peer.send(way(odd(number))));
        assert_eq!(end, Some(code), "{what}, after {sent}");
        let passed = origin.requests().len() - before;
        assert!(passed <= 500, "{what}: {passed} requests got through");
    }
    // Data on streams that were skipped, by a client that does not read the answers.
    let before = proxy.rss();
    let (end, sent) = flood(&proxy, 1_000_000, |peer, number| {
        if number == 0 {
            peer.headers(0x7fff_ffff, &get("/last"), true);
        }
        let many: Vec<u8> = (0..100)
            .flat_map(|one| frame(DATA, END_STREAM, odd(100 * number + one), b""))
            .collect();
        peer.send(many)
    });
    assert_eq!(end, Some(CALM), "after {sent}");
    assert!(proxy.rss() < before + 4096, "{} KiB", proxy.rss() - before);
    lives(&proxy);
}

/// A stream that is reset gives its place at an endpoint away when its connection there has ended, not
/// before.
fn m02_slots_are_held_until_the_work_ends(driver: Driver) {
    const SLOTS: usize = 3;
    let (most, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (shared, over) = (Arc::clone(&most), Arc::clone(&is_over));
    let links = Mutex::new(Vec::new());
    let origin = Origin::raw(move |link| {
        {
            let mut links = links.lock().unwrap();
            links.push(link.stream.try_clone().unwrap());
            shared.fetch_max(
                links.iter().filter(|link| !is_hung_up(link.as_raw_fd())).count(),
                SeqCst,
            );
        }
        while !over.load(SeqCst) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    });
    let limited = format!("max_connections = {SLOTS}\nqueue = {{ max = 100 }}");
    let proxy = Proxy::run(driver, &cluster(&[origin.address], &limited), &[], None);
    let wide = 0x7fff_ffff_u32.to_be_bytes();
    for way in [RST_STREAM, WINDOW_UPDATE] {
        let mut peer = Peer::connect(proxy.address);
        for number in 0..100 {
            let before = origin.connections();
            peer.headers(odd(number), &get("/slow"), number % 2 == 0);
            if number >= SLOTS {
                // Those before give up their places, one by one.
                let id = odd(number - SLOTS);
                peer.send(match way {
                    RST_STREAM => frame(RST_STREAM, 0, id, &[0, 0, 0, 8]),
                    _ => frame(WINDOW_UPDATE, 0, id, &wide).repeat(2),
                });
            }
            until("the next one to be asked", || origin.connections() > before);
        }
    }
    is_over.store(true, SeqCst);
    assert_eq!(most.load(SeqCst), SLOTS, "connections at once");
}

fn m03_continuation_without_end(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for part in [&b""[..], b"\0\x01x\x01y", &[0; 1000]] {
        let mut begun = false;
        let (code, sent) = flood(&proxy, 10_000, |peer, _| {
            if !begun {
                begun = true;
                peer.send(frame(HEADERS, END_STREAM, 1, &block(&get("/"))));
            }
            peer.send(frame(CONTINUATION, 0, 1, part))
        });
        assert!(matches!(code, Some(CALM | COMPRESSION_ERROR)), "{code:?} after {sent}");
    }
    // Half a head that never ends is cut off too.
    let more = "[timeouts]\nhead = \"500ms\"\n";
    let proxy = Proxy::with(driver, &origin, more);
    let mut peer = Peer::connect(proxy.address);
    peer.send(frame(HEADERS, END_STREAM, 1, &block(&get("/half"))));
    assert!(peer.end_within(Duration::from_secs(5)).is_some());
    lives(&proxy);
}

fn m04_compression_bombs(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    // One entry of 4,000 octets, referred to 16,000 times.
    let mut bomb = block(&get("/bomb"));
    bomb.extend_from_slice(&[0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bomb.extend_from_slice(&[b'a'; 4000]);
    bomb.extend_from_slice(&[0x80 | 62; 11_000]);
    let before = proxy.rss();
    for _ in 0..20 {
        let mut peer = Peer::connect(proxy.address);
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb));
        let outcome = peer.outcome(1);
        assert!(
            !matches!(&outcome, Outcome::Answer(answer) if answer.status == 200),
            "{outcome:?}"
        );
    }
    assert!(proxy.rss() < before + 20 * 1024, "{} KiB", proxy.rss() - before);
    for (what, fault) in [
        ("an index of zero", vec![0x80]),
        ("an index beyond both tables", vec![0xff, 0x80, 0x10]),
        ("a number without end", [&[0xff][..], &[0xff; 12]].concat()),
        ("a table of 4 GiB", vec![0x3f, 0xe1, 0xff, 0xff, 0xff, 0x0f]),
        ("a name that is cut off", vec![0, 10, b'x']),
        ("padding of Huffman that is too long", vec![0, 1, b'x', 0x82, 0xff, 0xff]),
    ] {
        let mut peer = Peer::connect(proxy.address);
        let payload = [block(&get("/")), fault].concat();
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &payload));
        assert_eq!(peer.outcome(1), Outcome::Away(COMPRESSION_ERROR), "{what}");
    }
    assert!(origin.requests().is_empty());
    lives(&proxy);
}

fn m05_frames_with_nothing_in_them(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for empty in [frame(DATA, 0, 1, b""), frame(DATA, PADDED, 1, &[0])] {
        let mut begun = false;
        let (code, _) = flood(&proxy, 100_000, |peer, _| {
            if !begun {
                begun = true;
                peer.headers(1, &post("/empty"), false);
            }
            peer.send(&empty)
        });
        assert_eq!(code, Some(CALM));
    }
    let (code, _) = flood(&proxy, 100_000, |peer, number| {
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, odd(number), b""))
    });
    assert_eq!(code, Some(CALM));
    assert!(origin.requests().iter().all(|one| !one.is_complete));
    lives(&proxy);
}

/// In one packet with the preface: the connection is let go of.
fn m05_abuse_with_the_preface(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    lives(&proxy);
    let before = proxy.fds();
    let ping = frame(PING, 0, 0, &[0; 8]);
    let settings = frame(SETTINGS, 0, 0, b"");
    let many = [settings, frame(DATA, 0, 1, b"").repeat(200)].concat();
    for abuse in [ping, many] {
        let mut peer = Peer::of(std::net::TcpStream::connect(proxy.address).unwrap());
        peer.send([PREFACE, &abuse].concat());
        assert!(peer.end_within(Duration::from_secs(5)).is_some());
    }
    until("descriptors to be given back", || proxy.fds() <= before);
    lives(&proxy);
}

fn m06_control_frames(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for (what, control) in [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("unknown", frame(0x42, 0, 0, b"x")),
    ] {
        let (code, _) = flood(&proxy, 100_000, |peer, _| peer.send(&control));
        assert_eq!(code, Some(CALM), "{what}");
    }
    // A few do no harm.
    let mut peer = Peer::connect(proxy.address);
    for _ in 0..100 {
        peer.send(frame(PING, 0, 0, &[7; 8]));
        peer.send(frame(0x42, 0, 0, b"grease"));
    }
    assert_eq!(peer.ask(1, "/x").status(), 200);
    lives(&proxy);
}

fn m07_windows_that_do_not_open(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.path() != "/large" {
            return Does::Keep;
        }
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n");
        link.send(vec![b'x'; 1 << 20]);
        Does::Keep
    });
    let more = "[timeouts]\nbody_idle = \"1s\"\n";
    let proxy = Proxy::with(driver, &origin, more);
    // What a hundred requests take anyhow is there.
    let mut peer = Peer::connect(proxy.address);
    for number in 0..100 {
        peer.headers(odd(number), &get("/small"), true);
    }
    (0..100).for_each(|number| assert_eq!(peer.outcome(odd(number)).status(), 200));
    drop(peer);
    let before = proxy.rss();
    // The initial window is one octet, and it never opens.
    let mut peer = Peer::connect_with(proxy.address, &[(4, 1)]);
    for number in 0..100 {
        peer.headers(odd(number), &get("/large"), true);
    }
    until("the answers to begin", || {
        origin.requests().iter().filter(|one| one.path() == "/large").count() == 100
    });
    let used = proxy.rss().saturating_sub(before);
    assert!(used <= 100 * 64, "{used} KiB for 100 streams that do not move");
    // In time each of them is given up.
    let begun = Instant::now();
    for number in 0..100 {
        let outcome = peer.outcome(odd(number));
        assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    // A window that dribbles moves the body, and nothing is lost.
    let mut peer = Peer::connect_with(proxy.address, &[(4, 1000)]);
    peer.headers(1, &get("/large"), true);
    let mut got = 0;
    while got < 200_000 {
        let next = peer.frame().expect("a frame");
        if next.kind == DATA {
            got += next.payload.len();
            let len = next.payload.len() as u32;
            peer.window(1, len);
            peer.window(0, len);
        }
    }
    drop(peer);
    lives(&proxy);
}

/// The answer to an upload that never came is not read: its stream ends all the same.
fn m07_shut_and_silent(driver: Driver) {
    let origin = Origin::echo();
    let more = "[timeouts]\nbody_idle = \"500ms\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
                [listener.timeouts]\nhead = \"1s\"\n";
    let proxy = Proxy::with(driver, &origin, more);
    let mut peer = Peer::connect_with(proxy.address, &[(4, 0)]);
    peer.headers(1, &post("/never"), false);
    let outcome = peer.outcome_within(1, Duration::from_secs(8));
    assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    lives(&proxy);
}
