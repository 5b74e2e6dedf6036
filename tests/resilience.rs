//! Retries, stickiness and the word that turns it all off, as a user configures them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::{
    Client, Does, Driver, Ends, Link, Origin, Proxy, Reply, Request, cluster, nobody, until,
};

pub fn rows() -> Vec<Row> {
    vec![
        ("statuses_are_tried_again_as_configured", statuses_are_tried_again_as_configured),
        ("off_is_off", off_is_off),
        ("who_fails_more_often_is_put_out", who_fails_more_often_is_put_out),
        ("slow_requests_are_hedged", slow_requests_are_hedged),
        ("reloads_lose_nothing", reloads_lose_nothing),
        ("the_demo_bears_a_stop", the_demo_bears_a_stop),
        ("the_demo_has_a_page", the_demo_has_a_page),
    ]
}

fn answering(status: u16) -> Origin {
    Origin::scripted(move |_, link| {
        link.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 3\r\n\r\n{status}"));
        Does::Keep
    })
}

/// A status is hidden if it is in the list, the request may be executed twice, and another endpoint
/// is there to ask; otherwise the client gets the very answer.
fn statuses_are_tried_again_as_configured(driver: Driver) {
    let good = Origin::echo();
    let send = |proxy: &Proxy, method: &str| {
        let mut client = proxy.connect();
        client.send(format!("{method} /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        client.reply()
    };
    for (on, status, is_hidden) in [
        ("", 503, true),
        ("", 500, false),
        ("retry = { on = [\"5xx\"] }", 500, true),
        ("retry = { on = [\"lost\"] }", 503, false),
        ("retry = { attempts = 1 }", 503, false),
        ("retry = { budget = 0 }", 503, false),
    ] {
        let bad = answering(status);
        let proxy = Proxy::run(driver, &cluster(&[bad.address, good.address], on), &[], None);
        let gets: Vec<_> = (0..4).map(|_| send(&proxy, "GET")).collect();
        let failed = gets.iter().filter(|reply| reply.status != 200).count();
        assert_eq!(failed, if is_hidden { 0 } else { 2 }, "{on} {status}");
        let body = status.to_string().into_bytes();
        assert!(gets.iter().all(|reply| reply.status == 200 || reply.body == body), "{on}");
        let posts = (0..4).filter(|_| send(&proxy, "POST").status == status).count();
        assert_eq!(posts, 2, "{on} {status}: a POST gets the answer that there is");
    }
    // No other endpoint: the answer is passed on as it is.
    let bad = answering(503);
    let proxy = Proxy::run(driver, &cluster(&[bad.address], ""), &[], None);
    let reply = proxy.get("/");
    assert_eq!((reply.status, reply.body.as_slice()), (503, b"503".as_slice()));
    assert_eq!(bad.requests().len(), 1);
}

/// One try, no checks, no ejection.
fn off_is_off(driver: Driver) {
    let (bad, good) = (answering(503), Origin::echo());
    let more = "resilience = \"off\"";
    let proxy = Proxy::as_written(driver, &cluster(&[bad.address, good.address], more));
    let failed = (0..40).filter(|_| proxy.get("/").status == 503).count();
    assert_eq!((failed, bad.requests().len(), bad.connections()), (20, 20, 1));
    let proxy = Proxy::as_written(driver, &cluster(&[nobody(), good.address], more));
    // Where the turns begin is left to chance.
    let mut both = [proxy.get("/").status, proxy.get("/").status];
    both.sort_unstable();
    assert_eq!(both, [200, 502]);
    assert!(!proxy.log().contains("is down"), "{}", proxy.log());
}

/// Sixteen reloads under load, with connections that are kept and with one for each request. A client that
/// keeps a connection is told to close it with the next answer, and no request is lost.
fn reloads_lose_nothing(driver: Driver) {
    let (one, two) = (Origin::echo(), Origin::echo());
    let config = |origin: &Origin| {
        cluster(&[origin.address], "").replace("[[listener]]", "[server]\ncores = 2\n[[listener]]")
    };
    let proxy = Proxy::run(driver, &config(&one), &[], None);
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = |keeps: bool| {
        let mut client = proxy.connect();
        while !is_over.load(SeqCst) {
            if !client.try_send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n") {
                panic!("a connection was closed without a word");
            }
            let reply = client.reply();
            assert_eq!((reply.status, reply.is_complete), (200, true), "{}", reply.text());
            asked.fetch_add(1, SeqCst);
            if !keeps || reply.closes() {
                client = proxy.connect();
            }
        }
    };
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        for number in 0..8 {
            scope.spawn(move || load(number % 2 == 0));
        }
        for reload in 0..16 {
            let before = asked.load(SeqCst);
            until("some load", || asked.load(SeqCst) > before + 100);
            let (new, old) = if reload % 2 == 0 { (&two, &one) } else { (&one, &two) };
            proxy.reload(&config(new));
            let used = new.requests().len();
            until("the new origin to be used", || new.requests().len() > used + 20);
            // Whatever the old one still gets came on connections that it had.
            let left = old.requests().len();
            until("more load", || new.requests().len() > used + 200);
            assert!(old.requests().len() <= left + 16, "{} more", old.requests().len() - left);
        }
        is_over.store(true, SeqCst);
    });
    let opened = one.connections() + two.connections();
    assert!(opened < 300, "{opened} connections upstream");
}

