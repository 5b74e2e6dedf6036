//! Opens listeners and starts workers, and starts a worker again whose thread has died.

use std::fmt;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender};

use super::machine::{
    self, Sockets, choose_cores, log_fault, not_open, open_listeners, warn_of_few_files,
};
use super::plan::{self, ProcessFrame};
use super::resolve::Resolution;
use super::secrets;
use crate::balance::places::Places;
use crate::base::clock::{Moment, monotonic};
use crate::base::id::{ClusterId, EndpointId, ListenerId, ShardId};
use crate::base::limits::REPORTS;
use crate::base::limits::{DISK_END, LOG_PATIENCE};
use crate::base::random::Random;
use crate::cache::purge::Purge;
use crate::config::model::{Address, Cluster, Config, Listener, Mode};
use crate::net::handover::{self, Heir, Inherited};
use crate::net::log_file::{self, LogSender};
use crate::net::notice;
use crate::net::{listener, mailbox};
use crate::observe::recorder::Which;
use crate::shard::Plan;
use crate::shard::cache_handle::Unsure;
use crate::shard::command::{AtEnd, Command, ListenerSocket, Measured, Recalled, Report};
use crate::shard::secrets::Secrets;
use crate::shard::tap::Tap;
use crate::upstream::endpoint::Duty;
use crate::worker::{self, Setup};

/// What a newcomer wants to know first.
#[derive(Debug)]
pub struct Ready {
    /// Schemes and bound addresses of the listeners.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    pub workers: usize,
    pub driver: &'static str,
    /// Where the local authority's certificate is, if it made one.
    pub authority: Option<PathBuf>,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> =
            self.listeners.iter().map(|(scheme, at)| format!("{scheme}://{at}")).collect();
        let plural = if self.workers == 1 { "core" } else { "cores" };
        let (urls, workers, driver) = (urls.join(", "), self.workers, self.driver);
        write!(f, "listening on {urls} ({workers} {plural}, {driver})")?;
        match &self.authority {
            None => Ok(()),
            Some(file) => write!(f, "\ncertificates are signed by {}", file.display()),
        }
    }
}

/// There are at most as many workers as cores can be named.
fn shard_id(at: usize) -> ShardId {
    ShardId(u16::try_from(at).unwrap_or(u16::MAX))
}

const fn scheme(listener: &Listener) -> &'static str {
    match listener.mode {
        Mode::Http if listener.tls.is_some() => "https",
        Mode::Http => "http",
        Mode::Tcp => "tcp",
    }
}

/// The workers and what connects us with them.
pub struct Workers {
    plan: Arc<Plan>,
    frame: ProcessFrame,
    bound: Vec<SocketAddr>,
    /// By worker, then by listener: kept open here, so that a worker can be started again.
    sockets: Sockets,
    /// What becomes of them at the end.
    pub(super) sockets_at_end: AtEnd,
    cores: Vec<CoreId>,
    running: Vec<RunningWorker>,
    reports: (Sender<Report>, Receiver<Report>),
    log: Option<(LogSender, Receiver<()>)>,
    /// Logs of configurations before, which old shards still write to.
    past_logs: Vec<(LogSender, Receiver<()>)>,
    /// The last word on everything, for a worker that is started again.
    said: Vec<Command>,
    /// Where the addresses of names stand, by cluster.
    places: Vec<Places>,
    seed: u64,
    /// Where the local authority's certificate is, if there is one.
    authority: Option<PathBuf>,
    /// What is remembered of the files of certificates.
    pub(super) known: secrets::Known,
    /// Another number when workers have another plan, or one was started again: what was lent is to be lent anew.
    pub(super) lending: u64,
}

/// What a new configuration needs that the system may refuse.
pub(super) struct Prepared {
    listeners: Vec<PreparedListener>,
    /// Another access log, or none any more.
    log: Option<Option<(LogSender, Receiver<()>)>>,
}

/// Where a listener of a new configuration comes from.
enum PreparedListener {
    /// It was there before, under this number.
    Kept(usize),
    Opened {
        sockets: Vec<OwnedFd>,
        /// For the workers.
        copies: Vec<OwnedFd>,
        bound: SocketAddr,
    },
}

