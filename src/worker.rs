//! Floor 10: a pinned thread with one runtime that runs one shard until it has drained.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use core_affinity::CoreId;
use crossbeam_channel::Sender;

use crate::base::clock::monotonic;
use crate::base::id::{ListenerId, ShardId};
use crate::base::limits::IDLE_GRACE;
use crate::base::limits::{ACCEPT_PAUSE, PAST_CONFIGS, RECORDS_KEPT, SWEEP_EVERY};
use crate::config::model::Config;
use crate::downstream;
use crate::downstream::http2::Http2Job;
use crate::downstream::task_pool::TaskPool;
use crate::net::guard::Caught;
use crate::net::listener::{Accepted, Acceptor};
use crate::net::log_file::LogSender;
use crate::net::mailbox::{Mailbox, Receiver};
use crate::net::notice;
use crate::net::notifier::Notified;
use crate::net::privileges;
use crate::net::runtime::{Loop, Ticker, spawn};
use crate::observe::recorder::{Kept, Which};
use crate::observe::stats::Totals;
use crate::shard::cache_handle::{CacheHandle, CacheMessage};
use crate::shard::command::{AtEnd, Command, ListenerSocket, Measured, Recalled, Report};
use crate::shard::{Plan, Shard};
use crate::upstream::cluster::Cluster;

/// Everything a worker begins with.
pub struct Setup {
    pub id: ShardId,
    /// `None` if there are more workers than cores.
    pub core: Option<CoreId>,
    pub listeners: Vec<(ListenerId, OwnedFd)>,
    /// It accepts when it is told to: the other workers may come to nothing.
    pub waits: bool,
    pub plan: Arc<Plan>,
    /// The cache's disk is for workers that have known it from the start.
    pub has_disk: bool,
    pub log: Option<LogSender>,
    pub commands: Receiver<Command>,
    pub post: Receiver<CacheMessage>,
    pub reports: Sender<Report>,
    pub seed: u64,
    /// What is known of endpoints.
    pub said: Arc<[Command]>,
}

/// Starts a worker.
///
/// # Errors
/// There is no thread to be had.
pub fn start(setup: Setup) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{}", setup.id.0)).spawn(|| run(setup))
}

fn run(setup: Setup) {
    if let Some(core) = setup.core {
        core_affinity::set_for_current(core);
    }
    if setup.plan.config.server.user.is_some() {
        privileges::give_up_on_this_thread();
    }
    let server = &setup.plan.config.server;
    let (id, reports) = (setup.id, setup.reports.clone());
    // A coordinator that is gone is no reason to stop; its messages have nowhere to go then.
    let failed = |error| drop(reports.try_send(Report::Failed { shard: id, error }));
    match Loop::build(server.driver, server.ring) {
        Err(error) => failed(error),
        Ok((built, fallback)) => {
            let driver = built.name();
            let started = Report::Started { shard: id, driver, fallback };
            if let Err(error) = built.run(serve(setup, started)) {
                failed(error);
            }
        }
    }
}

