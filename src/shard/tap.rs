//! Shows exchanges as they end to those that watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::base::limits::TAPPED;
use crate::config::model::Config;
use crate::observe::recorder::Kept;

/// An exchange, and the configuration that it was served by.
pub type Shown = (Box<Kept>, Arc<Config>);

/// Where exchanges are shown as they end.
#[derive(Clone, Debug)]
pub struct Tap {
    to: Sender<Shown>,
    missed: Arc<AtomicU64>,
}

impl Tap {
    /// One, and where they come out; `missed` counts those that found no room.
    #[must_use]
    pub fn new() -> (Self, Receiver<Shown>, Arc<AtomicU64>) {
        let (to, shown) = bounded(TAPPED);
        let missed = Arc::<AtomicU64>::default();
        (Self { to, missed: Arc::clone(&missed) }, shown, missed)
    }

    /// Shows one. False if nothing looks any more.
    #[must_use]
    pub fn show(&self, kept: &Kept, config: &Arc<Config>) -> bool {
        match self.to.try_send((Box::new(*kept), Arc::clone(config))) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
