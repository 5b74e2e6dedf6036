//! Group A: how strictly requests are read.

use crate::Row;
use crate::support::{Driver, End, Origin, Proxy, mark};

pub fn rows() -> Vec<Row> {
    vec![
        ("a01_length_and_chunked", a01),
        ("a02_two_lengths_that_differ", a02),
        ("a03_two_lengths_that_agree", a03),
        ("a04_lengths_that_are_no_numbers", a04),
        ("a05_lengths_beyond_64_bits", a05),
        ("a06_space_before_the_colon", a06),
        ("a07_transfer_codings", a07),
        ("a08_control_characters_around_chunked", a08),
        ("a09_two_transfer_encodings", a09),
        ("a10_chunked_in_http10", a10),
        ("a11_underscores", a11),
        ("a12_folded_lines", a12),
        ("a13_bare_line_feeds", a13),
        ("a14_bare_carriage_returns", a14),
        ("a15_control_characters_in_values", a15),
        ("a16_field_names", a16),
        ("a17_how_many_hosts", a17),
        ("a18_hosts_that_are_none", a18),
        ("a19_absolute_form_decides", a19),
        ("a20_absolute_form_to_elsewhere", a20),
        ("a21_targets", a21),
        ("a22_connect_and_asterisk", a22),
        ("a23_methods", a23),
        ("a24_trace", a24),
        ("a25_versions", a25),
        ("a26_spaces_in_the_request_line", a26),
        ("a27_lines_before_the_request", a27),
        ("a28_http2_preface", a28),
        ("a29_chunk_sizes", a29),
        ("a30_chunk_line_ends", a30),
        ("a31_chunk_extensions", a31),
        ("a32_trailers", a32),
        ("a33_garbage_after_a_body", a33),
        ("a34_expect_with_the_body", a34),
        ("a35_expectations", a35),
        ("a36_expect_and_an_early_answer", a36),
        ("a37_bodies_that_hide_requests", a37),
        ("a38_upgrade_that_is_refused", a38),
        ("a39_h2c", a39),
        ("a40_cut_at_every_byte", a40),
        ("a41_limits", a41),
    ]
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Statuses that blame a request's head or framing. None of a proxy that broke, or that asked an endpoint.
const REFUSALS: [u16; 9] = [400, 405, 408, 413, 414, 417, 431, 501, 505];

/// REJ: one 4xx or 5xx with `Connection: close`, then the end; the origin saw nothing at all, and
/// what stood behind was never parsed.
fn rejected(proxy: &Proxy, origin: &Origin, payload: &[u8]) -> u16 {
    let before = (origin.byte_count(), origin.connections());
    let mut client = proxy.connect();
    client.send(payload);
    let _ = client.try_send(SMUGGLED);
    let shown = payload[..payload.len().min(120)].escape_ascii();
    let reply = client.reply();
    assert!(REFUSALS.contains(&reply.status), "{shown} got {}", reply.text());
    assert!(reply.closes() && reply.is_complete, "{shown} got {}", reply.text());
    let (rest, end) = client.read_to_end();
    assert!(rest.is_empty(), "{shown} got more: {}", rest.escape_ascii());
    assert_ne!(end, End::Open, "{shown} is still open");
    assert_eq!((origin.byte_count(), origin.connections()), before, "{shown} reached the origin");
    reply.status
}

/// Every payload is refused, and the proxy serves on.
fn all_rejected(driver: Driver, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for payload in payloads {
        rejected(&proxy, &origin, payload.as_ref());
    }
    mark(&proxy);
}

/// A POST with these lines after Host.
fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n\r\n")
}

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n\r\n")
}

fn a01(driver: Driver) {
    all_rejected(
        driver,
        [
            format!("{}0\r\n\r\n", post("Content-Length: 5\r\nTransfer-Encoding: chunked")),
            format!("{}0\r\n\r\n", post("Transfer-Encoding: chunked\r\nContent-Length: 5")),
            format!("{}0\r\n\r\n", post("Transfer-Encoding: chunked\r\nContent-Length: 0")),
        ],
    );
}

fn a02(driver: Driver) {
    all_rejected(
        driver,
        [post("Content-Length: 0\r\nContent-Length: 34"), post("Content-Length: 0, 34")],
    );
}

fn a03(driver: Driver) {
    all_rejected(
        driver,
        [
            post("Content-Length: 2\r\nContent-Length: 2") + "ab",
            post("Content-Length: 2, 2") + "ab",
        ],
    );
}

