//! Group R, row 19: a message about a faulty line shows where the fault is, and no secret that stands
//! beside it.

use std::process::Command;

use crate::Row;
use crate::support::proxy::temporary;
use crate::support::{Driver, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r19_check_prints_no_secret", r19_check),
        ("r19_run_prints_no_secret", r19_run),
        ("r19_a_reload_prints_no_secret", r19_reload),
        ("r19_what_is_no_secret_is_shown", r19_shown),
    ]
}

/// Stands for what must not be told; long enough for a key.
const SECRET: &str = "Zq7-correct-horse-battery";

/// A fault, and the part of the configuration that it stands in: of a cluster, of a route, or none.
enum Place {
    Cluster,
    Endpoint,
    Route,
    Top,
}

/// Each is refused, for the reason that its words name.
fn faults() -> Vec<(Place, String, &'static str)> {
    use Place::{Cluster, Endpoint, Route, Top};
    let all: Vec<(Place, &str, &'static str)> = vec![
        // The fault is beside the secret, in the same line.
        (Cluster, "sticky = { key = \"SECRET\", coookie = \"x\" }", "coookie"),
        (Cluster, "sticky = { coookie = \"x\", key = \"SECRET\" }", "coookie"),
        (Cluster, "sticky = { key = 'SECRET', ttl = \"soon\" }", "ttl"),
        (Cluster, "sticky = { key = \"SECRET\", ttl = \"1h\", cookie = \"a b\" }", "cookie"),
        (Cluster, "sticky = { \"key\" = \"SECRET\", x = 1 }", "x"),
        // The secret is what is wrong.
        (Cluster, "sticky = { kee = \"SECRET\" }", "kee"),
        (Cluster, "sticky = { key = [\"SECRET\"] }", "key"),
        (Cluster, "sticky = \"SECRET\"", "sticky"),
        (Cluster, "stickykey = \"SECRET\"", "stickykey"),
        (Cluster, "sticky = { key = \"\"\"\nSECRET\"\"\", x = 1 }", "x"),
        // No TOML.
        (Cluster, "sticky = { key = \"SECRET }", "TOML"),
        (Cluster, "sticky = { key = SECRET }", "TOML"),
        (Cluster, "sticky = { key = \"SECRET\", key = \"SECRET\" }", "TOML"),
        (Cluster, "sticky = { key = \"SECRET\" \"x\" }", "TOML"),
        // What goes to endpoints, and what lets clients in.
        (
            Route,
            "request_headers = { set = { Authorization = \"Bearer SECRET\", \"a b\" = \"x\" } }",
            "a b",
        ),
        (Route, "request_headers = { set = { X-Api-Key = \"SECRET\u{e9}\" } }", "ASCII"),
        (Route, "request_headers = { sett = { X-Api-Key = \"SECRET\" } }", "sett"),
        (
            Route,
            "response_headers = { add = { Set-Cookie = \"token=SECRET\" }, adds = {} }",
            "adds",
        ),
        (Route, "headers = { x-token = \"SECRET\", \"b c\" = \"*\" }", "b c"),
        (Route, "headers = { x-token = \"~SECRET(\" }", "regular expression"),
        (Route, "query = { token = \"SECRET\", x = 1 }", "query"),
        (Route, "query = { token = \"~SECRET(\" }", "regular expression"),
        (Route, "redirect = { host = \"user:SECRET@b.example\", status = 308 }", "host"),
        // A password in an address.
        (Endpoint, "address = \"http://user:SECRET@b.example:80\"", "address"),
        (Endpoint, "address = \"user:SECRET@b.example:80\"", "address"),
        (Endpoint, "address = \"b.example:80\", weigth = \"SECRET\"", "TOML"),
        (Top, "token = \"SECRET\"", "token"),
        (Top, "[admin]\ntokens = \"SECRET\"", "tokens"),
        (Top, "[admin]\naddress = \"x\"\ntoken = \"SECRET\"", "listen on"),
        (Top, "[admin]\ntoken = [\"SECRET\"]", "token"),
        (Top, "password = SECRET", "TOML"),
    ];
    let filled =
        |(place, text, word): (Place, &str, _)| (place, text.replace("SECRET", SECRET), word);
    all.into_iter().map(filled).collect()
}

