//! Floor 11: the coordinator: one thread that opens listeners, starts workers, resolves names,
//! and waits for signals. The data plane does not know that it exists.

mod admin;
pub mod doctor;
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
mod stall;
mod stamps;
pub mod start;
mod upgrade;
mod verdicts;
mod view;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use crate::admin::order::{AdminOrder, Orders};
use crate::balance::places::Places;
use crate::base::clock::{self, Moment};
use crate::base::limits::FOLDER_KEPT;
use crate::base::limits::{ADMIN_PORT_KEPT, SAME_SIGNAL, WATCH_EVERY};
use crate::config::model::Config;
use crate::net::handover::{self, HeirNews, Inherited, ManagerNews, tell};
use crate::net::signal::Signal;
use crate::net::{memory, notice};
use crate::observe::counters::Counters;
use crate::shard::command::{AtEnd, Command, Report};
use crate::upstream::endpoint::Duty;
use admin::AdminServer;
use reload::{ConfigSource, Helpers};
use resolve::Resolution;
use start::Workers;
use upgrade::RunningUpgrade;

const UPGRADING: &str = "an upgrade is under way: nothing is read again until it is over";
const ENDS_SOON: &str = "this process is about to end: no other takes its place";
const LOOKS_A_SECOND: u64 = 4;

/// Serves a configuration until a signal ends it, and carries out orders until then. `ready` is called with the bound addresses when
/// every worker serves.
#[must_use]
pub fn run(config: Config, inputs: &Inputs<'_>, ready: impl FnOnce(&start::Ready)) -> ExitCode {
    let config = Arc::new(config.with_places());
    let mut inherited = Inherited::take();
    let resolver = resolve::start(&config, &|_, _| None);
    let mut places: Vec<Places> = config.clusters.iter().map(Places::new).collect();
    resolve::first(&resolver, &config, |one| one.place(&config, &mut places));
    for name in resolve::unknown(&config, &places) {
        notice::warn(format_args!(
            "name {name}: not resolved yet: requests for it get 503 until its DNS server answers"
        ));
    }
    machine::make_socket_folder(&config);
    // What cannot be had is known before anything is served.
    let admin = config.admin.as_ref().map(|admin| AdminServer::inherit(admin, &mut inherited));
    let started = admin
        .transpose()
        .and_then(|admin| Ok((admin, start::workers(config, places, &mut inherited)?)));
    let result = started
        .and_then(|(admin, all)| serve(all, admin, (resolver, &mut inherited), inputs, ready));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            inherited.refuses(&message);
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
    /// What is another number when the file was written.
    pub stamp: Option<&'a dyn Fn() -> u64>,
}

fn serve(
    mut workers: Workers,
    admin: Option<AdminServer>,
    (resolver, inherited): (resolve::Resolver, &mut Inherited),
    inputs: &Inputs<'_>,
    ready: impl FnOnce(&start::Ready),
) -> Result<(), String> {
    let config = workers.config();
    let known = std::mem::take(&mut workers.known);
    let helpers = Helpers::start(&workers, known, resolver, admin);
    let started = workers.wait()?;
    memory::bound(config.limits.memory);
    ready(&started);
    if let Some(admin) = &helpers.admin {
        notice::note(format_args!("admin: asked on {}", admin.place));
    }
    workers.store();
    for [cluster, endpoint, duty] in inherited.orders() {
        let known = Duty::of(&duty).unwrap_or_default();
        let done = match duty.parse() {
            Ok(weight) => orders::weigh(&mut workers, &cluster, &endpoint, Some(weight)),
            Err(_) => orders::assign(&mut workers, &cluster, &endpoint, known),
        };
        if let Err(why) = done {
            notice::warn(format_args!("what was ordered before the upgrade is dropped: {why}"));
        }
    }
    workers.accept();
    inherited.serves();
    tell(ManagerNews::Serves);
    let mut coordinator = Coordinator {
        workers,
        helpers,
        inputs,
        orders: inputs.orders.clone(),
        clock: crossbeam_channel::tick(WATCH_EVERY),
        upgrade: None,
        alive: Alive::new(),
        looks: 0,
        leaves_at: None,
        told_to_leave: Moment::default(),
        seen: None,
        taken: inputs.stamp.filter(|_| config.server.watch).map(|stamp| stamp()),
    };
    while coordinator.turn() {}
    coordinator.end()
}

/// The one thread that knows everything, from the start to the order to drain.
struct Coordinator<'a> {
    workers: Workers,
    helpers: Helpers,
    inputs: &'a Inputs<'a>,
    orders: Orders,
    clock: Receiver<std::time::Instant>,
    /// A new process that is to take over.
    upgrade: Option<RunningUpgrade>,
    alive: Alive,
    looks: u64,
    /// It drains then; and when it was told to.
    leaves_at: Option<Moment>,
    told_to_leave: Moment,
    /// The file's stamp at the last look, and when it was read.
    seen: Option<u64>,
    taken: Option<u64>,
}

