//! Floor 3: which connections may come in. Pure counting; the shell accepts and closes.

pub mod budget;
pub mod gate;
pub mod gradient;
pub mod pressure;
pub mod quantile;
pub mod queue;
