//! Group M: HTTP/2. Nobody gets more out of us than they put in, and nothing is passed on that HTTP/1
//! could read in two ways.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millrace::net::socket::is_hung_up;

use crate::Row;
use crate::support::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Outcome, PADDED, PING,
    PRIORITY, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, literal, post,
};
use crate::support::{Does, Driver, Origin, PATIENCE, Proxy, cluster, mark, until};

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
        ("m08_lengths_that_do_not_hold", m08_lengths_that_do_not_hold),
        ("m09_fields_of_another_version", m09_fields_of_another_version),
        ("m10_octets_that_end_lines", m10_octets_that_end_lines),
        ("m11_pseudo_fields", m11_pseudo_fields),
        ("m12_cookies_and_many_fields", m12_cookies_and_many_fields),
        ("m13_connect", m13_connect),
        ("m13_protocols_that_end_lines", m13_protocols_that_end_lines),
        ("m14_stream_ids", m14_stream_ids),
        ("m15_faults_are_in_the_log", m15_faults_are_in_the_log),
        ("m16_data_behind_a_reset", m16_data_behind_a_reset),
        ("m17_goaway_at_reload", m17_goaway_at_reload),
        ("m18_upstream_goaway_and_refusal", m18_upstream_goaway_and_refusal),
        ("m18_goaway_with_others_under_way", m18_goaway_with_others_under_way),
        ("m18_upstream_breaks_off", m18_upstream_breaks_off),
        ("m18_upstream_without_room", m18_upstream_without_room),
        ("m18_room_that_comes_later", m18_room_that_comes_later),
        ("m19_clients_that_do_not_read_share_a_connection", m19_clients_that_do_not_read),
        ("m19_the_cache_serves_all_versions", m19_the_cache_serves_all_versions),
        ("m19_one_slow_reader_of_a_hundred", m19_one_slow_reader_of_a_hundred),
    ]
}

const PROTOCOL_ERROR: u32 = 1;
const STREAM_CLOSED: u32 = 5;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const CALM: u32 = 11;

/// It goes on serving, both versions.
fn lives(proxy: &Proxy) {
    let answer = Peer::connect(proxy.address).ask(1, "/lives").answer();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"/lives"[..]));
    mark(proxy);
}

/// Sends until nobody wants it any more; how the connection ended, and after how many.
fn flood(
    proxy: &Proxy,
    most: usize,
    mut one: impl FnMut(&mut Peer, usize) -> bool,
) -> (Option<u32>, usize) {
    let mut peer = Peer::connect(proxy.address);
    peer.stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut sent = 0;
    while sent < most && one(&mut peer, sent) {
        sent += 1;
    }
    (peer.end_within(PATIENCE), sent)
}

fn odd(number: usize) -> u32 {
    2 * number as u32 + 1
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
    assert!(origin.requests().len() <= 500, "{} requests got through", origin.requests().len());
    assert!(at_once.1.load(SeqCst) <= 100, "{} at once", at_once.1.load(SeqCst));
    // Whoever gives up on a page now and then is left alone.
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
        peer.send([crate::support::h2::PREFACE, &abuse].concat());
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
    // A few are nobody's harm.
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
    lives(&proxy);
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

/// Nobody takes the answer to an upload that never came: its stream ends all the same.
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

fn m08_lengths_that_do_not_hold(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let with = |length: &'static str| [&post("/short")[..], &[("content-length", length)]].concat();
    for (what, length, parts) in [
        ("less", "10", vec!["abc"]),
        ("more", "2", vec!["abc"]),
        ("more, later", "4", vec!["abc", "def"]),
        ("nothing", "5", vec![]),
    ] {
        let mut peer = Peer::connect(proxy.address);
        peer.headers(1, &with(length), parts.is_empty());
        for (at, part) in parts.iter().enumerate() {
            peer.data(1, part.as_bytes(), at + 1 == parts.len());
        }
        let outcome = peer.outcome(1);
        assert!(
            matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Away(PROTOCOL_ERROR)),
            "{what}: {outcome:?}"
        );
    }
    for bad in ["+5", "0x5", "5, 5", "-1", "5 5"] {
        let mut peer = Peer::connect(proxy.address);
        peer.headers(1, &with(bad), false);
        peer.data(1, b"abcde", true);
        let outcome = peer.outcome(1);
        assert!(outcome.status() != 200, "{bad}: {outcome:?}");
    }
    // Trailers that do not end the stream.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/short"), false);
    peer.data(1, b"abc", false);
    peer.headers(1, &[("x-sum", "1")], false);
    let outcome = peer.outcome(1);
    assert!(matches!(outcome, Outcome::Reset(_) | Outcome::Away(_)), "{outcome:?}");
    // Pseudo-fields in trailers.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/pseudo"), false);
    peer.headers(1, &[(":path", "/x")], true);
    assert_eq!(peer.outcome(1), Outcome::Away(PROTOCOL_ERROR));
    let seen = origin.requests().into_iter().find(|one| one.path() == "/pseudo");
    assert!(seen.is_none_or(|one| !one.is_complete && one.trailers.is_empty()));
    until("uploads to be broken off", || {
        origin.requests().iter().all(|one| one.path() != "/short" || !one.is_complete)
    });
    // Good trailers arrive.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &post("/good"), false);
    peer.data(1, b"abc", false);
    peer.headers(1, &[("x-sum", "1")], true);
    assert_eq!(peer.outcome(1).status(), 200);
    let good = origin.requests().into_iter().find(|one| one.path() == "/good").unwrap();
    assert_eq!((good.body.as_slice(), good.trailers.trim()), (&b"abc"[..], "x-sum: 1"));
    lives(&proxy);
}

