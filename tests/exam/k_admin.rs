//! Group K: the admin listener. What it tells is true, what it is told is done, and nothing reaches it that should not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::Row;
use crate::support::proxy::temporary;
use crate::support::{Driver, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("k01_a_socket_is_private", k01_a_socket_is_private),
        ("k01_beyond_loopback_a_token_is_wanted", k01_beyond_loopback),
        ("k02_tokens", k02_tokens),
        ("k03_not_through_the_proxy", k03_not_through_the_proxy),
        ("k04_not_by_a_browser", k04_not_by_a_browser),
        ("k05_what_is_no_request", k05_what_is_no_request),
        ("k06_no_secret_is_told", k06_no_secret_is_told),
        ("k07_orders_and_reloads_at_once", k07_orders_and_reloads),
        ("k08_metrics_count_what_was_served", k08_metrics),
        ("k08_metrics_outlive_a_reload", k08_metrics_outlive_a_reload),
        ("k09_status_tells_why_an_endpoint_is_out", k09_status),
        ("k09_commands_do_what_they_say", k09_commands),
        ("k09_explain_says_what_becomes_of_a_request", k09_explain),
        ("k09_the_last_exchanges_are_remembered", k09_recent),
        ("k05_silent_clients_keep_nobody_out", k05_silent_clients),
        ("k09_what_drains_can_be_asked", k09_what_drains),
        ("k09_a_plan_says_what_would_change", k09_plan),
        ("k09_requests_are_watched_as_they_end", k09_tap),
        ("k09_an_error_says_its_request", k09_an_error_says_its_request),
        ("k09_the_dashboard_needs_nothing_else", k09_dashboard),
        ("k09_weights_by_order", k09_weights),
        ("k09_trusted_clients_are_told_times", k09_server_timing),
        ("k09_an_exchange_says_why_it_went_there", k09_choices),
        ("k08_waits_are_counted", k08_waits),
        ("k09_a_reload_forgets_no_exchange", k09_history),
        ("j08_checks_are_told_before_it_drains", j08_checks_are_told),
        ("k09_a_drained_endpoint_gets_nothing_new", k09_drain),
        ("j05_a_bad_reload_is_told_why", j05_a_bad_reload),
    ]
}

/// A proxy with an admin socket.
struct Asked {
    proxy: Proxy,
    socket: PathBuf,
}

fn admin(socket: &std::path::Path) -> String {
    format!("[admin]\naddress = \"unix:{}\"\n", socket.display())
}

fn asked(driver: Driver, config: &str) -> Asked {
    let socket = temporary("sock");
    let proxy = Proxy::run(driver, &format!("{}{config}", admin(&socket)), &[], None);
    until("the admin socket", || socket.exists());
    Asked { proxy, socket }
}

/// Head and body of an answer.
fn split(bytes: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.to_owned(), body.to_owned())
}

