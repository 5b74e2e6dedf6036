//! Floor 2: the file that a person wrote to the plan that a shard runs. Takes text, opens nothing.

pub mod access_log;
pub mod admin;
pub mod advice;
pub mod cache;
pub mod lower;
pub mod merge;
pub mod model;
pub mod problem;
pub mod raw;
pub mod resilience;
pub mod schema;
pub mod source;
pub mod tls;
pub mod trace;
pub mod units;

mod digest;
mod lower_admin;
mod lower_cache;
mod lower_cluster;
mod lower_common;
mod lower_health;
mod lower_log;
mod lower_resilience;
mod lower_route;
mod lower_tls;
mod lower_trace;
mod shape;
