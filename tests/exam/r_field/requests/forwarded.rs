//! Row R30: what a trusted proxy says of the client is said in both families of fields, and the log and the
//! cache go by the same.

use crate::Row;
use crate::exam::r_field::log::Log;
use crate::support::h2::{Peer, get};
use crate::support::{Does, Driver, Origin, Proxy, Request};

pub fn rows() -> Vec<Row> {
    vec![
        ("r30_a_balancer_of_x_forwarded", r30_a_balancer_of_x_forwarded),
        ("r30_a_balancer_of_forwarded", r30_a_balancer_of_forwarded),
        ("r30_both_families_say_the_same", r30_both_families_say_the_same),
        ("r30_the_cache_goes_by_forwarded", r30_the_cache_goes_by_forwarded),
        ("r30_strangers_are_not_believed", r30_strangers_are_not_believed),
    ]
}

const TRUSTING: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

/// What the two families say.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    addresses: Vec<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// All values of a field, as the members of one list.
fn members(request: &Request, name: &str) -> Vec<String> {
    let lines = request.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let values = lines.filter(|(one, _)| one.eq_ignore_ascii_case(name));
    let members = values.flat_map(|(_, value)| value.split(','));
    members.map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

fn by_x_forwarded(request: &Request) -> Said {
    let first = |name: &str| members(request, name).into_iter().next();
    Said {
        addresses: members(request, "x-forwarded-for"),
        proto: first("x-forwarded-proto"),
        host: first("x-forwarded-host"),
    }
}

/// RFC 7239 section 4. The first element is about the client; addresses are without quotes, brackets and
/// port, as X-Forwarded-For has them.
fn by_forwarded(request: &Request) -> Said {
    let elements = members(request, "forwarded");
    let of = |element: &String, name: &str| {
        element.split(';').find_map(|pair| {
            let (one, value) = pair.trim().split_once('=')?;
            one.eq_ignore_ascii_case(name).then(|| value.trim_matches('"').to_owned())
        })
    };
    let plain = |node: String| match node.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap().to_owned(),
        None => node.split(':').next().unwrap().to_owned(),
    };
    let first = |name: &str| elements.first().and_then(|element| of(element, name));
    Said {
        addresses: elements.iter().filter_map(|one| of(one, "for")).map(plain).collect(),
        proto: first("proto"),
        host: first("host"),
    }
}

/// What the origin gets of a GET with these lines, over both versions; and that both families agree.
fn said(proxy: &Proxy, origin: &Origin, path: &str, lines: &str) -> Said {
    let mut client = proxy.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"));
    assert_eq!(client.reply().status, 200, "{lines}");
    let request = origin.last();
    let said = by_x_forwarded(&request);
    assert_eq!(by_forwarded(&request), said, "{lines} became {}", request.head);
    let fields: Vec<(String, &str)> = lines
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, *value)).collect();
    let mut peer = Peer::connect(proxy.address);
    peer.headers(1, &[&get(path)[..], &fields].concat(), true);
    assert_eq!(peer.outcome(1).status(), 200, "{lines}");
    let request = origin.last();
    assert_eq!(by_x_forwarded(&request), said, "over HTTP/2: {}", request.head);
    assert_eq!(by_forwarded(&request), said, "over HTTP/2: {}", request.head);
    said
}

fn r30_a_balancer_of_x_forwarded(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &format!("{TRUSTING}{}", log.table()));
    for (path, lines, client, proto, host) in [
        (
            "/1",
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
            "1.2.3.4",
            "https",
            "a.example",
        ),
        ("/2", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4", "http", "a.example"),
        ("/3", "X-Forwarded-For: 9.9.9.9, 2001:db8::1\r\n", "2001:db8::1", "http", "a.example"),
        (
            "/4",
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example:8443\r\n",
            "1.2.3.4",
            "https",
            "b.example:8443",
        ),
        ("/5", "X-Forwarded-Proto: https\r\n", "127.0.0.1", "https", "a.example"),
    ] {
        let said = said(&proxy, &origin, path, lines);
        assert!(said.addresses.iter().any(|one| one == client), "{lines}: {said:?}");
        assert_eq!(
            (said.proto.as_deref(), said.host.as_deref()),
            (Some(proto), Some(host)),
            "{lines}"
        );
        assert_eq!(log.line("target", path)["client"], client, "{lines}");
    }
}

