//! Rows R35 to R37: names with several addresses, some of them dead, and DNS that fails.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::sites::{Dns, Hole, Mood, Site, answer, h2_site, ip, port_of, two};
use crate::Row;
use crate::support::{Client, Driver, PATIENCE, Proxy, nobody, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r35_a_dead_address_beside_a_live_one", r35_a_dead_address),
        ("r35_whatever_is_spoken", r35_whatever_is_spoken),
        ("r35_an_address_that_comes_back", r35_an_address_that_comes_back),
        ("r36_requests_are_spread_over_addresses", r36_requests_are_spread),
        ("r36_requests_are_spread_in_http2", r36_in_http2),
        ("r36_each_address_is_judged_by_itself", r36_judged_by_itself),
        ("r36_each_address_is_checked_by_itself", r36_checked_by_itself),
        ("r36_a_client_sticks_to_an_address", r36_sticky),
        ("r36_a_client_stays_when_addresses_come", r36_sticky_grows),
        ("r36_addresses_come_and_go", r36_come_and_go),
        ("r36_a_request_whose_address_has_left_is_retried", r36_left_in_between),
        ("r36_no_more_than_the_most_of_each_address", r36_most),
        ("r37_reload_while_dns_fails", r37_reload_while_dns_fails),
        ("r37_reload_while_dns_is_silent", r37_reload_while_dns_is_silent),
        ("r37_a_name_that_moves_in_the_file", r37_a_name_that_moves),
        ("r37_no_request_before_the_first_answers", r37_no_request_before),
        ("r37_a_start_without_dns", r37_a_start_without_dns),
    ]
}

/// One endpoint by name; `more` are lines of its cluster.
fn named(dns: &Dns, port: u16, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\n\
         {more}\n[[cluster.endpoint]]\naddress = \"app.test:{port}\"\n[dns]\nservers = [\"{}\"]\n\
         [[route]]\ncluster = \"app\"\n",
        dns.address
    )
}

/// One request on a connection that is kept.
fn ask(client: &mut Client, path: &str, more: &str) -> (u16, String) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{more}\r\n"));
    let reply = client.reply();
    (reply.status, reply.text())
}

/// Every request needs a connection of its own, and a connect may take three seconds.
const EACH_DIALS: &str = "pool = { size = 0 }\ntimeouts = { connect = \"3s\" }\n";

fn r35_a_dead_address(driver: Driver) {
    for (dead, live) in
        [("::1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")]
    {
        let [hole, listener] = two(dead, live);
        let port = port_of(&listener);
        let (_hole, site) = (Hole::new(hole), Site::new(listener, "live"));
        let dns = Dns::new(&[ip(dead), ip(live)], Mood::Good);
        let proxy = Proxy::run(driver, &named(&dns, port, EACH_DIALS), &[], None);
        let mut slow = 0;
        for number in 0..24 {
            let begun = Instant::now();
            let reply = proxy.get("/a");
            let took = begun.elapsed();
            assert_eq!(reply.status, 200, "{dead} dead, request {number}: {}", reply.text());
            assert!(took < Duration::from_secs(2), "{dead} dead, request {number}: {took:?}");
            slow += usize::from(took > Duration::from_millis(200));
        }
        // One of them finds out. A few more are forgiven, for the machine is shared.
        assert!(slow <= 4, "{dead} dead: {slow} of 24 were slow");
        assert_eq!(site.asked("/a"), 24);
    }
}

