//! Group H: more requests than the endpoints can serve. What can be served is served in time, and
//! the rest is told so at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::{Does, Driver, Ends, Origin, Proxy, Reply, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("h01_twice_the_capacity", h01_twice_the_capacity),
        ("h01_with_a_limit_that_is_found_out", h01_adaptive),
        ("h02_recovers_from_ten_times", h02_recovers_from_ten_times),
        ("h03_queue_full", h03_queue_full),
        ("h04_one_route_overloaded", h04_one_route_overloaded),
        ("h05_gone_while_waiting", h05_gone_while_waiting),
        ("h06_memory_runs_short", h06_memory_runs_short),
        ("h07_own_answers_in_overload", h07_own_answers_in_overload),
    ]
}

/// So many requests at a time, of `SERVICE` each: 200 a second.
const SLOTS: usize = 20;
const SERVICE: Duration = Duration::from_millis(100);
const CAPACITY: f64 = 200.0;
/// An answer after this is worth nothing to its client.
const DEADLINE: Duration = Duration::from_millis(500);

/// An origin that would take more than it can serve, and counts how many it has at a time.
fn origin(service: Duration, most: &Arc<AtomicUsize>) -> Origin {
    let (inside, most) = (AtomicUsize::new(0), Arc::clone(most));
    Origin::scripted(move |_, _| {
        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::park_timeout(service);
        inside.fetch_sub(1, SeqCst);
        Does::Keep
    })
}

/// An answer and when it came.
struct Answer {
    reply: Reply,
    sent: Duration,
    took: Duration,
}

impl Answer {
    fn is_good(&self) -> bool {
        self.reply.status == 200 && self.took <= DEADLINE
    }
}

