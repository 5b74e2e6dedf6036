//! Group R, rows 14 to 17: whose answer it is when the origin has changed its mind about what is
//! stored. A full answer takes the old one out for good, a 304 speaks to the client that asked, and
//! a part is never taken for the whole.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::e_cache::{CACHES, ask, get, is_hit, say};
use crate::Row;
use crate::support::{Does, Driver, Link, Origin, Proxy, Reply, Request, h2, mark, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r14_a_refresh_takes_the_old_answer_out", r14_refresh),
        ("r14_an_answer_to_a_client_takes_the_old_one_out", r14_foreground),
        ("r14_over_http2_too", r14_http2),
        ("r14_a_head_takes_the_old_answer_out", r14_head),
        ("r14_an_error_takes_nothing_out", r14_errors),
        ("r15_a_304_with_the_strong_form_of_a_weak_tag", r15_strong_for_weak),
        ("r15_a_weak_tag_stays_weak", r15_stays_weak),
        ("r16_a_304_that_must_not_be_kept", r16_not_kept),
        ("r16_a_304_to_a_client_with_credentials", r16_credentials),
        ("r17_a_whole_with_a_content_range", r17_whole),
        ("r17_head_ignores_range", r17_head),
    ]
}

/// What an origin says instead of what it said before.
const FULL: [(&str, &str); 13] = [
    ("404", "404 Not Found"),
    ("404-fresh", "404 Not Found\r\nCache-Control: max-age=0"),
    ("410", "410 Gone"),
    ("301", "301 Moved Permanently\r\nLocation: /elsewhere"),
    ("302", "302 Found\r\nLocation: /login"),
    ("401", "401 Unauthorized\r\nWWW-Authenticate: Basic"),
    ("403", "403 Forbidden"),
    ("429", "429 Too Many Requests"),
    ("451", "451 Unavailable For Legal Reasons"),
    ("private", "200 OK\r\nCache-Control: private, max-age=60"),
    ("no-store", "200 OK\r\nCache-Control: no-store"),
    ("cookie", "200 OK\r\nCache-Control: max-age=60\r\nSet-Cookie: id=7"),
    ("vary", "200 OK\r\nCache-Control: max-age=60\r\nVary: *"),
];

/// Says "old" first, under these fields; then the answer that the path ends with; then nothing, for
/// it is down.
fn changes_its_mind(first: &'static str) -> Origin {
    let counts = Mutex::new(HashMap::new());
    Origin::scripted(move |request, link| {
        let number = {
            let mut counts = counts.lock().unwrap();
            let count: &mut u32 = counts.entry(request.path().to_owned()).or_default();
            *count += 1;
            *count
        };
        let name = request.path().rsplit('/').next().unwrap();
        match number {
            1 => say(link, &format!("200 OK\r\nETag: \"1\"\r\n{first}"), "old"),
            2 if request.head.starts_with("HEAD") => {
                link.send(format!("HTTP/1.1 {}\r\nContent-Length: 3\r\n\r\n", answer(name)));
                Does::Keep
            }
            2 => say(link, answer(name), "new"),
            _ => Does::Reset,
        }
    })
}

fn answer(name: &str) -> &'static str {
    FULL.iter().find(|(one, _)| *one == name).map_or("500 Unknown", |(_, answer)| answer)
}

fn seen(origin: &Origin, path: &str) -> usize {
    origin.requests().iter().filter(|one| one.path() == path).count()
}

/// Those of the cases whose old answer is still served, or comes back: all must be gone soon, on
/// every core.
fn survivors(proxy: &Proxy, path: impl Fn(&str) -> String) -> Vec<&'static str> {
    let begun = Instant::now();
    loop {
        let left: Vec<&str> = FULL
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| (0..4).any(|_| get(proxy, &path(name), "").body == b"old"))
            .collect();
        if left.is_empty() || begun.elapsed() > Duration::from_secs(2) {
            return left;
        }
    }
}

