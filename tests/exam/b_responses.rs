//! Group B: how strictly responses are read. Whatever an origin does, nothing incomplete looks
//! complete, and no client gets another's answer.

use crate::Row;
use crate::support::{Does, Driver, End, Origin, Proxy, Reply, mark};

pub fn rows() -> Vec<Row> {
    vec![
        ("b01_length_cut_short", b01),
        ("b02_chunks_cut_short", b02),
        ("b03_until_close", b03),
        ("b04_until_close_reset", b04),
        ("b05_faults_to_http10", b05),
        ("b06_chunk_sizes", b06),
        ("b07_bytes_after_the_end", b07),
        ("b08_length_and_chunked", b08),
        ("b09_lengths", b09),
        ("b10_transfer_codings", b10),
        ("b11_chunked_in_http10", b11),
        ("b12_fields", b12),
        ("b13_status_lines", b13),
        ("b14_interim", b14),
        ("b15_too_many_interim", b15),
        ("b16_unasked_switch", b16),
        ("b17_large_heads", b17),
        ("b18_answer_before_the_question", b18),
        ("b19_no_body_by_definition", b19),
        ("b20_body_to_head", b20),
        ("b21_trailers", b21),
        ("b22_odd_statuses", b22),
    ]
}

/// An origin that answers `/fault/N` with the Nth script, and a proxy before it.
pub(super) struct Bench {
    pub(super) proxy: Proxy,
    pub(super) origin: Origin,
}

impl Bench {
    pub(super) fn new(driver: Driver, scripts: Vec<(Vec<u8>, Does)>) -> Self {
        let origin = Origin::scripted(move |request, link| {
            let at: usize =
                request.path().rsplit('/').next().and_then(|at| at.parse().ok()).unwrap();
            let (bytes, does) = &scripts[at];
            link.send(bytes);
            *does
        });
        Self { proxy: Proxy::before(driver, &origin), origin }
    }

    /// GET over this version: the answer, whatever came behind it, and how the connection ended.
    /// `Connection: close` is asked for, so that it always ends.
    fn ask(&self, at: usize, method: &str, version: &str) -> (Reply, Vec<u8>, End) {
        let mut client = self.proxy.connect();
        client.asked_head = method == "HEAD";
        client.send(format!(
            "{method} /fault/{at} {version}\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        ));
        let reply = client.reply();
        let (rest, end) = client.read_to_end();
        (reply, rest, end)
    }
}

fn text(scripts: &[(&str, Does)]) -> Vec<(Vec<u8>, Does)> {
    scripts.iter().map(|(bytes, does)| (bytes.as_bytes().to_vec(), *does)).collect()
}

/// The client sees that something is missing, and the next requests are served.
fn aborted(driver: Driver, scripts: &[(&str, Does)]) {
    let bench = Bench::new(driver, text(scripts));
    for (at, (script, _)) in scripts.iter().enumerate() {
        let (reply, _, end) = bench.ask(at, "GET", "HTTP/1.1");
        assert!(
            !reply.is_complete || reply.status == 502,
            "{script:?} looked complete: {}",
            reply.text()
        );
        assert_ne!(end, End::Open);
        mark(&bench.proxy);
    }
}

/// The client gets a 502 that says why.
fn bad_gateway(driver: Driver, scripts: &[(&str, Does)]) {
    let bench = Bench::new(driver, text(scripts));
    for (at, (script, _)) in scripts.iter().enumerate() {
        let (reply, rest, _) = bench.ask(at, "GET", "HTTP/1.1");
        assert_eq!(reply.status, 502, "{script:?}: {}", reply.text());
        assert!(reply.header("proxy-status").unwrap().contains("error="));
        assert!(rest.is_empty());
        mark(&bench.proxy);
    }
}

fn b01(driver: Driver) {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345";
    aborted(driver, &[(short, Does::Close), (short, Does::Reset)]);
}

fn b02(driver: Driver) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = ["5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhel", "5\r\nhello\r\n0"];
    let scripts: Vec<String> = cases.iter().map(|body| format!("{head}{body}")).collect();
    let mut all: Vec<(&str, Does)> =
        scripts.iter().map(|one| (one.as_str(), Does::Close)).collect();
    all.push((&scripts[0], Does::Reset));
    aborted(driver, &all);
}

fn b03(driver: Driver) {
    let bench = Bench::new(driver, text(&[("HTTP/1.1 200 OK\r\n\r\nhello", Does::Close)]));
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let (reply, _, end) = bench.ask(0, "GET", version);
        assert!(reply.is_complete && end == End::Fin);
        assert_eq!(reply.body, b"hello");
    }
    mark(&bench.proxy);
}

