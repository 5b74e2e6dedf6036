//! Group I: health and failover.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::{Client, Does, Driver, Ends, Link, Origin, Proxy, cluster, until};
use millrace::admin::order::AdminOrder;
use millrace::net::signal::Signal;
use millrace::upstream::endpoint::Duty;

pub fn rows() -> Vec<Row> {
    vec![
        ("i01_killed_under_load", i01_killed_under_load),
        ("i02_stopped_gets_nothing", i02_stopped_gets_nothing),
        ("i03_passive_ejection_and_one_trial", i03_passive_ejection_and_one_trial),
        ("i04_a_flapping_endpoint", i04_a_flapping_endpoint),
        ("i05_checks_that_must_fail", i05_checks_that_must_fail),
        ("i06_all_down_is_panic", i06_all_down_is_panic),
        ("i07_port_host_and_path_of_a_check", i07_port_host_and_path_of_a_check),
        ("i08_one_probe_for_all_cores", i08_one_probe_for_all_cores),
        ("i09_reload_keeps_what_is_known", i09_reload_keeps_what_is_known),
        ("i10_drained_and_back_by_order", i10_drained_and_back_by_order),
        ("i11_one_of_ten_leaves_the_ring", i11_one_of_ten_leaves_the_ring),
        ("i12_every_core_sees_a_change", i12_every_core_sees_a_change),
    ]
}

/// A server in a process of its own, that can be killed and stopped: millrace itself.
fn server(driver: Driver) -> Proxy {
    let config = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = { status = 200, body = \"x\" }\n";
    Proxy::run(driver, config, &[], None)
}

const CHECKED: &str =
    "health = { path = \"/up\", interval = \"500ms\", timeout = \"100ms\", fall = 2 }";

/// One of two servers is killed while 8 clients ask: not one sees an error.
fn i01_killed_under_load(driver: Driver) {
    let (mut killed, left) = (server(driver), server(driver));
    let proxy = Proxy::run(driver, &cluster(&[killed.address, left.address], CHECKED), &[], None);
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let bad = std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = proxy.connect();
                    let mut bad = Vec::new();
                    while !is_over.load(SeqCst) {
                        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                        let reply = client.reply();
                        if reply.status != 200 || reply.body != b"x" {
                            bad.push(reply.text());
                        }
                        asked.fetch_add(1, SeqCst);
                    }
                    bad
                })
            })
            .collect();
        until("some load", || asked.load(SeqCst) > 500);
        killed.signal("KILL");
        let before = asked.load(SeqCst);
        until("the death to be known", || proxy.log().contains("is down"));
        until("more load", || asked.load(SeqCst) > before + 2000);
        is_over.store(true, SeqCst);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(killed.wait(), None);
    killed.forget_death();
    assert!(bad.is_empty(), "{} of {}: {}", bad.len(), asked.load(SeqCst), bad[0]);
}

/// A server that is stopped takes connections and never answers. After 1.1 s nothing goes there.
fn i02_stopped_gets_nothing(driver: Driver) {
    let (stopped, left) = (server(driver), server(driver));
    let proxy = Proxy::run(driver, &cluster(&[stopped.address, left.address], CHECKED), &[], None);
    until("both to be used", || proxy.get("/").status == 200);
    stopped.signal("STOP");
    let begun = Instant::now();
    until("the check to fail", || proxy.log().contains("is down"));
    let took = begun.elapsed();
    // Whatever goes there now would wait for 30 s, and the client's patience is shorter.
    let good = (0..50).filter(|_| proxy.get("/").status == 200).count();
    stopped.signal("CONT");
    assert_eq!(good, 50);
    assert!(took < Duration::from_millis(1100) * SLACK, "{took:?}");
    until("it to be up again", || proxy.log().contains("is up again"));
}

/// A machine under load may be late; the row's own figure is for one that is not.
const SLACK: u32 = 3;