/// Offers so many requests a second, whatever becomes of them, from connections that are kept.
#[expect(clippy::cast_sign_loss, reason = "nothing here is negative")]
fn offer(proxy: &Proxy, path: &str, rate: f64, length: Duration) -> Vec<Answer> {
    let count = (length.as_secs_f64() * rate) as usize;
    // One request each half a second: no request waits for longer.
    let clients = (rate * DEADLINE.as_secs_f64()).ceil() as usize;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|first| {
                scope.spawn(move || {
                    let mut client = proxy.connect();
                    let mut answers = Vec::new();
                    for at in (first..count).step_by(clients) {
                        let due = Duration::from_secs_f64(at as f64 / rate);
                        while let Some(wait) = due.checked_sub(begun.elapsed()) {
                            std::thread::park_timeout(wait.max(Duration::from_micros(100)));
                        }
                        let sent = begun.elapsed();
                        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                        let reply = client.reply();
                        answers.push(Answer { reply, sent, took: begun.elapsed() - sent });
                    }
                    answers
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn percentile(times: impl Iterator<Item = Duration>, percent: usize) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

const LIMITED: &str = "max_connections = 20";

/// Twice the capacity: nine tenths of what can be served is, in time, and the rest is refused soon.
/// The figures are printed; what is asserted leaves room for a machine's pauses.
fn h01_twice_the_capacity(driver: Driver) {
    let most = Arc::new(AtomicUsize::new(0));
    let origin = origin(SERVICE, &most);
    let proxy = Proxy::run(driver, &cluster(&[origin.address], LIMITED), &[], None);
    let length = Duration::from_secs(3);
    let answers = offer(&proxy, "/", 2.0 * CAPACITY, length);
    let good = answers.iter().filter(|answer| answer.is_good()).count() as f64;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.reply.status != 200).collect();
    for answer in &refused {
        assert_eq!(answer.reply.status, 503);
        assert_eq!(answer.reply.header("retry-after"), Some("1"), "{}", answer.reply.head);
    }
    let (rate, late) =
        (good / length.as_secs_f64(), percentile(refused.iter().map(|one| one.took), 95));
    println!("H01 {driver:?}: {rate:.0} good/s of {CAPACITY}, 95 % refused within {late:?}");
    assert!(rate >= 0.8 * CAPACITY, "{rate} good answers a second");
    assert!(late <= Duration::from_millis(250 * SLACK), "{late:?} until a refusal");
    assert!(most.load(SeqCst) <= SLOTS, "{} at a time", most.load(SeqCst));
}

/// As before, and the configuration does not say how many the origin bears: it serves `SLOTS` at a time, whatever comes
/// beyond that makes all of them wait.
fn h01_adaptive(driver: Driver) {
    let turns = Arc::new(Slots::default());
    let most = Arc::new(AtomicUsize::new(0));
    let (shared, deepest) = (Arc::clone(&turns), Arc::clone(&most));
    let origin = Origin::scripted(move |_, _| {
        deepest.fetch_max(shared.waiting.fetch_add(1, SeqCst) + 1, SeqCst);
        shared.serve(SERVICE);
        shared.waiting.fetch_sub(1, SeqCst);
        Does::Keep
    });
    let more = "adaptive = { min = 5, max = 200 }";
    let proxy = Proxy::run(driver, &cluster(&[origin.address], more), &[], None);
    // It learns under load.
    offer(&proxy, "/", CAPACITY, Duration::from_secs(3));
    most.store(0, SeqCst);
    let length = Duration::from_secs(3);
    let answers = offer(&proxy, "/", 2.0 * CAPACITY, length);
    let good = answers.iter().filter(|answer| answer.is_good()).count() as f64;
    let rate = good / length.as_secs_f64();
    let deepest = most.load(SeqCst);
    println!("H01 {driver:?}, adaptive: {rate:.0} good/s of {CAPACITY}, {deepest} at a time");
    assert!(rate >= 0.75 * CAPACITY, "{rate} good answers a second");
    assert!(deepest <= 3 * SLOTS, "{deepest} at a time");
}

/// Slots of a server, and the requests that wait for one.
#[derive(Default)]
struct Slots {
    waiting: AtomicUsize,
    taken: std::sync::Mutex<usize>,
    freed: std::sync::Condvar,
}

impl Slots {
    fn serve(&self, service: Duration) {
        let mut taken = self.taken.lock().unwrap();
        while *taken >= SLOTS {
            taken = self.freed.wait(taken).unwrap();
        }
        *taken += 1;
        drop(taken);
        std::thread::park_timeout(service);
        *self.taken.lock().unwrap() -= 1;
        self.freed.notify_one();
    }
}

/// A machine under load may be late.
const SLACK: u64 = 2;

/// At 80, 90 and 100 % of its memory a proxy keeps no connection, forwards no request, takes no
/// connection; and it goes on living.
fn h06_memory_runs_short(driver: Driver) {
    let origin = Origin::echo();
    let own = "[[route]]\npath = \"=/healthz\"\nrespond = { status = 200, body = \"ok\" }\n";
    let config = format!("{}{own}", cluster(&[origin.address], ""));
    let proxy = Proxy::run(driver, &config, &[], None);
    assert_eq!(proxy.get("/").status, 200);
    for (share, says) in [(0.5, ""), (0.85, "80 %"), (0.95, "90 %"), (1.5, "all of it")] {
        // Its bound is set by what it takes just now: that differs from process to process.
        let most = (proxy.rss() as f64 / share).round();
        proxy.reload(&format!("{config}[limits]\nmemory = \"{most}KiB\"\n"));
        until(says, || says.is_empty() || proxy.log().contains(says));
        // Shards hear of it at their next tick.
        std::thread::park_timeout(Duration::from_millis(250));
        let mut client = proxy.connect();
        let sent = client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let reply = client.reply();
        match says {
            "" => assert!(reply.status == 200 && !reply.closes()),
            "80 %" => assert!(reply.status == 200 && reply.closes(), "{}", reply.text()),
            "90 %" => {
                assert_eq!(reply.status, 503, "{}", reply.text());
                assert_eq!(reply.header("retry-after"), Some("1"));
                assert_eq!(proxy.get("/healthz").status, 200, "that needs no server");
            }
            _ => assert!(!sent || [0, 503].contains(&reply.status), "{}", reply.text()),
        }
    }
}

/// What the proxy answers itself is not held up by requests that wait.
fn h07_own_answers_in_overload(driver: Driver) {
    let most = Arc::new(AtomicUsize::new(0));
    let origin = origin(SERVICE, &most);
    let own = "[[route]]\npath = \"=/healthz\"\nrespond = { status = 200, body = \"ok\" }\n";
    let config = format!("{}{own}", cluster(&[origin.address], LIMITED));
    let proxy = Proxy::run(driver, &config, &[], None);
    let is_over = AtomicBool::new(false);
    let took = std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let own = scope.spawn(|| {
            let mut took = Vec::new();
            while !is_over.load(SeqCst) {
                let begun = Instant::now();
                assert_eq!(proxy.get("/healthz").status, 200);
                took.push(begun.elapsed());
                std::thread::park_timeout(Duration::from_millis(20));
            }
            took
        });
        offer(&proxy, "/", 2.0 * CAPACITY, Duration::from_secs(2));
        is_over.store(true, SeqCst);
        own.join().unwrap()
    });
    let late = percentile(took.into_iter(), 95);
    assert!(late <= Duration::from_millis(100), "{late:?}");
}

/// Ten times the capacity for a while leaves nothing behind.
fn h02_recovers_from_ten_times(driver: Driver) {
    let most = Arc::new(AtomicUsize::new(0));
    let service = Duration::from_millis(50);
    let origin = origin(service, &most);
    let proxy = Proxy::run(driver, &cluster(&[origin.address], "max_connections = 5"), &[], None);
    let capacity = 5.0 / service.as_secs_f64();
    let crowd = offer(&proxy, "/", 10.0 * capacity, Duration::from_secs(2));
    assert!(crowd.iter().any(|answer| answer.reply.status == 503));
    let after = offer(&proxy, "/", 0.5 * capacity, Duration::from_secs(3));
    let late = after.iter().filter(|one| one.sent > Duration::from_secs(2)).collect::<Vec<_>>();
    assert!(late.len() > 20);
    let bad = late.iter().find(|one| !one.is_good());
    assert!(bad.is_none(), "2 s later: {:?} {}", bad.unwrap().took, bad.unwrap().reply.head);
    assert!(most.load(SeqCst) <= 5);
}

/// The queue has room for so many; the next one is refused at once, unless it is worth more.
fn h03_queue_full(driver: Driver) {
    let is_open = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_open);
    let origin = Origin::scripted(move |_, _| {
        until("the origin to go on", || seen.load(SeqCst));
        Does::Keep
    });
    let more = "max_connections = 1\nqueue = { max = 3, timeout = \"9s\" }";
    let important = "[[route]]\npath = \"/important\"\ncluster = \"app\"\npriority = \"high\"\n";
    let config = format!("{}{important}", cluster(&[origin.address], more));
    let proxy = Proxy::run(driver, &config, &[], None);
    let send = |path: &str| {
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    };
    let mut first = send("/first");
    until("one to be served", || origin.requests().len() == 1);
    let mut waiting: Vec<_> = ["/a", "/b", "/c"]
        .into_iter()
        .map(|path| {
            let client = send(path);
            // Each is in the queue before the next one comes.
            std::thread::park_timeout(Duration::from_millis(50));
            client
        })
        .collect();
    let begun = Instant::now();
    let refused = send("/d").reply();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Worth more than the last of the three: that one makes room, and it comes first.
    let mut important = send("/important");
    assert_eq!(waiting.pop().unwrap().reply().status, 503);
    is_open.store(true, SeqCst);
    assert_eq!(first.reply().status, 200);
    assert_eq!(important.reply().status, 200);
    assert!(waiting.iter_mut().all(|client| client.reply().status == 200));
    let paths: Vec<_> = origin.requests().iter().map(|one| one.path().to_owned()).collect();
    assert_eq!(paths, ["/first", "/important", "/a", "/b"]);
}