fn status_of(head: &str) -> u16 {
    head.get(9..12).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Asked {
    fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let (head, body) = split(&answer);
        (status_of(&head), body)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let len = body.len();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The value of one series; `None` if there is none.
    fn metric(&self, series: &str) -> Option<f64> {
        let (status, body) = self.ask("GET", "/metrics", "");
        assert_eq!(status, 200, "{body}");
        let line = body
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn command(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(words)
            .arg("--admin")
            .arg(format!("unix:{}", self.socket.display()))
            .output()
            .unwrap()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// An address for an admin listener on TCP: a port that was free a moment ago.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn over_tcp(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let (head, body) = split(&answer);
    (status_of(&head), body)
}

fn verdict(config: &str) -> String {
    let file = temporary("toml");
    std::fs::write(&file, config).unwrap();
    let told =
        Command::new(env!("CARGO_BIN_EXE_millrace")).arg("check").arg(&file).output().unwrap();
    let _ = std::fs::remove_file(&file);
    format!("{} {}", told.status.code().unwrap(), String::from_utf8_lossy(&told.stdout))
}

fn k01_a_socket_is_private(driver: Driver) {
    let origin = Origin::echo();
    let mut asked = asked(driver, &cluster(&[origin.address], ""));
    let mode = std::fs::metadata(&asked.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(asked.ask("GET", "/healthz", ""), (200, "ok\n".to_owned()));
    assert_eq!(asked.ask("GET", "/readyz", ""), (200, "ready\n".to_owned()));
    // A second process does not take the socket away.
    let config = temporary("toml");
    std::fs::write(&config, format!("{}{}", admin(&asked.socket), cluster(&[origin.address], "")))
        .unwrap();
    let second =
        Command::new(env!("CARGO_BIN_EXE_millrace")).arg("run").arg(&config).output().unwrap();
    let _ = std::fs::remove_file(&config);
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(asked.ask("GET", "/healthz", "").0, 200);
    asked.proxy.signal("TERM");
    assert_eq!(asked.proxy.wait(), Some(0));
    assert!(!asked.socket.exists(), "the file goes with the process");
}

fn k01_beyond_loopback(_: Driver) {
    let with = |admin: &str| verdict(&format!("[admin]\n{admin}\n{}", cluster(&[free()], "")));
    for (admin, code, says) in [
        ("address = \"0.0.0.0:9901\"", "2", "can be reached from other machines"),
        ("address = \"[::]:9901\"", "2", "can be reached from other machines"),
        ("address = \"192.0.2.1:9901\"", "2", "can be reached from other machines"),
        ("address = \"0.0.0.0:9901\"\ntoken = \"short\"", "2", "at least 16 letters"),
        ("address = \"unix:relative.sock\"", "2", "absolute path"),
        ("address = \"localhost:9901\"", "2", "127.0.0.1"),
        ("addres = \"127.0.0.1:9901\"", "2", "did you mean \"address\""),
    ] {
        let told = with(admin);
        assert!(told.starts_with(code) && told.contains(says), "{admin}: {told}");
        assert!(!told.contains("short"), "a token is not shown: {told}");
    }
}

fn k02_tokens(driver: Driver) {
    let origin = Origin::echo();
    let (address, file) = (free(), temporary("token"));
    std::fs::write(&file, "0123456789abcdefg\n").unwrap();
    let config = format!(
        "[admin]\naddress = \"{address}\"\ntoken = \"file:{}\"\n{}",
        file.display(),
        cluster(&[origin.address], "")
    );
    let proxy = Proxy::run(driver, &config, &[], None);
    until("the admin listener", || TcpStream::connect(address).is_ok());
    let ask = |path: &str, lines: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{lines}Connection: close\r\n\r\n");
        over_tcp(address, &request).0
    };
    assert_eq!(ask("/status", ""), 401);
    assert_eq!(ask("/status", "Authorization: Bearer 0123456789abcdefh\r\n"), 401);
    assert_eq!(ask("/status", "Authorization: Bearer 0123456789abcdef\r\n"), 401);
    assert_eq!(ask("/status", "Authorization: Bearer 0123456789abcdefg\r\n"), 200);
    assert_eq!(ask("/metrics", ""), 200);
    assert_eq!(ask("/healthz", ""), 200);
    let command = |with: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.args(["status", "--admin", &address.to_string()]).args(with).output().unwrap()
    };
    let none = command(&[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("--token-file"), "{none:?}");
    assert_eq!(command(&["--token-file", file.to_str().unwrap()]).status.code(), Some(0));
    let _ = std::fs::remove_file(&file);
    drop(proxy);
}

fn k03_not_through_the_proxy(driver: Driver) {
    let address = free();
    for endpoint in [address.to_string(), format!("localhost:{}", address.port())] {
        let told = verdict(&format!(
            "[admin]\naddress = \"{address}\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"a\"\n\
             [[cluster.endpoint]]\naddress = \"{endpoint}\"\n[[route]]\ncluster = \"a\"\n"
        ));
        assert!(told.starts_with('2') && told.contains("through the proxy"), "{told}");
    }
    let told = verdict(
        "[admin]\naddress = \"unix:/run/a.sock\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"a\"\n\
         [[cluster.endpoint]]\naddress = \"unix:/run/a.sock\"\n[[route]]\ncluster = \"a\"\n",
    );
    assert!(told.starts_with('2') && told.contains("this very socket"), "{told}");
    // Nor does the admin listener forward anything.
    let origin = Origin::echo();
    let asked = asked(driver, &cluster(&[origin.address], ""));
    let target = format!("http://{}/status", origin.address);
    assert_eq!(asked.ask("GET", &target, "").0, 403);
    assert_eq!(origin.connections(), 0);
}

fn k04_not_by_a_browser(driver: Driver) {
    let origin = Origin::echo();
    let address = free();
    let config = format!("[admin]\naddress = \"{address}\"\n{}", cluster(&[origin.address], ""));
    let proxy = Proxy::run(driver, &config, &[], None);
    until("the admin listener", || TcpStream::connect(address).is_ok());
    let post = |host: &str, lines: &str, body: &str| {
        let len = body.len();
        let request = format!(
            "POST /reload HTTP/1.1\r\nHost: {host}\r\n{lines}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
        );
        over_tcp(address, &request)
    };
    let own = address.to_string();
    for (host, lines, body) in [
        ("evil.example", "", ""),
        (&own, "Origin: http://evil.example\r\n", ""),
        (&own, "Origin: null\r\n", ""),
        (&own, "Sec-Fetch-Site: cross-site\r\n", ""),
        (&own, "Content-Type: application/x-www-form-urlencoded\r\n", "a=b"),
        (&own, "Content-Type: text/plain\r\n", "{}"),
    ] {
        let (status, told) = post(host, lines, body);
        assert_eq!(status, 403, "{host} {lines}: {told}");
    }
    assert!(!proxy.log().contains("read again"), "nothing was done: {}", proxy.log());
    assert_eq!(post(&own, &format!("Origin: http://{own}\r\n"), "").0, 200);
    let (_, answer) = over_tcp(
        address,
        &format!("GET /status HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"),
    );
    assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
}

fn k05_what_is_no_request(driver: Driver) {
    let origin = Origin::echo();
    let asked = asked(driver, &cluster(&[origin.address], ""));
    for (request, expected) in [
        (
            "GET /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nConnection: close\r\n\r\n0\r\n\r\n",
            &[400, 200][..],
        ),
        ("GET  /status HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 0]),
        ("NOISE\r\n\r\n", &[400, 0]),
        ("GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &[404]),
        ("GET /reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &[405]),
        ("DELETE /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &[405]),
        (
            "POST /cache/purge HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}}",
            &[400],
        ),
        (
            "POST /endpoints/app/x/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            &[404],
        ),
        (
            "POST /endpoints/app/x/burn HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            &[404],
        ),
    ] {
        let (status, body) = asked.raw(request);
        assert!(expected.contains(&status), "{request}: {status} {body}");
    }
    // A body without an end, and heads without an end, take neither memory nor the listener.
    let large = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 200000\r\nConnection: close\r\n\r\n{}",
        "x".repeat(100_000)
    );
    let mut stream = UnixStream::connect(&asked.socket).unwrap();
    let _ = stream.write_all(large.as_bytes());
    let held: Vec<UnixStream> =
        (0..8).map(|_| UnixStream::connect(&asked.socket).unwrap()).collect();
    assert_eq!(asked.ask("GET", "/healthz", "").0, 200);
    assert_eq!(asked.proxy.get("/x").status, 200);
    drop(held);
}

fn k06_no_secret_is_told(driver: Driver) {
    let origin = Origin::echo();
    let secret = "Aa0Bb1Cc2Dd3Ee4Ff5Gg6Hh7Ii8Jj9Kk";
    let file = temporary("token");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let more = format!("sticky = {{ key = \"{secret}\" }}");
    let asked = asked(
        driver,
        &format!(
            "{}[[route]]\npath = \"/x\"\nrequest_headers = {{ set = {{ authorization = \"{secret}\" }} }}\ncluster = \"app\"\n",
            cluster(&[origin.address], &more)
        ),
    );
    assert_eq!(asked.proxy.get("/x").status, 200);
    for path in [
        "/status",
        "/config",
        "/clusters",
        "/stats",
        "/metrics",
        "/openapi.json",
        "/connections",
        "/cache",
    ] {
        let (status, body) = asked.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        assert!(!body.contains(secret), "{path} tells a secret: {body}");
    }
    assert!(!asked.proxy.log().contains(secret));
    let _ = std::fs::remove_file(&file);
}

fn k07_orders_and_reloads(driver: Driver) {
    let origins = [Origin::echo(), Origin::echo()];
    let addresses = [origins[0].address, origins[1].address];
    let asked = asked(driver, &cluster(&addresses, ""));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                (0..10).for_each(|_| assert_eq!(asked.ask("POST", "/reload", "").0, 200))
            });
        }
        for duty in ["drain", "down", "ready"] {
            let (asked, address) = (&asked, addresses[0]);
            scope.spawn(move || {
                for _ in 0..10 {
                    let (status, body) =
                        asked.ask("POST", &format!("/endpoints/app/{address}/{duty}"), "");
                    assert_eq!(status, 200, "{body}");
                }
            });
        }
        scope.spawn(|| (0..100).for_each(|_| assert_eq!(asked.proxy.get("/x").status, 200)));
    });
    // The last word holds, after a reload too.
    assert_eq!(asked.ask("POST", &format!("/endpoints/app/{}/down", addresses[0]), "").0, 200);
    assert_eq!(asked.ask("POST", "/reload", "").0, 200);
    let clusters = asked.json("/clusters");
    assert_eq!(clusters[0]["endpoints"][0]["duty"], "down");
    let before = origins[0].requests().len();
    (0..8).for_each(|_| assert_eq!(asked.proxy.get("/y").status, 200));
    assert_eq!(origins[0].requests().len(), before);
    let lines = asked.proxy.log().matches("by order").count();
    assert!(lines >= 21, "each order is told: {lines}");
}

fn k08_metrics(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        if request.path() == "/bad" {
            link.send("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno");
        }
        crate::support::Does::Keep
    });
    let routes = "[[route]]\nname = \"odd \"\npath = \"/odd\"\nrespond = { status = 204 }\n"
        .replace("odd \"", "odd\\\\\"");
    let routes = routes.replace("\\\\", "-");
    let asked = asked(driver, &format!("{}{routes}", cluster(&[origin.address], "")));
    for _ in 0..5 {
        assert_eq!(asked.proxy.get("/hello").status, 200);
    }
    assert_eq!(asked.proxy.get("/bad").status, 503);
    assert_eq!(asked.proxy.get("/odd").status, 204);
    assert_eq!(asked.metric("millrace_requests_total{route=\"/\",code=\"2xx\"}"), Some(5.0));
    assert_eq!(asked.metric("millrace_requests_total{route=\"/\",code=\"5xx\"}"), Some(1.0));
    assert_eq!(asked.metric("millrace_requests_total{route=\"odd-\",code=\"2xx\"}"), Some(1.0));
    assert_eq!(asked.metric("millrace_exchanges_total"), Some(7.0));
    assert_eq!(asked.metric("millrace_request_duration_seconds_count{route=\"/\"}"), Some(6.0));
    assert_eq!(
        asked.metric("millrace_request_duration_seconds_bucket{route=\"/\",le=\"+Inf\"}"),
        Some(6.0)
    );
    let endpoint = format!("cluster=\"app\",endpoint=\"{}\"", origin.address);
    assert_eq!(
        asked.metric(&format!("millrace_upstream_requests_total{{{endpoint},code=\"2xx\"}}")),
        Some(5.0)
    );
    assert_eq!(
        asked.metric(&format!("millrace_endpoint_available{{{endpoint},address=\"\"}}")),
        Some(1.0)
    );
    assert_eq!(
        asked.metric("millrace_response_body_bytes_total{route=\"/\"}"),
        Some(5.0 * 6.0 + 2.0)
    );
    well_formed(&asked.ask("GET", "/metrics", "").1);
}

