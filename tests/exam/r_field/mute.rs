//! Row R04: standard error and standard output are full pipes that are not read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::proxy::temporary;
use crate::support::{Client, Driver, PATIENCE, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("r04_no_thread_waits_for_standard_error", r04_no_thread_waits),
        ("r04_what_was_dropped_is_counted", r04_what_was_dropped_is_counted),
        ("r04_it_ends_when_it_is_told_to", r04_it_ends),
    ]
}

/// A proxy whose messages are not read, behind pipes of a page.
struct Mute {
    child: Child,
    errors: Option<BufReader<ChildStderr>>,
    address: SocketAddr,
    file: PathBuf,
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Its one route of our own has this body; `/broken` leads to a server that speaks no TLS.
fn config(port: u16, body: &str, broken: SocketAddr) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:{port}\"\n[[route]]\nrespond = {{ status = 200, body = \
         \"{body}\" }}\n[[route]]\npath = \"/broken\"\ncluster = \"broken\"\n[[cluster]]\nname = \
         \"broken\"\nhealth = {{ type = \"off\" }}\ntls = {{ verify = false }}\n\
         [[cluster.endpoint]]\naddress = \"{broken}\"\n[access_log]\npath = \"-\"\n"
    )
}

/// Closes each connection: no TLS can be had there.
fn broken() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    address
}

fn free_port() -> u16 {
    crate::support::nobody().port()
}

impl Mute {
    fn run(driver: Driver, config: &str) -> Self {
        let file = temporary("toml");
        std::fs::write(&file, config).unwrap();
        let driver = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["run", "--driver", driver, "--cores", "1", "--config"])
            .arg(&file)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        shrink(child.stdout.as_ref().unwrap());
        let errors = child.stderr.take().unwrap();
        shrink(&errors);
        let mut errors = BufReader::with_capacity(1, errors);
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(errors.read_line(&mut line).unwrap() > 0, "it ended");
        }
        let address = line.split("://").nth(1).unwrap();
        let address = address.split([',', ' ', '\n']).next().unwrap().parse().unwrap();
        Self { child, errors: Some(errors), address, file }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut client = Client::connect(self.address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = client.reply();
        (reply.status, reply.body)
    }

    /// It has had nothing to do for half a second.
    fn until_idle(&self) {
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let (mut before, mut since) = (ticks(), Instant::now());
        until("it to be idle", || {
            let now = ticks();
            if now > before {
                (before, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_millis(500)
        });
    }

    /// A file with so many faults that saying them fills the pipe many times over.
    fn fill(&self) {
        let faults: String = (0..500).map(|number| format!("no_such_key_{number} = 1\n")).collect();
        std::fs::write(&self.file, faults).unwrap();
        self.signal("HUP");
        // Standard output gets a line for each.
        for _ in 0..100 {
            assert_eq!(self.get("/").0, 200);
        }
        let errors = self.errors.as_ref().unwrap().get_ref();
        // How much of a long write a pipe of one page takes depends on its length.
        until("standard error to be full", || waiting(errors) > 0);
        self.until_idle();
    }
}

/// A pipe of one page.
fn shrink(pipe: &impl AsRawFd) {
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "a pipe's size in a test")]
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    assert!(size > 0);
}

/// Octets that wait in a pipe.
fn waiting(pipe: &impl AsRawFd) -> i32 {
    let mut count: i32 = 0;
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "FIONREAD in a test")]
    unsafe {
        libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count);
    }
    count
}

/// The coordinator has said more than there is room for: requests are served, also those of which a
/// worker has something to say, and what the coordinator is told is done.
fn r04_no_thread_waits(driver: Driver) {
    let (port, server) = (free_port(), broken());
    let proxy = Mute::run(driver, &config(port, "old", server));
    proxy.fill();
    for _ in 0..3 {
        let begun = Instant::now();
        assert!([502, 503].contains(&proxy.get("/broken").0));
        assert_eq!(proxy.get("/"), (200, b"old".to_vec()));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    std::fs::write(&proxy.file, config(port, "new", server)).unwrap();
    proxy.signal("HUP");
    until("the configuration to be read", || proxy.get("/").1 == b"new");
}

/// More than wait for their writer (`limits::NOTICES`), each about a file that is not there.
const MESSAGES: usize = 5000;

/// A reader that comes back is told how much is missing.
fn r04_what_was_dropped_is_counted(driver: Driver) {
    let (port, server) = (free_port(), broken());
    let mut proxy = Mute::run(driver, &config(port, "old", server));
    proxy.fill();
    let mut many = config(port, "new", server);
    for number in 0..MESSAGES {
        many += &format!(
            "[[cluster]]\nname = \"{number}\"\nhealth = {{ type = \"off\" }}\ntls = {{ ca = \"/none\" \
             }}\n[[cluster.endpoint]]\naddress = \"127.0.0.1:1\"\n"
        );
    }
    std::fs::write(&proxy.file, many).unwrap();
    proxy.signal("HUP");
    proxy.until_idle();
    let mut errors = proxy.errors.take().unwrap().into_inner();
    let log = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(len @ 1..) = errors.read(&mut part) {
            shared.lock().unwrap().push_str(&String::from_utf8_lossy(&part[..len]));
        }
    });
    std::fs::write(&proxy.file, config(port, "new", server)).unwrap();
    proxy.signal("HUP");
    until("the configuration to be read", || proxy.get("/").1 == b"new");
    let says = |log: &str| log.contains(" messages found no room here");
    until("the number of messages that were dropped", || says(&log.lock().unwrap()));
}

fn r04_it_ends(driver: Driver) {
    let (port, server) = (free_port(), broken());
    let mut proxy = Mute::run(driver, &config(port, "old", server));
    proxy.fill();
    proxy.signal("TERM");
    let begun = Instant::now();
    until("it to end", || proxy.child.try_wait().unwrap().is_some());
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(proxy.child.wait().unwrap().code(), Some(0));
}
