//! HTTP/2 frame by frame: a client that sends exactly the frames it is told to, and an origin that
//! answers with whatever frames a test wants.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
    pub payload: Vec<u8>,
    /// Those of a head, read in the order in which heads come.
    pub fields: Vec<(String, String)>,
}

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Answer),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    Away(u32),
    Closed,
    /// Nothing, within the time that was given.
    Silence,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Outcome {
    pub fn answer(self) -> Answer {
        match self {
            Self::Answer(answer) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    pub fn status(&self) -> u16 {
        match self {
            Self::Answer(answer) => answer.status,
            _ => 0,
        }
    }
}

/// A frame's octets.
pub fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![len[1], len[2], len[3], kind, flags];
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A header block: literals that no table remembers (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

/// One field, whatever is in it.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        number(text.len(), &mut out);
        out.extend_from_slice(text);
    }
    out
}

fn number(mut value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

/// What a GET of a path begins with.
pub fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", path)]
}

/// The same for a POST.
pub fn post(path: &str) -> [(&str, &str); 4] {
    [(":method", "POST"), (":scheme", "http"), (":authority", "a.example"), (":path", path)]
}

/// One end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    rest: Vec<u8>,
    decoder: fluke_hpack::Decoder<'static>,
    /// Frames of streams that the test has not asked about yet.
    kept: Vec<Frame>,
    /// How the other side's octets ended, once they have: in order, or with this error.
    pub end: Option<Result<(), ErrorKind>>,
}

impl Peer {
    /// A client, after the preface of both sides.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    /// With settings of its own.
    pub fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::of(TcpStream::connect(address).unwrap());
        peer.send(PREFACE);
        peer.settings(settings);
        let first = peer.frame().expect("settings");
        assert_eq!((first.kind, first.flags), (SETTINGS, 0), "{first:?}");
        peer.send(frame(SETTINGS, ACK, 0, b""));
        peer
    }

    /// A server, after the preface of both sides.
    pub fn accept(stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::of(stream);
        while peer.rest.len() < PREFACE.len() && peer.more() {}
        assert!(peer.rest.starts_with(PREFACE), "a preface");
        peer.rest.drain(..PREFACE.len());
        peer.settings(settings);
        peer
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let decoder = fluke_hpack::Decoder::new();
        Self { stream, rest: Vec::new(), decoder, kept: Vec::new(), end: None }
    }

    pub fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.send(frame(SETTINGS, 0, 0, &payload));
    }

    /// Sends what may not be wanted any more.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub fn headers(&mut self, id: u32, fields: &[(&str, &str)], is_end: bool) -> bool {
        let flags = END_HEADERS | if is_end { END_STREAM } else { 0 };
        self.send(frame(HEADERS, flags, id, &block(fields)))
    }

    pub fn data(&mut self, id: u32, data: &[u8], is_end: bool) -> bool {
        self.send(frame(DATA, if is_end { END_STREAM } else { 0 }, id, data))
    }

    pub fn window(&mut self, id: u32, octets: u32) -> bool {
        self.send(frame(WINDOW_UPDATE, 0, id, &octets.to_be_bytes()))
    }

    pub fn reset(&mut self, id: u32, code: u32) -> bool {
        self.send(frame(RST_STREAM, 0, id, &code.to_be_bytes()))
    }

    fn more(&mut self) -> bool {
        let mut part = [0; 65536];
        match self.stream.read(&mut part) {
            Ok(0) => {
                self.end = Some(Ok(()));
                false
            }
            Ok(len) => {
                self.rest.extend_from_slice(&part[..len]);
                true
            }
            Err(error) => {
                assert!(error.kind() != ErrorKind::Interrupted);
                self.end = Some(Err(error.kind()));
                false
            }
        }
    }

    /// The next frame; `None` at the end, or when nothing comes.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, w, x, y, z, rest @ ..] = self.rest.as_slice() {
                let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if rest.len() >= len {
                    let id = u32::from_be_bytes([*w, *x, *y, *z]);
                    let (kind, flags, payload) = (*kind, *flags, rest[..len].to_vec());
                    self.rest.drain(..9 + len);
                    let is_head = kind == HEADERS && flags & END_HEADERS != 0;
                    let fields = if is_head { self.decode(&payload) } else { Vec::new() };
                    return Some(Frame { kind, flags, id, payload, fields });
                }
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The fields of a block without padding and priority.
    fn decode(&mut self, payload: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let fields = self.decoder.decode(payload).expect("a header block");
        fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// What becomes of a stream.
    pub fn outcome(&mut self, id: u32) -> Outcome {
        self.outcome_within(id, PATIENCE)
    }

    pub fn outcome_within(&mut self, id: u32, wait: Duration) -> Outcome {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let mut answer = Answer::default();
        let begun = std::time::Instant::now();
        let mut kept = std::mem::take(&mut self.kept);
        kept.reverse();
        loop {
            let next = match kept.pop() {
                Some(frame) => Some(frame),
                None => self.frame(),
            };
            let Some(frame) = next else {
                let is_silent = begun.elapsed() >= wait;
                return if is_silent { Outcome::Silence } else { Outcome::Closed };
            };
            if frame.kind == GOAWAY {
                let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
                // A polite one lets streams finish.
                if code != 0 {
                    return Outcome::Away(code);
                }
                continue;
            }
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(super::h2::frame(SETTINGS, ACK, 0, b""));
            }
            if frame.kind == PING && frame.flags & ACK == 0 {
                self.send(super::h2::frame(PING, ACK, 0, &frame.payload));
            }
            if frame.id != id {
                // Header blocks must be read in order, whose ever they are.
                if frame.id != 0 {
                    self.kept.push(frame);
                }
                continue;
            }
            match frame.kind {
                HEADERS => {
                    let fields = frame.fields.clone();
                    let status = fields.iter().find(|(name, _)| name == ":status");
                    match status.map(|(_, status)| status.parse::<u16>().unwrap()) {
                        Some(100..=199) => continue,
                        Some(status) => {
                            answer.status = status;
                            answer.fields = fields;
                        }
                        None => answer.trailers = fields,
                    }
                }
                DATA => answer.body.extend_from_slice(&frame.payload),
                RST_STREAM => {
                    let code = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
                    self.kept.extend(kept.into_iter().rev());
                    return Outcome::Reset(code);
                }
                _ => continue,
            }
            if frame.flags & END_STREAM != 0 {
                self.kept.extend(kept.into_iter().rev());
                return Outcome::Answer(answer);
            }
        }
    }

    /// One GET.
    pub fn ask(&mut self, id: u32, path: &str) -> Outcome {
        self.headers(id, &get(path), true);
        self.outcome(id)
    }

    /// How the connection ends: the code of its GOAWAY, or 0 if it just closed; `None` if it stays.
    pub fn end_within(&mut self, wait: Duration) -> Option<u32> {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let begun = std::time::Instant::now();
        let mut code = 0;
        while let Some(frame) = self.frame() {
            if frame.kind == GOAWAY {
                code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
            }
            if begun.elapsed() >= wait {
                return None;
            }
        }
        (begun.elapsed() < wait).then_some(code)
    }
}