/// Five failures in a row and it is out; one request tries it again, not a herd.
fn i03_passive_ejection_and_one_trial(driver: Driver) {
    let is_bad = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_bad);
    let flaky = Origin::scripted(move |_, link| {
        if seen.load(SeqCst) {
            link.send("nonsense\r\n\r\n");
            return Does::Close;
        }
        Does::Keep
    });
    let good = Origin::echo();
    let config = cluster(&[flaky.address, good.address], "");
    let proxy = Proxy::run(driver, &config, &[], None);
    until("its ejection", || {
        proxy.get("/");
        good.requests().len() > flaky.requests().len() + 10
    });
    assert_eq!(flaky.requests().len(), 5, "failures until it was out");
    // It is still bad: of many requests at the end of the ejection one tries it.
    until("a trial", || {
        assert!(proxy.get("/").status == 200 || flaky.requests().len() == 6);
        flaky.requests().len() == 6
    });
    let herd = (0..50).filter(|_| proxy.get("/").status != 200).count();
    assert_eq!((herd, flaky.requests().len()), (0, 6));
    is_bad.store(false, SeqCst);
    until("it to be in again", || {
        proxy.get("/");
        flaky.requests().len() > 20
    });
}

/// Up and down within a second: fewer changes than it has moods, and none that a client sees.
fn i04_a_flapping_endpoint(driver: Driver) {
    let begun = Instant::now();
    let flaps = Origin::scripted(move |request, link| {
        let is_bad = begun.elapsed().as_millis() % 1000 < 500;
        if is_bad && request.path() == "/up" {
            link.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        } else if is_bad {
            return Does::Reset;
        }
        Does::Keep
    });
    let good = Origin::echo();
    let more = "health = { path = \"/up\", interval = \"200ms\", timeout = \"100ms\", rise = 4, fall = 4 }";
    let proxy = Proxy::run(driver, &cluster(&[flaps.address, good.address], more), &[], None);
    let mut client = proxy.connect();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.reply().status, 200);
        asked += 1;
    }
    assert!(asked > 100);
    let log = proxy.log();
    // Four bad checks in doubt take 80 ms, four good ones while down 400 ms: a change a phase at most.
    let changes = log.matches("is down").count() + log.matches("is up again").count();
    assert!(changes <= 13, "{changes} changes in 6 s: {log}");
    // Passive ejections last longer each time, and what is out by checks is not put out as well.
    let outs = log.matches("is put out").count();
    assert!(outs <= 6, "{outs} ejections in 6 s: {log}");
}

