//! HTTP/1.0 and 1.1 (RFC 9112), strict: what two parsers could read differently is refused.

pub mod chunked;
pub mod diagnose;
pub mod glimpse;
pub mod lanes;
pub mod parse;
pub mod quick;
pub mod scan;
pub mod write;
