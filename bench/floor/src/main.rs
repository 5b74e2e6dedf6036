//! The kernel's own price: a relay that parses nothing. Whatever a client sends in one read goes to
//! an upstream connection of its own, whatever comes back goes to the client. One thread, edge-less
//! epoll, no allocation after a connection is open. No proxy that uses one kernel TCP connection on
//! each side can cost less.
//!
//! `floor LISTEN_PORT UPSTREAM_PORT`, or `floor LISTEN_PORT answer FILE`: then every read is answered
//! with a head and the file, from memory. No cache can answer for less.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ports: Vec<u16> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    if let ([listen, word, file], [port]) = (arguments.as_slice(), ports.as_slice())
        && word == "answer"
        && listen.parse() == Ok(*port)
    {
        return answer(*port, &std::fs::read(file)?);
    }
    let [listen, upstream] = ports[..] else {
        eprintln!("usage: floor LISTEN_PORT UPSTREAM_PORT | floor LISTEN_PORT answer FILE");
        std::process::exit(2);
    };
    let (listener, epoll) = listen_on(listen)?;
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

/// A listener, and what waits for it and for its clients.
fn listen_on(port: u16) -> io::Result<(TcpListener, i32)> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    watch(epoll, listener.as_raw_fd())?;
    Ok((listener, epoll))
}

/// Answers every read. What does not fit into the socket at once is written when it does.
fn answer(port: u16, body: &[u8]) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: application/octet-stream\r\n\
                Cache-Control: max-age=3600\r\nAge: 1\r\nContent-Length:";
    let text = [format!("{head} {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    let (listener, epoll) = listen_on(port)?;
    // By descriptor: the socket, and how much of the answer is still to be written.
    let mut clients: Vec<Option<(TcpStream, usize)>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut block = vec![0; 16 * 1024];
    loop {
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 512, -1) };
        for event in &events[..usize::try_from(ready).unwrap_or(0)] {
            let fd = i32::try_from(event.u64).unwrap_or(-1);
            if fd == listener.as_raw_fd() {
                while let Ok((client, _)) = listener.accept() {
                    client.set_nonblocking(true)?;
                    client.set_nodelay(true)?;
                    let at = client.as_raw_fd() as usize;
                    clients.resize_with(clients.len().max(at + 1), || None);
                    watch(epoll, client.as_raw_fd())?;
                    clients[at] = Some((client, 0));
                }
                continue;
            }
            let Some((client, left)) = clients[fd as usize].as_mut() else { continue };
            if *left == 0 {
                match client.read(&mut block) {
                    Ok(0) | Err(_) => {
                        clients[fd as usize] = None;
                        continue;
                    }
                    Ok(_) => *left = text.len(),
                }
            }
            let before = *left;
            while *left > 0 {
                match client.write(&text[text.len() - *left..]) {
                    Ok(count) => *left -= count,
                    Err(_) => break,
                }
            }
            // Only a connection that waits for room is told of it.
            let is_waiting = *left > 0;
            if is_waiting || before < text.len() {
                let events = if is_waiting { libc::EPOLLOUT } else { libc::EPOLLIN };
                let mut wanted = libc::epoll_event { events: events as u32, u64: fd as u64 };
                check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_MOD, fd, &mut wanted) })?;
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