/// Late, wrong status, wrong body, garbage, drip, endless: each of them is down, and why is said.
fn i05_checks_that_must_fail(driver: Driver) {
    type Script = fn(&mut Link);
    let faults: [(&str, Script); 6] = [
        ("no answer within", |link| while link.more() {}),
        ("it answered 503", |link| link.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")),
        ("is not in its body", |link| {
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad");
        }),
        ("no HTTP/1 response", |link| link.send("220 mail.example ESMTP\r\n\r\n")),
        ("without an answer", |_| {}),
        ("is not in its body", |link| {
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n");
            let page = vec![b'a'; 65_536];
            let _ = (0..160).all(|_| link.stream.write_all(&page).is_ok());
        }),
    ];
    for (says, script) in faults {
        let bad = Origin::raw(move |link| {
            if link.request().is_some() {
                script(link);
            }
        });
        let good = Origin::scripted(|_, link| {
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready");
            Does::Keep
        });
        let more =
            "health = { path = \"/up\", interval = \"1s\", timeout = \"200ms\", body = \"ready\" }";
        let proxy = Proxy::run(driver, &cluster(&[bad.address, good.address], more), &[], None);
        until(says, || proxy.log().contains("is down"));
        let expected = format!("endpoint {} is down: ", bad.address);
        assert!(proxy.log().contains(&expected), "{says}: {}", proxy.log());
        assert!(proxy.log().contains(says), "{says}: {}", proxy.log());
        assert!(!proxy.log().contains(&format!("endpoint {} is down", good.address)));
        assert!((0..4).all(|_| proxy.get("/").status == 200), "{says}");
        assert!(proxy.rss() < 60_000, "{says}: {} KiB", proxy.rss());
    }
}

/// When every check fails the checks are not believed, and that is said.
fn i06_all_down_is_panic(driver: Driver) {
    let origins: Vec<Origin> = (0..2)
        .map(|_| {
            Origin::scripted(|request, link| {
                if request.path() == "/up" {
                    link.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
                }
                Does::Keep
            })
        })
        .collect();
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let proxy = Proxy::run(driver, &cluster(&addresses, CHECKED), &[], None);
    until("panic", || proxy.log().contains("checks are ignored and all are used"));
    for _ in 0..10 {
        assert_eq!(proxy.get("/a").status, 200);
    }
    for origin in &origins {
        let asked = origin.requests().iter().filter(|one| one.path() == "/a").count();
        assert!(asked >= 3, "{asked}");
    }
}

/// The check goes where it is told to, whatever the traffic does.
fn i07_port_host_and_path_of_a_check(driver: Driver) {
    let (traffic, checks) = (Origin::echo(), Origin::echo());
    let more = format!(
        "health = {{ path = \"/up?deep=1\", port = {}, host = \"check.example\", method = \"HEAD\", \
         headers = {{ X-Check = \"yes\" }}, expect = [\"200-399\"] }}",
        checks.address.port()
    );
    let proxy = Proxy::run(driver, &cluster(&[traffic.address], &more), &[], None);
    until("a check", || !checks.requests().is_empty());
    assert_eq!(proxy.get("/a").status, 200);
    let check = checks.last();
    assert!(check.head.starts_with("HEAD /up?deep=1 HTTP/1.1\r\n"), "{}", check.head);
    assert_eq!(check.header("host"), Some("check.example"));
    assert_eq!(check.header("x-check"), Some("yes"));
    assert!(traffic.requests().iter().all(|one| one.path() == "/a"));
    assert!(!proxy.log().contains("is down"), "{}", proxy.log());
}

/// Two cores, one probe per interval; and not all endpoints at the same moment.
fn i08_one_probe_for_all_cores(driver: Driver) {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::echo()).collect();
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let more = "health = { path = \"/up\", interval = \"200ms\" }";
    let config = format!("[server]\ncores = 2\n{}", cluster(&addresses, more));
    let begun = Instant::now();
    let _proxy = Proxy::run(driver, &config, &[], None);
    until("ten checks", || origins.iter().all(|origin| origin.requests().len() >= 10));
    let most = begun.elapsed().as_millis() / 180 + 2;
    for origin in &origins {
        let probes = origin.requests().len() as u128;
        assert!(probes <= most, "{probes} probes, at most {most} are due");
    }
}

/// A verdict reaches every core.
fn i12_every_core_sees_a_change(driver: Driver) {
    let is_up = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_up);
    let changing = Origin::scripted(move |request, link| {
        if request.path() == "/up" && !seen.load(SeqCst) {
            link.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
        }
        Does::Keep
    });
    let steady = Origin::echo();
    let more = "health = { path = \"/up\", interval = \"100ms\", fall = 1, rise = 1 }";
    let addresses = [changing.address, steady.address];
    let config = format!("[server]\ncores = 2\n{}", cluster(&addresses, more));
    let proxy = Proxy::run(driver, &config, &[], None);
    // Enough connections to be on both cores.
    let mut clients: Vec<_> = (0..16).map(|_| proxy.connect()).collect();
    let mut ask = |path: &str| {
        for client in &mut clients {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.reply().status, 200);
        }
    };
    let asked = |path: &str| changing.requests().iter().filter(|one| one.path() == path).count();
    ask("/before");
    assert!(asked("/before") > 0);
    is_up.store(false, SeqCst);
    until("it to be down", || proxy.log().contains("is down"));
    let mut is_asked = |path: &str| {
        let before = asked(path);
        (0..4).for_each(|_| ask(path));
        asked(path) > before
    };
    until("every core to hear of it", || !is_asked("/soon"));
    assert!(!is_asked("/down"), "a core forgot what it heard");
    is_up.store(true, SeqCst);
    until("it to be up", || proxy.log().contains("is up again"));
    until("it to be asked again", || is_asked("/after"));
}
const KEYS: usize = 500;