/// What `promtool check metrics` looks for: each family has its help and its type before its series, names are names,
/// buckets never fall, no series comes twice.
fn well_formed(text: &str) {
    let (mut seen, mut family, mut last) =
        (std::collections::HashSet::new(), String::new(), (String::new(), 0.0));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(format!("TYPE {family}")), "twice: {line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let name = series.split('{').next().unwrap();
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()),
            "{line}"
        );
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .filter(|base| *base == family);
        assert!(base.is_some() || name == family, "{line} belongs to no family ({family})");
        assert!(seen.insert(series.to_owned()), "twice: {line}");
        if let Some((of, _)) = series.split_once(",le=") {
            assert!(last.0 != of || value >= last.1, "a bucket falls: {line}");
            last = (of.to_owned(), value);
        }
    }
    assert!(seen.len() > 30, "{text}");
}

fn k08_metrics_outlive_a_reload(driver: Driver) {
    let origin = Origin::echo();
    let asked = asked(driver, &cluster(&[origin.address], ""));
    let series = "millrace_requests_total{route=\"/\",code=\"2xx\"}";
    for round in 1..=4 {
        assert_eq!(asked.proxy.get("/x").status, 200);
        assert_eq!(asked.ask("POST", "/reload", "").0, 200);
        assert_eq!(asked.metric(series), Some(f64::from(round)), "what was counted stays counted");
    }
    assert_eq!(asked.metric("millrace_config_reloads_total{result=\"taken\"}"), Some(4.0));
}