/// A request with these fields behind its own must not reach the origin; nor may the connection be
/// used to ask for something else.
fn refused(proxy: &Proxy, origin: &Origin, what: &str, fields: &[u8]) {
    let before = origin.byte_count();
    let mut peer = Peer::connect(proxy.address);
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, fields));
    let outcome = peer.outcome(1);
    let is_refused = match &outcome {
        Outcome::Reset(_) | Outcome::Away(_) | Outcome::Closed => true,
        Outcome::Answer(answer) => (400..500).contains(&answer.status),
        Outcome::Silence => false,
    };
    assert!(is_refused, "{what}: {outcome:?}");
    assert_eq!(origin.byte_count(), before, "{what} reached the origin");
}

fn m09_fields_of_another_version(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("connection", "x"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("host", "b.example"),
    ] {
        let fields = [&get("/x")[..], &[(name, value)]].concat();
        refused(&proxy, &origin, name, &block(&fields));
    }
    // What says the same is fine, and `te: trailers` ends here.
    let mut peer = Peer::connect(proxy.address);
    let fields = [&get("/fine")[..], &[("host", "a.example"), ("te", "trailers")]].concat();
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 200);
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.head.matches("a.example\r\n").count(), 2, "{}", request.head);
    assert!(request.header("te").is_none(), "{}", request.head);
    lives(&proxy);
}

fn m10_octets_that_end_lines(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let base = || block(&get("/x"));
    for evil in ["\r\n", "\n", "\r", "\0", "a\r\nHost: evil"] {
        let value = format!("v{evil}x");
        refused(&proxy, &origin, "a value", &[base(), literal(b"x-a", value.as_bytes())].concat());
        refused(
            &proxy,
            &origin,
            "a name",
            &[base(), literal(format!("x{evil}a").as_bytes(), b"v")].concat(),
        );
        for at in 0..4 {
            let mut fields = get("/x");
            let text = format!("{}{evil}{}", fields[at].1, "tail");
            fields[at].1 = &text;
            refused(&proxy, &origin, fields[at].0, &block(&fields));
        }
    }
    for name in ["X-Upper", "x a", "x:a", "", "x(", "x\u{e9}", "x\x7f"] {
        refused(&proxy, &origin, name, &[base(), literal(name.as_bytes(), b"v")].concat());
    }
    // A fragment is cut off by the library that reads the URI: nothing of it is seen by anybody.
    for path in ["/a b", "/a HTTP/1.1", "x", "http://b.example/", "/\x7f"] {
        refused(&proxy, &origin, path, &block(&get(path)));
    }
    for authority in ["u@a.example", "a.example/x", "a b", "a,b", "a.example:99999", "[::1", ""] {
        let mut fields = get("/x");
        fields[2].1 = authority;
        refused(&proxy, &origin, authority, &block(&fields));
    }
    for method in ["GET ", "G\"T", "GET\tX", ""] {
        let mut fields = get("/x");
        fields[0].1 = method;
        refused(&proxy, &origin, method, &block(&fields));
    }
    lives(&proxy);
}

