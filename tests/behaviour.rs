//! What the program does besides the exam: forwarding, streaming, upgrades, names, shutdown.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::{Does, Driver, End, Origin, Proxy, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("keep_alive_and_http10", keep_alive),
        ("bodies_of_every_size_both_ways", bodies),
        ("events_are_not_delayed", events),
        ("websocket_tunnel", websocket),
        ("errors_in_the_form_that_was_asked_for", errors),
        ("access_log_agrees_with_the_answer", access_log),
        ("redirects_responses_rewrites_and_rules", actions),
        ("every_answer_has_the_routes_headers", every_answer),
        ("round_robin_spreads_and_dead_endpoints_are_passed_over", spread),
        ("refused_connections_and_silence", upstream_faults),
        ("unix_sockets", unix_sockets),
        ("names_are_resolved_and_unresolvable_ones_are_down", names),
        ("sigterm_drains", drain),
        ("several_cores_and_listeners", several),
        ("total_timeout", total),
        ("host_policies", host_policies),
        ("the_command_line", command_line),
        ("sighup_reopens_the_log", sighup_reopens_the_log),
        ("a_steady_slow_reader_is_served", steady_slow_reader),
        ("total_timeout_of_a_flow", total_holds_for_a_flow),
        ("drain_without_descriptors", drain_without_descriptors),
        ("a_port_in_use_is_refused", port_in_use),
    ]
}

fn keep_alive(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    for number in 0..50 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(reply.body, format!("/{number}").as_bytes());
        assert!(reply.header("connection").is_none() && reply.header("date").is_some());
    }
    assert_eq!(origin.connections(), 1, "one upstream connection carries them all");
    let mut old = proxy.connect();
    old.send("GET /a HTTP/1.0\r\n\r\n");
    let reply = old.reply();
    assert_eq!((reply.status, reply.closes()), (200, true));
    assert_eq!(old.read_to_end().1, End::Fin);
    let mut old = proxy.connect();
    for _ in 0..3 {
        old.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(old.reply().header("connection"), Some("keep-alive"));
    }
}

/// Patterns of every size around the buffers' edges, by length and by chunks, both ways.
fn bodies(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let body = &request.body;
        if request.path() == "/chunked" {
            link.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in body.chunks(7000) {
                link.send(format!("{:x}\r\n", piece.len()));
                link.send(piece);
                link.send("\r\n");
            }
            link.send("0\r\n\r\n");
        } else {
            link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            link.send(body);
        }
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    for size in [0, 1, 15_900, 16_300, 16_384, 16_400, 65_500, 65_536, 70_000, 300_000, 5_000_000] {
        let pattern: Vec<u8> =
            (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for path in ["/length", "/chunked"] {
            for is_chunked in [false, true] {
                let mut client = proxy.connect();
                let (sent, mut writer) = (pattern.clone(), client.stream.try_clone().unwrap());
                let head = if is_chunked {
                    "Transfer-Encoding: chunked".to_owned()
                } else {
                    format!("Content-Length: {size}")
                };
                let upload = std::thread::spawn(move || {
                    let _ =
                        write!(writer, "POST {path} HTTP/1.1\r\nHost: a.example\r\n{head}\r\n\r\n");
                    if is_chunked {
                        for piece in sent.chunks(9999) {
                            let _ = write!(writer, "{:X}\r\n", piece.len());
                            let _ = writer.write_all(piece);
                            let _ = writer.write_all(b"\r\n");
                        }
                        let _ = writer.write_all(b"0\r\n\r\n");
                    } else {
                        let _ = writer.write_all(&sent);
                    }
                });
                let reply = client.reply();
                upload.join().unwrap();
                assert!(reply.is_complete && reply.status == 200, "{size} {path}");
                assert!(reply.body == pattern, "{size} {path} {is_chunked}: the bytes differ");
            }
        }
    }
    mark(&proxy);
}

fn events(driver: Driver) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::scripted(move |_, link| {
        link.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        for number in 0..3 {
            link.send(format!("data: {number}\n\n"));
            // The next event waits until the client has seen this one.
            wait.lock().unwrap().recv().unwrap();
        }
        Does::Close
    });
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let head = client.head();
    assert!(head.contains("text/event-stream"), "{head}");
    for number in 0..3 {
        let wanted = format!("data: {number}\n\n");
        until("an event", || {
            let mut block = [0; 4096];
            if !String::from_utf8_lossy(&client.rest).contains(&wanted) {
                let len = client.stream.read(&mut block).unwrap();
                client.rest.extend_from_slice(&block[..len]);
            }
            String::from_utf8_lossy(&client.rest).contains(&wanted)
        });
        go.send(()).unwrap();
    }
}

