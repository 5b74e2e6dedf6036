//! What the checks say of every endpoint, and what an operator is told of it.

use std::sync::Arc;

use super::plan;
use super::prober::CheckNews;
use super::start::Workers;
use crate::balance::places::Places;
use crate::base::clock::monotonic;
use crate::base::id::{ClusterId, EndpointId};
use crate::config::model::Config;
use crate::health::{CheckVerdict, PANIC_PERCENT, is_panic};
use crate::net::notice;
use crate::shard::command::Command;

/// The last verdicts.
pub(super) struct Verdicts {
    config: Arc<Config>,
    /// By cluster, then by endpoint.
    known: Vec<Vec<CheckVerdict>>,
}

impl Verdicts {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let unknown =
            config.clusters.iter().map(|one| vec![CheckVerdict::Unknown; one.endpoints.len()]);
        Self { known: unknown.collect(), config }
    }

    /// Takes over what is known of the endpoints that there still are.
    pub(super) fn inherit(&mut self, from: &Self, stood: &[Places], stand: &[Places]) {
        for (cluster, verdicts) in (0..).map(ClusterId).zip(&from.known) {
            for (endpoint, verdict) in (0..).map(EndpointId).zip(verdicts) {
                let (old, new) = ((&*from.config, stood), (&*self.config, stand));
                let found = plan::find((cluster, endpoint), old, new);
                let Some((cluster, endpoint)) = found else { continue };
                let at = usize::from(cluster.0);
                if self.config.clusters[at].health.is_some() {
                    self.known[at][usize::from(endpoint.0)] = *verdict;
                }
            }
        }
    }

    /// What the checks say, if they have said anything.
    pub(super) fn get(&self, cluster: ClusterId, endpoint: EndpointId) -> Option<CheckVerdict> {
        let verdict = self.known[usize::from(cluster.0)][usize::from(endpoint.0)];
        (verdict != CheckVerdict::Unknown).then_some(verdict)
    }

    /// Tells the shards, and the operator if it is bad news or the end of it.
    pub(super) fn hear(&mut self, workers: &mut Workers, news: CheckNews) {
        let CheckNews { cluster, endpoint, address, verdict, why } = news;
        if address != workers.places(cluster).address(usize::from(endpoint.0)) {
            // It was said of an address that has left since.
            return;
        }
        workers.broadcast(&Command::Judged { cluster, endpoint, verdict });
        let was_panic = self.is_panic(cluster, workers);
        let standing = workers.plan().common[usize::from(cluster.0)].health.clone();
        let standing = standing.of(usize::from(endpoint.0));
        let model = &self.config.clusters[usize::from(cluster.0)];
        let at = usize::from(endpoint.0);
        let old = std::mem::replace(&mut self.known[usize::from(cluster.0)][at], verdict);
        let (name, address) = (&model.name, workers.text(cluster, at));
        match (old, verdict) {
            (_, CheckVerdict::Down) => {
                notice::warn(format_args!("cluster \"{name}\": endpoint {address} is down: {why}"));
            }
            (CheckVerdict::Down, CheckVerdict::Up) => {
                // It takes connections again, and begins slowly.
                standing.reached(monotonic());
                standing.came_back(monotonic());
                notice::note(format_args!("cluster \"{name}\": endpoint {address} is up again"));
            }
            _ => {}
        }
        match (was_panic, self.is_panic(cluster, workers)) {
            (false, true) => notice::warn(format_args!(
                "cluster \"{name}\": less than {PANIC_PERCENT} % of its endpoints are up: their \
                 checks are ignored and all are used"
            )),
            (true, false) => {
                notice::note(format_args!("cluster \"{name}\": enough endpoints are up again"));
            }
            _ => {}
        }
    }

    fn is_panic(&self, cluster: ClusterId, workers: &Workers) -> bool {
        let at = usize::from(cluster.0);
        let down = self.known[at].iter().filter(|verdict| **verdict == CheckVerdict::Down).count();
        is_panic(down, workers.places(cluster).count(&self.config.clusters[at]))
    }

    /// Other addresses stand there now.
    pub(super) fn forget(&mut self, cluster: ClusterId, endpoints: &[EndpointId]) {
        let known = &mut self.known[usize::from(cluster.0)];
        endpoints.iter().for_each(|id| known[usize::from(id.0)] = CheckVerdict::Unknown);
    }
}
