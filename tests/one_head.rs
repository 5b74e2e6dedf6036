//! The same head as octets of HTTP/1.1 and as fields of HTTP/2 is the same `RequestHead`, or is refused for the same
//! reason: what is checked in a head is checked in one place (`wire::head`).

use http::Request;
use millrace::base::error::Kind;
use millrace::base::random::Random;
use millrace::message::fields::Field;
use millrace::message::framing::Framing;
use millrace::message::head::RequestHead;
use millrace::message::limits::{HeadLimits, Underscores};
use millrace::wire::http1::parse;
use millrace::wire::http2::take_request;

/// What a head says, whatever the version. The order of fields with different names says nothing.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    method: String,
    path: String,
    query: Option<String>,
    authority: String,
    framing: Framing,
    expects_continue: bool,
    upgrade: String,
    fields: Vec<(String, String)>,
}

fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

fn told(head: &RequestHead) -> Told {
    let field = |one: Field<'_>| (text(one.name).to_lowercase(), text(one.value));
    let mut fields: Vec<_> = head.fields.iter().map(field).collect();
    fields.sort();
    Told {
        method: text(head.method_text()),
        path: text(head.path()),
        query: head.query().map(text),
        authority: text(head.authority()),
        framing: head.framing,
        expects_continue: head.expects_continue,
        upgrade: text(head.upgrade()),
        fields,
    }
}

/// One head, said in both versions.
#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    target: String,
    host: String,
    fields: Vec<(&'static str, String)>,
    /// A body follows: of this length, or of none that is told.
    body: Option<Option<u64>>,
}

impl Case {
    fn new(method: &'static str, target: &str, fields: &[(&'static str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { method, target: target.into(), host: "a.example:8080".into(), fields, body: None }
    }

    fn as_http1(&self, limits: &HeadLimits) -> Result<Told, Kind> {
        let Self { method, target, host, .. } = self;
        let mut octets = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in &self.fields {
            octets.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.body {
            Some(Some(length)) => octets.push_str(&format!("Content-Length: {length}\r\n")),
            Some(None) => octets.push_str("Transfer-Encoding: chunked\r\n"),
            None => {}
        }
        octets.push_str("\r\n");
        let mut head = RequestHead::default();
        parse::request(octets.as_bytes(), limits, &mut head).map(|()| told(&head))
    }

    /// `None` if the library cannot hold it: it is refused before we see it.
    fn as_http2(&self, limits: &HeadLimits) -> Option<Result<Told, Kind>> {
        let Self { method, target, host, .. } = self;
        let uri = http::Uri::builder().scheme("https").authority(host.as_str());
        let uri = uri.path_and_query(target.as_str()).build().ok()?;
        let mut request = Request::builder().method(*method).uri(uri);
        for (name, value) in &self.fields {
            request = request.header(name.to_lowercase(), value);
        }
        if let Some(Some(length)) = self.body {
            request = request.header("content-length", length);
        }
        let request = request.body(()).ok()?;
        let mut head = RequestHead::default();
        let taken = take_request(&request, self.body.is_some(), limits, &mut head);
        Some(taken.map(|()| told(&head)))
    }
}

fn cases() -> Vec<(Case, Option<Kind>)> {
    let long = "x".repeat(9000);
    let get = |target: &str| Case::new("GET", target, &[]);
    let field = |name: &'static str, value: &str| Case::new("GET", "/", &[(name, value)]);
    let with = |case: Case, body| Case { body: Some(body), ..case };
    let post = || Case::new("POST", "/x", &[]);
    vec![
        (get("/"), None),
        (get("/a/./b/../c?d=e&f"), None),
        (get("/%41%2f%7e"), None),
        (get("/a//b"), None),
        (get("/../x"), Some(Kind::Target)),
        (get("/%00"), Some(Kind::Target)),
        (get("/%zz"), Some(Kind::Target)),
        (get(&format!("/{long}")), Some(Kind::TargetTooLong)),
        (Case::new("OPTIONS", "*", &[]), None),
        (Case::new("TRACE", "/", &[]), Some(Kind::MethodRefused)),
        (Case::new("TRACK", "/", &[]), Some(Kind::MethodRefused)),
        (Case::new("PURGE", "/", &[]), None),
        (with(post(), Some(12)), None),
        (with(post(), None), None),
        (field("Accept", "a"), None),
        (Case::new("GET", "/", &[("Accept", "a"), ("X-One", "1"), ("Accept", "b")]), None),
        (field("Cookie", "a=1; b=2"), None),
        (field("Cookie", &long), Some(Kind::HeadTooLarge)),
        (field("X-Odd", "\u{e9}"), None),
        (field("X_Odd", "1"), None),
        (field("Expect", "200-ok"), Some(Kind::Expectation)),
        (with(Case::new("POST", "/", &[("Expect", "100-continue")]), Some(3)), None),
        (field("Expect", "100-continue"), None),
        (field("TE", "trailers"), None),
        (field("Proxy-Authorization", "x"), None),
        (field("X-Long", &long), Some(Kind::HeadTooLarge)),
        (Case { host: "a..b".into(), ..get("/") }, Some(Kind::Host)),
        (Case { host: "[::1]:81".into(), ..get("/") }, None),
        (Case { host: "a.example:0".into(), ..get("/") }, Some(Kind::Host)),
        (Case { host: format!("{}.b", "a".repeat(64)), ..get("/") }, Some(Kind::Host)),
    ]
}

/// Both versions have one verdict.
fn agree(case: &Case, limits: &HeadLimits) -> Option<Result<Told, Kind>> {
    let http2 = case.as_http2(limits)?;
    assert_eq!(case.as_http1(limits), http2, "{case:?}");
    Some(http2)
}

/// Heads put together by chance of what heads are made of.
fn by_chance(random: &mut Random) -> Case {
    const PATHS: [&str; 9] = ["/", "/a", "//", "/.", "/..", "/%2e", "/b%2F", "/c;d", "/~"];
    const FIELDS: [(&str, &str); 10] = [
        ("Accept", "a/b"),
        ("X-A", "1 2"),
        ("X_B", "c"),
        ("Via", "1.1 x"),
        ("Forwarded", "for=1.2.3.4"),
        ("Keep-Me", "\t"),
        ("Expect", "100-continue"),
        ("Range", "bytes=0-1"),
        ("Trailer", "X-A"),
        ("Max-Forwards", "0"),
    ];
    const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "get", "M-SEARCH"];
    let below = |random: &mut Random, most: usize| random.below(most as u32) as usize;
    let path: String = (0..=below(random, 4)).map(|_| PATHS[below(random, PATHS.len())]).collect();
    let fields: Vec<_> =
        (0..below(random, 6)).map(|_| FIELDS[below(random, FIELDS.len())]).collect();
    let mut case = Case::new(METHODS[below(random, METHODS.len())], &path, &fields);
    case.body = [None, Some(None), Some(Some(7))][below(random, 3)];
    case
}

pub fn check() {
    let limits = HeadLimits::default();
    for (case, refused) in cases() {
        let verdict = agree(&case, &limits).unwrap_or_else(|| panic!("{case:?} cannot be said"));
        assert_eq!(verdict.err(), refused, "{case:?}");
    }
    let strict = HeadLimits { underscores: Underscores::Reject, ..limits };
    let odd = Case::new("GET", "/", &[("X_Odd", "1")]);
    assert_eq!(agree(&odd, &strict), Some(Err(Kind::Field)));
    let mut random = Random::new(15);
    let told = (0..20_000).filter_map(|_| agree(&by_chance(&mut random), &limits)).count();
    assert!(told > 15_000, "{told} heads could be said in both");
}
