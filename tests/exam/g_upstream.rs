//! Group G: upstream faults. Nothing is lost, executed twice or corrupted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::{Does, Driver, End, Link, Origin, PATIENCE, Proxy, cluster, nobody, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("g01_no_connection_or_no_answer", g01_no_connection_or_no_answer),
        ("g02_resets_around_the_head", g02_resets_around_the_head),
        ("g03_stall_in_the_body", g03_stall_in_the_body),
        ("g04_half_closed_by_the_origin", g04_half_closed_by_the_origin),
        ("g05_origin_reads_nothing", g05_origin_reads_nothing),
        ("g06_a_post_is_executed_once", g06_a_post_is_executed_once),
        ("g07_names_that_do_not_resolve", g07_names_that_do_not_resolve),
        ("g08_all_down_is_said_at_once", g08_all_down_is_said_at_once),
        ("g09_no_retry_storm", g09_no_retry_storm),
        ("g10_slow_start", g10_slow_start),
        ("g11_one_slow_endpoint", g11_one_slow_endpoint),
        ("g12_one_of_a_thousand_lives", g12_one_of_a_thousand_lives),
        ("g13_bodies_are_exact", g13_bodies_are_exact),
    ]
}

const QUICK: &str =
    "[timeouts]\nconnect = \"300ms\"\nfirst_byte = \"300ms\"\nbody_idle = \"300ms\"\n";
/// Deadlines are looked at ten times a second, and machines have pauses.
const LATE: Duration = Duration::from_secs(2);

/// A listener whose backlog is full: connections to it hang.
struct Blackhole {
    listener: TcpListener,
    _fill: Vec<TcpStream>,
}

impl Blackhole {
    fn new() -> Self {
        use std::os::fd::AsRawFd;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "a backlog of one")]
        unsafe {
            libc::listen(listener.as_raw_fd(), 0);
        }
        let address = listener.local_addr().unwrap();
        let fill = (0..2).map(|_| {
            let wait = Duration::from_millis(200);
            TcpStream::connect_timeout(&address, wait)
        });
        let fill = fill.filter_map(Result::ok).collect();
        Self { listener, _fill: fill }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

fn silent() -> Origin {
    Origin::raw(|link| while link.more() {})
}

/// Refused, hanging, silent: the status says which, in time; and with another endpoint to ask there is
/// no error where asking again is legal.
fn g01_no_connection_or_no_answer(driver: Driver) {
    let (hole, silent) = (Blackhole::new(), silent());
    for (address, status, error) in [
        (nobody(), 502, "connection_refused"),
        (hole.address(), 504, "connection_timeout"),
        (silent.address, 504, "http_response_timeout"),
    ] {
        let proxy = Proxy::run(driver, &format!("{}{QUICK}", cluster(&[address], "")), &[], None);
        let begun = Instant::now();
        let reply = proxy.get("/");
        assert_eq!(reply.status, status, "{error}: {}", reply.text());
        assert!(reply.header("proxy-status").unwrap().contains(error), "{}", reply.head);
        assert!(begun.elapsed() < Duration::from_millis(300) + LATE);
    }
    let good = Origin::echo();
    for address in [nobody(), hole.address()] {
        let config = format!("{}{QUICK}", cluster(&[address, good.address], ""));
        let proxy = Proxy::run(driver, &config, &[], None);
        for _ in 0..4 {
            let mut client = proxy.connect();
            client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
            assert_eq!(client.reply().status, 200, "nothing was sent to {address}");
        }
    }
    // A silent one costs a GET one try's time, and a POST must not go to another endpoint.
    let more = "retry = { try_timeout = \"100ms\" }";
    let config = format!("{}{QUICK}", cluster(&[silent.address, good.address], more));
    let proxy = Proxy::run(driver, &config, &[], None);
    assert!((0..4).all(|_| proxy.get("/").status == 200));
    let before = good.requests().len();
    let post = |_| {
        let mut client = proxy.connect();
        client.send("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.reply().status
    };
    let failed = (0..4).map(post).filter(|status| *status == 504).count();
    assert_eq!(good.requests().len() - before, 4 - failed, "each POST went to one endpoint");
}

/// A reset before, inside and behind the head, and inside the body. What the client sees is an
/// answer of another endpoint while nothing had come, and never a part that looks whole.
fn g02_resets_around_the_head(driver: Driver) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let head = answer.len() - 10;
    for at in [0, 1, 9, head - 1, head, head + 1, answer.len() - 1] {
        let bad = Origin::scripted(move |_, link| {
            link.send(&answer[..at]);
            // What was sent is read before the reset arrives: a reset overtakes data.
            std::thread::park_timeout(Duration::from_millis(if at > 0 { 50 } else { 0 }));
            Does::Reset
        });
        let good = Origin::echo();
        let proxy = Proxy::run(driver, &cluster(&[bad.address, good.address], ""), &[], None);
        for _ in 0..3 {
            let mut client = proxy.connect();
            client.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
            let reply = client.reply();
            match reply.status {
                200 if reply.is_complete => assert_eq!(reply.body, b"/ok", "at {at}"),
                200 => assert!(at >= head && client.read_to_end().1 != End::Open, "at {at}"),
                502 => assert!((1..head + 1).contains(&at), "at {at}: {}", reply.text()),
                _ => panic!("at {at}: {}", reply.text()),
            }
            assert!(at > 0 || reply.status == 200, "nothing had come: it could be asked again");
        }
        assert!(!bad.requests().is_empty());
    }
}