fn a04(driver: Driver) {
    let values = ["+2", "-0", "-1", "0x2", "1_0", "\"2\"", "2;", "1 0", "", "\x0b2", "2\0", "2.0"];
    let mut payloads: Vec<String> =
        values.iter().map(|value| post(&format!("Content-Length: {value}")) + "ab").collect();
    payloads.push(post("Content-Length:\r\nContent-Length: 34"));
    all_rejected(driver, payloads);
}

fn a05(driver: Driver) {
    let digits = "9".repeat(100);
    let values = ["18446744073709551616", "18446744073709551618", "99999999999999999999", &digits];
    all_rejected(driver, values.map(|value| post(&format!("Content-Length: {value}")) + "ab"));
    // 2^63 fits in 64 bits: it is a length that never comes, and no answer is ever wrong.
    let origin = Origin::echo();
    let proxy = Proxy::with(driver, &origin, "[limits]\nbody = \"1TiB\"\n");
    rejected(&proxy, &origin, post("Content-Length: 9223372036854775808").as_bytes());
    mark(&proxy);
}

fn a06(driver: Driver) {
    let lines = ["Content-Length : 2", "Content-Length\t: 2", "Transfer-Encoding : chunked"];
    let mut payloads: Vec<String> = lines.map(|line| post(line) + "ab").into();
    payloads.push("GET / HTTP/1.1\r\nHost : a.example\r\n\r\n".to_owned());
    payloads.push("GET / HTTP/1.1\r\nHost\t: a.example\r\n\r\n".to_owned());
    all_rejected(driver, payloads);
}

fn a07(driver: Driver) {
    let codings = [
        "xchunked",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, identity",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "chunked;q=1",
        "\"chunked\"",
        "",
        "chunked chunked",
    ];
    all_rejected(
        driver,
        codings.map(|coding| post(&format!("Transfer-Encoding: {coding}")) + "0\r\n\r\n"),
    );
}

fn a08(driver: Driver) {
    let mut payloads = Vec::new();
    for byte in [0x0b, 0x0c, 0x00, 0xa0, 0x85_u8] {
        for before in [true, false] {
            let mut payload = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: ".to_vec();
            payload.extend(before.then_some(byte));
            payload.extend_from_slice(b"chunked");
            payload.extend((!before).then_some(byte));
            payload.extend_from_slice(b"\r\n\r\n0\r\n\r\n");
            payloads.push(payload);
        }
    }
    all_rejected(driver, payloads);
}

fn a09(driver: Driver) {
    let pairs =
        [("chunked", "chunked"), ("chunked", "cow"), ("cow", "chunked"), ("identity", "chunked")];
    all_rejected(
        driver,
        pairs.map(|(one, two)| {
            post(&format!("Transfer-Encoding: {one}\r\nTransfer-Encoding: {two}")) + "0\r\n\r\n"
        }),
    );
}

fn a10(driver: Driver) {
    let head = "POST / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n";
    all_rejected(
        driver,
        [
            format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ],
    );
}

fn a11(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send(get(
        "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Real_IP: 1.2.3.4\r\nX-Ok: 1",
    ));
    assert_eq!(client.reply().status, 200);
    // The origin's own reader refuses names with an underscore; X-Ok shows that it looked.
    assert_eq!(origin.last().header("x-ok"), Some("1"));
    assert!(!origin.last().head.contains('_'));
    mark(&proxy);
    let strict = Proxy::with(driver, &origin, "[limits]\nunderscores = \"reject\"\n");
    rejected(&strict, &origin, get("Content_Length: 5").as_bytes());
}

fn a12(driver: Driver) {
    let mut payloads: Vec<String> =
        ["X: a\r\n b", "X: a\r\n\tb", "Expect: 100-\r\n continue"].map(get).into_iter().collect();
    payloads.push(post("Transfer-Encoding:\r\n chunked") + "0\r\n\r\n");
    payloads.push(post("Content-Length:\r\n 2") + "ab");
    payloads.push("GET / HTTP/1.1\r\nHost:\r\n a.example\r\n\r\n".to_owned());
    payloads.push("GET / HTTP/1.1\r\n X: a\r\nHost: a.example\r\n\r\n".to_owned());
    all_rejected(driver, payloads);
}

