//! May another try be made? Pure.

use crate::base::error::Kind;
use crate::base::id::EndpointId;
use crate::base::limits::ATTEMPTS_MAX;
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
    /// This endpoint was tried and is not to be picked again.
    #[must_use]
    pub fn contains(&self, endpoint: usize) -> bool {
        self.failed[..self.count].iter().flatten().any(|id| usize::from(id.0) == endpoint)
    }

    /// A connection could not be opened: nothing was sent, so another endpoint may be tried for
    /// any method. `false` when there were enough tries.
    #[must_use]
    pub fn may_try_another(&mut self, endpoint: EndpointId, kind: Kind) -> bool {
        if !kind.is_before_request() || self.count + 1 >= ATTEMPTS_MAX {
            return false;
        }
        self.pass_over(endpoint);
        true
    }

    /// A pooled connection died before the first octet of an answer. The endpoint has most likely
    /// closed it while it idled; but it may also have executed the request, so only what may be
    /// executed twice is sent again, once, on a fresh connection (RFC 9112 section 9.3.1).
    #[must_use]
    pub fn may_refresh(&mut self, lost: Lost, method: Method) -> bool {
        if !lost.was_pooled || !lost.may_repeat(method) || self.was_stale {
            return false;
        }
        self.was_stale = true;
        true
    }

    /// A connection was lost before the first octet of an answer. Another endpoint may get the
    /// request if it may be executed twice (RFC 9110 section 9.2.2). `may_pay` asks the budget.
    #[must_use]
    pub fn may_move(
        &mut self,
        endpoint: EndpointId,
        lost: Lost,
        method: Method,
        may_pay: impl FnOnce() -> bool,
    ) -> bool {
        if !lost.may_repeat(method) || self.count + 1 >= ATTEMPTS_MAX || !may_pay() {
            return false;
        }
        self.pass_over(endpoint);
        true
    }

    fn pass_over(&mut self, endpoint: EndpointId) {
        self.failed[self.count] = Some(endpoint);
        self.count += 1;
    }
}

/// How a connection was lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// It came from the pool.
    pub was_pooled: bool,
    /// An octet of an answer had come.
    pub has_answer: bool,
    /// The request has a body, which is gone now.
    pub has_body: bool,
}

impl Lost {
    /// The request is still whole, nobody has seen an answer, and executing it twice does no harm.
    fn may_repeat(self, method: Method) -> bool {
        !self.has_answer && !self.has_body && method.is_idempotent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Lost = Lost { was_pooled: true, has_answer: false, has_body: false };

    #[test]
    fn a_stale_connection_is_replaced_once_and_only_where_it_is_safe() {
        assert!(Tries::default().may_refresh(LOST, Method::Get));
        assert!(!Tries::default().may_refresh(LOST, Method::Post));
        assert!(!Tries::default().may_refresh(Lost { has_body: true, ..LOST }, Method::Put));
        assert!(!Tries::default().may_refresh(Lost { has_answer: true, ..LOST }, Method::Get));
        assert!(!Tries::default().may_refresh(Lost { was_pooled: false, ..LOST }, Method::Get));
        let mut tries = Tries::default();
        assert!(tries.may_refresh(LOST, Method::Get) && !tries.may_refresh(LOST, Method::Get));
    }

    #[test]
    fn what_was_lost_moves_only_if_it_may_be_executed_twice() {
        let may = |lost, method| Tries::default().may_move(EndpointId(0), lost, method, || true);
        assert!(may(LOST, Method::Get) && may(LOST, Method::Delete));
        assert!(!may(LOST, Method::Post));
        assert!(!may(Lost { has_answer: true, ..LOST }, Method::Get));
        assert!(!may(Lost { has_body: true, ..LOST }, Method::Put));
        let mut tries = Tries::default();
        assert!(!tries.may_move(EndpointId(0), LOST, Method::Get, || false));
        assert!(tries.may_move(EndpointId(0), LOST, Method::Get, || true) && tries.contains(0));
    }

    #[test]
    fn other_endpoints_are_tried_while_nothing_was_sent() {
        let mut tries = Tries::default();
        assert!(!tries.may_try_another(EndpointId(0), Kind::FirstByteTimeout));
        let more =
            (0..9).take_while(|at| tries.may_try_another(EndpointId(*at), Kind::ConnectRefused));
        assert_eq!(more.count() + 1, ATTEMPTS_MAX);
        assert!(tries.contains(0) && !tries.contains(8));
    }
}
