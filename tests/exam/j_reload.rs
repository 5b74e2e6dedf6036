//! Group J: another configuration in a running process, and the end of it: no request is lost.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::Row;
use crate::support::client::{Client, End};
use crate::support::proxy::temporary;
use crate::support::tls::{Authority, Flaw, Pair, TlsClient};
use crate::support::{Does, Driver, Ends, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("j01_listeners_come_and_go_under_load", j01_listeners_come_and_go),
        ("j02_the_same_for_kept_connections", j02_kept_connections),
        ("j05_a_port_that_cannot_be_had_changes_nothing", j05_a_port_that_is_taken),
        ("j07_a_download_outlives_its_listener", j07_a_download),
        ("j09_a_storm_of_reloads", j09_a_storm),
        ("j10_reloads_leave_nothing_behind", j10_nothing_is_left),
        ("j11_logs_and_cache_sizes_change", j11_logs_and_sizes),
        ("j03_another_number_of_workers_by_an_upgrade", j03_workers),
        ("j04_sixteen_upgrades_under_load", j04_upgrades),
        ("j04_the_same_for_kept_connections", j04_kept_connections),
        ("j04_the_disk_goes_along", j04_the_disk_goes_along),
        ("j06_a_new_process_that_dies", j06_a_new_process_that_dies),
        ("j08_a_restart_by_a_service_manager", j08_a_restart),
        ("j08_the_service_manager_is_told", j08_is_told),
    ]
}

pub(super) fn listener(name: &str, address: &str, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}")
}

pub(super) fn rest(origin: SocketAddr) -> String {
    format!(
        "[server]\ncores = 2\n[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{origin}\"\n\
         [[route]]\ncluster = \"app\"\n"
    )
}

/// A port that was free a moment ago.
pub(super) fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(super) fn is_served(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    drop(stream);
    let mut client = Client::connect(address);
    client.try_send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.reply().status == 200
}

/// Two listeners that stay, one of them over TLS, and clients that ask there until they are told that it is over.
struct Load {
    fixed: SocketAddr,
    secure: SocketAddr,
    trust: Arc<rustls::ClientConfig>,
    tls: String,
    _pair: Pair,
    is_over: AtomicBool,
    asked: AtomicUsize,
}

impl Load {
    fn new() -> Self {
        let authority = Authority::new();
        let pair = authority.pair(&["a.example"], Flaw::None);
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        Self {
            fixed: free(),
            secure: free(),
            trust: Arc::new(authority.client(None)),
            tls: format!(
                "tls = {{ certificates = [{{ certificate = \"{certificate}\", key = \"{key}\" }}] }}\n"
            ),
            _pair: pair,
            is_over: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        }
    }

    fn listeners(&self) -> String {
        let secure = listener("secure", &self.secure.to_string(), &self.tls);
        format!("{}{secure}", listener("fixed", &self.fixed.to_string(), ""))
    }

    fn count(&self) {
        self.asked.fetch_add(1, SeqCst);
    }

