//! Floor 5: clusters at run time: which endpoints can be reached, their idle connections, one try
//! at one of them.

pub mod attempt;
pub mod endpoint;
pub mod flight;
pub mod http1;
pub mod key;
pub mod pool;
pub mod retry;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::balance::{Balancer, Shared, View, build};
use crate::base::clock::{Moment, precise};
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::base::random::Random;
use crate::config::model;
use crate::message::head::RequestHead;
use endpoint::Endpoint;
use flight::Flight;
use retry::Tries;

/// One shard's view of a cluster.
pub struct Cluster {
    pub model: model::Cluster,
    endpoints: Vec<Endpoint>,
    weights: Vec<u32>,
    shared: Arc<Shared>,
    balancer: RefCell<Box<dyn Balancer>>,
    reads_clock: bool,
}

impl Cluster {
    /// A cluster whose endpoints are all taken to work. `seed` differs from shard to shard.
    #[must_use]
    pub fn new(model: &model::Cluster, shared: Arc<Shared>, seed: u64) -> Self {
        let balancer = build(model, &shared, seed);
        Self {
            endpoints: model.endpoints.iter().map(Endpoint::new).collect(),
            weights: model.endpoints.iter().map(|endpoint| endpoint.weight).collect(),
            reads_clock: balancer.reads_clock(),
            balancer: RefCell::new(balancer),
            shared,
            model: model.clone(),
        }
    }

    /// What the balancer hashes of this request; zero if it hashes nothing.
    #[must_use]
    pub fn key(&self, head: &RequestHead, client: IpAddr, random: &mut Random) -> u64 {
        self.model.hash.as_ref().map_or(0, |on| key::of(on, head, client, random))
    }

    /// An endpoint that this exchange has not tried. Resting ones come last.
    ///
    /// # Errors
    /// `NoAddress` if no name resolves, `NoEndpoint` if every endpoint was tried.
    pub fn pick(
        &self,
        tries: &Tries,
        key: u64,
        now: Moment,
        random: &mut Random,
    ) -> Result<EndpointId> {
        let untried = |at: usize| self.endpoints[at].is_reachable() && !tries.contains(at);
        let rested = |at: usize| !self.endpoints[at].is_resting(now) && untried(at);
        let pick = |eligible: &dyn Fn(usize) -> bool, random: &mut Random| {
            let view = View {
                weights: &self.weights,
                loads: &self.shared.loads,
                eligible,
                now: self.micros(),
                key,
            };
            self.balancer.borrow_mut().pick(&view, random)
        };
        pick(&rested, random).or_else(|| pick(&untried, random)).ok_or_else(|| {
            let any = self.endpoints.iter().any(Endpoint::is_reachable);
            if any { Kind::NoEndpoint } else { Kind::NoAddress }
        })
    }

    /// A request goes to an endpoint: it counts there until the flight is dropped.
    #[must_use]
    pub fn flight(&self, id: EndpointId) -> Flight<'_> {
        Flight::new(&self.shared.loads[usize::from(id.0)], self.micros())
    }

    /// An answer came whole.
    pub fn landed(&self, flight: Flight<'_>) {
        flight.landed(self.micros());
    }

    /// Read only where the balancer goes by it: a request costs no clock otherwise.
    fn micros(&self) -> u64 {
        if self.reads_clock { u64::try_from(precise().as_micros()).unwrap_or(u64::MAX) } else { 0 }
    }

    /// An endpoint by its id.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.endpoints[usize::from(id.0)]
    }

    /// Closes idle connections that are too old or were closed by their endpoint.
    pub fn prune(&self, now: Moment) {
        self.endpoints.iter().for_each(|endpoint| endpoint.pool.prune(now, &self.model.pool));
    }
}
