//! Takes down how everything is, for the admin listener.

use super::reload::Helpers;
use super::start::Workers;
use crate::admin::overview::{
    CertificateView, ClusterView, EndpointView, ListenerView, Overview, RouteView, balance_name,
};
use crate::base::clock;
use crate::base::id::{ClusterId, EndpointId};
use crate::config::model::Cluster;
use crate::health::CheckVerdict;
use crate::health::passive::Why;
use crate::net::log_file;
use crate::net::memory;
use crate::net::span_export::SpanExport;
use crate::upstream::endpoint::Duty;

/// How everything is now.
pub(super) fn of(workers: &Workers, helpers: &Helpers) -> Overview {
    let plan = workers.plan();
    let config = &plan.config;
    let routes = config.routes.iter().map(|route| RouteView {
        name: route.name.to_string(),
        line: route.line.number,
        file: route.line.file.as_ref().map(ToString::to_string),
        cluster: route.cluster().map(|id| config.clusters[usize::from(id.0)].name.clone()),
        is_cached: route.cache.is_some(),
    });
    let clusters = (0..).map(ClusterId).zip(&config.clusters);
    Overview {
        name: plan.name.to_string(),
        uptime: clock::monotonic().0 / 1000,
        workers: workers.count(),
        stalled: helpers.stalls.stalled(),
        stalls: helpers.stalls.seen,
        lost_lines: log_file::lost(),
        lost_spans: plan.spans.as_ref().map_or(0, SpanExport::lost),
        is_draining: workers.is_leaving(),
        reloads: helpers.reloads,
        was_refused: helpers.was_refused,
        memory: (memory::used(), config.limits.memory),
        cache: (plan.ledger.taken(), plan.ledger.budget()),
        listeners: workers
            .listeners()
            .map(|(name, scheme, address)| ListenerView { name: name.to_owned(), scheme, address })
            .collect(),
        routes: routes.collect(),
        clusters: clusters.map(|(id, model)| cluster(workers, helpers, id, model)).collect(),
        certificates: certificates(workers),
    }
}

fn cluster(workers: &Workers, helpers: &Helpers, id: ClusterId, model: &Cluster) -> ClusterView {
    let places = workers.places(id);
    let is_there = |at: &usize| !places.is_empty(*at);
    let all = (0..model.endpoints.len()).filter(is_there);
    let endpoints = all.map(|at| endpoint(workers, helpers, id, model, at));
    ClusterView {
        name: model.name.clone(),
        balance: balance_name(model.balance),
        endpoints: endpoints.collect(),
    }
}

fn endpoint(
    workers: &Workers,
    helpers: &Helpers,
    cluster: ClusterId,
    model: &Cluster,
    at: usize,
) -> EndpointView {
    let common = &workers.plan().common[usize::from(cluster.0)];
    let (standing, one) = (common.health.of(at), &model.endpoints[at]);
    let id = EndpointId::at(at);
    let checks = match id.and_then(|id| helpers.verdicts.get(cluster, id)) {
        Some(CheckVerdict::Up) => "up",
        Some(CheckVerdict::Down) => "down",
        _ if model.health.is_none() => "off",
        _ => "unknown",
    };
    let passive = match standing.why() {
        Why::In => "in",
        Why::Unreachable => "unreachable",
        Why::Failures => "failures",
        Why::Rate => "failure rate",
    };
    let back_in = standing.until().since(clock::monotonic()).as_millis();
    EndpointView {
        address: one.address.to_string(),
        resolved: workers.places(cluster).address(at).filter(|_| one.address.is_name()),
        weight: id.and_then(|id| workers.weight(cluster, id)).unwrap_or(one.weight),
        duty: id.map_or(Duty::Ready, |id| workers.duty(cluster, id)).word(),
        checks,
        passive,
        back_in: if passive == "in" { 0 } else { u64::try_from(back_in).unwrap_or(u64::MAX) },
        in_flight: common.balance.loads[at].in_flight(),
    }
}

fn certificates(workers: &Workers) -> Vec<CertificateView> {
    let now = i64::try_from(clock::wall() / 1000).unwrap_or(i64::MAX);
    let config = workers.config();
    let all = config.listeners.iter().zip(&workers.secrets().listeners);
    let of_listener = all.filter_map(|(model, server)| Some((model, server.as_ref()?)));
    let mut views: Vec<CertificateView> = of_listener
        .flat_map(|(model, server)| {
            server.certificates().map(|(names, end)| CertificateView {
                listener: model.name.clone(),
                names: names.iter().map(ToString::to_string).collect(),
                end,
                days: (end - now).div_euclid(24 * 3600),
            })
        })
        .collect();
    // Of two for the same names (RSA and ECDSA) the one that ends first.
    views.sort_by(|one, other| {
        (&one.listener, &one.names, one.days).cmp(&(&other.listener, &other.names, other.days))
    });
    views.dedup_by(|one, other| (&one.listener, &one.names) == (&other.listener, &other.names));
    views
}
