//! One origin: accepts, reads requests, hands them to `answer`.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crate::base::clock;

/// A request as far as the demo cares.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Longest body that `/echo` gives back.
const BODY_MAX: u64 = 16 * 1024 * 1024;
const LINE_MAX: u64 = 64 * 1024;

/// One origin, as its connections see it.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    /// It is to stop for so many seconds.
    stop: AtomicU64,
    /// It takes connections.
    is_up: AtomicBool,
    /// The thread that accepts its connections, or waits until it is to begin again.
    thread: OnceLock<Thread>,
}

impl Origin {
    /// Stops for a while: refuses connections and ends those there are. Then it is back.
    pub(super) fn stop(&self, seconds: u64) {
        self.stop.store(seconds, Relaxed);
        // The thread that accepts is woken by this.
        let _ = TcpStream::connect(self.address);
    }

    /// Begins again before its time is over.
    pub(super) fn restart(&self) {
        self.stop.store(0, Relaxed);
        self.thread.get().inspect(|thread| thread.unpark());
    }

    /// It takes connections.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    fn rest(&self) {
        let begun = clock::monotonic();
        loop {
            let left = Duration::from_secs(self.stop.load(Relaxed));
            let left = left.saturating_sub(clock::monotonic().since(begun));
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        self.stop.store(0, Relaxed);
    }
}

/// What an origin answers: `false` ends the connection.
pub(super) type Answerer = fn(&Origin, &Request, &TcpStream) -> io::Result<bool>;

pub(super) fn start(name: &'static str, answer: Answerer) -> io::Result<Arc<Origin>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (stop, is_up, thread) = (AtomicU64::new(0), AtomicBool::new(true), OnceLock::new());
    let origin = Arc::new(Origin { name, address, stop, is_up, thread });
    let own = Arc::clone(&origin);
    let running = std::thread::Builder::new().name(format!("origin-{name}")).spawn(move || {
        let mut listener = Some(listener);
        while let Some(open) = listener.take() {
            own.is_up.store(true, Relaxed);
            run(&own, open, answer);
            own.is_up.store(false, Relaxed);
            own.rest();
            listener = TcpListener::bind(address).ok();
        }
    })?;
    let _ = origin.thread.set(running.thread().clone());
    Ok(origin)
}

/// Serves until it is to stop.
fn run(origin: &Arc<Origin>, listener: TcpListener, answer: Answerer) {
    let mut open: Vec<TcpStream> = Vec::new();
    for stream in listener.incoming().flatten() {
        if origin.stop.load(Relaxed) > 0 {
            break;
        }
        open.retain(|one| one.peer_addr().is_ok());
        open.extend(stream.try_clone());
        let origin = Arc::clone(origin);
        // A connection that gets no thread is closed.
        let _ = std::thread::Builder::new().spawn(move || {
            serve(&stream, |request| answer(&origin, request, &stream));
        });
    }
    drop(listener);
    for stream in open {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Serves a connection: `false` of an answer ends it.
pub(super) fn serve(stream: &TcpStream, answer: impl Fn(&Request) -> io::Result<bool>) {
    // Whatever goes wrong ends this connection, which is all an origin of a demo needs.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = read(&mut reader) {
        match answer(&request) {
            Ok(true) => {}
            _ => break,
        }
    }
    // There is a second handle: dropping this one would not end the connection.
    let _ = stream.shutdown(Shutdown::Both);
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A number in the query.
    pub(super) fn number(&self, name: &str, default: u64, most: u64) -> u64 {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok());
        found.unwrap_or(default).min(most)
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let start = line(reader)?;
    if start.is_empty() {
        return Ok(None);
    }
    let mut parts = start.split(' ');
    let method = parts.next().unwrap_or_default().to_owned();
    let target = parts.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        let field = line(reader)?;
        match field.split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Request { method, path, query, headers, body: Vec::new() };
    if let Some(length) = request.header("content-length") {
        let length: u64 = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        reader.take(length.min(BODY_MAX)).read_to_end(&mut request.body)?;
        io::copy(&mut reader.take(length.saturating_sub(BODY_MAX)), &mut io::sink())?;
    } else if request.header("transfer-encoding").is_some() {
        read_chunks(reader, &mut request.body)?;
    }
    Ok(Some(request))
}

fn read_chunks(reader: &mut BufReader<&TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(reader)?;
        let size = u64::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            while !line(reader)?.is_empty() {}
            return Ok(());
        }
        if size > BODY_MAX - (body.len() as u64).min(BODY_MAX) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        reader.take(size).read_to_end(body)?;
        line(reader)?;
    }
}

/// A line without its end; empty at the end of the stream.
fn line(reader: &mut BufReader<&TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    reader.take(LINE_MAX).read_line(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
