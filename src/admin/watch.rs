//! Shows exchanges as they end to one that watches.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::json;
use tokio::sync::mpsc::Sender;

use super::pick::Pick;
use crate::base::limits::TAP_LOOK;
use crate::shard::tap::Shown;

/// Until the watcher or every worker is gone. What found no room is told as `{"missed": n}`.
pub(super) fn watch(
    pick: &Pick,
    shown: &Receiver<Shown>,
    missed: &AtomicU64,
    lines: &Sender<String>,
) {
    loop {
        let told = match shown.recv_timeout(TAP_LOOK) {
            Ok((kept, config)) => Some(kept.json(&config)).filter(|told| pick.takes(told)),
            Err(RecvTimeoutError::Timeout) => Some(missed.swap(0, Ordering::Relaxed))
                .filter(|count| *count > 0)
                .map(|count| json!({ "missed": count })),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let is_gone = match told {
            Some(told) => lines.blocking_send(format!("{told}\n")).is_err(),
            None => lines.is_closed(),
        };
        if is_gone {
            return;
        }
    }
}