fn m11_pseudo_fields(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let all = get("/x");
    for missing in 0..4 {
        let left: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != missing).collect();
        let fields: Vec<_> = left.into_iter().map(|(_, field)| *field).collect();
        refused(&proxy, &origin, all[missing].0, &block(&fields));
    }
    for (what, fields) in [
        ("doubled", [&all[..], &[(":path", "/y")]].concat()),
        ("late", [&[("x-a", "1")][..], &all].concat()),
        ("unknown", [&all[..], &[(":strange", "1")]].concat()),
        ("an answer's", [&all[..], &[(":status", "200")]].concat()),
        ("a protocol without CONNECT", [&all[..], &[(":protocol", "websocket")]].concat()),
    ] {
        refused(&proxy, &origin, what, &block(&fields));
    }
    for path in ["", "*"] {
        refused(&proxy, &origin, "a path", &block(&get(path)));
    }
    lives(&proxy);
}

fn m12_cookies_and_many_fields(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let crumbs: Vec<String> = (0..90).map(|number| format!("c{number}={number}")).collect();
    let mut fields = get("/crumbs").to_vec();
    fields.extend(crumbs.iter().map(|crumb| ("cookie", crumb.as_str())));
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 200);
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.head.matches("ookie: ").count(), 1);
    assert_eq!(request.header("cookie"), Some(crumbs.join("; ").as_str()));
    // A thousand are put together, and are as long as they are.
    let crumbs: Vec<String> =
        (0..1000).map(|number| format!("crumb{number:04}=0123456789")).collect();
    let mut fields = get("/crumbs").to_vec();
    fields.extend(crumbs.iter().map(|crumb| ("cookie", crumb.as_str())));
    let before = origin.byte_count();
    let payload = block(&fields);
    let mut peer = Peer::connect(proxy.address);
    peer.send(frame(HEADERS, END_STREAM, 1, &payload[..16_000]));
    peer.send(frame(CONTINUATION, END_HEADERS, 1, &payload[16_000..]));
    let outcome = peer.outcome(1);
    assert!(
        outcome.status() == 431 || matches!(outcome, Outcome::Reset(_) | Outcome::Away(_)),
        "{outcome:?}"
    );
    let many: Vec<(String, String)> =
        (0..101).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let mut fields = get("/many").to_vec();
    fields.extend(many.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &fields, true);
    assert_eq!(peer.outcome(1).status(), 431);
    // The connection is as good as before.
    assert_eq!(peer.ask(3, "/after").status(), 200);
    assert!(
        origin.byte_count() > before && origin.requests().iter().all(|one| one.path() != "/many")
    );
    lives(&proxy);
}

fn m13_connect(driver: Driver) {
    let origin = Origin::raw(|link| {
        let Some(request) = link.request() else { return };
        if request.header("upgrade").is_none() {
            return link.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n/lives");
        }
        assert!(request.header("sec-websocket-key").is_some(), "{}", request.head);
        link.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
        link.send("hello");
        // Whatever comes goes back.
        while link.more() {
            let rest = std::mem::take(&mut link.rest);
            link.send(&rest);
        }
    });
    let off = Proxy::before(driver, &origin);
    let plain = [(":method", "CONNECT"), (":authority", "a.example:443")];
    let extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ];
    for fields in [&plain[..], &[(":method", "CONNECT"), (":authority", "127.0.0.1:22")]] {
        refused(&off, &origin, "CONNECT", &block(fields));
    }
    // A tunnel only where the route allows it (RFC 8441).
    let on =
        Proxy::with(driver, &origin, "[[route]]\ncluster = \"app\"\nupgrade = [\"websocket\"]\n");
    let mut peer = Peer::connect(on.address);
    peer.headers(1, &extended, false);
    let mut seen = Vec::new();
    let mut status = String::new();
    peer.data(1, b"ping", false);
    while !seen.ends_with(b"ping") {
        let next = peer.frame().expect("an answer");
        match (next.kind, next.id) {
            (HEADERS, 1) => {
                let fields = next.fields;
                assert!(
                    !fields.iter().any(|(name, _)| name == "sec-websocket-accept"),
                    "{fields:?}"
                );
                status = fields[0].1.clone();
            }
            (DATA, 1) => seen.extend_from_slice(&next.payload),
            _ => {}
        }
    }
    assert_eq!((status.as_str(), seen.as_slice()), ("200", &b"helloping"[..]));
    peer.data(1, b"", true);
    assert!(matches!(peer.outcome(1), Outcome::Answer(_)), "the end of one way ends the other");
}

