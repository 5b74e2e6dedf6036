//! A new configuration in a running process. What it says is checked as a whole before anything
//! changes; shards then take new connections under the new plan, and what they had goes on under
//! the old one. What is known of endpoints stays known.

use std::sync::Arc;

use super::plan;
use super::prober::{self, Prober};
use super::renewal::Watcher;
use super::resolve::{self, Resolver};
use super::secrets::{self, Known};
use super::start::Workers;
use super::verdicts::Verdicts;
use super::watch::OperatorWatch;
use crate::config::model::Config;
use crate::net::{memory, notice};

/// Reads the configuration again, as it was read at the start; tells the operator what is wrong
/// with it, and returns it if it is good.
pub type ConfigSource<'a> = dyn Fn() -> Option<Config> + 'a;

/// What depends on the configuration, besides the workers.
pub(super) struct Helpers {
    pub(super) prober: Prober,
    pub(super) resolver: Resolver,
    pub(super) verdicts: Verdicts,
    pub(super) watch: OperatorWatch,
    pub(super) certificates: Watcher,
}

impl Helpers {
    /// Starts them.
    pub(super) fn start(workers: &Workers, known: Known, resolver: Resolver) -> Self {
        let config = workers.config();
        let (secrets, places) = (Arc::clone(workers.secrets()), workers.known_plan().places);
        Self {
            prober: prober::start(&config, secrets, places, |_, _| None),
            resolver,
            verdicts: Verdicts::new(Arc::clone(&config)),
            watch: OperatorWatch::new(&config.clusters),
            certificates: Watcher::new(known),
        }
    }
}

/// Takes the new configuration, or says why not.
pub(super) fn reload(workers: &mut Workers, helpers: &mut Helpers, source: &ConfigSource<'_>) {
    let Some(config) = source().map(Config::with_places) else {
        notice::warn("the configuration is refused: the old one stays");
        return;
    };
    let old = workers.config();
    if let Some(what) = needs_restart(&old, &config) {
        notice::warn(format_args!(
            "{what} changed, which needs a restart: nothing of the new configuration is used"
        ));
        return;
    }
    let loaded = match secrets::load(&config, Some((&old, workers.secrets()))) {
        Ok(loaded) => loaded,
        Err(faults) => {
            faults.iter().for_each(notice::warn);
            notice::warn("the configuration is refused: the old one stays");
            return;
        }
    };
    loaded.warnings.iter().for_each(notice::warn);
    let config = Arc::new(config);
    let resolver = resolve::start(&config, &|cluster, host| workers.addresses(cluster, host));
    let mut places = plan::carried(&config, &workers.known_plan());
    resolve::first(&resolver, &config, |one| one.place(&config, &mut places));
    let mut verdicts = Verdicts::new(Arc::clone(&config));
    verdicts.inherit(&helpers.verdicts, workers.known_plan().places, &places);
    let secrets = Arc::new(loaded.secrets);
    let known = |cluster, endpoint| verdicts.get(cluster, endpoint);
    let prober = prober::start(&config, Arc::clone(&secrets), &places, known);
    workers.adopt(Arc::clone(&config), secrets, places);
    memory::bound(config.limits.memory);
    let watch = OperatorWatch::new(&config.clusters);
    let certificates = Watcher::new(loaded.known);
    *helpers = Helpers { prober, resolver, verdicts, watch, certificates };
    helpers.watch.inherit(workers);
    notice::note("the configuration was read again: new connections are served by it");
}

/// What cannot be changed in a running process.
fn needs_restart(old: &Config, new: &Config) -> Option<&'static str> {
    let places = |config: &Config| {
        let all = config.listeners.iter().map(|one| (one.name.clone(), one.address));
        all.collect::<Vec<_>>()
    };
    if places(old) != places(new) {
        return Some("a [[listener]]'s name or address");
    }
    if old.server != new.server {
        return Some("[server]");
    }
    // Which clients may PURGE may change at any time.
    let lasting = |config: &Config| {
        let cache = &config.cache;
        (cache.memory, cache.object, cache.disk.clone(), cache.disk_size)
    };
    if lasting(old) != lasting(new) {
        return Some("[cache] (all but purge)");
    }
    (old.access_log != new.access_log).then_some("[access_log]")
}
