//! Where one try goes, and when it is given up for another.

use super::state::Exchange;
use super::upload::AnswerBy;
use crate::base::clock::Moment;
use crate::base::id::EndpointId;
use crate::config::model::{HostPolicy, Route};
use crate::protocol::line::Terms;
use crate::upstream::ask::Ask;
use crate::upstream::cluster::Cluster;

/// One try at an endpoint.
#[derive(Clone, Copy)]
pub struct TryTarget<'a> {
    pub cluster: &'a Cluster,
    pub id: EndpointId,
    pub ask: Ask,
    /// The whole exchange must be over by then.
    pub total_by: Moment,
    pub route: &'a Route,
    /// The request's upgrade is passed on.
    pub upgrades: bool,
}

impl<'a> TryTarget<'a> {
    /// What the endpoint is to see beside the head.
    #[must_use]
    pub fn terms<'t>(&self, ex: &'t Exchange<'_>) -> Terms<'t>
    where
        'a: 't,
    {
        let (model, request) = (&self.cluster.model, &ex.work.request);
        let endpoint = self.cluster.endpoint(self.id);
        let authority = match &model.host {
            HostPolicy::Preserve if !request.authority().is_empty() => request.authority(),
            HostPolicy::Preserve | HostPolicy::Endpoint => endpoint.authority.as_bytes(),
            HostPolicy::Fixed(host) => host.as_bytes(),
        };
        let (is_last, upgrades) = (model.pool.size == 0, self.upgrades);
        Terms { authority, is_last, upgrades, stall: ex.timeouts(self.route).body_idle }
    }

    /// When the head of the answer must have come.
    #[must_use]
    pub fn answer_by(&self, ex: &Exchange<'_>) -> AnswerBy {
        let mut first_byte = ex.timeouts(self.route).first_byte;
        if self.cluster.is_impatient && self.is_impatient(ex) {
            first_byte = self.cluster.model.resilience.retry.try_timeout;
        }
        AnswerBy { first_byte, total_by: self.total_by }
    }

    /// An answer that takes longer than one try may is given up: there is another to be had.
    #[must_use]
    pub fn is_impatient(&self, ex: &Exchange<'_>) -> bool {
        let policy = &self.cluster.model.resilience.retry;
        self.cluster.is_impatient
            && policy.try_timeout < ex.timeouts(self.route).first_byte
            && self.may_repeat(ex)
    }

    /// The request could go to another endpoint instead.
    fn may_repeat(&self, ex: &Exchange<'_>) -> bool {
        let (cluster, request) = (self.cluster, &ex.work.request);
        request.method.is_idempotent()
            && request.framing.is_empty()
            && self.ask.tries.has_left(&cluster.model.resilience.retry)
            && cluster.has_other(&self.ask.tries, self.id)
    }

    /// Gives an answer up for another try, if its status asks for that and the budget allows it.
    #[must_use]
    pub fn take_another(&self, ex: &Exchange<'_>, status: u16) -> bool {
        let cluster = self.cluster;
        let is_wanted = cluster.model.resilience.retry.on.statuses.contains(status);
        let is_given_up = is_wanted && self.may_repeat(ex) && cluster.spend_retry();
        if is_given_up {
            cluster.answered(self.id, status);
        }
        is_given_up
    }
}