/// A protocol that is none must not become a line of its own, nor a framing.
fn m13_protocols_that_end_lines(driver: Driver) {
    let origin = Origin::echo();
    let allowed = "[[route]]\ncluster = \"app\"\nupgrade = [\"websocket\", \"x\"]\n";
    let proxy = Proxy::with(driver, &origin, allowed);
    for protocol in ["x\r\nContent-Length: 1", "x\nA: b", "x y", "", "x\0"] {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/chat"),
        ];
        refused(&proxy, &origin, protocol, &block(&fields));
    }
    mark(&proxy);
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

fn m16_data_behind_a_reset(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    let mut all = frame(HEADERS, END_HEADERS, 1, &block(&post("/reset")));
    all.extend_from_slice(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    all.extend_from_slice(&frame(DATA, END_STREAM, 1, b"late"));
    peer.send(all);
    // A closed stream's data is dropped, or ends the connection; nobody sees it as a body.
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

/// An origin that speaks HTTP/2: `script` sees each frame that comes, and which connection it is.
fn h2_origin(
    settings: &'static [(u16, u32)],
    script: impl Fn(usize, crate::support::h2::Frame, &mut Peer) + Send + Sync + 'static,
) -> Origin {
    Origin::raw(move |link| {
        let mut peer = Peer::accept(link.stream.try_clone().unwrap(), settings);
        while let Some(next) = peer.frame() {
            if next.kind == SETTINGS && next.flags & ACK == 0 {
                peer.send(frame(SETTINGS, ACK, 0, b""));
            }
            script(link.number, next, &mut peer);
        }
    })
}

fn h2_proxy(driver: Driver, origin: &Origin, more: &str) -> Proxy {
    Proxy::run(
        driver,
        &format!("{}{more}", cluster(&[origin.address], "protocol = \"http2\"")),
        &[],
        None,
    )
}

const OK: &[(&str, &str)] = &[(":status", "200")];

fn m18_upstream_goaway_and_refusal(driver: Driver) {
    let posts = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&posts);
    let origin = h2_origin(&[], move |number, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let fields = next.fields;
        let path = fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        if fields.iter().any(|(_, value)| value == "POST") {
            shared.fetch_add(1, SeqCst);
        }
        match path.as_str() {
            // On the first connection nothing is done of it.
            "/refused" if number == 0 => {
                peer.reset(next.id, REFUSED_STREAM);
            }
            "/away" if number < 2 => {
                let last = next.id.saturating_sub(2).to_be_bytes();
                peer.send(frame(GOAWAY, 0, 0, &[&last[..], &[0; 4]].concat()));
                peer.headers(next.id.saturating_sub(2).max(1), &[], false);
            }
            "/always" => {
                peer.reset(next.id, REFUSED_STREAM);
            }
            path => {
                let path = path.to_owned();
                peer.headers(next.id, OK, false);
                peer.data(next.id, path.as_bytes(), true);
            }
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    assert_eq!(proxy.get("/first").body, b"/first");
    // What was refused is asked again, whatever the method, for nothing was done.
    let mut client = proxy.connect();
    client.send("POST /refused HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"/refused"[..]), "{}", reply.text());
    assert_eq!(posts.load(SeqCst), 2);
    // Not for ever.
    let reply = proxy.get("/always");
    assert!(reply.status >= 500, "{}", reply.text());
    assert_eq!(proxy.get("/later").body, b"/later");
}

#[expect(clippy::too_many_lines, reason = "an origin with many faults")]
fn m18_upstream_breaks_off(driver: Driver) {
    let origin = h2_origin(&[], |_, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let fields = next.fields;
        let path = fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        match path.as_str() {
            "/cut" => {
                peer.headers(
                    next.id,
                    &[(":status", "200"), ("cache-control", "max-age=60")],
                    false,
                );
                peer.data(next.id, b"some", false);
                peer.reset(next.id, 2);
            }
            "/short" => {
                peer.headers(next.id, &[(":status", "200"), ("content-length", "10")], false);
                peer.data(next.id, b"some", true);
            }
            "/interim" => {
                peer.headers(next.id, &[(":status", "103"), ("link", "</a>")], false);
                peer.headers(next.id, OK, false);
                peer.data(next.id, b"final", true);
            }
            "/trailers" => {
                peer.headers(next.id, OK, false);
                peer.data(next.id, b"body", false);
                peer.headers(next.id, &[("x-sum", "4")], true);
            }
            "/none" => {
                peer.headers(next.id, &[(":status", "200"), ("grpc-status", "0")], true);
            }
            path => {
                let path = path.to_owned();
                peer.headers(next.id, OK, false);
                peer.data(next.id, path.as_bytes(), true);
            }
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    for path in ["/cut", "/short"] {
        let reply = proxy.get(path);
        assert!(!reply.is_complete || reply.status == 502, "{path} looks whole: {}", reply.text());
        let outcome = Peer::connect(proxy.address).ask(1, path);
        let is_told = matches!(outcome, Outcome::Reset(_)) || outcome.status() == 502;
        assert!(is_told, "{path}: {outcome:?}");
        assert_eq!(proxy.get("/next").body, b"/next");
    }
    let mut client = proxy.connect();
    client.send("GET /interim HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let interim = client.head();
    assert!(interim.starts_with("HTTP/1.1 103") && interim.contains("</a>"), "{interim}");
    assert_eq!(client.reply().body, b"final");
    let reply = proxy.get("/trailers");
    assert_eq!((reply.body.as_slice(), reply.trailers.trim()), (&b"body"[..], "x-sum: 4"));
    let answer = Peer::connect(proxy.address).ask(1, "/trailers").answer();
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "4".to_owned())]);
    // An answer that is nothing but a head stays one.
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &get("/none"), true);
    let head = loop {
        let next = peer.frame().expect("an answer");
        if next.kind == HEADERS {
            break next;
        }
    };
    assert!(head.flags & END_STREAM != 0, "trailers-only became something else");
    // All of it went over one connection.
    assert_eq!(origin.connections(), 1);
}

/// A connection that is told to go away while it still owes an answer takes no more requests, and
/// nothing waits for it.
fn m18_goaway_with_others_under_way(driver: Driver) {
    let held_back = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&held_back);
    let origin = h2_origin(&[], move |number, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let path = next.fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        // Both are on their way; the first is answered, the second never is.
        if path == "/held" && number == 0 {
            peer.send(frame(GOAWAY, 0, 0, &[&next.id.to_be_bytes()[..], &[0; 4]].concat()));
            shared.fetch_add(1, SeqCst);
            return;
        }
        peer.headers(next.id, OK, false);
        peer.data(next.id, path.as_bytes(), true);
    });
    let proxy = h2_proxy(driver, &origin, "");
    assert_eq!(proxy.get("/first").body, b"/first");
    let mut held = proxy.connect();
    held.send("GET /held HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("the second request", || held_back.load(SeqCst) == 1);
    std::thread::park_timeout(Duration::from_millis(100));
    for number in 0..20 {
        let path = format!("/after/{number}");
        assert_eq!(proxy.get(&path).body, path.as_bytes());
    }
    assert!(origin.connections() >= 2);
    drop(held);
}

fn m18_upstream_without_room(driver: Driver) {
    // No stream is allowed at first, then one at a time.
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let shared = Arc::clone(&at_once);
    let origin = h2_origin(&[(3, 1)], move |_, next, peer| {
        if next.kind == HEADERS {
            let now = shared.0.fetch_add(1, SeqCst) + 1;
            shared.1.fetch_max(now, SeqCst);
            std::thread::park_timeout(Duration::from_millis(10));
            shared.0.fetch_sub(1, SeqCst);
            peer.headers(next.id, OK, false);
            peer.data(next.id, b"ok", true);
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let reply = proxy.get("/x");
                assert_eq!(reply.status, 200, "{}", reply.text());
            });
        }
    });
    assert!(origin.connections() <= 17, "{} connections", origin.connections());
    // None at all: nothing wedges.
    let shut = h2_origin(&[(3, 0)], |_, _, _| {});
    let proxy =
        h2_proxy(driver, &shut, "[timeouts]\nconnect = \"300ms\"\nfirst_byte = \"500ms\"\n");
    let begun = Instant::now();
    assert!(proxy.get("/x").status >= 500);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// What one version has fetched another is served, whole, in part or as "not modified".
fn m19_the_cache_serves_all_versions(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"1\"\r\nContent-Length: 40000\r\n\r\n");
        link.send(vec![b'x'; 40_000]);
        Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, "[[route]]\ncluster = \"app\"\ncache = true\n");
    let mut peer = Peer::connect(proxy.address);
    peer.window(0, 1 << 20);
    assert_eq!(peer.ask(1, "/cached").answer().body.len(), 40_000);
    assert_eq!(peer.ask(3, "/cached").answer().body.len(), 40_000);
    assert_eq!(proxy.get("/cached").body.len(), 40_000);
    for (id, field, status, len) in
        [(5, ("range", "bytes=0-9"), 206, 10), (7, ("if-none-match", "\"1\""), 304, 0)]
    {
        peer.headers(id, &[&get("/cached")[..], &[field]].concat(), true);
        let answer = peer.outcome(id).answer();
        assert_eq!((answer.status, answer.body.len()), (status, len));
    }
    assert_eq!(origin.requests().len(), 1);
}