fn k09_status(driver: Driver) {
    let origin = Origin::echo();
    let gone = crate::support::nobody();
    let asked = asked(driver, &cluster(&[origin.address, gone], ""));
    (0..4).for_each(|_| assert_eq!(asked.proxy.get("/x").status, 200));
    let status = asked.json("/status");
    let endpoints = &status["clusters"][0]["endpoints"];
    assert_eq!(endpoints[0]["available"], true, "{status}");
    assert_eq!(endpoints[1]["available"], false, "{status}");
    assert_eq!(endpoints[1]["passive"], "unreachable", "{status}");
    assert_eq!(status["listeners"][0]["address"], format!("http://{}", asked.proxy.address));
    assert_eq!(status["workers"], 1);
    let told = asked.command(&["status"]);
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(text.contains("out (unreachable)") && text.contains("cluster app"), "{text}");
}

fn k09_commands(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nSurrogate-Key: one\r\nContent-Length: 2\r\n\r\nok");
        crate::support::Does::Keep
    });
    let cached = cluster(&[origin.address], "")
        .replace("cluster = \"app\"\n[[cluster]]", "cluster = \"app\"\ncache = true\n[[cluster]]");
    let asked = asked(driver, &cached);
    let fill = |paths: &[&str]| {
        paths.iter().for_each(|path| assert_eq!(asked.proxy.get(path).status, 200))
    };
    let purged = |words: &[&str]| {
        let told = asked.command(&[&["purge"], words].concat());
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        assert_eq!(told.status.code(), Some(0), "{told:?}");
        text.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    fill(&["/a", "/b", "/c"]);
    let before = origin.requests().len();
    assert_eq!(purged(&["--url", "http://a.example/a"]), 1);
    fill(&["/a", "/b"]);
    assert_eq!(origin.requests().len(), before + 1, "only /a was fetched anew");
    purged(&["--prefix", "http://a.example/b"]);
    fill(&["/a", "/b"]);
    assert_eq!(origin.requests().len(), before + 2);
    purged(&["--tag", "one"]);
    fill(&["/a", "/b", "/c"]);
    assert_eq!(origin.requests().len(), before + 5);
    for (words, code) in [
        (&["purge"][..], 2),
        (&["purge", "--all", "--url", "http://a/"], 2),
        (&["purge", "--url", "a.example"], 1),
        (&["drain", "app", "none"], 1),
        (&["drain", "none", "none"], 1),
        (&["status", "--json"], 0),
        (&["stats"], 0),
    ] {
        let told = asked.command(words);
        assert_eq!(told.status.code(), Some(code), "{words:?}: {told:?}");
    }
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["status", "--admin", "unix:/nowhere/x"])
        .output()
        .unwrap();
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("[admin]"), "{elsewhere:?}");
}

fn k09_drain(driver: Driver) {
    let origins = [Origin::echo(), Origin::echo()];
    let addresses = [origins[0].address, origins[1].address];
    let asked = asked(driver, &cluster(&addresses, ""));
    let first = addresses[0].to_string();
    for (order, is_asked) in [("drain", false), ("ready", true), ("down", false), ("ready", true)] {
        let told = asked.command(&[order, "app", &first]);
        assert_eq!(told.status.code(), Some(0), "{told:?}");
        let serves = || {
            let before = origins[0].requests().len();
            (0..8).for_each(|_| assert_eq!(asked.proxy.get("/x").status, 200));
            origins[0].requests().len() > before
        };
        until("the order to be heard", || serves() == is_asked);
        // One that comes back gets little at first.
        assert!(is_asked || !serves(), "{order}");
    }
}

