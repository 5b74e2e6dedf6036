//! Floor 2: bytes to messages and back. No I/O: bytes in, values out, whatever the segmentation.

pub mod client_hello;
pub mod error_code_rewriter;
pub mod frames;
pub mod framing;
pub mod head;
pub mod header_block;
pub mod http1;
pub mod http2;
pub mod meter;
pub mod proxy_protocol;
pub mod rules;