struct RunningWorker {
    commands: mailbox::Sender<Command>,
    thread: JoinHandle<()>,
}

/// Opens the log and the listeners and starts every worker.
///
/// # Errors
/// A sentence that says what could not be had.
pub(super) fn workers(
    config: Arc<Config>,
    places: Vec<Places>,
    inherited: &mut Inherited,
) -> Result<Workers, String> {
    let identity = machine::identity(&config)?;
    let log = match &config.access_log {
        None => None,
        Some(log) => {
            let own = |file: &File| identity.iter().for_each(|one| one.own_file(file));
            Some(log_file::start(log, &own).map_err(|error| log_fault(log, &error))?)
        }
    };
    warn_of_few_files(&config);
    let cores = choose_cores(&config.server.cores)?;
    let (sockets, bound) = open_listeners(&config, cores.len(), inherited)?;
    let seed = Random::seed_from_os();
    let name = if config.server.name.is_empty() {
        format!("millrace-{:06x}", seed & 0xff_ffff)
    } else {
        config.server.name.clone()
    };
    let loaded = secrets::load(&config, None).map_err(|faults| faults.join("\nerror: "))?;
    loaded.warnings.iter().for_each(notice::warn);
    // What is opened from here on is the user's: the cache's folder.
    if let Some(identity) = identity {
        machine::admin_socket(&config).into_iter().for_each(|path| identity.own(path));
        identity.assume().map_err(|error| format!("server.user: {error}"))?;
        machine::warn_of_socket_folder(&config);
    }
    // Where there is a process before us, the folder is still its own.
    if config.cache.disk.is_some() {
        inherited.ask_for_disk();
    }
    let frame = ProcessFrame::new(name.into_boxed_str(), cores.len(), &config.cache)?;
    let plan = frame.plan(config, Arc::new(loaded.secrets), &places, None);
    let mut workers = Workers {
        plan: Arc::new(plan),
        frame,
        bound,
        sockets,
        sockets_at_end: if inherited.is_activated() { AtEnd::Kept } else { AtEnd::Shut },
        cores,
        running: Vec::new(),
        reports: crossbeam_channel::bounded(REPORTS),
        log,
        past_logs: Vec::new(),
        said: Vec::new(),
        places,
        seed,
        authority: loaded.authority,
        known: loaded.known,
        lending: 0,
    };
    for at in 0..workers.cores.len() {
        let running = workers.start(at, true, true)?;
        workers.running.push(running);
    }
    Ok(workers)
}

impl Workers {
    fn start(&self, at: usize, has_disk: bool, waits: bool) -> Result<RunningWorker, String> {
        let fault = |error: std::io::Error| format!("worker {at}: {error}");
        let (commands, receiver) = mailbox::channel().map_err(fault)?;
        let mut listeners = Vec::new();
        for (id, sockets) in (0_u16..).zip(&self.sockets[at]) {
            for socket in sockets {
                listeners.push((ListenerId(id), socket.try_clone().map_err(fault)?));
            }
        }
        let setup = Setup {
            id: shard_id(at),
            core: self.cores.get(at).copied(),
            listeners,
            waits,
            plan: Arc::clone(&self.plan),
            has_disk,
            log: self.log.as_ref().map(|(sender, _)| sender.clone()),
            commands: receiver,
            post: self.frame.post(at),
            reports: self.reports.0.clone(),
            seed: self.seed,
            said: self.said.clone().into(),
        };
        // One that is started again has stood still until it runs.
        if waits {
            self.plan.beats[at].store(monotonic().0, Ordering::Relaxed);
        }
        let thread = worker::start(setup).map_err(fault)?;
        Ok(RunningWorker { commands, thread })
    }

    /// Waits until every worker serves.
    ///
    /// # Errors
    /// A worker could not start.
    pub fn wait(&mut self) -> Result<Ready, String> {
        let (mut driver, mut why) = ("", None);
        for _ in 0..self.running.len() {
            match self.reports.1.recv() {
                Ok(Report::Started { driver: of, fallback, .. }) => {
                    driver = of;
                    why = why.or(fallback);
                }
                Ok(Report::Failed { shard, error }) => {
                    return Err(format!("worker {} cannot start: {error}", shard.0));
                }
                _ => return Err("a worker ended before it began".to_owned()),
            }
        }
        if let Some(error) = why {
            notice::warn(format_args!("io_uring is not to be had ({error}): using epoll instead"));
        }
        let listeners = self.plan.config.listeners.iter().zip(&self.bound);
        let listeners = listeners.map(|(one, bound)| (scheme(one), *bound)).collect();
        let authority = self.authority.clone();
        Ok(Ready { listeners, workers: self.running.len(), driver, authority })
    }

