//! Rows R43 and R44: operators as they are: starts that overlap an end, and `check` as a gate.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::super::e_cache::{CACHES, get, is_hit, say};
use super::odd_certificates::{AUTHORITY, File};
use crate::Row;
use crate::support::proxy::temporary;
use crate::support::{Does, Driver, Ends, Origin, PATIENCE, Proxy, nobody, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r43_a_folder_is_taken_when_it_is_free", r43_a_folder),
        ("r43_started_at_once_after_a_kill", r43_after_a_kill),
        ("r43_a_port_is_waited_for", r43_a_port),
        ("r43_a_port_is_not_waited_for_for_ever", r43_a_port_for_ever),
        ("r44_check_and_run_agree", r44_agree),
        ("r44_check_while_it_runs", r44_check_while_it_runs),
        ("r44_files_of_certificates_are_told_with_their_line", r44_lines_of_certificates),
        ("r44_the_right_form_is_told", r44_the_right_form),
        ("r44_what_is_fine_is_not_warned_about", r44_no_false_alarm),
    ]
}

/// Files of responses in a cache's folder.
fn files(folder: &Path) -> usize {
    let buckets = std::fs::read_dir(folder.join("files")).into_iter().flatten().flatten();
    let files =
        buckets.flat_map(|one| std::fs::read_dir(one.path()).into_iter().flatten().flatten());
    files.filter(|file| file.file_name().len() == 33).count()
}

/// Cacheable answers; `/slow` is half an answer until it is told to go on.
fn half_and_whole(go: &Arc<AtomicBool>) -> Origin {
    let go = Arc::clone(go);
    Origin::scripted(move |request, link| {
        if request.path() != "/slow" {
            say(link, "200 OK\r\nCache-Control: max-age=600", request.path());
            return Does::Keep;
        }
        link.send("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 8\r\n\r\nhalf");
        let begun = Instant::now();
        while !go.load(SeqCst) && begun.elapsed() < PATIENCE {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        link.send("half");
        Does::Keep
    })
}

/// The new one is started while the old one still drains, serves at once, and has the cache's folder
/// once the old one has ended.
fn r43_a_folder(driver: Driver) {
    let (folder, address, go) = (temporary("cache"), nobody(), Arc::new(AtomicBool::new(false)));
    let origin = half_and_whole(&go);
    let _ends = Ends(&go);
    let config = format!(
        "[[listener]]\nname = \"web\"\naddress = \"{address}\"\n[[cluster]]\nname = \"app\"\n\
         [[cluster.endpoint]]\naddress = \"{}\"\n{CACHES}[cache]\ndisk = \"{}\"\n",
        origin.address,
        folder.display()
    );
    let mut old = Proxy::run(driver, &config, &[], None);
    for number in 0..20 {
        assert_eq!(get(&old, &format!("/old/{number}"), "").status, 200);
    }
    until("files to be written", || files(&folder) == 20);
    let mut slow = old.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    until("half an answer", || origin.requests().iter().any(|one| one.path() == "/slow"));
    old.signal("TERM");
    until("it to drain", || old.log().contains("draining"));
    std::thread::park_timeout(Duration::from_millis(200));
    let new = Proxy::run(driver, &config, &[], None);
    assert_eq!(get(&new, "/meanwhile", "").status, 200);
    assert!(!old.is_dead(), "the old one ended too early for this test");
    go.store(true, SeqCst);
    let reply = slow.reply();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"halfhalf"[..]));
    assert_eq!(old.wait(), Some(0));
    // What comes now is written, and what the old one wrote is found.
    let before = files(&folder);
    let mut number = 0;
    until("the folder to be used", || {
        number += 1;
        assert_eq!(get(&new, &format!("/new/{number}"), "").status, 200);
        files(&folder) > before
    });
    let found = (0..20).any(|number| {
        std::thread::park_timeout(Duration::from_millis(20));
        is_hit(&get(&new, &format!("/old/{number}"), ""))
    });
    assert!(found, "what the old one had stored is lost: {}", new.log());
    drop(new);
    let _ = std::fs::remove_dir_all(&folder);
}

fn on(address: SocketAddr) -> String {
    format!("[[listener]]\naddress = \"{address}\"\n[[route]]\nrespond = {{ status = 204 }}\n")
}

/// A ring gives its sockets back a while after its process is gone.
fn r43_after_a_kill(driver: Driver) {
    let address = nobody();
    for _ in 0..8 {
        let mut proxy = Proxy::run(driver, &on(address), &[], None);
        let _kept: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
        assert_eq!(proxy.get("/").status, 204);
        proxy.forget_death();
        proxy.signal("KILL");
        proxy.wait();
    }
    let proxy = Proxy::run(driver, &on(address), &[], None);
    assert_eq!(proxy.get("/").status, 204);
}

