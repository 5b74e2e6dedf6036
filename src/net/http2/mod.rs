//! HTTP/2 on our streams: h2 does frames, HPACK and flow control; what it wants to read and write goes
//! through a port, and each of its streams is a strand that the rest takes for a socket.

pub mod client;
pub mod payload;
pub mod port;
pub mod server;
pub mod strand;
