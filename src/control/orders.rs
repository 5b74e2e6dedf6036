//! What an operator wants: an endpoint to drain, to be down, to be ready again; something to leave the
//! cache. The admin API will be the door to these.

use crossbeam_channel::{Receiver, Sender};

use super::start::Workers;
use crate::base::clock::monotonic;
use crate::base::id::{ClusterId, EndpointId};
use crate::cache::purge::Purge;
use crate::net::notice;
use crate::shard::command::Command;
use crate::shard::desk::Unsure;
use crate::upstream::endpoint::Duty;

/// An order. Whoever gives it is told what came of it.
#[derive(Debug)]
pub enum Order {
    /// An endpoint, by its address as it is configured.
    Assign { cluster: String, endpoint: String, duty: Duty, reply: Sender<Result<(), String>> },
    /// How many entries were taken out, as far as that is known at once.
    Purge { purge: Purge, reply: Sender<Result<usize, Unsure>> },
}

/// Where orders come from; `never` where nobody can give any.
pub type Orders = Receiver<Order>;

/// Carries an order out.
pub(super) fn obey(workers: &mut Workers, order: Order) {
    let (cluster, endpoint, duty, reply) = match order {
        Order::Assign { cluster, endpoint, duty, reply } => (cluster, endpoint, duty, reply),
        Order::Purge { purge, reply } => return workers.purge(purge, reply),
    };
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