/// A running demo, which is ended when it is dropped.
struct Running {
    child: Child,
    proxy: SocketAddr,
    origin: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn demo(driver: Driver) -> Running {
    let driver = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.args([
        "demo",
        "--listen",
        "127.0.0.1:0",
        "--listen-tls",
        "127.0.0.1:0",
        "--dashboard",
        "off",
    ]);
    command.args(["--cores", "1", "--driver", driver]);
    command.env("XDG_DATA_HOME", std::env::temp_dir().join("millrace-test-demo"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = said.find(|line| line.contains("listening on")).unwrap();
    std::thread::spawn(move || said.for_each(drop));
    let address = |text: &str| -> SocketAddr {
        let behind = text.split("http://").nth(1).unwrap();
        behind.split([' ', '/', ',']).next().unwrap().parse().unwrap()
    };
    let proxy = address(&line);
    let mut hint = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let origin = address(&hint.find(|line| line.contains("/stop")).unwrap());
    std::thread::spawn(move || hint.for_each(drop));
    Running { child, proxy, origin }
}

/// One request on a connection of its own; `more` are fields.
fn ask(address: SocketAddr, line: &str, more: &str) -> Reply {
    let mut client = Client::connect(address);
    client.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{more}\r\n"));
    client.reply()
}

/// What the demo prints is what it does: a server of the three is stopped, and no client notices.
fn the_demo_bears_a_stop(driver: Driver) {
    let demo = demo(driver);
    assert_eq!(ask(demo.proxy, "GET /stop", "").status, 403, "not through the proxy");
    assert_eq!(ask(demo.origin, "GET /stop?s=1", "").status, 200);
    let began = Instant::now();
    let mut names = BTreeMap::new();
    while began.elapsed() < Duration::from_millis(4500) {
        let reply = ask(demo.proxy, "GET /", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        *names.entry(reply.header("x-origin").unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(names["alpha"] > 0, "it is back: {names:?}");
    assert!(names["beta"] > names["alpha"], "it was away: {names:?}");
}

/// A browser gets a page, whose buttons stop a server and let it begin again; curl gets JSON.
fn the_demo_has_a_page(driver: Driver) {
    let demo = demo(driver);
    let browser = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";
    let page = ask(demo.proxy, "GET /", browser);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("<title>millrace demo</title>"));
    let json = ask(demo.proxy, "GET /", "Accept: */*\r\n");
    assert_eq!(json.header("content-type"), Some("application/json"));
    let up = || -> usize {
        let state = ask(demo.proxy, "GET /demo/state", "");
        assert_eq!(state.status, 200);
        let all: serde_json::Value = serde_json::from_slice(&state.body).unwrap();
        all.as_array().unwrap().iter().filter(|one| one["is_up"] == true).count()
    };
    assert_eq!(up(), 3);
    // Another site's page cannot say that it is the demo's.
    let order = "POST /demo/stop?origin=beta";
    for (line, more) in [(order, ""), ("GET /demo/stop?origin=beta", "X-Demo: 1\r\n")] {
        let more = format!("Content-Length: 0\r\n{more}");
        assert_eq!(ask(demo.proxy, line, &more).status, 400);
    }
    let ours = "Content-Length: 0\r\nX-Demo: 1\r\n";
    assert_eq!(ask(demo.proxy, "POST /demo/stop?origin=delta", ours).status, 400);
    for (what, count) in [("stop", 2), ("start", 3)] {
        let order = format!("POST /demo/{what}?origin=beta");
        assert_eq!(ask(demo.proxy, &order, ours).status, 200);
        until(what, || up() == count);
        (0..6).for_each(|_| assert_eq!(ask(demo.proxy, "GET /", "").status, 200));
    }
    for name in ["alpha", "beta", "gamma"] {
        assert_eq!(ask(demo.proxy, &format!("POST /demo/stop?origin={name}"), ours).status, 200);
    }
    until("all to stop", || up() == 0);
    assert!(matches!(ask(demo.proxy, "GET /", "").status, 502 | 503));
    assert_eq!(ask(demo.proxy, "GET /", browser).status, 200, "the page is there all the same");
}

/// One endpoint of two is slow now and then. A slow GET is asked of the other one too; a POST never.
fn slow_requests_are_hedged(driver: Driver) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let script = move |request: &Request, _: &mut Link| {
        let at = counted.fetch_add(1, SeqCst);
        // The first hundred teach how long it takes; then every fourth is slow.
        if at > 100 && at.is_multiple_of(4) || request.path() == "/slow" {
            std::thread::park_timeout(Duration::from_millis(900));
        }
        Does::Keep
    };
    let script = Arc::new(script);
    let again = Arc::clone(&script);
    let origins = [
        Origin::scripted(move |request, link| script(request, link)),
        Origin::scripted(move |request, link| again(request, link)),
    ];
    let addresses = [origins[0].address, origins[1].address];
    let more = "hedge = { percentile = 90 }\nretry = { budget = 100 }";
    let mut proxy = Proxy::run(driver, &cluster(&addresses, more), &[], None);
    let mut client = proxy.connect();
    let mut ask = |method: &str, path: &str| {
        let begun = Instant::now();
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let reply = client.reply();
        assert_eq!((reply.status, reply.body), (200, path.as_bytes().to_vec()));
        begun.elapsed()
    };
    for _ in 0..100 {
        ask("GET", "/a");
    }
    let mut took: Vec<_> = (0..60).map(|at| ask("GET", &format!("/{at}"))).collect();
    took.sort();
    assert!(took[57] < Duration::from_millis(800), "one in four would take 900 ms: {took:?}");
    let before = count.load(SeqCst);
    assert!(ask("POST", "/slow") >= Duration::from_millis(900));
    assert_eq!(count.load(SeqCst) - before, 1, "a POST goes to one endpoint");
    drop(client);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
}

/// An endpoint that answers every second request with 500 works, and yet it is put out: the other
/// one does not. What it still answers does not let it in again.
fn who_fails_more_often_is_put_out(driver: Driver) {
    let count = AtomicUsize::new(0);
    let bad = Origin::scripted(move |_, link| {
        if count.fetch_add(1, SeqCst).is_multiple_of(2) {
            link.send("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
        }
        std::thread::park_timeout(Duration::from_millis(2));
        Does::Keep
    });
    let good = Origin::echo();
    let more = "passive = { ejection = \"2s\" }";
    let proxy = Proxy::run(driver, &cluster(&[bad.address, good.address], more), &[], None);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while !is_over.load(SeqCst) {
                    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert!(matches!(client.reply().status, 200 | 500));
                }
            });
        }
        until("its ejection", || proxy.log().contains("30 % of its requests failed"));
        std::thread::park_timeout(Duration::from_millis(100));
        let (before, others) = (bad.requests().len(), good.requests().len());
        until("more load", || good.requests().len() > others + 300);
        assert!(bad.requests().len() <= before, "it is out: {before}, {}", bad.requests().len());
        is_over.store(true, SeqCst);
    });
}
