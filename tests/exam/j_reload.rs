//! Group J: another configuration in a running process, and the end of it: no request is lost.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::Row;
use crate::support::client::{Client, End};
use crate::support::proxy::temporary;
use crate::support::tls::{Authority, Flaw, TlsClient};
use crate::support::{Does, Driver, Ends, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("j01_listeners_come_and_go_under_load", j01_listeners_come_and_go),
        ("j02_the_same_for_kept_connections", j02_kept_connections),
        ("j05_a_port_that_cannot_be_had_changes_nothing", j05_a_port_that_is_taken),
        ("j07_a_download_outlives_its_listener", j07_a_download),
        ("j09_a_storm_of_reloads", j09_a_storm),
        ("j10_reloads_leave_nothing_behind", j10_nothing_is_left),
        ("j11_logs_and_cache_sizes_change", j11_logs_and_sizes),
    ]
}

fn listener(name: &str, address: &str, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}")
}

fn rest(origin: SocketAddr) -> String {
    format!(
        "[server]\ncores = 2\n[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{origin}\"\n\
         [[route]]\ncluster = \"app\"\n"
    )
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn is_served(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    drop(stream);
    let mut client = Client::connect(address);
    client.try_send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.reply().status == 200
}

/// Requests on a listener that stays, while others are added, moved and taken away around it: its number changes too.
fn sixteen_reloads(driver: Driver, keeps: bool) {
    let origin = Origin::echo();
    let authority = Authority::new();
    let (pair, trust) =
        (authority.pair(&["a.example"], Flaw::None), Arc::new(authority.client(None)));
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let tls =
        format!("tls = {{ certificates = [{{ certificate = \"{certificate}\", key = \"{key}\" }}] }}\n");
    let (fixed, other, secure) = (free(), free(), free());
    let base = || {
        format!(
            "{}{}",
            listener("fixed", &fixed.to_string(), ""),
            listener("secure", &secure.to_string(), &tls)
        )
    };
    let proxy = Proxy::run(driver, &format!("{}{}", base(), rest(origin.address)), &[], None);
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let plain = || {
        let mut client = Client::connect(fixed);
        while !is_over.load(SeqCst) {
            assert!(client.try_send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n"), "closed without a word");
            let reply = client.reply();
            assert_eq!((reply.status, reply.is_complete), (200, true), "{}", reply.text());
            asked.fetch_add(1, SeqCst);
            if !keeps || reply.closes() {
                client = Client::connect(fixed);
            }
        }
    };
    let encrypted = || {
        let connect = || TlsClient::connect(secure, "a.example", &trust).unwrap();
        let mut client = connect();
        while !is_over.load(SeqCst) {
            let reply = client.get("a.example", "/a").expect("an answer");
            assert_eq!(reply.status, 200);
            asked.fetch_add(1, SeqCst);
            if !keeps || reply.closes() {
                client = connect();
            }
        }
    };
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        (0..6).for_each(|_| drop(scope.spawn(plain)));
        (0..2).for_each(|_| drop(scope.spawn(encrypted)));
        let mut last = None;
        for round in 0..16 {
            let before = asked.load(SeqCst);
            until("some load", || asked.load(SeqCst) > before + 60);
            // In front of the others, behind them, or gone.
            let moved =
                listener("other", &(if round % 2 == 0 { other } else { free() }).to_string(), "");
            let text = match round % 3 {
                0 => format!("{moved}{}", base()),
                1 => format!("{}{moved}", base()),
                _ => base(),
            };
            proxy.reload(&format!("{text}{}", rest(origin.address)));
            let address =
                (round % 3 != 2).then(|| moved.split('"').nth(3).unwrap().parse().unwrap());
            if let Some(address) = address {
                until("the new listener", || is_served(address));
            }
            if let Some(gone) = last.filter(|gone| Some(*gone) != address) {
                until("the old one to be closed", || TcpStream::connect(gone).is_err());
            }
            last = address;
        }
        is_over.store(true, SeqCst);
    });
    assert!(asked.load(SeqCst) > 900);
}

fn j01_listeners_come_and_go(driver: Driver) {
    sixteen_reloads(driver, false);
}

fn j02_kept_connections(driver: Driver) {
    sixteen_reloads(driver, true);
}

