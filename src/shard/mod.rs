//! Floor 7: everything that one core owns, and what the coordinator may tell it. Fields are small
//! cells with methods that borrow, act and release; no borrow is ever held across an await.

pub mod cache_handle;
pub mod command;
mod ending;
pub mod secrets;
pub mod tap;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use crate::base::clock::{self, Micros, Moment};
use crate::base::error::{Kind, Result};
use crate::base::id::{ClusterId, EndpointId, ListenerId, RouteId, ShardId};
use crate::base::limits;
use crate::base::random::Random;
use crate::base::request_id;
use crate::cache::ledger::Ledger;
use crate::config::model::{Config, Listener, Route, Timeouts};
use crate::filter::Chain;
use crate::limit::gate::{Gate, Refusal};
use crate::limit::pressure::Stage;
use crate::message::head::{RequestHead, ResponseHead};
use crate::message::introduce::Introductions;
use crate::net::alarm::Alarms;
use crate::net::buffer::Buffers;
use crate::net::disk::DiskHandle;
use crate::net::log_file::LogSender;
use crate::net::memory;
use crate::net::notifier::Notifier;
use crate::net::span_export::SpanExport;
use crate::net::store::FutureStore;
use crate::net::sweep::Sweep;
use crate::net::tls::handshake::Means;
use crate::net::tls::handshake_semaphore::HandshakeSemaphore;
use crate::net::tls::server::TlsServer;
use crate::observe::counters::Counters;
use crate::observe::record::Batch;
use crate::observe::recorder::{Kept, Recorder, Which};
use crate::observe::stats::{Stats, Totals};
use crate::protocol::http1::read::Reading;
use crate::route::Router;
use crate::upstream::cluster::{Cluster, ClusterShared};
use crate::upstream::needs::Needs;
use cache_handle::{CacheHandle, Posts};
use secrets::Secrets;
use tap::Tap;

/// What all shards share, unchanging.
#[derive(Debug)]
pub struct Plan {
    pub config: Arc<Config>,
    /// One for each listener.
    pub routers: Vec<Router>,
    /// What each listener decides of its clients' requests.
    pub listener_filters: Vec<Chain>,
    /// What each route decides of the requests that it takes.
    pub route_filters: Vec<Chain>,
    /// What the shards share of each cluster: loads, the standing of endpoints, the requests that wait.
    pub common: Vec<ClusterShared>,
    /// One for each shard: notified when there is room for requests that wait on it.
    pub notifiers: Arc<[Notifier]>,
    /// The books of the cache.
    pub ledger: Arc<Ledger>,
    /// What shards tell each other of the cache by.
    pub posts: Posts,
    /// The cache's disk.
    pub disk: Option<DiskHandle>,
    /// Certificates as they were when it was made.
    pub secrets: Arc<Secrets>,
    /// Our name in Via and Proxy-Status.
    pub name: Box<str>,
    /// Where spans go.
    pub spans: Option<SpanExport>,
    /// How many shards there are.
    pub shards: usize,
    /// When each of them last ran, in milliseconds on the monotonic clock.
    pub beats: Arc<[AtomicU64]>,
    /// A request can ask for a panic, to test what follows. Debug builds only.
    pub may_panic: bool,
}

/// What one core owns.
pub struct Shard {
    pub id: ShardId,
    pub plan: Arc<Plan>,
    pub clusters: Vec<Cluster>,
    pub cache: Rc<CacheHandle>,
    pub sweep: Rc<Sweep>,
    pub alarms: Rc<Alarms>,
    pub buffers: Rc<Buffers>,
    /// Memory that exchanges run in.
    pub futures: Rc<FutureStore>,
    /// Whose TLS handshake is next.
    pub turns: Rc<HandshakeSemaphore>,
    secrets: RefCell<Arc<Secrets>>,
    pub random: RefCell<Random>,
    /// The lines that requests of the last clients got.
    pub introductions: RefCell<Introductions>,
    /// No new connections; those there are end after their next answer.
    is_draining: Cell<bool>,
    /// The process is about to drain.
    is_leaving: Cell<bool>,
    /// The tasks that are to be told when it begins to drain.
    drain_wakers: RefCell<Vec<Weak<Cell<Option<Waker>>>>>,
    counters: Cell<Counters>,
    /// There is a log, an admin listener, or a client that is told: exchanges are timed.
    is_timed: bool,
    /// What was measured, where there is an admin listener to ask for it.
    stats: RefCell<Option<(Stats, Recorder)>>,
    /// There are watchers.
    is_tapped: Cell<bool>,
    taps: RefCell<Vec<Tap>>,
    gate: RefCell<Gate>,
    #[expect(clippy::vec_box, reason = "a workspace is lent out by pointer, not moved")]
    workspaces: RefCell<Vec<Box<Workspace>>>,
    wall: Cell<u64>,
    date: RefCell<String>,
    ticks: Cell<u32>,
    log: Option<LogSender>,
    batch: RefCell<Batch>,
    /// Spans for the plan's collector.
    spans: RefCell<Batch>,
}