/// No stream is allowed at first, then one.
fn m18_room_that_comes_later(driver: Driver) {
    let origin = h2_origin(&[(3, 0)], |_, next, peer| {
        if next.kind == SETTINGS && next.flags & ACK == 0 {
            std::thread::park_timeout(Duration::from_millis(300));
            peer.settings(&[(3, 1)]);
        }
        if next.kind == HEADERS {
            peer.headers(next.id, OK, false);
            peer.data(next.id, b"ok", true);
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    for _ in 0..3 {
        assert_eq!(proxy.get("/x").body, b"ok");
    }
}

/// Twenty clients that take nothing of what an endpoint sends, in large frames and in small ones:
/// whoever else uses that connection notices nothing.
fn m19_clients_that_do_not_read(driver: Driver) {
    let origin = h2_origin(&[], |_, next, peer| {
        if next.kind != HEADERS {
            return;
        }
        let path = next.fields.iter().find(|(name, _)| name == ":path").unwrap().1.clone();
        peer.headers(next.id, OK, false);
        // As much as its window takes, and no end.
        match path.as_str() {
            "/large" => {
                for _ in 0..3 {
                    peer.data(next.id, &[b'x'; 16_384], false);
                }
            }
            "/small" => {
                let many: Vec<u8> = frame(DATA, 0, next.id, &[b'x'; 20]).repeat(3000);
                peer.send(many);
            }
            path => {
                let path = path.to_owned();
                peer.data(next.id, path.as_bytes(), true);
            }
        }
    });
    let proxy = h2_proxy(driver, &origin, "");
    let mut stalled = Vec::new();
    for number in 0..20 {
        let mut peer = Peer::connect_with(proxy.address, &[(4, 0)]);
        peer.headers(1, &get(if number % 2 == 0 { "/large" } else { "/small" }), true);
        stalled.push(peer);
    }
    for number in 0..30 {
        let path = format!("/other/{number}");
        assert_eq!(proxy.get(&path).body, path.as_bytes());
    }
    assert_eq!(origin.connections(), 1);
}

fn m19_one_slow_reader_of_a_hundred(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.path() == "/large" {
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n");
            link.send(vec![b'x'; 1 << 20]);
        }
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    let mut peer = Peer::connect(proxy.address);
    // Its window is never opened; the connection's is.
    peer.window(0, 100 << 20);
    peer.headers(1, &get("/large"), true);
    for number in 1..100 {
        peer.headers(odd(number), &get("/small"), true);
    }
    for number in 1..100 {
        assert_eq!(peer.outcome(odd(number)).answer().body, b"/small", "{number}");
    }
    assert_eq!(peer.outcome_within(1, Duration::from_millis(200)), Outcome::Silence);
    assert_eq!(proxy.get("/other").status, 200);
}