fn j05_a_bad_reload(driver: Driver) {
    let origin = Origin::echo();
    let asked = asked(driver, &cluster(&[origin.address], ""));
    asked.proxy.rewrite(&format!("{}[[listener]]\nadress = \"x\"\n", admin(&asked.socket)));
    let (status, body) = asked.ask("POST", "/reload", "");
    assert_eq!(status, 422, "{body}");
    for part in ["adress", "address", ":3:", "the old one stays"] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(asked.command(&["reload"]).status.code(), Some(1));
    assert_eq!(asked.proxy.get("/x").status, 200);
    assert_eq!(asked.json("/status")["reloads"]["refused"], 2);
    // A good one, and a listener of its own that is gone.
    asked.proxy.rewrite(&format!("{}{}", admin(&asked.socket), cluster(&[origin.address], "")));
    assert_eq!(asked.command(&["reload"]).status.code(), Some(0));
}

/// By the live process and by the file alone; what it says is what becomes of the request.
fn k09_explain(driver: Driver) {
    let origin = Origin::echo();
    let gone = crate::support::nobody();
    let routes = "[[route]]\nname = \"api\"\npath = \"/api\"\nrewrite = { strip_prefix = \"/api\" }\ncluster = \"app\"\n\
        [[route]]\nname = \"posts\"\npath = \"/api\"\nmethods = [\"POST\"]\nrespond = { status = 204 }\n";
    let config = format!("{}{routes}", cluster(&[origin.address, gone], ""));
    let asked = asked(driver, &config);
    (0..4).for_each(|_| assert_eq!(asked.proxy.get("/api/x").status, 200));
    let told = asked.command(&["explain", "GET", "http://a.example/api/x?y=1", "-H", "x-a: b"]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    for part in ["→ route api", "takes POST only", "/x?y=1", "out (unreachable)", "up"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(asked.proxy.get("/api/x?y=1").body, b"/x?y=1");
    let (status, body) =
        asked.ask("GET", "/explain?method=POST&url=http%3A%2F%2Fa.example%2Fapi", "");
    let value: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &value["result"]["status"], &value["result"]["route"]),
        (200, &204.into(), &"posts".into())
    );
    for (query, code) in
        [("url=nonsense", 400), ("urls=x", 400), ("", 400), ("url=http://a/../x", 200)]
    {
        assert_eq!(asked.ask("GET", &format!("/explain?{query}"), "").0, code, "{query}");
    }
    let file = temporary("toml");
    std::fs::write(&file, &config).unwrap();
    let told = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["explain", "GET", "http://a.example/none", "--json", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let value: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(value["result"]["cluster"], "app");
    let _ = std::fs::remove_file(&file);
}

/// What was served is remembered: by its id, and the failures longer.
fn k09_recent(driver: Driver) {
    let origin = Origin::echo();
    let gone = crate::support::nobody();
    let routes = format!(
        "[[cluster]]\nname = \"gone\"\n[[cluster.endpoint]]\naddress = \"{gone}\"\n[[route]]\npath = \"/gone\"\ncluster = \"gone\"\n"
    );
    let asked = asked(driver, &format!("{}{routes}", cluster(&[origin.address], "")));
    assert_eq!(asked.proxy.get("/gone/x").status, 502);
    (0..1200).for_each(|_| assert_eq!(asked.proxy.get("/fine").status, 200));
    let id = origin.last().header("x-request-id").unwrap().to_owned();
    let failed = asked.json("/recent?failed=1");
    let last = &failed[0];
    assert_eq!(
        (&last["status"], &last["path"], &last["flag"]),
        (&502.into(), &"/gone/x".into(), &"connect_refused".into())
    );
    assert_eq!((&last["route"], &last["endpoint"]), (&"/gone".into(), &gone.to_string().into()));
    let all = asked.json("/recent?limit=5000");
    assert_eq!(all.as_array().unwrap().len(), 1024);
    assert!(all.as_array().unwrap().iter().all(|one| one["status"] == 200));
    let told = asked.command(&["explain", &id]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.contains("/fine") && text.contains(&origin.address.to_string()), "{text}");
    assert_eq!(
        asked.command(&["explain", "01a2272d-9335-7dd3-b052-5c87fcf62f30"]).status.code(),
        Some(1)
    );
    assert_eq!(asked.command(&["explain", "GET"]).status.code(), Some(2));
    let recent = asked.command(&["recent", "--failed"]);
    assert!(String::from_utf8_lossy(&recent.stdout).contains("/gone/x"), "{recent:?}");
    for query in ["failed=2", "limit=x", "what=1"] {
        assert_eq!(asked.ask("GET", &format!("/recent?{query}"), "").0, 400);
    }
}

/// More of them than there are places.
fn k05_silent_clients(driver: Driver) {
    let origin = Origin::echo();
    let asked = asked(driver, &cluster(&[origin.address], ""));
    let silent: Vec<UnixStream> = (0..80)
        .map(|at| {
            let mut stream = UnixStream::connect(&asked.socket).unwrap();
            if at % 2 == 0 {
                stream.write_all(b"GET /status HTTP/1.1\r\nX: ").unwrap();
            }
            stream
        })
        .collect();
    let begun = std::time::Instant::now();
    assert_eq!(asked.ask("GET", "/healthz", "").0, 200);
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "before any of them timed out");
    drop(silent);
}