fn websocket(driver: Driver) {
    let origin = Origin::raw(|link| {
        let Some(request) = link.request() else { return };
        assert_eq!(request.header("upgrade"), Some("websocket"));
        assert_eq!(request.header("connection"), Some("upgrade"));
        // The first bytes of the tunnel come with the 101.
        link.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello");
        while link.more() {
            let echo = std::mem::take(&mut link.rest);
            link.send(echo);
        }
        link.send("bye");
    });
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send("GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nearly");
    let reply = client.reply();
    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("upgrade"), Some("websocket"));
    assert_eq!(reply.header("sec-websocket-accept"), Some("x"));
    let expect = |client: &mut crate::support::Client, wanted: &[u8]| {
        let mut block = [0; 65536];
        while client.rest.len() < wanted.len() {
            let len = client.stream.read(&mut block).unwrap();
            assert!(len > 0, "{}", client.rest.escape_ascii());
            client.rest.extend_from_slice(&block[..len]);
        }
        assert!(client.rest == wanted);
        client.rest.clear();
    };
    expect(&mut client, b"helloearly");
    for size in [1, 1000, 100_000] {
        let block = vec![b'z'; size];
        client.send(&block);
        expect(&mut client, &block);
    }
    client.half_close();
    let (rest, end) = client.read_to_end();
    assert_eq!((rest.as_slice(), end), (&b"bye"[..], End::Fin), "the other direction goes on");
}

fn errors(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(
        driver,
        &origin,
        "[[route]]\nhost = \"a.example\"\npath = \"/app\"\ncluster = \"app\"\n",
    );
    for (accept, kind, has) in [
        ("text/html", "text/html; charset=utf-8", "<h1>404 Not Found</h1>"),
        ("application/json", "application/problem+json", "\"status\":404"),
        ("*/*", "text/plain; charset=utf-8", "404 Not Found\n"),
    ] {
        let mut client = proxy.connect();
        client.send(format!("GET /x HTTP/1.1\r\nHost: a.example\r\nAccept: {accept}\r\n\r\n"));
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("content-type")), (404, Some(kind)));
        assert!(String::from_utf8_lossy(&reply.body).contains(has));
        let status = reply.header("proxy-status").unwrap();
        assert!(
            status.starts_with("millrace-") && status.ends_with("; error=destination_not_found"),
            "{status}"
        );
        // A plain routing error does not cost the connection.
        assert!(!reply.closes());
        client.send("GET /app HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    }
    let mut client = proxy.connect();
    client.asked_head = true;
    client.send("HEAD /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    assert_eq!(client.reply().status, 404);
    assert!(client.read_to_end().0.is_empty(), "an answer to HEAD has no body");
}

fn access_log(driver: Driver) {
    let origin = Origin::echo();
    let log = crate::support::proxy::temporary("log");
    let more = format!("[access_log]\npath = \"{}\"\n[limits]\nbody = \"10B\"\n", log.display());
    let mut proxy = Proxy::with(driver, &origin, &more);
    let send = |bytes: &str| {
        let mut client = proxy.connect();
        client.send(bytes);
        let reply = client.reply();
        (u64::from(reply.status), reply.body.len())
    };
    let answers = [
        send("GET /ok?q HTTP/1.1\r\nHost: a.example\r\nUser-Agent: me\r\n\r\n"),
        send("POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbody"),
        send("POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 40\r\n\r\n"),
        send("GET / HTTP/1.1\r\n\r\n"),
        send("NOISE\r\n\r\n"),
    ];
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), answers.len(), "{text}");
    for (line, (status, bytes)) in lines.iter().zip(answers) {
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["bytes_out"], bytes, "{line}");
    }
    assert_eq!(lines[0]["target"], "/ok?q");
    assert_eq!(lines[0]["user_agent"], "me");
    assert_eq!(lines[0]["endpoint"], origin.address.to_string());
    assert_eq!(lines[1]["bytes_in"], 4);
    assert_eq!(lines[2]["flag"], "body_too_large");
    assert_eq!(lines[3]["flag"], "host");
    let _ = std::fs::remove_file(log);
}

