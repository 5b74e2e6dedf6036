//! A real proxy on a free port, a raw client, a scripted origin: a test is a short script.

pub mod client;
pub mod h2;
pub mod origin;
pub mod proxy;
pub mod tls;

use std::net::SocketAddr;
use std::time::Duration;

pub use client::{Client, End, Reply};
pub use origin::{Does, Link, Origin, Request, reset};
pub use proxy::Proxy;

/// Nothing in a test may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the proxy waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    IoUring,
    Epoll,
}

/// Six requests with markers of their own, each on a fresh connection: a client that gets
/// another's answer, or none, has found a desync.
pub fn mark(proxy: &Proxy) {
    for number in 0..6 {
        let path = format!("/mark/{number}");
        let reply = proxy.get(&path);
        assert_eq!(reply.status, 200, "{path} after a fault: {}", reply.text());
        assert_eq!(reply.body, path.as_bytes(), "a foreign answer");
    }
}

/// No request came after one with this path on the same connection.
pub fn assert_last_on_its_connection(origin: &Origin, path: &str) {
    let requests = origin.requests();
    let mut found = 0;
    for (at, faulty) in requests.iter().enumerate().filter(|(_, one)| one.path() == path) {
        let later = requests[at + 1..].iter().find(|one| one.connection == faulty.connection);
        assert!(later.is_none(), "{} came on a connection after {path}", later.unwrap().path());
        found += 1;
    }
    assert!(found > 0, "no {path} reached the origin");
}

/// Waits for something that happens on another thread.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A cluster of these addresses; `more` are lines of it.
pub fn cluster(addresses: &[SocketAddr], more: &str) -> String {
    let mut text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"app\"\n[[cluster]]\n\
         name = \"app\"\n{more}\n"
    );
    for address in addresses {
        text += &format!("[[cluster.endpoint]]\naddress = \"{address}\"\n");
    }
    text
}

/// An address where no server listens, now.
pub fn nobody() -> SocketAddr {
    // Below the ports that the kernel gives to tests that run at the same time.
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let first = 20_000 + std::process::id() % 4_000;
    for _ in 0..8_000 {
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let port = u16::try_from(first + u32::from(next) % 8_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}

/// Tells threads that it is over, also where a test fails: they would be waited for otherwise.
pub struct Ends<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A program that is started next has this descriptor too.
pub fn keep_on_exec(socket: &impl std::os::fd::AsRawFd) {
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "F_SETFD in a test")]
    unsafe {
        libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, 0);
    }
}