/// The heads of one exchange, with memory that outlives it.
#[derive(Debug, Default)]
pub struct Heads {
    pub request: RequestHead,
    pub response: ResponseHead,
    /// The request's key in the cache.
    pub key: Vec<u8>,
    /// A field's value while it is made.
    pub text: Vec<u8>,
}

/// What one exchange works with: memory that outlives it.
#[derive(Debug, Default)]
pub struct Workspace {
    pub heads: Heads,
    /// How far the request's body was read, where that is of HTTP/1.
    pub reading: Reading,
}

impl Shard {
    /// A shard with nothing in it.
    #[must_use]
    pub fn new(
        id: ShardId,
        plan: Arc<Plan>,
        cache: Rc<CacheHandle>,
        log: Option<LogSender>,
        seed: u64,
    ) -> Rc<Self> {
        let now = clock::monotonic();
        let mut random = Random::new(Random::seed_from_os() ^ seed ^ u64::from(id.0));
        let config = Arc::clone(&plan.config);
        let idle = Rc::default();
        let clusters = config.clusters.iter().zip(&plan.common).map(|(cluster, common)| {
            Cluster::new(cluster, common, id, random.bits(), clock::micros, &idle)
        });
        let clusters = clusters.collect();
        let bounds = config.limits;
        let gate = Gate::new(
            bounds.connections,
            bounds.connections_per_client,
            plan.shards,
            random.bits(),
        );
        let shard = Self {
            id,
            clusters,
            cache,
            sweep: Sweep::new(now, bounds.body_rate, config.half_closed),
            alarms: Rc::default(),
            buffers: Rc::default(),
            futures: Rc::default(),
            turns: Rc::default(),
            secrets: RefCell::new(Arc::clone(&plan.secrets)),
            random: RefCell::new(random),
            introductions: RefCell::default(),
            is_draining: Cell::new(false),
            is_leaving: Cell::new(false),
            drain_wakers: RefCell::default(),
            counters: Cell::default(),
            is_timed: log.is_some()
                || config.admin.is_some()
                || config.server.server_timing
                || config.trace.is_some(),
            stats: RefCell::new(
                config.admin.as_ref().map(|_| (Stats::new(&config), Recorder::default())),
            ),
            is_tapped: Cell::new(false),
            taps: RefCell::default(),
            gate: RefCell::new(gate),
            workspaces: RefCell::default(),
            wall: Cell::new(0),
            date: RefCell::default(),
            ticks: Cell::new(0),
            log,
            batch: RefCell::default(),
            spans: RefCell::default(),
            plan,
        };
        shard.read_clocks();
        shard.secure(&Arc::clone(&shard.plan.secrets));
        shard.clusters.iter().for_each(|cluster| cluster.tick(now));
        Rc::new(shard)
    }

    // === time ===