    fn plain(&self, keeps: bool) {
        let mut client = Client::connect(self.fixed);
        while !self.is_over.load(SeqCst) {
            assert!(client.try_send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n"), "closed without a word");
            let reply = client.reply();
            assert_eq!((reply.status, reply.is_complete), (200, true), "{}", reply.text());
            self.count();
            if !keeps || reply.closes() {
                client = Client::connect(self.fixed);
            }
        }
    }

    fn encrypted(&self, keeps: bool) {
        let connect = || TlsClient::connect(self.secure, "a.example", &self.trust).unwrap();
        let mut client = connect();
        while !self.is_over.load(SeqCst) {
            let reply = client.get("a.example", "/a").expect("an answer");
            assert_eq!(reply.status, 200);
            self.count();
            if !keeps || reply.closes() {
                client = connect();
            }
        }
    }

    /// Does something under load: no request may be lost meanwhile.
    fn under(&self, keeps: bool, act: impl FnOnce()) {
        std::thread::scope(|scope| {
            let _ends = Ends(&self.is_over);
            (0..6).for_each(|_| drop(scope.spawn(|| self.plain(keeps))));
            (0..2).for_each(|_| drop(scope.spawn(|| self.encrypted(keeps))));
            act();
        });
        self.is_over.store(false, SeqCst);
    }

    fn some(&self) {
        let before = self.asked.load(SeqCst);
        until("some load", || self.asked.load(SeqCst) > before + 60);
    }
}

/// Others are added, moved and taken away around the listeners that stay: their numbers change too.
fn sixteen_reloads(driver: Driver, keeps: bool) {
    let (origin, load, other) = (Origin::echo(), Load::new(), free());
    let base = load.listeners();
    let proxy = Proxy::run(driver, &format!("{base}{}", rest(origin.address)), &[], None);
    load.under(keeps, || {
        let mut last = None;
        for round in 0..16 {
            load.some();
            let address = if round % 2 == 0 { other } else { free() };
            let moved = listener("other", &address.to_string(), "");
            // In front of the others, behind them, or gone.
            let (text, address) = match round % 3 {
                0 => (format!("{moved}{base}"), Some(address)),
                1 => (format!("{base}{moved}"), Some(address)),
                _ => (base.clone(), None),
            };
            proxy.reload(&format!("{text}{}", rest(origin.address)));
            if let Some(address) = address {
                until("the new listener", || is_served(address));
            }
            if let Some(gone) = last.filter(|gone| Some(*gone) != address) {
                until("the old one to be closed", || TcpStream::connect(gone).is_err());
            }
            last = address;
        }
    });
    assert!(load.asked.load(SeqCst) > 900);
}

fn j01_listeners_come_and_go(driver: Driver) {
    sixteen_reloads(driver, false);
}

fn j02_kept_connections(driver: Driver) {
    sixteen_reloads(driver, true);
}

fn j05_a_port_that_is_taken(driver: Driver) {
    let origin = Origin::echo();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let fixed = free();
    let config = |more: &str| {
        format!("{}{more}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address))
    };
    let proxy = Proxy::run(driver, &config(""), &[], None);
    let new = free();
    let both = [new, taken.local_addr().unwrap()]
        .map(|one| listener(&one.port().to_string(), &one.to_string(), ""));
    proxy.rewrite(&config(&both.concat()));
    proxy.signal("HUP");
    until("the refusal", || proxy.log().contains("another program listens there"));
    assert!(is_served(fixed));
    assert!(TcpStream::connect(new).is_err(), "nothing of it is used");
    drop(taken);
    proxy.reload(&config(&both.concat()));
    assert!(is_served(new) && is_served(fixed));
}

/// Its listener goes, its process drains: what is under way ends as it should.
fn j07_a_download(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 20 << 20));
        for _ in 0..20 {
            link.send(vec![b'x'; 1 << 20]);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Does::Keep
    });
    let (fixed, other) = (free(), free());
    let config = |more: &str| {
        format!("{}{more}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address))
    };
    let mut proxy =
        Proxy::run(driver, &config(&listener("other", &other.to_string(), "")), &[], None);
    let mut clients = [other, fixed].map(|address| {
        let mut client = Client::connect(address);
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    });
    assert!(clients.iter_mut().all(|client| client.head().starts_with("HTTP/1.1 200")));
    proxy.reload(&config(""));
    until("its listener to be closed", || TcpStream::connect(other).is_err());
    proxy.signal("TERM");
    for client in &mut clients {
        let (rest, end) = client.read_to_end();
        assert_eq!((rest.len(), end), (20 << 20, End::Fin));
    }
    assert_eq!(proxy.wait(), Some(0));
}