fn g03_stall_in_the_body(driver: Driver) {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let stalls = Origin::raw(move |link| {
        if link.request().is_some() {
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            while link.more() {}
            seen.store(true, SeqCst);
        }
    });
    let proxy =
        Proxy::run(driver, &format!("{}{QUICK}", cluster(&[stalls.address], "")), &[], None);
    let begun = Instant::now();
    let reply = proxy.get("/");
    assert_eq!((reply.status, reply.is_complete), (200, false));
    assert_eq!(reply.body, b"half");
    assert!(begun.elapsed() < Duration::from_millis(300) + LATE, "{:?}", begun.elapsed());
    until("the upstream to be closed", || ended.load(SeqCst));
}

/// The origin says that it sends no more: fine if the body is whole by then.
fn g04_half_closed_by_the_origin(driver: Driver) {
    let whole: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    let chunks: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let until_close: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nbody";
    for (answer, is_whole) in [
        (whole, true),
        (chunks, true),
        (until_close, true),
        (&whole[..whole.len() - 1], false),
        (&chunks[..chunks.len() - 2], false),
    ] {
        let origin = Origin::raw(move |link| {
            if link.request().is_some() {
                link.send(answer);
                let _ = link.stream.shutdown(std::net::Shutdown::Write);
                while link.more() {}
            }
        });
        let proxy = Proxy::before(driver, &origin);
        let reply = proxy.get("/");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.is_complete, is_whole, "{}", String::from_utf8_lossy(answer));
        assert!(!is_whole || reply.body == b"body");
        assert_eq!(origin.connections(), 1);
        proxy.get("/");
        assert_eq!(origin.connections(), 2, "a half-closed connection is not used again");
    }
}

fn g05_origin_reads_nothing(driver: Driver) {
    let origin = Origin::raw(|link| {
        let _ = link.head();
        std::thread::park_timeout(PATIENCE);
    });
    let proxy =
        Proxy::run(driver, &format!("{}{QUICK}", cluster(&[origin.address], "")), &[], None);
    let before = proxy.rss();
    let mut client = proxy.connect();
    let total = 64_000_000;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n"));
    let begun = Instant::now();
    let block = vec![b'x'; 1 << 18];
    let sender = client.stream.try_clone().unwrap();
    let sent = std::thread::spawn(move || {
        let mut sender = sender;
        (0..total / block.len()).take_while(|_| sender.write_all(&block).is_ok()).count()
    });
    let reply = client.reply();
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert!(begun.elapsed() < Duration::from_secs(1) + LATE, "{:?}", begun.elapsed());
    assert!(proxy.rss() < before + 8 * 1024, "{} KiB, {before} before", proxy.rss());
    drop(client);
    assert!(sent.join().unwrap() < total / (1 << 18), "the upload was held back");
}