fn r14_refresh(driver: Driver) {
    let origin =
        changes_its_mind("Cache-Control: max-age=0, stale-while-revalidate=60, stale-if-error=60");
    let proxy = Proxy::with(driver, &origin, CACHES);
    for (name, _) in FULL {
        assert_eq!(get(&proxy, &format!("/{name}"), "").body, b"old");
        let stale = get(&proxy, &format!("/{name}"), "");
        assert!(is_hit(&stale) && stale.body == b"old", "{name}: {}", stale.head);
    }
    for (name, _) in FULL {
        until("the refresh", || seen(&origin, &format!("/{name}")) >= 2);
    }
    let left = survivors(&proxy, |name| format!("/{name}"));
    assert!(left.is_empty(), "the origin took these back, and they are served: {left:?}");
    mark(&proxy);
}

fn r14_foreground(driver: Driver) {
    // `grace_down` is ten minutes, unless a route says something else.
    let origin = changes_its_mind("Cache-Control: max-age=0");
    let proxy = Proxy::with(driver, &origin, CACHES);
    for (name, _) in FULL {
        assert_eq!(get(&proxy, &format!("/{name}"), "").body, b"old");
        let new = get(&proxy, &format!("/{name}"), "");
        assert!(!is_hit(&new) && new.body == b"new", "{name}: {}", new.text());
    }
    let left = survivors(&proxy, |name| format!("/{name}"));
    assert!(left.is_empty(), "the origin took these back, and they are served: {left:?}");
    mark(&proxy);
}

fn r14_http2(driver: Driver) {
    let origin = changes_its_mind("Cache-Control: max-age=0");
    let proxy = Proxy::with(driver, &origin, CACHES);
    let mut client = h2::Peer::connect(proxy.address);
    let mut left = Vec::new();
    let mut id = 1;
    let mut ask = |path: &str| {
        let outcome = client.ask(id, path);
        id += 2;
        outcome.answer()
    };
    for (name, _) in FULL {
        let path = format!("/{name}");
        assert_eq!(ask(&path).body, b"old");
        assert_eq!(ask(&path).body, b"new", "{name}");
        let last = ask(&path);
        if last.body == b"old" || last.status < 500 {
            left.push(name);
        }
    }
    assert!(left.is_empty(), "the origin took these back, and they are served: {left:?}");
}

/// RFC 9111 section 4.3.5 speaks of 200 only; a HEAD's 404 says no less that the old one is gone.
fn r14_head(driver: Driver) {
    let origin = changes_its_mind("Cache-Control: max-age=0");
    let proxy = Proxy::with(driver, &origin, CACHES);
    let mut left = Vec::new();
    for name in ["404", "410", "301"] {
        let path = format!("/{name}");
        assert_eq!(get(&proxy, &path, "").body, b"old");
        let head = ask(&proxy, &format!("HEAD {path}"), "");
        assert_eq!(head.status.to_string(), name, "{}", head.head);
        if get(&proxy, &path, "").body == b"old" {
            left.push(name);
        }
    }
    assert!(left.is_empty(), "the origin took these back, and they are served: {left:?}");
}

