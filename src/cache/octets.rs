//! A piece of a body: shared by all that read it, and counted for as long as a task holds it, in the
//! store, on its way into it, or on its way to a client.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A piece of a body.
pub type Chunk = Arc<Octets>;

/// Where pieces are counted.
pub type Gauge = Arc<AtomicU64>;

/// What a piece costs beside its octets.
pub const CHUNK_COST: u64 = 112;

/// The octets of a piece.
#[derive(Debug)]
pub struct Octets {
    bytes: Box<[u8]>,
    gauge: Option<Gauge>,
}

impl Octets {
    /// A piece that counts.
    #[must_use]
    pub fn counted(bytes: impl Into<Box<[u8]>>, gauge: &Gauge) -> Chunk {
        let bytes = bytes.into();
        gauge.fetch_add(bytes.len() as u64 + CHUNK_COST, Relaxed);
        Arc::new(Self { bytes, gauge: Some(Arc::clone(gauge)) })
    }

    /// One that does not.
    #[must_use]
    pub fn plain(bytes: impl Into<Box<[u8]>>) -> Chunk {
        Arc::new(Self { bytes: bytes.into(), gauge: None })
    }

    /// One that counts where another does.
    #[must_use]
    pub fn beside(other: &Self, bytes: impl Into<Box<[u8]>>) -> Chunk {
        match &other.gauge {
            Some(gauge) => Self::counted(bytes, gauge),
            None => Self::plain(bytes),
        }
    }

    /// What it counts as.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.bytes.len() as u64 + CHUNK_COST
    }
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Octets {
    fn drop(&mut self) {
        if let Some(gauge) = &self.gauge {
            gauge.fetch_sub(self.cost(), Relaxed);
        }
    }
}

/// All octets of some pieces.
#[must_use]
pub fn joined(chunks: &[Chunk]) -> Vec<u8> {
    let mut all = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
    chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_count_as_long_as_anybody_holds_them() {
        let gauge = Gauge::default();
        let one = Octets::counted(&b"one"[..], &gauge);
        let other = Octets::beside(&one, vec![b'x'; 10]);
        let again = Arc::clone(&one);
        assert_eq!(gauge.load(Relaxed), one.cost() + other.cost());
        drop(one);
        assert_eq!(joined(&[again, Octets::beside(&Octets::plain(&b""[..]), &b"!"[..])]), b"one!");
        drop(other);
        assert_eq!(gauge.load(Relaxed), 0);
    }
}
