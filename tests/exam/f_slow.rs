//! Group F: slow clients and limits. Deadlines are set short here; what counts is that they are
//! absolute, and that everything comes back afterwards.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::{Client, Does, Driver, End, Origin, Proxy, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("f01_connect_and_say_nothing", f01),
        ("f02_head_drip", f02),
        ("f03_body_drip", f03),
        ("f04_slow_reader", f04),
        ("f05_a_thousand_slow_ones", f05),
        ("f06_idle_connections_are_small", f06),
        ("f07_idle_ones_make_room", f07),
        ("f08_descriptors_run_out", f08),
        ("f09_no_more_upstream_connections", f09),
        ("f10_connection_caps", f10),
        ("f11_hash_floods", f11),
        ("f12_memory_amplification", f12),
        ("f13_upload_to_a_slow_origin", f13),
        ("f14_download_to_a_slow_client", f14),
        ("f15_body_limit", f15),
        ("f16_requests_and_age", f16),
        ("f17_half_close", f17),
        ("f18_lingering_close", f18),
    ]
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn f01(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nhead = \"500ms\"\n");
    let before = proxy.fds();
    let mut clients: Vec<Client> = (0..1000).map(|_| proxy.connect()).collect();
    let start = Instant::now();
    for client in &mut clients {
        let (bytes, end) = client.read_to_end();
        assert!(bytes.is_empty());
        assert_eq!(end, End::Fin, "closed in an orderly way");
    }
    assert!(start.elapsed() < Duration::from_secs(8));
    until("descriptors to come back", || proxy.fds() <= before + 1);
    mark(&proxy);
}

/// One byte now and then for as long as it is taken; how long that was.
fn drip(client: &mut Client, bytes: &[u8], pause: Duration) -> Duration {
    let start = Instant::now();
    client.stream.set_read_timeout(Some(pause)).unwrap();
    for byte in bytes.iter().cycle() {
        if !client.try_send([*byte]) || client.is_closed_within(pause) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nobody cut the drip");
    }
    start.elapsed()
}

fn f02(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nhead = \"1s\"\n");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.example\r\nX: ");
    let start = Instant::now();
    // Bytes all along, so that a deadline that restarts on each would never come.
    loop {
        client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        if !client.try_send("a") {
            break;
        }
        let mut block = [0; 4096];
        match client.stream.read(&mut block) {
            Ok(0) => break,
            Ok(len) => client.rest.extend_from_slice(&block[..len]),
            Err(_) => {}
        }
        assert!(start.elapsed() < Duration::from_secs(8), "the deadline was not absolute");
    }
    assert!(start.elapsed() >= Duration::from_millis(800), "{:?}", start.elapsed());
    assert!(client.rest.starts_with(b"HTTP/1.1 408 "), "{}", client.rest.escape_ascii());
    assert_eq!(origin.connections(), 0);
    mark(&proxy);
}

fn f03(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nbody_idle = \"1s\"\n");
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let mut client = proxy.connect();
        client.send(format!("POST /up HTTP/1.1\r\nHost: a.example\r\n{framing}\r\n\r\n"));
        let took = drip(&mut client, b"1\r\na\r\n", Duration::from_millis(50));
        assert!(took < Duration::from_secs(8), "cut by the minimum rate");
        until("the origin to see it break off", || {
            origin.requests().iter().any(|one| !one.is_complete)
        });
    }
    assert!(origin.requests().iter().all(|one| !one.is_complete));
    mark(&proxy);
}

/// An answer so large that no socket buffer holds it.
fn large(size: usize) -> Origin {
    Origin::scripted(move |_, link| {
        let block = vec![b'x'; 1 << 16];
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
        let mut left = size;
        while left > 0 {
            let len = left.min(block.len());
            if link.stream.write_all(&block[..len]).is_err() {
                return Does::Close;
            }
            left -= len;
        }
        Does::Keep
    })
}

fn f04(driver: Driver) {
    let origin = large(200_000_000);
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nbody_idle = \"1s\"\n");
    let before = (proxy.rss(), proxy.fds());
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n");
    }
    until("the answers to begin", || proxy.fds() >= before.1 + 40);
    // No client reads: all are cut, and their memory comes back.
    until("slow readers to be cut", || proxy.fds() <= before.1 + 1);
    let grown = proxy.rss().saturating_sub(before.0);
    assert!(grown < 20 * 300 + 2000, "{grown} KiB for 20 slow readers");
    mark(&proxy);
}

