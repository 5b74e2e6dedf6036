//! Floor 6: clusters at run time: which endpoints can be reached, their idle connections, one try
//! at one of them.

pub mod ask;
pub mod attempt;
pub mod choose;
pub mod cluster;
pub mod dial;
pub mod endpoint;
pub mod flight;
pub mod http2;
pub mod key;
pub mod needs;
pub mod pending_queue;
pub mod pool;
pub mod retry;
pub mod sticky;
pub mod wait;