/// What one route suffers is nothing to the others.
fn h04_one_route_overloaded(driver: Driver) {
    let most = Arc::new(AtomicUsize::new(0));
    let (slow, fast) = (origin(SERVICE, &most), Origin::echo());
    let other = format!(
        "[[route]]\npath = \"/fast\"\ncluster = \"fast\"\n[[cluster]]\nname = \"fast\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n",
        fast.address
    );
    let config = format!("{}{other}", cluster(&[slow.address], LIMITED));
    let proxy = Proxy::run(driver, &config, &[], None);
    let measure = || {
        let mut client = proxy.connect();
        let took = (0..300).map(|_| {
            let begun = Instant::now();
            client.send("GET /fast HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.reply().status, 200);
            std::thread::park_timeout(Duration::from_millis(5));
            begun.elapsed().saturating_sub(Duration::from_millis(5))
        });
        percentile(took, 90)
    };
    let before = measure();
    let during = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| offer(&proxy, "/", 2.0 * CAPACITY, Duration::from_secs(3)));
        let during = measure();
        crowd.join().unwrap();
        during
    });
    // The crowd's 400 clients are threads on the same two cores: their share is not the proxy's.
    let bound = before * 3 / 2 + Duration::from_millis(20);
    assert!(during <= bound, "{during:?} instead of {before:?}");
}

/// A client that goes while it waits is not sent upstream.
fn h05_gone_while_waiting(driver: Driver) {
    let is_open = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_open);
    let origin = Origin::scripted(move |_, _| {
        until("the origin to go on", || seen.load(SeqCst));
        Does::Keep
    });
    let more = "max_connections = 1\nqueue = { timeout = \"9s\" }";
    let proxy = Proxy::run(driver, &cluster(&[origin.address], more), &[], None);
    let mut first = proxy.connect();
    first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    until("one to be served", || origin.requests().len() == 1);
    let mut gone = proxy.connect();
    gone.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::park_timeout(Duration::from_millis(50));
    let mut stays = proxy.connect();
    stays.send("GET /stays HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::park_timeout(Duration::from_millis(50));
    drop(gone);
    std::thread::park_timeout(Duration::from_millis(50));
    is_open.store(true, SeqCst);
    assert_eq!(first.reply().status, 200);
    assert_eq!(stays.reply().status, 200);
    let paths: Vec<_> = origin.requests().iter().map(|one| one.path().to_owned()).collect();
    assert_eq!(paths, ["/first", "/stays"]);
}
