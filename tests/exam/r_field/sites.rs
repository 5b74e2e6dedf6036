//! Servers at addresses of their own, and the DNS server that knows them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::h2::{ACK, HEADERS, Peer, SETTINGS, frame};

/// How the DNS server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Slow(Duration),
    /// With this code and nothing else.
    Code(u8),
    Silent,
}

/// A DNS server that knows one set of addresses, whatever the name.
pub(super) struct Dns {
    pub(super) address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
    addresses: Arc<Mutex<Vec<IpAddr>>>,
}

impl Dns {
    pub(super) fn new(addresses: &[IpAddr], mood: Mood) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (mood, asked) = (Arc::new(Mutex::new(mood)), Arc::new(AtomicUsize::new(0)));
        let (shared, counted) = (Arc::clone(&mood), Arc::clone(&asked));
        let addresses = Arc::new(Mutex::new(addresses.to_vec()));
        let told = Arc::clone(&addresses);
        std::thread::spawn(move || {
            let mut block = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut block) {
                let mood = *shared.lock().unwrap();
                let reply = match mood {
                    Mood::Silent => None,
                    Mood::Code(code) => Some(records(&block[..len], code, &[])),
                    Mood::Good | Mood::Slow(_) => {
                        Some(records(&block[..len], 0, &told.lock().unwrap()))
                    }
                };
                counted.fetch_add(1, SeqCst);
                let Some(reply) = reply else { continue };
                let Ok(socket) = socket.try_clone() else { return };
                std::thread::spawn(move || {
                    if let Mood::Slow(wait) = mood {
                        std::thread::park_timeout(wait);
                    }
                    let _ = socket.send_to(&reply, from);
                });
            }
        });
        Self { address, mood, asked, addresses }
    }

    /// From now on the name has these addresses.
    pub(super) fn tells(&self, addresses: &[IpAddr]) {
        *self.addresses.lock().unwrap() = addresses.to_vec();
    }

    pub(super) fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

/// An answer to a question: the addresses of the family that it asks for.
fn records(query: &[u8], code: u8, addresses: &[IpAddr]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let kind = query[end - 3];
    let wanted = |one: &&IpAddr| if one.is_ipv4() { kind == 1 } else { kind == 28 };
    let found: Vec<&IpAddr> = addresses.iter().filter(wanted).collect();
    let mut reply = query[..end].to_vec();
    reply[2] = 0x84 | (query[2] & 1);
    reply[3] = 0x80 | code;
    reply[6..8].copy_from_slice(&(found.len() as u16).to_be_bytes());
    reply[8..12].fill(0);
    for address in found {
        let octets = match address {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        // A TTL of a second: the least that is believed.
        reply.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1, 0, octets.len() as u8]);
        reply.extend_from_slice(&octets);
    }
    reply
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Listeners on one port of two addresses.
pub(super) fn two(one: &str, other: &str) -> [TcpListener; 2] {
    for _ in 0..100 {
        let first = TcpListener::bind((ip(one), 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind((ip(other), port)) {
            return [first, second];
        }
    }
    panic!("no port is free at both {one} and {other}");
}

pub(super) fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// A listener whose backlog is full: connections to it hang.
pub(super) struct Hole {
    _listener: TcpListener,
    _fill: Vec<TcpStream>,
}

impl Hole {
    pub(super) fn new(listener: TcpListener) -> Self {
        #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "a backlog of one")]
        unsafe {
            libc::listen(listener.as_raw_fd(), 0);
        }
        let address = listener.local_addr().unwrap();
        let wait = Duration::from_millis(200);
        let fill = (0..2).filter_map(|_| TcpStream::connect_timeout(&address, wait).ok());
        let fill = fill.collect();
        Self { _listener: listener, _fill: fill }
    }
}

/// A server at an address of its own: the paths that it was asked for.
pub(super) struct Site(Arc<Mutex<Vec<String>>>);

impl Site {
    /// Answers with its name.
    pub(super) fn new(listener: TcpListener, name: &'static str) -> Self {
        Self::scripted(listener, move |_| Some(answer(200, name)))
    }

    /// Answers each path as the script says; without an answer the connection is closed.
    pub(super) fn scripted(
        listener: TcpListener,
        script: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let (paths, script) = (Arc::new(Mutex::new(Vec::new())), Arc::new(script));
        let shared = Arc::clone(&paths);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (paths, script) = (Arc::clone(&shared), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &paths, &*script));
            }
        });
        Self(paths)
    }

    /// All that it was asked.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(super) fn asked(&self, path: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|one| *one == path).count()
    }
}

pub(super) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn serve(
    mut stream: TcpStream,
    paths: &Mutex<Vec<String>>,
    script: &dyn Fn(&str) -> Option<String>,
) {
    stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
    let mut head = Vec::new();
    let mut block = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut block) {
        head.extend_from_slice(&block[..len]);
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            head.drain(..end + 4);
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = script(&path);
            paths.lock().unwrap().push(path);
            let Some(answer) = answer else { return };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// A site that speaks HTTP/2.
pub(super) fn h2_site(listener: TcpListener, name: &'static str) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut peer = Peer::accept(stream, &[]);
                while let Some(next) = peer.frame() {
                    if next.kind == SETTINGS && next.flags & ACK == 0 {
                        peer.send(frame(SETTINGS, ACK, 0, b""));
                    } else if next.kind == HEADERS {
                        asked.fetch_add(1, SeqCst);
                        peer.headers(next.id, &[(":status", "200")], false);
                        peer.data(next.id, name.as_bytes(), true);
                    }
                }
            });
        }
    });
    asked
}
