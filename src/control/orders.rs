//! What an operator wants: an endpoint to drain, to be down, to be ready again; something to leave the
//! cache. The admin listener gives them.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::plan;
use super::start::Workers;
use crate::base::clock::monotonic;
use crate::base::id::{ClusterId, EndpointId};
use crate::cache::purge::Purge;
use crate::net::notice;
use crate::shard::cache_handle::Unsure;
use crate::shard::command::Command;
use crate::upstream::endpoint::Duty;

/// An order. The task that gives it is told what came of it.
#[derive(Debug)]
pub enum AdminOrder {
    /// An endpoint, by its address as it is configured.
    Assign { cluster: String, endpoint: String, duty: Duty, reply: Sender<Result<(), String>> },
    /// How many entries were taken out, as far as that is known at once.
    Purge { purge: Purge, reply: Sender<Result<usize, Unsure>> },
}

/// Where orders come from; `never` where none can be given.
pub type Orders = Receiver<AdminOrder>;

/// Carries an order out.
pub(super) fn obey(workers: &mut Workers, order: AdminOrder) {
    let (cluster, endpoint, duty, reply) = match order {
        AdminOrder::Assign { cluster, endpoint, duty, reply } => (cluster, endpoint, duty, reply),
        AdminOrder::Purge { purge, reply } => return workers.purge(purge, reply),
    };
    let result = find(workers, &cluster, &endpoint).map(|(id, endpoints)| {
        let common = &workers.plan().common[usize::from(id.0)];
        if duty == Duty::Ready {
            let standing = endpoints.iter().map(|one| common.health.of(usize::from(one.0)));
            standing.for_each(|one| one.came_back(monotonic()));
        }
        workers.broadcast(&Command::Assigned { cluster: id, endpoints, duty });
        let word = match duty {
            Duty::Ready => "ready",
            Duty::Drain => "draining",
            Duty::Down => "down, by order",
        };
        notice::note(format_args!("cluster \"{cluster}\": endpoint {endpoint} is {word}"));
    });
    // A task that does not wait for a reply gets none.
    let _ = reply.send(result);
}

fn find(
    workers: &Workers,
    cluster: &str,
    endpoint: &str,
) -> Result<(ClusterId, Arc<[EndpointId]>), String> {
    let clusters = &workers.plan().config.clusters;
    let (id, found) = (0_u16..)
        .zip(clusters)
        .find(|(_, one)| one.name == cluster)
        .ok_or_else(|| format!("no cluster is called \"{cluster}\""))?;
    let endpoints = plan::places_of(found, |address| address.to_string() == endpoint);
    if endpoints.is_empty() {
        return Err(format!("cluster \"{cluster}\" has no endpoint {endpoint}"));
    }
    Ok((ClusterId(id), endpoints))
}
