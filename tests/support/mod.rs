//! A real proxy on a free port, a raw client, a scripted origin: a test is a short script.

pub mod client;
pub mod origin;
pub mod proxy;

use std::time::Duration;

pub use client::{Client, End, Reply};
pub use origin::{Does, Origin, Request};
pub use proxy::Proxy;

/// Nothing in a test may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the proxy waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    IoUring,
    Epoll,
}

/// Six requests with markers of their own, each on a fresh connection: whoever gets somebody
/// else's answer, or none, has found a desync.
pub fn mark(proxy: &Proxy) {
    for number in 0..6 {
        let path = format!("/mark/{number}");
        let reply = proxy.get(&path);
        assert_eq!(reply.status, 200, "{path} after a fault: {}", reply.text());
        assert_eq!(reply.body, path.as_bytes(), "a foreign answer");
    }
}

/// Waits for something that happens on another thread.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