    /// The monotonic clock as it was at the last tick: at most a tick old, and free.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.sweep.now()
    }

    /// The wall clock as it was at the last tick, in milliseconds since 1970.
    #[must_use]
    pub fn wall(&self) -> u64 {
        self.wall.get()
    }

    /// Copies the HTTP date of this second.
    pub fn date(&self, out: &mut [u8; 29]) -> usize {
        let date = self.date.borrow();
        let len = date.len().min(out.len());
        out[..len].copy_from_slice(&date.as_bytes()[..len]);
        len
    }

    fn read_clocks(&self) {
        self.sweep.set_now(clock::monotonic());
        let wall = clock::wall();
        if wall / 1000 != self.wall.replace(wall) / 1000 {
            self.date.replace(clock::http_date(wall));
        }
    }

    /// Ten times a second: reads the clocks, ends what is overdue, hands the log over; now and
    /// then it also prunes pools and buffers.
    pub fn tick(&self) {
        self.read_clocks();
        self.plan.beats[usize::from(self.id.0)].store(self.now().0, Ordering::Relaxed);
        self.clusters.iter().for_each(|cluster| cluster.tick(self.now()));
        self.sweep.run(self.now());
        self.hand_over();
        self.relieve();
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(10) {
            self.clusters.iter().for_each(|cluster| cluster.prune(self.now()));
        }
        if ticks.is_multiple_of(50) {
            self.buffers.trim();
            self.futures.trim();
            let mut idle = self.workspaces.borrow_mut();
            let keep = idle.len() / 2;
            idle.truncate(keep);
        }
    }

    /// Another plan has replaced this one: connections end after their next answer, and idle ones to
    /// endpoints at once.
    pub fn retire(&self) {
        self.drain();
        self.clusters.iter().for_each(Cluster::close_idle);
    }

    /// The process is about to drain: checks are told.
    pub fn leave(&self) {
        self.is_leaving.set(true);
    }

    /// Whether the process goes on serving.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_leaving.get()
    }

    /// No new connections, and those there are end after what they are doing.
    pub fn drain(&self) {
        self.is_draining.set(true);
        let all = self.drain_wakers.take();
        all.iter().filter_map(Weak::upgrade).filter_map(|one| one.take()).for_each(Waker::wake);
    }

    /// For a task that is to be woken when it begins to drain.
    #[must_use]
    pub fn drain_waker(&self) -> DrainWaker {
        let drain_waker = DrainWaker(Rc::default());
        let mut all = self.drain_wakers.borrow_mut();
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(Rc::downgrade(&drain_waker.0));
        drain_waker
    }

    /// Looks how full the memory is, and gives back what can be given.
    fn relieve(&self) {
        if memory::stage() >= Stage::Close {
            self.buffers.trim();
            self.sweep.end_idle(self.now(), limits::ENDED_IN_NEED);
        }
    }

    /// Whether a client's connection may stay after its answer.
    #[must_use]
    pub fn may_keep(&self) -> bool {
        !self.is_draining.get() && memory::stage() < Stage::Close
    }

    /// Whether requests that need a server are served; not for want of memory.
    ///
    /// # Errors
    /// `Overloaded`.
    pub fn may_forward(&self) -> Result<()> {
        if memory::stage() >= Stage::Shed { Err(Kind::Overloaded) } else { Ok(()) }
    }

    // === which clients are served, and how ===

    /// A listener of the plan.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> &Listener {
        &self.plan.config.listeners[usize::from(id.0)]
    }

    /// What a listener decides of its clients' requests.
    #[must_use]
    pub fn listener_filters(&self, id: ListenerId) -> &Chain {
        &self.plan.listener_filters[usize::from(id.0)]
    }

    /// The route for a request, and what it decides.
    ///
    /// # Errors
    /// `NoHost`, `NoRoute`, `MethodNotRouted`.
    pub fn find_route(
        &self,
        listener: ListenerId,
        head: &RequestHead,
    ) -> Result<(RouteId, &Route, &Chain)> {
        let id = self.plan.routers[usize::from(listener.0)].find(head)?;
        let at = usize::from(id.0);
        Ok((id, &self.plan.config.routes[at], &self.plan.route_filters[at]))
    }

    /// Where a route stands in the plan.
    #[must_use]
    pub fn route_index(&self, route: &Route) -> Option<usize> {
        self.plan.config.routes.iter().position(|one| std::ptr::eq(one, route))
    }

    /// The methods that routes allow for this host and path.
    #[must_use]
    pub fn methods(&self, listener: ListenerId, head: &RequestHead) -> Vec<u8> {
        self.plan.routers[usize::from(listener.0)].methods(head)
    }

    /// A cluster of the plan.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> &Cluster {
        &self.clusters[usize::from(id.0)]
    }

    /// Lets a client's connection in.
    ///
    /// # Errors
    /// The limit that was met.
    pub fn enter(self: &Rc<Self>, client: IpAddr) -> std::result::Result<Pass, Refusal> {
        let entered = match memory::stage() {
            Stage::Refuse => Err(Refusal::Full),
            _ => self.gate.borrow_mut().enter(client),
        };
        self.count(|counters| match entered {
            Ok(()) => counters.connections += 1,
            Err(_) => counters.refused += 1,
        });
        entered.map(|()| Pass { shard: Rc::clone(self), client })
    }

    /// Client connections that are open.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.gate.borrow().inside()
    }

    // === TLS ===

    /// New connections get these certificates.
    pub fn secure(&self, secrets: &Arc<Secrets>) {
        self.secrets.replace(Arc::clone(secrets));
        for (id, cluster) in (0..).map(ClusterId).zip(&self.clusters) {
            cluster.secure(secrets.cluster(id));
        }
    }

    /// TLS of a listener, if it speaks it.
    #[must_use]
    pub fn server(&self, id: ListenerId) -> Option<Arc<TlsServer>> {
        self.secrets.borrow().listener(id).cloned()
    }

    /// What handshakes need.
    #[must_use]
    pub fn means(&self) -> Means<'_> {
        Means { buffers: &self.buffers, turns: &self.turns, period: 5000 }
    }

    /// What a try at an endpoint needs. `fresh` for a connection that carried no request before.
    #[must_use]
    pub fn needs<'a>(
        &'a self,
        timeouts: &'a Timeouts,
        client: SocketAddr,
        fresh: bool,
    ) -> Needs<'a> {
        Needs {
            sweep: &self.sweep,
            alarms: &self.alarms,
            means: self.means(),
            http2: &self.plan.config.http2,
            now: self.now(),
            timeouts,
            client,
            fresh,
        }
    }

    // === memory ===

    /// A clear workspace.
    #[must_use]
    pub fn workspace(&self) -> Box<Workspace> {
        self.workspaces.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a workspace back.
    pub fn give(&self, mut workspace: Box<Workspace>) {
        let mut idle = self.workspaces.borrow_mut();
        if idle.len() < limits::WORKSPACES_KEPT {
            workspace.heads.request.clear();
            workspace.heads.response.clear();
            idle.push(workspace);
        }
    }

    // === what happened ===

    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// An id for a request.
    #[must_use]
    #[inline]
    pub fn request_id(&self) -> [u8; request_id::LEN] {
        let mut random = self.random.borrow_mut();
        let bits = [random.bits(), random.bits()];
        request_id::text(self.wall(), bits)
    }

    /// A copy of the counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// Whether there is an access log.
    #[must_use]
    pub fn is_logging(&self) -> bool {
        self.log.is_some()
    }

    /// The clock in microseconds, where there is a log or an admin listener to tell of it; else zero.
    #[must_use]
    pub fn stopwatch(&self) -> Micros {
        if self.is_timed { clock::micros() } else { 0 }
    }

    /// How long it is since the stopwatch was read.
    #[must_use]
    pub fn since(&self, started: Micros) -> Micros {
        self.stopwatch().saturating_sub(started)
    }

    /// Adds what was measured to that of other shards.
    pub fn measured(&self, totals: &mut Totals) {
        totals.counters.add(&self.counters());
        if let Some((stats, _)) = &*self.stats.borrow() {
            totals.add(stats, &self.plan.config);
        }
    }

    /// The last exchanges, where they are kept.
    #[must_use]
    pub fn recalled(&self, which: Which) -> Vec<Kept> {
        self.stats.borrow().as_ref().map(|(_, recorder)| recorder.kept(which)).unwrap_or_default()
    }

    /// Which address of a name an endpoint is, where there is a log for it.
    #[must_use]
    #[inline]
    pub fn noted_address(&self, cluster: &Cluster, id: EndpointId) -> Option<SocketAddr> {
        if self.is_logging() { cluster.address(id) } else { None }
    }
}

/// Where a task waits for a shard to drain.
pub struct DrainWaker(Rc<Cell<Option<Waker>>>);

impl DrainWaker {
    /// Is woken from now on.
    pub fn set(&self, waker: &Waker) {
        let old = self.0.take();
        self.0.set(Some(old.filter(|old| old.will_wake(waker)).unwrap_or_else(|| waker.clone())));
    }
}

/// A client's connection that was let in; leaving is dropping it.
pub struct Pass {
    shard: Rc<Shard>,
    client: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.shard.gate.borrow_mut().leave(self.client);
    }
}
