//! What is known of a request when an endpoint is chosen for it, and what was chosen.

use super::retry::Tries;
use super::sticky::Stuck;
use crate::base::clock::Micros;
use crate::base::id::EndpointId;
use crate::observe::record::Choice;

/// What is known of a request when an endpoint is chosen for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// What the balancer hashes.
    pub key: u64,
    /// What a sealed cookie says.
    pub stuck: Stuck,
    pub tries: Tries,
}

/// A request that counts at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    pub id: EndpointId,
    /// How many are under way there, this one included.
    pub depth: u32,
    /// Zero where the clock is not read.
    pub at: Micros,
    /// Why it is there.
    pub why: Choice,
}