fn j09_a_storm(driver: Driver) {
    let origin = Origin::echo();
    let fixed = free();
    let config = format!("{}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address));
    let mut proxy = Proxy::run(driver, &config, &[], None);
    for _ in 0..100 {
        proxy.signal("HUP");
    }
    assert!(is_served(fixed));
    until("the last of them", || is_served(fixed) && proxy.log().contains("read again"));
    proxy.signal("TERM");
    proxy.signal("HUP");
    assert_eq!(proxy.wait(), Some(0));
}

fn j10_nothing_is_left(driver: Driver) {
    let origin = Origin::echo();
    let (fixed, other) = (free(), free());
    let config = |more: &str| {
        format!("{}{more}{}", listener("fixed", &fixed.to_string(), ""), rest(origin.address))
    };
    let with = config(&listener("other", &other.to_string(), ""));
    let proxy = Proxy::run(driver, &config(""), &[], None);
    let threads =
        |proxy: &Proxy| std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap().count();
    let round = || {
        proxy.reload(&with);
        assert!(is_served(fixed) && is_served(other));
        proxy.reload(&config(""));
    };
    (0..5).for_each(|_| round());
    let settled = |proxy: &Proxy| (proxy.fds(), threads(proxy));
    let mut before = (0, 0);
    until("it to settle", || std::mem::replace(&mut before, settled(&proxy)) == before);
    let rss = proxy.rss();
    (0..40).for_each(|_| round());
    until("descriptors and threads to be given back", || {
        let (fds, threads) = settled(&proxy);
        fds <= before.0 + 2 && threads <= before.1
    });
    assert!(proxy.rss() < rss + rss / 10 + 4096, "{rss} KiB, then {} KiB", proxy.rss());
}

fn j11_logs_and_sizes(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        let body = "x".repeat(100_000);
        link.send(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000\r\n\r\n{body}"
        ));
        Does::Keep
    });
    let logs = [temporary("log"), temporary("log")];
    let config = |log: Option<&Path>, object: &str| {
        let log = log.map_or_else(String::new, |path| {
            format!("[access_log]\npath = \"{}\"\n", path.display())
        });
        format!(
            "{}{}cache = true\n{log}[cache]\nobject = \"{object}\"\n",
            listener("web", "127.0.0.1:0", ""),
            rest(origin.address)
        )
    };
    let lines = |at: usize| std::fs::read_to_string(&logs[at]).unwrap_or_default().lines().count();
    let mut proxy = Proxy::run(driver, &config(Some(&logs[0]), "1MiB"), &[], None);
    let fetches = |path: &str| {
        let before = origin.requests().len();
        (0..2).for_each(|_| assert_eq!(proxy.get(path).status, 200));
        origin.requests().len() - before
    };
    assert_eq!(fetches("/a"), 1);
    until("the first log", || lines(0) == 2);
    proxy.reload(&config(Some(&logs[1]), "50KiB"));
    assert_eq!(fetches("/b"), 2, "it is too large now");
    assert_eq!(fetches("/a"), 0, "what is stored stays");
    // Each worker takes the new plan in its own time: until then it writes to the log before.
    until("all that was asked", || lines(0) + lines(1) == 6);
    until("the second log", || {
        proxy.get("/a");
        lines(1) > 4
    });
    proxy.reload(&config(None, "1MiB"));
    assert_eq!(fetches("/c"), 1);
    until("no log any more", || {
        let before = lines(0) + lines(1);
        (0..4).for_each(|_| drop(proxy.get("/a")));
        std::thread::park_timeout(Duration::from_millis(200));
        lines(0) + lines(1) == before
    });
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    logs.iter().for_each(|path| drop(std::fs::remove_file(path)));
}

/// A process that has taken over: it is ended with the test.
pub(super) struct Successor(pub(super) u32);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg("-9").arg(self.0.to_string()).status();
    }
}

/// Upgrades the process behind a socket; the number of the one that serves then.
pub(super) fn upgrade(socket: &Path) -> Result<Successor, String> {
    let told = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["upgrade", "--json", "--admin", &format!("unix:{}", socket.display())])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let value: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    match value.and_then(|value| value["pid"].as_u64()) {
        Some(pid) => Ok(Successor(u32::try_from(pid).unwrap())),
        None => Err(String::from_utf8_lossy(&told.stderr).into_owned()),
    }
}

