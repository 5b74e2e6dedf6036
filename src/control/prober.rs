//! Checks the endpoints on a thread of its own: one probe per endpoint and interval for the whole
//! process, however many cores it has (RELIABILITY I08). Verdicts go to the coordinator, which
//! tells all shards.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use regex::bytes::Regex;
use tokio::sync::watch;

use super::helper;
use crate::base::id::{ClusterId, EndpointId};
use crate::base::random::Random;
use crate::config::model::{Config, Health, Probe};
use crate::health::active::Checked;
use crate::health::{Verdict, http};
use crate::net::connect::Peer;
use crate::net::probe::{self, Exchange};

/// A verdict that has changed.
#[derive(Clone, Debug)]
pub struct News {
    pub cluster: ClusterId,
    pub endpoint: EndpointId,
    pub verdict: Verdict,
    /// Why it is down, as the end of a sentence.
    pub why: String,
}

/// What the coordinator keeps of the prober.
pub struct Prober {
    pub news: Receiver<News>,
    /// Where the addresses of names are told.
    names: Vec<Name>,
}

/// Where one endpoint's addresses are told.
type Name = (ClusterId, EndpointId, watch::Sender<Arc<[Peer]>>);

/// One endpoint's checks.
struct Target {
    cluster: ClusterId,
    endpoint: EndpointId,
    policy: Health,
    authority: String,
    /// What must be in the body.
    pattern: Option<Regex>,
    peers: watch::Receiver<Arc<[Peer]>>,
    checked: Checked,
    random: Random,
}

impl Prober {
    /// A name resolves to these addresses now.
    pub fn resolved(&self, cluster: ClusterId, endpoint: EndpointId, to: &[SocketAddr]) {
        let wanted = self.names.iter().find(|(c, e, _)| (*c, *e) == (cluster, endpoint));
        if let Some((_, _, sender)) = wanted {
            sender.send_replace(to.iter().copied().map(Peer::Socket).collect());
        }
    }
}

/// Starts checking, from what is known. Where nothing is to be checked there is no thread.
#[must_use]
pub fn start(config: &Config, known: impl Fn(ClusterId, EndpointId) -> Option<Verdict>) -> Prober {
    let (sender, news) = crossbeam_channel::unbounded();
    let (mut targets, mut names) = (Vec::new(), Vec::new());
    for (cluster, model) in (0_u16..).map(ClusterId).zip(&config.clusters) {
        let Some(policy) = &model.health else { continue };
        for (endpoint, model) in (0_u16..).map(EndpointId).zip(&model.endpoints) {
            let (tell, peers) = watch::channel(Peer::of(&model.address).into_iter().collect());
            names.push((cluster, endpoint, tell));
            targets.push(Target {
                cluster,
                endpoint,
                policy: policy.clone(),
                authority: model.address.authority(false),
                pattern: match &policy.probe {
                    Probe::Http(probe) => http::pattern(probe),
                    Probe::Tcp => None,
                },
                peers,
                checked: known(cluster, endpoint).map_or_else(Checked::default, Checked::known),
                random: Random::new(Random::seed_from_os()),
            });
        }
    }
    if targets.is_empty() {
        return Prober { news: crossbeam_channel::never(), names };
    }
    helper::start("prober", "endpoints cannot be checked", move || {
        targets.into_iter().map(|target| keep_checking(target, sender.clone())).collect()
    });
    Prober { news, names }
}

async fn keep_checking(mut target: Target, sender: Sender<News>) {
    loop {
        let peers = Arc::clone(&target.peers.borrow_and_update());
        // A name without an address has nothing to check; its endpoint is down as it is.
        if !peers.is_empty() {
            let result = check(&target, &peers).await;
            let Target { cluster, endpoint, .. } = target;
            if let Some(verdict) = target.checked.result(result.is_ok(), &target.policy) {
                let why = result.err().unwrap_or_default();
                if sender.send(News { cluster, endpoint, verdict, why }).is_err() {
                    return;
                }
            }
        }
        let wait = target.checked.wait(&target.policy, &mut target.random);
        tokio::time::sleep(wait).await;
        if target.peers.has_changed().is_err() {
            // Others check it now.
            return;
        }
    }
}

/// An endpoint with several addresses is up as long as one of them is.
async fn check(target: &Target, peers: &[Peer]) -> Result<(), String> {
    let mut last = Err("it has no address".to_owned());
    for peer in peers {
        let peer = match (peer, target.policy.port) {
            (Peer::Socket(address), Some(port)) => {
                Peer::Socket(SocketAddr::new(address.ip(), port))
            }
            (peer, _) => peer.clone(),
        };
        last = check_one(target, &peer).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn check_one(target: &Target, peer: &Peer) -> Result<(), String> {
    let Probe::Http(http) = &target.policy.probe else {
        return probe::run(peer, None, target.policy.timeout).await;
    };
    let request = http::request(http, &target.authority);
    let judge =
        |bytes: &[u8], is_end: bool| http::judge(http, target.pattern.as_ref(), bytes, is_end);
    let exchange = Exchange { request: &request, judge: &judge };
    probe::run(peer, Some(exchange), target.policy.timeout).await
}
