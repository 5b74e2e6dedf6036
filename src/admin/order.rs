//! What the coordinator can be told and asked.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::overview::Overview;
use super::plan::Planned;
use crate::cache::purge::Purge;
use crate::config::model::Config;
use crate::observe::recorder::Which;
use crate::shard::cache_handle::Unsure;
use crate::shard::command::{Measured, Recalled};
use crate::shard::tap::Tap;
use crate::upstream::endpoint::Duty;

/// An order. The task that gives it is told what came of it.
#[derive(Debug)]
pub enum AdminOrder {
    /// An endpoint, by its address as it is configured.
    Assign { cluster: String, endpoint: String, duty: Duty, reply: Sender<Result<(), String>> },
    /// Its weight; none for the configured one.
    Weigh {
        cluster: String,
        endpoint: String,
        weight: Option<u32>,
        reply: Sender<Result<(), String>>,
    },
    /// How many entries were taken out, as far as that is known at once.
    Purge { purge: Purge, reply: Sender<Result<usize, Unsure>> },
    /// Read the configuration again; why it is refused.
    Reload { reply: Sender<Result<(), String>> },
    /// Read a configuration (its own file anew, if none is named) and say what it is; why it would be refused.
    Plan { file: Option<PathBuf>, reply: Sender<Result<Box<Planned>, String>> },
    /// Start the program anew and hand over to it; the number of the new process, once that serves.
    Upgrade { reply: Sender<Result<u32, String>> },
    /// The configuration that is served.
    Config { reply: Sender<Arc<Config>> },
    /// Say how everything is.
    View { reply: Sender<Box<Overview>> },
    /// Each worker says what it has measured.
    Measure { reply: Sender<Measured> },
    /// Each worker shows every exchange as it ends.
    Tap { tap: Tap },
    /// Each worker says which exchanges were its last.
    Recall { which: Which, reply: Sender<Recalled> },
}

/// Where orders come from; `never` where none can be given.
pub type Orders = Receiver<AdminOrder>;
