//! Rows R28 and R29: empty lines around requests, and request lines that are none.

use std::sync::Arc;

use super::secure;
use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::tls::{Authority, Flaw, TlsClient};
use crate::support::{Driver, End, Origin, Proxy, mark};

pub fn rows() -> Vec<Row> {
    vec![
        ("r28_an_empty_line_behind_a_body", r28_an_empty_line_behind_a_body),
        ("r28_empty_lines_and_nothing_else", r28_empty_lines_and_nothing_else),
        ("r28_empty_lines_before_a_request", r28_empty_lines_before_a_request),
        ("r28_empty_lines_over_tls", r28_empty_lines_over_tls),
        ("r28_too_many_empty_lines", r28_too_many_empty_lines),
        ("r28_half_a_head_is_still_told", r28_half_a_head_is_still_told),
        ("r29_a_space_in_the_target", r29_a_space_in_the_target),
        ("r29_versions_that_are_not_spoken", r29_versions_that_are_not_spoken),
    ]
}

/// Short, so that a silence ends.
const SHORT: &str = "[timeouts]\nhead = \"500ms\"\nkeepalive = \"700ms\"\n";

/// Browsers of old and many scripts put a CRLF behind a body, and leave the connection open.
fn r28_an_empty_line_behind_a_body(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &format!("{SHORT}{}", log.table()));
    for (path, more) in [
        ("/length", "Content-Length: 3\r\n\r\nabc"),
        ("/chunked", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ("/none", "\r\n"),
    ] {
        for extra in ["\r\n", "\r\n\r\n"] {
            let mut client = proxy.connect();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a.example\r\n{more}{extra}"));
            assert_eq!(client.reply().body, path.as_bytes());
            let (bytes, end) = client.read_to_end();
            assert!(bytes.is_empty(), "{path}: unsolicited: {}", bytes.escape_ascii());
            assert_eq!(end, End::Fin, "{path}");
        }
    }
    log.line("target", "/none");
    assert!(log.lines().iter().all(|line| line["status"] == 200), "{}", log.text());
}

fn r28_empty_lines_and_nothing_else(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &format!("{SHORT}{}", log.table()));
    for text in ["\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n", "\r"] {
        let mut client = proxy.connect();
        client.send(text);
        let (bytes, end) = client.read_to_end();
        assert!(bytes.is_empty(), "{}: {}", text.escape_debug(), bytes.escape_ascii());
        assert_eq!(end, End::Fin, "{}", text.escape_debug());
    }
    mark(&proxy);
    log.line("target", "/mark/5");
    assert!(log.lines().iter().all(|line| line["status"] == 200), "{}", log.text());
}

fn r28_empty_lines_before_a_request(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for count in 0..=4 {
        let lines = "\r\n".repeat(count);
        let mut client = proxy.connect();
        // Before the first one and between two, whole and in pieces.
        client.send(format!("{lines}GET /one HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert_eq!(client.reply().body, b"/one", "{count} before the first");
        client.send(format!(
            "{lines}POST /two HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx"
        ));
        assert_eq!(client.reply().body, b"/two", "{count} before the second");
        for byte in lines.bytes() {
            client.send([byte]);
        }
        client.send("GET /three HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.reply().body, b"/three", "{count} in pieces");
    }
    assert!(origin.requests().iter().all(|one| one.head.starts_with(['G', 'P'])));
}

fn r28_empty_lines_over_tls(driver: Driver) {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.pair(&["a.example"], Flaw::None);
    let proxy = Proxy::with(driver, &origin, &format!("{}{SHORT}", secure(&pair, "")));
    let config = Arc::new(authority.client(None));
    let mut client = TlsClient::connect(proxy.address, "a.example", &config).unwrap();
    client.send("\r\n\r\n").unwrap();
    assert_eq!(client.get("a.example", "/tls").unwrap().body, b"/tls");
    client.send("\r\n").unwrap();
    // It ends like any that idles, which is without a last word of TLS.
    let end = loop {
        match client.more() {
            Ok(1..) => {}
            Ok(0) => break std::io::ErrorKind::UnexpectedEof,
            Err(error) => break error.kind(),
        }
    };
    assert!(client.rest().is_empty(), "unsolicited: {}", client.rest().escape_ascii());
    assert_eq!(end, std::io::ErrorKind::UnexpectedEof);
}

/// A guard that a mend must not break: a bound, and no other line ends.
fn r28_too_many_empty_lines(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for lines in ["\r\n".repeat(5), "\r\n".repeat(5000), "\n".to_owned(), "\r\n\n".to_owned()] {
        let mut client = proxy.connect();
        client.try_send(format!("{lines}GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert_eq!(client.reply().status, 400, "{} octets", lines.len());
    }
    assert_eq!(origin.connections(), 0);
}

/// A guard that a mend must not break.
fn r28_half_a_head_is_still_told(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, SHORT);
    for text in ["G", "\r\n\r\nGET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a.example\r\n"] {
        let mut client = proxy.connect();
        client.send(text);
        assert_eq!(client.reply().status, 408, "{}", text.escape_debug());
    }
}

fn r29_a_space_in_the_target(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for line in [
        "GET /a b HTTP/1.1",
        "GET /a b HTTP/2.0",
        "GET /a b c HTTP/1.0",
        "GET /a  HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a HTTP/1.1 HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "GET /a",
        "GET /a HTTP/",
    ] {
        for end in ["\r\nHost: a.example\r\n\r\n", "\r\n\r\n"] {
            let mut client = proxy.connect();
            client.send(format!("{line}{end}"));
            let reply = client.reply();
            assert_eq!((reply.status, reply.closes()), (400, true), "{line}: {}", reply.text());
        }
    }
    assert_eq!(origin.connections(), 0);
    mark(&proxy);
}

fn r29_versions_that_are_not_spoken(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.2", "HTTP/9.9"] {
        let mut client = proxy.connect();
        client.send(format!("GET /a {version}\r\nHost: a.example\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(reply.status, 505, "{version}");
        // RFC 9110 section 15.6.6: which versions would do.
        let text = String::from_utf8(reply.body).unwrap();
        for spoken in ["HTTP/1.0", "HTTP/1.1", "HTTP/2"] {
            assert!(text.contains(spoken), "{spoken} is spoken here: {text}");
        }
    }
    assert_eq!(origin.connections(), 0);
}