/// A reload with the same endpoints, in another order: an endpoint that is down stays down without a new check
/// saying so, one that was ejected stays out, clients stay with their endpoints, and checks go on.
fn i09_reload_keeps_what_is_known(driver: Driver) {
    let script = |number: usize, is_down: bool, is_bad: bool| {
        Origin::scripted(move |request, link| {
            if request.path() == "/up" {
                let status = if is_down { 500 } else { 200 };
                link.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
            } else if is_bad {
                link.send("nonsense\r\n\r\n");
                return Does::Close;
            } else {
                link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"));
            }
            Does::Keep
        })
    };
    let down = script(0, true, false);
    let bad = script(1, false, true);
    let (one, two) = (script(2, false, false), script(3, false, false));
    let more = "health = { path = \"/up\", interval = \"300ms\", fall = 3, rise = 9 }\nsticky = {}\n\
                passive = { ejection = \"50s\" }";
    let config =
        |order: [&Origin; 4], more: &str| cluster(&order.map(|origin| origin.address), more);
    let proxy = Proxy::run(driver, &config([&down, &bad, &one, &two], more), &[], None);
    until("one to be down", || proxy.log().contains("is down"));
    until("one to be put out", || {
        proxy.get("/");
        proxy.log().contains("is put out")
    });
    let reply = proxy.get("/");
    let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let asked = |origin: &Origin, path: &str| {
        origin.requests().iter().filter(|request| request.path() == path).count()
    };
    let before = asked(&bad, "/");
    let said = proxy.log().len();
    // In another order, and with a change, so that all is built anew.
    let changed = format!("balance = \"random\"\n{more}");
    proxy.reload(&config([&two, &one, &bad, &down], &changed));
    for _ in 0..40 {
        let mut client = proxy.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
        assert_eq!(client.reply().body, reply.body, "its endpoint has another number now");
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!((asked(&down, "/"), asked(&bad, "/")), (0, before));
    let checks = asked(&down, "/up");
    until("checks to go on", || asked(&down, "/up") > checks + 5);
    let log = proxy.log()[said..].to_owned();
    assert!(!log.contains("is down") && !log.contains("is put out"), "said again: {log}");
    assert!(!log.contains("is in again") && !log.contains("is up"), "a blip: {log}");
    // What is wrong changes nothing, nor does what needs a restart.
    let file = config([&two, &one, &bad, &down], "balance = \"what\"");
    let folder = "[cache]\ndisk = \"/nowhere\"\n";
    let restart = format!("{folder}{}", config([&two, &one, &bad, &down], ""));
    let wrong = [file, restart];
    for (config, says) in wrong.iter().zip(["is refused: the old one stays", "needs a restart"]) {
        proxy.rewrite(config);
        proxy.signal("HUP");
        until(says, || proxy.log().contains(says));
        assert_eq!(proxy.get("/").status, 200);
    }
}

/// Drained, down and ready again by order, under load: no client sees an error, and one that sticks to an
/// endpoint stays while it drains and moves when it is down.
fn i10_drained_and_back_by_order(driver: Driver) {
    let origins: Vec<Origin> = (0..2).map(named).collect();
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let more = "sticky = { cookie = \"stay\" }\nslow_start = { duration = \"0s\" }\n\
                health = { type = \"off\" }";
    let running = Running::start(driver, &cluster(&addresses, more));
    let order = |duty| running.order("app", &addresses[0].to_string(), duty);
    let is_over = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    let ask = |client: &mut Client, cookie: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(reply.status, 200, "{}", reply.text());
        asked.fetch_add(1, SeqCst);
        reply
    };
    // A client of the first endpoint.
    let mut sticky = Client::connect(running.address);
    let cookie = loop {
        let reply = ask(&mut sticky, "");
        if reply.body == b"0" {
            break reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        }
    };
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(running.address);
                while !is_over.load(SeqCst) {
                    ask(&mut client, "");
                }
            });
        }
        let quiet = |path: &str| {
            // What was under way when the order came is over after a moment.
            std::thread::park_timeout(Duration::from_millis(100));
            let before = origins[0].requests().len();
            let until_then = asked.load(SeqCst) + 200;
            until("more load", || asked.load(SeqCst) > until_then);
            assert_eq!(origins[0].requests().len(), before, "{path}");
        };
        order(Duty::Drain).unwrap();
        quiet("drained, and asked by somebody new");
        for _ in 0..5 {
            let reply = ask(&mut sticky, &cookie);
            assert_eq!((reply.body, reply.head.contains("Set-Cookie")), (b"0".to_vec(), false));
        }
        order(Duty::Down).unwrap();
        quiet("down, and asked");
        let moved = ask(&mut sticky, &cookie);
        assert_eq!(moved.body, b"1");
        assert!(moved.head.contains("Set-Cookie: stay="), "{}", moved.head);
        order(Duty::Ready).unwrap();
        let before = origins[0].requests().len();
        until("it to be used again", || origins[0].requests().len() > before + 50);
        is_over.store(true, SeqCst);
    });
    assert_eq!(order(Duty::Drain), Ok(()));
    let unknown = running.order("app", "127.0.0.1:1", Duty::Drain);
    assert!(unknown.unwrap_err().contains("has no endpoint 127.0.0.1:1"));
    assert!(running.order("ap", "x", Duty::Down).unwrap_err().contains("no cluster"));
}