fn f05(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[timeouts]\nhead = \"2s\"\nbody_idle = \"1s\"\n");
    let before = proxy.fds();
    let mut slow: Vec<Client> = (0..1000).map(|_| proxy.connect()).collect();
    for (number, client) in slow.iter_mut().enumerate() {
        match number % 2 {
            0 => client.send("GET / HTTP/1.1\r\nHo"),
            _ => client.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 999\r\n\r\nx"),
        }
    }
    // All other clients are served meanwhile, without an error.
    let mut client = proxy.connect();
    for _ in 0..2000 {
        client.send(GET);
        assert_eq!(client.reply().status, 200);
    }
    drop(client);
    until("the slow ones to be cut", || proxy.fds() <= before + 10);
    drop(slow);
    mark(&proxy);
}

fn f06(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let open = |count: usize| -> Vec<Client> {
        (0..count)
            .map(|_| {
                let mut client = proxy.connect();
                client.send(GET);
                assert_eq!(client.reply().status, 200);
                client
            })
            .collect()
    };
    let first = open(500);
    let before = proxy.rss();
    let second = open(4000);
    let each = proxy.rss().saturating_sub(before) * 1024 / 4000;
    // Ours; the kernel adds about 4 KiB a socket (bench/README.md). The row's bar is
    // 10 KiB with the kernel's share.
    assert!(each <= 6 * 1024, "{each} octets for an idle connection");
    drop((first, second));
    mark(&proxy);
}

fn f07(driver: Driver) {
    let origin = Origin::echo();
    let config = plain(&origin);
    let proxy = Proxy::run(driver, &config, &[], Some(100));
    // One busy connection, older than all the idle ones.
    let mut busy = proxy.connect();
    busy.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbo");
    until("the busy one to be busy", || origin.byte_count() > 0);
    let mut idle = Vec::new();
    for _ in 0..150 {
        let mut client = Client::connect(proxy.address);
        client.send(GET);
        assert_eq!(client.reply().status, 200, "there is always room for one more");
        idle.push(client);
    }
    // The oldest had to go, the busy one did not.
    assert!(idle[0].is_closed_within(Duration::from_secs(5)));
    assert!(!idle[149].is_closed_within(Duration::from_millis(20)));
    busy.send("dy");
    assert_eq!(busy.reply().status, 200);
}

fn plain(origin: &Origin) -> String {
    format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n[[route]]\ncluster = \"app\"\n",
        origin.address
    )
}

fn f08(driver: Driver) {
    let origin = Origin::echo();
    let config = format!("{}[timeouts]\nhead = \"20s\"\n", plain(&origin));
    let proxy = Proxy::run(driver, &config, &[], Some(64));
    // A hundred that are in the middle of a head: none may be closed for another.
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(proxy.address)).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\n"));
    until("accepting to pause", || proxy.log().contains("accepting pauses"));
    let (ticks, lines) = (proxy.cpu_ticks(), proxy.log().lines().count());
    std::thread::park_timeout(Duration::from_secs(2));
    // No spin: two seconds are 200 ticks.
    assert!(proxy.cpu_ticks() - ticks <= 20, "{} ticks of CPU", proxy.cpu_ticks() - ticks);
    assert!(proxy.log().lines().count() - lines <= 4, "{}", proxy.log());
    drop(clients);
    until("it to recover", || {
        let mut client = Client::connect(proxy.address);
        client.send(GET);
        client.reply().status == 200
    });
    mark(&proxy);
}

fn f09(driver: Driver) {
    // Descriptors run out at the upstream's side: clients take them all.
    let origin = Origin::echo();
    let config = format!("{}[timeouts]\nhead = \"20s\"\n", plain(&origin));
    let proxy = Proxy::run(driver, &config, &[], Some(64));
    let mut clients: Vec<Client> = (0..150).map(|_| Client::connect(proxy.address)).collect();
    for client in &mut clients {
        client.try_send("GET / HTTP/1.1\r\n");
    }
    // Until no client is left that could be ended: all have begun.
    until("no idle one to be left", || proxy.log().contains(" 0 idle connections"));
    let ticks = proxy.cpu_ticks();
    // Those that had not begun were ended to make room; the first that is still there goes on.
    let reply = clients
        .iter_mut()
        .find_map(|client| {
            if client.is_closed_within(Duration::from_millis(1)) {
                return None;
            }
            client.stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
            let reply = client.try_send("Host: a.example\r\n\r\n").then(|| client.reply())?;
            Some(reply).filter(|reply| reply.status != 0)
        })
        .expect("somebody was let in");
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("proxy-status").unwrap().contains("connection_limit_reached"));
    assert!(proxy.cpu_ticks() - ticks <= 20);
    drop(clients);
    until("it to recover", || proxy.get("/mark/x").status == 200);
}

