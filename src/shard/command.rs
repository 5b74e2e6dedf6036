//! What crosses the mailboxes: orders down, news up.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::Plan;
use super::cache_handle::Unsure;
use super::secrets::Secrets;
use super::tap::Tap;
use crate::balance::places::Places;
use crate::base::id::{ClusterId, EndpointId, ListenerId, ShardId};
use crate::cache::purge::Purge;
use crate::config::model::Config;
use crate::health::CheckVerdict;
use crate::net::log_file::LogSender;
use crate::observe::counters::Counters;
use crate::observe::recorder::{Kept, Which};
use crate::observe::stats::Totals;
use crate::upstream::endpoint::Duty;

/// The coordinator's orders.
#[derive(Clone, Debug)]
pub enum Command {
    /// The addresses of a cluster's names stand there now.
    Placed { cluster: ClusterId, places: Places },
    /// What health checks say of an endpoint now.
    Judged { cluster: ClusterId, endpoint: EndpointId, verdict: CheckVerdict },
    /// What an operator wants of an endpoint, of all places if it is a name.
    Assigned { cluster: ClusterId, endpoints: Arc<[EndpointId]>, duty: Duty },
    /// The weight that an operator gives to an endpoint; none for the configured one.
    Weighed { cluster: ClusterId, endpoints: Arc<[EndpointId]>, weight: Option<u32> },
    /// New connections get these certificates.
    Secure { secrets: Arc<Secrets> },
    /// New connections are served by this plan, of which so much is known already.
    Adopt {
        plan: Arc<Plan>,
        said: Arc<[Self]>,
        /// The worker's sockets, one for each listener of the plan.
        sockets: Arc<[ListenerSocket]>,
        log: Option<LogSender>,
    },
    /// Take something out of the cache, on every core; one of them is told, and asks the others.
    Purge { purge: Purge, reply: Sender<Result<usize, Unsure>> },
    /// Say what was measured since the start.
    Measure { reply: Sender<Measured> },
    /// Say which exchanges were the last.
    Recall { which: Which, reply: Sender<Recalled> },
    /// Show each exchange from now on.
    Tap { tap: Tap },
    /// Begin to accept: everything that is needed is there.
    Accept,
    /// Accept on these sockets of another worker too, which stands still; their numbers are those of this plan.
    Lend { of: ShardId, plan: Arc<Plan>, sockets: Arc<[(ListenerId, OwnedFd)]> },
    /// That worker accepts for itself again.
    TakeBack { of: ShardId },
    /// The process is about to drain: checks are told.
    Leave,
    /// Stop accepting, finish what is in flight, end.
    Drain { sockets: AtEnd },
}

impl Command {
    /// Says something newer about the same thing.
    #[must_use]
    pub fn replaces(&self, old: &Self) -> bool {
        match (self, old) {
            (Self::Placed { cluster, .. }, Self::Placed { cluster: c, .. }) => c == cluster,
            (
                Self::Judged { cluster, endpoint, .. },
                Self::Judged { cluster: c, endpoint: e, .. },
            ) => (c, e) == (cluster, endpoint),
            (
                Self::Assigned { cluster, endpoints, .. },
                Self::Assigned { cluster: c, endpoints: e, .. },
            ) => (c, e) == (cluster, endpoints),
            (
                Self::Weighed { cluster, endpoints, .. },
                Self::Weighed { cluster: c, endpoints: e, .. },
            ) => (c, e) == (cluster, endpoints),
            (Self::Secure { .. }, Self::Secure { .. }) | (Self::Leave, Self::Leave) => true,
            _ => false,
        }
    }
}

/// What becomes of the listening sockets when this process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// They are shut, behind what waits there.
    Shut,
    /// The service manager has them: what waits there is for the next process.
    Kept,
    /// Another process accepts on them already.
    HandedOver,
}

/// A worker's socket of a listener.
#[derive(Debug)]
pub enum ListenerSocket {
    /// The worker accepts on it already: by this number in the plan before.
    Kept(ListenerId),
    New(OwnedFd),
}

/// What one worker has measured since its start.
#[derive(Clone, Debug)]
pub struct Measured {
    pub shard: ShardId,
    /// Client connections that are open.
    pub inside: usize,
    pub totals: Totals,
}

/// The last exchanges of one worker, by the configuration that they were served by.
#[derive(Debug)]
pub struct Recalled {
    pub shard: ShardId,
    pub kept: Vec<(Arc<Config>, Vec<Kept>)>,
}

/// The shards' news.
#[derive(Debug)]
pub enum Report {
    /// The shard serves, on this driver; with `Auto`, why it is not io_uring.
    Started { shard: ShardId, driver: &'static str, fallback: Option<std::io::Error> },
    /// The shard cannot serve.
    Failed { shard: ShardId, error: std::io::Error },
    /// The shard has drained, with so many connections cut off.
    Drained { shard: ShardId, counters: Counters, cut: usize },
}
