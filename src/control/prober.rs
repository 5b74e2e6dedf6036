//! Checks the endpoints on a thread of its own: one probe per endpoint and interval for the whole
//! process, however many cores it has (exam I08). Verdicts go to the coordinator, which
//! tells all shards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use regex::bytes::Regex;
use tokio::sync::watch;

use super::helper;
use crate::balance::places::Places;
use crate::base::id::{ClusterId, EndpointId};
use crate::base::limits::NEWS;
use crate::base::random::Random;
use crate::config::model::{Config, Health, Probe, Protocol, ProxyHeader};
use crate::health::active::Checked;
use crate::health::{CheckVerdict, grpc, http};
use crate::net::connect::Peer;
use crate::net::probe::{self, ProbeAnswer, ProbeCall, ProbeFault, Secure};
use crate::net::tls::trust::{self, ServerName};
use crate::shard::secrets::Secrets;
use crate::wire::proxy_protocol;

/// A verdict that has changed.
#[derive(Clone, Debug)]
pub struct CheckNews {
    pub cluster: ClusterId,
    pub endpoint: EndpointId,
    /// Which of a name's addresses that is said of.
    pub address: Option<SocketAddr>,
    pub verdict: CheckVerdict,
    /// Why it is down, as the end of a sentence.
    pub why: String,
}

/// What the coordinator keeps of the prober.
pub struct Prober {
    pub news: Receiver<CheckNews>,
    /// Where the addresses at places of names are told; as long as these live, endpoints are checked.
    places: Vec<AddressWatch>,
    /// Where new certificates are told.
    secrets: watch::Sender<Arc<Secrets>>,
}

/// Where one endpoint's address is told.
type AddressWatch = (ClusterId, EndpointId, watch::Sender<Option<Peer>>);

/// One endpoint's checks.
struct CheckTarget {
    cluster: ClusterId,
    endpoint: EndpointId,
    policy: Health,
    authority: String,
    /// What must be in the body.
    pattern: Option<Regex>,
    /// What stands at its place, if it is one of a name's.
    is_name: bool,
    peer: watch::Receiver<Option<Peer>>,
    secrets: watch::Receiver<Arc<Secrets>>,
    /// The name that a certificate must be for, where there must be one.
    name: Option<ServerName<'static>>,
    protocol: Protocol,
    proxy_protocol: Option<ProxyHeader>,
    checked: Checked,
    random: Random,
}

impl Prober {
    /// New connections are encrypted like this.
    pub fn secure(&self, secrets: &Arc<Secrets>) {
        self.secrets.send_replace(Arc::clone(secrets));
    }

    /// The addresses of a cluster's names stand there now.
    pub fn placed(&self, cluster: ClusterId, places: &Places) {
        for (_, endpoint, sender) in self.places.iter().filter(|(of, _, _)| *of == cluster) {
            let at = usize::from(endpoint.0);
            let peer = places.address(at).map(Peer::Socket);
            if peer.is_none() && !places.is_empty(at) {
                // It is no name.
                continue;
            }
            sender.send_if_modified(|old| {
                let is_new = *old != peer;
                old.clone_from(&peer);
                is_new
            });
        }
    }
}

/// Starts checking, from what is known. Where nothing is to be checked there is no thread.
#[must_use]
pub fn start(
    config: &Config,
    secrets: Arc<Secrets>,
    places: &[Places],
    known: impl Fn(ClusterId, EndpointId) -> Option<CheckVerdict>,
) -> Prober {
    let (tell_secrets, secrets) = watch::channel(secrets);
    let (sender, news) = crossbeam_channel::bounded(NEWS);
    let (mut targets, mut told) = (Vec::new(), Vec::new());
    let clusters = (0_u16..).map(ClusterId).zip(&config.clusters).zip(places);
    for ((cluster, model), places) in clusters {
        let Some(policy) = &model.health else { continue };
        let (tls, protocol) = (model.tls.as_ref(), model.protocol);
        let pattern = match &policy.probe {
            Probe::Http(probe) => http::pattern(probe),
            Probe::Tcp | Probe::Grpc { .. } => None,
        };
        let proxy_protocol = model.proxy_protocol;
        for (endpoint, model) in (0_u16..).map(EndpointId).zip(&model.endpoints) {
            let address = places.address(usize::from(endpoint.0));
            let peer = Peer::of(&model.address).or_else(|| address.map(Peer::Socket));
            let (tell, peer) = watch::channel(peer);
            told.push((cluster, endpoint, tell));
            targets.push(CheckTarget {
                cluster,
                endpoint,
                policy: policy.clone(),
                authority: model.address.authority(tls.is_some()),
                secrets: secrets.clone(),
                name: tls.and_then(|tls| trust::name_of(tls, &model.address)),
                protocol,
                proxy_protocol,
                pattern: pattern.clone(),
                is_name: model.address.is_name(),
                peer,
                checked: known(cluster, endpoint).map_or_else(Checked::default, Checked::known),
                random: Random::new(Random::seed_from_os()),
            });
        }
    }
    if targets.is_empty() {
        return Prober { news: crossbeam_channel::never(), places: told, secrets: tell_secrets };
    }
    helper::start("prober", "endpoints cannot be checked", move || {
        targets.into_iter().map(|target| keep_checking(target, sender.clone())).collect()
    });
    Prober { news, places: told, secrets: tell_secrets }
}

