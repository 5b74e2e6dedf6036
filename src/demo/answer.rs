//! What a demo origin answers, by path.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocket};

use super::origin::{Origin, Request};

/// Largest answer of `/bytes`.
const BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Most events of `/sse` and longest wait of `/slow`.
const EVENTS_MAX: u64 = 10_000;
const WAIT_MAX: u64 = 60_000;
/// Longest time that `/cached` is fresh, in seconds.
const FRESH_MAX: u64 = 86_400;
/// Longest rest of `/stop`, in seconds.
pub(super) const STOP_MAX: u64 = 3600;

/// Answers; `false` ends the connection.
pub(super) fn answer(
    server: &Origin,
    request: &Request,
    mut stream: &TcpStream,
) -> io::Result<bool> {
    let name = server.name;
    let origin = format!("X-Origin: {name}\r\n");
    match request.path.as_str() {
        "/slow" => {
            let millis = request.number("ms", 1000, WAIT_MAX);
            wait(millis);
            whole(stream, 200, &origin, "application/json", who(name, request).as_bytes())
        }
        "/cached" => {
            let fresh = request.number("s", 10, FRESH_MAX);
            let head = format!("{origin}Cache-Control: max-age={fresh}, stale-if-error=60\r\n");
            whole(stream, 200, &head, "application/json", who(name, request).as_bytes())
        }
        "/bytes" => bytes(stream, &origin, request),
        "/chunked" => chunked(stream, &origin, name),
        "/echo" => {
            let kind = request.header("content-type").unwrap_or("application/octet-stream");
            whole(stream, 200, &origin, kind, &request.body)
        }
        "/sse" => events(stream, &origin, request),
        "/ws" => websocket(stream, request),
        "/stop" => stop(server, request, stream, &origin),
        path => {
            let status = path.strip_prefix("/status/").and_then(|text| text.parse().ok());
            let status = status.filter(|status| (200..=599).contains(status));
            let is_head = request.method == "HEAD";
            let body = who(name, request);
            if status.is_some_and(|status: u16| matches!(status, 204 | 304)) {
                let status = status.unwrap_or(204);
                write!(stream, "HTTP/1.1 {status} \r\n{origin}\r\n")?;
                return Ok(true);
            }
            if is_head {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\n{origin}Content-Length: {}\r\n\r\n",
                    body.len()
                )?;
                return Ok(true);
            }
            whole(stream, status.unwrap_or(200), &origin, "application/json", body.as_bytes())
        }
    }
}

/// Stops this origin for a while; not for requests that come through the proxy, which are all.
fn stop(server: &Origin, request: &Request, stream: &TcpStream, origin: &str) -> io::Result<bool> {
    let (name, seconds) = (server.name, request.number("s", 10, STOP_MAX).max(1));
    if request.header("via").is_some() {
        let text = format!("stop {name} on its own port: http://{}/stop\n", server.address);
        return whole(stream, 403, origin, "text/plain", text.as_bytes());
    }
    let text = format!("{name} stops for {seconds} s\n");
    whole(stream, 200, origin, "text/plain", text.as_bytes())?;
    server.stop(seconds);
    Ok(false)
}

/// The origin that answers, and what it was asked.
fn who(name: &str, request: &Request) -> String {
    let headers: serde_json::Map<_, _> =
        request.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let told = json!({
        "origin": name,
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": headers,
        "body_bytes": request.body.len(),
    });
    format!("{told:#}\n")
}

pub(super) fn whole(
    mut stream: &TcpStream,
    status: u16,
    origin: &str,
    kind: &str,
    body: &[u8],
) -> io::Result<bool> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} \r\n{origin}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    Ok(true)
}

fn bytes(mut stream: &TcpStream, origin: &str, request: &Request) -> io::Result<bool> {
    let total = request.number("n", 1024, BYTES_MAX);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\n{origin}Content-Type: application/octet-stream\r\n\
         Content-Length: {total}\r\n\r\n"
    )?;
    let block: Vec<u8> = (b'a'..=b'z').cycle().take(64 * 1024).collect();
    let mut left = total;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        stream.write_all(&block[..len])?;
        left -= len as u64;
    }
    Ok(true)
}

fn chunked(mut stream: &TcpStream, origin: &str, name: &str) -> io::Result<bool> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\n{origin}Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Lines\r\n\r\n"
    )?;
    for number in 1..=5 {
        let line = format!("line {number} from {name}\n");
        write!(stream, "{:x}\r\n{line}\r\n", line.len())?;
        wait(100);
    }
    stream.write_all(b"0\r\nX-Lines: 5\r\n\r\n")?;
    Ok(true)
}

fn events(mut stream: &TcpStream, origin: &str, request: &Request) -> io::Result<bool> {
    let (count, pause) =
        (request.number("n", 10, EVENTS_MAX), request.number("ms", 1000, WAIT_MAX));
    write!(stream, "HTTP/1.1 200 OK\r\n{origin}Content-Type: text/event-stream\r\n\r\n")?;
    for number in 1..=count {
        write!(stream, "id: {number}\ndata: event {number} of {count}\n\n")?;
        wait(pause);
    }
    Ok(false)
}

fn websocket(mut stream: &TcpStream, request: &Request) -> io::Result<bool> {
    let Some(key) = request.header("sec-websocket-key") else {
        let text = b"/ws is a WebSocket that echoes: connect with a WebSocket client\n";
        return whole(stream, 426, "Upgrade: websocket\r\n", "text/plain", text);
    };
    let accept = derive_accept_key(key.as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        let is_echoed = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_echoed && socket.send(message).is_err() {
            break;
        }
    }
    Ok(false)
}

/// A blocking wait: this thread serves one connection of a demo.
pub(super) fn wait(millis: u64) {
    std::thread::park_timeout(Duration::from_millis(millis));
}
