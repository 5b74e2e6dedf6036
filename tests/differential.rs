//! Our reading of a byte stream against hyper's, which shares the tokenizer but neither framing
//! nor chunks with us. What both accept they must read alike, and there must be no request that
//! one sees and the other does not.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use millrace::base::random::Random;
use millrace::message::framing::Framing;
use millrace::message::head::RequestHead;
use millrace::message::limits::HeadLimits;
use millrace::wire::http1::chunked::Decoder;
use millrace::wire::http1::parse;
use millrace::wire::http1::scan::Scan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Method and body.
type Seen = (String, Vec<u8>);

/// What we see, and whether we refused in the end.
fn ours(input: &[u8]) -> (Vec<Seen>, bool) {
    let (mut rest, mut seen) = (input.to_vec(), Vec::new());
    loop {
        let limits = HeadLimits::default();
        let found = match Scan::default().request(&rest, &limits) {
            Ok(Some(found)) => found,
            Ok(None) => return (seen, false),
            Err(_) => return (seen, true),
        };
        let mut head = RequestHead::default();
        if parse::request(&rest[found.start..found.end], &limits, &mut head).is_err() {
            return (seen, true);
        }
        rest.drain(..found.end);
        let method = String::from_utf8_lossy(head.method_text()).into_owned();
        match head.framing {
            Framing::Length(length) => {
                let Ok(length) = usize::try_from(length) else { return (seen, false) };
                if rest.len() < length {
                    return (seen, false);
                }
                seen.push((method, rest.drain(..length).collect()));
            }
            Framing::Chunked => {
                let mut decoder = Decoder::default();
                let Ok(step) = decoder.decode(&mut rest) else { return (seen, true) };
                if !decoder.is_done() {
                    return (seen, false);
                }
                seen.push((method, rest[step.data].to_vec()));
                rest.drain(..step.consumed);
            }
            _ => seen.push((method, Vec::new())),
        }
        if head.options.close {
            return (seen, false);
        }
    }
}

/// What hyper sees: requests whose bodies came whole.
async fn theirs(input: &[u8]) -> Vec<Seen> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&shared);
        async move {
            let method = request.method().to_string();
            if let Ok(body) = request.into_body().collect().await {
                seen.lock().unwrap().push((method, body.to_bytes().to_vec()));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(server), service)
        .await;
    let mut answers = Vec::new();
    let _ = client.read_to_end(&mut answers).await;
    let seen = seen.lock().unwrap();
    seen.clone()
}

const SEEDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\nPUT /c HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    "\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\nDELETE /x HTTP/1.1\r\nHost: a\r\n\r\n",
];

const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "0",
    "5",
    "0\r\n\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    ", chunked",
    "chunked",
    ":",
    ";",
    ";a=b",
    "GET /s HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0",
    "Connection: close\r\n",
    "+",
    "_",
    "\0",
    "x",
];

fn mutate(random: &mut Random, seed: &str) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u32 + 1) as usize;
        match random.below(4) {
            0 if at < bytes.len() => drop(bytes.remove(at)),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => {
                let end = (at + random.below(12) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len() as u32) as usize];
                bytes.splice(at..at, piece.bytes());
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

pub fn check() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = Random::new(2026);
    let (mut alike, mut refused) = (0, 0);
    runtime.block_on(async {
        for round in 0..30_000 {
            let input = mutate(&mut random, SEEDS[round % SEEDS.len()]);
            let (ours, we_refuse) = ours(&input);
            let theirs = theirs(&input).await;
            let shown = input.escape_ascii();
            for (one, other) in ours.iter().zip(&theirs) {
                assert_eq!(one, other, "read differently: {shown}");
            }
            // hyper may be laxer than we are: then we must have refused. It may refuse what we
            // take, and then nothing of it is used.
            assert!(
                theirs.len() <= ours.len() || we_refuse,
                "hyper sees {} requests, we {}: {shown}",
                theirs.len(),
                ours.len()
            );
            alike += usize::from(ours == theirs && !ours.is_empty());
            refused += usize::from(we_refuse);
        }
    });
    assert!(alike > 5_000 && refused > 5_000, "{alike} alike, {refused} refused");
}