/// The connection breaks after the origin has read so much of the request. Whatever the client is
/// told, no request is executed twice.
fn g06_a_post_is_executed_once(driver: Driver) {
    let executed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executed);
    let wanted = Arc::new(AtomicUsize::new(0));
    let stop_at = Arc::clone(&wanted);
    let script = move |link: &mut Link| {
        while link.rest.len() < stop_at.load(SeqCst) && link.more() {}
        // An origin may act on the first octet that it has read.
        counted.fetch_add(usize::from(!link.rest.is_empty()), SeqCst);
        link.rest.clear();
        link.reset();
    };
    let script = Arc::new(script);
    let one = Arc::clone(&script);
    let (one, two) = (Origin::raw(move |link| one(link)), Origin::raw(move |link| script(link)));
    let more = "passive = { failures = 0 }";
    let proxy = Proxy::run(driver, &cluster(&[one.address, two.address], more), &[], None);
    for at in 0..40 {
        wanted.store(1 + at * 8, SeqCst);
        let before = executed.load(SeqCst);
        let mut client = proxy.connect();
        client.send(format!(
            "POST /{at} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{}",
            "b".repeat(100)
        ));
        let reply = client.reply();
        assert_eq!(reply.status, 502, "at {at}: {}", reply.text());
        let times = executed.load(SeqCst) - before;
        assert!(times <= 1, "executed {times} times, cut after {} octets", 1 + at * 8);
    }
}

/// A DNS server that answers as told.
fn dns(answer: impl Fn(&[u8], usize) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut block = [0; 1500];
        let mut count = 0;
        while let Ok((len, from)) = socket.recv_from(&mut block) {
            if let Some(reply) = answer(&block[..len], count) {
                let _ = socket.send_to(&reply, from);
            }
            count += 1;
        }
    });
    address
}

/// An answer to this question with so many A records of these addresses.
fn records(query: &[u8], code: u8, addresses: &[[u8; 4]], ttl: u32) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_a = query[end - 3] == 1;
    let addresses = if is_a { addresses } else { &[] };
    let mut reply = query[..end].to_vec();
    reply[2] = 0x84 | (query[2] & 1);
    reply[3] = 0x80 | code;
    reply[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
    reply[8..12].fill(0);
    for address in addresses {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        reply.extend_from_slice(&ttl.to_be_bytes());
        reply.extend_from_slice(&[0, 4]);
        reply.extend_from_slice(address);
    }
    reply
}

