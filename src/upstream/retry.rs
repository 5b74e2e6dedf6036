//! May another try be made? Pure.

use crate::base::error::Kind;
use crate::base::id::EndpointId;
use crate::base::limits::ATTEMPTS_MAX;
use crate::config::resilience::Retry;
use crate::message::head::Method;

/// What was tried for one exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tries {
    failed: [Option<EndpointId>; ATTEMPTS_MAX],
    count: usize,
    /// A pooled connection turned out dead once already.
    was_stale: bool,
}

impl Tries {
    /// As if this endpoint alone had been tried.
    #[must_use]
    pub fn besides(endpoint: EndpointId) -> Self {
        let mut tries = Self::default();
        tries.pass_over(endpoint);
        tries
    }

    /// Nothing was tried that failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// This endpoint was tried and is not to be picked again.
    #[must_use]
    pub fn contains(&self, endpoint: usize) -> bool {
        self.failed[..self.count].iter().flatten().any(|id| usize::from(id.0) == endpoint)
    }

    /// A connection could not be opened: nothing was sent, so another endpoint may be tried for
    /// any method. `false` when there were enough tries.
    #[must_use]
    pub fn take_another(&mut self, endpoint: EndpointId, kind: Kind, policy: &Retry) -> bool {
        if !kind.is_before_request() || !policy.on.connect || !self.has_left(policy) {
            return false;
        }
        self.pass_over(endpoint);
        true
    }

    /// There may be one more try.
    #[must_use]
    pub fn has_left(&self, policy: &Retry) -> bool {
        self.count + 1 < (policy.attempts as usize).min(ATTEMPTS_MAX)
    }

    /// A pooled connection died before the first octet of an answer. The endpoint has most likely
    /// closed it while it idled; but it may also have executed the request, so only what may be
    /// executed twice is sent again, once, on a fresh connection (RFC 9112 section 9.3.1).
    #[must_use]
    pub fn take_refresh(&mut self, lost: LostTry, method: Method) -> bool {
        let is_stale =
            (lost.was_pooled && lost.cause == Cause::Lost) || lost.cause == Cause::Refused;
        if !is_stale || !lost.may_repeat(method) || self.was_stale {
            return false;
        }
        self.was_stale = true;
        true
    }

    /// A connection was lost before the first octet of an answer, or the answer is none that a
    /// client should see. Another endpoint may get the request if it may be executed twice (RFC
    /// 9110 section 9.2.2). `may_pay` asks the budget.
    #[must_use]
    pub fn take_move(
        &mut self,
        endpoint: EndpointId,
        lost: LostTry,
        method: Method,
        policy: &Retry,
        may_pay: impl FnOnce() -> bool,
    ) -> bool {
        let is_lost = matches!(lost.cause, Cause::Lost | Cause::Refused);
        let is_wanted = !is_lost || policy.on.lost;
        let may = is_wanted && lost.may_repeat(method) && self.has_left(policy);
        // A try that was given up for its status has paid already.
        if !may || (lost.cause != Cause::Status && !may_pay()) {
            return false;
        }
        self.pass_over(endpoint);
        true
    }

    fn pass_over(&mut self, endpoint: EndpointId) {
        // The next one may have let a connection die as well.
        self.was_stale = false;
        self.failed[self.count] = Some(endpoint);
        self.count += 1;
    }
}

/// Why a try is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection was lost.
    Lost,
    /// Its answer did not begin within the time of one try.
    Timeout,
    /// It was told to us that nothing was done (RFC 9113 section 8.7): any method may be repeated.
    Refused,
    /// Its answer had a status that is followed by another try.
    Status,
}

/// How a try was lost.
#[derive(Clone, Copy, Debug)]
pub struct LostTry {
    pub cause: Cause,
    /// It came from the pool.
    pub was_pooled: bool,
    /// An octet of an answer had come; of one that was given up on purpose this says nothing.
    pub has_answer: bool,
    /// The request has a body, which is gone now.
    pub has_body: bool,
}

impl LostTry {
    /// The request is still whole, the client has seen no answer, and executing it twice does no harm.
    fn may_repeat(self, method: Method) -> bool {
        let is_harmless = method.is_idempotent() || self.cause == Cause::Refused;
        !self.has_answer && !self.has_body && is_harmless
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resilience::Resilience;

    const LOST: LostTry =
        LostTry { cause: Cause::Lost, was_pooled: true, has_answer: false, has_body: false };
    const POLICY: Retry = Resilience::AUTO.retry;

    #[test]
    fn a_stale_connection_is_replaced_once_and_only_where_it_is_safe() {
        assert!(Tries::default().take_refresh(LOST, Method::Get));
        assert!(!Tries::default().take_refresh(LOST, Method::Post));
        assert!(!Tries::default().take_refresh(LostTry { has_body: true, ..LOST }, Method::Put));
        assert!(!Tries::default().take_refresh(LostTry { has_answer: true, ..LOST }, Method::Get));
        assert!(!Tries::default().take_refresh(LostTry { was_pooled: false, ..LOST }, Method::Get));
        let mut tries = Tries::default();
        assert!(tries.take_refresh(LOST, Method::Get) && !tries.take_refresh(LOST, Method::Get));
    }

    #[test]
    fn what_was_lost_moves_only_if_it_may_be_executed_twice() {
        let may = |lost, method| {
            Tries::default().take_move(EndpointId(0), lost, method, &POLICY, || true)
        };
        assert!(may(LOST, Method::Get) && may(LOST, Method::Delete));
        assert!(!may(LOST, Method::Post));
        assert!(!may(LostTry { has_answer: true, ..LOST }, Method::Get));
        assert!(!may(LostTry { has_body: true, ..LOST }, Method::Put));
        let mut tries = Tries::default();
        assert!(!tries.take_move(EndpointId(0), LOST, Method::Get, &POLICY, || false));
        assert!(tries.take_move(EndpointId(0), LOST, Method::Get, &POLICY, || true));
        assert!(tries.contains(0));
        let off = Resilience::OFF.retry;
        assert!(!Tries::default().take_move(EndpointId(0), LOST, Method::Get, &off, || true));
        let refused = LostTry { cause: Cause::Status, has_answer: false, ..LOST };
        assert!(!Tries::default().take_refresh(refused, Method::Get));
    }

    #[test]
    fn other_endpoints_are_tried_while_nothing_was_sent() {
        let mut tries = Tries::default();
        assert!(!tries.take_another(EndpointId(0), Kind::FirstByteTimeout, &POLICY));
        let refused = Kind::ConnectRefused;
        let more = (0..9).take_while(|at| tries.take_another(EndpointId(*at), refused, &POLICY));
        assert_eq!(more.count() + 1, POLICY.attempts as usize);
        assert!(tries.contains(0) && !tries.contains(8));
    }
}