fn r43_a_port(driver: Driver) {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(700));
        drop(held);
    });
    let proxy = Proxy::run(driver, &on(address), &[], None);
    holder.join().unwrap();
    assert_eq!(proxy.get("/").status, 204);
}

fn r43_a_port_for_ever(driver: Driver) {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let begun = Instant::now();
    let refused = start(driver, &on(address)).expect_err("it started");
    let took = begun.elapsed();
    assert!(refused.contains(&address.to_string()), "{refused}");
    assert!(took > Duration::from_secs(1), "it waited {took:?} only");
    assert!(took < Duration::from_secs(8), "it waited {took:?}");
}

/// Whether `run` comes to listen with this configuration; what it said if not.
fn start(driver: Driver, config: &str) -> Result<(), String> {
    let file = temporary("toml");
    std::fs::write(&file, config).unwrap();
    let driver = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
    let mut child = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["run", "--cores", "1", "--driver", driver, "--config"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut listens) = (String::new(), false);
    // It ends, or it listens: one of the two within some seconds.
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        said.push_str(&line);
        said.push('\n');
        listens = line.contains("listening on");
        if listens {
            break;
        }
    }
    if listens {
        child.kill().unwrap();
    }
    let code = child.wait().unwrap().code();
    let _ = std::fs::remove_file(&file);
    assert!(listens || code != Some(0), "it ended without a word: {said}");
    if listens { Ok(()) } else { Err(said) }
}