/// The same where octets are passed on as they are, and where the endpoint speaks HTTP/2.
fn r35_whatever_is_spoken(driver: Driver) {
    for dead in ["::1", "127.0.0.2"] {
        let [hole, listener] = two(dead, "127.0.0.1");
        let port = port_of(&listener);
        let (_hole, site) = (Hole::new(hole), Site::new(listener, "live"));
        let dns = Dns::new(&[ip(dead), ip("127.0.0.1")], Mood::Good);
        let config = named(&dns, port, EACH_DIALS)
            .replace("name = \"web\"", "name = \"web\"\nmode = \"tcp\"")
            .replace("[[route]]", "[[route]]\nlistener = \"web\"");
        let proxy = Proxy::run(driver, &config, &[], None);
        for number in 0..12 {
            let begun = Instant::now();
            assert_eq!(proxy.get("/a").status, 200, "tcp, {dead} dead, connection {number}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "tcp, {dead} dead: {took:?}");
        }
        assert_eq!(site.asked("/a"), 12);

        let [hole, listener] = two(dead, "127.0.0.1");
        let port = port_of(&listener);
        let (_hole, _site) = (Hole::new(hole), h2_site(listener, "live"));
        let config = named(&dns, port, &format!("{EACH_DIALS}protocol = \"http2\"\n"));
        let proxy = Proxy::run(driver, &config, &[], None);
        for number in 0..4 {
            let begun = Instant::now();
            assert_eq!(proxy.get("/a").status, 200, "http2, {dead} dead, request {number}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "http2, {dead} dead: {took:?}");
        }
    }
}

/// An address is passed over for a while, not for ever.
fn r35_an_address_that_comes_back(driver: Driver) {
    let [late, listener] = two("127.0.0.2", "127.0.0.1");
    let address = late.local_addr().unwrap();
    drop(late);
    let site = Site::new(listener, "one");
    let dns = Dns::new(&[ip("127.0.0.1"), ip("127.0.0.2")], Mood::Good);
    let proxy = Proxy::run(driver, &named(&dns, address.port(), EACH_DIALS), &[], None);
    for _ in 0..12 {
        assert_eq!(proxy.get("/a").status, 200);
    }
    assert_eq!(site.asked("/a"), 12);
    let late = Site::new(TcpListener::bind(address).unwrap(), "two");
    until("the second address to be used", || {
        assert_eq!(proxy.get("/a").status, 200);
        late.asked("/a") > 0
    });
}

/// Two sites behind one name.
fn pair() -> (Site, Site, Dns, u16) {
    let [one, two] = two("127.0.0.1", "127.0.0.2");
    let port = port_of(&one);
    let dns = Dns::new(&[ip("127.0.0.1"), ip("127.0.0.2")], Mood::Good);
    (Site::new(one, "one"), Site::new(two, "two"), dns, port)
}

/// Requests of one client on one connection, whose connections to the sites are kept as well.
fn r36_requests_are_spread(driver: Driver) {
    for balance in ["round_robin", "random", "random_two", "least_connections"] {
        let (one, two, dns, port) = pair();
        let more = format!("balance = \"{balance}\"");
        let proxy = Proxy::run(driver, &named(&dns, port, &more), &[], None);
        let mut client = proxy.connect();
        for _ in 0..60 {
            assert_eq!(ask(&mut client, "/a", "").0, 200);
        }
        let asked = (one.asked("/a"), two.asked("/a"));
        assert!(asked.0 >= 10 && asked.1 >= 10, "{balance}: {asked:?} of 60");
        assert_eq!(asked.0 + asked.1, 60, "{balance}");
    }
}

fn r36_in_http2(driver: Driver) {
    let [one, two] = two("127.0.0.1", "127.0.0.2");
    let port = port_of(&one);
    let dns = Dns::new(&[ip("127.0.0.1"), ip("127.0.0.2")], Mood::Good);
    let (one, two) = (h2_site(one, "one"), h2_site(two, "two"));
    let proxy = Proxy::run(driver, &named(&dns, port, "protocol = \"http2\""), &[], None);
    let mut client = proxy.connect();
    for _ in 0..40 {
        assert_eq!(ask(&mut client, "/a", "").0, 200);
    }
    let asked = (one.load(SeqCst), two.load(SeqCst));
    assert!(asked.0 >= 10 && asked.1 >= 10, "{asked:?} of 40");
}

/// A broken server at one address: requests go to the other, and soon none comes here.
fn r36_judged_by_itself(driver: Driver) {
    let [one, two] = two("127.0.0.1", "127.0.0.2");
    let port = port_of(&one);
    let dns = Dns::new(&[ip("127.0.0.1"), ip("127.0.0.2")], Mood::Good);
    let (good, bad) = (Site::new(one, "good"), Site::scripted(two, |_| None));
    let more = "passive = { ejection = \"50s\" }\nretry = { budget = 100 }";
    let proxy = Proxy::run(driver, &named(&dns, port, more), &[], None);
    for number in 0..40 {
        let reply = proxy.get("/a");
        assert_eq!(reply.status, 200, "request {number}: {}", reply.text());
    }
    assert_eq!(good.asked("/a"), 40);
    assert!((1..=10).contains(&bad.asked("/a")), "{} came to a broken one", bad.asked("/a"));
}

fn r36_checked_by_itself(driver: Driver) {
    let [one, two] = two("127.0.0.1", "127.0.0.2");
    let port = port_of(&one);
    let dns = Dns::new(&[ip("127.0.0.1"), ip("127.0.0.2")], Mood::Good);
    let good = Site::new(one, "good");
    let bad = Site::scripted(two, |path| {
        Some(if path == "/up" { answer(500, "no") } else { answer(200, "bad") })
    });
    let more = "health = { path = \"/up\", interval = \"100ms\", fall = 2 }";
    let proxy = Proxy::run(driver, &named(&dns, port, more), &[], None);
    until("both to be checked", || good.asked("/up") >= 4 && bad.asked("/up") >= 4);
    until("the verdict", || proxy.log().contains("is down"));
    assert!(proxy.log().contains("127.0.0.2"), "which address: {}", proxy.log());
    until("the verdict to be heard", || (0..8).all(|_| proxy.get("/heard").body == b"good"));
    for _ in 0..20 {
        assert_eq!(proxy.get("/a").body, b"good");
    }
    assert_eq!(bad.asked("/a"), 0);
}

/// A sealed cookie names an address, not only a name.
fn r36_sticky(driver: Driver) {
    let (one, two, dns, port) = pair();
    let proxy = Proxy::run(driver, &named(&dns, port, "sticky = {}"), &[], None);
    for _ in 0..4 {
        let reply = proxy.get("/first");
        let cookie = reply.header("set-cookie").expect("a cookie").split(';').next().unwrap();
        let more = format!("Cookie: {cookie}\r\n");
        for _ in 0..6 {
            let (status, text) = ask(&mut proxy.connect(), "/again", &more);
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(status == 200 && text.ends_with(&body), "was {body}, is {text}");
        }
    }
    let firsts = (one.asked("/first"), two.asked("/first"));
    assert!(firsts.0 > 0 && firsts.1 > 0, "new clients go to both: {firsts:?}");
}

/// One that was there alone keeps its clients when the name gets a second address.
fn r36_sticky_grows(driver: Driver) {
    let (_one, two, dns, port) = pair();
    dns.tells(&[ip("127.0.0.1")]);
    let proxy = Proxy::run(driver, &named(&dns, port, "sticky = {}"), &[], None);
    let reply = proxy.get("/first");
    assert_eq!(reply.body, b"one");
    let cookie = reply.header("set-cookie").expect("a cookie").split(';').next().unwrap();
    let more = format!("Cookie: {cookie}\r\n");
    dns.tells(&[ip("127.0.0.1"), ip("127.0.0.2")]);
    until("the second address to be used", || {
        assert_eq!(proxy.get("/new").status, 200);
        two.asked("/new") > 0
    });
    for _ in 0..8 {
        let (status, text) = ask(&mut proxy.connect(), "/again", &more);
        assert!(status == 200 && text.ends_with("one"), "{text}");
    }
}

/// What DNS tells anew is used, and what it does not tell any more is not, whatever the balancer.
fn r36_come_and_go(driver: Driver) {
    let hash = "balance = \"consistent_hash\"\nhash = { on = \"path\" }";
    let maglev = "balance = \"maglev\"\nhash = { on = \"path\" }";
    for more in ["", "balance = \"least_connections\"", hash, maglev] {
        let (one, two, dns, port) = pair();
        dns.tells(&[ip("127.0.0.1")]);
        let proxy = Proxy::run(driver, &named(&dns, port, more), &[], None);
        let mut number = 0;
        let mut by = |round: &str, site: &Site| {
            until(round, || {
                number += 1;
                let path = format!("/{number}");
                assert_eq!(proxy.get(&path).status, 200, "{more} {round}");
                site.asked(&path) == 1
            });
        };
        by("one", &one);
        dns.tells(&[ip("127.0.0.1"), ip("127.0.0.2")]);
        by("two beside it", &two);
        dns.tells(&[ip("127.0.0.2")]);
        // Then none comes to the first any more.
        until("the first to be left", || {
            let before = one.count();
            (0..20).for_each(|at| assert_eq!(proxy.get(&format!("/left/{at}")).status, 200));
            one.count() == before
        });
        dns.tells(&[ip("127.0.0.1")]);
        by("one again", &one);
    }
}

/// A GET is under way on a kept connection to an address that DNS takes away and that then closes it.
fn r36_left_in_between(driver: Driver) {
    let [one, two] = two("127.0.0.1", "127.0.0.2");
    let port = port_of(&one);
    let (came, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (has_come, may_go) = (Arc::clone(&came), Arc::clone(&go));
    let leaving = Site::scripted(one, move |path| {
        if path != "/slow" {
            return Some(answer(200, "one"));
        }
        has_come.store(true, SeqCst);
        until("the address to be taken away", || may_go.load(SeqCst));
        None
    });
    let staying = Site::new(two, "two");
    let dns = Dns::new(&[ip("127.0.0.1")], Mood::Good);
    let proxy = Proxy::run(driver, &named(&dns, port, ""), &[], None);
    let mut client = proxy.connect();
    assert_eq!(ask(&mut client, "/a", "").0, 200);
    client.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("the request", || came.load(SeqCst));
    dns.tells(&[ip("127.0.0.2")]);
    until("requests to go elsewhere", || proxy.get("/b").body == b"two");
    go.store(true, SeqCst);
    let reply = client.reply();
    assert_eq!((reply.status, &*reply.body), (200, &b"two"[..]), "{}", reply.text());
    assert_eq!(leaving.asked("/slow"), 1);
    assert_eq!(staying.asked("/slow"), 1);
}

/// `max_connections` holds for each address also where others do not answer.
fn r36_most(driver: Driver) {
    let [hole, listener] = two("127.0.0.2", "127.0.0.1");
    let port = port_of(&listener);
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, seen) = (Arc::clone(&at_once), Arc::clone(&most));
    let _site = Site::scripted(listener, move |_| {
        seen.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::park_timeout(Duration::from_millis(50));
        now.fetch_sub(1, SeqCst);
        Some(answer(200, "live"))
    });
    let _hole = Hole::new(hole);
    let dns = Dns::new(&[ip("127.0.0.1"), ip("127.0.0.2")], Mood::Good);
    let more = "max_connections = 3\nqueue = { max = 100, timeout = \"8s\" }\ntimeouts = { connect = \"3s\" }";
    let proxy = Proxy::run(driver, &named(&dns, port, more), &[], None);
    let clients: Vec<Client> = (0..20).map(|_| proxy.connect()).collect();
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| std::thread::spawn(move || ask(&mut client, "/a", "").0))
        .collect();
    let statuses: Vec<u16> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?} {}", proxy.log());
    assert!(most.load(SeqCst) <= 3, "{} at once", most.load(SeqCst));
}

