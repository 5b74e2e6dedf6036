//! What an operator wants of an endpoint: to drain, to be down, to be ready again.

use crossbeam_channel::{Receiver, Sender};

use super::start::Workers;
use crate::base::clock::monotonic;
use crate::base::id::{ClusterId, EndpointId};
use crate::net::notice;
use crate::shard::command::Command;
use crate::upstream::endpoint::Duty;

/// An order. Whoever gives it is told what came of it.
#[derive(Debug)]
pub struct Order {
    pub cluster: String,
    /// The endpoint's address as it is configured.
    pub endpoint: String,
    pub duty: Duty,
    pub reply: Sender<Result<(), String>>,
}

/// Where orders come from; `never` where nobody can give any.
pub type Orders = Receiver<Order>;

/// Carries an order out.
pub(super) fn obey(workers: &mut Workers, order: Order) {
    let Order { cluster, endpoint, duty, reply } = order;
    let result = find(workers, &cluster, &endpoint).map(|(cluster_id, endpoint_id)| {
        let common = &workers.plan().common[usize::from(cluster_id.0)];
        if duty == Duty::Ready {
            common.health.of(usize::from(endpoint_id.0)).came_back(monotonic());
        }
        workers.broadcast(&Command::Assigned { cluster: cluster_id, endpoint: endpoint_id, duty });
        let word = match duty {
            Duty::Ready => "ready",
            Duty::Drain => "draining",
            Duty::Down => "down, by order",
        };
        notice::note(format_args!("cluster \"{cluster}\": endpoint {endpoint} is {word}"));
    });
    // Who does not wait for a reply gets none.
    let _ = reply.send(result);
}

fn find(
    workers: &Workers,
    cluster: &str,
    endpoint: &str,
) -> Result<(ClusterId, EndpointId), String> {
    let clusters = &workers.plan().config.clusters;
    let (id, found) = (0_u16..)
        .zip(clusters)
        .find(|(_, one)| one.name == cluster)
        .ok_or_else(|| format!("no cluster is called \"{cluster}\""))?;
    let (at, _) = (0_u16..)
        .zip(&found.endpoints)
        .find(|(_, one)| one.address.to_string() == endpoint)
        .ok_or_else(|| format!("cluster \"{cluster}\" has no endpoint {endpoint}"))?;
    Ok((ClusterId(id), EndpointId(at)))
}
