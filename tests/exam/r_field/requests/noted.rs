//! Row R33: of a request that is refused the log has what was read of it: method, host, target.

use std::io::{Read, Write};

use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::h2::{Outcome, Peer, get};
use crate::support::{Driver, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r33_refused_requests_are_in_the_log", r33_refused_requests),
        ("r33_large_requests_are_in_the_log", r33_large_requests),
        ("r33_half_requests_are_in_the_log", r33_half_requests),
        ("r33_refused_requests_of_http2_are_in_the_log", r33_refused_requests_of_http2),
        ("r33_combined_lines_are_well_formed", r33_combined_lines_are_well_formed),
    ]
}

/// Sends a request, and holds its line of the log against what was read.
fn noted(proxy: &Proxy, log: &Log, request: &[u8], status: u16, read: [&str; 3]) {
    let before = log.lines().len();
    let mut client = proxy.connect();
    client.try_send(request);
    let reply = client.reply();
    let start = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
    assert_eq!(reply.status, status, "{start}: {}", reply.text());
    until("a line", || log.lines().len() > before);
    let line = log.lines().swap_remove(before);
    let [method, host, target] = read;
    assert_eq!(line["status"], status, "{start}: {line}");
    assert_eq!(line["method"], method, "{start}: {line}");
    assert_eq!(line["target"], target, "{start}: {line}");
    assert_eq!(line["host"], host, "{start}: {line}");
}

fn r33_refused_requests(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &log.table());
    let host = "Host: a.example:81\r\n";
    for (line, fields, status, [method, target]) in [
        ("TRACE /x?y HTTP/1.1", "", 405, ["TRACE", "/x?y"]),
        ("TRACK /x HTTP/1.1", "", 405, ["TRACK", "/x"]),
        ("CONNECT a.example:81 HTTP/1.1", "", 405, ["CONNECT", "a.example:81"]),
        ("GET /x HTTP/1.1", "Bad Name: x\r\n", 400, ["GET", "/x"]),
        ("GET /x HTTP/1.1", "Content-Length: 1\r\nContent-Length: 2\r\n", 400, ["GET", "/x"]),
        ("POST /x HTTP/1.1", "Transfer-Encoding: gzip\r\n", 501, ["POST", "/x"]),
        ("GET /x HTTP/1.1", "Expect: 200-ok\r\n", 417, ["GET", "/x"]),
        ("GET /x HTTP/3.0", "", 505, ["GET", "/x"]),
        ("GET /a%zz HTTP/1.1", "", 400, ["GET", "/a%zz"]),
        ("GET /a#b HTTP/1.1", "", 400, ["GET", "/a#b"]),
        ("GET ftp://a/x HTTP/1.1", "", 400, ["GET", "ftp://a/x"]),
    ] {
        let request = format!("{line}\r\n{host}{fields}\r\n");
        noted(&proxy, &log, request.as_bytes(), status, [method, "a.example:81", target]);
    }
    // Without a host, and with more than one, there is none.
    noted(&proxy, &log, b"GET /x HTTP/1.1\r\n\r\n", 400, ["GET", "", "/x"]);
    // What is no request line at all has nothing to tell.
    noted(&proxy, &log, b"\x01\x02\x03\r\n\r\n", 400, ["", "", ""]);
    assert!(origin.requests().is_empty());
}

fn r33_large_requests(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &log.table());
    let read = ["GET", "a.example", "/x"];
    let begin = "GET /x HTTP/1.1\r\nHost: a.example\r\n";
    for more in [
        format!("X-Long: {}\r\n", "a".repeat(9000)),
        "X: y\r\n".repeat(150),
        format!("X-Long: {}\r\n", "a".repeat(7000)).repeat(7),
    ] {
        noted(&proxy, &log, format!("{begin}{more}\r\n").as_bytes(), 431, read);
    }
    // Of a long target stands there what a line of the log has room for.
    let target = format!("/{}", "t".repeat(9000));
    let before = log.lines().len();
    let mut client = proxy.connect();
    client.try_send(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    assert_eq!(client.reply().status, 414);
    until("a line", || log.lines().len() > before);
    let line = log.lines().swap_remove(before);
    let found = line["target"].as_str().unwrap();
    assert!(line["method"] == "GET" && found.len() > 1000, "{} octets", found.len());
    assert!(target.starts_with(found));
}