async fn serve(setup: Setup, started: Report) -> io::Result<()> {
    let Setup {
        id,
        listeners,
        waits,
        plan,
        has_disk,
        log,
        commands,
        post,
        reports,
        seed,
        said,
        ..
    } = setup;
    let notifier = plan.notifiers[usize::from(id.0)].clone();
    let (ledger, posts) = (Arc::clone(&plan.ledger), Arc::clone(&plan.posts));
    let cache = CacheHandle::new(id, ledger, posts, plan.disk.clone(), has_disk);
    let shards = Shards::new(Shard::new(id, plan, Rc::clone(&cache), log.clone(), seed));
    said.iter().for_each(|command| tell(&shards.current(), command));
    let mailbox = Rc::new(commands.open()?);
    spawn(hear(Rc::clone(&cache), Rc::clone(&shards), post.open()?));
    // All that draining needs, while there are descriptors to be had.
    let drain_clock = Ticker::stopped()?;
    let _end = EndAll(Rc::clone(&shards));
    let mut closed = listeners;
    if !waits {
        shards.open_all(&mut closed);
    }
    let closed = RefCell::new(closed);
    spawn(tick(Rc::clone(&shards), Ticker::new(SWEEP_EVERY)?));
    spawn(let_in(Rc::clone(&shards), notifier.listen()?));
    let _ = reports.try_send(started);
    let heir = |plan, log| Shard::new(id, plan, Rc::clone(&cache), log, seed);
    let sockets = loop {
        match Caught(obey(&shards, &mailbox, &heir, &closed)).await {
            Ok(sockets) => break sockets,
            Err(_) => shards.panicked(),
        }
    };
    spawn(answer(Rc::clone(&shards), Rc::clone(&mailbox)));
    let cut = drain(&shards, &drain_clock, sockets).await;
    shards.each(|shard| shard.hand_over());
    let _ =
        reports.try_send(Report::Drained { shard: id, counters: shards.measured().counters, cut });
    Ok(())
}

/// A worker's shards: the one that new connections go to, and those whose plan was replaced by
/// another, until their last connection has ended.
struct Shards {
    current: RefCell<Rc<Shard>>,
    retired: RefCell<Vec<Rc<Shard>>>,
    /// What those have counted that are gone.
    gone: RefCell<Totals>,
    /// And their last exchanges, the newest at the end.
    past: RefCell<Vec<PastExchanges>>,
    pool: Rc<TaskPool<Http2Job>>,
    entrances: RefCell<Vec<Entrance>>,
    /// Other workers' that were given back: each has a task until a connection comes.
    waiting: RefCell<Vec<Entrance>>,
}

/// The last exchanges of a shard that is gone.
struct PastExchanges {
    config: Arc<Config>,
    all: Vec<Kept>,
    failed: Vec<Kept>,
}

/// A socket that clients come in by.
#[derive(Clone)]
struct Entrance {
    acceptor: Rc<Acceptor>,
    /// Whose it is, if it is not this worker's own, and its number in the system.
    lent_by: Option<(ShardId, u64)>,
    /// A task accepts at it.
    is_watched: Rc<Cell<bool>>,
    /// The listener that it belongs to in the current plan; none any more once it is closed.
    listener: Rc<Cell<Option<ListenerId>>>,
}

impl Shards {
    fn new(first: Rc<Shard>) -> Rc<Self> {
        let (retired, gone, past, entrances, waiting) = Default::default();
        let (current, pool) = (RefCell::new(first), TaskPool::new());
        Rc::new(Self { current, retired, gone, past, pool, entrances, waiting })
    }

    /// Tells what was measured, and which exchanges were the last, if that is what is asked.
    fn answer(&self, command: &Command) {
        match command {
            Command::Measure { reply } => {
                let measured = Measured {
                    shard: self.current().id,
                    inside: self.inside(),
                    totals: self.measured(),
                };
                // Asked for in vain, if the task that asks has given up.
                let _ = reply.try_send(measured);
            }
            Command::Recall { which, reply } => {
                let mut kept = Vec::new();
                self.each(|shard| {
                    kept.push((Arc::clone(&shard.plan.config), shard.recalled(*which)));
                });
                for past in self.past.borrow().iter() {
                    let found = if *which == Which::All { &past.all } else { &past.failed };
                    kept.push((Arc::clone(&past.config), found.clone()));
                }
                let _ = reply.try_send(Recalled { shard: self.current().id, kept });
            }
            Command::Tap { tap } => self.each(|shard| shard.watch(tap.clone())),
            _ => {}
        }
    }