fn b04(driver: Driver) {
    aborted(driver, &[("HTTP/1.1 200 OK\r\n\r\nhello", Does::Reset)]);
}

fn b05(driver: Driver) {
    let scripts = [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Does::Close),
        ("HTTP/1.1 200 OK\r\n\r\nhello", Does::Reset),
    ];
    let bench = Bench::new(driver, text(&scripts));
    for at in 0..scripts.len() {
        // Without a framing the client reads to the end, and only a reset tells it the truth.
        let (reply, _, _) = bench.ask(at, "GET", "HTTP/1.0");
        assert!(reply.status == 502 || !reply.is_complete, "{}", reply.text());
    }
    mark(&bench.proxy);
}

fn b06(driver: Driver) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies = [
        "ZZ\r\nab\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
    ];
    let scripts: Vec<String> = bodies.iter().map(|body| format!("{head}{body}")).collect();
    let all: Vec<(&str, Does)> = scripts.iter().map(|one| (one.as_str(), Does::Keep)).collect();
    aborted(driver, &all);
}

fn b07(driver: Driver) {
    let fake = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake";
    let answers = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", ""),
    ];
    let scripts: Vec<String> = answers.iter().map(|(one, _)| format!("{one}{fake}")).collect();
    let all: Vec<(&str, Does)> = scripts.iter().map(|one| (one.as_str(), Does::Keep)).collect();
    let bench = Bench::new(driver, text(&all));
    for (at, (_, body)) in answers.iter().enumerate() {
        let (reply, rest, _) = bench.ask(at, "GET", "HTTP/1.1");
        assert_eq!(reply.body, body.as_bytes());
        assert!(reply.is_complete && rest.is_empty(), "{}", rest.escape_ascii());
        mark(&bench.proxy);
    }
}

fn b08(driver: Driver) {
    let script = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let bench = Bench::new(driver, text(&[(script, Does::Keep)]));
    for _ in 0..3 {
        let (reply, _, _) = bench.ask(0, "GET", "HTTP/1.1");
        assert_eq!(reply.body, b"hello");
        assert!(reply.is_complete && reply.header("content-length").is_none());
    }
    assert_eq!(bench.origin.connections(), 3, "such a connection is not used again");
    mark(&bench.proxy);
}

fn b09(driver: Driver) {
    let values =
        ["5\r\nContent-Length: 6", "+5", "abc", "18446744073709551621", "5, 5", "", "-1", "0x5"];
    let scripts =
        values.map(|value| format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nhello"));
    let all: Vec<(&str, Does)> = scripts.iter().map(|one| (one.as_str(), Does::Close)).collect();
    bad_gateway(driver, &all);
}

fn b10(driver: Driver) {
    let values = [
        "gzip, chunked",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "identity",
        "xchunked",
    ];
    let scripts = values.map(|value| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    });
    let all: Vec<(&str, Does)> = scripts.iter().map(|one| (one.as_str(), Does::Close)).collect();
    bad_gateway(driver, &all);
}

fn b11(driver: Driver) {
    let script = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    bad_gateway(driver, &[(script, Does::Keep)]);
}

fn b12(driver: Driver) {
    let lines = ["A: b\r\n c", "A: b\0c", "A: b\rSet-Cookie: x=y", "no colon", "A : b", ": x"];
    let scripts =
        lines.map(|line| format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok"));
    let all: Vec<(&str, Does)> = scripts.iter().map(|one| (one.as_str(), Does::Keep)).collect();
    bad_gateway(driver, &all);
}

fn b13(driver: Driver) {
    bad_gateway(
        driver,
        &[
            ("HTTP/1.1 99 X\r\n\r\n", Does::Close),
            ("HTTP/1.1 2000 X\r\n\r\n", Does::Close),
            ("HTTP/1.1 abc X\r\n\r\n", Does::Close),
            ("HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Does::Close),
            ("HTTP/0.9 200 OK\r\n\r\n", Does::Close),
            ("SSH-2.0-OpenSSH_9.6\r\n", Does::Keep),
            ("", Does::Close),
            ("HTTP/1.1 200 OK\r\nContent-Le", Does::Close),
            ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Does::Close),
        ],
    );
}

fn b14(driver: Driver) {
    let script = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let bench = Bench::new(driver, text(&[(script, Does::Keep)]));
    let mut client = bench.proxy.connect();
    client.send("GET /fault/0 HTTP/1.1\r\nHost: a.example\r\n\r\n");
    for status in ["100", "102", "103"] {
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(!head.to_lowercase().contains("content-length"));
    }
    let reply = client.reply();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]));
    // Exactly one final answer: the next one is the next request's.
    client.send("GET /mark/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.reply().body, b"/mark/x");
    let (old, _, _) = bench.ask(0, "GET", "HTTP/1.0");
    assert_eq!((old.status, old.body.as_slice()), (200, &b"ok"[..]));
    mark(&bench.proxy);
}