/// Whether `check` lets this configuration pass, and what it said.
pub(super) fn check(config: &[u8]) -> (bool, String) {
    let file = temporary("toml");
    std::fs::write(&file, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millrace")).arg("check").arg(&file).output();
    let output = output.unwrap();
    let _ = std::fs::remove_file(&file);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

const SITE: &str =
    "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = { status = 204 }\n";

/// Configurations that are good in themselves, and what this machine has against them: the word that
/// `check` must say of each.
fn of_this_machine(
    taken: SocketAddr,
    folder: &str,
    certificate: &str,
) -> Vec<(&'static str, String, String)> {
    let port = taken.port();
    let free = nobody().port();
    let listener = |address: &str| SITE.replace("127.0.0.1:0", address);
    let secure = |key: &str| {
        let tls = format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}");
        SITE.replace("[[route]]", &format!("tls = {{ certificates = [{tls}] }}\n[[route]]"))
    };
    let disk = |path: &str| format!("{SITE}[cache]\ndisk = \"{path}\"\n");
    vec![
        ("good", SITE.to_owned(), String::new()),
        ("a port in use", listener(&taken.to_string()), port.to_string()),
        ("an address that is not ours", listener("192.0.2.1:8080"), "192.0.2.1".to_owned()),
        (
            "two listeners on one port",
            format!(
                "[[listener]]\nname = \"two\"\naddress = \"0.0.0.0:{free}\"\n{}",
                listener(&format!("127.0.0.1:{free}"))
            ),
            free.to_string(),
        ),
        ("a key that is a folder", secure(folder), folder.to_owned()),
        ("a key that is not there", secure("/nowhere/key.pem"), "nowhere".to_owned()),
        ("a cache in a file", disk("/etc/hostname"), "/etc/hostname".to_owned()),
        ("a cache among other things", disk("/etc"), "/etc".to_owned()),
        ("a cache nowhere", disk("/nowhere/cache"), "/nowhere/cache".to_owned()),
        (
            "a log nowhere",
            format!("{SITE}[access_log]\npath = \"/nowhere/x.log\"\n"),
            "/nowhere/x.log".to_owned(),
        ),
    ]
}

fn r44_agree(driver: Driver) {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = temporary("folder");
    std::fs::create_dir(&folder).unwrap();
    let shown = folder.display().to_string();
    let mut wrong = String::new();
    let (taken, pem) = (held.local_addr().unwrap(), File::new("pem", AUTHORITY));
    for (what, config, word) in of_this_machine(taken, &shown, &pem.shown()) {
        let (passes, said) = check(config.as_bytes());
        let started = start(driver, &config);
        if passes != started.is_ok() {
            let run = started.err().unwrap_or_else(|| "it listens".to_owned());
            wrong += &format!("{what}: check passes: {passes}, {said}run: {run}\n");
        }
        // Whatever the verdict: the operator has read of it before the start.
        if !said.contains(&word) {
            wrong += &format!("{what}: check says nothing of {word}: {said}\n");
        }
    }
    let _ = std::fs::remove_dir(&folder);
    assert!(wrong.is_empty(), "{wrong}");
}

/// What runs is checked before it is reloaded: that its ports are its own is no objection.
fn r44_check_while_it_runs(driver: Driver) {
    let folder = temporary("cache");
    let config = format!("{}[cache]\ndisk = \"{}\"\n", on(nobody()), folder.display());
    let proxy = Proxy::run(driver, &config, &[], None);
    assert_eq!(proxy.get("/").status, 204);
    let (passes, said) = check(config.as_bytes());
    assert!(passes, "{said}");
    drop(proxy);
    let _ = std::fs::remove_dir_all(&folder);
}

/// What is wrong with a file is said with the line of the configuration that names it.
fn r44_lines_of_certificates(_: Driver) {
    let file = File::new("pem", AUTHORITY);
    let pem = file.shown();
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [\n  \
         {{ certificate = \"/nowhere/one.pem\", key = \"/nowhere/one.key\" }},\n  \
         {{ certificate = \"{pem}\", key = \"/nowhere/two.key\" }},\n]\n\
         [[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"127.0.0.1:3001\"\n\
         [cluster.tls]\nca = \"/nowhere/ca.pem\"\n[[route]]\ncluster = \"app\"\n"
    );
    let (passes, said) = check(config.as_bytes());
    assert!(!passes);
    for (line, word) in [(5, "one.pem"), (5, "one.key"), (6, "two.key"), (12, "/nowhere/ca.pem")] {
        let is_told = |text: &str| text.contains(word) && text.contains(&format!("line {line}:"));
        assert!(said.lines().any(is_told), "{word} on line {line}: {said}");
    }
}

const CLUSTER: &str =
    "[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"127.0.0.1:3001\"\n";

/// What users of other proxies write, and what they must be told; in the end whether it may
/// pass with a warning.
fn from_elsewhere() -> Vec<(&'static str, String, &'static [&'static str], bool)> {
    let route = |lines: &str| format!("{SITE}{CLUSTER}[[route]]\n{lines}\n");
    let nginx = "worker_processes auto;\nevents { worker_connections 1024; }\nhttp {\n  server {\n    \
                 listen 80;\n    location / { proxy_pass http://127.0.0.1:3001; }\n  }\n}\n";
    vec![
        (
            "a star at the end of a path",
            route("path = \"/api/*\"\ncluster = \"app\""),
            &["/api/*", "\"/api\""][..],
            true,
        ),
        (
            "a cluster that no route uses",
            format!("{SITE}{}", CLUSTER.replace("app", "unused-one")),
            &["warning", "unused-one"],
            true,
        ),
        (
            "two expressions that match the same",
            route("path = \"~^/user/[0-9]+$\"\ncluster = \"app\"")
                + "[[route]]\npath = \"~^/user/.*\"\nrespond = { status = 404 }\n",
            &["warning", "~^/user/[0-9]+$", "~^/user/.*"],
            true,
        ),
        (
            "a redirect to a URL",
            route("redirect = \"https://www.example.com/new\""),
            &[
                "redirect = {",
                "scheme = \"https\"",
                "host = \"www.example.com\"",
                "path = \"/new\"",
            ],
            false,
        ),
        ("files", route("root = \"/var/www\""), &["root", "no files"], false),
        ("an nginx file", nginx.to_owned(), &["nginx", "millrace example"], false),
    ]
}

fn r44_the_right_form(driver: Driver) {
    if driver == Driver::Epoll {
        return; // nothing here depends on it
    }
    let mut wrong = String::new();
    for (what, config, words, may_pass) in from_elsewhere() {
        let (passes, said) = check(config.as_bytes());
        let is_told = words.iter().all(|word| said.contains(word));
        if !is_told || (passes && !may_pass) {
            wrong += &format!("{what}: passes: {passes}, wanted {words:?}, said: {said}\n");
        }
        if said.lines().count() > 30 {
            wrong += &format!("{what}: {} lines are no help\n", said.lines().count());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Neighbours of what is warned about.
fn r44_no_false_alarm(driver: Driver) {
    if driver == Driver::Epoll {
        return; // nothing here depends on it
    }
    let route = |lines: &str| format!("[[route]]\n{lines}\ncluster = \"app\"\n");
    let all = [
        route("path = \"~^/a/[0-9]+$\""),
        route("path = \"~^/b/[0-9]+$\""),
        // The same place, for others.
        route("path = \"~^/c/.*\"\nhost = \"one.example\""),
        route("path = \"~^/c/[a-z]+\"\nhost = \"two.example\""),
        route("path = \"~^/d/.*\"\nmethods = [\"GET\"]"),
        route("path = \"~^/d/[a-z]+\"\nmethods = [\"POST\"]"),
        route("path = \"=*\"\nmethods = [\"OPTIONS\"]"),
    ];
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n{CLUSTER}{}{}",
        route("path = \"/api/\""),
        all.concat()
    );
    let (passes, said) = check(config.as_bytes());
    assert!(passes && !said.contains("warning"), "{said}");
}
