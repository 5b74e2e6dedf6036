//! The chunked coding (RFC 9112 section 7.1): decoded in place, as it comes, never holding a
//! chunk; encoded by putting a size line in front. Our own, because the ones at hand accept empty
//! sizes and bare line feeds.

use std::ops::Range;

use crate::base::error::{Kind, Result};
use crate::base::limits::{CHUNK_EXTENSIONS_MAX, TRAILERS_MAX};

/// ```text
/// Size -> Extension -> SizeEnd -> Data -> DataCr -> DataLf -> Size ...
///                         \-> (size 0) TrailerStart -> Trailer ... -> LastLf -> Done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// Digits seen of a size.
    Size { digits: u8, size: u64 },
    /// Inside a chunk extension, which is checked and dropped.
    Extension { size: u64 },
    /// After the CR of a size line.
    SizeEnd { size: u64 },
    /// Octets left of a chunk.
    Data { left: u64 },
    /// After a chunk's last octet.
    DataCr,
    /// After the CR behind a chunk.
    DataLf,
    /// At the beginning of a trailer line, or of the empty line that ends it all.
    TrailerStart,
    /// Inside a trailer line.
    Trailer,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the empty line.
    LastLf,
    /// Nothing more belongs to this body.
    Done,
}

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder {
    state: ChunkState,
    extensions: usize,
    trailers: Vec<u8>,
}

/// What one call did: `consumed` octets of the input belong to this body, and its data now stands
/// in `data` of the same input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Octets used up.
    pub consumed: usize,
    /// Where the data is.
    pub data: Range<usize>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: ChunkState::Size { digits: 0, size: 0 }, extensions: 0, trailers: Vec::new() }
    }
}

impl Decoder {
    /// Decodes as much as there is, moving the data of several chunks together in place.
    ///
    /// # Errors
    /// `Chunk` or `Trailer` at the first octet that breaks the grammar. The data before it must
    /// then not be shown as a complete body.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded> {
        let mut at = 0;
        let mut data = 0..0;
        while at < bytes.len() && self.state != ChunkState::Done {
            if let ChunkState::Data { left } = self.state {
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                if data.is_empty() {
                    data = at..at;
                }
                if data.end != at {
                    bytes.copy_within(at..at + run, data.end);
                }
                data.end += run;
                at += run;
                let left = left - run as u64;
                self.state = if left == 0 { ChunkState::DataCr } else { ChunkState::Data { left } };
            } else {
                self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(Decoded { consumed: at, data })
    }

    /// The last chunk and the trailer section have been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// The trailer section with its empty line; empty if there was none. Meaningful when done.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// What the octet that was refused stands in, for people.
    #[must_use]
    pub const fn whereabouts(&self) -> &'static str {
        match self.state {
            ChunkState::Size { .. } | ChunkState::Extension { .. } | ChunkState::SizeEnd { .. } => {
                "a malformed line of a chunk size"
            }
            ChunkState::Data { .. } | ChunkState::DataCr | ChunkState::DataLf => {
                "a chunk that is not as long as its chunk size says"
            }
            _ => "a malformed trailer section",
        }
    }

