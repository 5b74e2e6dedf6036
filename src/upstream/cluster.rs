//! One shard's view of a cluster: which of its endpoints can be reached, what is thought of them, and what its
//! requests may still spend on retries.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::ask::Ask;
use super::endpoint::{Duty, Endpoint};
use super::pending_queue::{PendingQueue, Turns};
use super::sticky::Seal;
use super::{key, retry};
use crate::balance::places::Places;
use crate::balance::{Balancer, SharedLoads, build, slow_start};
use crate::base::clock::Micros;
use crate::base::clock::Moment;
use crate::base::error::Kind;
use crate::base::id::{EndpointId, ShardId};
use crate::base::random::Random;
use crate::config::model;
use crate::health::{CheckVerdict, HealthTable, is_panic};
use crate::limit::budget::Budget;
use crate::limit::gradient::Gradient;
use crate::limit::quantile::Quantile;
use crate::message::head::RequestHead;
use crate::message::reuse::Proof;
use crate::net::tls::trust;
use crate::protocol::line::Line;

/// What the shards share of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterShared {
    pub balance: Arc<SharedLoads>,
    /// What passive checks think.
    pub health: Arc<HealthTable>,
    pub turns: Arc<Turns>,
    /// Seals cookies, if clients stick to endpoints.
    pub seal: Option<Arc<Seal>>,
    /// Where the addresses of names stood when the plan was made.
    pub places: Places,
}

/// One shard's view of a cluster.
pub struct Cluster {
    pub model: model::Cluster,
    pub(super) endpoints: Vec<Endpoint>,
    /// Where the addresses of names stand now.
    pub(super) places: RefCell<Places>,
    /// Endpoints with a higher index are empty places.
    pub(super) used: Cell<usize>,
    /// How many are not.
    pub(super) count: Cell<usize>,
    /// As the balancer sees them: less while an endpoint begins slowly.
    pub(super) weights: RefCell<Vec<u32>>,
    /// Those of endpoints that are warm.
    whole: RefCell<Vec<u32>>,
    pub(super) is_warming: Cell<bool>,
    pub(super) shared: Arc<SharedLoads>,
    pub(super) balancer: RefCell<Box<dyn Balancer>>,
    pub(super) standing: Arc<HealthTable>,
    /// Only so many requests may be under way at some endpoint, or at all.
    pub(super) is_limited: bool,
    pub(super) adaptive: Option<Cell<Gradient>>,
    /// Requests of this shard that are under way, where there is such a limit.
    pub(super) under_way: Cell<u32>,
    pub(super) pending: PendingQueue,
    pub(super) seal: Option<Arc<Seal>>,
    /// How long most answers take, where slow ones are hedged.
    pub pace: Option<Cell<Quantile>>,
    /// Tries have a time of their own.
    pub is_impatient: bool,
    pub(super) budget: Cell<Budget>,
    pub(super) random: RefCell<Random>,
    pub(super) now: Cell<Moment>,
    /// Microseconds, where the balancer goes by them.
    pub(super) clock: Option<fn() -> Micros>,
    /// Which certificates are believed, where connections are encrypted.
    pub(super) tls: RefCell<Option<trust::TlsClient>>,
}

impl Cluster {
    /// A cluster whose endpoints are all taken to work. Shards begin at different endpoints.
    /// `clock` is read only for balancers that go by time: a request costs no clock otherwise. `idle` counts the
    /// idle connections of the whole shard.
    #[must_use]
    pub fn new(
        model: &model::Cluster,
        common: &ClusterShared,
        shard: ShardId,
        seed: u64,
        clock: fn() -> Micros,
        idle: &Rc<Cell<usize>>,
    ) -> Self {
        let balancer = build(model, &common.places, seed.wrapping_add(u64::from(shard.0)));
        let adaptive = model.resilience.adaptive;
        let adaptive =
            adaptive.map(|policy| Cell::new(Gradient::new(policy, common.turns.shards())));
        let cluster = Self {
            endpoints: model
                .endpoints
                .iter()
                .map(|one| Endpoint::new(one, model.tls.as_ref(), idle))
                .collect(),
            places: RefCell::new(Places::unresolved(model)),
            used: Cell::new(0),
            count: Cell::new(0),
            weights: RefCell::new(weights(model)),
            whole: RefCell::new(weights(model)),
            is_warming: Cell::new(false),
            clock: (balancer.reads_clock() || adaptive.is_some()).then_some(clock),
            balancer: RefCell::new(balancer),
            shared: Arc::clone(&common.balance),
            standing: Arc::clone(&common.health),
            is_limited: adaptive.is_some()
                || model.endpoints.iter().any(|one| one.max_connections.is_some()),
            adaptive,
            under_way: Cell::new(0),
            seal: common.seal.clone(),
            pending: PendingQueue::new(shard, Arc::clone(&common.turns), model.resilience.queue),
            // A sticky client is served by its own endpoint, or not at all.
            pace: model
                .resilience
                .hedge
                .filter(|_| model.sticky.is_none())
                .map(|percent| Cell::new(Quantile::new(percent))),
            is_impatient: model.resilience.retry.on.timeout
                && model.resilience.retry.try_timeout != Duration::MAX,
            budget: Cell::new(Budget::new(model.resilience.retry.budget)),
            random: RefCell::new(Random::new(seed)),
            now: Cell::default(),
            model: model.clone(),
            tls: RefCell::default(),
        };
        cluster.placed(&common.places);
        cluster
    }

