//! A new configuration in a running process. What it says is checked as a whole before anything
//! changes; shards then take new connections under the new plan, and what they had goes on under
//! the old one. What is known of endpoints stays known.

use std::path::Path;
use std::sync::Arc;

use super::admin::{self, AdminServer};
use super::machine;
use super::plan;
use super::prober::{self, Prober};
use super::renewal::Watcher;
use super::resolve::{self, Resolver};
use super::secrets::{self, Known};
use super::stall::StallWatch;
use super::start::Workers;
use super::verdicts::Verdicts;
use super::watch::OperatorWatch;
use crate::admin::plan::Planned;
use crate::config::model::Config;
use crate::net::handover::{ManagerNews, tell};
use crate::net::{memory, notice};

/// Reads the configuration again, as it was read at the start, or another file in the same way; or says what is wrong
/// with it. Of one that is good the operator is told the warnings.
pub type ConfigSource<'a> = dyn Fn(Option<&Path>) -> Result<Config, String> + 'a;

/// What depends on the configuration, besides the workers.
pub(super) struct Helpers {
    pub(super) prober: Prober,
    pub(super) resolver: Resolver,
    pub(super) verdicts: Verdicts,
    pub(super) watch: OperatorWatch,
    pub(super) certificates: Watcher,
    /// The admin listener, if there is one.
    pub(super) admin: Option<AdminServer>,
    /// Configurations that were taken and refused since the start.
    pub(super) reloads: (u64, u64),
    /// The last one was refused.
    pub(super) was_refused: bool,
    pub(super) stalls: StallWatch,
}

impl Helpers {
    /// Starts them.
    pub(super) fn start(
        workers: &Workers,
        known: Known,
        resolver: Resolver,
        admin: Option<AdminServer>,
    ) -> Self {
        let config = workers.config();
        let (secrets, places) = (Arc::clone(workers.secrets()), workers.known_plan().places);
        Self {
            prober: prober::start(&config, secrets, places, |_, _| None),
            resolver,
            verdicts: Verdicts::new(Arc::clone(&config)),
            watch: OperatorWatch::new(&config.clusters),
            certificates: Watcher::new(known),
            admin,
            reloads: (0, 0),
            was_refused: false,
            stalls: StallWatch::default(),
        }
    }
}

impl Helpers {
    /// Opens the admin listener again, after a new process has come to nothing that had taken its place.
    pub(super) fn regain_admin(&mut self, workers: &Workers) {
        let config = workers.config();
        let (Some(model), Some(admin)) = (&config.admin, &self.admin) else { return };
        match admin.regained(model) {
            None => {}
            Some(Ok(admin)) => self.admin = Some(admin),
            Some(Err(why)) => notice::warn(why),
        }
    }
}

/// Takes the new configuration.
///
/// # Errors
/// Why it is refused: then nothing has changed. The operator was told in notices.
pub(super) fn reload(
    workers: &mut Workers,
    helpers: &mut Helpers,
    source: &ConfigSource<'_>,
) -> Result<(), String> {
    let result = take(workers, helpers, source);
    match &result {
        Ok(()) => {
            helpers.reloads.0 += 1;
            helpers.was_refused = false;
        }
        Err(_) => {
            helpers.reloads.1 += 1;
            helpers.was_refused = true;
        }
    }
    result
}

const REFUSED: &str = "the configuration is refused: the old one stays";