impl Coordinator<'_> {
    /// Waits for something to do, and does it. False if it is time to drain.
    fn turn(&mut self) -> bool {
        let asked = self.helpers.admin.as_ref().map(|one| one.orders.clone());
        let asked = asked.unwrap_or_else(crossbeam_channel::never);
        let heir = self.upgrade.as_ref().map(|one| one.news().clone());
        let heir = heir.unwrap_or_else(crossbeam_channel::never);
        let (workers, helpers) = (&mut self.workers, &mut self.helpers);
        select! {
            recv(self.inputs.signals) -> signal => return self.signalled(signal.ok()),
            recv(helpers.resolver.news) -> found => match found {
                Ok(found) => obey(workers, helpers, &found),
                // The resolver is gone: what it said last stays.
                Err(_) => helpers.resolver.news = crossbeam_channel::never(),
            },
            recv(helpers.prober.news) -> news => match news {
                Ok(news) => helpers.verdicts.hear(workers, news),
                Err(_) => helpers.prober.news = crossbeam_channel::never(),
            },
            recv(workers.reports()) -> report => if let Ok(report) = report { note(&report) },
            recv(self.orders) -> order => match order {
                Ok(order) => self.obey(order),
                Err(_) => self.orders = crossbeam_channel::never(),
            },
            recv(asked) -> order => match order {
                Ok(order) => self.obey(order),
                Err(_) => {
                    notice::warn("the admin listener has ended: a reload may open it again");
                    self.helpers.admin = None;
                }
            },
            recv(heir) -> news => return self.hear(news.unwrap_or(HeirNews::Gone)),
            recv(self.clock) -> _ => return self.tick(),
        }
        true
    }

    /// False for the signal to drain.
    fn signalled(&mut self, signal: Option<Signal>) -> bool {
        match signal {
            Some(Signal::Upgrade) => match &self.upgrade {
                _ if self.leaves_at.is_some() => notice::note(ENDS_SOON),
                Some(_) => notice::note("an upgrade is under way already"),
                None => self.upgrade = RunningUpgrade::start(&self.workers, &self.helpers, None),
            },
            Some(Signal::Reopen) => reopen_log(&self.workers),
            Some(Signal::Reload) => {
                reopen_log(&self.workers);
                self.reload();
            }
            Some(Signal::Terminate) => return self.leave(),
            None => return false,
        }
        true
    }

    /// Says that it is about to drain, where it serves on until balancers have heard it. False to drain at once: then,
    /// and for a second signal.
    fn leave(&mut self) -> bool {
        let (now, delay) = (clock::monotonic(), self.workers.config().server.drain_delay);
        match self.leaves_at {
            Some(at) => now < at && now.since(self.told_to_leave) <= SAME_SIGNAL,
            None if delay.is_zero() => false,
            None => {
                // The order to end is meant for the process that would take over as well.
                if let Some(mut upgrade) = self.upgrade.take() {
                    upgrade.cancel();
                    self.go_on();
                }
                (self.leaves_at, self.told_to_leave) = (Some(now.after(delay)), now);
                self.workers.broadcast(&Command::Leave);
                let seconds = delay.as_secs_f64();
                notice::note(format_args!(
                    "checks are told that this process ends: it drains in {seconds} s; signal again to drain at once"
                ));
                true
            }
        }
    }

    /// The file as it is now is what is about to be read: its configuration may want it to be watched.
    fn note_stamp(&mut self) {
        self.taken = self.inputs.stamp.map(|stamp| stamp());
    }

    fn reload(&mut self) {
        match self.inputs.source {
            _ if self.upgrade.is_some() => notice::note(UPGRADING),
            // Why it is refused was told.
            Some(source) => {
                self.note_stamp();
                drop(reload::reload(&mut self.workers, &mut self.helpers, source));
            }
            None => notice::note("there is no configuration file to read again"),
        }
    }

    /// Reads the file again when it was written, and has been left alone since the last look: an editor may be at it.
    fn look_at_file(&mut self) {
        let Some(stamp) = self.inputs.stamp.filter(|_| self.workers.config().server.watch) else {
            return;
        };
        let now = stamp();
        let is_still = self.seen.replace(now) == Some(now);
        if is_still && self.taken != Some(now) {
            notice::note("the configuration file was written: it is read again");
            self.reload();
        }
    }

    fn obey(&mut self, order: AdminOrder) {
        match order {
            AdminOrder::Upgrade { reply } if self.leaves_at.is_some() => {
                let _ = reply.send(Err(ENDS_SOON.to_owned()));
            }
            AdminOrder::Upgrade { reply } if self.upgrade.is_none() => {
                self.upgrade = RunningUpgrade::start(&self.workers, &self.helpers, Some(reply));
            }
            // The sockets are the new process's too.
            AdminOrder::Reload { reply } if self.upgrade.is_some() => {
                let _ = reply.send(Err(UPGRADING.to_owned()));
            }
            order => {
                if matches!(order, AdminOrder::Reload { .. }) {
                    self.note_stamp();
                }
                let source = self.inputs.source;
                orders::obey(&mut self.workers, &mut self.helpers, source, order);
            }
        }
    }

    /// Hears what the new process says. False once that serves.
    fn hear(&mut self, news: HeirNews) -> bool {
        match self.upgrade.as_mut().and_then(|one| one.hear(news, &self.workers)) {
            Some(true) => {
                self.workers.sockets_at_end = AtEnd::HandedOver;
                return false;
            }
            Some(false) => self.go_on(),
            None => {}
        }
        true
    }

    /// The new process has come to nothing.
    fn go_on(&mut self) {
        self.upgrade = None;
        self.helpers.regain_admin(&self.workers);
    }

    /// A few times a second. False when it is time to drain.
    fn tick(&mut self) -> bool {
        self.alive.tell();
        if self.upgrade.as_mut().is_some_and(RunningUpgrade::is_overdue) {
            self.go_on();
        }
        self.workers.revive();
        self.helpers.stalls.look(&self.workers, clock::monotonic());
        self.helpers.watch.look(&self.workers);
        self.helpers.certificates.look(&mut self.workers, &self.helpers.prober);
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_A_SECOND) {
            self.look_at_file();
            self.workers.balance_cache();
        }
        self.leaves_at.is_none_or(|at| clock::monotonic() < at)
    }

    fn end(mut self) -> Result<(), String> {
        if self.workers.sockets_at_end == AtEnd::HandedOver {
            // The new process has its place: what is asked from now on is asked of that one.
            let wait = self.helpers.admin.take().map(AdminServer::retire);
            let drained = drain(self.workers, self.helpers, self.inputs.signals);
            wait.into_iter().for_each(|wait| wait());
            return drained;
        }
        self.upgrade.iter_mut().for_each(RunningUpgrade::cancel);
        tell(ManagerNews::Drains);
        drain(self.workers, self.helpers, self.inputs.signals)
    }
}

