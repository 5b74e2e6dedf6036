//! Fetches an entry anew while it is still served: a fetch without a client.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::fetch;
use super::fill::Fill;
use super::guard::FillGuard;
use super::state::{ClientFacts, Exchange, Home, Parts, Traffic};
use super::upload::ClientBody;
use super::visit::{Visit, names_client};
use crate::base::error::Result;
use crate::cache::directive::Directives;
use crate::cache::entry::Entry;
use crate::cache::policy::StorableRequest;
use crate::cache::shard::CacheRequest;
use crate::cache::status::{Forward, Status};
use crate::cache::validate;
use crate::message::head::{Method, RequestHead};
use crate::net::guard::Caught;
use crate::net::runtime::spawn;
use crate::protocol::reply::To;
use crate::protocol::request::RequestBody;
use crate::shard::Shard;
use crate::shard::cache_handle::CacheHandle;

/// A fetch that counts until it is over.
struct RunningRefresh(Rc<CacheHandle>);

impl Drop for RunningRefresh {
    fn drop(&mut self) {
        self.0.refreshed();
    }
}

/// What a refresh takes along from the request that found the entry stale.
struct Refresh {
    shard: Rc<Shard>,
    /// Where its route stands in the plan.
    route: usize,
    request: RequestHead,
    facts: ClientFacts,
    /// The client that the request came from, as far as its proxies are believed: some balancers go by it.
    client: IpAddr,
    question: CacheRequest,
    stale: Arc<Entry>,
    guard: FillGuard,
    _running: RunningRefresh,
}

/// Begins, on a task of its own, with a copy of the request.
///
/// # Errors
/// The request cannot be forwarded.
pub fn start(
    ex: &Exchange<'_>,
    visit: &Visit<'_>,
    guard: FillGuard,
    entry: &Arc<Entry>,
    question: &CacheRequest,
) -> Result<()> {
    let shard = ex.shard;
    if !shard.cache.take_refresh() {
        return Ok(());
    }
    let running = RunningRefresh(Rc::clone(&shard.cache));
    let mut request = ex.work.request.clone();
    validate::strip(&mut request.fields);
    if validate::can_validate(entry) {
        validate::ask_about(entry, &mut request.fields);
    }
    request.set_method(b"GET");
    let Some(route) = shard.route_index(visit.route) else { return Ok(()) };
    let ClientFacts { listener, client, .. } = *ex.client;
    let facts = ClientFacts { listener, client, tls: None };
    let refresh = Refresh {
        shard: Rc::clone(shard),
        route,
        request,
        facts,
        client: ex.record.client,
        question: question.clone(),
        stale: Arc::clone(entry),
        guard,
        _running: running,
    };
    let shard = Rc::clone(shard);
    spawn(async move {
        if Caught(refresh.run()).await.is_err() {
            shard.count(|counters| counters.panics += 1);
        }
    });
    Ok(())
}

impl Refresh {
    async fn run(self) {
        let Self { shard, route: at, request, facts, client, question, stale, guard, _running } =
            self;
        let route = &shard.plan.config.routes[at];
        let (Some(cached), Some(cluster)) = (&route.cache, route.cluster()) else { return };
        debug_assert!(request.method == Method::Get, "nothing else is refreshed");
        let mut asked = StorableRequest::of(&question.fields, &cached.rule);
        asked.directives = Directives::default();
        asked.has_authorization |= names_client(&shard, &question.fields);
        let visit = Visit { route, cached, cluster };
        let status = Status::forwarded(Forward::Stale);
        let mut fill = Fill::new(visit, question, asked, status, shard.now());
        fill.has_asked = validate::can_validate(&stale);
        fill.stale = Some(stale);
        fill.ticket = Some(guard);
        let traffic = Traffic::new(true);
        let body = Home::new(ClientBody::new(RequestBody::None));
        let mut work = shard.workspace();
        work.heads.request = request;
        let mut ex = Exchange::new(Parts {
            shard: &shard,
            client: &facts,
            work: &mut work.heads,
            body: &body,
            traffic: &traffic,
            to: To::Discard,
            may_keep: false,
        });
        (ex.route, ex.filters) = (Some(route), Some(&shard.plan.route_filters[at]));
        ex.record.client = client;
        // What comes of it is the cache's; there is no client to tell.
        let _ = match fetch::run(&mut ex, route, cluster).await {
            Ok(fetched) => fill.judge(&mut ex, fetched).await,
            Err(kind) => fill.failed(&ex, kind),
        };
        drop(ex);
        shard.give(work);
    }
}