/// The other half: what is no answer at all leaves what is stored alone.
fn r14_errors(driver: Driver) {
    let counts = Mutex::new(HashMap::new());
    let origin = Origin::scripted(move |request, link| {
        let mut counts = counts.lock().unwrap();
        let count: &mut u32 = counts.entry(request.path().to_owned()).or_default();
        *count += 1;
        match (*count, request.path()) {
            (1, _) => say(link, "200 OK\r\nETag: \"1\"\r\nCache-Control: max-age=0", "old"),
            (2, "/500") => say(link, "500 Oops", "new"),
            (2, "/503") => say(link, "503 Busy", "new"),
            (2, "/cut") => {
                link.send(
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nnew",
                );
                Does::Close
            }
            _ => Does::Reset,
        }
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for path in ["/500", "/503", "/cut", "/reset"] {
        assert_eq!(get(&proxy, path, "").body, b"old");
        get(&proxy, path, "");
        let down = get(&proxy, path, "");
        assert_eq!(down.body, b"old", "{path}: {}", down.head);
    }
}

/// nginx with gzip: the 200 has a weak tag, since the body was changed on its way; the 304 has the
/// strong one, since there is no body.
fn tags(request: &Request, link: &mut Link) -> Does {
    let (stored, confirmed) = match request.path() {
        "/strong-for-weak" | "/other-for-weak" => ("W/\"x\"", "\"x\""),
        "/weak-for-strong" => ("\"x\"", "W/\"x\""),
        _ => ("W/\"x\"", "W/\"x\""),
    };
    let confirmed = if request.path() == "/other-for-weak" { "\"y\"" } else { confirmed };
    if request.header("if-none-match").is_some() {
        link.send(format!(
            "HTTP/1.1 304 Not Modified\r\nETag: {confirmed}\r\nX-New: yes\r\nCache-Control: \
             max-age=60\r\n\r\n"
        ));
        return Does::Keep;
    }
    let age = if request.path() == "/other-for-weak" { 60 } else { 0 };
    let age = if request.header("x-first").is_some() { 0 } else { age };
    say(link, &format!("200 OK\r\nETag: {stored}\r\nCache-Control: max-age={age}"), "the body")
}

fn r15_strong_for_weak(driver: Driver) {
    let origin = Origin::scripted(tags);
    let proxy = Proxy::with(driver, &origin, CACHES);
    for path in ["/weak-for-weak", "/weak-for-strong", "/strong-for-weak"] {
        get(&proxy, path, "X-First: 1\r\n");
        let confirmed = get(&proxy, path, "");
        assert_eq!((confirmed.status, &confirmed.body[..]), (200, &b"the body"[..]), "{path}");
        assert_eq!(confirmed.header("x-new"), Some("yes"), "{path}: {}", confirmed.head);
        assert_eq!(seen(&origin, path), 2, "{path}: one question is enough");
        let again = get(&proxy, path, "");
        assert!(is_hit(&again), "{path}: {}", again.head);
    }
    // Another tag is another answer: it is fetched.
    get(&proxy, "/other-for-weak", "X-First: 1\r\n");
    let fetched = get(&proxy, "/other-for-weak", "");
    assert_eq!((fetched.status, fetched.header("x-new")), (200, None), "{}", fetched.head);
    assert_eq!(seen(&origin, "/other-for-weak"), 3);
}

/// What the 304 says of the tag is not true of the octets that are stored: they had a weak one.
fn r15_stays_weak(driver: Driver) {
    let origin = Origin::scripted(tags);
    let proxy = Proxy::with(driver, &origin, CACHES);
    let path = "/strong-for-weak";
    get(&proxy, path, "X-First: 1\r\n");
    let confirmed = get(&proxy, path, "");
    assert_eq!(confirmed.header("etag"), Some("W/\"x\""), "{}", confirmed.head);
    let part = get(&proxy, path, "Range: bytes=0-2\r\nIf-Range: \"x\"\r\n");
    assert_eq!((part.status, &part.body[..]), (200, &b"the body"[..]), "{}", part.head);
    let same = get(&proxy, path, "If-None-Match: \"x\"\r\n");
    assert!(same.status == 304 && is_hit(&same), "{}", same.head);
}

/// Whether a field is there once, with this value.
fn has_once(reply: &Reply, name: &str, value: &str) -> bool {
    let lines = reply.head.lines().filter_map(|line| line.split_once(": "));
    let values: Vec<&str> =
        lines.filter(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
    values == [value]
}

fn r16_not_kept(driver: Driver) {
    const CASES: [(&str, &str, &str); 4] = [
        ("/private", "Cache-Control", "private, max-age=60"),
        ("/no-store", "Cache-Control", "no-store"),
        ("/cookie", "Set-Cookie", "id=7"),
        ("/vary", "Vary", "*"),
    ];
    let origin = Origin::scripted(|request, link| {
        let (_, name, value) = CASES.iter().find(|(path, ..)| *path == request.path()).unwrap();
        if request.header("if-none-match").is_some() {
            link.send(format!(
                "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nX-Count: 2\r\n{name}: {value}\r\n\r\n"
            ));
            return Does::Keep;
        }
        let is_first = request.header("x-first").is_some();
        if is_first {
            let head = "200 OK\r\nETag: \"1\"\r\nX-Count: 1\r\nCache-Control: max-age=0";
            return say(link, head, "body");
        }
        Does::Reset
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for (path, name, value) in CASES {
        for condition in ["", "If-None-Match: \"1\"\r\n"] {
            get(&proxy, path, "X-First: 1\r\n");
            let reply = get(&proxy, path, condition);
            let expected = if condition.is_empty() { (200, "body") } else { (304, "") };
            let body = String::from_utf8_lossy(&reply.body);
            assert_eq!((reply.status, &*body), expected, "{path}: {}", reply.head);
            for (name, value) in [(name, value), ("X-Count", "2"), ("ETag", "\"1\"")] {
                assert!(has_once(&reply, name, value), "{path}: {name} in {}", reply.head);
            }
            // It was this client's, and what was stored is gone.
            let other = get(&proxy, path, "");
            assert!(other.status >= 500, "{path} is still there: {}", other.text());
        }
    }
}

/// The answer goes to the client that asked, even where what is stored is others' and stays.
fn r16_credentials(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let count = if request.header("authorization").is_some() { "own" } else { "public" };
        if request.header("if-none-match").is_some() {
            link.send(format!(
                "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nX-Count: {count}\r\n\r\n"
            ));
            return Does::Keep;
        }
        let head = format!("200 OK\r\nETag: \"1\"\r\nX-Count: {count}\r\nCache-Control: max-age=0");
        say(link, &head, "body")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    get(&proxy, "/x", "");
    let own = get(&proxy, "/x", "Authorization: Basic eA==\r\n");
    assert_eq!((own.status, &own.body[..]), (200, &b"body"[..]));
    assert!(has_once(&own, "X-Count", "own"), "its own fields: {}", own.head);
    let other = get(&proxy, "/x", "");
    assert!(has_once(&other, "X-Count", "public"), "another client's own: {}", other.head);
}

/// RFC 9110 section 14.4: only in a 206 and a 416 does it mean anything.
fn r17_whole(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let status = if request.path() == "/203" { "203 Changed" } else { "200 OK" };
        let head = format!(
            "{status}\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\nContent-Range: bytes 0-9/100"
        );
        say(link, &head, "0123456789")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    for path in ["/200", "/203", "/ranged"] {
        let first = if path == "/ranged" { "Range: bytes=0-9\r\n" } else { "" };
        let replies = [
            get(&proxy, path, first),
            get(&proxy, path, ""),
            get(&proxy, path, "Range: bytes=2-3\r\n"),
        ];
        for reply in &replies {
            assert!(!is_hit(reply), "{path}: stored as the whole: {}", reply.head);
            let ranges = reply.head.to_ascii_lowercase().matches("content-range:").count();
            assert!(ranges <= 1, "{path}: {}", reply.head);
        }
    }
}

fn r17_head(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let fields = "ETag: \"1\"\r\nCache-Control: max-age=60";
        if request.head.starts_with("HEAD") {
            // Section 14.2: a server must not heed Range here.
            link.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 100\r\n\r\n"));
            return Does::Keep;
        }
        let head = format!("206 Partial Content\r\n{fields}\r\nContent-Range: bytes 0-9/100");
        say(link, &head, "0123456789")
    });
    let proxy = Proxy::with(driver, &origin, CACHES);
    get(&proxy, "/x", "Range: bytes=0-9\r\n");
    let part = get(&proxy, "/x", "Range: bytes=2-3\r\n");
    assert!(is_hit(&part) && part.status == 206 && part.body == b"23", "{}", part.head);
    for lines in ["Range: bytes=2-3\r\n", "Range: bytes=50-60\r\n", "Range: bytes=200-\r\n", ""] {
        let head = ask(&proxy, "HEAD /x", lines);
        assert_eq!(head.status, 200, "{lines:?}: {}", head.head);
        assert_eq!(head.header("content-range"), None, "{lines:?}: {}", head.head);
        assert_eq!(head.header("content-length"), Some("100"), "{lines:?}: {}", head.head);
    }
    // What the HEADs have brought is no reason to take the part for more than it is.
    let other = get(&proxy, "/x", "Range: bytes=0-9\r\n");
    assert_eq!((other.status, &other.body[..]), (206, &b"0123456789"[..]));
}
