//! Group D: pooled upstream connections. Whatever went wrong before, the next request gets its own
//! answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace::base::random::Random;
use millrace::wire::proxy_protocol::{ProxyVersion, parse, write};

use super::b_responses::Bench;
use crate::Row;
use crate::support::{Does, Driver, Origin, Proxy, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("d01_every_fault_then_marks", d01),
        ("d02_client_leaves_during_the_answer", d02),
        ("d03_client_leaves_during_the_upload", d03),
        ("d04_early_answer", d04),
        ("d05_idle_connection_was_closed", d05),
        ("d06_idle_connection_stirs", d06),
        ("d07_timeout_meets_answer", d07),
        ("d08_pipelined", d08),
        ("d09_identities_are_kept_apart", d09),
        ("d10_descriptors_are_reused", d10),
    ]
}

fn d01(driver: Driver) {
    let fake = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake";
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let bytes: Vec<String> = vec![
        format!("{ok}Content-Length: 100\r\n\r\n12345"),
        format!("{ok}{chunked}5\r\nhello\r\n"),
        format!("{ok}{chunked}ZZ\r\n{fake}"),
        format!("{ok}{chunked}5\nhello\n0\n\n{fake}"),
        format!("{ok}\r\nhello"),
        format!("{ok}Content-Length: 5\r\n\r\nhello{fake}"),
        format!("{ok}{chunked}5\r\nhello\r\n0\r\n\r\n{fake}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{fake}"),
        format!("HTTP/1.1 304 Not Modified\r\n\r\n{fake}"),
        format!("{ok}Content-Length: 3\r\n{chunked}5\r\nhello\r\n0\r\n\r\n{fake}"),
        format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello{fake}"),
        format!("{ok}Content-Length: +5\r\n\r\nhello{fake}"),
        format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n{fake}"),
        format!("HTTP/1.0 200 OK\r\n{chunked}5\r\nhello\r\n0\r\n\r\n{fake}"),
        format!("{ok}A: b\r\n c\r\n\r\n{fake}"),
        format!("HTTP/1.1 99 X\r\n\r\n{fake}"),
        format!("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n{fake}"),
        format!("SSH-2.0-x\r\n{fake}"),
        format!("{}{fake}", "HTTP/1.1 102 P\r\n\r\n".repeat(40)),
        format!("HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{fake}"),
        format!("{ok}A: {}\r\n\r\n{fake}", "b".repeat(60_000)),
        format!("{ok}{chunked}2\r\nok\r\n0\r\nno colon\r\n\r\n{fake}"),
        String::new(),
    ];
    let mut scripts = Vec::new();
    for bytes in bytes {
        for does in [Does::Close, Does::Reset, Does::Keep] {
            // Half an answer and silence is a matter of deadlines: group F.
            let is_whole = bytes.contains(fake);
            if does != Does::Keep || is_whole {
                scripts.push((bytes.clone().into_bytes(), does));
            }
        }
    }
    let count = scripts.len();
    assert!(count >= 45);
    let bench = Bench::new(driver, scripts);
    for at in 0..count {
        // A pooled connection first, so that the fault happens on one that was used before.
        assert_eq!(bench.proxy.get("/mark/before").body, b"/mark/before");
        let mut client = bench.proxy.connect();
        client.send(format!(
            "GET /fault/{at} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        ));
        let (bytes, _) = client.read_to_end();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains("fake") || text.matches("HTTP/1.1 200").count() == 0,
            "{at}: {text}"
        );
        mark(&bench.proxy);
    }
}

fn d02(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n");
        let block = vec![b'x'; 1 << 16];
        for _ in 0..762 {
            link.send(&block);
        }
        link.send(vec![b'x'; 50_000_000 - 762 * (1 << 16)]);
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    for _ in 0..5 {
        let mut client = proxy.connect();
        client.send("GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        drop(client);
        mark(&proxy);
    }
}

fn d03(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let before = origin.requests().len();
        let mut client = proxy.connect();
        client.send(format!(
            "POST /up HTTP/1.1\r\nHost: a.example\r\n{framing}\r\n\r\n5\r\nhello\r\n"
        ));
        until("the origin to see the beginning", || {
            String::from_utf8_lossy(&origin.bytes().concat()).matches("/up").count() > 0
        });
        drop(client);
        until("the origin to see it break off", || origin.requests().len() > before);
        assert!(!origin.last().is_complete);
        mark(&proxy);
    }
}

fn d04(driver: Driver) {
    let origin = Origin::raw(|link| {
        while let Some(mut request) = link.head() {
            if request.path().starts_with("/mark/") {
                link.body(&mut request);
                let body = request.path();
                link.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            } else {
                link.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
                link.body(&mut request);
            }
            link.note(&request);
        }
    });
    let proxy = Proxy::before(driver, &origin);
    for _ in 0..10 {
        let mut client = proxy.connect();
        client.send("POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000\r\n\r\n");
        client.send(vec![b'x'; 1000]);
        let reply = client.reply();
        assert_eq!((reply.status, reply.body.as_slice()), (413, &b"big"[..]));
        assert!(reply.closes());
        mark(&proxy);
    }
    crate::support::assert_last_on_its_connection(&origin, "/up");
}

fn d05(driver: Driver) {
    // Answers once, keeps the connection, and drops it the moment the next request arrives.
    let origin = Origin::raw(|link| {
        let Some(first) = link.request() else { return };
        let body = first.path();
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        if link.more() && link.number % 2 == 0 {
            link.reset();
        }
    });
    let proxy = Proxy::before(driver, &origin);
    for number in 0..20 {
        // The first fills the pool; the second finds a connection that dies under it.
        assert_eq!(proxy.get("/one").body, b"/one");
        let path = format!("/two/{number}");
        assert_eq!(proxy.get(&path).body, path.as_bytes(), "a GET is tried again, once, afresh");
    }
    let count = |origin: &Origin, what: &str| {
        String::from_utf8_lossy(&origin.bytes().concat()).matches(what).count()
    };
    for body in ["", "hello"] {
        assert_eq!(proxy.get("/one").body, b"/one");
        let before = count(&origin, "POST /three");
        let mut client = proxy.connect();
        let length = body.len();
        client.send(format!(
            "POST /three HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(client.reply().status, 502, "a POST may have been executed");
        assert_eq!(count(&origin, "POST /three"), before + 1, "it is never sent twice");
    }
}

fn d06(driver: Driver) {
    let (sent, stirred) = std::sync::mpsc::channel();
    let sent = std::sync::Mutex::new(sent);
    let origin = Origin::scripted(move |_, link| {
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        std::thread::park_timeout(Duration::from_millis(10));
        link.send("H");
        sent.lock().unwrap().send(()).unwrap();
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    for round in 0..5 {
        assert_eq!(proxy.get("/stir").body, b"ok");
        // The byte is in the proxy's socket now, on a connection that idles in the pool.
        stirred.recv_timeout(crate::support::PATIENCE).unwrap();
        mark(&proxy);
        assert_eq!(origin.connections(), 2 + round, "the stirred one was let go");
    }
}

/// Answers arrive around the deadline: a late one is never delivered to another client.
fn d07(driver: Driver) {
    let random = std::sync::Mutex::new(Random::new(7));
    let origin = Origin::raw(move |link| {
        while let Some(request) = link.request() {
            let wait = 150 + random.lock().unwrap().bits() % 300;
            std::thread::park_timeout(Duration::from_millis(wait));
            let body = request.path();
            link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nfirst_byte = \"200ms\"\n");
    let (late, fine) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..100)
        .map(|thread| {
            let (address, late, fine) = (proxy.address, Arc::clone(&late), Arc::clone(&fine));
            std::thread::spawn(move || {
                let mut client = crate::support::Client::connect(address);
                for number in 0..20 {
                    let path = format!("/run/{thread}/{number}");
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
                    let reply = client.reply();
                    match reply.status {
                        200 => {
                            assert_eq!(
                                reply.body,
                                path.as_bytes(),
                                "a late answer of another request"
                            );
                            fine.fetch_add(1, Ordering::Relaxed);
                        }
                        504 => {
                            late.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other}: {}", reply.text()),
                    }
                    if reply.closes() {
                        client = crate::support::Client::connect(address);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (late, fine) = (late.load(Ordering::Relaxed), fine.load(Ordering::Relaxed));
    assert_eq!(late + fine, 2000);
    assert!(
        late > 50 && fine > 50,
        "the race was met from both sides: {late} late, {fine} in time"
    );
}

fn d08(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.path().starts_with("/304") {
            link.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
        } else if request.path().starts_with("/chunked") {
            let body = request.path();
            link.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ));
        }
        Does::Keep
    });
    let routes = "[[route]]\npath = \"/here\"\nrespond = { body = \"here\" }\n[[route]]\npath = \"/\"\ncluster = \"app\"\nmethods = [\"GET\", \"HEAD\", \"POST\"]\n";
    let proxy = Proxy::with(driver, &origin, routes);
    let kinds = [
        "GET /plain",
        "HEAD /plain",
        "GET /304",
        "GET /chunked",
        "GET /here",
        "POST /post",
        "PUT /no",
    ];
    let mut all = String::new();
    for number in 0..50 {
        let kind = kinds[number % kinds.len()];
        let (lines, body) =
            if kind.starts_with("POST") { ("Content-Length: 4\r\n", "body") } else { ("", "") };
        all.push_str(&format!("{kind}/{number} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n{body}"));
    }
    let mut client = proxy.connect();
    client.send(&all);
    for number in 0..50 {
        let kind = kinds[number % kinds.len()];
        client.asked_head = kind.starts_with("HEAD");
        let reply = client.reply();
        assert!(reply.is_complete, "{number}: {}", reply.text());
        let (method, path) = kind.split_once(' ').unwrap();
        match (method, path) {
            ("HEAD", _) => assert_eq!((reply.status, reply.body.len()), (200, 0)),
            (_, "/304") => assert_eq!(reply.status, 304),
            (_, "/here") => assert_eq!(reply.body, b"here"),
            ("PUT", _) => assert_eq!(reply.status, 405),
            _ => assert_eq!(reply.body, format!("{path}/{number}").as_bytes()),
        }
    }
    // A client that aborts in the middle ends its own connection to the server, and no other.
    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a.example\r\n\r\nGET /b HTTP/1.1\r\nHost: a.example\r\nBad Name: x\r\n\r\nGET /c HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.reply().body, b"/a");
    assert_eq!(client.reply().status, 400);
    assert!(client.read_to_end().0.is_empty());
    mark(&proxy);
}

fn d09(driver: Driver) {
    let origin = Origin::raw(|link| {
        // Every connection begins with the client it is for, and serves that one only.
        let source = loop {
            match parse(&link.rest).expect("a PROXY header") {
                Some(header) => {
                    link.rest.drain(..header.len);
                    break header.source.unwrap();
                }
                None => assert!(link.more(), "the connection ended"),
            }
        };
        while let Some(request) = link.request() {
            assert_eq!(request.header("x-forwarded-for"), Some(source.ip().to_string().as_str()));
            let body = source.to_string();
            link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    for version in ["v1", "v2"] {
        let more = format!(
            "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\n\
             [[cluster]]\nname = \"app\"\nproxy_protocol = \"{version}\"\n[[cluster.endpoint]]\naddress = \"{{origin}}\"\n"
        );
        let proxy = Proxy::with(driver, &origin, &more);
        let clients: Vec<SocketAddr> = (1..=8)
            .map(|number| format!("10.0.0.{number}:{}", 1000 + number).parse().unwrap())
            .collect();
        let mut open: Vec<_> = clients
            .iter()
            .map(|source| {
                let mut client = proxy.connect();
                client.send(write(ProxyVersion::V2, *source, "10.9.9.9:80".parse().unwrap()));
                client
            })
            .collect();
        for _ in 0..5 {
            for (client, source) in open.iter_mut().zip(&clients) {
                client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
                assert_eq!(client.reply().body, source.to_string().as_bytes());
            }
        }
    }
}

/// Thousands of short connections, some of them broken off at every stage: a descriptor's next
/// user never sees a byte of the last.
fn d10(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let before = proxy.fds();
    let threads: Vec<_> = (0..4)
        .map(|thread: usize| {
            let address = proxy.address;
            std::thread::spawn(move || {
                for number in 0..2500_usize {
                    let path = format!("/churn/{thread}/{number}");
                    let mut client = crate::support::Client::connect(address);
                    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
                    match number % 5 {
                        0 => client.send(&request.as_bytes()[..number % request.len()]),
                        1 => {
                            client.send(&request);
                        }
                        _ => {
                            client.send(&request);
                            assert_eq!(client.reply().body, path.as_bytes());
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    mark(&proxy);
    // What stays open is the pool.
    until("descriptors to be given back", || proxy.fds() <= before + 130);
}
