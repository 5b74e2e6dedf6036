#![doc = include_str!("ARCHITECTURE.md")]

// Which room is on which floor: the page above, and tests/layers.rs.
pub mod admin;
pub mod balance;
pub mod base;
pub mod cache;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod downstream;
pub mod exchange;
pub mod filter;
pub mod health;
pub mod limit;
pub mod message;
pub mod net;
pub mod observe;
pub mod operate;
pub mod protocol;
pub mod route;
pub mod shard;
pub mod upstream;
pub mod wire;
pub mod worker;
