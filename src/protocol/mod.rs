//! Floor 5: heads, data and trailers on transports, for every version of HTTP. A version is a folder; what the rest
//! of the program sees are three closed enums: the client's answer (`reply`), its request's body (`request`), and
//! an exchange with an endpoint (`line`).

pub mod http1;
pub mod http2;
pub mod line;
pub mod pace;
pub mod reply;
pub mod request;
pub mod tunnel;
pub mod with;