    /// Accepts on a socket from now on.
    fn open(
        self: &Rc<Self>,
        socket: OwnedFd,
        listener: ListenerId,
        lent_by: Option<(ShardId, u64)>,
    ) -> io::Result<()> {
        let acceptor = Rc::new(Acceptor::new(socket)?);
        let (is_watched, listener) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(Some(listener))));
        let entrance = Entrance { acceptor, lent_by, is_watched, listener };
        let pause = Ticker::new(ACCEPT_PAUSE)?;
        self.entrances.borrow_mut().push(entrance.clone());
        spawn(keep_accepting(Rc::clone(self), entrance, pause));
        Ok(())
    }

    /// Accepts on all of these.
    fn open_all(self: &Rc<Self>, sockets: &mut Vec<(ListenerId, OwnedFd)>) {
        for (listener, socket) in sockets.drain(..) {
            if let Err(error) = self.open(socket, listener, None) {
                notice::warn(format_args!("a worker cannot accept on a listener: {error}"));
            }
        }
    }

    /// Accepts in the place of another worker, until it takes its sockets back.
    fn help(self: &Rc<Self>, of: ShardId, sockets: &[(ListenerId, OwnedFd)]) {
        for (listener, socket) in sockets {
            let opened = inode(socket).and_then(|number| {
                let lent_by = Some((of, number));
                // The task of the last time still waits for a connection that shows it that it is over.
                let mut waiting = self.waiting.borrow_mut();
                waiting.retain(|one| one.is_watched.get());
                if let Some(at) = waiting.iter().position(|one| one.lent_by == lent_by) {
                    let entrance = waiting.swap_remove(at);
                    entrance.listener.set(Some(*listener));
                    self.entrances.borrow_mut().push(entrance);
                    return Ok(());
                }
                drop(waiting);
                self.open(socket.try_clone()?, *listener, lent_by)
            });
            if let Err(error) = opened {
                notice::warn(format_args!("a worker cannot accept for worker {}: {error}", of.0));
            }
        }
    }

    /// What waits at these entrances is for their own worker again.
    fn stop_helping(&self, of: ShardId) {
        let mut all = self.entrances.borrow_mut();
        let lent = all.extract_if(.., |one| one.lent_by.is_some_and(|(whose, _)| whose == of));
        self.waiting.borrow_mut().extend(lent.inspect(|one| one.listener.set(None)));
    }

    /// Lets in what waits at an entrance, and shuts it.
    fn close(&self, entrance: &Entrance, shard: &Rc<Shard>) {
        let Some(listener) = entrance.listener.take() else { return };
        while let Accepted::Some(sockets) = entrance.acceptor.take() {
            if sockets.is_empty() {
                break;
            }
            sockets
                .into_iter()
                .for_each(|(one, from)| downstream::admit(shard, &self.pool, one, from, listener));
        }
        entrance.acceptor.shutdown();
    }

    /// The entrances are those of a new plan: some stay under another number, some are new, and the rest is shut
    /// behind what waits there for the old shard.
    fn rearrange(self: &Rc<Self>, sockets: &[ListenerSocket], old_shard: &Rc<Shard>) {
        let mut old = self.entrances.take();
        let mut new = Vec::new();
        for (id, socket) in (0..).map(ListenerId).zip(sockets) {
            match socket {
                ListenerSocket::Kept(was) => {
                    let kept = old.extract_if(.., |one| one.listener.get() == Some(*was));
                    new.extend(kept.map(|one| (one, id)));
                }
                ListenerSocket::New(fd) => {
                    let opened = fd.try_clone().and_then(|fd| self.open(fd, id, None));
                    if let Err(error) = opened {
                        notice::warn(format_args!(
                            "a worker cannot accept on a new listener: {error}"
                        ));
                    }
                }
            }
        }
        for (entrance, id) in new {
            entrance.listener.set(Some(id));
            self.entrances.borrow_mut().push(entrance);
        }
        old.iter().for_each(|entrance| self.close(entrance, old_shard));
    }

    fn current(&self) -> Rc<Shard> {
        Rc::clone(&self.current.borrow())
    }

    fn each(&self, mut visit: impl FnMut(&Rc<Shard>)) {
        visit(&self.current());
        if !self.retired.borrow().is_empty() {
            let retired = self.retired.borrow().clone();
            retired.iter().for_each(visit);
        }
    }

    /// Another takes over.
    fn replace(&self, heir: Rc<Shard>) {
        let old = self.current.replace(heir);
        old.retire();
        self.retired.borrow_mut().push(old);
    }

    /// Lets those go that have nothing to do any more.
    fn dismiss(&self) {
        self.retired.borrow_mut().retain(|shard| {
            if shard.inside() > 0 {
                return true;
            }
            shard.hand_over();
            shard.measured(&mut self.gone.borrow_mut());
            self.remember(shard);
            false
        });
    }

    /// A reload forgets no exchanges, as far as there would be room for them without it.
    fn remember(&self, shard: &Shard) {
        let (all, failed) = (shard.recalled(Which::All), shard.recalled(Which::Failed));
        if all.is_empty() {
            return;
        }
        let mut past = self.past.borrow_mut();
        past.push(PastExchanges { config: Arc::clone(&shard.plan.config), all, failed });
        let mut newer = 0;
        let stay = past.iter().rev().take_while(|one| {
            let is_in = newer < RECORDS_KEPT;
            newer += one.all.len();
            is_in
        });
        let gone = past.len() - stay.count().min(PAST_CONFIGS);
        past.drain(..gone);
    }

    fn inside(&self) -> usize {
        let mut inside = 0;
        self.each(|shard| inside += shard.inside());
        inside
    }

    fn measured(&self) -> Totals {
        let mut all = self.gone.borrow().clone();
        self.each(|shard| shard.measured(&mut all));
        all
    }

    fn panicked(&self) {
        self.current().count(|counters| counters.panics += 1);
    }
}