/// Whatever the DNS server does later, the last good set is kept, and no core waits for it.
fn g07_names_that_do_not_resolve(driver: Driver) {
    type Answer = fn(&[u8]) -> Option<Vec<u8>>;
    let later: [(&str, Answer); 6] = [
        ("NXDOMAIN", |query| Some(records(query, 3, &[], 1))),
        ("SERVFAIL", |query| Some(records(query, 2, &[], 1))),
        ("empty", |query| Some(records(query, 0, &[], 1))),
        ("no answer", |_| None),
        ("junk", |query| Some([&query[..2], &[0xff; 30]].concat())),
        ("spoofed", |query| {
            let mut reply = records(query, 0, &[[127, 0, 0, 9]], 1);
            reply[0] ^= 0xff;
            Some(reply)
        }),
    ];
    for (what, answer) in later {
        let origin = Origin::echo();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let is_bad = Arc::new(AtomicBool::new(false));
        let turned = Arc::clone(&is_bad);
        let server = dns(move |query, _| {
            counted.fetch_add(1, SeqCst);
            if turned.load(SeqCst) {
                answer(query)
            } else {
                Some(records(query, 0, &[[127, 0, 0, 1]], 0))
            }
        });
        let config = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"app\"\n[[cluster]]\n\
             name = \"app\"\n[[cluster.endpoint]]\naddress = \"app.test:{}\"\n[dns]\n\
             servers = [\"{server}\"]\n",
            origin.address.port()
        );
        let proxy = Proxy::run(driver, &config, &[], None);
        assert_eq!(proxy.get("/a").status, 200, "{what}");
        is_bad.store(true, SeqCst);
        let before = asked.load(SeqCst);
        // TTL 0 does not mean a question for each request, but it does mean another question.
        until(what, || asked.load(SeqCst) > before);
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(proxy.get("/a").status, 200, "{what}");
        }
        assert!(begun.elapsed() < LATE, "{what}: {:?}", begun.elapsed());
    }
    thousand_addresses(driver);
}

fn thousand_addresses(driver: Driver) {
    let origin = Origin::echo();
    let server = dns(|query, _| {
        // Sixty fit into a datagram of the old size and a bit; the rest of a thousand would come by
        // TCP, which no server answers here.
        let some: Vec<[u8; 4]> = (0..60).map(|_| [127, 0, 0, 1]).collect();
        Some(records(query, 0, &some, 0))
    });
    let config = format!(
        "{}[dns]\nservers = [\"{server}\"]\n",
        cluster(&[], "").replace(
            "name = \"app\"\n",
            &format!(
                "name = \"app\"\n[[cluster.endpoint]]\naddress = \"many.test:{}\"\n",
                origin.address.port()
            )
        )
    );
    let proxy = Proxy::run(driver, &config, &[], None);
    assert!((0..20).all(|_| proxy.get("/a").status == 200));
    assert!(proxy.rss() < 60_000);
}

/// All down: 503 with Retry-After at once, and at most a connection a second for each endpoint.
fn g08_all_down_is_said_at_once(driver: Driver) {
    let proxy = Proxy::run(driver, &cluster(&[nobody(), nobody()], ""), &[], None);
    until("it to be known", || proxy.get("/").status == 503);
    let mut took = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        let reply = proxy.get("/");
        took.push(begun.elapsed());
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    took.sort();
    assert!(took[250] < Duration::from_millis(10), "half take longer than {:?}", took[250]);
    storm(driver);
}

/// How many connections a dead cluster gets, counted by an endpoint that resets each at once.
fn storm(driver: Driver) {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let config = format!(
        "{}[access_log]\npath = \"off\"\n",
        cluster(&[address], "").replace("[[listener]]", "[server]\ncores = 2\n[[listener]]")
    );
    let mut proxy = Proxy::run(driver, &config, &[], None);
    let begun = Instant::now();
    let mut client = proxy.connect();
    while begun.elapsed() < Duration::from_millis(2500) {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(matches!(client.reply().status, 502 | 503));
    }
    let tries = begun.elapsed().as_secs() as usize + 2;
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let log = proxy.log();
    let served = log.lines().find(|line| line.contains("served")).unwrap_or_default();
    // A try that fails opens nothing; what was tried is seen in the counter of failures.
    assert!(served.contains(" 0 connections opened"), "{served}");
    let refused = number_before(served, " dials failed");
    assert!(
        refused <= tries,
        "{refused} connections were tried in {:?}: {served}",
        begun.elapsed()
    );
}

