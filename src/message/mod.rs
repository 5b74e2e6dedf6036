//! Floor 1: what an HTTP message *is*, for any version. No I/O, no wire syntax.

pub mod canned;
pub mod date;
pub mod fields;
pub mod forwarded;
pub mod framing;
pub mod head;
pub mod hop;
pub mod introduce;
pub mod limits;
pub mod name;
pub mod reuse;
pub mod target;
pub mod trace_context;
pub mod upgrade;
