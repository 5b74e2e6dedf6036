//! Reads certificates and keys from their files: at the start, on command, and whenever they change.
//! A pair that is no good is told of and refused; what there was stays (exam L06).

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::stamps::{Stamps, stamps};
use crate::base::clock;
use crate::config::model::{Cluster, Config, Listener};
use crate::config::tls::{self, Pair, SourceLine};
use crate::net::tls::identity::Identity;
use crate::net::tls::local::{self, Authority};
use crate::net::tls::pem;
use crate::net::tls::server::{self, TlsServer};
use crate::net::tls::trust::TlsClient;
use crate::shard::secrets::Secrets;

/// A certificate that ends sooner than this is worth a word.
const SOON: i64 = 14 * 24 * 3600;

/// What was read, and what an operator should know of it.
pub struct LoadedSecrets {
    pub secrets: Secrets,
    pub warnings: Vec<String>,
    /// Where the local authority's certificate is, if it was used.
    pub authority: Option<PathBuf>,
    pub(super) known: Known,
}

/// What is remembered of files that were read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// As they were before they were read.
    pub(super) stamps: Stamps,
    /// When the first staple ends, in seconds since 1970.
    pub(super) stapled: Option<i64>,
    /// What was said of them.
    pub(super) warnings: Vec<String>,
}

