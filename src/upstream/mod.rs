//! Floor 5: clusters at run time: which endpoints can be reached, their idle connections, one try
//! at one of them.

pub mod attempt;
pub mod endpoint;
pub mod flight;
pub mod http1;
pub mod key;
pub mod pool;
pub mod retry;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use crate::balance::{Balancer, Shared, View, build};
use crate::base::clock::{Moment, precise};
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::base::limits::{FAILURES_MAX, RETRY_PERCENT};
use crate::base::random::Random;
use crate::config::model;
use crate::health::passive::State;
use crate::health::{Table, Verdict, is_panic};
use crate::limit::budget::Budget;
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
    /// What passive checks think, of all shards.
    standing: Arc<Table>,
    budget: Cell<Budget>,
}

impl Cluster {
    /// A cluster whose endpoints are all taken to work. `seed` differs from shard to shard.
    #[must_use]
    pub fn new(
        model: &model::Cluster,
        shared: Arc<Shared>,
        standing: Arc<Table>,
        seed: u64,
    ) -> Self {
        let balancer = build(model, &shared, seed);
        let cluster = Self {
            endpoints: model.endpoints.iter().map(Endpoint::new).collect(),
            weights: model.endpoints.iter().map(|endpoint| endpoint.weight).collect(),
            reads_clock: balancer.reads_clock(),
            balancer: RefCell::new(balancer),
            shared,
            standing,
            budget: Cell::new(Budget::new(RETRY_PERCENT)),
            model: model.clone(),
        };
        cluster.trust();
        cluster
    }

    /// What the balancer hashes of this request; zero if it hashes nothing.
    #[must_use]
    pub fn key(&self, head: &RequestHead, client: IpAddr, random: &mut Random) -> u64 {
        self.model.hash.as_ref().map_or(0, |on| key::of(on, head, client, random))
    }

    /// An endpoint that this exchange has not tried. Those that are down, put out or resting come
    /// last: they are tried only where nothing else is left. One whose ejection is over gets a
    /// single request.
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
        let untried = |at: usize| {
            let one = &self.endpoints[at];
            !tries.contains(at) && one.is_reachable() && !self.is_held(one)
        };
        let up = |at: usize| self.endpoints[at].is_ready() && !tries.contains(at);
        let good = |at: usize| {
            up(at)
                && !self.endpoints[at].is_resting(now)
                && self.standing.of(at).state(now) != State::Out
        };
        loop {
            let Some(id) = self
                .choose(&good, key, random)
                .or_else(|| self.choose(&up, key, random))
                .or_else(|| self.choose(&untried, key, random))
            else {
                let any = self.endpoints.iter().any(Endpoint::is_reachable);
                return Err(if any { Kind::NoEndpoint } else { Kind::NoAddress });
            };
            let standing = self.standing.of(usize::from(id.0));
            // Whoever comes second looks for another: now it is out again.
            if standing.state(now) != State::Trial || standing.claim(now) {
                return Ok(id);
            }
        }
    }

    fn choose(
        &self,
        eligible: &dyn Fn(usize) -> bool,
        key: u64,
        random: &mut Random,
    ) -> Option<EndpointId> {
        // Many clusters are one server: nothing to weigh up.
        if self.weights.len() == 1 {
            return eligible(0).then_some(EndpointId(0));
        }
        let (weights, loads) = (&self.weights, &self.shared.loads);
        let view = View { weights, loads, eligible, now: self.micros(), key };
        self.balancer.borrow_mut().pick(&view, random)
    }

    /// It waits for its first check.
    fn is_held(&self, endpoint: &Endpoint) -> bool {
        endpoint.verdict.get() == Verdict::Unknown
            && self.model.health.as_ref().is_some_and(|health| health.hold)
    }

    // === health ===

    /// What checks say of an endpoint.
    pub fn judged(&self, id: EndpointId, verdict: Verdict) {
        let endpoint = self.endpoint(id);
        endpoint.verdict.set(verdict);
        if verdict == Verdict::Up {
            endpoint.wake();
        }
        self.trust();
    }

    /// Whom the checks let requests go to. When too few are up, to all.
    fn trust(&self) {
        let down = self.endpoints.iter().filter(|one| one.verdict.get() == Verdict::Down).count();
        let is_panic = is_panic(down, self.endpoints.len());
        for one in &self.endpoints {
            one.trust(!self.is_held(one) && (is_panic || one.verdict.get() != Verdict::Down));
        }
    }

    /// An exchange with an endpoint went well.
    #[inline]
    pub fn passed(&self, id: EndpointId) {
        self.standing.of(usize::from(id.0)).passed();
    }

    /// An endpoint did not do what a server must.
    pub fn failed(&self, id: EndpointId, now: Moment) {
        let standing = self.standing.of(usize::from(id.0));
        // Nobody is told for how long it is out: the shards see it in the table they share.
        let _ = standing.failed(now, FAILURES_MAX, || self.standing.may_eject());
    }

    /// A request for this cluster has come: it pays for a part of a retry.
    #[inline]
    pub fn pay_in(&self) {
        let mut budget = self.budget.get();
        budget.pay_in();
        self.budget.set(budget);
    }

    /// Whether one more request may be sent again.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        let mut budget = self.budget.get();
        let may = budget.take();
        self.budget.set(budget);
        may
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
