//! The page that a browser sees: which origin is up, which answered, what the cache did, and buttons that stop
//! an origin and let it begin again. A server of its own, for the others may all be stopped.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;

use super::answer::{STOP_MAX, wait, whole};
use super::origin::{Origin, Request, serve};

const PAGE: &str = include_str!("page.html");

/// Starts it, for these origins.
///
/// # Errors
/// A port or a thread could not be had.
pub(super) fn start(origins: &[Arc<Origin>]) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let origins: Arc<[Arc<Origin>]> = origins.into();
    std::thread::Builder::new().name("demo-page".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let origins = Arc::clone(&origins);
            // A connection that gets no thread is closed.
            let _ = std::thread::Builder::new().spawn(move || {
                serve(&stream, |request| answer(&origins, request, &stream));
            });
        }
    })?;
    Ok(address)
}

fn answer(origins: &[Arc<Origin>], request: &Request, stream: &TcpStream) -> io::Result<bool> {
    let order: Option<fn(&Origin)> = match request.path.as_str() {
        "/demo/stop" => Some(|origin| origin.stop(STOP_MAX)),
        "/demo/start" => Some(Origin::restart),
        "/demo/state" => return whole(stream, 200, NO_STORE, "application/json", &state(origins)),
        _ => return whole(stream, 200, NO_STORE, "text/html; charset=utf-8", PAGE.as_bytes()),
    };
    // A page of another site cannot send this field without being asked first, and nothing here says yes.
    let is_ours = request.method == "POST" && request.header("x-demo").is_some();
    let name = request.query.strip_prefix("origin=").unwrap_or_default();
    let origin = origins.iter().find(|origin| origin.name == name);
    let (Some(order), Some(origin), true) = (order, origin, is_ours) else {
        let text = b"POST /demo/stop?origin=alpha or /demo/start?origin=alpha, with X-Demo: 1\n";
        return whole(stream, 400, NO_STORE, "text/plain", text);
    };
    let is_wanted = request.path == "/demo/start";
    order(origin);
    // A moment, and it is so: the answer to the order tells how it is then.
    for _ in 0..200 {
        if origin.is_up() == is_wanted {
            break;
        }
        wait(5);
    }
    whole(stream, 200, NO_STORE, "application/json", &state(origins))
}

const NO_STORE: &str = "Cache-Control: no-store\r\n";

fn state(origins: &[Arc<Origin>]) -> Vec<u8> {
    let one = |origin: &Arc<Origin>| json!({ "name": origin.name, "address": origin.address.to_string(), "is_up": origin.is_up() });
    let all: Vec<_> = origins.iter().map(one).collect();
    format!("{:#}\n", json!(all)).into_bytes()
}
