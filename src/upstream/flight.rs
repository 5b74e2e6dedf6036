//! One request at one endpoint, counted for as long as it lasts.

use crate::balance::load::{Load, Micros};

/// Counts in the endpoint's load from its making to its drop, whatever ends it.
#[derive(Debug)]
pub struct Flight<'a> {
    load: &'a Load,
    began: Micros,
    depth: u32,
}

impl<'a> Flight<'a> {
    /// Begins. `now` is zero where nobody reads the clock.
    #[must_use]
    pub fn new(load: &'a Load, now: Micros) -> Self {
        Self { load, began: now, depth: load.begin(now) }
    }

    /// The answer came whole: how long it took counts. A failure tells nothing about speed.
    pub fn landed(self, now: Micros) {
        if now > 0 {
            self.load.sample(now, now.saturating_sub(self.began), self.depth);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.load.end();
    }
}