/// Requests go on while DNS is asked, and fails, so many times more.
fn serves_while_dns_fails(proxy: &Proxy, dns: &Dns, times: usize, what: &str) {
    let before = dns.asked();
    until(what, || {
        let reply = proxy.get("/a");
        assert_eq!(reply.status, 200, "{what}, asked {}: {}", dns.asked() - before, reply.text());
        dns.asked() >= before + times
    });
}

fn r37_reload_while_dns_fails(driver: Driver) {
    for (what, mood) in [("SERVFAIL", Mood::Code(2)), ("NXDOMAIN", Mood::Code(3))] {
        let (_one, _two, dns, port) = pair();
        let proxy = Proxy::run(driver, &named(&dns, port, ""), &[], None);
        assert_eq!(proxy.get("/a").status, 200);
        dns.turns(mood);
        proxy.reload(&named(&dns, port, "balance = \"random\""));
        serves_while_dns_fails(&proxy, &dns, 8, what);
        // And once more, under the plan that never heard an answer itself.
        proxy.reload(&named(&dns, port, ""));
        serves_while_dns_fails(&proxy, &dns, 8, what);
    }
}

/// A lookup without any answer takes longer than the reload waits for it, and fails later.
fn r37_reload_while_dns_is_silent(driver: Driver) {
    let (_one, _two, dns, port) = pair();
    let proxy = Proxy::run(driver, &named(&dns, port, ""), &[], None);
    assert_eq!(proxy.get("/a").status, 200);
    dns.turns(Mood::Silent);
    let renamed = named(&dns, port, "").replace("\"app\"", "\"renamed\"");
    proxy.reload(&renamed);
    for _ in 0..20 {
        assert_eq!(proxy.get("/a").status, 200, "{}", proxy.log());
    }
    // That takes a quarter of a minute.
    if std::env::var_os("MILLRACE_LONG").is_some() {
        let begun = Instant::now();
        while !proxy.log().contains("app.test:") {
            assert!(begun.elapsed() < PATIENCE * 3, "the lookup never failed");
            assert_eq!(proxy.get("/a").status, 200, "after {:?}", begun.elapsed());
        }
        for _ in 0..20 {
            assert_eq!(proxy.get("/a").status, 200, "after the failure");
        }
    }
}

