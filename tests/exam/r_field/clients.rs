//! Group R, rows R20 to R24, R27 and R34: clients as they are. They leave, end one side, send a body
//! that was answered already, fall silent, and each of them is told what it needs to know.

mod gone;
mod half_closed;
mod replayed;
mod second_look;
mod silent;
mod streams;
mod uploads;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::h2::{ACK, Frame, Peer, SETTINGS, frame};
use crate::support::{Driver, Link, Origin, Proxy, Request, cluster};

pub fn rows() -> Vec<Row> {
    let all = [
        gone::rows(),
        half_closed::rows(),
        uploads::rows(),
        streams::rows(),
        replayed::rows(),
        silent::rows(),
        second_look::rows(),
    ];
    all.into_iter().flatten().collect()
}

/// Waits for something that must happen within `most`.
fn soon(what: &str, most: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < most, "{what}: not within {most:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// An origin that answers late or never, and notes which of its requests were given up: by the end of
/// their connections.
struct Holding {
    origin: Origin,
    ended: Arc<Mutex<Vec<String>>>,
    is_open: Arc<AtomicBool>,
}

impl Holding {
    /// `/held…` is never answered, of `/sse…` only the beginning comes, `/gate…` is answered when the
    /// gate opens, everything else at once.
    fn new() -> Self {
        let (ended, is_open) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (shared, gate) = (Arc::clone(&ended), Arc::clone(&is_open));
        let origin = Origin::raw(move |link| {
            while let Some(request) = link.request() {
                let path = request.path();
                if path.starts_with("/held") || path.starts_with("/sse") {
                    begin(&request, link);
                    while link.more() {}
                    return shared.lock().unwrap().push(path.to_owned());
                }
                let begun = Instant::now();
                while path.starts_with("/gate") && !gate.load(SeqCst) {
                    assert!(begun.elapsed() < Duration::from_secs(30), "a gate that stays shut");
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                let len = path.len();
                let cache = "Cache-Control: max-age=60";
                link.send(format!(
                    "HTTP/1.1 200 OK\r\n{cache}\r\nContent-Length: {len}\r\n\r\n{path}"
                ));
            }
        });
        Self { origin, ended, is_open }
    }

    fn open(&self) {
        self.is_open.store(true, SeqCst);
    }

    fn is_asked(&self, path: &str) -> bool {
        self.origin.requests().iter().any(|one| one.path() == path)
    }

    /// The origin was told that this is not wanted any more.
    fn is_told(&self, path: &str) -> bool {
        self.ended.lock().unwrap().iter().any(|one| one == path)
    }
}

/// What of an answer comes before the silence.
fn begin(request: &Request, link: &mut Link) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    match request.path() {
        path if path.starts_with("/sse/chunked") => {
            link.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"));
        }
        path if path.starts_with("/sse") => link.send(format!("{head}\r\ndata: 1\n\n")),
        _ => {}
    }
}

/// An origin that speaks HTTP/2: `script` sees each frame that comes, and which connection it is.
fn h2_origin(script: impl Fn(usize, Frame, &mut Peer) + Send + Sync + 'static) -> Origin {
    h2_origin_with(&[], script)
}

/// The same with settings of its own.
fn h2_origin_with(
    settings: &'static [(u16, u32)],
    script: impl Fn(usize, Frame, &mut Peer) + Send + Sync + 'static,
) -> Origin {
    Origin::raw(move |link| {
        let mut peer = Peer::accept(link.stream.try_clone().unwrap(), settings);
        while let Some(next) = peer.frame() {
            if next.kind == SETTINGS && next.flags & ACK == 0 {
                peer.send(frame(SETTINGS, ACK, 0, b""));
            }
            script(link.number, next, &mut peer);
        }
    })
}

/// A proxy in front of such an origin.
fn h2_proxy(driver: Driver, origin: &Origin, more: &str) -> Proxy {
    let text = cluster(&[origin.address], "protocol = \"http2\"");
    Proxy::run(driver, &format!("{text}{more}"), &[], None)
}

/// The value of a field in a head of HTTP/2.
fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
}