fn actions(driver: Driver) {
    let origin = Origin::echo();
    let routes = r#"
[[route]]
path = "/teapot"
respond = { status = 418, body = "short and stout", headers = { x-a = "b" } }
[[route]]
path = "/moved"
redirect = { status = 302, host = "new.example", path = "/here" }
[[route]]
path = "/api"
cluster = "app"
rewrite = { strip_prefix = "/api", add_prefix = "/v2" }
request_headers = { set = { x-set = "1" }, add = { x-add = "2" }, remove = ["x-remove"] }
response_headers = { set = { server = "m" }, remove = ["x-origin"] }
"#;
    let proxy = Proxy::with(driver, &origin, routes);
    let reply = proxy.get("/teapot");
    assert_eq!(
        (reply.status, reply.body.as_slice(), reply.header("x-a")),
        (418, &b"short and stout"[..], Some("b"))
    );
    let reply = proxy.get("/moved?q=1");
    assert_eq!(
        (reply.status, reply.header("location")),
        (302, Some("http://new.example/here?q=1"))
    );
    let mut client = proxy.connect();
    client.send("GET /api/x?y HTTP/1.1\r\nHost: a.example\r\nX-Set: 0\r\nX-Remove: 1\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.body.as_slice(), reply.header("server")), (&b"/v2/x?y"[..], Some("m")));
    let request = origin.last();
    assert_eq!(
        (request.header("x-set"), request.header("x-add"), request.header("x-remove")),
        (Some("1"), Some("2"), None)
    );
}

/// A route of each kind, all with the same rules for what the client gets.
fn ruled_routes(dead: std::net::SocketAddr) -> String {
    let rules = "response_headers = { set = { x-rule = \"1\" }, remove = [\"x-origin\"] }";
    format!(
        r#"
[cache]
memory = "1MiB"
[[cluster]]
name = "app"
[[cluster.endpoint]]
address = "{{origin}}"
[[cluster]]
name = "dead"
[[cluster.endpoint]]
address = "{dead}"
[[route]]
path = "/fixed"
respond = {{ status = 418, body = "tea" }}
{rules}
[[route]]
path = "/moved"
redirect = {{ path = "/here" }}
{rules}
[[route]]
path = "/dead"
cluster = "dead"
{rules}
[[route]]
path = "/stored"
cluster = "app"
cache = true
{rules}
[[route]]
path = "/"
cluster = "app"
limits = {{ body = "1KiB" }}
{rules}
"#
    )
}

/// Relayed, stored, in part, unchanged, fixed, a redirect, OPTIONS, errors: all go out by one door.
fn every_answer(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"x\"\r\nX-Origin: o\r\n\
             Content-Length: 5\r\n\r\nhello",
        );
        Does::Keep
    });
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routes = ruled_routes(dead);
    let proxy = Proxy::with(driver, &origin, &routes);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n", 200),
        ("GET /stored HTTP/1.1\r\n", 200),
        ("GET /stored HTTP/1.1\r\n", 200),
        ("GET /stored HTTP/1.1\r\nRange: bytes=1-2\r\n", 206),
        ("GET /stored HTTP/1.1\r\nIf-None-Match: \"x\"\r\n", 304),
        ("GET /fixed HTTP/1.1\r\n", 418),
        ("GET /moved HTTP/1.1\r\n", 308),
        ("OPTIONS / HTTP/1.1\r\nMax-Forwards: 0\r\n", 200),
        ("GET /dead HTTP/1.1\r\n", 502),
        ("POST / HTTP/1.1\r\nContent-Length: 2000\r\n", 413),
        ("GET /stored?other HTTP/1.1\r\nCache-Control: only-if-cached\r\n", 504),
    ] {
        let mut client = proxy.connect();
        client.send(format!("{request}Host: a.example\r\n\r\n"));
        let reply = client.reply();
        let told = (reply.status, reply.header("x-rule"), reply.header("x-origin"));
        assert_eq!(told, (status, Some("1"), None), "{request}: {}", reply.text());
        assert!(reply.header("date").is_some(), "{request}");
    }
}