/// Reads everything that a configuration names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    config: &Config,
    old: Option<(&Config, &Secrets)>,
) -> Result<LoadedSecrets, Vec<String>> {
    let (loaded, faults) = read(config, old, Errand::Start);
    if faults.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// The same for a command that only looks: nothing is written.
///
/// # Errors
/// As above.
pub fn inspect(config: &Config) -> Result<LoadedSecrets, Vec<String>> {
    let (loaded, faults) = read(config, None, Errand::Look);
    if faults.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// What is wrong with the files that a configuration names, beside one that is served. Nothing is written.
#[must_use]
pub fn look(config: &Config, old: Option<(&Config, &Secrets)>) -> Vec<String> {
    read(config, old, Errand::Look).1
}

/// What files are read for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// All must be well.
    Start,
    /// As above, and nothing is written.
    Look,
    /// What is not well stays as it was.
    Renew,
}

pub(super) fn read(
    config: &Config,
    old: Option<(&Config, &Secrets)>,
    errand: Errand,
) -> (LoadedSecrets, Vec<String>) {
    let stamps = stamps(config);
    let mut reader = SecretReader {
        provider: server::provider(),
        now: i64::try_from(clock::wall() / 1000).unwrap_or(i64::MAX),
        // One that is kept nowhere lives as long as we do.
        authority: old.and_then(|(_, secrets)| secrets.authority.clone()),
        errand,
        faults: Vec::new(),
        warnings: Vec::new(),
        stapled: None,
    };
    let mut secrets = Secrets::default();
    for listener in &config.listeners {
        let (tls, tickets) = reader.listener(listener, old).unzip();
        secrets.listeners.push(tls);
        secrets.tickets.push(tickets);
    }
    for (at, cluster) in config.clusters.iter().enumerate() {
        let client = cluster.tls.as_ref().and_then(|tls| reader.client(cluster, tls));
        let before = || old.filter(|_| errand == Errand::Renew)?.1.clusters.get(at)?.clone();
        secrets.clusters.push(client.or_else(before));
    }
    let authority = reader.authority.as_ref().and_then(|authority| authority.file.clone());
    secrets.authority = reader.authority.filter(|authority| authority.file.is_none());
    let SecretReader { warnings, stapled, faults, .. } = reader;
    let known = Known { stamps, stapled, warnings: warnings.clone() };
    (LoadedSecrets { secrets, warnings, authority, known }, faults)
}

struct SecretReader {
    provider: Arc<CryptoProvider>,
    /// Seconds since 1970.
    now: i64,
    authority: Option<Arc<Authority>>,
    errand: Errand,
    faults: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// When the first staple ends, in seconds since 1970.
    pub(super) stapled: Option<i64>,
}

impl SecretReader {
    fn listener(
        &mut self,
        listener: &Listener,
        old: Option<(&Config, &Secrets)>,
    ) -> Option<(Arc<TlsServer>, (server::Tickets, u64))> {
        let model = listener.tls.as_ref()?;
        let name = &listener.name;
        let fault = |line: &SourceLine, message: String| {
            format!("{line}: listener \"{name}\": tls: {message}")
        };
        let stays = old.filter(|_| self.errand == Errand::Renew);
        let stays = stays.and_then(|old| shown(listener, old));
        let stay = |at: usize| stays.as_ref()?.0.identities().get(at).cloned();
        let mut identities = Vec::new();
        let also = if stays.is_some() { "; its certificates stay as they were too" } else { "" };
        let lacking = model.client_auth.as_ref().map_or_else(Vec::new, |auth| {
            let lacking = missing([Some(&auth.ca), auth.crl.as_ref()].into_iter().flatten());
            lacking.into_iter().map(|why| fault(&auth.line, format!("{why}{also}"))).collect()
        });
        let lacks_some = !lacking.is_empty();
        self.faults.extend(lacking);
        for (at, pair) in model.certificates.iter().enumerate() {
            identities.extend(self.identity(name, pair).or_else(|| stay(at)));
        }
        self.judge_revocations(name, model);
        if !model.self_signed.is_empty() {
            match self.issue(&model.self_signed) {
                Ok(identity) => identities.push(identity),
                Err(message) => {
                    self.faults.push(fault(&model.line, message));
                    identities.extend(stay(model.certificates.len()));
                }
            }
        }
        let digest = digest(model);
        if identities.len() < model.certificates.len() + usize::from(!model.self_signed.is_empty())
        {
            return None;
        }
        if lacks_some {
            return stays;
        }
        let tickets = kept(listener, digest, old).map_or_else(server::tickets, Ok);
        let built = tickets.and_then(|tickets| {
            let server = TlsServer::new(model, identities, Arc::clone(&tickets), &self.provider)?;
            Ok((Arc::new(server), (tickets, digest)))
        });
        match built {
            Ok(built) => Some(built),
            Err(message) => {
                let line = model.client_auth.as_ref().map_or(&model.line, |auth| &auth.line);
                self.faults.push(fault(line, format!("{message}{also}")));
                stays
            }
        }
    }

    /// A certificate and its key; `None` if they are no good, which was told then.
    fn identity(&mut self, listener: &str, pair: &Pair) -> Option<Identity> {
        let say = |why: String| format!("{}: listener \"{listener}\": tls: {why}", pair.line);
        let missing = missing([&pair.certificate, &pair.key]);
        if !missing.is_empty() {
            self.faults.extend(missing.into_iter().map(say));
            return None;
        }
        let loaded = Identity::load(pair, &self.provider).map_err(say);
        let mut identity = loaded.map_err(|fault| self.faults.push(fault)).ok()?;
        if let Some(ocsp) = &pair.ocsp
            && let Err(why) = identity.staple(ocsp, self.now)
        {
            self.warnings.push(say(why));
        }
        self.judge(listener, pair, &identity);
        self.stapled = self.stapled.into_iter().chain(identity.stapled).min();
        Some(identity)
    }

    /// Warns of a list of revoked certificates that is no longer the newest.
    fn judge_revocations(&mut self, listener: &str, model: &tls::ListenerTls) {
        if let Some(auth) = &model.client_auth
            && let Some(crl) = &auth.crl
            && pem::are_overdue(crl, self.now)
        {
            let (line, shown) = (&auth.line, crl.display());
            self.warnings.push(format!(
                "{line}: listener \"{listener}\": tls: {shown} has expired: what was revoked since is not \
                 known; fetch a new list"
            ));
        }
    }

    fn issue(&mut self, names: &[String]) -> Result<Identity, String> {
        if self.authority.is_none() {
            let (folder, may_write) = (local::folder(), self.errand != Errand::Look);
            let authority = Authority::open(folder.as_deref(), may_write, self.now)?;
            if authority.file.is_none() && may_write {
                let place = folder.map_or_else(
                    || "neither XDG_DATA_HOME nor HOME is set".to_owned(),
                    |folder| format!("{} cannot be written", folder.display()),
                );
                self.warnings.push(format!(
                    "the local authority could not be kept ({place}): it is a new one at each start"
                ));
            }
            self.authority = Some(Arc::new(authority));
        }
        let authority = self.authority.as_ref().ok_or("no authority")?;
        authority.issue(names, self.now, &self.provider)
    }

    /// What is not wrong, but may be meant otherwise.
    fn judge(&mut self, listener: &str, pair: &Pair, identity: &Identity) {
        let (begin, end) = identity.valid;
        let shown = pair.certificate.display();
        let mut warn = |what: String| {
            self.warnings.push(format!("{}: listener \"{listener}\": {what}", pair.line));
        };
        if end < self.now {
            warn(format!("{shown} has expired: clients will refuse it"));
        } else if begin > self.now {
            warn(format!("{shown} is not valid yet: clients will refuse it"));
        } else if end - self.now < SOON {
            let days = (end - self.now) / (24 * 3600);
            warn(format!("{shown} expires in {days} days"));
        }
        if identity.names().is_empty() {
            warn(format!("{shown} names no host: it is only shown as the first of its listener"));
        }
        let mode = std::fs::metadata(&pair.key).map(|meta| meta.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o004 != 0) {
            let key = pair.key.display();
            warn(format!("{key} can be read by everybody on this machine: chmod 600 {key}"));
        }
    }

    fn client(&mut self, cluster: &Cluster, model: &tls::ClusterTls) -> Option<TlsClient> {
        let (name, line) = (&cluster.name, &model.line);
        let own = model.own.iter().flat_map(|own| [&own.certificate, &own.key]);
        let missing = missing(model.ca.iter().chain(own));
        if !missing.is_empty() {
            let fault = |why| format!("{line}: cluster \"{name}\": tls: {why}");
            self.faults.extend(missing.into_iter().map(fault));
            return None;
        }
        let built = TlsClient::new(model, cluster.protocol.offers(), &self.provider);
        let fault =
            |message| self.faults.push(format!("{line}: cluster \"{name}\": tls: {message}"));
        built.map_err(fault).ok()
    }
}

/// What cannot be opened of these files, so that all of it is said at once.
fn missing<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    let fault = |path: &PathBuf| {
        let error = std::fs::File::open(path).err()?;
        let shown = path.display();
        Some(if path.as_os_str().is_empty() {
            "the name of a file is empty".to_owned()
        } else {
            format!("{shown}: {error}")
        })
    };
    files.into_iter().filter_map(fault).collect()
}

