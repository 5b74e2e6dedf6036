//! Floor 11: the coordinator: one thread that opens listeners, starts workers, resolves names,
//! and waits for signals. The data plane does not know that it exists.

mod admin;
mod helper;
pub mod load;
pub mod machine;
pub mod orders;
mod plan;
pub mod prober;
pub mod reload;
mod renewal;
pub mod resolve;
pub mod secrets;
mod stamps;
pub mod start;
mod verdicts;
mod view;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use crate::admin::order::Orders;
use crate::balance::places::Places;
use crate::base::clock;
use crate::base::limits::FOLDER_KEPT;
use crate::base::limits::{SAME_SIGNAL, WATCH_EVERY};
use crate::config::model::Config;
use crate::net::signal::Signal;
use crate::net::{memory, notice};
use crate::observe::counters::Counters;
use crate::shard::command::{Command, Report};
use admin::AdminServer;
use reload::{ConfigSource, Helpers};
use resolve::Resolution;
use start::Workers;

const LOOKS_A_SECOND: u64 = 4;

/// Serves a configuration until a signal ends it, and carries out orders until then. `ready` is called with the bound addresses when
/// every worker serves.
#[must_use]
pub fn run(config: Config, inputs: &Inputs<'_>, ready: impl FnOnce(&start::Ready)) -> ExitCode {
    let config = Arc::new(config.with_places());
    let resolver = resolve::start(&config, &|_, _| None);
    let mut places: Vec<Places> = config.clusters.iter().map(Places::new).collect();
    resolve::first(&resolver, &config, |one| one.place(&config, &mut places));
    for name in resolve::unknown(&config, &places) {
        notice::warn(format_args!(
            "name {name}: not resolved yet: requests for it get 503 until its DNS server answers"
        ));
    }
    // What cannot be had is known before anything is served.
    let admin = config.admin.as_ref().map(AdminServer::start).transpose();
    let started = admin.and_then(|admin| Ok((admin, start::workers(config, places)?)));
    let result = started.and_then(|(admin, all)| serve(all, admin, resolver, inputs, ready));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            notice::error(message);
            ExitCode::FAILURE
        }
    }
}

/// What the coordinator listens to.
pub struct Inputs<'a> {
    pub signals: &'a Receiver<Signal>,
    pub orders: &'a Orders,
    /// How the configuration is read again, if it came from a file.
    pub source: Option<&'a ConfigSource<'a>>,
}

fn serve(
    mut workers: Workers,
    admin: Option<AdminServer>,
    resolver: resolve::Resolver,
    inputs: &Inputs<'_>,
    ready: impl FnOnce(&start::Ready),
) -> Result<(), String> {
    let config = workers.config();
    let known = std::mem::take(&mut workers.known);
    let mut helpers = Helpers::start(&workers, known, resolver, admin);
    let started = workers.wait()?;
    memory::bound(config.limits.memory);
    ready(&started);
    if let Some(admin) = &helpers.admin {
        notice::note(format_args!("admin: asked on {}", admin.place));
    }
    let clock = crossbeam_channel::tick(WATCH_EVERY);
    let mut orders = inputs.orders.clone();
    let mut looks: u64 = 0;
    loop {
        let asked =
            helpers.admin.as_ref().map_or_else(crossbeam_channel::never, |one| one.orders.clone());
        select! {
            recv(inputs.signals) -> signal => match signal {
                Ok(Signal::Reopen) => reopen_log(&workers),
                Ok(Signal::Reload) => {
                    reopen_log(&workers);
                    match inputs.source {
                        // Why it is refused was told.
                        Some(source) => drop(reload::reload(&mut workers, &mut helpers, source)),
                        None => notice::note("there is no configuration file to read again"),
                    }
                }
                Ok(Signal::Terminate) | Err(_) => break,
            },
            recv(helpers.resolver.news) -> found => match found {
                Ok(found) => obey(&mut workers, &mut helpers, &found),
                // The resolver is gone: what it said last stays.
                Err(_) => helpers.resolver.news = crossbeam_channel::never(),
            },
            recv(helpers.prober.news) -> news => match news {
                Ok(news) => helpers.verdicts.hear(&mut workers, news),
                Err(_) => helpers.prober.news = crossbeam_channel::never(),
            },
            recv(workers.reports()) -> report => if let Ok(report) = report { note(&report) },
            recv(orders) -> order => match order {
                Ok(order) => orders::obey(&mut workers, &mut helpers, inputs.source, order),
                Err(_) => orders = crossbeam_channel::never(),
            },
            recv(asked) -> order => if let Ok(order) = order {
                orders::obey(&mut workers, &mut helpers, inputs.source, order);
            },
            recv(clock) -> _ => {
                workers.revive();
                helpers.watch.look(&workers);
                helpers.certificates.look(&mut workers, &helpers.prober);
                looks += 1;
                if looks.is_multiple_of(LOOKS_A_SECOND) {
                    workers.balance_cache();
                }
            }
        }
    }
    // Who asks from now on hears at once that it is too late.
    helpers.admin = None;
    drain(workers, inputs.signals)
}