pub(super) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

pub(super) fn admin(socket: &Path) -> String {
    format!("[admin]\naddress = \"unix:{}\"\n", socket.display())
}

fn upgrades(driver: Driver, keeps: bool, count: usize) {
    let (origin, load, socket) = (Origin::echo(), Load::new(), temporary("sock"));
    let served = rest(origin.address).replace("cores = 2", "cores = 2\ndrain = \"4s\"");
    let config = format!("{}{}{served}", admin(&socket), load.listeners());
    let mut proxy = Proxy::run(driver, &config, &[], None);
    until("the admin socket", || socket.exists());
    let mut all = Vec::new();
    load.under(keeps, || {
        for _ in 0..count {
            load.some();
            all.push(upgrade(&socket).unwrap());
        }
        load.some();
        let (last, before) = all.split_last().unwrap();
        until("the processes before to end", || {
            proxy.is_dead() && before.iter().all(|one| !is_alive(one.0))
        });
        assert!(is_alive(last.0));
    });
    assert_eq!(proxy.wait(), Some(0), "{}", proxy.log());
    assert!(
        !proxy.log().contains("cut off at the end") || proxy.log().contains("; 0 cut off"),
        "{}",
        proxy.log()
    );
    assert!(is_served(load.fixed));
    drop(all);
    let _ = std::fs::remove_file(&socket);
}

fn j04_upgrades(driver: Driver) {
    upgrades(driver, false, 16);
}

fn j04_kept_connections(driver: Driver) {
    upgrades(driver, true, 4);
}

fn j03_workers(driver: Driver) {
    let (origin, load, socket) = (Origin::echo(), Load::new(), temporary("sock"));
    let config = |cores: usize| {
        let served =
            rest(origin.address).replace("cores = 2", &format!("cores = {cores}\ndrain = \"2s\""));
        format!("{}{}{served}", admin(&socket), load.listeners())
    };
    let proxy = Proxy::run(driver, &config(2), &[], None);
    until("the admin socket", || socket.exists());
    let mut all = Vec::new();
    load.under(false, || {
        for cores in [1, 2, 1, 2] {
            load.some();
            proxy.rewrite(&config(cores));
            all.push(upgrade(&socket).unwrap());
            load.some();
        }
    });
    assert!(is_served(load.fixed));
    drop(all);
    let _ = std::fs::remove_file(&socket);
}

fn j04_the_disk_goes_along(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok");
        Does::Keep
    });
    let (socket, folder, fixed) = (temporary("sock"), temporary("cache"), free());
    let served = rest(origin.address).replace("cores = 2", "cores = 1\ndrain = \"1s\"");
    let config = format!(
        "{}{}{served}cache = true\n[cache]\ndisk = \"{}\"\n",
        admin(&socket),
        listener("fixed", &fixed.to_string(), ""),
        folder.display()
    );
    std::fs::create_dir(&folder).unwrap();
    let proxy = Proxy::run(driver, &config, &[], None);
    until("the admin socket", || socket.exists());
    let get = || {
        let mut client = Client::connect(fixed);
        client.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    };
    get();
    let next = upgrade(&socket).unwrap();
    let before = origin.requests().len();
    until("the stored response", || {
        let asked = origin.requests().len();
        get();
        origin.requests().len() == asked
    });
    assert!(origin.requests().len() <= before + 1, "it was on the disk");
    assert!(!proxy.log().contains("another process"), "{}", proxy.log());
    drop((next, proxy));
    let _ = std::fs::remove_dir_all(&folder);
    let _ = std::fs::remove_file(&socket);
}