/// Tells the service manager that we live, as often as it wants to hear it.
struct Alive {
    every: Option<Duration>,
    next: Moment,
}

impl Alive {
    fn new() -> Self {
        let every = handover::watchdog().map(|limit| limit / 3);
        Self { every, next: clock::monotonic() }
    }

    fn tell(&mut self) {
        let Some(every) = self.every else { return };
        let now = clock::monotonic();
        if now >= self.next {
            self.next = now.after(every);
            tell(ManagerNews::Lives);
        }
    }
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

/// Tells every shard to finish, and waits for them; a second signal ends the wait. As long as that lasts the admin
/// listener tells how far it is.
fn drain(
    mut workers: Workers,
    mut helpers: Helpers,
    signals: &Receiver<Signal>,
) -> Result<(), String> {
    let limit = workers.config().server.drain;
    let seconds = limit.as_secs();
    notice::note(format_args!("draining for at most {seconds} s; signal again to stop at once"));
    let begun = clock::monotonic();
    let sockets = workers.sockets_at_end;
    workers.broadcast(&Command::Drain { sockets });
    let (mut left, mut counters, mut cut) = (workers.count(), Counters::default(), 0);
    // The shards keep the limit themselves; this is for a shard that cannot.
    let patience = crossbeam_channel::after(limit + Duration::from_secs(2));
    // The next process wants the folder now, and not when the slowest client is served (exam R43).
    let give_up = crossbeam_channel::after(FOLDER_KEPT);
    let give_port = crossbeam_channel::after(ADMIN_PORT_KEPT);
    let mut ending = None;
    while left > 0 {
        let asked = helpers.admin.as_ref().map(|one| one.orders.clone());
        let asked = asked.unwrap_or_else(crossbeam_channel::never);
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
            recv(asked) -> order => match order {
                Ok(order) => orders::while_draining(&workers, &helpers, order, left),
                Err(_) => helpers.admin = None,
            },
            recv(give_port) -> _ => if helpers.admin.as_ref().is_some_and(AdminServer::has_port) {
                ending = helpers.admin.take().map(AdminServer::retire);
            },
            recv(give_up) -> _ => {
                std::thread::spawn(workers.disk_closer());
            }
            recv(patience) -> _ => return Err(format!("{left} workers did not drain in time")),
        }
    }
    let ending = helpers.admin.take().map(AdminServer::retire).map_or(ending, Some);
    workers.close_log();
    workers.close_disk();
    summary(&counters, cut);
    if let Some(wait) = ending {
        wait();
    }
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
