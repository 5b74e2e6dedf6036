//! A client that sends exactly the bytes it is told to, and reads answers strictly.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

pub struct Client {
    pub stream: TcpStream,
    /// Read and not yet used.
    pub rest: Vec<u8>,
    /// The method of the request that the next reply answers is HEAD.
    pub asked_head: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
    /// It did not end in time.
    Open,
}

/// An answer, read by its framing.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The framing says that this is all.
    pub is_complete: bool,
    pub trailers: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn text(&self) -> String {
        format!("{}{}", self.head, String::from_utf8_lossy(&self.body))
    }

    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The value of a field in a head's text.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (one, value) = line.split_once(':')?;
        one.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, rest: Vec::new(), asked_head: false }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what may not be wanted any more.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// As far as the connection is still there.
    pub fn try_half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Everything until the end.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let mut block = [0; 65536];
        loop {
            match self.stream.read(&mut block) {
                Ok(0) => return (std::mem::take(&mut self.rest), End::Fin),
                Ok(len) => self.rest.extend_from_slice(&block[..len]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return (std::mem::take(&mut self.rest), End::Open);
                }
                Err(_) => return (std::mem::take(&mut self.rest), End::Reset),
            }
        }
    }

    /// Whether the other side has closed by now, or closes within `wait`.
    pub fn is_closed_within(&mut self, wait: Duration) -> bool {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let (_, end) = self.read_to_end();
        end != End::Open
    }

    fn more(&mut self) -> bool {
        let mut block = [0; 65536];
        match self.stream.read(&mut block) {
            Ok(0) | Err(_) => false,
            Ok(len) => {
                self.rest.extend_from_slice(&block[..len]);
                true
            }
        }
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.rest.split_off(len);
        std::mem::replace(&mut self.rest, rest)
    }

    /// A head, interim or final; empty if the connection ended.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(at) = find(&self.rest, b"\r\n\r\n") {
                return String::from_utf8_lossy(&self.take(at + 4)).into_owned();
            }
            if !self.more() {
                return String::new();
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.rest, b"\r\n") {
                return Some(self.take(at + 2)[..at].to_vec());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The next final answer with its body, by its framing.
    pub fn reply(&mut self) -> Reply {
        let mut head = self.head();
        while head.starts_with("HTTP/1.1 1") && !head.starts_with("HTTP/1.1 101") {
            head = self.head();
        }
        let status = head.get(9..12).and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut reply =
            Reply { status, head, body: Vec::new(), is_complete: false, trailers: String::new() };
        if status == 0 || status == 101 {
            return reply;
        }
        if self.asked_head || matches!(status, 204 | 304) {
            reply.is_complete = true;
        } else if reply.header("transfer-encoding").is_some() {
            assert!(reply.header("content-length").is_none(), "two framings: {}", reply.head);
            self.chunks(&mut reply);
        } else if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.rest.len() < length && self.more() {}
            reply.is_complete = self.rest.len() >= length;
            reply.body = self.take(length.min(self.rest.len()));
        } else {
            let (body, end) = self.read_to_end();
            reply.body = body;
            reply.is_complete = end == End::Fin;
        }
        reply
    }

    fn chunks(&mut self, reply: &mut Reply) {
        loop {
            let Some(line) = self.line() else { return };
            let text = String::from_utf8(line).unwrap();
            assert!(!text.contains(';'), "an extension was passed on: {text}");
            let size = usize::from_str_radix(&text, 16).expect("a chunk size");
            if size == 0 {
                while let Some(line) = self.line() {
                    if line.is_empty() {
                        reply.is_complete = true;
                        return;
                    }
                    reply.trailers.push_str(&format!("{}\n", String::from_utf8_lossy(&line)));
                }
                return;
            }
            while self.rest.len() < size + 2 && self.more() {}
            if self.rest.len() < size + 2 {
                let len = size.min(self.rest.len());
                reply.body.extend(self.take(len));
                return;
            }
            reply.body.extend(self.take(size));
            assert_eq!(self.take(2), b"\r\n");
        }
    }
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