/// The proxy in this very process: orders have no way in from outside yet.
pub(super) struct Running {
    pub(super) address: std::net::SocketAddr,
    signals: crossbeam_channel::Sender<Signal>,
    pub(super) orders: crossbeam_channel::Sender<AdminOrder>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(driver: Driver, config: &str) -> Self {
        let mut config = millrace::control::load::check("test", config).config.unwrap();
        if config.server.cores == millrace::config::model::Cores::All {
            config.server.cores = millrace::config::model::Cores::First(1);
        }
        config.server.driver = match driver {
            Driver::IoUring => millrace::config::model::Driver::IoUring,
            Driver::Epoll => millrace::config::model::Driver::Epoll,
        };
        let (signals, heard) = crossbeam_channel::unbounded();
        let (orders, taken) = crossbeam_channel::unbounded();
        let (tell, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let inputs = millrace::control::Inputs {
                signals: &heard,
                orders: &taken,
                source: None,
                stamp: None,
            };
            let _ = millrace::control::run(config, &inputs, |ready| {
                tell.send(ready.listeners[0].1).unwrap();
            });
        });
        let address = ready.recv_timeout(crate::support::PATIENCE).unwrap();
        Self { address, signals, orders, thread: Some(thread) }
    }

    fn order(&self, cluster: &str, endpoint: &str, duty: Duty) -> Result<(), String> {
        let (reply, result) = crossbeam_channel::bounded(1);
        let (cluster, endpoint) = (cluster.to_owned(), endpoint.to_owned());
        self.orders.send(AdminOrder::Assign { cluster, endpoint, duty, reply }).unwrap();
        result.recv().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Terminate);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Hashing by a header: one of ten endpoints goes, its keys move and (by rendezvous) no other, and
/// the map is the old one when it is back. Shares to the percent are the simulation's.
fn i11_one_of_ten_leaves_the_ring(driver: Driver) {
    let origins: Vec<Origin> = (0..10).map(named).collect();
    for balance in ["consistent_hash", "maglev"] {
        let config = |gone: usize| {
            let left = origins.iter().enumerate().filter(|(at, _)| *at != gone);
            let left: Vec<_> = left.map(|(_, origin)| origin.address).collect();
            let more = format!("balance = \"{balance}\"\nhash = {{ on = \"header:x-user\" }}");
            cluster(&left, &more)
        };
        let all = map(driver, &config(99));
        let without = map(driver, &config(3));
        let moved = all.iter().zip(&without).filter(|(old, new)| old != new).count();
        // Ports are chance, and so is how many of 500 keys an endpoint owns: 50, give or take 20.
        assert!((10..=90).contains(&moved), "{balance}: {moved} of {KEYS} keys moved");
        if balance == "consistent_hash" {
            let strays = all.iter().zip(&without).filter(|(old, new)| *old != "3" && old != new);
            assert_eq!(strays.count(), 0, "{balance}");
        }
        assert_eq!(all, map(driver, &config(99)), "{balance}: not the same map");
    }
}

fn named(at: usize) -> Origin {
    Origin::scripted(move |_, link| {
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{at}"));
        Does::Keep
    })
}

/// Which origin gets which key.
fn map(driver: Driver, config: &str) -> Vec<String> {
    let proxy = Proxy::run(driver, config, &[], None);
    let mut client = proxy.connect();
    let ask = |key| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: user-{key}\r\n\r\n"));
        let reply = client.reply().text();
        // The body: the head has a date in it.
        reply[reply.len() - 1..].to_owned()
    };
    (0..KEYS).map(ask).collect()
}
