//! Which endpoint gets a request. Here is decided which ones the balancer may choose from, in steps: first
//! those with which all is well, in the end those that have an address.

use super::ask::{Ask, Begun};
use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::flight::Flight;
use crate::balance::View;
use crate::base::clock::Micros;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::id::EndpointId;
use crate::health::CheckVerdict;
use crate::health::passive::{PassiveState, Why};
use crate::observe::record::Choice;

/// How good an endpoint must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Soundness {
    /// Nothing is held against it, or it may be tried again by one request.
    Good,
    /// Nothing at all is held against it, not even by checks that do not count: for requests
    /// that have failed once.
    Sure,
    /// As `Good`, without trials.
    Steady,
    /// Put out for its failures.
    Ejected,
    /// Down, say the checks.
    Down,
}

const FIRST: [Soundness; 3] = [Soundness::Good, Soundness::Ejected, Soundness::Down];
const AGAIN: [Soundness; 4] =
    [Soundness::Sure, Soundness::Steady, Soundness::Ejected, Soundness::Down];

impl Cluster {
    /// Chooses an endpoint and counts the request there. `None` if all that could be chosen have as
    /// many requests as they may have.
    ///
    /// # Errors
    /// `NoAddress` if no name resolves, `NoEndpoint` if no endpoint is left to try.
    #[inline]
    pub fn try_begin(&self, ask: &Ask) -> Result<Option<Begun>> {
        // Many clusters are one server that works: nothing to weigh up.
        let is_plain = self.used.get() == 1 && !self.is_limited && ask.tries.is_empty();
        if is_plain && self.endpoints[0].is_ready() && !self.standing.of(0).is_out() {
            let at = self.micros();
            let depth = self.shared.loads[0].begin(at);
            self.endpoints[0].pool.request_begins();
            return Ok(Some(Begun { id: EndpointId(0), depth, at, why: Choice::Only }));
        }
        self.step_by_step(ask)
    }

    fn step_by_step(&self, ask: &Ask) -> Result<Option<Begun>> {
        if self.adaptive.as_ref().is_some_and(|one| self.under_way.get() >= one.get().limit()) {
            return Ok(None);
        }
        let steps: &[Soundness] = if ask.tries.is_empty() { &FIRST } else { &AGAIN };
        let mut is_full = false;
        for step in steps {
            match self.begin_at(*step, ask) {
                StepResult::At(begun) => return Ok(Some(begun)),
                StepResult::Full => is_full = true,
                StepResult::None => {}
            }
            // Rather wait for a good one than go to a bad one.
            if is_full {
                return Ok(None);
            }
        }
        let any = self.used().iter().any(Endpoint::is_reachable);
        Err(if any { Kind::NoEndpoint } else { Kind::NoAddress })
    }

    fn begin_at(&self, step: Soundness, ask: &Ask) -> StepResult {
        let (now, micros) = (self.now(), self.micros());
        if let Some(id) = ask.stuck.to.filter(|id| self.keeps(*id, ask, now)) {
            return self.enter(id, micros, Choice::Sticky).map_or(StepResult::Full, StepResult::At);
        }
        let mut is_full = false;
        loop {
            let may = |at: usize| self.is(step, at, now) && !ask.tries.contains(at);
            let picked = if self.is_limited {
                self.choose(&|at| may(at) && self.has_room(at), ask.key, micros)
            } else {
                self.choose(&may, ask.key, micros)
            };
            let Some(id) = picked else {
                is_full |= self.is_limited && (0..self.used.get()).any(may);
                return if is_full { StepResult::Full } else { StepResult::None };
            };
            let standing = self.standing.of(usize::from(id.0));
            // The second request looks for another: now the endpoint is out again.
            let is_trial = step == Soundness::Good && standing.state(now) == PassiveState::Trial;
            if is_trial && !standing.claim(now) {
                continue;
            }
            let why = if is_trial { Choice::Trial } else { self.why(step) };
            if let Some(begun) = self.enter(id, micros, why) {
                return StepResult::At(begun);
            }
        }
    }

    /// What an endpoint of this step is chosen for.
    fn why(&self, step: Soundness) -> Choice {
        match step {
            Soundness::Ejected => Choice::Ejected,
            Soundness::Down => Choice::Down,
            _ if self.used.get() == 1 => Choice::Only,
            Soundness::Good | Soundness::Sure | Soundness::Steady => Choice::Balanced,
        }
    }

    /// A sticky client stays while its endpoint works, even where no new client goes.
    fn keeps(&self, id: EndpointId, ask: &Ask, now: Moment) -> bool {
        let at = usize::from(id.0);
        let one = &self.endpoints[at];
        one.serves_old()
            && !ask.tries.contains(at)
            && self.standing.of(at).state(now) == PassiveState::In
    }

