//! One request at one endpoint, counted for as long as it lasts.

use super::Cluster;
use super::choose::{Ask, Begun};
use crate::balance::load::Micros;
use crate::base::clock::Moment;
use crate::base::error::Result;
use crate::base::id::EndpointId;
use crate::config::resilience::Priority;

/// Counts in the endpoint's load from its making to its drop, whatever ends it.
pub struct Flight<'a> {
    cluster: &'a Cluster,
    pub id: EndpointId,
    /// It was in the queue before.
    pub has_waited: bool,
    depth: u32,
    began: Micros,
}

impl Cluster {
    /// Chooses an endpoint, and waits for room if there must be some.
    ///
    /// # Errors
    /// There is nobody to send it to, or no room in time.
    pub async fn begin(&self, ask: &Ask, priority: Priority, now: Moment) -> Result<Flight<'_>> {
        // Nobody overtakes those who wait.
        if !self.lobby.is_busy()
            && let Some(begun) = self.try_begin(ask)?
        {
            return Ok(self.flight(begun, false));
        }
        let begun = Box::pin(self.wait(*ask, priority, now)).await?;
        Ok(self.flight(begun, true))
    }

    /// What was begun lasts until the flight is dropped.
    #[must_use]
    pub fn flight(&self, begun: Begun, has_waited: bool) -> Flight<'_> {
        let Begun { id, depth, at: began } = begun;
        Flight { cluster: self, id, has_waited, depth, began }
    }
}

impl Flight<'_> {
    /// The answer came whole: how long it took counts. A failure tells nothing about speed.
    pub fn landed(self) {
        let now = self.cluster.micros();
        if now > 0 {
            let load = &self.cluster.shared.loads[usize::from(self.id.0)];
            load.sample(now, now.saturating_sub(self.began), self.depth);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.cluster.leave(self.id);
    }
}