    fn step(&mut self, byte: u8) -> Result<()> {
        self.state = match (self.state, byte) {
            (ChunkState::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                // Sixteen digits are 64 bits; more is an attack or a mistake.
                if digits == 16 {
                    return Err(Kind::Chunk);
                }
                ChunkState::Size { digits: digits + 1, size: size << 4 | hex(byte) }
            }
            (ChunkState::Size { digits: 1.., size }, b'\r') => ChunkState::SizeEnd { size },
            (ChunkState::Size { digits: 1.., size }, b';') => self.extension(size)?,
            // Anything a line may hold; a control character could end the line for another parser.
            (ChunkState::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extension(size)?
            }
            (ChunkState::Extension { size }, b'\r') => ChunkState::SizeEnd { size },
            (ChunkState::SizeEnd { size: 0 }, b'\n') => ChunkState::TrailerStart,
            (ChunkState::SizeEnd { size }, b'\n') => ChunkState::Data { left: size },
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Size { digits: 0, size: 0 },
            (ChunkState::TrailerStart, b'\r') => ChunkState::LastLf,
            (ChunkState::TrailerStart, b' ' | b'\t' | b'\n') => return Err(Kind::Trailer),
            (ChunkState::TrailerStart, _) => self.trailer(byte, ChunkState::Trailer)?,
            (ChunkState::Trailer, b'\r') => self.trailer(byte, ChunkState::TrailerLf)?,
            (ChunkState::Trailer, b'\n') => return Err(Kind::Trailer),
            (ChunkState::Trailer, _) => self.trailer(byte, ChunkState::Trailer)?,
            (ChunkState::TrailerLf, b'\n') => self.trailer(byte, ChunkState::TrailerStart)?,
            (ChunkState::LastLf, b'\n') => {
                if !self.trailers.is_empty() {
                    self.trailers.extend_from_slice(b"\r\n");
                }
                ChunkState::Done
            }
            (ChunkState::TrailerLf | ChunkState::LastLf, _) => return Err(Kind::Trailer),
            _ => return Err(Kind::Chunk),
        };
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<ChunkState> {
        self.extensions += 1;
        if self.extensions > CHUNK_EXTENSIONS_MAX {
            return Err(Kind::Chunk);
        }
        Ok(ChunkState::Extension { size })
    }

    fn trailer(&mut self, byte: u8, next: ChunkState) -> Result<ChunkState> {
        if self.trailers.len() >= TRAILERS_MAX {
            return Err(Kind::Trailer);
        }
        self.trailers.push(byte);
        Ok(next)
    }
}

/// The end of a body without trailers.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// A chunk's size line, right-aligned in `out`: returns where it begins.
pub fn size_line(size: usize, out: &mut [u8; 18]) -> usize {
    out[16..].copy_from_slice(b"\r\n");
    let mut at = 16;
    let mut rest = size;
    loop {
        at -= 1;
        out[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return at;
        }
    }
}

fn hex(byte: u8) -> u64 {
    u64::from(match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte - b'A' + 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes input cut into pieces of `size`; returns data, octets consumed, and the decoder.
    fn run(input: &[u8], size: usize) -> Result<(Vec<u8>, usize, Decoder)> {
        let mut decoder = Decoder::default();
        let (mut data, mut consumed) = (Vec::new(), 0);
        for piece in input.chunks(size) {
            let mut piece = piece.to_vec();
            let step = decoder.decode(&mut piece)?;
            data.extend_from_slice(&piece[step.data]);
            consumed += step.consumed;
        }
        Ok((data, consumed, decoder))
    }

    #[test]
    fn data_comes_out_whatever_the_cuts() {
        let input = b"5\r\nhello\r\n1;a=\"b\"\r\n \r\n00005\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\nGET /";
        for size in 1..=input.len() {
            let (data, consumed, decoder) = run(input, size).unwrap();
            assert_eq!(data, b"hello world", "cut at {size}");
            assert!(decoder.is_done());
            assert_eq!(consumed, input.len() - 5);
            assert_eq!(decoder.trailers(), b"X-Sum: 1\r\n\r\n");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_whatever_the_cuts() {
        let extensions = format!("1;{}\r\n", "a".repeat(5000));
        let trailers = format!("0\r\nX: {}\r\n\r\n", "a".repeat(10_000));
        for input in [
            "\r\n",
            "0x2\r\n",
            "+2\r\n",
            "-0\r\n",
            "2_0\r\n",
            "2junk\r\n",
            " 2\r\n",
            "2 \r\n",
            "2\n",
            "2;\n",
            "2\r;",
            "2;a\rb",
            "2;a\0\r\n",
            "2\r\nabXX",
            "2\r\nab\n",
            "0\n\n",
            "0\r\n\n",
            "0\r\n\rX",
            "0\r\nX: y\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "11111111111111111\r\n",
            ";a\r\n",
            "1\r\na\r\n\r\n",
            "0\r\nX\rY",
            "g\r\n",
        ]
        .into_iter()
        .chain([extensions.as_str(), trailers.as_str()])
        {
            for size in [1, 2, 3, input.len()] {
                assert!(run(input.as_bytes(), size).is_err(), "{} by {size}", input.escape_debug());
            }
        }
    }

    #[test]
    fn sizes_are_encoded_and_decoded_to_themselves() {
        for size in [1, 9, 15, 16, 255, 4096, 65_536, usize::MAX] {
            let mut line = [0; 18];
            let at = size_line(size, &mut line);
            let text = std::str::from_utf8(&line[at..16]).unwrap();
            assert_eq!(usize::from_str_radix(text, 16), Ok(size));
        }
    }
}
