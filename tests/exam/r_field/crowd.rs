//! What the rows about bounds (R01 to R10) have in common: many clients with small buffers that do
//! not read, a gate for origins, and what the proxy holds for them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::support::h2::{
    END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, block, frame, get,
};
use crate::support::{Does, Origin, PATIENCE, Proxy, until};

/// Threads wait here until it is opened.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(super) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(super) fn pass(&self) {
        let shut = self.0.0.lock().unwrap();
        let bound = 3 * PATIENCE;
        drop(self.0.1.wait_timeout_while(shut, bound, |is_open| !*is_open).unwrap());
    }
}

pub(super) const MIB: usize = 1 << 20;

/// `/large` is 1 MiB, which the cache may keep; `/wait` is answered when the gate opens.
pub(super) fn origin(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::scripted(move |request, link| {
        match request.path() {
            "/large" => {
                link.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n");
                link.send("Content-Length: 1048576\r\n\r\n");
                link.send(vec![b'x'; MIB]);
            }
            "/wait" => gate.pass(),
            _ => {}
        }
        Does::Keep
    })
}

/// Sets an option of a socket.
pub(super) fn set(socket: &impl AsRawFd, level: i32, name: i32, value: i32) {
    let len = size_of::<i32>() as libc::socklen_t;
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "an option in a test")]
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    assert_eq!(done, 0);
}

/// A connection for which neither side's kernel buffers more than some 100 KiB: segments are small
/// and so is the receive buffer.
pub(super) fn narrow(address: SocketAddr) -> TcpStream {
    let SocketAddr::V4(v4) = address else { panic!("the proxy listens on IPv4 here") };
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "a socket in a test")]
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "it was just made")]
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 536);
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 8192);
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
        sin_zero: [0; 8],
    };
    let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "a socket in a test")]
    let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const name).cast(), len) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// So many narrow clients that say this, in clear text or over TLS, and do not read the answers.
pub(super) fn crowd(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    count: usize,
    says: &[u8],
) -> Vec<TcpStream> {
    let one = |_| {
        let mut socket = narrow(address);
        let Some(config) = tls else {
            socket.write_all(says).unwrap();
            return socket;
        };
        let name = ServerName::try_from("a.example").unwrap();
        let client = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        stream.write_all(says).unwrap();
        stream.flush().unwrap();
        // What is left out of a TLS connection is not missed: nothing more is read as such.
        stream.into_parts().1
    };
    (0..count).map(one).collect()
}

/// The preface of a client of HTTP/2 whose windows are as wide as can be.
pub(super) fn wide_preface() -> Vec<u8> {
    let stream = [&4_u16.to_be_bytes()[..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    let settings = frame(SETTINGS, 0, 0, &stream);
    let window = (0x7fff_ffff_u32 - 65_535).to_be_bytes();
    [PREFACE, &settings, &frame(WINDOW_UPDATE, 0, 0, &window)].concat()
}

/// That and so many GETs of a path on one connection.
pub(super) fn streams(path: &str, count: u32) -> Vec<u8> {
    let mut says = wide_preface();
    for number in 0..count {
        let fields = block(&get(path));
        says.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &fields));
    }
    says
}

/// One GET over HTTP/1.1.
pub(super) fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").into_bytes()
}

/// What the proxy has in memory once that does not grow any more, in KiB.
pub(super) fn settled(proxy: &Proxy) -> u64 {
    let (mut most, mut since) = (proxy.rss(), Instant::now());
    until("its memory to stand still", || {
        let now = proxy.rss();
        if now > most + 64 {
            (most, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(600)
    });
    most
}

/// What the proxy may hold, in KiB, for so many clients: `each` of them, and what the machine's
/// noise is.
pub(super) fn assert_held(what: &str, held: u64, clients: usize, each: u64, noise: u64) {
    println!("R03 {what}: {} KiB for each of {clients}", held / clients as u64);
    let most = clients as u64 * each + noise;
    assert!(held <= most, "{what}: {held} KiB for {clients} clients, not {most}");
}

/// How much more the proxy has for clients that say `large` and do not read than for as many that say
/// `small`, whose answers come when `release` lets them; in KiB. Later they read 24 octets ten times a
/// second.
pub(super) fn held(
    proxy: &Proxy,
    tls: Option<&Arc<ClientConfig>>,
    count: usize,
    (small, large): (&[u8], &[u8]),
    release: impl FnOnce(),
) -> u64 {
    let waiting = crowd(proxy.address, tls, count, small);
    let before = settled(proxy);
    release();
    settled(proxy);
    let open = proxy.fds();
    drop(waiting);
    until("those to be gone", || proxy.fds() + count <= open);
    let mut clients = crowd(proxy.address, tls, count, large);
    let mut most = settled(proxy);
    clients.iter().for_each(|client| client.set_nonblocking(true).unwrap());
    for _ in 0..10 {
        let begun = Instant::now();
        for client in &mut clients {
            let _ = client.read(&mut [0; 24]);
        }
        most = most.max(proxy.rss());
        std::thread::park_timeout(Duration::from_millis(100).saturating_sub(begun.elapsed()));
    }
    most.saturating_sub(before)
}
