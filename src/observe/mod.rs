//! Floor 3: what is remembered of an exchange and how it is shown. No files, no sockets.

pub mod counters;
pub mod format;
pub mod record;
pub mod recorder;
pub mod span;
pub mod stats;
