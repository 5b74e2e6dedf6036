//! What follows the end of an exchange: it is counted and remembered, shown to those that watch, and goes to the log and
//! to the collector of traces.

use std::sync::Arc;

use super::Shard;
use super::tap::Tap;
use crate::base::clock;
use crate::base::limits;
use crate::config::access_log::ALL;
use crate::message::head::RequestHead;
use crate::net::log_file::LogMessage;
use crate::observe::record::Record;
use crate::observe::recorder::Kept;

impl Shard {
    /// An exchange ended.
    pub fn observe(&self, record: &mut Record, head: &RequestHead) {
        self.count(|counters| {
            counters.exchanges += 1;
            counters.failures += u64::from(record.fault.is_some_and(|kind| !kind.blames_client()));
        });
        if !self.is_timed {
            return;
        }
        record.took = self.since(record.started);
        if let Some((stats, recorder)) = &mut *self.stats.borrow_mut() {
            record.wall = self.wall();
            stats.observe(record);
            let kept = recorder.keep(record, head);
            if self.is_tapped.get() {
                self.tap(kept);
            }
        }
        if record.is_sampled {
            self.keep_span(record, head);
        }
        if self.log.is_some() && self.is_written(record) {
            record.wall = clock::wall();
            self.batch.borrow_mut().push(*record, head);
            self.hand_over_log(limits::LOG_BATCH_BYTES);
        }
    }

    /// Whether the access log gets it: what failed always, of the rest a sample, on routes that have a log.
    fn is_written(&self, record: &Record) -> bool {
        let route = record.route.and_then(|id| self.plan.config.routes.get(usize::from(id.0)));
        if route.is_some_and(|route| !route.is_logged) {
            return false;
        }
        let sample = self.plan.config.access_log.as_ref().map_or(ALL, |log| log.sample);
        sample >= ALL
            || record.fault.is_some()
            || record.status >= 500
            || self.random.borrow_mut().below(ALL) < sample
    }

    /// Shows an exchange to those that watch. One that does not keep up misses some, and is told how many.
    #[cold]
    fn tap(&self, kept: &Kept) {
        let mut taps = self.taps.borrow_mut();
        taps.retain(|tap| tap.show(kept, &self.plan.config));
        self.is_tapped.set(!taps.is_empty());
    }

    /// Shows exchanges to another watcher from now on.
    pub fn watch(&self, tap: Tap) {
        self.taps.borrow_mut().push(tap);
        self.is_tapped.set(true);
    }

    /// The watchers, for the shard that takes over.
    #[must_use]
    pub fn watchers(&self) -> Vec<Tap> {
        self.taps.borrow().clone()
    }

    /// Takes down what did not become an exchange, where there is an access log.
    pub fn note(&self, mut record: Record) {
        if self.log.is_some() {
            record.wall = clock::wall();
            self.batch.borrow_mut().push(record, &RequestHead::default());
            self.hand_over_log(limits::LOG_BATCH_BYTES);
        }
    }

    /// Hands over what there is for the log and the collector.
    pub fn hand_over(&self) {
        self.hand_over_log(1);
        self.hand_over_spans(1);
    }

    /// Hands the batch to the writer if it holds at least so much text.
    pub fn hand_over_log(&self, least: usize) {
        let Some(log) = &self.log else { return };
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() || batch.len() < least {
            return;
        }
        let mut full = std::mem::take(&mut *batch);
        full.worker = self.id.0;
        let lost = full.entries.len() as u64;
        if log.try_send(LogMessage::Write(full, Arc::clone(&self.plan.config))).is_err() {
            self.count(|counters| counters.log_drops += lost);
        }
    }

    #[cold]
    fn keep_span(&self, record: &mut Record, head: &RequestHead) {
        record.wall = clock::wall();
        self.spans.borrow_mut().push(*record, head);
        self.hand_over_spans(limits::LOG_BATCH_BYTES);
    }

    /// Hands spans over if they hold at least so much text.
    pub fn hand_over_spans(&self, least: usize) {
        let Some(export) = &self.plan.spans else { return };
        let mut batch = self.spans.borrow_mut();
        if !batch.is_empty() && batch.len() >= least {
            export.send(std::mem::take(&mut *batch), &self.plan.config);
        }
    }
}