/// A balancer and an operator see the drain until its end; and the next process does not have to wait for that.
fn k09_what_drains(driver: Driver) {
    let (answer, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::scripted(move |_, link| {
        let _ = gate.lock().unwrap().recv();
        link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        crate::support::Does::Keep
    });
    let mut asked = asked(driver, &cluster(&[origin.address], ""));
    assert_eq!(asked.ask("GET", "/readyz", ""), (200, "ready\n".to_owned()));
    let mut client = asked.proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request", || !origin.requests().is_empty());
    asked.proxy.signal("TERM");
    until("it to drain", || asked.ask("GET", "/readyz", "") == (503, "draining\n".to_owned()));
    assert_eq!(asked.ask("GET", "/healthz", "").0, 200);
    assert_eq!(asked.json("/status")["draining"], true);
    assert_eq!(asked.json("/stats")["connections"], 1, "what it waits for");
    assert_eq!(asked.metric("millrace_connections{worker=\"0\"}"), Some(1.0));
    let (status, why) = asked.ask("POST", "/reload", "");
    assert!(status == 422 && why.contains("drains"), "{status} {why}");
    let next = Proxy::run(
        driver,
        &format!("{}{}", admin(&asked.socket), cluster(&[origin.address], "")),
        &[],
        None,
    );
    until("the next process's", || asked.ask("GET", "/readyz", "").0 == 200);
    answer.send(()).unwrap();
    assert_eq!(client.reply().status, 200);
    assert_eq!(asked.proxy.wait(), Some(0));
    assert_eq!(asked.ask("GET", "/readyz", "").0, 200, "its socket stays");
    drop((next, answer));
}

fn k09_choices(driver: Driver) {
    let (one, two) = (Origin::echo(), Origin::echo());
    let config = cluster(&[one.address, two.address], "sticky = { cookie = \"stay\" }");
    let asked = asked(driver, &config);
    let choice = || asked.json("/recent?limit=1")[0]["choice"].clone();
    let first = asked.proxy.get("/x");
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(choice(), "balanced");
    let mut client = asked.proxy.connect();
    client.send(format!("GET /y HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    assert_eq!(client.reply().status, 200);
    assert_eq!(choice(), "sticky");
    let alone = self::asked(driver, &cluster(&[one.address], ""));
    assert_eq!(alone.proxy.get("/x").status, 200);
    let told = alone.json("/recent?limit=1")[0].clone();
    assert_eq!((&told["choice"], &told["upstream_version"]), (&"only".into(), &"HTTP/1.1".into()));
    assert!(told["connect_ms"].as_f64().unwrap() > 0.0 && told["queue_ms"].is_null(), "{told}");
}

fn k09_history(driver: Driver) {
    let origin = Origin::echo();
    let config = cluster(&[origin.address], "");
    let asked = asked(driver, &config);
    (0..6).for_each(|at| assert_eq!(asked.proxy.get(&format!("/old/{at}")).status, 200));
    let newer =
        format!("{}{config}[[route]]\npath = \"/new\"\nrespond = {{}}\n", admin(&asked.socket));
    for _ in 0..3 {
        asked.proxy.reload(&newer);
    }
    assert_eq!(asked.proxy.get("/new").status, 200);
    // The old shards are gone by then: their last connections have ended.
    until("the old shards' end", || {
        asked.metric("millrace_connections{worker=\"0\"}") == Some(0.0)
    });
    until("what was served before", || {
        let told = asked.json("/recent");
        let paths: Vec<&str> =
            told.as_array().unwrap().iter().filter_map(|one| one["path"].as_str()).collect();
        paths.len() == 7 && paths[0] == "/new" && paths[6] == "/old/0"
    });
    asked.proxy.rewrite(&newer.replace("/new", "/old"));
    let plan = asked.json("/plan");
    assert_eq!(
        (&plan["replayed"]["requests"], &plan["replayed"]["elsewhere"]),
        (&7.into(), &7.into()),
        "{plan}"
    );
    // What a reload would refuse is no plan.
    asked.proxy.rewrite(&format!("{newer}[access_log]\npath = \"/nowhere/log\"\n"));
    assert_eq!(asked.ask("GET", "/plan", "").0, 422);
}

fn k08_waits(driver: Driver) {
    let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opened = std::sync::Arc::clone(&gate);
    let origin = Origin::scripted(move |_, _| {
        until("the gate", || opened.load(std::sync::atomic::Ordering::SeqCst));
        crate::support::Does::Keep
    });
    let more = "max_connections = 1\nqueue = { max = 3, timeout = \"9s\" }";
    let asked = asked(driver, &cluster(&[origin.address], more));
    let mut clients = [asked.proxy.connect(), asked.proxy.connect()];
    clients[0].send("GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the first", || origin.requests().len() == 1);
    clients[1].send("GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    // It waits for a while that can be told.
    std::thread::park_timeout(std::time::Duration::from_millis(30));
    gate.store(true, std::sync::atomic::Ordering::SeqCst);
    clients.iter_mut().for_each(|client| assert_eq!(client.reply().status, 200));
    let series = |name: &str| {
        asked.metric(&format!("millrace_upstream_queue_seconds_{name}{{cluster=\"app\"}}"))
    };
    until("the end of both", || asked.metric("millrace_exchanges_total") == Some(2.0));
    assert_eq!(series("count"), Some(1.0));
    assert!(series("sum").unwrap() > 0.0);
    let told = asked.json("/recent");
    let waited = |at: usize| told[at]["queue_ms"].as_f64();
    assert!(waited(0).is_some() != waited(1).is_some(), "{told}");
}

/// A client that no listener trusts learns nothing of what is behind it.
fn k09_server_timing(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nServer-Timing: db;dur=3\r\nContent-Length: 2\r\n\r\nok");
        crate::support::Does::Keep
    });
    let config = |trusted: &str| {
        let listener = format!("[[listener]]\ntrusted_proxies = [{trusted}]");
        let all = cluster(&[origin.address], "").replace("[[listener]]", &listener);
        format!("[server]\nserver_timing = true\n{all}")
    };
    let proxy = Proxy::run(driver, &config("\"127.0.0.1\""), &[], None);
    let reply = proxy.get("/x");
    let times: Vec<&str> =
        reply.head.lines().filter_map(|line| line.strip_prefix("Server-Timing: ")).collect();
    assert_eq!((times.len(), times[0]), (2, "db;dur=3"), "{}", reply.head);
    let parts: Vec<&str> = times[1].split(", ").collect();
    let duration = |name: &str| -> f64 {
        let found = parts.iter().find_map(|part| part.strip_prefix(&format!("{name};dur=")));
        found.unwrap_or_else(|| panic!("{name} in {parts:?}")).parse().unwrap()
    };
    let (total, upstream, connect) = (duration("total"), duration("upstream"), duration("connect"));
    assert!(connect > 0.0 && connect < upstream && upstream <= total, "{parts:?}");
    let other = Proxy::run(driver, &config(""), &[], None);
    assert_eq!(other.get("/x").head.matches("Server-Timing").count(), 1);
}

/// A balancer in front finds out while new connections are still served.
fn j08_checks_are_told(driver: Driver) {
    let origin = Origin::echo();
    let route = |path: &str, health: &str| {
        format!("[[route]]\npath = \"={path}\"\nrespond = {{ health = \"{health}\" }}\n")
    };
    let config = format!(
        "[server]\ndrain_delay = \"60s\"\n{}{}{}",
        cluster(&[origin.address], ""),
        route("/live", "live"),
        route("/ready", "ready")
    );
    let mut asked = asked(driver, &config);
    let statuses = |asked: &Asked| {
        let of = |path| asked.proxy.get(path).status;
        (of("/live"), of("/ready"), asked.ask("GET", "/readyz", "").0, of("/app"))
    };
    assert_eq!(statuses(&asked), (200, 200, 200, 200));
    assert_eq!(asked.proxy.get("/ready").header("cache-control"), Some("no-store"));
    asked.proxy.signal("TERM");
    until("checks to be told", || asked.proxy.get("/ready").status == 503);
    assert_eq!(statuses(&asked), (200, 503, 503, 200));
    // Also by a configuration that comes later.
    asked.proxy.reload(&format!("{}{config}", admin(&asked.socket)));
    assert_eq!(statuses(&asked), (200, 503, 503, 200));
    until("its end by another signal", || {
        asked.proxy.signal("TERM");
        asked.proxy.is_dead()
    });
    assert_eq!(asked.proxy.wait(), Some(0));
}

/// Until it is taken back; it outlives a reload.
fn k09_weights(driver: Driver) {
    let (one, two) = (Origin::echo(), Origin::echo());
    let config = cluster(&[one.address, two.address], "");
    let asked = asked(driver, &config);
    let share = |wanted: usize| {
        let before = one.requests().len();
        (0..40).for_each(|_| assert_eq!(asked.proxy.get("/x").status, 200));
        assert_eq!(one.requests().len() - before, wanted);
    };
    let order = |weight: &str| {
        asked.command(&["weight", "app", &one.address.to_string(), weight]).status.code()
    };
    share(20);
    assert_eq!(order("4"), Some(0));
    share(32);
    asked.proxy.reload(&format!("{}{config}", admin(&asked.socket)));
    share(32);
    assert_eq!(asked.json("/clusters")[0]["endpoints"][0]["weight"], 4);
    assert_eq!(order("reset"), Some(0));
    share(20);
    assert_eq!((order("0"), order("1001")), (Some(2), Some(2)));
    let (status, why) =
        asked.ask("POST", &format!("/endpoints/app/{}/weight", one.address), "{\"weight\": 0}");
    assert!(status == 400 && why.contains("1 to 1000"), "{why}");
}

/// By meaning, with the last requests replayed; nothing changes by it.
fn k09_plan(driver: Driver) {
    let origin = Origin::echo();
    let base =
        cluster(&[origin.address], "").replace("[[listener]]", "[[listener]]\nname = \"web\"");
    let asked = asked(driver, &base);
    (0..3).for_each(|_| assert_eq!(asked.proxy.get("/old/x").status, 200));
    assert_eq!(asked.proxy.get("/other").status, 200);
    let told = |words: &[&str]| {
        let told = asked.command(words);
        (
            told.status.code(),
            [&told.stdout[..], &told.stderr[..]].map(String::from_utf8_lossy).concat(),
        )
    };
    assert_eq!(told(&["plan"]), (Some(0), "nothing would change\n".to_owned()));
    let more = "[[route]]\nname = \"old\"\npath = \"/old\"\nrespond = { status = 410 }\n";
    let new = format!("{}{base}{more}", admin(&asked.socket));
    asked.proxy.rewrite(&new);
    let (code, text) = told(&["plan"]);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "+ route old",
        "3 of the last 4 requests",
        "GET ",
        "/old/x: route / (cluster app) → route old (answer 410)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(asked.proxy.get("/old/x").status, 200, "it was a question");
    let file = temporary("toml");
    std::fs::write(&file, new.replace("status = 410", "status = 4100")).unwrap();
    let (code, text) = told(&["plan", file.to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("respond.status"), "{text}");
    std::fs::write(&file, format!("[server]\nname = \"other\"\n{base}")).unwrap();
    let (_, text) = told(&["plan", file.to_str().unwrap()]);
    assert!(text.contains("millrace upgrade") && text.contains("~ table admin"), "{text}");
    let _ = std::fs::remove_file(&file);
}

fn k09_tap(driver: Driver) {
    let origin = Origin::echo();
    let gone = crate::support::nobody();
    let routes = format!(
        "[[cluster]]\nname = \"gone\"\n[[cluster.endpoint]]\naddress = \"{gone}\"\n[[route]]\npath = \"/gone\"\ncluster = \"gone\"\n"
    );
    let config = format!("{}{routes}", cluster(&[origin.address], ""));
    let asked = asked(driver, &config);
    let watcher = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["tap", "status>=500 && path=~'^/gone'", "--limit", "3", "--json", "--admin"])
        .arg(format!("unix:{}", asked.socket.display()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Until it watches, and over a reload.
    let mut watcher = Some(watcher);
    until("three of them", || {
        assert_eq!(asked.proxy.get("/fine").status, 200);
        assert!(asked.proxy.get("/gone/x").status >= 502);
        asked.proxy.reload(&format!("{}{config}", admin(&asked.socket)));
        watcher.as_mut().unwrap().try_wait().unwrap().is_some()
    });
    let told = watcher.take().unwrap().wait_with_output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    for line in text.lines() {
        let one: Value = serde_json::from_str(line).unwrap();
        assert!(one["status"].as_u64().unwrap() >= 502 && one["path"] == "/gone/x", "{one}");
    }
    let (status, why) = asked.ask("GET", "/tap?filter=stauts%3D%3D1", "");
    assert!(status == 400 && why.contains("column 1"), "{status} {why}");
}

/// What a client can tell its operator, who finds the request by it; of what could not be parsed too, which counts.
fn k09_an_error_says_its_request(driver: Driver) {
    let origin = Origin::echo();
    let gone = crate::support::nobody();
    let config = cluster(&[gone], "").replace("[[listener]]", "[[listener]]\nname = \"web\"");
    let asked = asked(driver, &config);
    let reply = asked.proxy.get("/gone");
    let id = reply.header("x-request-id").unwrap().to_owned();
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains(&id), "{}", reply.text());
    let mut client = asked.proxy.connect();
    client.send("GET /two HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nHost: b\r\n\r\n");
    let reply = client.reply();
    let bad = reply.header("x-request-id").unwrap().to_owned();
    assert!(reply.status == 400 && bad != "mine", "{bad}");
    for (id, status) in [(&id, 502), (&bad, 400)] {
        let told = asked.json(&format!("/recent?id={id}"));
        assert_eq!(told[0]["status"], status, "{told}");
    }
    let series = |class: &str| {
        asked.metric(&format!(
            "millrace_listener_requests_total{{listener=\"web\",code=\"{class}\"}}"
        ))
    };
    assert_eq!((series("4xx"), series("5xx")), (Some(1.0), Some(1.0)));
    for (word, errors, others) in [("all", true, true), ("none", false, false)] {
        let proxy = Proxy::with(driver, &origin, &format!("[server]\nrequest_id = \"{word}\"\n"));
        let reply = proxy.get("/fine");
        let sent = origin.last().header("x-request-id").unwrap().to_owned();
        let said = reply.header("x-request-id").map(str::to_owned);
        assert_eq!(said, others.then_some(sent), "{word}");
        let mut client = proxy.connect();
        client.send("GET /two HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
        assert_eq!(client.reply().header("x-request-id").is_some(), errors, "{word}");
    }
}

/// One page that needs nothing from elsewhere.
fn k09_dashboard(driver: Driver) {
    let origin = Origin::echo();
    let asked = asked(driver, &cluster(&[origin.address], ""));
    let (status, page) = asked.ask("GET", "/", "");
    assert_eq!(status, 200);
    assert!(page.contains("<title>millrace</title>"));
    for elsewhere in ["http://", "https://", "//cdn", "@import", "src="] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(elsewhere);
        assert!(!found, "the page asks for something else: {elsewhere}");
    }
}
