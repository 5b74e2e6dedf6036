//! Group P: the process and what is done to it: killed, stopped, refused its ring, its logs full or closed.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::Row;
use crate::support::client::{Client, End};
use crate::support::proxy::temporary;
use crate::support::{Does, Driver, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("p01_killed_in_the_middle_of_an_answer", p01_killed),
        ("p02_a_panic_ends_one_connection", crate::behaviour::panic_ends_one),
        ("p03_a_core_that_stands_still", p03_stall),
        ("p04_without_io_uring_it_serves_on_epoll", p04_without_io_uring),
        ("p05_little_memory_may_be_locked", p05_little_locked_memory),
        ("p06_restarts_back_to_back", p06_restarts),
        ("p08_more_completions_than_room", p08_overflow),
        ("p09_timeouts_that_race_answers", p09_cancels),
        ("p12_soak_with_faults", p12_soak),
        ("p13_another_user", p13_another_user),
        ("p10_logs_of_ones_own", p10_logs_of_ones_own),
        ("p10_logs_that_are_full_or_closed", p10_logs),
        ("p11_stopped_and_continued", p11_stopped),
    ]
}

/// Half an answer cannot be taken for a whole one, whatever ends it.
fn p01_killed(driver: Driver) {
    let origin = Origin::scripted(|request, link| {
        let framing = if request.path() == "/length" {
            "Content-Length: 1000"
        } else {
            "Transfer-Encoding: chunked"
        };
        link.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        link.send(if request.path() == "/length" { "half" } else { "4\r\nhalf\r\n" });
        while link.more() {}
        Does::Close
    });
    let mut proxy = Proxy::before(driver, &origin);
    let mut clients = ["/length", "/chunked"].map(|path| {
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client
    });
    proxy.signal("KILL");
    proxy.forget_death();
    for client in &mut clients {
        let (rest, end) = client.read_to_end();
        assert!(!rest.ends_with(b"0\r\n\r\n") && rest.len() < 1000, "{}", rest.escape_ascii());
        assert_ne!(end, End::Open);
    }
    until("it to be gone", || proxy.is_dead());
}

/// The others accept in its place: what the system still gives it is not kept waiting.
fn p03_stall(driver: Driver) {
    let origin = Origin::echo();
    let socket = temporary("sock");
    let config = format!(
        "[server]\ncores = 2\n[admin]\naddress = \"unix:{}\"\n{}",
        socket.display(),
        cluster(&[origin.address], "")
    );
    let proxy = Proxy::run(driver, &config, &[("MILLRACE_TEST", "panic")], None);
    if !cfg!(debug_assertions) {
        return; // the hook is not in release builds
    }
    let mut holder = proxy.connect();
    holder.send("GET /held HTTP/1.1\r\nHost: a\r\nX-Millrace-Stall: 5000\r\n\r\n");
    until("the report", || proxy.log().contains("stands still"));
    for _ in 0..40 {
        assert_eq!(proxy.get("/x").status, 200);
    }
    assert!(!proxy.log().contains("goes on"), "none of them waited");
    let ask = |word: &str| {
        let address = format!("unix:{}", socket.display());
        let told = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args([word, "--admin", &address])
            .output()
            .unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    assert!(ask("status").contains("stands still"));
    let stats = ask("stats");
    assert!(stats.starts_with("40 requests"), "{stats}");
    assert!(!proxy.log().contains("goes on"), "what is asked does not wait for it");
    // It goes on where it was, and accepts for itself again.
    assert_eq!(holder.reply().status, 200);
    until("its return", || proxy.log().contains("goes on"));
    for _ in 0..40 {
        assert_eq!(proxy.get("/y").status, 200);
    }
    assert_eq!(proxy.log().matches("stands still:").count(), 1, "{}", proxy.log());
}

/// A program that a seccomp filter keeps from making a ring, as containers do.
const REFUSES: &str = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
filters = b''.join(struct.pack('HBBI', *one) for one in code)
kept = ctypes.create_string_buffer(filters)
program = struct.pack('HxxxxxxP', len(code), ctypes.addressof(kept))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
";

/// Whatever driver was asked for: `auto` is what falls back, and `io_uring` says why it cannot start.
fn p04_without_io_uring(driver: Driver) {
    let origin = Origin::echo();
    let file = temporary("toml");
    std::fs::write(&file, cluster(&[origin.address], "health = { type = \"off\" }")).unwrap();
    let name = if driver == Driver::IoUring { "io_uring" } else { "auto" };
    let (mut child, said) = behind(REFUSES, name, &file);
    if driver == Driver::IoUring {
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.contains("cannot start"), "{said}");
    } else {
        assert_eq!(said.matches("using epoll instead").count(), 1, "{said}");
        serves(&mut child, &said);
    }
    let _ = std::fs::remove_file(&file);
}

