//! The kernel's own price: a relay that parses nothing. Whatever a client sends in one read goes to
//! an upstream connection of its own, whatever comes back goes to the client. One thread, edge-less
//! epoll, no allocation after a connection is open. No proxy that uses one kernel TCP connection on
//! each side can cost less.
//!
//! `floor LISTEN_PORT UPSTREAM_PORT`

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

fn main() -> io::Result<()> {
    let ports: Vec<u16> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [listen, upstream] = ports[..] else {
        eprintln!("usage: floor LISTEN_PORT UPSTREAM_PORT");
        std::process::exit(2);
    };
    let listener = TcpListener::bind(("127.0.0.1", listen))?;
    listener.set_nonblocking(true)?;
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    watch(epoll, listener.as_raw_fd())?;
    // By descriptor: the socket and the descriptor of its other side.
    let mut pairs: Vec<Option<(TcpStream, i32)>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut block = vec![0; 64 * 1024];
    loop {
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 512, -1) };
        for event in &events[..usize::try_from(ready).unwrap_or(0)] {
            let fd = i32::try_from(event.u64).unwrap_or(-1);
            if fd == listener.as_raw_fd() {
                while let Ok((client, _)) = listener.accept() {
                    let server = TcpStream::connect(("127.0.0.1", upstream))?;
                    join(epoll, &mut pairs, client, server)?;
                }
            } else if !relay(&mut pairs, fd, &mut block) {
                close(&mut pairs, fd);
            }
        }
    }
}

fn join(
    epoll: i32,
    pairs: &mut Vec<Option<(TcpStream, i32)>>,
    client: TcpStream,
    server: TcpStream,
) -> io::Result<()> {
    let fds = (client.as_raw_fd(), server.as_raw_fd());
    for (stream, other) in [(client, fds.1), (server, fds.0)] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let at = stream.as_raw_fd() as usize;
        pairs.resize_with(pairs.len().max(at + 1), || None);
        watch(epoll, stream.as_raw_fd())?;
        pairs[at] = Some((stream, other));
    }
    Ok(())
}

fn relay(pairs: &mut [Option<(TcpStream, i32)>], fd: i32, block: &mut [u8]) -> bool {
    let Some((stream, other)) = &mut pairs[fd as usize] else { return true };
    let other = *other as usize;
    match stream.read(block) {
        Ok(len @ 1..) => match &mut pairs[other] {
            // Small messages fit in a socket's buffer: a short write ends the pair.
            Some((peer, _)) => matches!(peer.write(&block[..len]), Ok(wrote) if wrote == len),
            None => false,
        },
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        _ => false,
    }
}

fn close(pairs: &mut [Option<(TcpStream, i32)>], fd: i32) {
    if let Some((_, other)) = pairs[fd as usize].take() {
        pairs[other as usize] = None;
    }
}

fn watch(epoll: i32, fd: i32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
