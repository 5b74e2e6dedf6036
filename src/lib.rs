#![doc = include_str!("ARCHITECTURE.md")]

pub mod base; // floor 0
pub mod message; // floor 1
pub mod wire; // floor 2