    /// The addresses of its names stand there now.
    pub fn placed(&self, places: &Places) {
        let old = self.places.replace(places.clone());
        for (at, one) in self.endpoints.iter().enumerate() {
            if old.address(at) != places.address(at) {
                one.placed(places.address(at));
            }
        }
        self.used.set(places.used(&self.model));
        self.weights.borrow_mut().clone_from(&self.whole.borrow());
        self.count.set(places.count(&self.model));
        self.is_warming.set(false);
        {
            let mut balancer = self.balancer.borrow_mut();
            balancer.placed(places);
            balancer.rescaled();
        }
        self.trust();
    }

    /// All that are not empty places, and perhaps some that are.
    pub(super) fn used(&self) -> &[Endpoint] {
        &self.endpoints[..self.used.get()]
    }

    /// An endpoint as people know it.
    #[must_use]
    pub fn text(&self, id: EndpointId) -> String {
        self.places.borrow().text(&self.model, usize::from(id.0))
    }

    /// The address of a name that stands at a place.
    #[must_use]
    pub fn address(&self, id: EndpointId) -> Option<SocketAddr> {
        self.places.borrow().address(usize::from(id.0))
    }

    /// What is known of a request when an endpoint is chosen for it. `wall` is in milliseconds
    /// since 1970.
    #[must_use]
    #[inline]
    pub fn ask(&self, head: &RequestHead, client: IpAddr, wall: u64) -> Ask {
        let is_plain = self.model.hash.is_none() && self.seal.is_none();
        if is_plain { Ask::default() } else { self.ask_by(head, client, wall) }
    }

    #[cold]
    fn ask_by(&self, head: &RequestHead, client: IpAddr, wall: u64) -> Ask {
        let mut ask = Ask::default();
        if let Some(on) = &self.model.hash {
            ask.key = key::of(on, head, client, &mut self.random.borrow_mut());
        }
        if let Some(seal) = &self.seal {
            ask.stuck = seal.open(head, wall / 1000, &self.places.borrow());
        }
        ask
    }

    /// Clients stick to endpoints.
    #[must_use]
    #[inline]
    pub fn is_sticky(&self) -> bool {
        self.seal.is_some()
    }

    /// The value of Set-Cookie that a client gets, if it needs one.
    #[must_use]
    pub fn cookie(&self, ask: &Ask, id: EndpointId, wall: u64, is_secure: bool) -> Option<String> {
        let seal = self.seal.as_ref()?;
        let name = self.places.borrow().name(usize::from(id.0));
        seal.cookie(ask.stuck, (id, name), wall / 1000, is_secure, &mut self.random.borrow_mut())
    }

    /// New connections are encrypted like this, or not at all. Those of before are not used again if
    /// when they were opened, other authorities were believed, or another certificate was shown.
    pub fn secure(&self, tls: Option<&trust::TlsClient>) {
        let digest = |tls: Option<&trust::TlsClient>| tls.map(|tls| tls.digest);
        let old = self.tls.replace(tls.map(trust::TlsClient::for_shard));
        if digest(old.as_ref()) != digest(tls) {
            self.endpoints.iter().for_each(Endpoint::part);
        }
    }

    /// Connections to its endpoints are encrypted.
    #[must_use]
    #[inline]
    pub fn is_secure(&self) -> bool {
        self.model.tls.is_some()
    }

    /// How they are.
    #[must_use]
    pub fn tls(&self) -> Option<trust::TlsClient> {
        self.tls.borrow().clone()
    }