fn a13(driver: Driver) {
    all_rejected(
        driver,
        [
            "GET / HTTP/1.1\nHost: a.example\n\n",
            "GET / HTTP/1.1\nHost: a.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nX: y\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\n\n",
            "POST / HTTP/1.1\r\nHost: a.example\r\nX: y\nContent-Length: 3\r\n\r\nabc",
        ],
    );
}

fn a14(driver: Driver) {
    all_rejected(
        driver,
        [
            get("X\rY: a"),
            get("X: a\rb"),
            get("X: a\rContent-Length: 3"),
            "GET / HTTP/1.1\rHost: a.example\r\r".to_owned() + "\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\r\n\r\n".to_owned(),
        ],
    );
}

fn a15(driver: Driver) {
    let bytes = (0..=8_u8).chain(0x0b..=0x1f).chain([0x7f]).filter(|byte| *byte != b'\r');
    all_rejected(
        driver,
        bytes.map(|byte| {
            let mut payload = b"GET / HTTP/1.1\r\nHost: a.example\r\nX: a".to_vec();
            payload.push(byte);
            payload.extend_from_slice(b"b\r\n\r\n");
            payload
        }),
    );
}

fn a16(driver: Driver) {
    let mut payloads: Vec<Vec<u8>> =
        [": a", "X Y: a", "X(: a", "X/: a", "X[: a", "no colon", "X\0: a", "X@: a"]
            .map(|line| get(line).into_bytes())
            .into();
    payloads.push(b"GET / HTTP/1.1\r\nHost: a.example\r\nX\x80: a\r\n\r\n".to_vec());
    all_rejected(driver, payloads);
}

fn a17(driver: Driver) {
    all_rejected(
        driver,
        [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nhost: b.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        ],
    );
}

