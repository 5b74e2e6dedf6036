//! One request at one endpoint, counted for as long as it lasts.

use super::ask::{Ask, Begun};
use super::cluster::Cluster;
use crate::base::clock::Micros;
use crate::base::clock::Moment;
use crate::base::error::Result;
use crate::base::id::EndpointId;
use crate::config::resilience::Priority;
use crate::observe::record::Choice;

/// Counts in the endpoint's load from its making to its drop, whatever ends it.
pub struct Flight<'a> {
    cluster: &'a Cluster,
    pub id: EndpointId,
    depth: u32,
    began: Micros,
    /// Why it is there.
    pub why: Choice,
}

impl Cluster {
    /// Chooses an endpoint; `None` if there is no room, or others wait for some.
    ///
    /// # Errors
    /// There is no endpoint to send it to.
    #[inline]
    pub fn begin(&self, ask: &Ask) -> Result<Option<Flight<'_>>> {
        if self.is_limited && self.pending.is_busy() {
            return Ok(None);
        }
        let begun = self.try_begin(ask)?;
        Ok(begun.map(|begun| self.flight(begun)))
    }

    /// Chooses an endpoint when there is room.
    ///
    /// # Errors
    /// There is no endpoint to send it to, or no room in time.
    pub async fn begin_later(
        &self,
        ask: Ask,
        priority: Priority,
        now: Moment,
    ) -> Result<Flight<'_>> {
        let begun = self.wait(ask, priority, now).await?;
        Ok(self.flight(begun))
    }

    /// What was begun lasts until the flight is dropped.
    #[must_use]
    pub fn flight(&self, begun: Begun) -> Flight<'_> {
        let Begun { id, depth, at: began, why } = begun;
        Flight { cluster: self, id, depth, began, why }
    }
}

/// A flight without its cluster, to be taken up again by another task: counted all the while.
#[derive(Debug)]
#[must_use]
pub struct Layover {
    id: EndpointId,
    depth: u32,
    began: Micros,
    why: Choice,
}

impl Cluster {
    /// Takes up a flight of this cluster.
    pub fn resume(&self, layover: Layover) -> Flight<'_> {
        let Layover { id, depth, began, why } = layover;
        Flight { cluster: self, id, depth, began, why }
    }
}

impl<'a> Flight<'a> {
    /// Where it counts.
    #[must_use]
    pub const fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Puts it aside; the task that takes it up ends it.
    pub fn pause(self) -> Layover {
        let layover = Layover { id: self.id, depth: self.depth, began: self.began, why: self.why };
        std::mem::forget(self);
        layover
    }

    /// The answer came whole: how long it took counts. A failure tells nothing about speed.
    #[inline]
    pub fn landed(self) {
        let now = self.cluster.micros();
        if now > 0 {
            let load = &self.cluster.shared.loads[usize::from(self.id.0)];
            load.sample(now, now.saturating_sub(self.began), self.depth);
            if let Some(adaptive) = &self.cluster.adaptive {
                let mut gradient = adaptive.get();
                gradient.sample(now.saturating_sub(self.began));
                adaptive.set(gradient);
            }
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.cluster.leave(self.id);
    }
}
