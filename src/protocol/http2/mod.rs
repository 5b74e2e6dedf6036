//! HTTP/2 on a transport: `h2` does frames, HPACK and flow control.

pub mod client;
pub mod io_adapter;
pub mod lease;
pub mod line;
pub mod payload;
pub mod receive;
pub mod reply;
pub mod send;
pub mod server;
