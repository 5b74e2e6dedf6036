//! Row M15: every fault that h2spec knows, and what must be borne, from a table (`h2spec.txt`, which
//! explains its words).

use std::fmt::Write as _;
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use crate::Row;
use crate::support::h2::{
    ACK, CONTINUATION, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, literal,
};
use crate::support::{Driver, Origin, Proxy, mark};

pub fn rows() -> Vec<Row> {
    vec![("m15_all_cases_of_h2spec", m15_all_cases_of_h2spec)]
}

const TABLE: &str = include_str!("h2spec.txt");
const KINDS: [(&str, u8); 10] = [
    ("DATA", DATA),
    ("HEADERS", HEADERS),
    ("PRIORITY", PRIORITY),
    ("RST_STREAM", RST_STREAM),
    ("SETTINGS", SETTINGS),
    ("PUSH_PROMISE", PUSH_PROMISE),
    ("PING", PING),
    ("GOAWAY", GOAWAY),
    ("WINDOW_UPDATE", WINDOW_UPDATE),
    ("CONTINUATION", CONTINUATION),
];
const CODES: [(&str, u32); 7] = [
    ("PROTOCOL_ERROR", 1),
    ("FLOW_CONTROL_ERROR", 3),
    ("STREAM_CLOSED", 5),
    ("FRAME_SIZE_ERROR", 6),
    ("REFUSED_STREAM", 7),
    ("COMPRESSION_ERROR", 9),
    ("ENHANCE_YOUR_CALM", 11),
];
/// How long a peer waits for what must come.
const WAIT: Duration = Duration::from_secs(5);

