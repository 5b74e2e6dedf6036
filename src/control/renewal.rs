//! Looks at the files of certificates every other second, and gives the workers what is new.

use std::sync::Arc;

use super::prober::Prober;
use super::secrets::{Errand, Known, read};
use super::stamps::{Stamp, stamps};
use super::start::Workers;
use crate::base::clock::{self, Moment};
use crate::base::limits::{CERTIFICATES_EVERY, CERTIFICATES_TOLD_EVERY};
use crate::net::notice;

/// Looks at the files now and then.
pub(super) struct Watcher {
    known: Known,
    /// As they were at the last look: what is being written is left alone until it stays.
    seen: Vec<Stamp>,
    next: Moment,
    /// When certificates of the local authority were made.
    made: Moment,
    /// When everything was looked at last for its own sake.
    daily: Moment,
}

/// Certificates of the local authority are made anew after this.
const REMAKE: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

impl Watcher {
    /// `known`: what was read before.
    pub(super) fn new(known: Known) -> Self {
        let now = clock::monotonic();
        Self { seen: known.stamps.clone(), known, next: now, made: now, daily: now }
    }

    /// Called a few times a second. Reads everything anew if a file has changed.
    pub(super) fn look(&mut self, workers: &mut Workers, prober: &Prober) {
        let now = clock::monotonic();
        if now < self.next {
            return;
        }
        self.next = now.after(CERTIFICATES_EVERY);
        let config = workers.config();
        let found = stamps(&config);
        let is_settled = found == self.seen;
        let signs = config.listeners.iter().filter_map(|one| one.tls.as_ref());
        let is_old = now.since(self.made) > REMAKE;
        let is_old = is_old && signs.into_iter().any(|tls| !tls.self_signed.is_empty());
        let is_changed = found != self.known.stamps && is_settled;
        let wall = i64::try_from(clock::wall() / 1000).unwrap_or(i64::MAX);
        let is_stale = self.known.stapled.is_some_and(|until| until <= wall);
        // What ends soon, or has ended, is said once a day.
        let is_due = now.since(self.daily) >= CERTIFICATES_TOLD_EVERY;
        if is_due {
            self.daily = now;
            self.known.warnings.clear();
        }
        if is_old || is_changed || is_stale || is_due {
            self.made = now;
            let before = std::mem::take(&mut self.known.warnings);
            self.known = renew(workers, prober, &before, is_changed);
        }
        self.seen = found;
    }
}

/// Reads everything anew, for the configuration as it is.
fn renew(workers: &mut Workers, prober: &Prober, before: &[String], is_changed: bool) -> Known {
    let config = workers.config();
    let old = Some((&*config, &**workers.secrets()));
    let (loaded, faults) = read(&config, old, Errand::Renew);
    let news = loaded.warnings.iter().filter(|warning| !before.contains(warning));
    news.chain(&faults).for_each(notice::warn);
    let secrets = Arc::new(loaded.secrets);
    prober.secure(&secrets);
    workers.secure(secrets);
    if !is_changed {
        return loaded.known;
    }
    if faults.is_empty() {
        notice::note("certificates were read anew: new connections get them");
    } else {
        notice::warn(
            "what is wrong with them is refused, and the old ones stay; all others were read anew",
        );
    }
    loaded.known
}
