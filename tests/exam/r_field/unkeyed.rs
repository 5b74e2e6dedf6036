//! Group R, row 13: what a trusted proxy says of the client reaches the origin of a cached route only
//! if it tells answers apart.

use super::super::e_cache::{ask, get, is_hit, say};
use crate::Row;
use crate::support::{Driver, Origin, Proxy, Reply};

pub fn rows() -> Vec<Row> {
    vec![
        ("r13_what_is_in_no_key_reaches_no_origin", r13_unkeyed),
        ("r13_forms_of_what_is_in_the_key", r13_forms),
        ("r13_what_is_in_the_key_passes", r13_keyed),
        ("r13_without_a_cache_all_of_it_passes", r13_uncached),
        ("r13_a_strangers_word", r13_stranger),
    ]
}

const TRUSTS: &str = "[server]\ncores = 2\n[[listener]]\nname = \"web\"\naddress = \
                      \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n[[route]]\ncluster = \
                      \"app\"\n";

/// What servers write into links and redirects, or decide by.
const FIELDS: [&str; 12] = [
    "X-Forwarded-Scheme",
    "X-Forwarded-Prefix",
    "X-Forwarded-IoAdapter",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Path",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Anything",
    "X-Real-IP",
    "Forwarded",
];

/// The same under names that no proxy of ours takes out: frameworks believe these from any client.
const KIN: [&str; 4] = ["X-Scheme", "X-Url-Scheme", "X-Script-Name", "Front-End-Https"];

/// Answers with the lines that one of these words stands in.
fn repeats() -> Origin {
    Origin::scripted(|request, link| {
        let told: Vec<&str> = request
            .head
            .lines()
            .skip(1)
            .filter(|line| ["evil", "other"].iter().any(|word| line.contains(word)))
            .collect();
        say(link, "200 OK\r\nCache-Control: max-age=60", &format!("[{}]", told.join("; ")))
    })
}

fn body(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

fn value(name: &str, word: &str) -> String {
    match name {
        "Forwarded" => format!("Forwarded: for=192.0.2.1;host={word}.example;proto=https\r\n"),
        _ => format!("{name}: {word}.example\r\n"),
    }
}

/// What a field of one request does to the answers of others.
fn poisoned(proxy: &Proxy, at: &str, name: &str) -> Option<String> {
    let path = format!("/{at}/{name}");
    let first = body(&get(proxy, &path, &value(name, "evil")));
    let other = body(&get(proxy, &path, &value(name, "other")));
    let clean = body(&get(proxy, &path, ""));
    let is_foul = other.contains("evil") || clean != "[]";
    is_foul.then(|| format!("{name}: {first} for one, {other} for another, {clean} for all"))
}

fn r13_unkeyed(driver: Driver) {
    let origin = repeats();
    let proxy = Proxy::with(driver, &origin, &format!("{TRUSTS}cache = true\n"));
    let foul: Vec<String> =
        FIELDS.iter().filter_map(|name| poisoned(&proxy, "trusted", name)).collect();
    assert!(foul.is_empty(), "{foul:#?}");
}

/// What is in the key is there as the origin reads it.
fn r13_forms(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let told: Vec<&str> = request
            .head
            .lines()
            .filter(|line| {
                let line = line.to_ascii_lowercase();
                line.starts_with("x-forwarded-proto:") || line.starts_with("x-forwarded-host:")
            })
            .collect();
        say(link, "200 OK\r\nCache-Control: max-age=60", &told.join("; "))
    });
    let proxy = Proxy::with(driver, &origin, &format!("{TRUSTS}cache = true\n"));
    let forms = [
        "",
        "X-Forwarded-Proto: https\r\n",
        "X-Forwarded-Proto: http\r\n",
        "X-Forwarded-Proto: evil\r\n",
        "X-Forwarded-Proto: https, http\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: evil\r\n",
        "X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n",
        "X-Forwarded-Host: evil.example\r\n",
        "X-Forwarded-Host: evil.example\r\nX-Forwarded-Host: b.example\r\n",
    ];
    let mut foul = Vec::new();
    for (at, first) in forms.iter().enumerate() {
        for (number, second) in forms.iter().enumerate().filter(|(number, _)| *number != at) {
            let path = format!("/{at}/{number}");
            let brought = body(&get(&proxy, &path, first));
            let reply = get(&proxy, &path, second);
            let own = body(&get(&proxy, &format!("{path}/own"), second));
            if is_hit(&reply) && body(&reply) != own {
                foul.push(format!("{first:?} brought {brought:?} to {second:?}"));
            }
        }
    }
    assert!(foul.is_empty(), "{foul:#?}");
}

fn r13_keyed(driver: Driver) {
    let origin = repeats();
    let keyed = "cache = { key = [\"header:X-Forwarded-Prefix\", \"header:X-Real-IP\"] }\n";
    let proxy = Proxy::with(driver, &origin, &format!("{TRUSTS}{keyed}"));
    for name in ["X-Forwarded-Prefix", "X-Real-IP"] {
        let path = format!("/{name}");
        for round in 0..2 {
            for word in ["evil", "other"] {
                let reply = get(&proxy, &path, &value(name, word));
                assert!(body(&reply).contains(word), "{name}: {}", reply.text());
                assert_eq!(is_hit(&reply), round == 1, "{name}: {}", reply.head);
            }
            assert_eq!(body(&get(&proxy, &path, "")), "[]");
        }
    }
    // What is not in this key is taken out here too.
    assert_eq!(body(&get(&proxy, "/port", "X-Forwarded-IoAdapter: evil\r\n")), "[]");
}

fn r13_uncached(driver: Driver) {
    let origin = repeats();
    let proxy = Proxy::with(driver, &origin, TRUSTS);
    for name in FIELDS {
        let reply = get(&proxy, "/x", &value(name, "evil"));
        assert!(body(&reply).contains("evil"), "{name} was taken out: {}", reply.text());
    }
    let reply = ask(&proxy, "POST /x", "X-Forwarded-Prefix: evil\r\nContent-Length: 0\r\n");
    assert!(body(&reply).contains("evil"), "{}", reply.text());
}

/// The same without trust: a stranger's fields of this kind reach no cached answer either.
fn r13_stranger(driver: Driver) {
    let origin = repeats();
    let trusts_none = TRUSTS.replace("trusted_proxies = [\"127.0.0.0/8\"]\n", "");
    let proxy = Proxy::with(driver, &origin, &format!("{trusts_none}cache = true\n"));
    let all = FIELDS.iter().chain(&KIN);
    let foul: Vec<String> = all.filter_map(|name| poisoned(&proxy, "stranger", name)).collect();
    assert!(foul.is_empty(), "{foul:#?}");
}