fn b15(driver: Driver) {
    let script = "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000)
        + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let bench = Bench::new(driver, text(&[(&script, Does::Keep)]));
    let (reply, _, _) = bench.ask(0, "GET", "HTTP/1.1");
    assert_eq!(reply.status, 502);
    mark(&bench.proxy);
}

fn b16(driver: Driver) {
    let script = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake";
    bad_gateway(driver, &[(script, Does::Keep)]);
    // Asked for one protocol, switched to another.
    let bench = Bench::new(driver, text(&[(&script.replace("websocket", "other"), Does::Keep)]));
    let mut client = bench.proxy.connect();
    client.send("GET /fault/0 HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(!reply.text().contains("fake"));
    mark(&bench.proxy);
}

fn b17(driver: Driver) {
    let wide = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(300 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(1000));
    bad_gateway(driver, &[(&wide, Does::Keep), (&many, Does::Keep)]);
    // What is large but within bounds passes.
    let fine =
        format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 2\r\n\r\nok", "b".repeat(40 * 1024));
    let bench = Bench::new(driver, text(&[(&fine, Does::Keep)]));
    let (reply, _, _) = bench.ask(0, "GET", "HTTP/1.1");
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]));
    assert_eq!(reply.header("a").map(str::len), Some(40 * 1024));
}

fn b18(driver: Driver) {
    let fake = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake";
    let origin = Origin::scripted(move |_, link| {
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        // Later, on the idle connection, an answer to no request.
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        link.send(fake);
        Does::Keep
    });
    let proxy = Proxy::before(driver, &origin);
    for _ in 0..5 {
        assert_eq!(proxy.get("/x").body, b"ok");
        std::thread::park_timeout(std::time::Duration::from_millis(40));
        mark(&proxy);
    }
}

fn b19(driver: Driver) {
    let scripts = [
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Does::Keep),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Does::Keep),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Does::Keep),
    ];
    let bench = Bench::new(driver, text(&scripts));
    for (at, method, length) in [(0, "GET", None), (1, "GET", Some("5")), (2, "HEAD", Some("5"))] {
        let (reply, rest, _) = bench.ask(at, method, "HTTP/1.1");
        assert!(reply.is_complete && rest.is_empty());
        assert_eq!(reply.header("content-length"), length, "{}", reply.head);
    }
    assert_eq!(bench.origin.connections(), 1, "the connection can be used again");
    mark(&bench.proxy);
}

fn b20(driver: Driver) {
    let script = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let bench = Bench::new(driver, text(&[(script, Does::Keep)]));
    let (reply, rest, _) = bench.ask(0, "HEAD", "HTTP/1.1");
    assert_eq!(reply.status, 200);
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
    mark(&bench.proxy);
}

fn b21(driver: Driver) {
    let script = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\nX-Sum: 1\r\n\r\n";
    let bench = Bench::new(driver, text(&[(script, Does::Keep)]));
    let (reply, _, _) = bench.ask(0, "GET", "HTTP/1.1");
    assert_eq!((reply.body.as_slice(), reply.trailers.as_str()), (&b"ok"[..], "X-Sum: 1\n"));
    assert!(reply.header("set-cookie").is_none() && reply.header("content-length").is_none());
    let (old, _, _) = bench.ask(0, "GET", "HTTP/1.0");
    assert_eq!(old.body, b"ok");
    mark(&bench.proxy);
}

fn b22(driver: Driver) {
    let scripts = [
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok", 205),
        (
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok",
            206,
        ),
        (
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-1/x\r\nContent-Length: 2\r\n\r\nok",
            206,
        ),
    ];
    let bench = Bench::new(driver, text(&scripts.map(|(script, _)| (script, Does::Keep))));
    for (at, (_, status)) in scripts.iter().enumerate() {
        let (reply, rest, _) = bench.ask(at, "GET", "HTTP/1.1");
        assert_eq!((reply.status, reply.body.as_slice()), (*status, &b"ok"[..]));
        assert!(reply.is_complete && rest.is_empty());
        mark(&bench.proxy);
    }
}
