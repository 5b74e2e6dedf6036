//! Group C: hop-by-hop and forwarding fields.

use std::net::SocketAddr;

use millrace::wire::proxy_protocol::{ProxyVersion, write};

use crate::Row;
use crate::support::{Does, Driver, End, Origin, Proxy, Request, mark};

pub fn rows() -> Vec<Row> {
    vec![
        ("c01_connection_names_what_it_may_not", c01),
        ("c02_connection_names_what_we_add", c02),
        ("c03_connection_names_a_field", c03),
        ("c04_hop_by_hop_both_ways", c04),
        ("c05_forged_x_forwarded_for", c05),
        ("c06_trusted_proxies", c06),
        ("c07_other_forged_fields", c07),
        ("c08_proxy_protocol", c08),
        ("c09_loops", c09),
        ("c10_max_forwards", c10),
        ("c11_upstream_fields", c11),
        ("c12_dangerous_fields", c12),
        ("c13_line_ends_in_sinks", c13),
    ]
}

const TRUSTING: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

/// What the origin gets of a GET with these lines.
fn forwarded(proxy: &Proxy, origin: &Origin, lines: &str) -> Request {
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n\r\n"));
    let reply = client.reply();
    assert_eq!(reply.status, 200, "{lines}: {}", reply.text());
    origin.last()
}

fn c01(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for name in
        ["Content-Length", "Host", "Transfer-Encoding", "Authorization", "Cookie", "close, cookie"]
    {
        let mut client = proxy.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\nCookie: a\r\nConnection: {name}\r\nContent-Length: 2\r\n\r\nab"
        ));
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (400, true), "{name}");
    }
    assert_eq!(origin.connections(), 0);
    mark(&proxy);
}

fn c02(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let request = forwarded(
        &proxy,
        &origin,
        "Connection: X-Forwarded-For, X-Real-IP, Via, X-Request-Id, X-Forwarded-Proto, Forwarded",
    );
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("a.example"));
    assert!(request.header("via").unwrap().starts_with("1.1 millrace-"));
    assert_eq!(request.header("x-request-id").unwrap().len(), 36);
    assert!(request.header("forwarded").unwrap().starts_with("for=127.0.0.1;"));
}

fn c03(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let request = forwarded(&proxy, &origin, "Connection: X-Foo\r\nX-Foo: 1\r\nX-Bar: 2");
    assert_eq!(request.header("x-foo"), None);
    assert_eq!(request.header("x-bar"), Some("2"));
    assert_eq!(request.header("connection"), None);
}

fn c04(driver: Driver) {
    let hop = "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\n\
               Upgrade: foo\r\nProxy-Authenticate: Basic\r\nProxy-Authorization: Basic x";
    let answer = format!("HTTP/1.1 200 OK\r\n{hop}\r\nContent-Length: 2\r\n\r\nok");
    let origin = Origin::scripted(move |_, link| {
        link.send(&answer);
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{hop}\r\n\r\n"));
    let reply = client.reply();
    for line in hop.lines() {
        let name = line.split(':').next().unwrap();
        assert_eq!(origin.last().header(name), None, "{name} went up");
        assert_eq!(reply.header(name), None, "{name} came down");
    }
    mark(&proxy);
}

fn c05(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let request =
        forwarded(&proxy, &origin, "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8");
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(!request.head.contains("1.2.3.4") && !request.head.contains("5.6.7.8"));
}

fn c06(driver: Driver) {
    let origin = Origin::echo();
    let log = crate::support::proxy::temporary("log");
    let access = format!("{TRUSTING}[access_log]\npath = \"{}\"\n", log.display());
    let mut proxy = Proxy::with(driver, &origin, &access);
    let hops = "1.1.1.1, ".repeat(500) + "9.9.9.9";
    for (field, client) in [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 127.0.0.2", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ("junk", "127.0.0.1"),
        ("1.2.3.4, junk", "127.0.0.1"),
        ("1.2.3.4, ", "127.0.0.1"),
        (&hops, "9.9.9.9"),
    ] {
        let request = forwarded(&proxy, &origin, &format!("X-Forwarded-For: {field}"));
        let last = request.header("x-forwarded-for").unwrap();
        assert!(last.ends_with("127.0.0.1"), "{last}");
        let shown = &field[..field.len().min(40)];
        crate::support::until("the log", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines()
                .last()
                .is_some_and(|line| line.contains(&format!("\"client\":\"{client}\"")))
        });
        assert!(!shown.is_empty());
    }
    proxy.signal("TERM");
    proxy.wait();
    let _ = std::fs::remove_file(log);
}

fn c07(driver: Driver) {
    let origin = Origin::echo();
    let forged = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-IoAdapter: 1\r\n\
                  Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Request-Id: mine\r\nX-Forwarded-Server: evil";
    let proxy = Proxy::before(driver, &origin);
    let request = forwarded(&proxy, &origin, forged);
    for word in ["https", "evil", "1.2.3.4", "mine"] {
        assert!(!request.head.contains(word), "{word} was believed: {}", request.head);
    }
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    let trusting = Proxy::with(driver, &origin, TRUSTING);
    let request = forwarded(&trusting, &origin, forged);
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-request-id"), Some("mine"));
    assert_eq!(request.header("x-real-ip"), Some("1.2.3.4"));
}

fn c08(driver: Driver) {
    let origin = Origin::echo();
    let plain = Proxy::before(driver, &origin);
    let (source, target): (SocketAddr, SocketAddr) =
        ("1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap());
    let get = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = write(version, source, target);
        // On a listener without it: refused, and no endpoint gets any of it.
        let mut client = plain.connect();
        client.send([header.as_slice(), get].concat());
        let (bytes, end) = client.read_to_end();
        assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 4"), "{}", bytes.escape_ascii());
        assert_ne!(end, End::Open);
    }
    assert_eq!(origin.connections(), 0);
    let with = format!("{TRUSTING}proxy_protocol = true\n[timeouts]\nhead = \"300ms\"\n");
    let proxy = Proxy::with(driver, &origin, &with);
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = write(version, source, target);
        let mut client = proxy.connect();
        client.send([header.as_slice(), get].concat());
        assert_eq!(client.reply().status, 200);
        assert_eq!(origin.last().header("x-forwarded-for"), Some("1.2.3.4"));
        // Truncated, missing, oversized: closed without a word.
        let oversize = [&header[..header.len().min(14)], &[0xff, 0xff]].concat();
        for bad in [&header[..header.len() - 1], get, oversize.as_slice()] {
            let before = origin.byte_count();
            let mut client = proxy.connect();
            client.send(bad);
            let (bytes, end) = client.read_to_end();
            assert!(bytes.is_empty() && end != End::Open, "{}", bytes.escape_ascii());
            assert_eq!(origin.byte_count(), before);
        }
    }
}

