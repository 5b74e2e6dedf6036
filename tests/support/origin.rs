//! An origin that logs every byte, reads requests strictly, and answers whatever it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use super::PATIENCE;
use super::client::{find, header};

/// A request, read by an unambiguous reading of RFC 9112 alone.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
    /// The body ended by its framing.
    pub is_complete: bool,
    pub trailers: String,
    /// Which connection it came on.
    pub connection: usize,
}

impl Request {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    Keep,
    Close,
    Reset,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    connections: Vec<Vec<u8>>,
}

pub struct Origin {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

/// One connection of the origin.
pub struct Link {
    pub stream: TcpStream,
    pub rest: Vec<u8>,
    pub number: usize,
    log: Arc<Mutex<Log>>,
}

impl Origin {
    /// Answers with the path as body.
    pub fn echo() -> Self {
        Self::scripted(|_, _| Does::Keep)
    }

    /// `/mark/…` is answered with its path; everything else by the script, or with its path if the
    /// script wrote nothing.
    pub fn scripted(script: impl Fn(&Request, &mut Link) -> Does + Send + Sync + 'static) -> Self {
        Self::raw(move |link| {
            while let Some(request) = link.request() {
                if !request.is_complete {
                    return;
                }
                let before = link.written();
                let does = if request.path().starts_with("/mark/") {
                    Does::Keep
                } else {
                    script(&request, link)
                };
                if link.written() == before && does == Does::Keep {
                    let body = request.path();
                    let body = if request.head.starts_with("HEAD") { "" } else { body };
                    let length = request.path().len();
                    link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
                }
                match does {
                    Does::Keep => {}
                    Does::Close => return,
                    Does::Reset => return link.reset(),
                }
            }
        })
    }

    /// The script has the connection to itself.
    pub fn raw(script: impl Fn(&mut Link) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let (shared, script) = (Arc::clone(&log), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
                let (log, script) = (Arc::clone(&shared), Arc::clone(&script));
                let number = {
                    let mut log = log.lock().unwrap();
                    log.connections.push(Vec::new());
                    log.connections.len() - 1
                };
                std::thread::spawn(move || {
                    let mut link = Link { stream, rest: Vec::new(), number, log };
                    script(&mut link);
                });
            }
        });
        Self { address, log }
    }

    /// Every request so far, complete or not.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().requests.clone()
    }

    /// The last request; waits for it.
    pub fn last(&self) -> Request {
        self.requests().pop().expect("a request reached the origin")
    }

    /// Every byte that came, by connection.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.log.lock().unwrap().connections.clone()
    }

    /// Bytes that came in all.
    pub fn byte_count(&self) -> usize {
        self.bytes().iter().map(Vec::len).sum()
    }

    pub fn connections(&self) -> usize {
        self.log.lock().unwrap().connections.len()
    }
}

thread_local! {
    static WRITTEN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Closing this will reset it.
pub fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    #[expect(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "SO_LINGER in a test")]
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            len,
        );
    }
}

impl Link {
    fn written(&self) -> usize {
        WRITTEN.get()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        WRITTEN.set(WRITTEN.get() + 1);
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Ends with a reset.
    pub fn reset(&self) {
        reset(&self.stream);
    }

    pub fn more(&mut self) -> bool {
        let mut block = [0; 65536];
        match self.stream.read(&mut block) {
            Ok(0) | Err(_) => false,
            Ok(len) => {
                self.rest.extend_from_slice(&block[..len]);
                self.log.lock().unwrap().connections[self.number].extend_from_slice(&block[..len]);
                true
            }
        }
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.rest.split_off(len);
        std::mem::replace(&mut self.rest, rest)
    }

    /// A head alone; `None` at the end.
    pub fn head(&mut self) -> Option<Request> {
        loop {
            if let Some(at) = find(&self.rest, b"\r\n\r\n") {
                let head = String::from_utf8(self.take(at + 4)).expect("a head in ASCII");
                check_head(&head);
                return Some(Request { head, connection: self.number, ..Request::default() });
            }
            if !self.more() {
                assert!(self.rest.is_empty(), "half a head: {:?}", self.rest);
                return None;
            }
        }
    }

    /// A request with its body.
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        self.body(&mut request);
        self.log.lock().unwrap().requests.push(request.clone());
        Some(request)
    }

    /// Forgets what came so far, where there is much of it.
    pub fn forget(&self) {
        let mut log = self.log.lock().unwrap();
        log.requests.clear();
        log.connections[self.number] = Vec::new();
    }

    /// Notes a request that was read by hand.
    pub fn note(&self, request: &Request) {
        self.log.lock().unwrap().requests.push(request.clone());
    }

    pub fn body(&mut self, request: &mut Request) {
        let chunked = request.header("transfer-encoding").is_some();
        let length = request.header("content-length").map(str::to_owned);
        assert!(!(chunked && length.is_some()), "two framings: {}", request.head);
        if chunked {
            return self.chunks(request);
        }
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.rest.len() < length && self.more() {}
        request.is_complete = self.rest.len() >= length;
        request.body = self.take(length.min(self.rest.len()));
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.rest, b"\r\n") {
                return Some(String::from_utf8(self.take(at + 2)[..at].to_vec()).unwrap());
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn chunks(&mut self, request: &mut Request) {
        while let Some(line) = self.line() {
            assert!(line.bytes().all(|byte| byte.is_ascii_hexdigit()), "not canonical: {line}");
            let size = usize::from_str_radix(&line, 16).unwrap();
            if size == 0 {
                while let Some(line) = self.line() {
                    if line.is_empty() {
                        request.is_complete = true;
                        return;
                    }
                    request.trailers.push_str(&format!("{line}\n"));
                }
                return;
            }
            while self.rest.len() < size + 2 && self.more() {}
            if self.rest.len() < size + 2 {
                request.body.append(&mut self.rest);
                return;
            }
            let data = self.take(size);
            request.body.extend(data);
            assert_eq!(self.take(2), b"\r\n", "a chunk ends in CRLF");
        }
    }
}

/// `strict`: what reaches an origin has one reading only.
fn check_head(head: &str) {
    let lines: Vec<&str> = head.split("\r\n").collect();
    assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "stray line ends: {head:?}");
    let start: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!(start.len(), 3, "{head}");
    assert_eq!(start[2], "HTTP/1.1");
    assert!(start[1].starts_with('/') || start[1] == "*", "{head}");
    let count = |name: &str| {
        let is = |line: &&&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        lines.iter().skip(1).filter(is).count()
    };
    assert_eq!(count("host"), 1, "{head}");
    assert!(count("content-length") + count("transfer-encoding") <= 1, "{head}");
    for line in lines[1..].iter().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a colon");
        assert!(!name.is_empty() && !name.contains([' ', '\t', '_']), "{line:?}");
        assert!(
            value
                .bytes()
                .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte) || byte >= 0x80)
        );
    }
}