/// Starts millrace by this program of Python; what it says until it listens, or to its end.
fn behind(program: &str, driver: &str, file: &Path) -> (Child, String) {
    let binary = env!("CARGO_BIN_EXE_millrace");
    let mut child = Command::new("python3")
        .args(["-c", program, binary, "run", "--cores", "1", "--driver", driver, "--config"])
        .arg(file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = child.stderr.take().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(errors)).map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines {
        let is_over = line.contains("listening on");
        said.push(line);
        if is_over {
            break;
        }
    }
    (child, said.join("\n"))
}

/// It answers where it says that it listens; then it is ended.
fn serves(child: &mut Child, said: &str) {
    let address = said.split("http://").nth(1).unwrap_or_else(|| panic!("{said}"));
    let mut client = Client::connect(address.split(' ').next().unwrap().parse().unwrap());
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A program that may lock 64 KiB of memory, and has no right to more.
const LOCKS_LITTLE: &str = "
import ctypes, os, resource, sys
ctypes.CDLL(None).prctl(24, 14, 0, 0, 0)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
os.execv(sys.argv[1], sys.argv[1:])
";

/// Kernels before 5.12 count a ring as locked memory: then `auto` takes epoll, and says so once.
fn p05_little_locked_memory(driver: Driver) {
    let origin = Origin::echo();
    let file = temporary("toml");
    std::fs::write(&file, cluster(&[origin.address], "health = { type = \"off\" }")).unwrap();
    let name = if driver == Driver::IoUring { "auto" } else { "epoll" };
    let (mut child, said) = behind(LOCKS_LITTLE, name, &file);
    assert!(said.matches("using epoll instead").count() <= 1, "{said}");
    serves(&mut child, &said);
    let _ = std::fs::remove_file(&file);
}

/// A core that was held finds more completions than its ring has room for.
fn p08_overflow(driver: Driver) {
    let origin = Origin::echo();
    let hooks = [("MILLRACE_TEST", "panic,ring")];
    let proxy = Proxy::run(driver, &cluster(&[origin.address], ""), &hooks, None);
    if !cfg!(debug_assertions) {
        return; // the hooks are not in release builds
    }
    let mut holder = proxy.connect();
    let mut clients: Vec<Client> = (0..600).map(|_| proxy.connect()).collect();
    for round in 0..4 {
        holder.send("GET /held HTTP/1.1\r\nHost: a\r\nX-Millrace-Stall: 300\r\n\r\n");
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{round}/{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let reply = client.reply();
            assert_eq!((reply.status, reply.body), (200, format!("/{round}/{at}").into_bytes()));
        }
        assert_eq!(holder.reply().status, 200);
    }
    // It rests as soon as there is nothing to do: half a second of a core is 50 ticks.
    until("it to rest", || {
        let before = proxy.cpu_ticks();
        std::thread::park_timeout(Duration::from_millis(500));
        proxy.cpu_ticks() - before < 10
    });
}

/// Answers that come just when they are given up, and clients that leave in between.
fn p09_cancels(driver: Driver) {
    let origin = Origin::scripted(|_, link| {
        link.forget();
        std::thread::park_timeout(Duration::from_millis(95));
        Does::Keep
    });
    let more = "timeouts = { first_byte = \"100ms\" }\n";
    let config = cluster(&[origin.address], "health = { type = \"off\" }")
        .replace("[[cluster]]", &format!("{more}[[cluster]]"));
    let proxy = Proxy::run(driver, &config, &[], None);
    let before = proxy.fds();
    let (in_time, late) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let talk = |from: usize| {
        let mut client = proxy.connect();
        for at in 0..30 {
            let path = format!("/{from}/{at}");
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            // One of eight leaves at a time that is near the others' end.
            if (from + at).is_multiple_of(8) {
                std::thread::park_timeout(Duration::from_millis(95));
                client = proxy.connect();
                continue;
            }
            let reply = client.reply();
            match reply.status {
                200 => {
                    assert_eq!(reply.body, path.into_bytes());
                    in_time.fetch_add(1, Ordering::Relaxed);
                }
                504 => drop(late.fetch_add(1, Ordering::Relaxed)),
                other => panic!("{other} {}", reply.head),
            }
            if reply.closes() {
                client = proxy.connect();
            }
        }
    };
    std::thread::scope(|all| (0..32).for_each(|from| drop(all.spawn(move || talk(from)))));
    let (in_time, late) = (in_time.into_inner(), late.into_inner());
    assert!(in_time > 0 && in_time + late == 32 * 30 - 120, "{in_time} in time, {late} late");
    until("descriptors to be given back", || proxy.fds() <= before + 40);
    assert_eq!(proxy.get("/after").status, 200);
}

/// One answer of a hundred breaks; `MILLRACE_SOAK=10000000` for the length of a day.
fn p12_soak(driver: Driver) {
    let served = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&served);
    let origin = Origin::scripted(move |request, link| {
        link.forget();
        let body = request.path().repeat(200);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        match counted.fetch_add(1, Ordering::Relaxed) % 300 {
            0 => return Does::Reset,
            100 => {
                link.send(head + &body[..body.len() / 2]);
                return Does::Close;
            }
            200 => {
                link.send(head + &body[..body.len() / 2]);
                return Does::Reset;
            }
            _ => link.send(head + &body),
        }
        Does::Keep
    });
    let more = "health = { type = \"off\" }\npassive = { failures = 0 }\n";
    let proxy = Proxy::run(driver, &cluster(&[origin.address], more), &[], None);
    let length = std::env::var("MILLRACE_SOAK").map_or(16_000, |text| text.parse().unwrap());
    let broken = AtomicUsize::new(0);
    let talk = |from: usize, count: usize| {
        let mut client = proxy.connect();
        for at in 0..count {
            let path = format!("/{from}/{at}");
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let reply = client.reply();
            let is_whole = reply.status == 200 && reply.is_complete;
            assert!(!is_whole || reply.body == path.repeat(200).into_bytes(), "corrupt: {path}");
            if !is_whole {
                broken.fetch_add(1, Ordering::Relaxed);
            }
            if !reply.is_complete || reply.closes() {
                client = proxy.connect();
            }
        }
    };
    let part = |count: usize| {
        std::thread::scope(|all| {
            (0..8).for_each(|from| drop(all.spawn(move || talk(from, count))))
        });
    };
    part(length / 16);
    let (rss, fds) = (proxy.rss(), proxy.fds());
    part(length / 16);
    assert!(proxy.rss() <= rss + rss / 20 + 1024, "{rss} KiB, then {} KiB", proxy.rss());
    until("descriptors to be as before", || proxy.fds() <= fds + 8);
    let broken = broken.into_inner();
    assert!(broken * 50 <= length, "{broken} of {length}");
}