/// A worker whose thread dies leaves its tasks behind, and with them connections that no task will
/// ever serve: they are ended, so that their clients can go elsewhere.
struct EndAll(Rc<Shards>);

impl Drop for EndAll {
    fn drop(&mut self) {
        self.0.each(|shard| shard.sweep.end_all());
    }
}

async fn tick(shards: Rc<Shards>, ticker: Ticker) {
    loop {
        ticker.tick().await;
        let all = async {
            shards.each(|shard| shard.tick());
            let current = shards.current();
            current.cache.tick(current.now());
            shards.dismiss();
        };
        if Caught(all).await.is_err() {
            shards.panicked();
        }
    }
}

/// Does what other cores ask of this one's part of the cache.
async fn hear(cache: Rc<CacheHandle>, shards: Rc<Shards>, post: Mailbox<CacheMessage>) {
    loop {
        let all = async {
            while let Some(message) = post.take() {
                cache.hear(message);
            }
            cache.wake_followers();
        };
        if Caught(all).await.is_err() {
            shards.panicked();
        }
        post.wait().await;
    }
}

/// Lets waiting requests go when another core says that there is room.
async fn let_in(shards: Rc<Shards>, notified: Notified) {
    loop {
        notified.wait().await;
        let grant = async { shards.each(|shard| shard.clusters.iter().for_each(Cluster::grant)) };
        if Caught(grant).await.is_err() {
            shards.panicked();
        }
    }
}

/// Accepts, whatever happens in between, until the listener is shut down.
async fn keep_accepting(shards: Rc<Shards>, entrance: Entrance, pause: Ticker) {
    let Entrance { acceptor, listener, .. } = &entrance;
    let current = || Some((shards.current(), listener.get()?));
    while Caught(downstream::accept(&current, &shards.pool, acceptor, &pause)).await.is_err() {
        shards.panicked();
    }
    entrance.is_watched.set(false);
}

/// What the system calls a socket, under whatever descriptor.
fn inode(socket: &OwnedFd) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(socket)?.st_ino)
}