fn a18(driver: Driver) {
    let label = "a".repeat(300);
    let hosts = [
        "u@a", "a/b", "a?b", "a b", "a:", "a:99999", "[::1", "a,b", "a\0", &label, "a..b",
        "a:80:80", "a#b", "a\\b", "[::1]x", "a:+80", "%61",
    ];
    all_rejected(driver, hosts.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")));
}

fn a19(driver: Driver) {
    let origin = Origin::echo();
    let routes = "[[route]]\nhost = \"b.example\"\ncluster = \"app\"\n\
                  [[route]]\nhost = \"a.example\"\nrespond = { status = 418 }\n";
    let proxy = Proxy::with(driver, &origin, routes);
    let mut client = proxy.connect();
    client.send("GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert_eq!(origin.last().header("host"), Some("b.example"));
    assert_eq!(origin.last().path(), "/x");
    assert_eq!(origin.last().header("x-forwarded-host"), Some("b.example"));
}

fn a20(driver: Driver) {
    let elsewhere = Origin::echo();
    let origin = Origin::echo();
    let route = "[[route]]\nhost = \"a.example\"\ncluster = \"app\"\n";
    let proxy = Proxy::with(driver, &origin, route);
    let address = elsewhere.address.to_string();
    for target in
        ["ftp://a.example/", "gopher://a.example/", "file:///etc/passwd", "https://a.example/"]
    {
        rejected(
            &proxy,
            &origin,
            format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes(),
        );
    }
    for authority in ["unlisted.example", "169.254.169.254", address.as_str()] {
        let mut client = proxy.connect();
        client.send(format!("GET http://{authority}/ HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert_eq!(client.reply().status, 421, "{authority}");
    }
    assert_eq!((elsewhere.connections(), origin.connections()), (0, 0));
}

fn a21(driver: Driver) {
    let mut payloads: Vec<Vec<u8>> =
        ["a", "", "/#a", "/a b", "/\x01", "/\x7f", "/a\\b", "/<", "/%00", "/../x", "/%zz", "?a"]
            .map(|target| format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").into_bytes())
            .into();
    payloads.push(b"GET /\xe9 HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec());
    all_rejected(driver, payloads);
}

fn a22(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let admin = format!("CONNECT {} HTTP/1.1\r\nHost: a.example\r\n\r\n", origin.address);
    for (payload, expected) in [
        ("GET * HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("CONNECT /x HTTP/1.1\r\nHost: a.example\r\n\r\n", 405),
        ("CONNECT host:22 HTTP/1.1\r\nHost: a.example\r\n\r\n", 405),
        (admin.as_str(), 405),
    ] {
        assert_eq!(rejected(&proxy, &origin, payload.as_bytes()), expected, "{payload}");
    }
    mark(&proxy);
}

fn a23(driver: Driver) {
    let long = "M".repeat(1024);
    all_rejected(
        driver,
        ["G=\"<>", &long, "G(T", "G\0T"]
            .map(|method| format!("{method} / HTTP/1.1\r\nHost: a.example\r\n\r\n")),
    );
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send("get / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert!(origin.last().head.starts_with("get /"), "a method is never upper-cased");
}

fn a24(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for payload in [
        "TRACE / HTTP/1.1\r\nHost: a.example\r\nCookie: secret\r\n\r\n",
        "TRACK / HTTP/1.1\r\nHost: a.example\r\nCookie: secret\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let mut client = proxy.connect();
        client.send(payload);
        let reply = client.reply();
        assert_eq!(reply.status, 405);
        assert!(reply.header("allow").is_some() && !reply.text().contains("secret"));
    }
    assert_eq!(origin.connections(), 0);
}

fn a25(driver: Driver) {
    let versions = [
        ("HTTP/0.9", 505),
        ("", 400),
        ("HTTP/1.32", 400),
        ("HTTP/01.1", 400),
        ("HTTP/2.0", 505),
        ("http/1.1", 400),
        ("HTTP/1.1 ", 400),
        ("HTTP/1", 400),
        ("HTTP/1.2", 505),
    ];
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for (version, expected) in versions {
        let payload = format!("GET / {version}\r\nHost: a.example\r\n\r\n");
        assert_eq!(rejected(&proxy, &origin, payload.as_bytes()), expected, "{version}");
    }
    rejected(&proxy, &origin, b"GET /\r\n");
    mark(&proxy);
}

fn a26(driver: Driver) {
    all_rejected(
        driver,
        [
            "GET\t/\tHTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            " GET / HTTP/1.1",
            "GET /\tHTTP/1.1",
        ]
        .map(|line| format!("{line}\r\nHost: a.example\r\n\r\n")),
    );
}

fn a27(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("\r\nGET /one HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    }
    // Up to four are passed over (R28).
    for prefix in ["\r\n\r\n\r\n\r\n\r\n", "\n", "\r\n\n", "\r"] {
        rejected(&proxy, &origin, format!("{prefix}{}", get("X: y")).as_bytes());
    }
    mark(&proxy);
}

fn a28(driver: Driver) {
    let origin = Origin::echo();
    let only = "[[listener]]\naddress = \"127.0.0.1:0\"\nhttp2 = false\n";
    let proxy = Proxy::with(driver, &origin, only);
    rejected(&proxy, &origin, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    mark(&proxy);
}

/// REJ-B: the fault is in the body: the origin must see an upload that broke off, the client an
/// error and the end.
fn rejected_body(driver: Driver, bodies: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for body in bodies {
        let body = body.as_ref();
        let shown = body[..body.len().min(80)].escape_ascii().to_string();
        let whole =
            |origin: &Origin| origin.requests().iter().filter(|one| one.is_complete).count();
        let before = whole(&origin);
        let mut client = proxy.connect();
        client.send(post("Transfer-Encoding: chunked"));
        // A good chunk first, so that the head and some data are on their way already.
        client.send("3\r\nabc\r\n");
        client.try_send(body);
        client.try_send(SMUGGLED);
        let (bytes, end) = client.read_to_end();
        assert_ne!(end, End::Open, "{shown} is still open");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{shown}: {text}");
        assert!(text.matches("HTTP/1.1 ").count() <= 1, "{shown}: {text}");
        assert_eq!(whole(&origin), before, "{shown} looked complete to the origin");
        assert!(!origin.requests().iter().any(|one| one.path() == "/smuggled"), "{shown}");
    }
    mark(&proxy);
}

fn a29(driver: Driver) {
    rejected_body(
        driver,
        [
            "0x2\r\nab\r\n",
            "+2\r\nab\r\n",
            "-0x0\r\n\r\n",
            "2_0\r\nab\r\n",
            "2junk\r\nab\r\n",
            " 2\r\nab\r\n",
            "2 \r\nab\r\n",
            "\r\nab\r\n",
            "11111111111111111\r\n",
            "10000000000000002\r\nab\r\n",
            "g\r\n",
        ],
    );
}

fn a30(driver: Driver) {
    rejected_body(
        driver,
        [
            "2\nab\r\n0\r\n\r\n",
            "2;\nab\r\n0\r\n\r\n",
            "2\r;a\r\nab\r\n",
            "2;a\rb\r\nab\r\n",
            "2\r\nab\n0\r\n\r\n",
            "2\r\nabXX0\r\n\r\n",
            "2\r\nab0\r\n\r\n",
            "0\n\n",
            "0\r\n\n",
        ],
    );
}

fn a31(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send(post("Transfer-Encoding: chunked"));
    client.send("3;a=b;c=\"d e\"\r\nabc\r\n0;last\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    // The origin's reader refuses extensions; the data is what it should be.
    assert_eq!(origin.last().body, b"abc");
    drop(proxy);
    let many = "1;".to_owned() + &"a".repeat(1 << 20) + "\r\n";
    let spread = format!("1;{}\r\na\r\n", "b".repeat(500)).repeat(2000);
    rejected_body(
        driver,
        ["1;a=\0\r\na\r\n", "1;a=\"\r\nb\"\r\na\r\n", "1;a=\"\n\"\r\n", &many, &spread],
    );
}

fn a32(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    client.send(post("Transfer-Encoding: chunked"));
    client.send(
        "1\r\na\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\
         Authorization: x\r\nCookie: y\r\nX-Forwarded-For: 1.1.1.1\r\nX-Sum: 7\r\n\r\n",
    );
    assert_eq!(client.reply().status, 200);
    let request = origin.last();
    assert_eq!(request.trailers, "X-Sum: 7\n");
    assert_eq!(request.header("host"), Some("a.example"));
    for name in ["authorization", "cookie"] {
        assert_eq!(request.header(name), None, "{name} was merged into the head");
    }
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    drop(proxy);
    let large = format!("0\r\nX: {}\r\n\r\n", "a".repeat(65536));
    rejected_body(
        driver,
        ["0\r\nX: y\n\r\n", "0\r\nno colon\r\n\r\n", "0\r\nX y: z\r\n\r\n", &large],
    );
}

fn a33(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for (body, framing) in
        [("ab", "Content-Length: 2"), ("2\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked")]
    {
        let mut client = proxy.connect();
        client.send(format!("{}{body}\x01garbage\r\n\r\n", post(framing)));
        assert_eq!(client.reply().status, 200);
        let second = client.reply();
        assert_eq!((second.status, second.closes()), (400, true));
        assert_eq!(origin.last().body, b"ab");
    }
    mark(&proxy);
}

fn a34(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for framing in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
        let body = if framing.starts_with('C') { "body" } else { "4\r\nbody\r\n0\r\n\r\n" };
        let mut client = proxy.connect();
        client.send(format!("{}{body}", post(&format!("Expect: 100-continue\r\n{framing}"))));
        let mut interim = 0;
        let mut head = client.head();
        while head.starts_with("HTTP/1.1 100") {
            interim += 1;
            head = client.head();
        }
        assert!(head.starts_with("HTTP/1.1 200") && interim <= 1, "{head}");
        assert_eq!(origin.last().body, b"body");
    }
    assert_eq!(origin.requests().len(), 2);
    mark(&proxy);
}

fn a35(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for lines in [
        "Expect: y 100-continue",
        "Expect: 100-continue, x",
        "Expect: 100-continue\r\nExpect: 100-continue",
        "Expect: 200-ok",
        "Expect:",
    ] {
        let status = rejected(
            &proxy,
            &origin,
            (post(&format!("{lines}\r\nContent-Length: 2")) + "ab").as_bytes(),
        );
        assert_eq!(status, 417, "{lines}");
    }
    rejected(
        &proxy,
        &origin,
        (post("Expect: 100-\r\n continue\r\nContent-Length: 2") + "ab").as_bytes(),
    );
    mark(&proxy);
}

fn a36(driver: Driver) {
    let origin = Origin::raw(|link| {
        while let Some(mut request) = link.head() {
            if request.path().starts_with("/mark/") {
                link.body(&mut request);
                let body = request.path();
                link.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            } else {
                // A final answer before any 100, and the connection is kept open.
                link.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
            }
            link.note(&request);
        }
    });
    let proxy = Proxy::before(driver, &origin);
    for late in [false, true] {
        let mut client = proxy.connect();
        client.send(post(&format!("Expect: 100-continue\r\nContent-Length: {}", SMUGGLED.len())));
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (403, true));
        if late {
            client.try_send(SMUGGLED);
        }
        let (rest, end) = client.read_to_end();
        assert!(rest.is_empty() && end != End::Open, "{}", rest.escape_ascii());
        mark(&proxy);
    }
    assert!(!origin.requests().iter().any(|request| request.path() == "/smuggled"));
    // The connection that the 403 came on was not used again: its body never came.
    crate::support::assert_last_on_its_connection(&origin, "/");
}

fn a37(driver: Driver) {
    let origin = Origin::echo();
    let routes = "[[route]]\npath = \"/here\"\nrespond = { body = \"x\" }\n\
                  [[route]]\npath = \"/there\"\nredirect = { path = \"/else\" }\n\
                  [[route]]\npath = \"/mark\"\ncluster = \"app\"\n\
                  [[route]]\npath = \"/app\"\ncluster = \"app\"\n";
    let proxy = Proxy::with(driver, &origin, routes);
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        for path in ["/app", "/here", "/there", "/nowhere"] {
            for is_chunked in [false, true] {
                let (framing, body) = if is_chunked {
                    ("Transfer-Encoding: chunked".to_owned(), chunked.as_str())
                } else {
                    (format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED)
                };
                let mut client = proxy.connect();
                client.asked_head = method == "HEAD";
                client.send(format!(
                    "{method} {path} HTTP/1.1\r\nHost: a.example\r\n{framing}\r\n\r\n{body}"
                ));
                let reply = client.reply();
                assert_ne!(reply.status, 0, "{method} {path}");
                // Either the connection ends here, or the next request is a request of its own.
                if !reply.closes() {
                    client.asked_head = false;
                    client.send("GET /mark/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
                    assert_eq!(client.reply().body, b"/mark/x", "{method} {path}");
                }
            }
        }
    }
    assert!(!origin.requests().iter().any(|request| request.path() == "/smuggled"));
    mark(&proxy);
}

fn a38(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let mut client = proxy.connect();
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA";
    client.send(format!("{}{SMUGGLED}", get(upgrade)));
    let reply = client.reply();
    assert_eq!((reply.status, reply.closes()), (200, true), "{}", reply.text());
    let (rest, end) = client.read_to_end();
    assert!(rest.is_empty() && end != End::Open);
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(origin.last().header("upgrade"), Some("websocket"));
    assert!(!String::from_utf8_lossy(&origin.bytes().concat()).contains("smuggled"));
    mark(&proxy);
}

fn a39(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "Connection: upgrade\r\nUpgrade: h2c, websocket",
    ] {
        let mut client = proxy.connect();
        client.send(get(lines));
        assert_eq!(client.reply().status, 200);
        for name in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(origin.last().header(name), None, "{lines}");
        }
    }
}

fn a40(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let whole = "POST /cut?a=b HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n";
    for cut in 1..whole.len() {
        let mut client = proxy.connect();
        client.send(&whole[..cut]);
        // A request on another connection is served meanwhile: by then the first part was read.
        if cut % 8 == 0 {
            assert_eq!(proxy.get("/mark/cut").status, 200);
        }
        client.send(&whole[cut..]);
        let reply = client.reply();
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"/cut?a=b"[..]), "cut at {cut}");
    }
    let mut client = proxy.connect();
    client.send(format!("{whole}{whole}"));
    for _ in 0..2 {
        assert_eq!(client.reply().body, b"/cut?a=b");
    }
    let requests = origin.requests();
    let cut: Vec<_> = requests.iter().filter(|request| request.path() == "/cut?a=b").collect();
    assert_eq!(cut.len(), whole.len() + 1);
    for request in cut {
        assert_eq!(request.body, b"hello world");
        assert_eq!(request.trailers, "X-Sum: 1\n");
    }
}

fn a41(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let expect = |payload: String, status: u16| {
        assert_eq!(rejected(&proxy, &origin, payload.as_bytes()), status);
    };
    let fields = |count: usize, len: usize| -> String {
        (0..count).map(|at| format!("X-{at}: {}\r\n", "v".repeat(len))).collect()
    };
    expect(format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "a".repeat(8192)), 414);
    expect(format!("GET /{}", "a".repeat(20_000)), 414);
    expect(get(fields(6, 7000).trim_end()), 431);
    expect(get(fields(100, 1).trim_end()), 431);
    expect(get(&format!("X: {}", "v".repeat(16 * 1024))), 431);
    // Just inside the limits all is well.
    for payload in [
        format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "a".repeat(8000)),
        get(fields(99, 100).trim_end()),
        get(fields(4, 7000).trim_end()),
    ] {
        let mut client = proxy.connect();
        client.send(payload);
        assert_eq!(client.reply().status, 200);
    }
    mark(&proxy);
}