/// Rings are given back late: the next process has its own all the same, on the same port.
fn p06_restarts(driver: Driver) {
    let origin = Origin::echo();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = cluster(&[origin.address], "").replace("127.0.0.1:0", &port.to_string());
    let config = format!("[server]\ncores = 2\n{config}");
    for round in 0..25 {
        let mut proxy = Proxy::run(driver, &config, &[], None);
        assert_eq!(proxy.get("/x").status, 200, "{round}");
        assert!(!proxy.log().contains("instead"), "{}", proxy.log());
        if round % 2 == 0 {
            proxy.signal("KILL");
            proxy.forget_death();
        } else {
            proxy.signal("TERM");
        }
        let _ = proxy.wait();
    }
}

/// A log that takes nothing costs lines, not requests.
fn p10_logs(driver: Driver) {
    let origin = Origin::echo();
    let full = format!("{}[access_log]\npath = \"/dev/full\"\n", cluster(&[origin.address], ""));
    let mut proxy = Proxy::run(driver, &full, &[], None);
    (0..50).for_each(|_| assert_eq!(proxy.get("/x").status, 200));
    until("one warning", || proxy.log().contains("lines are lost until it works again"));
    assert_eq!(proxy.log().matches("lines are lost").count(), 1);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    // Both standard streams closed, the log among them.
    let file = temporary("toml");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = cluster(&[origin.address], "health = { type = \"off\" }")
        .replace("127.0.0.1:0", &port.to_string());
    std::fs::File::create(&file)
        .unwrap()
        .write_all(format!("{config}[access_log]\npath = \"-\"\n").as_bytes())
        .unwrap();
    let name = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
    let mut child: Child = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["run", "--cores", "1", "--driver", name, "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    until("it to serve", || std::net::TcpStream::connect(port).is_ok());
    for _ in 0..50 {
        let mut client = Client::connect(port);
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    }
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let _ = std::fs::remove_file(&file);
}

/// Root becomes a user for ever; another user cannot become one at all.
fn p13_another_user(driver: Driver) {
    let origin = Origin::echo();
    let log = temporary("log");
    let config = format!(
        "[server]\ncores = 2\nuser = \"nobody\"\n[access_log]\npath = \"{}\"\n{}",
        log.display(),
        cluster(&[origin.address], "")
    );
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0);
    if is_root {
        let proxy = Proxy::run(driver, &config, &[], None);
        assert_eq!(proxy.get("/x").status, 200);
        let told = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap();
        for thread in told.flatten() {
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
            let word = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            assert_ne!(word("Uid:"), "0", "{status}");
            let is_worker = status.lines().next().unwrap().contains("worker-");
            let is_main = status.lines().next().unwrap().contains("millrace");
            for set in ["CapPrm:", "CapEff:", "CapInh:"] {
                let held = u64::from_str_radix(&word(set), 16).unwrap();
                // 1 << 10 is CAP_NET_BIND_SERVICE.
                assert_eq!(held & !(1 << 10), 0, "{set} {status}");
                assert!(!is_worker || held == 0, "{set} {status}");
            }
            // Threads that are older start nothing.
            assert!(word("NoNewPrivs:") == "1" || !is_worker && !is_main, "{status}");
        }
        // What root has opened is the user's, for what comes later.
        assert_ne!(std::fs::metadata(&log).unwrap().uid(), 0);
        proxy.reload(&config.replace("[access_log]\n", "[access_log]\nformat = \"combined\"\n"));
        until("a line of the new form", || {
            assert_eq!(proxy.get("/later").status, 200);
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("GET /later HTTP"))
        });
        assert!(!proxy.log().contains("cannot be opened anew"), "{}", proxy.log());
    }
    let _ = std::fs::remove_file(&log);
    let file = temporary("toml");
    std::fs::write(&file, config.replace("nobody", "no-such-user")).unwrap();
    let told =
        Command::new(env!("CARGO_BIN_EXE_millrace")).arg("check").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.code() == Some(2) && text.contains("there is no user"), "{text}");
    let _ = std::fs::remove_file(&file);
}