/// What is known of a name is known of it in another cluster, and with another port.
fn r37_a_name_that_moves(driver: Driver) {
    let (_one, _two, dns, port) = pair();
    let (_three, _four, _, other_port) = pair();
    let proxy = Proxy::run(driver, &named(&dns, port, ""), &[], None);
    assert_eq!(proxy.get("/a").status, 200);
    dns.turns(Mood::Code(2));
    proxy.reload(&named(&dns, port, "").replace("\"app\"", "\"renamed\""));
    serves_while_dns_fails(&proxy, &dns, 4, "another cluster");
    proxy.reload(&named(&dns, other_port, ""));
    serves_while_dns_fails(&proxy, &dns, 4, "another port");
}

/// Asks as soon as there is a listener; the status, and when the answer came.
fn asks_at_once(address: SocketAddr) -> std::thread::JoinHandle<(u16, Duration)> {
    std::thread::spawn(move || {
        let begun = Instant::now();
        until("a listener", || TcpStream::connect(address).is_ok());
        let mut client = Client::connect(address);
        let status = ask(&mut client, "/a", "").0;
        (status, begun.elapsed())
    })
}

/// The names are there within the time that a start may wait for them: no client sees an error.
fn r37_no_request_before(driver: Driver) {
    let (_one, _two, dns, port) = pair();
    dns.turns(Mood::Slow(Duration::from_millis(700)));
    let address = nobody();
    let config = named(&dns, port, "").replace("127.0.0.1:0", &address.to_string());
    let asks = asks_at_once(address);
    let proxy = Proxy::run(driver, &config, &[], None);
    let (status, took) = asks.join().unwrap();
    assert_eq!(status, 200, "after {took:?}: {}", proxy.log());
    assert_eq!(proxy.get("/a").status, 200);
}

/// Silent DNS does not keep the proxy from serving what has no names.
fn r37_a_start_without_dns(driver: Driver) {
    let (_one, _two, dns, port) = pair();
    dns.turns(Mood::Silent);
    let address = nobody();
    let config = named(&dns, port, "").replace("127.0.0.1:0", &address.to_string());
    let config = format!("{config}[[route]]\npath = \"/fixed\"\nrespond = {{ status = 204 }}\n");
    let asks = asks_at_once(address);
    let proxy = Proxy::run(driver, &config, &[], None);
    let (status, took) = asks.join().unwrap();
    assert_eq!(status, 503, "{}", proxy.log());
    assert!(took < Duration::from_secs(8), "it waited {took:?}");
    assert!(
        took > Duration::from_secs(1),
        "no request before names had their two seconds: {took:?}"
    );
    assert_eq!(proxy.get("/fixed").status, 204);
}
