//! Floor 10: what an operator asks of a running process, and what it is told. Requests become orders to the
//! coordinator; answers are made of what it and the workers say. Runs on a thread of its own: no worker ever serves it.

pub mod api;
pub mod condition;
pub mod explain;
pub mod guard;
pub mod metrics;
pub mod order;
pub mod overview;
pub mod plan;

mod watch;