/// A head that stops: in its first line nothing is sure, behind it method and target are.
fn r33_half_requests(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let more = format!("{}[timeouts]\nhead = \"1s\"\n", log.table());
    let proxy = Proxy::with(driver, &origin, &more);
    let half = b"GET /slow HTTP/1.1\r\nHost: a.example\r\nX-";
    noted(&proxy, &log, half, 408, ["GET", "a.example", "/slow"]);
    noted(&proxy, &log, b"GET /slow HTTP/1.1\r\nHost: a.exa", 408, ["GET", "", "/slow"]);
    noted(&proxy, &log, b"GET /sl", 408, ["", "", ""]);
}

fn r33_refused_requests_of_http2(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &log.table());
    let with = |method: &'static str, target: &'static str, more: &'static [(&str, &str)]| {
        let mut fields = get(target).to_vec();
        fields[0].1 = method;
        fields.extend_from_slice(more);
        fields
    };
    for (fields, status, [method, target]) in [
        (with("TRACE", "/trace", &[]), 405, ["TRACE", "/trace"]),
        (with("TRACK", "/track", &[]), 405, ["TRACK", "/track"]),
        (with("GET", "/a%zz", &[]), 400, ["GET", "/a%zz"]),
        (with("GET", "/expects", &[("expect", "200-ok")]), 417, ["GET", "/expects"]),
    ] {
        let before = log.lines().len();
        let mut peer = Peer::connect(proxy.address);
        peer.headers(1, &fields, true);
        let outcome = peer.outcome(1);
        assert_eq!(outcome.status(), status, "{method} {target}: {outcome:?}");
        until("a line", || log.lines().len() > before);
        let line = log.lines().swap_remove(before);
        assert_eq!((&line["method"], &line["target"]), (&method.into(), &target.into()), "{line}");
        assert_eq!(line["host"], "a.example", "{line}");
    }
    // One that asks for a tunnel to anywhere has no path.
    let before = log.lines().len();
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &[(":method", "CONNECT"), (":authority", "a.example:81")], false);
    let outcome = peer.outcome(1);
    assert!(matches!(outcome, Outcome::Reset(_)) || outcome.status() >= 400, "{outcome:?}");
    until("a line", || log.lines().len() > before);
    let line = log.lines().swap_remove(before);
    assert_eq!(
        (&line["method"], &line["target"]),
        (&"CONNECT".into(), &"a.example:81".into()),
        "{line}"
    );
}

/// `host ident user [time] "request" status bytes "referer" "agent"`, as log readers take it apart.
fn is_well_formed(line: &str) -> bool {
    let pattern = "^[0-9a-f.:]+ - - \\[[^\\]]+\\] \"(-|[^\" ]+ [^\" ]+ HTTP/[0-9.]+)\" ([0-9]{3}|-) \
                   ([0-9]+|-) \"[^\"]*\" \"[^\"]*\"$";
    regex::Regex::new(pattern).unwrap().is_match(line)
}

fn r33_combined_lines_are_well_formed(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let more = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"octets\"\n\
                address = \"127.0.0.1:0\"\nmode = \"tcp\"\n[[route]]\ncluster = \"app\"\n[[route]]\n\
                listener = \"octets\"\ncluster = \"app\"\n[timeouts]\nhead = \"1s\"\n";
    let proxy = Proxy::with(driver, &origin, &format!("{more}{}", log.combined()));
    let addresses = proxy.addresses();
    assert!(is_well_formed(
        "127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a\\x22b?c HTTP/1.1\" 503 0 \"-\" \"x\""
    ));
    let mut count = 0;
    for request in [
        &b"GET /good HTTP/1.1\r\nHost: a.example\r\n\r\n"[..],
        b"TRACE /x HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"CONNECT a.example:81 HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
        b"\x01\x02\x03\r\n\r\n",
        b"GET /a b\"c HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /x HTTP/3.0\r\nHost: a.example\r\n\r\n",
        b"GET /sl",
    ] {
        let mut client = proxy.connect();
        client.send(request);
        assert_ne!(client.reply().status, 0, "{}", request.escape_ascii());
        count += 1;
        until("a line", || log.text().lines().count() == count);
    }
    let mut octets = std::net::TcpStream::connect(addresses[1]).unwrap();
    octets.write_all(b"GET /octets HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    octets.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    assert!(octets.read(&mut [0; 100]).unwrap() > 0);
    octets.shutdown(std::net::Shutdown::Write).unwrap();
    drop(octets);
    until("a line", || log.text().lines().count() == count + 1);
    for line in log.text().lines() {
        assert!(is_well_formed(line), "{line}");
    }
}
