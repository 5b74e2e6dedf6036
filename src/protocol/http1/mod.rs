//! HTTP/1 on a transport.

pub mod line;
pub mod read;
pub mod reply;
pub mod write;
