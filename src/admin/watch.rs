//! Shows exchanges as they end to one that watches.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::mpsc::Sender;

use super::condition::Condition;
use crate::base::clock::monotonic;
use crate::base::limits::{TAP_LOOK, TAP_SILENCE};
use crate::shard::tap::Shown;

/// Until the watcher or every worker is gone. What found no room is told as `{"missed": n}`.
pub(super) fn watch(
    condition: &Condition,
    shown: &Receiver<Shown>,
    missed: &AtomicU64,
    lines: &Sender<String>,
) {
    let mut said = monotonic();
    loop {
        let told = match shown.recv_timeout(TAP_LOOK) {
            Ok((kept, config)) => Some(kept.json(&config)).filter(|told| condition.takes(told)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let missed = Some(missed.swap(0, Ordering::Relaxed)).filter(|count| *count > 0);
        let mut text = missed.map_or_else(String::new, |count| format!("{{\"missed\":{count}}}\n"));
        told.iter().for_each(|told| text += &format!("{told}\n"));
        // An empty line now and then: a watcher that is gone without a word is found out by it.
        if text.is_empty() && monotonic().since(said) >= TAP_SILENCE {
            text.push('\n');
        }
        let is_gone = match text.is_empty() {
            true => lines.is_closed(),
            false => {
                said = monotonic();
                lines.blocking_send(text).is_err()
            }
        };
        if is_gone {
            return;
        }
    }
}