    /// An endpoint by its id.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.endpoints[usize::from(id.0)]
    }

    pub(super) fn now(&self) -> Moment {
        self.now.get()
    }

    pub(super) fn micros(&self) -> Micros {
        self.clock.map_or(0, |clock| clock())
    }

    /// Ten times a second.
    pub fn tick(&self, now: Moment) {
        self.now.set(now);
        if let Some(adaptive) = &self.adaptive {
            let mut gradient = adaptive.get();
            gradient.tick(now);
            adaptive.set(gradient);
        }
        self.pending.expire(now);
        // An endpoint that has come back in the meantime has room.
        self.grant();
        for (at, one) in self.used().iter().enumerate() {
            if let Some(count) = one.take_count() {
                self.standing.count(at, count);
            }
        }
        self.warm(now);
    }

    /// Closes idle connections that are too old or were closed by their endpoint.
    pub fn prune(&self, now: Moment) {
        for endpoint in self.used() {
            endpoint.pool.prune(now, &self.model.pool);
            endpoint.shared.prune(now, &self.model.pool);
        }
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        for endpoint in &self.endpoints {
            endpoint.pool.clear();
            endpoint.shared.clear();
        }
    }

    /// An endpoint that came back lately has less weight. While there is one, weights are in hundredths.
    fn warm(&self, now: Moment) {
        let whole = self.model.resilience.slow_start;
        if whole.is_zero() {
            return;
        }
        let percent = |at: usize| {
            let back = self.standing.of(at).back();
            back.map_or(100, |back| slow_start::percent(now.since(back), whole))
        };
        let all = 0..self.used.get();
        if all.clone().any(|at| percent(at) < 100) {
            let weigh = |at: usize| self.whole.borrow()[at] * percent(at);
            self.weights.replace(all.map(weigh).collect());
            if !self.is_warming.replace(true) {
                self.balancer.borrow_mut().rescaled();
            }
        } else if self.is_warming.replace(false) {
            self.weights.borrow_mut().clone_from(&self.whole.borrow());
            self.balancer.borrow_mut().rescaled();
        }
    }

    /// An operator gives endpoints another weight, or the configured one again.
    pub fn weigh(&self, ids: &[EndpointId], weight: Option<u32>) {
        for id in ids {
            let at = usize::from(id.0);
            self.whole.borrow_mut()[at] = weight.unwrap_or(self.model.endpoints[at].weight);
        }
        self.weights.borrow_mut().clone_from(&self.whole.borrow());
        self.is_warming.set(false);
        self.balancer.borrow_mut().rescaled();
        self.warm(self.now());
    }

    // === health ===

    /// It waits for its first check.
    pub(super) fn is_held(&self, endpoint: &Endpoint) -> bool {
        endpoint.verdict.get() == CheckVerdict::Unknown
            && self.model.health.as_ref().is_some_and(|health| health.hold)
    }

    /// What checks say of an endpoint.
    pub fn judged(&self, id: EndpointId, verdict: CheckVerdict) {
        self.endpoint(id).verdict.set(verdict);
        self.trust();
    }

    /// What an operator says of an endpoint.
    pub fn assign(&self, ids: &[EndpointId], duty: Duty) {
        ids.iter().for_each(|id| self.endpoint(*id).duty.set(duty));
        self.trust();
    }

    /// Decides which endpoints get requests by what the checks say: when too few are up, all do.
    pub(super) fn trust(&self) {
        let is_down =
            |one: &&Endpoint| one.is_reachable() && one.verdict.get() == CheckVerdict::Down;
        let is_panic = is_panic(self.used().iter().filter(is_down).count(), self.count.get());
        for one in self.used() {
            let is_up = is_panic || one.verdict.get() != CheckVerdict::Down;
            one.trust(one.takes_new() && !self.is_held(one) && is_up);
        }
    }

    /// An endpoint has answered.
    #[inline]
    pub fn answered(&self, id: EndpointId, status: u16) {
        self.standing.of(usize::from(id.0)).passed(self.now());
        self.endpoint(id).count(status >= 500);
    }

    /// Keeps the connection of a line, if it leads to an address that is still this endpoint's.
    pub fn keep(&self, id: EndpointId, line: Line, proof: Proof, now: Moment) {
        let endpoint = self.endpoint(id);
        if line.generation().is_some_and(|one| one == endpoint.generation()) {
            endpoint.pool.keep(line, proof, now, &self.model.pool);
        }
    }

    /// A connection was opened.
    pub fn reached(&self, id: EndpointId) {
        self.standing.of(usize::from(id.0)).reached(self.now());
    }

    /// An endpoint did not do what a server must.
    pub fn failed(&self, id: EndpointId, kind: Kind) {
        let policy = &self.model.resilience.passive;
        let standing = self.standing.of(usize::from(id.0));
        self.endpoint(id).count(true);
        if kind.is_before_request() {
            standing.unreachable(self.now(), kind == Kind::ConnectTimeout, policy);
        } else {
            // For how long it is out the shards see in the table that they share.
            let _ = standing.failed(self.now(), policy, || self.standing.may_eject(policy.share));
        }
    }

    /// A request is trying whether this endpoint works again.
    #[must_use]
    pub fn is_on_trial(&self, id: EndpointId) -> bool {
        self.standing.of(usize::from(id.0)).is_on_trial()
    }

    // === retries ===

    /// A request for this cluster has come: it pays for a part of a retry.
    #[inline]
    pub fn pay_in(&self) {
        let mut budget = self.budget.get();
        budget.pay_in();
        self.budget.set(budget);
    }

    /// Whether one more request may be sent again.
    #[must_use]
    pub fn spend_retry(&self) -> bool {
        let mut budget = self.budget.get();
        let may = budget.take();
        self.budget.set(budget);
        may
    }

    /// Whether there is another endpoint to try that is well.
    #[must_use]
    pub fn has_other(&self, tries: &retry::Tries, than: EndpointId) -> bool {
        let than = usize::from(than.0);
        let mut others = (0..self.used.get()).filter(|at| *at != than && !tries.contains(*at));
        others.any(|at| self.endpoints[at].is_ready() && !self.standing.of(at).is_out())
    }
}

fn weights(model: &model::Cluster) -> Vec<u32> {
    model.endpoints.iter().map(|endpoint| endpoint.weight).collect()
}