/// The file is bad by now: the new process refuses it, and the old one goes on, and can be asked again.
fn j06_a_new_process_that_dies(driver: Driver) {
    let (origin, load, socket) = (Origin::echo(), Load::new(), temporary("sock"));
    let good = format!("{}{}{}", admin(&socket), load.listeners(), rest(origin.address));
    let mut proxy = Proxy::run(driver, &good, &[], None);
    until("the admin socket", || socket.exists());
    load.under(true, || {
        for bad in ["[[listener]]\n", "[cache]\nmemory = \"1B\"\n"] {
            load.some();
            proxy.rewrite(bad);
            let why = upgrade(&socket).map(|one| one.0).unwrap_err();
            assert!(why.contains("this process goes on"), "{why}");
            assert!(!proxy.is_dead() && is_served(load.fixed));
        }
        proxy.signal("USR2");
        until("the refusal", || proxy.log().matches("this process goes on").count() == 3);
        load.some();
    });
    // What is good again is taken.
    proxy.rewrite(&good);
    let next = upgrade(&socket).unwrap();
    assert!(is_served(load.fixed) && is_alive(next.0));
    drop(next);
    let _ = std::fs::remove_file(&socket);
}

/// As systemd does: it has the sockets, ends one process, and starts another with them.
fn activated(
    driver: Driver,
    config: &Path,
    sockets: &[&std::net::TcpListener],
) -> std::process::Child {
    let driver = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
    let moves: String = sockets
        .iter()
        .enumerate()
        .map(|(at, one)| format!("{}<&{} ", 3 + at, std::os::fd::AsRawFd::as_raw_fd(*one)))
        .collect();
    for socket in sockets {
        crate::support::keep_on_exec(*socket);
    }
    let program = env!("CARGO_BIN_EXE_millrace");
    Command::new("bash")
        .arg("-c")
        .arg(format!(
            "exec {moves}; export LISTEN_PID=$$ LISTEN_FDS={}; exec {program} run --driver {driver} --config {}",
            sockets.len(),
            config.display()
        ))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn j08_a_restart(driver: Driver) {
    let (origin, load) = (Origin::echo(), Load::new());
    let plain = std::net::TcpListener::bind(load.fixed).unwrap();
    let secure = std::net::TcpListener::bind(load.secure).unwrap();
    let file = temporary("toml");
    let served = rest(origin.address).replace("cores = 2", "cores = 2\ndrain = \"3s\"");
    let config = format!("{}{served}", load.listeners())
        .replace("[[cluster]]", "[[cluster]]\nhealth = { type = \"off\" }");
    std::fs::write(&file, config).unwrap();
    let start = || activated(driver, &file, &[&plain, &secure]);
    let mut child = start();
    until("it to serve", || is_served(load.fixed));
    load.under(false, || {
        for _ in 0..4 {
            load.some();
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            assert_eq!(child.wait().unwrap().code(), Some(0));
            child = start();
            load.some();
        }
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = std::fs::remove_file(&file);
}

/// READY, RELOADING, STOPPING, WATCHDOG: as `Type=notify-reload` wants them.
fn j08_is_told(driver: Driver) {
    let origin = Origin::echo();
    let path = temporary("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let config = format!("{}{}", listener("fixed", "127.0.0.1:0", ""), rest(origin.address));
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "900000")];
    let mut proxy = Proxy::run(driver, &config, &env, None);
    let heard = std::cell::RefCell::new(String::new());
    let hears = |what: &str| {
        until(what, || {
            let mut bytes = [0; 4096];
            while let Ok(len) = manager.recv(&mut bytes) {
                heard
                    .borrow_mut()
                    .push_str(&format!("{}|", String::from_utf8_lossy(&bytes[..len])));
            }
            heard.borrow().contains(what)
        });
        heard.borrow_mut().clear();
    };
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    proxy.reload(&config);
    hears("RELOADING=1");
    proxy.signal("TERM");
    hears("STOPPING=1");
    assert_eq!(proxy.wait(), Some(0));
    let _ = std::fs::remove_file(&path);
}