/// The tickets of the same listener before, if it believes the same clients as then: a client that resumes a
/// session is not asked for a certificate again.
fn kept(
    listener: &Listener,
    digest: u64,
    old: Option<(&Config, &Secrets)>,
) -> Option<server::Tickets> {
    let (config, secrets) = old?;
    let at = config.listeners.iter().position(|one| one.name == listener.name)?;
    let before = config.listeners[at].tls.as_ref()?;
    let is_same = before.client_auth == listener.tls.as_ref()?.client_auth;
    let (tickets, before) = secrets.tickets.get(at)?.as_ref()?;
    (is_same && *before == digest).then(|| Arc::clone(tickets))
}

/// What this listener shows now.
fn shown(
    listener: &Listener,
    (config, secrets): (&Config, &Secrets),
) -> Option<(Arc<TlsServer>, (server::Tickets, u64))> {
    let at = config.listeners.iter().position(|one| one.name == listener.name)?;
    Some((secrets.listeners.get(at)?.clone()?, secrets.tickets.get(at)?.clone()?))
}

/// Of the files that say which clients are believed.
fn digest(model: &tls::ListenerTls) -> u64 {
    let Some(auth) = &model.client_auth else { return 0 };
    pem::digest([Some(&auth.ca), auth.crl.as_ref()].into_iter().flatten().map(PathBuf::as_path))
}