fn reopen_log(workers: &Workers) {
    if workers.config().access_log.is_some() {
        workers.reopen_log();
        notice::note("the access log was opened anew");
    }
}

fn obey(workers: &mut Workers, helpers: &mut Helpers, found: &Resolution) {
    let moved = workers.resolved(found);
    let cluster = found.cluster;
    helpers.prober.placed(cluster, workers.places(cluster));
    helpers.verdicts.forget(cluster, &moved);
    helpers.watch.forget(cluster, &moved);
}

fn note(report: &Report) {
    match report {
        Report::Failed { shard, error } => {
            notice::warn(format_args!("worker {} failed: {error}", shard.0));
        }
        Report::Started { shard, driver, .. } => {
            notice::note(format_args!("worker {} is back on {driver}", shard.0));
        }
        Report::Drained { .. } => {}
    }
}

/// Tells every shard to finish, and waits for them; a second signal ends the wait.
fn drain(mut workers: Workers, signals: &Receiver<Signal>) -> Result<(), String> {
    let limit = workers.config().server.drain;
    let seconds = limit.as_secs();
    notice::note(format_args!("draining for at most {seconds} s; signal again to stop at once"));
    let begun = clock::monotonic();
    workers.broadcast(&Command::Drain);
    let (mut left, mut counters, mut cut) = (workers.count(), Counters::default(), 0);
    // The shards keep the limit themselves; this is for a shard that cannot.
    let patience = crossbeam_channel::after(limit + Duration::from_secs(2));
    // The next process wants the folder now, and not when the slowest client is served (exam R43).
    let give_up = crossbeam_channel::after(FOLDER_KEPT);
    while left > 0 {
        select! {
            recv(workers.reports()) -> report => match report {
                Ok(Report::Drained { counters: of, cut: one, .. }) => {
                    left -= 1;
                    counters.add(&of);
                    cut += one;
                }
                Ok(Report::Failed { .. }) | Err(_) => left -= 1,
                Ok(Report::Started { .. }) => {}
            },
            recv(signals) -> signal => {
                // `timeout` and terminals signal a process and its group: that is one order.
                let is_new = clock::monotonic().since(begun) > SAME_SIGNAL;
                if is_new && signal == Ok(Signal::Terminate) {
                    return Err("ended by a second signal while draining".to_owned());
                }
            },
            recv(give_up) -> _ => {
                std::thread::spawn(workers.disk_closer());
            }
            recv(patience) -> _ => return Err(format!("{left} workers did not drain in time")),
        }
    }
    workers.close_log();
    workers.close_disk();
    summary(&counters, cut);
    Ok(())
}

fn summary(counters: &Counters, cut: usize) {
    let Counters { connections, exchanges, failures, dials, reuses, retries, .. } = counters;
    let not_dialled = counters.dial_failures;
    notice::note(format_args!(
        "served {exchanges} requests on {connections} connections, {failures} failed; upstream: \
         {dials} connections opened, {not_dialled} dials failed, {reuses} reused, {retries} requests sent \
         again; {cut} cut off at the end"
    ));
    if counters.panics > 0 {
        notice::warn(format_args!("{} connections panicked", counters.panics));
    }
    if counters.refused > 0 {
        notice::note(format_args!("{} connections refused by limits", counters.refused));
    }
    if counters.handshakes + counters.handshake_failures > 0 {
        let (good, bad) = (counters.handshakes, counters.handshake_failures);
        notice::note(format_args!("TLS: {good} handshakes, {bad} more failed"));
    }
    if counters.silent > 0 {
        let count = counters.silent;
        notice::note(format_args!("{count} connections to TLS listeners without a word (checks?)"));
    }
    if counters.no_proxy_header > 0 {
        let count = counters.no_proxy_header;
        notice::note(format_args!("{count} connections without a good PROXY header"));
    }
    if counters.calmed > 0 {
        notice::note(format_args!("{} HTTP/2 connections told to calm down", counters.calmed));
    }
    if counters.malformed > 0 {
        notice::note(format_args!("{} faults in the HTTP/2 of clients", counters.malformed));
    }
    if counters.log_drops > 0 {
        notice::warn(format_args!("{} access log lines were dropped", counters.log_drops));
    }
}