fn spread(driver: Driver) {
    let origins = [Origin::echo(), Origin::echo()];
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n[[cluster.endpoint]]\naddress = \"{dead}\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\nweight = 3\n[[route]]\ncluster = \"app\"\n",
        origins[0].address, origins[1].address
    );
    let proxy = Proxy::run(driver, &text, &[], None);
    for number in 0..40 {
        let mut client = proxy.connect();
        // POST too: nothing was sent where no server listens.
        client.send(format!(
            "POST /{number} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nab"
        ));
        assert_eq!(client.reply().status, 200, "request {number}");
    }
    let counts = origins.each_ref().map(|origin| origin.requests().len());
    assert_eq!(counts[0] + counts[1], 40);
    assert!((8..=14).contains(&counts[0]), "{counts:?} of weights 1 and 3");
}

fn upstream_faults(driver: Driver) {
    let silent = Origin::raw(|link| while link.more() {});
    let proxy = Proxy::with(driver, &silent, "[timeouts]\nfirst_byte = \"300ms\"\n");
    let reply = proxy.get("/x");
    assert_eq!(reply.status, 504);
    assert!(reply.header("proxy-status").unwrap().contains("http_response_timeout"));
    let stalls = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        while link.more() {}
        Does::Close
    });
    let proxy = Proxy::with(driver, &stalls, "[timeouts]\nbody_idle = \"300ms\"\n");
    let reply = proxy.get("/x");
    assert!(reply.status == 200 && !reply.is_complete, "{}", reply.text());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cluster =
        format!("[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{dead}\"\n");
    let proxy = Proxy::with(driver, &stalls, &cluster);
    let reply = proxy.get("/x");
    assert_eq!(reply.status, 502);
    assert!(reply.header("proxy-status").unwrap().contains("connection_refused"));
    // A full accept queue drops the SYN: the connection never stands.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let filled: Vec<_> = fill_queue(&full);
    let address = full.local_addr().unwrap();
    let cluster = format!(
        "[timeouts]\nconnect = \"300ms\"\n[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{address}\"\n"
    );
    let proxy = Proxy::with(driver, &stalls, &cluster);
    let start = Instant::now();
    assert_eq!(proxy.get("/x").status, 504);
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(filled);
}

/// Connects until the listener's queue takes no more.
fn fill_queue(listener: &std::net::TcpListener) -> Vec<std::net::TcpStream> {
    use std::os::fd::AsRawFd;
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "a smaller backlog")]
    unsafe {
        libc::listen(listener.as_raw_fd(), 0);
    }
    let address = listener.local_addr().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    std::iter::from_fn(|| connect().ok()).take(100).collect()
}

fn unix_sockets(driver: Driver) {
    let path = crate::support::proxy::temporary("sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut block = [0; 65536];
                while let Ok(1..) = stream.read(&mut block) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
                }
            });
        }
    });
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\n\
         address = \"unix:{}\"\n[[route]]\ncluster = \"app\"\n",
        path.display()
    );
    let proxy = Proxy::run(driver, &text, &[], None);
    let mut client = proxy.connect();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.reply().body, b"unix");
    }
    let _ = std::fs::remove_file(path);
}