fn number_before(line: &str, what: &str) -> usize {
    let before = line.split(what).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// An endpoint that answers every second request with 503 does not make more load than a fifth.
fn g09_no_retry_storm(driver: Driver) {
    let count = Arc::new(AtomicUsize::new(0));
    let origins: Vec<Origin> = (0..2)
        .map(|_| {
            let count = Arc::clone(&count);
            Origin::scripted(move |_, link| {
                if count.fetch_add(1, SeqCst).is_multiple_of(2) {
                    link.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
                }
                Does::Keep
            })
        })
        .collect();
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let proxy = Proxy::run(driver, &cluster(&addresses, "balance = \"random\""), &[], None);
    let asked = 2000;
    let mut client = proxy.connect();
    let mut good = 0;
    for _ in 0..asked {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        good += usize::from(client.reply().status == 200);
    }
    let sent = count.load(SeqCst);
    // A fifth, and the ten that are free for clusters with few requests.
    assert!(sent <= asked * 12 / 10 + 10, "{sent} requests upstream for {asked}");
    assert!(sent > asked * 11 / 10, "it did try again: {sent} for {asked}");
    assert!(good * 100 > asked * 52, "and that helped: {good} of {asked}");
}

/// An endpoint that comes back gets a tenth at first, and its share grows.
fn g10_slow_start(driver: Driver) {
    let is_up = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_up);
    let returns = Origin::scripted(move |request, link| {
        if request.path() == "/up" && !seen.load(SeqCst) {
            link.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
        }
        Does::Keep
    });
    let steady = Origin::echo();
    let more = "health = { path = \"/up\", interval = \"100ms\", fall = 1, rise = 1 }\n\
                slow_start = { duration = \"4s\" }";
    let config = cluster(&[returns.address, steady.address], more);
    let proxy = Proxy::run(driver, &config, &[], None);
    is_up.store(false, SeqCst);
    until("it to be down", || proxy.log().contains("is down"));
    is_up.store(true, SeqCst);
    until("it to be up", || proxy.log().contains("is up again"));
    let begun = Instant::now();
    let asked = |path: &str| returns.requests().iter().filter(|one| one.path() == path).count();
    let mut client = proxy.connect();
    let mut ask = |path: &str, times: usize| {
        for _ in 0..times {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.reply().status, 200);
        }
    };
    // A shard looks at it ten times a second.
    std::thread::park_timeout(Duration::from_millis(150));
    ask("/first", 200);
    let (first, took) = (asked("/first"), begun.elapsed());
    let most = 200.0 * (0.1 + took.as_secs_f64() / 4.0) / 1.1 + 5.0;
    assert!(first as f64 <= most && first > 0, "{first} of 200 within {took:?}, at most {most}");
    until("it to have its whole share", || {
        ask("/later", 20);
        begun.elapsed() > Duration::from_millis(4300)
    });
    ask("/last", 200);
    assert!((90..=110).contains(&asked("/last")), "{}", asked("/last"));
}

/// One endpoint takes 100 ms, the others are fast: balancers that look see to it.
fn g11_one_slow_endpoint(driver: Driver) {
    for (balance, most) in
        [("least_connections", 0.2), ("least_response_time", 0.2), ("random_two", 0.27)]
    {
        let share = share_of_slow(driver, balance, 100, 4);
        assert!(share < most / 4.0 + 0.05, "{balance}: {share} of the requests");
    }
    let share = share_of_slow(driver, "round_robin", 5, 1);
    assert!((0.24..=0.26).contains(&share), "round_robin is fair: {share}");
}

fn share_of_slow(driver: Driver, balance: &str, millis: u64, clients: usize) -> f64 {
    let slow = Origin::scripted(move |_, _| {
        std::thread::park_timeout(Duration::from_millis(millis));
        Does::Keep
    });
    let fast: Vec<Origin> = (0..3).map(|_| Origin::echo()).collect();
    let mut addresses: Vec<_> = fast.iter().map(|origin| origin.address).collect();
    addresses.push(slow.address);
    let more = format!("balance = \"{balance}\"");
    let proxy = Proxy::run(driver, &cluster(&addresses, &more), &[], None);
    let left = AtomicUsize::new(400);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(client.reply().status, 200);
                }
            });
        }
    });
    slow.requests().len() as f64 / 400.0
}