fn f10(driver: Driver) {
    let origin = Origin::echo();
    for (limit, is_per_client) in
        [("connections = 10", false), ("connections_per_client = 10", true)]
    {
        let mut proxy = Proxy::with(driver, &origin, &format!("[limits]\n{limit}\n"));
        let mut inside: Vec<Client> = (0..10).map(|_| proxy.connect()).collect();
        for client in &mut inside {
            client.send(GET);
            assert_eq!(client.reply().status, 200);
        }
        let mut eleventh = proxy.connect();
        assert!(eleventh.is_closed_within(Duration::from_secs(5)), "{limit}");
        if is_per_client {
            let from = socket_from("127.0.0.2", proxy.address);
            let mut other = Client { stream: from, rest: Vec::new(), asked_head: false };
            other.send(GET);
            assert_eq!(other.reply().status, 200, "another address has its own count");
        }
        inside.pop();
        until("the pass to come back", || {
            let mut client = proxy.connect();
            client.try_send(GET) && client.reply().status == 200
        });
        drop(inside);
        proxy.signal("TERM");
        proxy.wait();
        assert!(proxy.log().contains("refused by limits"), "{}", proxy.log());
    }
}

/// A connection from an address of our choice, by way of a bound socket.
fn socket_from(source: &str, target: std::net::SocketAddr) -> std::net::TcpStream {
    #[expect(
        unsafe_code,
        clippy::undocumented_unsafe_blocks,
        clippy::multiple_unsafe_ops_per_block,
        reason = "bind before connect"
    )]
    unsafe {
        use std::os::fd::FromRawFd;
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let address = |ip: std::net::Ipv4Addr, port: u16| libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: port.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
            sin_zero: [0; 8],
        };
        let len = size_of::<libc::sockaddr_in>() as u32;
        let from = address(source.parse().unwrap(), 0);
        assert_eq!(libc::bind(fd, (&raw const from).cast(), len), 0);
        let to = address(std::net::Ipv4Addr::LOCALHOST, target.port());
        assert_eq!(libc::connect(fd, (&raw const to).cast(), len), 0);
        std::net::TcpStream::from_raw_fd(fd)
    }
}

fn f11(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let ticks_of = |lines: &dyn Fn(usize) -> String| {
        let before = proxy.cpu_ticks();
        let mut client = proxy.connect();
        for number in 0..3000 {
            client.send(format!(
                "GET /?{number} HTTP/1.1\r\nHost: a.example\r\n{}\r\n",
                lines(number)
            ));
            assert_eq!(client.reply().status, 200);
        }
        proxy.cpu_ticks() - before
    };
    let same = ticks_of(&|_| "X-A: 1\r\n".repeat(90));
    let distinct =
        ticks_of(&|number| (0..90).map(|at| format!("X-{}: 1\r\n", number * 90 + at)).collect());
    assert!(distinct <= 2 * same + 10, "{distinct} ticks for distinct names, {same} for one name");
    // More than the cap is refused before it costs anything.
    let mut client = proxy.connect();
    let many: String = (0..10_000).map(|at| format!("X-{at}: 1\r\n")).collect();
    client.try_send(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{many}\r\n"));
    assert_eq!(client.reply().status, 431);
    mark(&proxy);
}

fn f12(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let payloads: Vec<Vec<u8>> = vec![
        format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)).into_bytes(),
        format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(200)).into_bytes(),
        b"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        format!("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "a".repeat(5000)).into_bytes(),
        b"\x16\x03\x01\x02\x00".to_vec(),
    ];
    let run = |rounds: usize| {
        for round in 0..rounds {
            let mut client = proxy.connect();
            client.try_send(&payloads[round % payloads.len()]);
            client.try_half_close();
            let _ = client.read_to_end();
        }
    };
    run(600);
    let before = proxy.rss();
    run(3000);
    let grown = proxy.rss().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more after 3000 repeats");
    mark(&proxy);
}

