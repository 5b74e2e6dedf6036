//! What was sent of a request's body to an endpoint of HTTP/2 that may still say that nothing was done with
//! it (RFC 9113 section 8.7): as long as it is little, it is kept and can be sent again (exam R27).

use crate::base::limits::REPLAY_MAX;
use crate::limit::pressure::Stage;
use crate::net::memory;

/// One request's, over all its tries.
#[derive(Debug, Default)]
pub struct Replay {
    sent: Vec<u8>,
    /// More was sent than is kept.
    is_lost: bool,
}

impl Replay {
    /// Keeps what is about to be sent, on a stream of HTTP/2: in HTTP/1 nothing says that it was not used.
    pub fn keep(&mut self, data: &[u8], is_stream: bool) {
        let fits = is_stream
            && self.sent.len() + data.len() <= REPLAY_MAX
            && memory::stage() == Stage::Calm;
        if fits && !self.is_lost {
            self.sent.extend_from_slice(data);
        } else {
            self.lose();
        }
    }

    /// It cannot be sent again any more, or need not.
    pub fn lose(&mut self) {
        *self = Self { is_lost: true, ..Self::default() };
    }

    /// What another try begins with.
    #[must_use]
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// The request can be made once more.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        !self.is_lost
    }
}