/// Of a thousand endpoints one lives. Once that is known, no request pays for the others.
fn g12_one_of_a_thousand_lives(driver: Driver) {
    let good = Origin::echo();
    // No server listens on port 1 of the whole network 127.0.0.0/8.
    let mut addresses: Vec<SocketAddr> =
        (0..999_u16).map(|at| SocketAddr::from(([127, 1, (at >> 8) as u8, at as u8], 1))).collect();
    addresses.insert(500, good.address);
    for balance in ["round_robin", "random", "random_two", "least_connections", "ip_hash", "maglev"]
    {
        let more = format!(
            "balance = \"{balance}\"\nhealth = {{ type = \"tcp\", interval = \"2s\", fall = 1 }}"
        );
        let proxy = Proxy::run(driver, &cluster(&addresses, &more), &[], None);
        until("all the dead to be known", || proxy.log().matches("is down").count() == 999);
        let mut client = proxy.connect();
        let mut took = Vec::new();
        for _ in 0..300 {
            let begun = Instant::now();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let reply = client.reply();
            took.push(begun.elapsed());
            assert_eq!(reply.status, 200, "{balance}: {}", reply.text());
        }
        took.sort();
        assert!(took[150] < Duration::from_millis(10), "{balance}: {:?}", took[150]);
    }
}

/// Bodies of a pattern both ways, in segments of random sizes, by length and in chunks.
fn g13_bodies_are_exact(driver: Driver) {
    let origin = Origin::raw(|link| {
        while let Some(request) = link.request() {
            assert!(request.is_complete);
            link.forget();
            let is_chunked = request.path().ends_with("chunks");
            link.send(if is_chunked {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
            } else {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len())
            });
            pieces(&mut link.stream, &request.body, is_chunked, 7);
        }
    });
    let proxy = Proxy::before(driver, &origin);
    // The whole row is 1,000 runs of 16 MiB each way: `MILLRACE_LONG=1`.
    let (runs, size) = match std::env::var_os("MILLRACE_LONG") {
        Some(_) => (1000, 16 << 20),
        None => (8, 4 << 20),
    };
    let mut client = proxy.connect();
    for run in 0..runs {
        let mut random = millrace::base::random::Random::new(run);
        let mut body = Vec::with_capacity(size + 8);
        while body.len() < size {
            body.extend_from_slice(&random.bits().to_be_bytes());
        }
        let (is_chunked, path) = if run % 2 == 0 { (false, "/length") } else { (true, "/chunks") };
        let framing = if is_chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {}", body.len())
        };
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let mut stream = client.stream.try_clone().unwrap();
        let reply = std::thread::scope(|scope| {
            scope.spawn(|| pieces(&mut stream, &body, is_chunked, run + 1));
            client.reply()
        });
        assert!(reply.is_complete && reply.body == body, "run {run}: {} octets", reply.body.len());
    }
}

/// Writes a body in pieces of 1 octet to 64 KiB.
fn pieces(stream: &mut TcpStream, body: &[u8], is_chunked: bool, seed: u64) {
    let mut random = millrace::base::random::Random::new(seed);
    let mut rest = body;
    while !rest.is_empty() {
        let most = 1 << (random.bits() % 17);
        let len = (1 + random.bits() as usize % most).min(rest.len());
        let (piece, after) = rest.split_at(len);
        rest = after;
        let sent = if is_chunked {
            let bytes = [format!("{len:x}\r\n").as_bytes(), piece, b"\r\n"].concat();
            stream.write_all(&bytes)
        } else {
            stream.write_all(piece)
        };
        if sent.is_err() {
            return;
        }
    }
    if is_chunked {
        let _ = stream.write_all(b"0\r\n\r\n");
    }
    let _ = stream.take(0).read(&mut []);
}
