//! Floor 5: clusters at run time: which endpoints can be reached, their idle connections, one try
//! at one of them.

pub mod attempt;
pub mod endpoint;
pub mod http1;
pub mod pool;
pub mod retry;

use std::cell::RefCell;

use crate::balance::{Balancer, Candidate, build};
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::base::random::Random;
use crate::config::model;
use endpoint::Endpoint;
use retry::Tries;

/// One shard's view of a cluster.
pub struct Cluster {
    pub model: model::Cluster,
    endpoints: Vec<Endpoint>,
    balancer: RefCell<Box<dyn Balancer>>,
    candidates: RefCell<Vec<Candidate>>,
}

impl Cluster {
    /// A cluster whose endpoints are all taken to work. `seed` differs from shard to shard.
    #[must_use]
    pub fn new(model: &model::Cluster, seed: u64) -> Self {
        let endpoints: Vec<Endpoint> = model.endpoints.iter().map(Endpoint::new).collect();
        Self {
            balancer: RefCell::new(build(model.balance, endpoints.len(), seed)),
            candidates: RefCell::new(Vec::with_capacity(endpoints.len())),
            model: model.clone(),
            endpoints,
        }
    }

    /// An endpoint that this exchange has not tried. Resting ones come last.
    ///
    /// # Errors
    /// `NoAddress` if no name resolves, `NoEndpoint` if every endpoint was tried.
    pub fn pick(&self, tries: &Tries, now: Moment, random: &mut Random) -> Result<EndpointId> {
        let pick = |ignore_rest: bool, random: &mut Random| {
            let mut candidates = self.candidates.borrow_mut();
            candidates.clear();
            candidates.extend(self.endpoints.iter().enumerate().map(|(at, endpoint)| Candidate {
                weight: endpoint.weight,
                is_eligible: endpoint.is_reachable()
                    && (ignore_rest || !endpoint.is_resting(now))
                    && !tries.contains(at),
            }));
            self.balancer.borrow_mut().pick(&candidates, random)
        };
        pick(false, random).or_else(|| pick(true, random)).ok_or_else(|| {
            let any = self.endpoints.iter().any(Endpoint::is_reachable);
            if any { Kind::NoEndpoint } else { Kind::NoAddress }
        })
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