async fn keep_checking(mut target: CheckTarget, sender: Sender<CheckNews>) {
    loop {
        let peer = target.peer.borrow_and_update().clone();
        let Some(peer) = peer else {
            // No address stands at this place.
            if target.has_other_address(Duration::MAX).await.is_err() {
                return;
            }
            continue;
        };
        let (is_good, why) = match check(&target, &peer).await {
            Ok(()) => (Some(true), String::new()),
            Err(ProbeFault::Endpoint(why)) => (Some(false), why),
            // We could not ask: what was known of it stays (exam R10).
            Err(ProbeFault::Own(_)) => (None, String::new()),
        };
        let verdict = is_good.and_then(|is_good| target.checked.result(is_good, &target.policy));
        let CheckTarget { cluster, endpoint, is_name, .. } = target;
        let address = match peer {
            Peer::Socket(address) if is_name => Some(address),
            _ => None,
        };
        if let Some(verdict) = verdict
            && sender.send(CheckNews { cluster, endpoint, address, verdict, why }).is_err()
        {
            return;
        }
        let wait = target.checked.wait(&target.policy, &mut target.random);
        if target.has_other_address(wait).await.is_err() {
            return;
        }
    }
}

/// Others check it now.
struct Superseded;

impl CheckTarget {
    /// Waits, but no longer than until another address stands there, of which nothing is known.
    async fn has_other_address(&mut self, most: Duration) -> Result<(), Superseded> {
        let wait = tokio::time::timeout(most, self.peer.changed());
        match wait.await {
            Err(_) => Ok(()),
            Ok(Ok(())) => {
                self.checked = Checked::default();
                Ok(())
            }
            Ok(Err(_)) => Err(Superseded),
        }
    }
}

async fn check(target: &CheckTarget, peer: &Peer) -> Result<(), ProbeFault> {
    let peer = match (peer, target.policy.port) {
        (Peer::Socket(address), Some(port)) => Peer::Socket(SocketAddr::new(address.ip(), port)),
        (peer, _) => peer.clone(),
    };
    check_one(target, &peer).await
}

async fn check_one(target: &CheckTarget, peer: &Peer) -> Result<(), ProbeFault> {
    let (secrets, timeout) = (Arc::clone(&target.secrets.borrow()), target.policy.timeout);
    let secure = secrets.cluster(target.cluster).zip(target.name.clone());
    let secure = secure.map(|(tls, name)| Secure { tls, name });
    let is_secure = secure.is_some();
    // An endpoint that wants a header for each connection of a client wants one for a check as well (exam R38).
    let preface: &[u8] = match target.proxy_protocol {
        None => b"",
        Some(ProxyHeader::V1) => proxy_protocol::LOCAL_V1,
        Some(ProxyHeader::V2) => proxy_protocol::LOCAL_V2,
    };
    match &target.policy.probe {
        Probe::Tcp => probe::run(peer, preface, None, None, timeout).await,
        Probe::Http(http) => {
            let pattern = target.pattern.as_ref();
            let text = http::request(http, &target.authority);
            let judge_text = |bytes: &[u8], is_end: bool| http::judge(http, pattern, bytes, is_end);
            let judge_call =
                |answer: &ProbeAnswer| http::judge_call(http, pattern, answer.status, &answer.body);
            let call = || {
                let request = http::call(http, &target.authority, is_secure);
                let request =
                    request.ok_or_else(|| "its request cannot be said in HTTP/2".to_owned())?;
                let (request, body) = (Box::new(request), Bytes::new());
                Ok::<_, String>(ProbeCall::Call { request, body, judge: &judge_call })
            };
            let text = ProbeCall::Text { request: &text, judge: &judge_text };
            let exchange = match target.protocol {
                Protocol::Http1 => text,
                Protocol::Http2 => call()?,
                Protocol::Auto => ProbeCall::Agreed(Box::new([text, call()?])),
            };
            probe::run(peer, preface, secure, Some(exchange), timeout).await
        }
        Probe::Grpc { service } => {
            let request = grpc::request(service, &target.authority, is_secure);
            let (request, body) =
                request.ok_or_else(|| "its address is no authority".to_owned())?;
            let judge = |answer: &ProbeAnswer| {
                grpc::judge(answer.status, &answer.fields, &answer.body, &answer.trailers)
            };
            let exchange =
                ProbeCall::Call { request: Box::new(request), body: body.into(), judge: &judge };
            probe::run(peer, preface, secure, Some(exchange), timeout).await
        }
    }
}