/// A whole configuration with this in it.
fn configuration(place: &Place, text: &str, address: std::net::SocketAddr) -> String {
    let at = |here: bool| if here { text } else { "" };
    let endpoint = match place {
        Place::Endpoint => text.to_owned(),
        _ => format!("address = \"{address}\""),
    };
    let cluster = at(matches!(place, Place::Cluster));
    let route = at(matches!(place, Place::Route));
    let action = if route.starts_with("redirect") { "" } else { "cluster = \"app\"" };
    let top = at(matches!(place, Place::Top));
    format!(
        "{top}\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \
         \"app\"\n{cluster}\n[[cluster.endpoint]]\n{endpoint}\n[[route]]\n{action}\n{route}\n"
    )
}

/// Any four characters of it in a row would be a beginning.
fn tells(said: &str) -> bool {
    (0..SECRET.len() - 7).any(|at| said.contains(&SECRET[at..at + 7]))
}

fn millrace(arguments: &[&str], config: &str) -> (bool, String) {
    let file = temporary("toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    let out = command.args(arguments).arg(&file).output().unwrap();
    let _ = std::fs::remove_file(&file);
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Everything that is told where nothing should be, of all faults.
fn told(arguments: &[&str]) -> Vec<String> {
    let mut told = Vec::new();
    for (place, text, word) in faults() {
        let config = configuration(&place, &text, ([127, 0, 0, 1], 1).into());
        let (is_good, said) = millrace(arguments, &config);
        assert!(!is_good, "{text} is no fault");
        assert!(said.contains(word), "{text}: the reason is lost: {said}");
        if tells(&said) {
            told.push(said);
        }
    }
    told
}

fn r19_check(_: Driver) {
    let told = told(&["check"]);
    assert!(told.is_empty(), "{} of {}: {}", told.len(), faults().len(), told.join("\n"));
}

fn r19_run(_: Driver) {
    let told = told(&["run", "--cores", "1", "--config"]);
    assert!(told.is_empty(), "{} of {}: {}", told.len(), faults().len(), told.join("\n"));
}

fn r19_reload(driver: Driver) {
    let origin = Origin::echo();
    let good = configuration(&Place::Top, "", origin.address);
    let proxy = Proxy::run(driver, &good, &[], None);
    for (at, (place, text, _)) in (1..).zip(faults()) {
        proxy.rewrite(&configuration(&place, &text, origin.address));
        proxy.signal("HUP");
        let says = "the configuration is refused";
        until("the refusal", || proxy.log().matches(says).count() >= at);
    }
    let log = proxy.log();
    let lines: Vec<&str> = log.lines().filter(|line| tells(line)).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    assert_eq!(proxy.get("/x").body, b"/x");
}

/// The other half: a fault is of no use to its reader without the words that are wrong.
fn r19_shown(_: Driver) {
    let cases = [
        (Place::Route, "path = \"/a/../b\"", &["path = \"/a/../b\"", "\"/b\"", "^^^"][..]),
        (Place::Cluster, "balance = \"roundrobin\"", &["roundrobin", "round_robin", "^^^"][..]),
        (Place::Cluster, "sticky = { key = \"short\" }", &["16 characters", "key", "^"][..]),
        (Place::Route, "cache = { key = [\"header:a b\"] }", &["header:a b", "^^^"][..]),
        (Place::Endpoint, "address = \"b.example\"", &["b.example", "no port"][..]),
    ];
    for (place, text, words) in cases {
        let config = configuration(&place, text, ([127, 0, 0, 1], 1).into());
        let (is_good, said) = millrace(&["check"], &config);
        assert!(!is_good, "{text} is no fault");
        for word in words {
            assert!(said.contains(word), "{text}: no {word:?} in {said}");
        }
    }
    let config =
        configuration(&Place::Cluster, "sticky = { key = \"short\" }", ([127, 0, 0, 1], 1).into());
    let (_, said) = millrace(&["check"], &config);
    assert!(!said.contains("short\""), "a key that is too short is a key: {said}");
}
