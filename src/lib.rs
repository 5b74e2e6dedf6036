#![doc = include_str!("ARCHITECTURE.md")]

pub mod balance; // floor 3
pub mod base; // floor 0
pub mod cache; // floor 3
pub mod cli;
pub mod config; // floor 2
pub mod control; // floor 10
pub mod demo; // floor 10
pub mod downstream; // floor 8
pub mod exchange; // floor 7
pub mod filter; // floor 3
pub mod health; // floor 3
pub mod limit; // floor 3
pub mod message; // floor 1
pub mod net; // floor 4
pub mod observe; // floor 3
pub mod protocol; // floor 5
pub mod route; // floor 3
pub mod shard; // floor 6
pub mod upstream; // floor 5
pub mod wire; // floor 2
pub mod worker; // floor 9 // floor 11