fn r30_a_balancer_of_forwarded(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &format!("{TRUSTING}{}", log.table()));
    for (path, lines, client, proto, host) in [
        ("/1", "Forwarded: for=1.2.3.4;proto=https\r\n", "1.2.3.4", "https", None),
        (
            "/2",
            "Forwarded: For=\"[2001:db8::1]:4711\";Proto=https\r\n",
            "2001:db8::1",
            "https",
            None,
        ),
        ("/3", "Forwarded: for=9.9.9.9, for=1.2.3.4\r\n", "1.2.3.4", "http", None),
        ("/4", "Forwarded: for=9.9.9.9\r\nForwarded: for=1.2.3.4:99\r\n", "1.2.3.4", "http", None),
        (
            "/5",
            "Forwarded: for=1.2.3.4;host=b.example;proto=https\r\n",
            "1.2.3.4",
            "https",
            Some("b.example"),
        ),
        ("/6", "Forwarded: proto=https;for=1.2.3.4\r\n", "1.2.3.4", "https", None),
    ] {
        let said = said(&proxy, &origin, path, lines);
        assert!(said.addresses.iter().any(|one| one == client), "{lines}: {said:?}");
        // Where the first element says no proto, that of the connection counts, or none.
        let is_right = said.proto.as_deref().unwrap_or("http") == proto;
        assert!(is_right, "{lines}: {said:?}");
        assert!(host.is_none() || said.host.as_deref() == host, "{lines}: {said:?}");
        assert_eq!(log.line("target", path)["client"], client, "{lines}");
    }
}

/// Which family counts where a balancer's own two differ is not told here; but it is one of them.
fn r30_both_families_say_the_same(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &format!("{TRUSTING}{}", log.table()));
    let lines = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
                 Forwarded: for=5.6.7.8;proto=http\r\n";
    let said = said(&proxy, &origin, "/both", lines);
    let client = log.line("target", "/both")["client"].as_str().unwrap().to_owned();
    assert!(said.addresses.contains(&client), "the log says {client}: {said:?}");
    let is_https = said.proto.as_deref() == Some("https");
    assert_eq!(is_https, client == "1.2.3.4", "from one family: {client}, {said:?}");
}

/// Links in an answer are made for what the client came by: https is another entry than http.
fn r30_the_cache_goes_by_forwarded(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let body = by_forwarded(request).proto.unwrap_or_default();
        let len = body.len();
        link.send(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {len}\r\n\r\n{body}"
        ));
        Does::Keep
    });
    let more = format!("{TRUSTING}[[route]]\ncluster = \"app\"\ncache = true\n");
    let proxy = Proxy::with(driver, &origin, &more);
    let ask = |lines: &str| {
        let mut client = proxy.connect();
        client.send(format!("GET /links HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"));
        String::from_utf8(client.reply().body).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(ask("Forwarded: for=1.2.3.4;proto=https\r\n"), "https");
        assert_eq!(ask("Forwarded: for=1.2.3.4;proto=http\r\n"), "http");
        assert_eq!(ask("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"), "https");
        assert_eq!(ask(""), "http");
    }
    assert_eq!(origin.requests().len(), 2, "two entries");
}

/// A guard that a mend must not break.
fn r30_strangers_are_not_believed(driver: Driver) {
    let (origin, log) = (Origin::echo(), Log::new());
    let proxy = Proxy::with(driver, &origin, &log.table());
    let lines = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\n\
                 Forwarded: for=5.6.7.8;proto=https\r\n";
    let said = said(&proxy, &origin, "/stranger", lines);
    assert_eq!(said.addresses, ["127.0.0.1"]);
    assert_eq!(said.proto.as_deref(), Some("http"));
    assert_eq!(log.line("target", "/stranger")["client"], "127.0.0.1");
}
