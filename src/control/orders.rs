//! Carries out what an operator wants: an endpoint to drain, to be down, to be ready again; something to leave the
//! cache; to know how everything is. The admin listener gives the orders.

use std::sync::Arc;

use super::reload::{self, ConfigSource, Helpers};
use super::start::Workers;
use super::{plan, view};
use crate::admin::order::AdminOrder;
use crate::base::clock::monotonic;
use crate::base::id::{ClusterId, EndpointId};
use crate::config::model::Balance;
use crate::net::notice;
use crate::shard::cache_handle::Unsure;
use crate::shard::command::Command;
use crate::upstream::endpoint::Duty;

/// Carries an order out.
pub(super) fn obey(
    workers: &mut Workers,
    helpers: &mut Helpers,
    source: Option<&ConfigSource<'_>>,
    order: AdminOrder,
) {
    // A task that does not wait for a reply gets none.
    match order {
        AdminOrder::Assign { cluster, endpoint, duty, reply } => {
            let _ = reply.send(assign(workers, &cluster, &endpoint, duty));
        }
        AdminOrder::Weigh { cluster, endpoint, weight, reply } => {
            let _ = reply.send(weigh(workers, &cluster, &endpoint, weight));
        }
        AdminOrder::Purge { purge, reply } => workers.purge(purge, reply),
        AdminOrder::Reload { reply } => {
            let result = match source {
                Some(source) => reload::reload(workers, helpers, source),
                None => Err(NO_FILE.to_owned()),
            };
            let _ = reply.send(result);
        }
        AdminOrder::Plan { file, reply } => {
            let planned = match source {
                Some(source) => reload::plan(workers, source, file.as_deref()).map(Box::new),
                None => Err(NO_FILE.to_owned()),
            };
            let _ = reply.send(planned);
        }
        AdminOrder::Upgrade { reply } => {
            let _ = reply.send(Err("an upgrade is under way already".to_owned()));
        }
        AdminOrder::Config { reply } => {
            let _ = reply.send(workers.config());
        }
        AdminOrder::View { reply } => {
            let _ = reply.send(Box::new(view::of(workers, helpers)));
        }
        AdminOrder::Measure { reply } => workers.measure(&reply),
        AdminOrder::Recall { which, reply } => workers.recall(which, &reply),
        AdminOrder::Tap { tap } => workers.tap(&tap),
    }
}

const NO_FILE: &str = "there is no configuration file to read again";
const ENDS: &str = "this process drains: it takes no orders any more";

/// Answers what can be asked of a process that is about to end: how far it is. `left` workers have not drained yet.
pub(super) fn while_draining(workers: &Workers, helpers: &Helpers, order: AdminOrder, left: usize) {
    match order {
        AdminOrder::View { reply } => {
            let mut overview = view::of(workers, helpers);
            (overview.is_draining, overview.workers) = (true, left);
            let _ = reply.send(Box::new(overview));
        }
        AdminOrder::Config { reply } => {
            let _ = reply.send(workers.config());
        }
        AdminOrder::Measure { reply } => workers.measure(&reply),
        AdminOrder::Recall { which, reply } => workers.recall(which, &reply),
        AdminOrder::Tap { tap } => workers.tap(&tap),
        AdminOrder::Assign { reply, .. } | AdminOrder::Weigh { reply, .. } => {
            let _ = reply.send(Err(ENDS.to_owned()));
        }
        AdminOrder::Reload { reply } => {
            let _ = reply.send(Err(ENDS.to_owned()));
        }
        AdminOrder::Plan { reply, .. } => {
            let _ = reply.send(Err(ENDS.to_owned()));
        }
        AdminOrder::Upgrade { reply } => {
            let _ = reply.send(Err(ENDS.to_owned()));
        }
        AdminOrder::Purge { reply, .. } => {
            let _ = reply.send(Err(Unsure));
        }
    }
}

pub(super) fn assign(
    workers: &mut Workers,
    cluster: &str,
    endpoint: &str,
    duty: Duty,
) -> Result<(), String> {
    let (id, endpoints) = find(workers, cluster, endpoint)?;
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
    Ok(())
}

/// Gives an endpoint another weight, or the configured one again.
pub(super) fn weigh(
    workers: &mut Workers,
    cluster: &str,
    endpoint: &str,
    weight: Option<u32>,
) -> Result<(), String> {
    let (id, endpoints) = find(workers, cluster, endpoint)?;
    if workers.plan().config.clusters[usize::from(id.0)].balance == Balance::Maglev {
        return Err(format!(
            "cluster \"{cluster}\" is balanced by \"maglev\", whose table stands: change its file"
        ));
    }
    workers.broadcast(&Command::Weighed { cluster: id, endpoints, weight });
    match weight {
        Some(weight) => notice::note(format_args!(
            "cluster \"{cluster}\": endpoint {endpoint} has weight {weight}, by order"
        )),
        None => notice::note(format_args!(
            "cluster \"{cluster}\": endpoint {endpoint} has its configured weight"
        )),
    }
    Ok(())
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