fn names(driver: Driver) {
    let origin = Origin::echo();
    let port = origin.address.port();
    let cluster = |name: &str| {
        format!("[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{name}:{port}\"\n")
    };
    // localhost may be ::1 first, where no server listens: the next address is tried.
    let proxy = Proxy::with(driver, &origin, &cluster("localhost"));
    assert_eq!(proxy.get("/named").body, b"/named");
    // No such name, asked of a server that does not answer: the proxy starts and says so.
    let more = format!("{}[dns]\nservers = [\"127.0.0.1:9\"]\n", cluster("nowhere.invalid"));
    let proxy = Proxy::with(driver, &origin, &more);
    let reply = proxy.get("/x");
    assert_eq!(reply.status, 503);
    assert!(reply.header("proxy-status").unwrap().contains("dns_error"));
    // Beside one that works, no client notices.
    let both = format!(
        "{}[[cluster.endpoint]]\naddress = \"{}\"\n[dns]\nservers = [\"127.0.0.1:9\"]\n",
        cluster("nowhere.invalid"),
        origin.address
    );
    let proxy = Proxy::with(driver, &origin, &both);
    (0..10).for_each(|_| assert_eq!(proxy.get("/x").status, 200));
}

fn drain(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.path() == "/slow" {
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            std::thread::park_timeout(Duration::from_millis(700));
            link.send("half");
        }
        Does::Keep
    });
    let mut proxy = Proxy::before(driver, &origin);
    let mut slow = proxy.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let mut idle = proxy.connect();
    idle.send("GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(idle.reply().status, 200);
    until("the slow answer to begin", || origin.requests().iter().any(|one| one.path() == "/slow"));
    proxy.signal("TERM");
    until("it to drain", || proxy.log().contains("draining"));
    until("it to stop listening", || std::net::TcpStream::connect(proxy.address).is_err());
    // An idle connection may still bring a request, and is told that it was the last.
    idle.send("GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let reply = idle.reply();
    assert_eq!((reply.status, reply.closes()), (200, true));
    assert_eq!(slow.reply().body, b"halfhalf", "what is in flight is finished");
    assert_eq!(proxy.wait(), Some(0));
    assert!(proxy.log().contains("0 cut off"), "{}", proxy.log());
}

pub fn panic_ends_one(driver: Driver) {
    let origin = Origin::echo();
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\n\
         address = \"{}\"\n[[route]]\ncluster = \"app\"\n",
        origin.address
    );
    let mut proxy =
        Proxy::run(driver, &text, &[("MILLRACE_TEST", "panic"), ("RUST_BACKTRACE", "0")], None);
    if !cfg!(debug_assertions) {
        return; // the hook is not in release builds
    }
    let mut other = proxy.connect();
    other.send("GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(other.reply().status, 200);
    for _ in 0..3 {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.example\r\nX-Millrace-Panic: now\r\n\r\n");
        let (bytes, end) = client.read_to_end();
        assert!(bytes.is_empty() && end != End::Open);
        other.send("GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(other.reply().status, 200, "the core serves on");
    }
    drop(other);
    mark(&proxy);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    assert!(proxy.log().contains("3 connections panicked"), "{}", proxy.log());
    proxy.forget_panics();
}

fn several(driver: Driver) {
    let origin = Origin::echo();
    let text = format!(
        "[server]\ncores = \"all\"\n[[listener]]\nname = \"one\"\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"two\"\naddress = \"[::1]:0\"\n\
         [[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{}\"\n[[route]]\nlistener = \"one\"\ncluster = \"app\"\n\
         [[route]]\nlistener = \"two\"\nrespond = {{ body = \"two\" }}\n",
        origin.address
    );
    let proxy = Proxy::run(driver, &text, &[], None);
    let addresses = proxy.addresses();
    assert_eq!(addresses.len(), 2, "{}", proxy.log());
    for _ in 0..40 {
        assert_eq!(proxy.get("/one").body, b"/one");
        let mut client = crate::support::Client::connect(addresses[1]);
        client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.reply().body, b"two");
    }
}

fn total(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // A little now and then, for ever.
        for _ in 0..200 {
            if link.stream.write_all(b"1\r\na\r\n").is_err() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Does::Close
    });
    let proxy = Proxy::with(driver, &origin, "[timeouts]\ntotal = \"500ms\"\n");
    let start = Instant::now();
    let reply = proxy.get("/drip");
    assert!(
        !reply.is_complete && start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    mark(&proxy);
}

fn host_policies(driver: Driver) {
    let origin = Origin::echo();
    for (policy, expected) in
        [("preserve", "a.example"), ("fixed.example", "fixed.example"), ("endpoint", "")]
    {
        let cluster = "[[cluster]]\nname = \"app\"\nhost = \"POLICY\"\n[[cluster.endpoint]]\naddress = \"{origin}\"\n";
        let proxy = Proxy::with(driver, &origin, &cluster.replace("POLICY", policy));
        assert_eq!(proxy.get("/x").status, 200);
        let expected =
            if expected.is_empty() { origin.address.to_string() } else { expected.to_owned() };
        assert_eq!(origin.last().header("host"), Some(expected.as_str()));
        assert_eq!(origin.last().header("x-forwarded-host"), Some("a.example"));
    }
}

fn command_line(driver: Driver) {
    if driver == Driver::Epoll {
        return; // nothing here depends on it
    }
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_millrace")).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, example) = run(&["example"]);
    assert_eq!(code, Some(0));
    let file = crate::support::proxy::temporary("toml");
    std::fs::write(&file, &example).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(run(&["check", path]).0, Some(0));
    std::fs::write(&file, example.replace("balance =", "balanse =")).unwrap();
    let (code, text) = run(&["check", path]);
    assert_eq!(code, Some(2));
    assert!(text.contains("did you mean \"balance\"?") && text.contains("^^^^^^^"), "{text}");
    assert_eq!(run(&["run", "--config", path]).0, Some(2), "run gives the verdict of check");
    assert_eq!(run(&["check", "/nowhere/x.toml"]).0, Some(2));
    for (more, expected) in [
        ("[access_log]\npath = \"/nowhere/x.log\"\n", "/nowhere/x.log"),
        ("[server]\ncores = \"4000\"\n", "cores"),
        ("[server]\ncores = \"0,4000\"\n", "core 4000"),
    ] {
        let text = format!(
            "{more}[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = {{ status = 200 }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let is_good = expected == "cores";
        assert_eq!(run(&["check", path]).0, Some(if is_good { 0 } else { 2 }), "{more}");
        if !is_good {
            assert!(run(&["check", path]).1.contains(expected), "{more}");
            assert!(run(&["run", "--config", path]).1.contains(expected), "{more}");
        }
    }
    let (code, text) = run(&["proxy", "--to", "127.0.0.1:3001,weight=2", "--print-config"]);
    assert!(code == Some(0) && text.contains("weight = 2"), "{text}");
    std::fs::write(&file, &text).unwrap();
    assert_eq!(run(&["check", path]).0, Some(0));
    assert_eq!(run(&["proxy", "--to", "nowhere"]).0, Some(2));
    assert_eq!(run(&["proxy", "--to", "127.0.0.1:1", "--balance", "x"]).0, Some(2));
    for help in [&["--help"][..], &["proxy", "--help"], &["run", "--help"], &["demo", "--help"]] {
        assert!(run(help).1.contains("Example"), "{help:?}");
    }
    let _ = std::fs::remove_file(file);
}

fn port_in_use(driver: Driver) {
    let origin = Origin::echo();
    let first = Proxy::before(driver, &origin);
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["proxy", "--to", "127.0.0.1:1", "--listen", &first.address.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("another program listens there"), "{text}");
}

/// A client that reads steadily, far above the minimum rate but far below the sender's, is served.
fn steady_slow_reader(driver: Driver) {
    let size = 30_000_000;
    let origin = Origin::scripted(move |_, link| {
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
        let _ = link.stream.write_all(&vec![b'x'; size]);
        Does::Keep
    });
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nbody_idle = \"1s\"\n");
    let mut client = proxy.connect();
    client.send("GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let start = Instant::now();
    let mut block = vec![0; 20_000];
    let mut read = 0;
    while start.elapsed() < Duration::from_secs(5) {
        let len = client.stream.read(&mut block).unwrap();
        assert!(len > 0, "cut after {read} octets and {:?}", start.elapsed());
        read += len;
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let (rest, end) = client.read_to_end();
    assert!(read + rest.len() >= size && end != End::Reset, "{} of {size}", read + rest.len());
}

/// The total deadline holds while data flows.
fn total_holds_for_a_flow(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n");
        let block = vec![b'x'; 1 << 16];
        while link.stream.write_all(&block).is_ok() {}
        Does::Close
    });
    let log = crate::support::proxy::temporary("log");
    let more =
        format!("[timeouts]\ntotal = \"500ms\"\n[access_log]\npath = \"{}\"\n", log.display());
    let proxy = Proxy::with(driver, &origin, &more);
    let mut client = proxy.connect();
    client.send("GET /flow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let start = Instant::now();
    let mut block = vec![0; 1 << 16];
    while matches!(client.stream.read(&mut block), Ok(1..)) {
        assert!(start.elapsed() < Duration::from_secs(8), "nobody ended it");
    }
    until("the log to say why", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"flag\":\"total_timeout\""))
    });
    let _ = std::fs::remove_file(log);
}

