//! Floor 9: a pinned thread with one runtime that runs one shard until it has drained.

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
use crate::base::limits::{ACCEPT_PAUSE, SWEEP_EVERY};
use crate::downstream;
use crate::net::bell::Ear;
use crate::net::guard::Caught;
use crate::net::listener::{Accepted, Acceptor};
use crate::net::log_file::LogSender;
use crate::net::mailbox::{Mailbox, Receiver};
use crate::net::runtime::{Loop, Ticker, spawn};
use crate::shard::command::{Command, Report};
use crate::shard::{Plan, Shard};
use crate::upstream::Cluster;

/// How long idle connections may still bring a request after the order to drain: a client that is
/// about to send one would otherwise meet a closed connection.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// Everything a worker begins with.
pub struct Setup {
    pub id: ShardId,
    /// `None` if there are more workers than cores.
    pub core: Option<CoreId>,
    pub listeners: Vec<(ListenerId, OwnedFd)>,
    pub plan: Arc<Plan>,
    pub log: Option<LogSender>,
    pub commands: Receiver<Command>,
    pub reports: Sender<Report>,
    pub seed: u64,
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
    let server = &setup.plan.config.server;
    let (id, reports) = (setup.id, setup.reports.clone());
    // A coordinator that is gone is no reason to stop; its messages have nowhere to go then.
    let failed = |error| drop(reports.send(Report::Failed { shard: id, error }));
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
    let Setup { id, listeners, plan, log, commands, reports, seed, .. } = setup;
    let shard = Shard::new(id, plan, log, seed);
    let mut acceptors = Vec::new();
    for (listener, socket) in listeners {
        acceptors.push((listener, Rc::new(Acceptor::new(socket)?)));
    }
    let mailbox = commands.open()?;
    // All that draining needs, while there are descriptors to be had.
    let drain_clock = Ticker::stopped()?;
    let _end = EndAll(Rc::clone(&shard));
    for (listener, acceptor) in &acceptors {
        let pause = Ticker::new(ACCEPT_PAUSE)?;
        spawn(keep_accepting(Rc::clone(&shard), Rc::clone(acceptor), *listener, pause));
    }
    spawn(tick(Rc::clone(&shard), Ticker::new(SWEEP_EVERY)?));
    spawn(let_in(Rc::clone(&shard), shard.plan.bells[usize::from(id.0)].listen()?));
    let _ = reports.send(started);
    while Caught(obey(&shard, &mailbox)).await.is_err() {
        shard.count(|counters| counters.panics += 1);
    }
    let cut = drain(&shard, &acceptors, &drain_clock).await;
    shard.hand_over_log(1);
    let _ = reports.send(Report::Drained { shard: id, counters: shard.counters(), cut });
    Ok(())
}

/// A worker whose thread dies leaves its tasks behind, and with them connections that nobody will
/// ever serve: they are ended, so that their clients can go elsewhere.
struct EndAll(Rc<Shard>);

impl Drop for EndAll {
    fn drop(&mut self) {
        self.0.sweep.end_all();
    }
}

async fn tick(shard: Rc<Shard>, ticker: Ticker) {
    loop {
        ticker.tick().await;
        if Caught(async { shard.tick() }).await.is_err() {
            shard.count(|counters| counters.panics += 1);
        }
    }
}

/// Lets waiting requests go when another core says that there is room.
async fn let_in(shard: Rc<Shard>, ear: Ear) {
    loop {
        ear.wait().await;
        let grant = async { shard.clusters.iter().for_each(Cluster::grant) };
        if Caught(grant).await.is_err() {
            shard.count(|counters| counters.panics += 1);
        }
    }
}

/// Accepts, whatever happens in between, until the listener is shut down.
async fn keep_accepting(
    shard: Rc<Shard>,
    acceptor: Rc<Acceptor>,
    listener: ListenerId,
    pause: Ticker,
) {
    while Caught(downstream::accept(&shard, &acceptor, listener, &pause)).await.is_err() {
        shard.count(|counters| counters.panics += 1);
    }
}

/// Carries out orders until the one to drain.
async fn obey(shard: &Rc<Shard>, mailbox: &Mailbox<Command>) {
    loop {
        match mailbox.next().await {
            Command::Resolved { cluster, endpoint, addresses } => {
                shard.resolved(cluster, endpoint, &addresses);
            }
            Command::Judged { cluster, endpoint, verdict } => {
                shard.cluster(cluster).judged(endpoint, verdict);
            }
            Command::Assigned { cluster, endpoint, duty } => {
                shard.cluster(cluster).assign(endpoint, duty);
            }
            Command::Drain => return,
        }
    }
}

/// Serves what has come in already, then lets go. Returns how many connections had to be cut.
async fn drain(
    shard: &Rc<Shard>,
    acceptors: &[(ListenerId, Rc<Acceptor>)],
    clock: &Ticker,
) -> usize {
    shard.is_draining.set(true);
    for (listener, acceptor) in acceptors {
        while let Accepted::Some(sockets) = acceptor.take() {
            if sockets.is_empty() {
                break;
            }
            sockets
                .into_iter()
                .for_each(|(one, from)| downstream::admit(shard, one, from, *listener));
        }
        acceptor.shutdown();
    }
    let limit = shard.plan.config.server.drain;
    let begun = monotonic();
    clock.start(Duration::from_millis(10));
    while shard.inside() > 0 && monotonic().since(begun) < limit {
        if monotonic().since(begun) >= IDLE_GRACE.min(limit) {
            shard.sweep.end_idle(shard.now(), usize::MAX);
        }
        clock.tick().await;
    }
    shard.inside()
}