fn m15_all_cases_of_h2spec(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::before(driver, &origin);
    let (mut faults, mut count) = (String::new(), 0);
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [id, title, steps, want] = parts[..] else { panic!("four columns: {line}") };
        count += usize::from(!id.starts_with("ours/"));
        for pieces in [1, 60] {
            if let Err(found) = run(&proxy, steps, want, pieces) {
                writeln!(faults, "{id}, {title}, in {pieces}: {found}, not {want}").unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
    assert_eq!(count, 147);
    mark(&proxy);
}

/// Does what a line says, each frame in so many pieces, and what is wrong with what comes of it.
fn run(proxy: &Proxy, steps: &str, want: &str, pieces: usize) -> Result<(), String> {
    let mut peer = Peer::of(TcpStream::connect(proxy.address).unwrap());
    peer.stream.set_read_timeout(Some(WAIT)).unwrap();
    let steps = match steps.strip_prefix("bare;") {
        Some(steps) => steps,
        None => {
            shake_hands(&mut peer);
            steps
        }
    };
    for step in steps.split(';').map(str::trim) {
        if let Some(what) = step.strip_prefix("wait ") {
            let _ = wait(&mut peer, what)?;
        } else if let Some((times, one)) = step.split_once(" of ") {
            for number in 0..times.parse::<u32>().unwrap() {
                peer.send(octets(&one.replace("odd", &(2 * number + 1).to_string())));
            }
        } else {
            let octets = octets(step);
            for piece in octets.chunks(octets.len().div_ceil(pieces)) {
                peer.send(piece);
            }
        }
    }
    expect(&mut peer, want)
}

/// Both sides' SETTINGS, and both ACKs.
fn shake_hands(peer: &mut Peer) {
    peer.send([PREFACE, &octets("SETTINGS[0] 0004 0000ffff")].concat());
    let (mut has_settings, mut has_ack) = (false, false);
    while !(has_settings && has_ack) {
        let next = peer.frame().expect("settings");
        match (next.kind, next.flags & ACK) {
            (SETTINGS, 0) => {
                has_settings = true;
                peer.send(frame(SETTINGS, ACK, 0, b""));
            }
            (SETTINGS, _) => has_ack = true,
            _ => {}
        }
    }
}

fn wait(peer: &mut Peer, what: &str) -> Result<Frame, String> {
    while let Some(next) = peer.frame() {
        let is_it = match what {
            "end" => matches!(next.kind, DATA | HEADERS) && next.flags & END_STREAM != 0,
            "ack" => next.kind == SETTINGS && next.flags & ACK != 0,
            "data" => next.kind == DATA,
            _ => panic!("what to wait for: {what}"),
        };
        if is_it {
            return Ok(next);
        }
    }
    Err(format!("nothing to wait for: {what}"))
}

/// Whether what comes is what was wanted; else what it was.
fn expect(peer: &mut Peer, want: &str) -> Result<(), String> {
    if want == "no HTTP/2" {
        let mut text = String::new();
        let _ = peer.stream.read_to_string(&mut text);
        return if text.starts_with("HTTP/1.1 400 ") || text.starts_with("HTTP/1.1 505 ") {
            Ok(())
        } else {
            Err(text)
        };
    }
    let mut seen = String::new();
    while let Some(next) = peer.frame() {
        let (word, rest) = want.split_once(' ').unwrap_or((want, ""));
        let verdict = match (word, next.kind) {
            ("settings", _) => Some(next.kind == SETTINGS && next.flags & ACK == 0),
            ("ack", SETTINGS) => Some(next.flags & ACK != 0),
            ("head", HEADERS) => Some(next.id == 1),
            ("data", DATA) => Some(rest.is_empty() || rest == format!("of {}", next.payload.len())),
            ("pong", PING) => {
                let wanted = match rest.split('/').next().unwrap() {
                    "" => vec![0; 8],
                    text => payload(text),
                };
                // An unknown flag is not taken for ACK.
                Some(next.flags & ACK != 0 && next.payload == wanted)
            }
            ("reset", RST_STREAM) => Some(next.id == 1 && code(&next) == named(rest)),
            ("stream", RST_STREAM) => Some(code(&next) == named(rest)),
            ("stream" | "connection", GOAWAY) => {
                if code(&next) != named(rest) {
                    return Err(format!("GOAWAY {}", code(&next)));
                }
                return orderly(peer);
            }
            _ => None,
        };
        match verdict {
            Some(true) => return Ok(()),
            Some(false) => return Err(format!("{next:?}")),
            None => write!(seen, "{}:{} ", next.kind, next.flags).unwrap(),
        }
    }
    if want.ends_with("closed") {
        return orderly(peer);
    }
    Err(format!("after frames {seen}nothing, {}", how(peer)))
}

fn how(peer: &Peer) -> &'static str {
    match peer.end {
        Some(Ok(())) => "an end",
        Some(Err(std::io::ErrorKind::ConnectionReset)) => "a reset",
        _ => "no end",
    }
}

/// The connection ends as it should: nothing that was said can have been lost.
fn orderly(peer: &mut Peer) -> Result<(), String> {
    while peer.frame().is_some() {}
    if peer.end == Some(Ok(())) { Ok(()) } else { Err(format!("then {}", how(peer))) }
}

fn code(frame: &Frame) -> u32 {
    let at = if frame.kind == GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
}

fn named(name: &str) -> u32 {
    CODES.iter().find(|one| one.0 == name).unwrap_or_else(|| panic!("a code: {name}")).1
}

/// A frame, or octets that are none.
fn octets(text: &str) -> Vec<u8> {
    let text = text.trim();
    if text == "PREFACE" {
        return PREFACE.to_vec();
    }
    let Some((head, rest)) = text.split_once('[') else { return payload(text) };
    let (place, rest) = rest.split_once(']').unwrap();
    let (stream, flags) = place.split_once(',').unwrap_or((place, ""));
    let kind = match head.strip_prefix('x') {
        Some(hex) => u8::from_str_radix(hex, 16).unwrap(),
        None => KINDS.iter().find(|one| one.0 == head).unwrap_or_else(|| panic!("{head}")).1,
    };
    let flags = match flags.strip_prefix('x') {
        Some(hex) => u8::from_str_radix(hex, 16).unwrap(),
        None => flags.chars().fold(0, |all, one| {
            all | match one {
                'E' | 'A' => 1,
                'H' => 4,
                'P' => 8,
                'R' => 32,
                _ => panic!("a flag: {one}"),
            }
        }),
    };
    let id = match stream.strip_suffix('r') {
        Some(id) => id.parse::<u32>().unwrap() | 1 << 31,
        None => stream.parse().unwrap(),
    };
    frame(kind, flags, id, &payload(rest))
}

fn payload(text: &str) -> Vec<u8> {
    text.split_whitespace().flat_map(token).collect()
}

fn token(token: &str) -> Vec<u8> {
    if let Some(text) = token.strip_prefix('"') {
        return text.strip_suffix('"').unwrap().as_bytes().to_vec();
    }
    if let Some((octet, times)) = token.split_once('*') {
        let octet = if octet == "0" { 0 } else { octet.as_bytes()[0] };
        return vec![octet; times.parse().unwrap()];
    }
    if let Some(number) = token.strip_prefix("DUMMY") {
        let mut field = literal(format!("x-dummy{number}").as_bytes(), &[b'x'; 4000]);
        // The table remembers it.
        field[0] = 0x40;
        return field;
    }
    if let Some((from, to)) = token.split_once("..") {
        let (whole, from) = (head("GET"), from.strip_prefix("GET").unwrap());
        let from = if from.is_empty() { 0 } else { from.parse().unwrap() };
        let to = if to.is_empty() { whole.len() } else { to.parse().unwrap() };
        return whole[from..to].to_vec();
    }
    if matches!(token, "GET" | "GET2" | "POST" | "HEAD") {
        return head(token);
    }
    assert!(token.len().is_multiple_of(2) && token.is_ascii(), "octets: {token}");
    let pairs = (0..token.len() / 2).map(|at| &token[2 * at..2 * at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// A whole head: what is asked for comes back as the body of the answer.
fn head(method: &str) -> Vec<u8> {
    let method_field = match method {
        "POST" => vec![0x83],
        "HEAD" => [&[0x02, 4][..], b"HEAD"].concat(),
        _ => vec![0x82],
    };
    let authority = match method {
        "GET2" => vec![0xbe],
        _ => [&[0x41, 9][..], b"a.example"].concat(),
    };
    [method_field, vec![0x86, 0x04, 7], b"/h2spec".to_vec(), authority].concat()
}
