//! Group E, the second half: many clients that want the same at once, fetches that fail, memory that ends,
//! and purges that come in between.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::e_cache::{CACHES, ask, get, is_hit, say};
use super::i_health::Running;
use crate::Row;
use millrace::admin::order::AdminOrder;
use millrace::cache::purge::{Purge, What};

use crate::support::{Client, Does, Driver, Origin, Proxy, Reply, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("e10_the_client_leaves", e10),
        ("e11_one_fetch_for_all", e11),
        ("e12_a_fetch_that_fails", e12),
        ("e13_not_for_all_after_all", e13),
        ("e11_nobody_turns_collapsing_off", collapsing_stays),
        ("e10_one_who_leaves_holds_up_nobody", leaver),
        ("e10_one_who_reads_slowly_is_not_cut_off", slow_reader),
        ("e10_a_leader_who_leaves_takes_nobody_along", leaders),
        ("e19_stale_where_it_may_be", e19),
        ("e21_more_than_there_is_room_for", e21),
        ("e22_purges_race_with_fetches", e22),
        ("e22_purges_by_order", by_order),
    ]
}

fn pause(millis: u64) {
    std::thread::park_timeout(Duration::from_millis(millis));
}

/// So many clients at once; what each got, and how long it took.
fn crowd(proxy: &Proxy, count: usize, path: &str, lines: &str) -> Vec<(Reply, Duration)> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(proxy.address)).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    let begun = Instant::now();
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"));
                    (client.reply(), begun.elapsed())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn e10(driver: Driver) {
    // A body of 2 MiB that comes in two halves.
    let half = "x".repeat(1024 * 1024);
    let gate = Arc::new(AtomicUsize::new(0));
    let open = Arc::clone(&gate);
    let origin = Origin::scripted(move |_, link| {
        link.send(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2097152\r\n\r\n",
        );
        link.send(&half);
        until("the gate", || gate.load(SeqCst) > 0);
        link.send(&half);
        Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let mut first = proxy.connect();
    first.send("GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert!(first.head().contains("200 OK"));
    std::thread::scope(|scope| {
        let others = scope.spawn(|| crowd(&proxy, 20, "/big", ""));
        // The client that began the fetch resets its connection.
        until("the others to wait", || proxy.fds() > 25);
        pause(100);
        drop(first);
        open.fetch_add(1, SeqCst);
        for (reply, _) in others.join().unwrap() {
            assert!(reply.is_complete && reply.body.len() == 2_097_152, "{}", reply.head);
        }
    });
    assert_eq!(origin.requests().len(), 1, "it went on without who began it");
    assert!(is_hit(&get(&proxy, "/big", "")));
}

fn e11(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        pause(200);
        say(link, "200 OK\r\nCache-Control: max-age=60", "once")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let replies = crowd(&proxy, 200, "/hot", "");
    assert!(replies.iter().all(|(reply, _)| reply.status == 200 && reply.body == b"once"));
    assert_eq!(origin.requests().len(), 1, "one fetch for the whole process");
    let collapsed = |reply: &Reply| reply.header("cache-status").unwrap().contains("collapsed");
    assert!(replies.iter().filter(|(reply, _)| collapsed(reply)).count() >= 150);
}

/// What one client asks for on its own terms says nothing of what others get.
fn collapsing_stays(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        pause(100);
        if request.header("range").is_some() {
            link.send("HTTP/1.1 416 No\r\nContent-Range: bytes */1\r\nContent-Length: 0\r\n\r\n");
            return Does::Keep;
        }
        say(link, "200 OK\r\nCache-Control: max-age=60", "x")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let terms =
        ["Cache-Control: no-store\r\n", "Range: bytes=9-\r\n", "Cookie: a=b\r\n", "X: y\r\n"];
    for (at, lines) in terms.into_iter().enumerate() {
        let path = format!("/{at}");
        get(&proxy, &path, lines);
        if at == 3 {
            ask(&proxy, &format!("POST {path}"), "Content-Length: 0\r\n");
        }
        let before = origin.requests().len();
        crowd(&proxy, 30, &path, "");
        assert_eq!(origin.requests().len() - before, 1, "{lines}");
    }
    // Nor does it take away what is stored: a request with a cookie is answered, and that is all.
    let origin = Origin::scripted(|request, link| {
        if request.header("if-none-match").is_some() {
            link.send("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n");
            return Does::Keep;
        }
        say(link, "200 OK\r\nCache-Control: max-age=0\r\nETag: \"1\"", "x")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for lines in ["", "Cookie: a=b\r\n", "Cache-Control: no-store\r\n", "Cookie: a=b\r\n", ""] {
        assert_eq!(get(&proxy, "/v", lines).body, b"x");
    }
    let asked = origin.requests();
    let asked = asked.iter().filter(|one| one.header("if-none-match").is_some()).count();
    assert_eq!(asked, 4, "it was there to be asked about each time");
}

/// A body that turns out too large to be stored, and a client that leaves in the middle of it.
fn leaver(driver: Driver) {
    let block = "x".repeat(1024 * 1024);
    let origin = Origin::scripted(move |_, link| {
        link.send(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for _ in 0..40 {
            link.send(format!("100000\r\n{block}\r\n"));
            pause(10);
        }
        link.send("0\r\n\r\n");
        Does::Keep
    });
    let config = format!("{CACHES}[cache]\nmemory = \"8MiB\"\nobject = \"1MiB\"\n");
    let proxy = Proxy::with(driver, &origin, &config);
    std::thread::scope(|scope| {
        let stays = scope.spawn(|| get(&proxy, "/large", ""));
        until("the fetch", || !origin.requests().is_empty());
        let mut leaves = proxy.connect();
        leaves.send("GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n");
        pause(200);
        drop(leaves);
        let reply = stays.join().unwrap();
        assert!(reply.is_complete && reply.body.len() == 40 << 20, "{} octets", reply.body.len());
    });
    // Nothing of it is kept.
    until("memory to come back", || proxy.rss() < 80 * 1024);
}

/// Both get all of a body that turns out too large, though for longer than a body may be silent the
/// slow one is too far behind for the other to be given more.
fn slow_reader(driver: Driver) {
    const WHOLE: usize = 16 << 20;
    let block = "x".repeat(65_536);
    let is_followed = Arc::new(AtomicBool::new(false));
    let is_ready = Arc::clone(&is_followed);
    let origin = Origin::scripted(move |_, link| {
        until("the other", || is_ready.load(SeqCst));
        pause(100);
        link.send(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for _ in 0..WHOLE / block.len() {
            link.send(format!("10000\r\n{block}\r\n"));
        }
        link.send("0\r\n\r\n");
        Does::Keep
    });
    let config = format!(
        "{CACHES}timeouts = {{ body_idle = \"1s\" }}\n[cache]\nmemory = \"64MiB\"\nobject = \"14MiB\"\n"
    );
    let proxy = Proxy::with(driver, &origin, &config);
    std::thread::scope(|scope| {
        let fast = scope.spawn(|| get(&proxy, "/large", ""));
        until("the fetch", || !origin.requests().is_empty());
        let mut slow = std::net::TcpStream::connect(proxy.address).unwrap();
        slow.write_all(b"GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        is_followed.store(true, SeqCst);
        let (mut block, mut seen, mut tail) = (vec![0; 65_536], 0, Vec::new());
        while !tail.ends_with(b"\r\n0\r\n\r\n") {
            let len = slow.read(&mut block).unwrap();
            assert!(len > 0, "cut off after {seen} octets");
            seen += len;
            tail.extend_from_slice(&block[len.saturating_sub(16)..len]);
            tail.drain(..tail.len().saturating_sub(16));
            // Four megabytes a second at most.
            pause(len as u64 / 4000);
        }
        assert!(seen > WHOLE, "{seen}");
        let reply = fast.join().unwrap();
        assert!(reply.is_complete && reply.body.len() == WHOLE, "{} octets", reply.body.len());
    });
    assert_eq!(origin.requests().len(), 1, "they share it");
}

fn leaders(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        for _ in 0..20 {
            link.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            pause(20);
        }
        say(link, "200 OK\r\nCache-Control: max-age=60", "x")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    std::thread::scope(|scope| {
        let mut leaders: Vec<Client> = Vec::new();
        for number in 1..=2 {
            let mut leader = proxy.connect();
            leader.send("GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n");
            until("the leader's request", || origin.requests().len() >= number.min(1));
            leaders.push(leader);
        }
        let stays = scope.spawn(|| crowd(&proxy, 5, "/x", ""));
        pause(50);
        drop(leaders);
        for (reply, _) in stays.join().unwrap() {
            assert_eq!((reply.status, reply.body.as_slice()), (200, &b"x"[..]), "{}", reply.head);
        }
    });
}

fn e12(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.path() == "/midway" {
            link.send(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 99999\r\n\r\n",
            );
            link.send("x".repeat(20_000));
        }
        pause(300);
        Does::Reset
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for path in ["/before", "/midway"] {
        let before = origin.requests().len();
        let replies = crowd(&proxy, 200, path, "");
        let slowest = replies.iter().map(|(_, took)| *took).max().unwrap();
        for (reply, _) in &replies {
            assert!(reply.status == 502 || !reply.is_complete, "{path}: {}", reply.head);
        }
        let fetches = origin.requests().len() - before;
        assert!(fetches <= 5, "{path}: {fetches} fetches for one failure");
        // A second is the bar; the rest is for a loaded machine.
        assert!(slowest < Duration::from_secs(3), "{path}: {slowest:?}");
    }
}

fn e13(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        pause(100);
        let kind = request.header("x-kind").unwrap_or("none").to_owned();
        match request.path() {
            "/private" => say(link, "200 OK\r\nCache-Control: private", &kind),
            _ => say(link, "200 OK\r\nCache-Control: max-age=60\r\nVary: X-Kind", &kind),
        }
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let begun = Instant::now();
    let replies = crowd(&proxy, 50, "/private", "");
    assert!(replies.iter().all(|(reply, _)| reply.status == 200 && !is_hit(reply)));
    assert_eq!(origin.requests().len(), 50, "each its own");
    assert!(begun.elapsed() < Duration::from_secs(3), "one after the other: {:?}", begun.elapsed());
    // The same again: it is known by now, and no request waits for another.
    let again = crowd(&proxy, 20, "/private", "");
    assert!(again.iter().all(|(reply, _)| !is_hit(reply)));
    // Different ones each get their own kind, in whatever order they came.
    std::thread::scope(|scope| {
        let kinds: Vec<_> = (0..10)
            .map(|kind| {
                let proxy = &proxy;
                let lines = format!("X-Kind: {kind}\r\n");
                (kind, scope.spawn(move || crowd(proxy, 5, "/vary", &lines)))
            })
            .collect();
        for (kind, thread) in kinds {
            for (reply, _) in thread.join().unwrap() {
                assert_eq!(reply.body, kind.to_string().as_bytes(), "{}", reply.head);
            }
        }
    });
}

fn e19(driver: Driver) {
    let is_down = Arc::new(AtomicUsize::new(0));
    let down = Arc::clone(&is_down);
    let origin = Origin::scripted(move |request, link| {
        match down.load(SeqCst) {
            1 => return Does::Reset,
            2 => return say(link, "503 Busy", "busy"),
            _ => {}
        }
        let control = match request.path() {
            "/error" => "max-age=0, stale-if-error=60",
            "/must" => "max-age=0, must-revalidate, stale-if-error=60",
            "/no-cache" => "no-cache, stale-if-error=60",
            "/while" => "max-age=0, stale-while-revalidate=60",
            "/shared" => "s-maxage=0",
            _ => "max-age=0",
        };
        say(link, &format!("200 OK\r\nETag: \"1\"\r\nCache-Control: {control}"), request.path())
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    let paths = ["/error", "/must", "/no-cache", "/while", "/shared", "/plain"];
    for path in paths {
        get(&proxy, path, "");
    }
    for (state, status) in [(1, 504), (2, 503)] {
        is_down.store(state, SeqCst);
        for path in paths {
            let reply = get(&proxy, path, "");
            // RFC 9111 section 4.2.4: a disconnected cache may, where nothing forbids it.
            let may = matches!(path, "/error" | "/while") || (path, state) == ("/plain", 1);
            let expected = if may { 200 } else { status };
            assert_eq!(reply.status, expected, "{path} while {state}: {}", reply.text());
            if may {
                assert_eq!(reply.body, path.as_bytes());
            }
        }
        let asked = get(&proxy, "/plain", "Cache-Control: stale-if-error=60\r\n");
        assert_eq!(asked.status, 200, "the client allows it: {}", asked.head);
    }
    // Or not at all.
    let never = CACHES.replace("cache = true", "cache = { grace_down = \"0s\" }");
    let proxy = Proxy::with(driver, &origin, &never);
    is_down.store(0, SeqCst);
    get(&proxy, "/plain", "");
    is_down.store(1, SeqCst);
    assert_eq!(get(&proxy, "/plain", "").status, 504);
    is_down.store(0, SeqCst);
    let only = get(&proxy, "/nothing", "Cache-Control: only-if-cached\r\n");
    assert_eq!((only.status, only.header("proxy-status")), (504, None), "{}", only.head);
    assert!(only.header("cache-status").unwrap().contains("fwd="), "{}", only.head);
    assert_eq!(get(&proxy, "/error", "").status, 200);
}

fn e21(driver: Driver) {
    // 1 MiB pieces: as many as are asked for.
    let block = "x".repeat(1024 * 1024);
    let origin = Origin::scripted(move |request, link| {
        let count: usize = request.path()[1..].split('/').next().unwrap().parse().unwrap();
        if count == 0 {
            return say(link, "200 OK\r\nCache-Control: max-age=600", "small");
        }
        if request.path().ends_with("chunked") {
            link.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..count {
                link.send(format!("100000\r\n{block}\r\n"));
            }
            link.send("0\r\n\r\n");
            return Does::Keep;
        }
        let length = count * block.len();
        link.send(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {length}\r\n\r\n"
        ));
        for _ in 0..count {
            link.send(&block);
        }
        Does::Keep
    });
    let config = format!("{CACHES}[cache]\nmemory = \"32MiB\"\n");
    let proxy = Proxy::with(driver, &origin, &config);
    // What is too large is passed on and not stored, whether it says so or not.
    for path in ["/100/length", "/100/chunked"] {
        for _ in 0..2 {
            let reply = get(&proxy, path, "");
            let len = reply.body.len();
            assert!(reply.is_complete && len == 100 << 20, "{path}: {len} octets, {}", reply.head);
            assert!(!is_hit(&reply), "{path}");
        }
    }
    // Many: the budget holds, and what was wanted last is there.
    for number in 0..60 {
        get(&proxy, &format!("/2/{number}"), "");
    }
    let last = get(&proxy, "/2/59", "");
    assert!(is_hit(&last), "{}", last.head);
    let mut client = proxy.connect();
    for number in 0..20_000 {
        client.send(format!("GET /0/{number} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert_eq!(client.reply().status, 200);
    }
    let base = 48 * 1024;
    let rss = proxy.rss();
    assert!(rss < base + 36 * 1024, "{rss} KiB resident for a cache of 32 MiB");
    assert!(is_hit(&get(&proxy, "/0/19999", "")));
}

/// What the admin API will do.
fn by_order(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        say(link, "200 OK\r\nCache-Control: max-age=60\r\nCache-Tag: t", "x")
    });
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\nhealth = {{ type = \"off\" }}\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n{CACHES}",
        origin.address
    );
    let running = Running::start(driver, &config);
    let get = |path: &str| {
        let mut client = Client::connect(running.address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        client.reply()
    };
    for path in ["/1", "/2", "/3"] {
        get(path);
        assert!(is_hit(&get(path)));
    }
    let purge = |what| {
        let (reply, result) = crossbeam_channel::bounded(1);
        let purge = Purge { what, is_soft: false };
        running.orders.send(AdminOrder::Purge { purge, reply }).unwrap();
        result.recv_timeout(crate::support::PATIENCE).unwrap().unwrap()
    };
    assert_eq!(purge(What::url(false, b"a.example", b"/1")), 1);
    assert!(!is_hit(&get("/1")) && is_hit(&get("/2")));
    assert_eq!(purge(What::Tags(vec![b"t".to_vec()])), 3);
    assert!(!is_hit(&get("/2")) && !is_hit(&get("/3")));
}

fn e22(driver: Driver) {
    let version = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&version);
    let origin = Origin::scripted(move |request, link| {
        // What it reads now is what it says, however long that takes.
        let seen = now.load(SeqCst);
        if request.path().starts_with("/slow") {
            pause(5);
        }
        say(
            link,
            "200 OK\r\nCache-Control: max-age=600\r\nSurrogate-Key: all odd",
            &seen.to_string(),
        )
    });
    let config = format!("{CACHES}[cache]\npurge = [\"127.0.0.1\"]\n");
    let proxy = Proxy::with(driver, &origin, &config);
    let words =
        ["", "Millrace-Purge: prefix\r\n", "Surrogate-Key: odd\r\n", "Millrace-Purge: all\r\n"];
    let rounds = if std::env::var_os("MILLRACE_LONG").is_some() { 1000 } else { 200 };
    for round in 0..rounds {
        let path = format!("/slow/{}", round % 7);
        std::thread::scope(|scope| {
            let racing = scope.spawn(|| get(&proxy, &path, ""));
            pause(round as u64 % 7);
            let next = version.fetch_add(1, SeqCst) + 1;
            let purged = ask(&proxy, &format!("PURGE {path}"), words[round % 4]);
            assert_eq!(purged.status, 200, "{}", purged.text());
            // From here on no client may see what was there before.
            let after = get(&proxy, &path, "");
            let seen: usize = String::from_utf8_lossy(&after.body).parse().unwrap();
            assert!(
                seen >= next,
                "round {round}: {seen} after the purge to {next}: {}",
                after.head
            );
            racing.join().unwrap();
            let later = get(&proxy, &path, "");
            let seen: usize = String::from_utf8_lossy(&later.body).parse().unwrap();
            assert!(seen >= next, "round {round}: an older fetch came in late: {}", later.head);
        });
    }
    // A soft purge leaves what may be served stale; strangers may not purge at all.
    get(&proxy, "/soft", "");
    ask(&proxy, "PURGE /soft", "Millrace-Purge: soft\r\n");
    assert!(!is_hit(&get(&proxy, "/soft", "")));
    for words in ["everything", "all, prefix", "all\r\nCache-Tag: x"] {
        let lines = format!("Millrace-Purge: {words}\r\n");
        assert_eq!(ask(&proxy, "PURGE /soft", &lines).status, 400, "{words}");
    }
    let config = format!("{CACHES}[cache]\npurge = [\"10.0.0.0/8\"]\n");
    let other = Proxy::with(driver, &origin, &config);
    assert_eq!(ask(&other, "PURGE /soft", "").status, 403);
}
