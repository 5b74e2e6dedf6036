//! What a TLS client says first (RFC 8446 section 4.1.2), as far as it decides where a connection goes
//! that is not decrypted here: the name that it wants (RFC 6066 section 3) and the protocols that it
//! speaks (RFC 7301). Nothing is answered.

use crate::base::limits::CLIENT_HELLO_MAX;
use crate::base::limits::HELLO_RECORD_MAX;

/// What matters of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// In lower case; `None` if it names none.
    pub name: Option<Vec<u8>>,
    /// In the order of preference.
    pub protocols: Vec<Vec<u8>>,
}

/// It is no such thing, or larger than any client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTls;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;

/// Reads the beginning of a connection; `None` if more must come.
///
/// # Errors
/// It is no ClientHello.
pub fn parse(bytes: &[u8]) -> Result<Option<Hello>, NotTls> {
    let Some(message) = message(bytes)? else { return Ok(None) };
    read(&mut HelloReader(&message)).map(Some)
}

/// The handshake message, put together from the records that it was cut into.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    let mut records = HelloReader(bytes);
    let mut message = Vec::new();
    loop {
        if let [CLIENT_HELLO, a, b, c, rest @ ..] = message.as_slice() {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if len > CLIENT_HELLO_MAX {
                return Err(NotTls);
            }
            if rest.len() >= len {
                return Ok(Some(rest[..len].to_vec()));
            }
        } else if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NotTls);
        }
        // What cannot become a record is known by its first octets.
        let beginning = records.0;
        let is_record =
            |at: usize, fits: &dyn Fn(u8) -> bool| beginning.get(at).is_none_or(|byte| fits(*byte));
        if !is_record(0, &|byte| byte == HANDSHAKE) || !is_record(1, &|byte| byte == 3) {
            return Err(NotTls);
        }
        let (Some(_), Some(len)) = (records.take(3), records.number(2)) else {
            return too_long(bytes);
        };
        if len == 0 || len > HELLO_RECORD_MAX {
            return Err(NotTls);
        }
        match records.take(len) {
            Some(piece) => message.extend_from_slice(piece),
            None => return too_long(bytes),
        }
    }
}

/// More must come, if there may be more.
fn too_long(bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    if bytes.len() > CLIENT_HELLO_MAX { Err(NotTls) } else { Ok(None) }
}

fn read(message: &mut HelloReader<'_>) -> Result<Hello, NotTls> {
    let mut hello = Hello::default();
    // Version and random, session, cipher suites, compression.
    message.take(2 + 32).ok_or(NotTls)?;
    message.list(1).ok_or(NotTls)?;
    message.list(2).ok_or(NotTls)?;
    message.list(1).ok_or(NotTls)?;
    if message.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = HelloReader(message.list(2).ok_or(NotTls)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2).ok_or(NotTls)?;
        let mut body = HelloReader(extensions.list(2).ok_or(NotTls)?);
        if kind == usize::from(SERVER_NAME) {
            let mut names = HelloReader(body.list(2).ok_or(NotTls)?);
            while !names.0.is_empty() {
                let is_host = names.number(1).ok_or(NotTls)? == 0;
                let name = names.list(2).ok_or(NotTls)?;
                if is_host {
                    hello.name = Some(host(name)?);
                }
            }
        } else if kind == usize::from(PROTOCOLS) {
            let mut names = HelloReader(body.list(2).ok_or(NotTls)?);
            while !names.0.is_empty() {
                hello.protocols.push(names.list(1).ok_or(NotTls)?.to_vec());
            }
        }
    }
    Ok(hello)
}

/// A host name in lower case.
fn host(name: &[u8]) -> Result<Vec<u8>, NotTls> {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > 255 || !name.iter().all(is_good) {
        return Err(NotTls);
    }
    Ok(name.to_ascii_lowercase())
}

/// What is left to be read.
struct HelloReader<'a>(&'a [u8]);

impl<'a> HelloReader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, octets: usize) -> Option<usize> {
        let taken = self.take(octets)?;
        Some(taken.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// Octets behind their length.
    fn list(&mut self, octets: usize) -> Option<&'a [u8]> {
        let len = self.number(octets)?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(octets: usize, text: &[u8]) -> Vec<u8> {
        let len = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&len[4 - octets..], text].concat()
    }

    fn hello(name: Option<&[u8]>, protocols: &[&[u8]]) -> Vec<u8> {
        let mut extensions = Vec::new();
        // One that is not known, before those that matter.
        extensions.extend([&[0xfa, 0xfa][..], &list(2, b"grease")].concat());
        if let Some(name) = name {
            let names = list(2, &[&[0][..], &list(2, name)].concat());
            extensions.extend([&[0, 0][..], &list(2, &names)].concat());
        }
        let all: Vec<u8> = protocols.iter().flat_map(|one| list(1, one)).collect();
        extensions.extend([&[0, 16][..], &list(2, &list(2, &all))].concat());
        let body = [
            &[3, 3][..],
            &[7; 32],
            &list(1, b"session"),
            &list(2, &[0x13, 1]),
            &list(1, &[0]),
            &list(2, &extensions),
        ];
        [&[CLIENT_HELLO][..], &list(3, &body.concat())].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &list(2, piece)].concat()).collect()
    }

    #[test]
    fn names_and_protocols_are_found_however_they_are_cut() {
        let message = hello(Some(b"WWW.example.COM"), &[b"h2", b"http/1.1"]);
        let expected = Hello {
            name: Some(b"www.example.com".to_vec()),
            protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        for size in [1, 2, 3, 50, 10_000] {
            let bytes = records(&message, size);
            for len in 0..bytes.len() {
                assert_eq!(parse(&bytes[..len]), Ok(None), "{len} octets in records of {size}");
            }
            assert_eq!(parse(&bytes), Ok(Some(expected.clone())));
            assert_eq!(parse(&[&bytes[..], b"more"].concat()), Ok(Some(expected.clone())));
        }
        let nameless = parse(&records(&hello(None, &[]), 500)).unwrap().unwrap();
        assert_eq!(nameless, Hello::default());
    }

    #[test]
    fn what_is_none_is_known_at_once() {
        for bytes in
            [&b"GET / HTTP/1.1"[..], b"\x16\x02", b"\x17", b"\x80\x2e\x01", b"\x16\x03\x01\0\0"]
        {
            assert_eq!(parse(bytes), Err(NotTls), "{bytes:?}");
        }
        assert_eq!(parse(&records(&[2, 0, 0, 1, 0], 9)), Err(NotTls), "a ServerHello");
        let long = [&[CLIENT_HELLO, 0xff, 0xff, 0xff][..], &[0; 60]].concat();
        assert_eq!(parse(&records(&long, 64)), Err(NotTls));
        for name in [&b""[..], b"a\0b", b"a b", b"\xc3\xa4", &[b'a'; 256]] {
            assert_eq!(parse(&records(&hello(Some(name), &[]), 999)), Err(NotTls), "{name:?}");
        }
        // Lengths that lead beyond the end.
        let good = hello(Some(b"a"), &[b"h2"]);
        for at in 4..good.len() {
            let mut bad = good.clone();
            bad[at] = 0xff;
            let _ = parse(&records(&bad, 999));
        }
    }
}
