//! The fuzz targets without a fuzzer: seeds are cut, joined and changed by chance for some seconds each. It has
//! no eye for coverage, but is built with the tests and so costs minutes less than `scripts/fuzz`, which has.
//! `FUZZ_SECONDS` says how long, `FUZZ_SEED` repeats a run.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a property that does not hold fails")]
#![expect(clippy::print_stdout, reason = "what was tried")]
#![allow(
    unused_attributes,
    unused_imports,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "targets are programs of their own"
)]

extern crate self as libfuzzer_sys;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use millrace::base::random::Random;

/// Stands in for the fuzzer's macro: the target is a function.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:block) => {
        pub fn try_one($bytes: &[u8]) $body
    };
    (|$text:ident: &str| $body:block) => {
        pub fn try_one(bytes: &[u8]) {
            let Ok($text) = std::str::from_utf8(bytes) else { return };
            $body
        }
    };
}

#[path = "fuzz_targets/cache_control.rs"]
mod cache_control;
#[path = "fuzz_targets/cache_file.rs"]
mod cache_file;
#[path = "fuzz_targets/chunked.rs"]
mod chunked;
#[path = "fuzz_targets/client_hello.rs"]
mod client_hello;
#[path = "fuzz_targets/config.rs"]
mod config;
#[path = "fuzz_targets/framing.rs"]
mod framing;
#[path = "fuzz_targets/http2.rs"]
mod http2;
#[path = "fuzz_targets/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "fuzz_targets/request_head.rs"]
mod request_head;
#[path = "fuzz_targets/response_head.rs"]
mod response_head;

type Target = (&'static str, fn(&[u8]), Vec<Vec<u8>>);

/// Words that parsers know: more of them are read further than of chance alone.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"=",
    b"\"",
    b"0",
    b"-1",
    b"ffffffff",
    b"%2e",
    b"..",
    b"chunked",
    b"gzip",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x\r\n",
    b"Host: b\r\n",
    b"HTTP/1.1",
    b"GET ",
    b"max-age=",
    b"no-cache",
    b"[[route]]\n",
    b"\x80\xff",
    b"\xe2\x82\xac",
];

fn targets() -> Vec<Target> {
    let texts = |all: &[&str]| all.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let request = "POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close, x\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let mut hello = b"\x16\x03\x01\0\x41\x01\0\0\x3d\x03\x03".to_vec();
    hello.extend([0; 32]);
    hello.extend(b"\0\0\x02\x13\x01\x01\0\0\x12\0\0\0\x0e\0\x0c\0\0\x09a.example");
    let mut file = b"millrace\x01\0\0\0\xc8\0\0\0\x11\0\0\0\0\0\0\0\x05\0\0\0".to_vec();
    file.extend([0; 68]);
    file.extend(b"00000000000000000A: b\nbody");
    let caching = b"\0max-age=60, stale-if-error=\"9\"\n\x01max-age=1;q\n\x06a, b\n\x07\"x,y\"\n\x83Range\n\x8cbytes=0-1,-2\n";
    vec![
        ("request_head", request_head::try_one, texts(&[request, "GET / HTTP/1.0\r\n\r\n"])),
        ("response_head", response_head::try_one, texts(&[response, "HTTP/1.1 103 X\r\n\r\n"])),
        ("chunked", chunked::try_one, texts(&["\u{3}5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET"])),
        ("framing", framing::try_one, texts(&["l5\ncchunked\n", "l5,5\n"])),
        (
            "proxy_protocol",
            proxy_protocol::try_one,
            texts(&["PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"]),
        ),
        ("config", config::try_one, texts(&[include_str!("../../config.example.toml")])),
        ("cache_control", cache_control::try_one, vec![caching.to_vec()]),
        ("cache_file", cache_file::try_one, vec![file]),
        ("client_hello", client_hello::try_one, vec![hello]),
        ("http2", http2::try_one, texts(&["GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"])),
    ]
}

fn main() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let wait = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(3));
    let seed = number("FUZZ_SEED").unwrap_or_else(Random::seed_from_os);
    // A test runner asks for a list, and for nothing else.
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    let (one, other): (Vec<_>, Vec<_>) =
        targets().into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let all = [one, other].map(|some| {
        std::thread::spawn(move || some.iter().all(|(_, target)| holds(target, wait, seed)))
    });
    let hold = all.map(|one| one.join().unwrap()).iter().all(|holds| *holds);
    assert!(hold, "FUZZ_SEED={seed}");
}

/// Whether a target's property holds for whatever comes.
fn holds((name, run, seeds): &Target, wait: Duration, seed: u64) -> bool {
    let (mut random, begun, mut count) = (Random::new(seed), Instant::now(), 0_u64);
    while begun.elapsed() < wait {
        let mut input = seeds[random.below(seeds.len() as u32) as usize].clone();
        for _ in 0..random.below(6) {
            change(&mut input, &mut random);
        }
        input.truncate(8192);
        if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
            println!("fuzz: {name} failed with {}", input.escape_ascii());
            return false;
        }
        count += 1;
    }
    println!("fuzz: {name} for {wait:?}, runs: {count}");
    true
}

fn change(input: &mut Vec<u8>, random: &mut Random) {
    let at = |random: &mut Random, len: usize| random.below(len as u32 + 1) as usize;
    let (from, to) = (at(random, input.len()), at(random, input.len()));
    let (from, to) = (from.min(to), from.max(to));
    match random.below(6) {
        0 => drop(input.drain(from..to.min(from + 40))),
        1 => {
            let part = input[from..to.min(from + 40)].to_vec();
            let place = at(random, input.len());
            input.splice(place..place, part);
        }
        2 | 3 => {
            let word = WORDS[random.below(WORDS.len() as u32) as usize];
            input.splice(from..from, word.iter().copied());
        }
        4 => input.truncate(from),
        _ => {
            if let Some(byte) = input.get_mut(from) {
                *byte = random.bits() as u8;
            }
        }
    }
}
