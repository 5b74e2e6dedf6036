//! Group M: HTTP/2. No client makes us work more than it works itself, and nothing is passed on that HTTP/1
//! could read in two ways.

mod abuse;
mod h2spec;
mod messages;
mod streams;
mod upstream;

use std::time::Duration;

use crate::Row;
use crate::support::h2::Peer;
use crate::support::{PATIENCE, Proxy, mark};

pub fn rows() -> Vec<Row> {
    let all = [abuse::rows(), messages::rows(), streams::rows(), h2spec::rows(), upstream::rows()];
    all.into_iter().flatten().collect()
}

const PROTOCOL_ERROR: u32 = 1;
const STREAM_CLOSED: u32 = 5;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const CALM: u32 = 11;

/// It goes on serving, both versions.
fn lives(proxy: &Proxy) {
    let answer = Peer::connect(proxy.address).ask(1, "/lives").answer();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"/lives"[..]));
    mark(proxy);
}

/// Sends until the connection ends; how the connection ended, and after how many.
fn flood(
    proxy: &Proxy,
    most: usize,
    mut one: impl FnMut(&mut Peer, usize) -> bool,
) -> (Option<u32>, usize) {
    let mut peer = Peer::connect(proxy.address);
    peer.stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut sent = 0;
    while sent < most && one(&mut peer, sent) {
        sent += 1;
    }
    (peer.end_within(PATIENCE), sent)
}

fn odd(number: usize) -> u32 {
    2 * number as u32 + 1
}
