//! TLS over our own buffers: rustls does the protocol and the cryptography, through its unbuffered
//! interface; reading, writing and waiting are the stream's.

pub mod channel;
pub mod handshake;
pub mod handshake_semaphore;
pub mod identity;
pub mod local;
pub mod pem;
pub mod pinned;
pub mod reason;
pub mod server;
pub mod session;
pub mod staple;
pub mod subject;
pub mod trust;
