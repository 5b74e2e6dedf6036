//! Looks at what the shards hold against endpoints: judges which ones fail more often than the others,
//! and tells the operator which were put out and which are back.

use super::start::Workers;
use crate::base::clock::{Moment, monotonic};
use crate::base::id::{ClusterId, EndpointId};
use crate::base::limits::OUTLIER_WINDOW;
use crate::config::model::Cluster;
use crate::health::passive::Why;
use crate::limit::pressure::Stage;
use crate::net::{memory, notice};
use crate::shard::Plan;

/// What the operator knows.
pub(super) struct OperatorWatch {
    /// By cluster, then by endpoint: why it is out and until when.
    known: Vec<Vec<(Why, Moment)>>,
    /// When the window began in which failures are counted.
    window: Moment,
    /// What was said last of the memory.
    stage: Stage,
}

impl OperatorWatch {
    pub(super) fn new(clusters: &[Cluster]) -> Self {
        let known = clusters.iter().map(|one| vec![(Why::In, Moment(0)); one.endpoints.len()]);
        Self { known: known.collect(), window: monotonic(), stage: Stage::Calm }
    }

    /// Takes what the tables say now as told.
    pub(super) fn inherit(&mut self, workers: &Workers) {
        for (common, known) in workers.plan().common.iter().zip(&mut self.known) {
            let all = common.health.all().iter();
            *known = all.map(|one| (one.why(), one.until())).collect();
        }
    }

    /// Other addresses stand there now.
    pub(super) fn forget(&mut self, cluster: ClusterId, endpoints: &[EndpointId]) {
        let known = &mut self.known[usize::from(cluster.0)];
        endpoints.iter().for_each(|id| known[usize::from(id.0)] = (Why::In, Moment(0)));
    }

    /// How much memory the process has, and what follows. Threads look by themselves when they allocate;
    /// this is for the operator, and for memory that was freed.
    fn look_at_memory(&mut self, plan: &Plan) {
        let most = plan.config.limits.memory;
        memory::bound(most);
        memory::trim();
        let stage = memory::stage();
        if std::mem::replace(&mut self.stage, stage) != stage {
            let (used, most) = (memory::used() >> 20, most >> 20);
            let says = Stage::SAYS[stage as usize];
            notice::warn(format_args!("memory: {used} of {most} MiB: {says}"));
        }
    }

    /// Called a few times a second.
    pub(super) fn look(&mut self, workers: &Workers) {
        let now = monotonic();
        let is_over = now.since(self.window) >= OUTLIER_WINDOW;
        if is_over {
            self.window = now;
        }
        let plan = workers.plan();
        self.look_at_memory(plan);
        let all = plan.config.clusters.iter().zip(&plan.common).zip(&mut self.known);
        for (id, ((cluster, common), known)) in (0..).map(ClusterId).zip(all) {
            if is_over {
                common.health.judge(now, &cluster.resilience.passive);
            }
            for (at, standing) in common.health.all().iter().enumerate() {
                let found = (standing.why(), standing.until());
                let old = std::mem::replace(&mut known[at], found);
                // An endpoint that is tried and fails is not back, and one that is tried is not put out anew.
                let is_news = old.0 != found.0 || (found.1 > old.1 && !standing.is_on_trial());
                if is_news {
                    tell(cluster, &workers.text(id, at), old, found, now);
                }
            }
        }
    }
}

fn tell(cluster: &Cluster, address: &str, old: (Why, Moment), new: (Why, Moment), now: Moment) {
    let name = &cluster.name;
    let policy = &cluster.resilience.passive;
    let reason = match new.0 {
        Why::In => {
            notice::note(format_args!("cluster \"{name}\": endpoint {address} is in again"));
            return;
        }
        // Once is enough: it is asked every second.
        Why::Unreachable if old.0 == Why::Unreachable => return,
        Why::Unreachable => {
            notice::warn(format_args!(
                "cluster \"{name}\": endpoint {address} takes no connections: others come first"
            ));
            return;
        }
        Why::Failures => format!("{} failures in a row, or one on trial", policy.failures),
        Why::Rate => format!("{} % of its requests failed, or more", policy.failure_rate),
    };
    let left = new.1.since(now).as_secs_f32();
    notice::warn(format_args!(
        "cluster \"{name}\": endpoint {address} is put out for {left:.1} s: {reason}"
    ));
}