    /// Names, schemes and bound addresses of the listeners.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&str, &'static str, SocketAddr)> {
        let all = self.plan.config.listeners.iter().zip(&self.bound);
        all.map(|(one, bound)| (one.name.as_str(), scheme(one), *bound))
    }

    /// Starts this program anew, with the listening sockets of this process.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn bequeath(&self, admin: Option<RawFd>) -> std::io::Result<Heir> {
        let all = self.plan.config.listeners.iter().zip(&self.bound).enumerate();
        let listeners: Vec<_> = all
            .map(|(at, (model, bound))| {
                let sockets = self.sockets.iter().flat_map(|worker| &worker[at]);
                (model.name.as_str(), *bound, sockets.map(AsRawFd::as_raw_fd).collect())
            })
            .collect();
        Heir::start(&listeners, admin, &self.orders(), self.sockets_at_end == AtEnd::Kept)
    }

    /// Has systemd keep the listening sockets, where it is asked to.
    pub(super) fn store(&mut self) {
        let all: Vec<&OwnedFd> = self.sockets.iter().flatten().flatten().collect();
        if handover::store(&all) {
            self.sockets_at_end = AtEnd::Kept;
        }
    }

    /// What an operator wants of an endpoint.
    pub(super) fn duty(&self, cluster: ClusterId, endpoint: EndpointId) -> Duty {
        let told = self.said.iter().rev().find_map(|command| match command {
            Command::Assigned { cluster: of, endpoints, duty }
                if *of == cluster && endpoints.contains(&endpoint) =>
            {
                Some(*duty)
            }
            _ => None,
        });
        told.unwrap_or_default()
    }

    /// The weight that an operator has given to an endpoint.
    pub(super) fn weight(&self, cluster: ClusterId, endpoint: EndpointId) -> Option<u32> {
        self.said.iter().rev().find_map(|command| match command {
            Command::Weighed { cluster: of, endpoints, weight }
                if *of == cluster && endpoints.contains(&endpoint) =>
            {
                Some(*weight)
            }
            _ => None,
        })?
    }

    /// What an operator has said of endpoints: cluster, address, and a duty or a weight.
    fn orders(&self) -> Vec<[String; 3]> {
        let mut all = Vec::new();
        for (id, cluster) in (0..).map(ClusterId).zip(&self.plan.config.clusters) {
            for (at, model) in cluster.endpoints.iter().enumerate() {
                let Some(at) = EndpointId::at(at) else { continue };
                let duty = Some(self.duty(id, at)).filter(|duty| *duty != Duty::Ready);
                let weight = self.weight(id, at).map(|weight| weight.to_string());
                let words = duty.map(|duty| duty.word().to_owned()).into_iter().chain(weight);
                all.extend(
                    words.map(|word| [cluster.name.clone(), model.address.to_string(), word]),
                );
            }
        }
        // A name that stands for several addresses is one endpoint to an operator.
        all.sort();
        all.dedup();
        all
    }

    /// When a worker last wrote down that it runs.
    pub(super) fn beat(&self, at: usize) -> Moment {
        Moment(self.plan.beats[at].load(Ordering::Relaxed))
    }

    /// Has the other workers accept in the place of one that stands still.
    pub(super) fn lend(&self, at: usize) {
        let mut all = Vec::new();
        for (id, sockets) in (0..).map(ListenerId).zip(&self.sockets[at]) {
            let copies = sockets.iter().filter_map(|socket| socket.try_clone().ok());
            all.extend(copies.map(|copy| (id, copy)));
        }
        let plan = Arc::clone(&self.plan);
        self.tell_others(at, &Command::Lend { of: shard_id(at), plan, sockets: all.into() });
    }

    /// A worker accepts for itself again.
    pub(super) fn take_back(&self, at: usize) {
        self.tell_others(at, &Command::TakeBack { of: shard_id(at) });
    }

    /// One whose mailbox is full does not hear it.
    fn tell_each(&self, command: &Command) {
        self.running.iter().for_each(|worker| drop(worker.commands.send(command.clone())));
    }

    fn tell_others(&self, at: usize, command: &Command) {
        for (_, worker) in self.running.iter().enumerate().filter(|(other, _)| *other != at) {
            // One whose mailbox is full does not help, or helps for longer.
            let _ = worker.commands.send(command.clone());
        }
    }

    /// Whether the process is about to drain.
    pub(super) fn is_leaving(&self) -> bool {
        self.said.iter().any(|command| matches!(command, Command::Leave))
    }

    /// Every worker begins to accept. Before that a start may fail without a client that notices.
    pub(super) fn accept(&self) {
        for worker in &self.running {
            if worker.commands.send(Command::Accept).is_err() {
                notice::warn("a worker's mailbox is full: it does not accept");
            }
        }
    }

    /// Asks every worker what it has measured. A worker whose mailbox is full says nothing.
    pub(super) fn measure(&self, reply: &Sender<Measured>) {
        self.tell_each(&Command::Measure { reply: reply.clone() });
    }

    /// Asks every worker for its last exchanges.
    pub(super) fn recall(&self, which: Which, reply: &Sender<Recalled>) {
        self.tell_each(&Command::Recall { which, reply: reply.clone() });
    }

    /// Has every worker show its exchanges.
    pub(super) fn tap(&self, tap: &Tap) {
        self.tell_each(&Command::Tap { tap: tap.clone() });
    }

    /// Sends an order to every worker.
    pub fn broadcast(&mut self, command: &Command) {
        for worker in &self.running {
            if worker.commands.send(command.clone()).is_err() {
                notice::warn("a worker's mailbox is full: it missed an order");
            }
        }
        self.said.retain(|old| !command.replaces(old));
        // A worker that is started again hears first which address stands where, then what is said of it.
        let is_first = matches!(command, Command::Placed { .. });
        self.said.insert(if is_first { 0 } else { self.said.len() }, command.clone());
    }

    /// Takes something out of the cache. The task that waits for the reply learns of a worker that cannot do
    /// it by a reply that never comes: its end is dropped.
    pub fn purge(&self, purge: Purge, reply: Sender<Result<usize, Unsure>>) {
        for worker in &self.running {
            let order = Command::Purge { purge: purge.clone(), reply: reply.clone() };
            if worker.commands.send(order).is_ok() {
                return;
            }
        }
        notice::warn("no worker takes a purge: their mailboxes are full");
    }

    /// Opens what a new configuration listens on and this one does not, and its access log.
    ///
    /// # Errors
    /// What could not be had, as a sentence: then nothing has changed.
    pub(super) fn prepare(&self, config: &Config) -> Result<Prepared, String> {
        let old = &self.plan.config;
        let is_same = |one: &Listener, other: &Listener| {
            // The system has chosen a port for one that has none: its name tells which it was.
            one.address == other.address && (one.address.port() != 0 || one.name == other.name)
        };
        let mut listeners = Vec::new();
        for one in &config.listeners {
            let kept = old.listeners.iter().position(|other| is_same(one, other));
            listeners.push(match kept {
                Some(at) => PreparedListener::Kept(at),
                None => {
                    let fault = |error| not_open(one, &error);
                    let (sockets, bound) =
                        listener::open(one.address, self.cores.len()).map_err(fault)?;
                    let copies: std::io::Result<Vec<OwnedFd>> =
                        sockets.iter().map(OwnedFd::try_clone).collect();
                    PreparedListener::Opened { sockets, copies: copies.map_err(fault)?, bound }
                }
            });
        }
        let log = match &config.access_log {
            same if *same == old.access_log => None,
            None => Some(None),
            Some(log) => {
                let started = log_file::start(log, &|_| ());
                Some(Some(started.map_err(|error| log_fault(log, &error))?))
            }
        };
        Ok(Prepared { listeners, log })
    }

    /// Every worker serves new connections by this configuration from now on. `places` says what its names
    /// resolve to.
    pub(super) fn adopt(
        &mut self,
        config: Arc<Config>,
        secrets: Arc<Secrets>,
        places: Vec<Places>,
        prepared: Prepared,
    ) {
        let plan = self.frame.plan(Arc::clone(&config), secrets, &places, Some(self.known_plan()));
        let plan = Arc::new(plan);
        let old = (&*self.plan.config, &*self.places);
        self.said = plan::translated(&self.said, old, (&config, &places));
        self.places = places;
        let said: Arc<[Command]> = self.said.clone().into();
        if let Some(log) = prepared.log {
            self.past_logs.extend(std::mem::replace(&mut self.log, log));
        }
        let sockets = self.rearrange(&config, prepared.listeners);
        for (worker, sockets) in self.running.iter().zip(sockets) {
            let log = self.log.as_ref().map(|(sender, _)| sender.clone());
            let (plan, said) = (Arc::clone(&plan), Arc::clone(&said));
            let adopt = Command::Adopt { plan, said, sockets: sockets.into(), log };
            if worker.commands.send(adopt).is_err() {
                notice::warn("a worker's mailbox is full: it keeps the old configuration");
            }
        }
        self.plan = plan;
        self.lending += 1;
    }

    /// Puts the sockets of each worker into the order of a new configuration's listeners; what each worker is told.
    fn rearrange(
        &mut self,
        config: &Config,
        listeners: Vec<PreparedListener>,
    ) -> Vec<Vec<ListenerSocket>> {
        let mut old = std::mem::take(&mut self.sockets);
        let before = std::mem::take(&mut self.bound);
        let mut told: Vec<Vec<ListenerSocket>> = old.iter().map(|_| Vec::new()).collect();
        self.sockets = old.iter().map(|_| Vec::new()).collect();
        let mut is_kept = vec![false; before.len()];
        for (one, prepared) in config.listeners.iter().zip(listeners) {
            match prepared {
                PreparedListener::Kept(at) => {
                    is_kept[at] = true;
                    self.bound.push(before[at]);
                    let was = ListenerId(u16::try_from(at).unwrap_or(u16::MAX));
                    for (worker, sockets) in old.iter_mut().enumerate() {
                        self.sockets[worker].push(std::mem::take(&mut sockets[at]));
                        told[worker].push(ListenerSocket::Kept(was));
                    }
                }
                PreparedListener::Opened { sockets, copies, bound } => {
                    self.bound.push(bound);
                    let (name, scheme) = (&one.name, scheme(one));
                    notice::note(format_args!(
                        "listener \"{name}\": listening on {scheme}://{bound}"
                    ));
                    for (worker, (socket, copy)) in sockets.into_iter().zip(copies).enumerate() {
                        told[worker].push(ListenerSocket::New(copy));
                        self.sockets[worker].push(vec![socket]);
                    }
                }
            }
        }
        let gone = before.iter().zip(&self.plan.config.listeners).zip(is_kept);
        for ((bound, model), _) in gone.filter(|(_, is_kept)| !is_kept) {
            notice::note(format_args!("listener \"{}\": {bound} is closed", model.name));
        }
        told
    }

    /// Starts workers again whose thread has ended. Until then their listeners only queue.
    pub fn revive(&mut self) {
        for at in 0..self.running.len() {
            if !self.running[at].thread.is_finished() {
                continue;
            }
            notice::warn(format_args!("worker {at} died; starting it again"));
            // What others keep near of its entries would never be taken out.
            self.plan.ledger.next_epoch();
            // Nor is it known any more which of its files are good.
            if let Some(disk) = &self.plan.disk {
                disk.distrust();
            }
            match self.start(at, false, false) {
                Ok(running) => {
                    self.running[at] = running;
                    self.lending += 1;
                }
                Err(message) => notice::warn(message),
            }
        }
    }

    /// The plan, and where the addresses of its names stand.
    pub(super) fn known_plan(&self) -> plan::KnownPlan<'_> {
        plan::KnownPlan { plan: &self.plan, places: &self.places }
    }

    /// Where the addresses of a cluster's names stand.
    #[must_use]
    pub fn places(&self, cluster: ClusterId) -> &Places {
        &self.places[usize::from(cluster.0)]
    }

    /// An endpoint as people know it.
    #[must_use]
    pub fn text(&self, cluster: ClusterId, at: usize) -> String {
        self.places(cluster).text(&self.plan.config.clusters[usize::from(cluster.0)], at)
    }

    /// A name resolves to these addresses now. Returns the endpoints that have another one than before: nothing
    /// is held against them.
    pub fn resolved(&mut self, found: &Resolution) -> Vec<EndpointId> {
        let Resolution { cluster, endpoint, addresses } = found;
        let at = usize::from(cluster.0);
        let (model, common) = (&self.plan.config.clusters[at], &self.plan.common[at]);
        let (old, new) = (&self.places[at], self.places[at].resolved(model, *endpoint, addresses));
        let ids = (0..).map(EndpointId).take(model.endpoints.len());
        let has_moved = |id: &EndpointId| {
            let at = usize::from(id.0);
            old.address(at) != new.address(at)
        };
        let moved: Vec<EndpointId> = ids.filter(has_moved).collect();
        for id in &moved {
            common.health.forget(usize::from(id.0));
            common.balance.loads[usize::from(id.0)].forget();
        }
        common.health.set_count(new.count(model));
        let is_of_another = |command: &Command| {
            matches!(command, Command::Judged { cluster: of, endpoint, .. }
                if of == cluster && moved.contains(endpoint))
        };
        self.said.retain(|command| !is_of_another(command));
        self.places[at] = new.clone();
        self.broadcast(&Command::Placed { cluster: *cluster, places: new });
        moved
    }

    /// What a name resolves to, as far as that is known: in this cluster, or else in another one.
    #[must_use]
    pub fn addresses(&self, cluster: &str, host: &str) -> Option<Vec<IpAddr>> {
        let all = || self.plan.config.clusters.iter().zip(&self.places);
        let known = |(model, places): (&Cluster, &Places)| {
            let at = |number: usize| match &model.endpoints[number].address {
                Address::Name { host: name, .. } if name == host => places.address(number),
                _ => None,
            };
            let mut found: Vec<IpAddr> =
                (0..model.endpoints.len()).filter_map(at).map(|one| one.ip()).collect();
            found.sort_unstable();
            found.dedup();
            Some(found).filter(|found| !found.is_empty())
        };
        let own = all().filter(|(model, _)| model.name == cluster).find_map(known);
        own.or_else(|| all().find_map(known))
    }

    /// The plan's configuration.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.plan.config)
    }

    /// The certificates that new connections get.
    #[must_use]
    pub fn secrets(&self) -> &Arc<Secrets> {
        let newer = self.said.iter().find_map(|command| match command {
            Command::Secure { secrets } => Some(secrets),
            _ => None,
        });
        newer.unwrap_or(&self.plan.secrets)
    }

    /// New connections get these certificates.
    pub fn secure(&mut self, secrets: Arc<Secrets>) {
        self.broadcast(&Command::Secure { secrets });
    }

    /// What the workers share.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// News from the workers.
    #[must_use]
    pub fn reports(&self) -> &Receiver<Report> {
        &self.reports.1
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Opens the access log anew, after it was moved away.
    pub fn reopen_log(&self) {
        if let Some((sender, _)) = &self.log {
            // A full queue means that its reader is behind: the next request for it will do.
            let _ = sender.try_send(log_file::LogMessage::Reopen);
        }
    }

    /// Waits until the cache's disk has written everything.
    pub fn close_disk(&self) {
        self.disk_closer()();
    }

    /// Does the same on a thread of its own.
    pub fn disk_closer(&self) -> impl FnOnce() + Send + use<> {
        let disk = self.plan.disk.clone();
        move || {
            if let Some(disk) = disk {
                disk.end(DISK_END);
            }
        }
    }

    /// Once a second: gives memory and disk of the cache to the shards that need it.
    pub fn balance_cache(&self) {
        self.plan.ledger.balance();
        if let Some(disk) = &self.plan.disk {
            disk.books.ledger.balance();
        }
    }

    /// Waits until the access log has written everything, and spans have gone to their collector.
    pub fn close_log(&self) {
        self.plan.spans.iter().for_each(|export| export.end(LOG_PATIENCE));
        for (sender, end) in self.log.iter().chain(&self.past_logs) {
            log_file::end(sender, end, LOG_PATIENCE);
        }
    }
}