/// With every descriptor taken, SIGTERM still drains without a spin, and the log's reader that
/// does not read does not hold the end up.
fn drain_without_descriptors(driver: Driver) {
    let origin = Origin::scripted(|_, _| {
        std::thread::park_timeout(Duration::from_millis(800));
        Does::Keep
    });
    let config = format!(
        "[server]\ndrain = \"5s\"\ncores = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n[[route]]\ncluster = \"app\"\n[timeouts]\nhead = \"2s\"\n",
        origin.address
    );
    let mut proxy = Proxy::run(driver, &config, &[], Some(48));
    let mut slow = proxy.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("the request to arrive", || origin.byte_count() > 0);
    let mut others: Vec<_> =
        (0..100).map(|_| crate::support::Client::connect(proxy.address)).collect();
    for client in &mut others {
        client.try_send("GET / HTTP/1.1\r\n");
    }
    until("accepting to pause", || proxy.log().contains("accepting pauses"));
    let ticks = proxy.cpu_ticks();
    proxy.signal("TERM");
    let reply = slow.reply();
    assert_eq!(reply.body, b"/slow", "what is in flight is finished: {}", reply.text());
    assert!(proxy.cpu_ticks() - ticks < 40, "{} ticks of CPU", proxy.cpu_ticks() - ticks);
    drop(others);
    assert_eq!(proxy.wait(), Some(0));
}

/// SIGHUP opens the access log anew, as logrotate wants; it does not end the proxy.
fn sighup_reopens_the_log(driver: Driver) {
    let origin = Origin::echo();
    let log = crate::support::proxy::temporary("log");
    let moved = crate::support::proxy::temporary("log");
    let more = format!("[access_log]\npath = \"{}\"\n", log.display());
    let proxy = Proxy::with(driver, &origin, &more);
    let lines =
        |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    assert_eq!(proxy.get("/one").status, 200);
    until("the first line", || lines(&log) == 1);
    std::fs::rename(&log, &moved).unwrap();
    proxy.signal("HUP");
    until("the log to be opened anew", || proxy.log().contains("opened anew"));
    assert_eq!(proxy.get("/two").status, 200);
    until("the second line", || lines(&log) == 1);
    assert_eq!(lines(&moved), 1);
    let _ = (std::fs::remove_file(log), std::fs::remove_file(moved));
}
