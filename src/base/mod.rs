//! Floor 0: bounds, time, identifiers, randomness and the table of everything that can go wrong.

pub mod clock;
pub mod error;
pub mod hash;
pub mod id;
pub mod limits;
pub mod random;
pub mod request_id;