/// Carries out orders until the one to drain, which says what becomes of the sockets.
async fn obey(
    shards: &Rc<Shards>,
    mailbox: &Mailbox<Command>,
    heir: &impl Fn(Arc<Plan>, Option<LogSender>) -> Rc<Shard>,
    closed: &RefCell<Vec<(ListenerId, OwnedFd)>>,
) -> AtEnd {
    loop {
        match mailbox.next().await {
            Command::Adopt { plan, said, sockets, log } => {
                let (old, heir) = (shards.current(), heir(plan, log));
                old.watchers().into_iter().for_each(|tap| heir.watch(tap));
                said.iter().for_each(|command| tell(&heir, command));
                shards.replace(heir);
                shards.rearrange(&sockets, &old);
            }
            Command::Accept => shards.open_all(&mut closed.borrow_mut()),
            // By another plan a listener of this number may be another one.
            Command::Lend { of, plan, sockets } => {
                if Arc::ptr_eq(&plan, &shards.current().plan) {
                    shards.help(of, &sockets);
                }
            }
            Command::Leave => shards.each(|shard| shard.leave()),
            Command::TakeBack { of } => shards.stop_helping(of),
            Command::Drain { sockets } => return sockets,
            Command::Purge { purge, reply } => {
                let shard = shards.current();
                spawn(async move {
                    // A task that does not wait for a reply gets none.
                    let _ = reply.send(shard.cache.purge(purge, shard.now()).await);
                });
            }
            command => {
                shards.answer(&command);
                tell(&shards.current(), &command);
            }
        }
    }
}

/// Tells what is asked of a worker that drains.
async fn answer(shards: Rc<Shards>, mailbox: Rc<Mailbox<Command>>) {
    loop {
        shards.answer(&mailbox.next().await);
    }
}

/// Tells a shard what is known of an endpoint.
fn tell(shard: &Shard, command: &Command) {
    match command {
        Command::Placed { cluster, places } => shard.cluster(*cluster).placed(places),
        Command::Judged { cluster, endpoint, verdict } => {
            shard.cluster(*cluster).judged(*endpoint, *verdict);
        }
        Command::Weighed { cluster, endpoints, weight } => {
            shard.cluster(*cluster).weigh(endpoints, *weight);
        }
        Command::Assigned { cluster, endpoints, duty } => {
            shard.cluster(*cluster).assign(endpoints, *duty);
        }
        Command::Secure { secrets } => shard.secure(secrets),
        Command::Leave => shard.leave(),
        Command::Adopt { .. }
        | Command::Purge { .. }
        | Command::Measure { .. }
        | Command::Recall { .. }
        | Command::Tap { .. }
        | Command::Accept
        | Command::Lend { .. }
        | Command::TakeBack { .. }
        | Command::Drain { .. } => {}
    }
}

/// Serves what has come in already, then lets go. Returns how many connections had to be cut. Where another process
/// accepts on the sockets, what waits there is for it, and idle clients have nearly all the time to hear, with an
/// answer, that their connection ends.
async fn drain(shards: &Shards, clock: &Ticker, sockets: AtEnd) -> usize {
    let shard = shards.current();
    shards.each(|shard| shard.leave());
    shard.drain();
    for entrance in shards.entrances.take() {
        match sockets {
            AtEnd::Shut => shards.close(&entrance, &shard),
            AtEnd::Kept | AtEnd::HandedOver => entrance.listener.set(None),
        }
    }
    let limit = shard.plan.config.server.drain;
    // The next process of a service manager waits for the end of this one, and clients for that.
    let grace = match sockets {
        AtEnd::HandedOver => limit.saturating_sub(IDLE_GRACE),
        AtEnd::Shut | AtEnd::Kept => IDLE_GRACE.min(limit),
    };
    let begun = monotonic();
    clock.start(Duration::from_millis(10));
    while shards.inside() > 0 && monotonic().since(begun) < limit {
        if monotonic().since(begun) >= grace {
            shards.each(|shard| {
                shard.sweep.end_idle(shard.now(), usize::MAX);
            });
        }
        clock.tick().await;
    }
    shards.inside()
}