fn f13(driver: Driver) {
    let total: usize = 400_000_000;
    let origin = Origin::raw(move |link| {
        let Some(mut request) = link.head() else { return };
        if request.path().starts_with("/mark/") {
            link.body(&mut request);
            let body = request.path();
            let len = body.len();
            // It ends with this, which must be said: the upload must not meet its end.
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len}\r\n");
            return link.send(format!("{head}\r\n{body}"));
        }
        let mut read = link.rest.len();
        let mut block = vec![0; 1 << 16];
        // Reads a little, rests, then reads the rest.
        while read < total {
            if read < 4_000_000 {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            match link.stream.read(&mut block) {
                Ok(0) | Err(_) => return,
                Ok(len) => read += len,
            }
        }
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    });
    let proxy = Proxy::before(driver, &origin);
    mark(&proxy);
    let before = proxy.rss();
    let mut client = proxy.connect();
    client.send(format!("POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: {total}\r\n\r\n"));
    let block = vec![b'x'; 1 << 20];
    let mut most = 0;
    for sent in 0..total.div_ceil(block.len()) {
        let left = total - sent * block.len();
        client.send(&block[..left.min(block.len())]);
        most = most.max(proxy.rss());
    }
    assert_eq!(client.reply().body, b"done");
    let grown = most.saturating_sub(before);
    assert!(grown < 3 * 1024, "{grown} KiB more while {total} octets went through");
}

fn f14(driver: Driver) {
    let total = 400_000_000;
    let origin = large(total);
    let proxy = Proxy::before(driver, &origin);
    mark(&proxy);
    let before = proxy.rss();
    let mut client = proxy.connect();
    client.send("GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n");
    client.head();
    let mut block = vec![0; 1 << 16];
    let (mut read, mut most) = (client.rest.len(), 0);
    while read < total {
        if read < 4_000_000 {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let len = client.stream.read(&mut block).unwrap();
        assert!(len > 0 && block[..len].iter().all(|byte| *byte == b'x'));
        read += len;
        most = most.max(proxy.rss());
    }
    let grown = most.saturating_sub(before);
    assert!(grown < 3 * 1024, "{grown} KiB more while {total} octets went through");
}

fn f15(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[limits]\nbody = \"1KiB\"\n");
    let mut client = proxy.connect();
    client.send(format!(
        "POST /ok HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1024\r\n\r\n{}",
        "a".repeat(1024)
    ));
    assert_eq!(client.reply().status, 200);
    let before = origin.byte_count();
    let mut client = proxy.connect();
    client.send("POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1025\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.closes()), (413, true));
    assert_eq!(origin.byte_count(), before, "known at the head: nothing is sent up");
    let mut client = proxy.connect();
    client.send("POST /up HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        client.try_send(format!("100\r\n{}\r\n", "a".repeat(256)));
    }
    client.try_send("0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.closes()), (413, true));
    assert!(!origin.requests().iter().any(|one| one.path() == "/up" && one.is_complete));
    mark(&proxy);
}

fn f16(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[limits]\nrequests_per_connection = 1000\n");
    let mut client = proxy.connect();
    for number in 1..=1000 {
        client.send(GET);
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (200, number == 1000), "request {number}");
    }
    assert_eq!(client.read_to_end().1, End::Fin);
    drop(proxy);
    let proxy = Proxy::with(driver, &origin, "[limits]\nconnection_age = \"600ms\"\n");
    let mut client = proxy.connect();
    let start = Instant::now();
    loop {
        client.send(GET);
        let reply = client.reply();
        assert_eq!(reply.status, 200);
        if reply.closes() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(8), "age was not honoured");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_millis(400));
    assert_eq!(client.read_to_end().1, End::Fin);
}

fn f17(driver: Driver) {
    let origin = Origin::scripted(|_, _| {
        std::thread::park_timeout(Duration::from_millis(300));
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    let ticks = proxy.cpu_ticks();
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    client.half_close();
    assert_eq!(client.reply().body, b"/slow", "the answer is still delivered");
    assert_eq!(client.read_to_end().1, End::Fin);
    assert!(proxy.cpu_ticks() - ticks <= 10, "no busy loop on the end");
}

fn f18(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[limits]\nbody = \"1KiB\"\n");
    for _ in 0..20 {
        let mut client = proxy.connect();
        // Far more than fits in a receive buffer that is not read.
        client.send("POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 500000\r\n\r\n");
        client.try_send(vec![b'x'; 500_000]);
        let reply = client.reply();
        assert_eq!(reply.status, 413, "the answer is not lost to a reset");
        assert_eq!(client.read_to_end().1, End::Fin);
    }
    mark(&proxy);
}