fn j05_a_port_that_is_taken(driver: Driver) {
    let origin = Origin::echo();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let fixed = free();
    let config = |more: &str| {
        format!("{}{more}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address))
    };
    let proxy = Proxy::run(driver, &config(""), &[], None);
    let new = free();
    let both = [new, taken.local_addr().unwrap()]
        .map(|one| listener(&one.port().to_string(), &one.to_string(), ""));
    proxy.rewrite(&config(&both.concat()));
    proxy.signal("HUP");
    until("the refusal", || proxy.log().contains("another program listens there"));
    assert!(is_served(fixed));
    assert!(TcpStream::connect(new).is_err(), "nothing of it is used");
    drop(taken);
    proxy.reload(&config(&both.concat()));
    assert!(is_served(new) && is_served(fixed));
}

/// Its listener goes, its process drains: what is under way ends as it should.
fn j07_a_download(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 20 << 20));
        for _ in 0..20 {
            link.send(vec![b'x'; 1 << 20]);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Does::Keep
    });
    let (fixed, other) = (free(), free());
    let config = |more: &str| {
        format!("{}{more}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address))
    };
    let mut proxy =
        Proxy::run(driver, &config(&listener("other", &other.to_string(), "")), &[], None);
    let mut clients = [other, fixed].map(|address| {
        let mut client = Client::connect(address);
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    });
    assert!(clients.iter_mut().all(|client| client.head().starts_with("HTTP/1.1 200")));
    proxy.reload(&config(""));
    until("its listener to be closed", || TcpStream::connect(other).is_err());
    proxy.signal("TERM");
    for client in &mut clients {
        let (rest, end) = client.read_to_end();
        assert_eq!((rest.len(), end), (20 << 20, End::Fin));
    }
    assert_eq!(proxy.wait(), Some(0));
}

fn j09_a_storm(driver: Driver) {
    let origin = Origin::echo();
    let fixed = free();
    let config = format!("{}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address));
    let mut proxy = Proxy::run(driver, &config, &[], None);
    for _ in 0..100 {
        proxy.signal("HUP");
    }
    assert!(is_served(fixed));
    until("the last of them", || is_served(fixed) && proxy.log().contains("read again"));
    proxy.signal("TERM");
    proxy.signal("HUP");
    assert_eq!(proxy.wait(), Some(0));
}

fn j10_nothing_is_left(driver: Driver) {
    let origin = Origin::echo();
    let (fixed, other) = (free(), free());
    let config = |more: &str| {
        format!("{}{more}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address))
    };
    let with = config(&listener("other", &other.to_string(), ""));
    let proxy = Proxy::run(driver, &config(""), &[], None);
    let threads =
        |proxy: &Proxy| std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap().count();
    let round = || {
        proxy.reload(&with);
        assert!(is_served(fixed) && is_served(other));
        proxy.reload(&config(""));
    };
    (0..5).for_each(|_| round());
    let settled = |proxy: &Proxy| (proxy.fds(), threads(proxy));
    let mut before = (0, 0);
    until("it to settle", || std::mem::replace(&mut before, settled(&proxy)) == before);
    let rss = proxy.rss();
    (0..40).for_each(|_| round());
    until("descriptors and threads to be given back", || {
        let (fds, threads) = settled(&proxy);
        fds <= before.0 + 2 && threads <= before.1
    });
    assert!(proxy.rss() < rss + rss / 10 + 4096, "{rss} KiB, then {} KiB", proxy.rss());
}

fn j11_logs_and_sizes(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        let body = "x".repeat(100_000);
        link.send(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000\r\n\r\n{body}"
        ));
        Does::Keep
    });
    let logs = [temporary("log"), temporary("log")];
    let config = |log: Option<&std::path::Path>, object: &str| {
        let log = log.map_or_else(String::new, |path| {
            format!("[access_log]\npath = \"{}\"\n", path.display())
        });
        format!(
            "{}{}cache = true\n{log}[cache]\nobject = \"{object}\"\n",
            listener("web", "127.0.0.1:0", ""),
            rest(origin.address)
        )
    };
    let lines = |at: usize| std::fs::read_to_string(&logs[at]).unwrap_or_default().lines().count();
    let mut proxy = Proxy::run(driver, &config(Some(&logs[0]), "1MiB"), &[], None);
    let fetches = |path: &str| {
        let before = origin.requests().len();
        (0..2).for_each(|_| assert_eq!(proxy.get(path).status, 200));
        origin.requests().len() - before
    };
    assert_eq!(fetches("/a"), 1);
    until("the first log", || lines(0) == 2);
    proxy.reload(&config(Some(&logs[1]), "50KiB"));
    assert_eq!(fetches("/b"), 2, "it is too large now");
    assert_eq!(fetches("/a"), 0, "what is stored stays");
    until("the second log", || lines(1) == 4);
    proxy.reload(&config(None, "1MiB"));
    assert_eq!(fetches("/c"), 1);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    assert_eq!((lines(0), lines(1)), (2, 4));
    logs.iter().for_each(|path| drop(std::fs::remove_file(path)));
}