fn c09(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let via = forwarded(&proxy, &origin, "Via: 1.0 other").header("via").map(str::to_owned);
    assert_eq!(via.as_deref(), Some("1.0 other"));
    let ours = origin
        .last()
        .head
        .lines()
        .filter(|line| line.starts_with("Via: 1.1 "))
        .map(|line| line[5..].to_owned())
        .next()
        .unwrap();
    let twenty = "1.1 x, ".repeat(19) + "1.1 y";
    for value in [ours.as_str(), &format!("1.0 a, {ours}"), &twenty] {
        let before = origin.byte_count();
        let mut client = proxy.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\nVia: {value}\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(reply.status, 508, "{value}");
        assert!(reply.header("proxy-status").unwrap().contains("proxy_loop_detected"));
        assert_eq!(origin.byte_count(), before);
    }
}

fn c10(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send("OPTIONS * HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: 0\r\n\r\n");
    let reply = client.reply();
    assert!(reply.status == 200 && reply.header("allow").is_some(), "{}", reply.text());
    assert_eq!(origin.connections(), 0);
    client.send("OPTIONS / HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: 3\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert_eq!(origin.last().header("max-forwards"), Some("2"));
    client.send("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert_eq!(origin.last().path(), "*");
}

fn c11(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send(
            "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nX-Secret: 1\r\nX-Forwarded-For: 1.2.3.4\r\n\
             X-Real-IP: 5\r\nX-Ok: 1\r\nContent-Length: 2\r\n\r\nok",
        );
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    let reply = proxy.get("/x");
    for name in ["connection", "x-secret", "x-forwarded-for", "x-real-ip"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    assert_eq!(reply.header("x-ok"), Some("1"));
}

fn c12(driver: Driver) {
    let origin = Origin::echo();
    let routes =
        "[[route]]\npath = \"/secret\"\nrespond = { status = 418 }\n[[route]]\ncluster = \"app\"\n";
    let proxy = Proxy::with(driver, &origin, routes);
    let request = forwarded(
        &proxy,
        &origin,
        "Proxy: http://evil/\r\nX-Original-URL: /secret\r\nX-Rewrite-URL: /secret\r\nX-HTTP-Method-Override: DELETE",
    );
    assert_eq!(request.header("proxy"), None);
    assert!(request.head.starts_with("GET / "));
}

fn c13(driver: Driver) {
    let origin = Origin::echo();
    let log = crate::support::proxy::temporary("log");
    let more = format!(
        "[[route]]\npath = \"/old\"\nredirect = {{ scheme = \"https\" }}\n[[route]]\ncluster = \"app\"\n\
         [access_log]\npath = \"{}\"\nformat = \"combined\"\n",
        log.display()
    );
    let mut proxy = Proxy::with(driver, &origin, &more);
    let mut client = proxy.connect();
    client.send("GET /old/%0d%0aSet-Cookie:%20a=b?x=%0d%0aEvil:1 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: \"quoted\"\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.status, 308);
    assert_eq!(
        reply.header("location"),
        Some("https://a.example/old/%0D%0ASet-Cookie:%20a=b?x=%0d%0aEvil:1")
    );
    assert!(reply.header("set-cookie").is_none() && reply.header("evil").is_none());
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("\\x22quoted\\x22"), "{text}");
    let _ = std::fs::remove_file(log);
}