    /// Whether an endpoint is as good as a step demands.
    #[inline]
    fn is(&self, step: Soundness, at: usize, now: Moment) -> bool {
        let one = &self.endpoints[at];
        let standing = self.standing.of(at);
        match step {
            Soundness::Good => {
                one.is_ready()
                    && match standing.state(now) {
                        PassiveState::In => true,
                        PassiveState::Out => false,
                        PassiveState::Trial => self.may_try(at, now),
                    }
            }
            Soundness::Sure => {
                one.is_ready()
                    && one.verdict.get() != CheckVerdict::Down
                    && standing.state(now) == PassiveState::In
            }
            Soundness::Steady => one.is_ready() && standing.state(now) == PassiveState::In,
            Soundness::Ejected => one.is_ready() && standing.why() != Why::Unreachable,
            Soundness::Down => {
                one.is_reachable()
                    && !self.is_held(one)
                    && one.takes_new()
                    && standing.why() != Why::Unreachable
            }
        }
    }

    /// Checks and requests agree that it is dead: then checks find out that it is not, and requests
    /// only try it in case the checks are wrong.
    fn may_try(&self, at: usize, now: Moment) -> bool {
        let standing = self.standing.of(at);
        let is_dead = self.endpoints[at].verdict.get() == CheckVerdict::Down
            && standing.why() == Why::Unreachable;
        !is_dead || now >= standing.until().after(self.model.resilience.passive.ejection_max)
    }

    #[inline]
    fn choose(
        &self,
        eligible: &dyn Fn(usize) -> bool,
        key: u64,
        now: Micros,
    ) -> Option<EndpointId> {
        if self.used.get() == 1 {
            return eligible(0).then_some(EndpointId(0));
        }
        let (weights, loads) = (&self.weights.borrow()[..self.used.get()], &self.shared.loads);
        let view = View { weights, loads, eligible, now, key };
        self.balancer.borrow_mut().pick(&view, &mut self.random.borrow_mut())
    }

    /// Up to so many endpoints at other addresses of the same name with which all is well, and which this
    /// request has not tried: those behind this one first, so that they take turns. None for a client that
    /// sticks to this one: it is moved when that fails, not when it is slow.
    pub(super) fn siblings(&self, id: EndpointId, ask: &Ask, most: usize) -> Vec<EndpointId> {
        let (own, used, now) = (usize::from(id.0), self.used.get(), self.now());
        let name = &self.model.endpoints[own].address;
        if used <= 1 || !name.is_name() || ask.stuck.to == Some(id) {
            return Vec::new();
        }
        let is_good = |at: &usize| {
            self.model.endpoints[*at].address == *name
                && !ask.tries.contains(*at)
                && self.endpoints[*at].is_ready()
                && self.standing.of(*at).state(now) == PassiveState::In
                && self.has_room(*at)
        };
        let behind = (own + 1..used).chain(0..own);
        let found = behind.filter(is_good).take(most);
        found.filter_map(|at| u16::try_from(at).ok().map(EndpointId)).collect()
    }

    fn has_room(&self, at: usize) -> bool {
        let most = self.model.endpoints[at].max_connections;
        most.is_none_or(|most| self.shared.loads[at].in_flight() < most)
    }

    /// Counts a request at an endpoint, if there is room.
    fn enter(&self, id: EndpointId, now: Micros, why: Choice) -> Option<Begun> {
        let at = usize::from(id.0);
        let load = &self.shared.loads[at];
        let depth = match self.model.endpoints[at].max_connections {
            None => load.begin(now),
            Some(most) => load.begin_within(most, now)?,
        };
        self.endpoints[at].pool.request_begins();
        if let Some(adaptive) = &self.adaptive {
            let mut gradient = adaptive.get();
            gradient.began(self.under_way.get() + 1);
            adaptive.set(gradient);
            self.under_way.set(self.under_way.get() + 1);
        }
        Some(Begun { id, depth, at: now, why })
    }

    /// Counts a request at another address of its name, if there is room.
    pub(super) fn begin_at_sibling(&self, id: EndpointId) -> Option<Flight<'_>> {
        self.enter(id, self.micros(), Choice::Sibling).map(|begun| self.flight(begun))
    }

    /// A request is over.
    pub(super) fn leave(&self, id: EndpointId) {
        self.shared.loads[usize::from(id.0)].end();
        self.endpoint(id).pool.request_ends();
        if self.is_limited {
            self.under_way.set(self.under_way.get().saturating_sub(1));
            self.made_room();
        }
    }
}

/// What became of one step.
enum StepResult {
    At(Begun),
    /// There are some, and all are full.
    Full,
    None,
}