fn take(
    workers: &mut Workers,
    helpers: &mut Helpers,
    source: &ConfigSource<'_>,
) -> Result<(), String> {
    tell(ManagerNews::Reloads);
    let _end = ReloadEnds;
    // Of what is wrong, each fault is a message of its own.
    let refused = |faults: Vec<String>| {
        faults.iter().for_each(notice::warn);
        notice::warn(REFUSED);
        format!("{}\n{REFUSED}", faults.join("\n"))
    };
    let config = source(None).map_err(|report| {
        notice::report(&report);
        notice::warn(REFUSED);
        format!("{}\n{REFUSED}", report.trim_end())
    })?;
    let config = config.with_places();
    let old = workers.config();
    if let Some(what) = needs_restart(&old, &config) {
        return Err(refused(vec![format!(
            "{what} changed, which needs a restart, or `millrace upgrade`"
        )]));
    }
    let loaded = secrets::load(&config, Some((&old, workers.secrets()))).map_err(refused)?;
    let prepared = workers.prepare(&config).map_err(|why| refused(vec![why]))?;
    // The last step that can fail.
    let admin = admin::changed(&mut helpers.admin, old.admin.as_ref(), config.admin.as_ref())
        .map_err(|why| refused(vec![why]))?;
    let config = Arc::new(config);
    let resolver = resolve::start(&config, &|cluster, host| workers.addresses(cluster, host));
    let mut places = plan::carried(&config, &workers.known_plan());
    resolve::first(&resolver, &config, |one| one.place(&config, &mut places));
    let mut verdicts = Verdicts::new(Arc::clone(&config));
    verdicts.inherit(&helpers.verdicts, workers.known_plan().places, &places);
    let secrets = Arc::new(loaded.secrets);
    let known = |cluster, endpoint| verdicts.get(cluster, endpoint);
    let prober = prober::start(&config, Arc::clone(&secrets), &places, known);
    workers.adopt(Arc::clone(&config), secrets, places, prepared);
    workers.plan().ledger.resize(config.cache.memory, config.cache.object);
    workers.store();
    memory::bound(config.limits.memory);
    let watch = OperatorWatch::new(&config.clusters);
    let certificates = Watcher::new(loaded.known);
    let (reloads, stalls) = (helpers.reloads, std::mem::take(&mut helpers.stalls));
    let was_refused = false;
    *helpers = Helpers {
        prober,
        resolver,
        verdicts,
        watch,
        certificates,
        admin,
        reloads,
        was_refused,
        stalls,
    };
    notice::shape(config.server.log_format, config.server.log_level);
    helpers.watch.inherit(workers);
    notice::note("the configuration was read again: new connections are served by it");
    Ok(())
}

/// What a file would change. Nothing is opened but what it names, and nothing changes.
///
/// # Errors
/// Why it would be refused.
pub(super) fn plan(
    workers: &Workers,
    source: &ConfigSource<'_>,
    file: Option<&Path>,
) -> Result<Planned, String> {
    if let Some(file) = file.filter(|file| !file.is_file()) {
        return Err(format!("{} is no regular file", file.display()));
    }
    let new = source(file).map_err(|report| report.trim_end().to_owned())?.with_places();
    let old = workers.config();
    let needs_restart = needs_restart(&old, &new);
    let mut faults = secrets::look(&new, Some((&old, workers.secrets())));
    faults.extend(machine::objections(&new).0);
    faults.sort();
    faults.dedup();
    if faults.is_empty() { Ok(Planned { old, new, needs_restart }) } else { Err(faults.join("\n")) }
}

/// Tells the service manager that a reload is over, however it went.
struct ReloadEnds;

impl Drop for ReloadEnds {
    fn drop(&mut self) {
        tell(ManagerNews::Serves);
    }
}

/// What cannot be changed in a running process.
fn needs_restart(old: &Config, new: &Config) -> Option<&'static str> {
    let of_cores =
        |config: &Config| (config.server.cores.clone(), config.server.driver, config.server.ring);
    if of_cores(old) != of_cores(new) {
        return Some("server.cores, driver or ring");
    }
    if old.server.name != new.server.name {
        return Some("server.name");
    }
    if (&old.server.user, &old.server.group) != (&new.server.user, &new.server.group) {
        return Some("server.user or group");
    }
    let folder = |config: &Config| (config.cache.disk.clone(), config.cache.disk_size);
    (folder(old) != folder(new)).then_some("cache.disk or disk_size")
}