/// A form of one's own to another machine's syslog, of which a part is written; what fails always is.
fn p10_logs_of_ones_own(driver: Driver) {
    let origin = Origin::echo();
    let syslog = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    syslog.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let place = syslog.local_addr().unwrap();
    let log = |sample: &str| {
        format!(
            "{}[[route]]\npath = \"/quiet\"\naccess_log = false\nrespond = {{ status = 500 }}\n[[route]]\npath = \"/bad\"\n\
             respond = {{ status = 500 }}\n[access_log]\npath = \"syslog:{place}\"\nformat = \"{{upstream_version}} {{status}} {{target}} {{traceparent}}\"\n\
             sample = {sample}\n",
            cluster(&[origin.address], "")
        )
    };
    let proxy = Proxy::run(driver, &log("0.0"), &[], None);
    let heard = std::cell::RefCell::new(Vec::new());
    let hears = |count: usize| {
        until("the lines", || {
            let mut bytes = [0; 2048];
            while let Ok(len) = syslog.recv(&mut bytes) {
                heard.borrow_mut().push(String::from_utf8_lossy(&bytes[..len]).into_owned());
            }
            heard.borrow().len() >= count
        });
        heard.take()
    };
    (0..20).for_each(|_| assert_eq!(proxy.get("/fine").status, 200));
    assert_eq!(proxy.get("/quiet").status, 500);
    assert_eq!(proxy.get("/bad").status, 500);
    let lines = hears(1);
    assert!(
        lines.len() == 1 && lines[0].starts_with("<134>1 ") && lines[0].ends_with(" - 500 /bad -"),
        "{lines:?}"
    );
    proxy.reload(&log("1"));
    let mut client = proxy.connect();
    client.send("GET /fine HTTP/1.1\r\nHost: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    let lines = hears(1);
    assert!(
        lines[0].ends_with(
            " HTTP/1.1 200 /fine 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ),
        "{lines:?}"
    );
    proxy.reload(&log("0.5"));
    (0..200).for_each(|_| assert_eq!(proxy.get("/half").status, 200));
    assert_eq!(proxy.get("/bad").status, 500);
    let lines = hears(51);
    let half = lines.iter().filter(|line| line.contains("/half")).count();
    assert!((40..160).contains(&half), "{half} of 200");
}

/// Time that did not pass for the process is held against nothing.
fn p11_stopped(driver: Driver) {
    let (one, two) = (Origin::echo(), Origin::echo());
    let more = "health = { path = \"/up\", interval = \"200ms\", timeout = \"100ms\", fall = 2, rise = 1 }";
    let proxy = Proxy::run(driver, &cluster(&[one.address, two.address], more), &[], None);
    let mut kept = proxy.connect();
    let ask = |client: &mut Client| {
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    };
    ask(&mut kept);
    proxy.signal("STOP");
    std::thread::park_timeout(Duration::from_secs(3));
    proxy.signal("CONT");
    ask(&mut kept);
    (0..20).for_each(|_| assert_eq!(proxy.get("/x").status, 200));
    assert!(!proxy.log().contains("are up: their checks are ignored"), "{}", proxy.log());
    assert!(!proxy.log().contains("is put out"), "{}", proxy.log());
    for origin in [&one, &two] {
        let before = origin.requests().iter().filter(|one| one.path() == "/x").count();
        until("both to be asked", || {
            proxy.get("/x");
            origin.requests().iter().filter(|one| one.path() == "/x").count() > before
        });
    }
}
