//! Fetches an entry anew while it is still served: nobody waits for this one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cached::Visit;
use super::fill::Fill;
use super::forward::{self, To};
use super::guard::Guard;
use super::side::{Answer, Downstream};
use crate::base::error::Result;
use crate::cache::directive::Directives;
use crate::cache::entry::Entry;
use crate::cache::part::Question;
use crate::cache::policy::Asked;
use crate::cache::status::{Forward, Status};
use crate::cache::validate;
use crate::message::head::Method;
use crate::net::guard::Caught;
use crate::net::inbound::Inbound;
use crate::net::runtime::spawn;
use crate::net::stream::Stream;
use crate::observe::record::Record;
use crate::shard::desk::Desk;
use crate::shard::{Shard, Workspace};

/// A fetch that counts until it is over.
struct Running(Rc<Desk>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.refreshed();
    }
}

/// Begins, on a task of its own, with a copy of the request.
///
/// # Errors
/// The request cannot be forwarded.
pub fn start(
    shard: &Rc<Shard>,
    visit: &Visit<'_>,
    guard: Guard,
    entry: &Arc<Entry>,
    question: &Question,
    work: &Workspace,
    down: &mut Downstream<'_>,
) -> Result<()> {
    if !shard.desk.may_refresh() {
        return Ok(());
    }
    let running = Running(Rc::clone(&shard.desk));
    let mut request = work.request.clone();
    validate::strip(&mut request.fields);
    if validate::can_validate(entry) {
        validate::ask_about(entry, &mut request.fields);
    }
    request.set_method(b"GET");
    request.method = Method::Get;
    forward::prepare(shard, visit.route, &mut request, down)?;
    let Some(at) = shard.route_index(visit.route) else { return Ok(()) };
    let (shard, stale, question) = (Rc::clone(shard), Arc::clone(entry), question.clone());
    let (cluster, listener, address, client) =
        (visit.cluster, down.listener, down.address, *down.client);
    spawn(async move {
        let _running = running;
        let task = async {
            let route = &shard.plan.config.routes[at];
            let (Some(cached), Ok(nobody)) = (&route.cache, Stream::nobody(&shard.sweep)) else {
                return;
            };
            let mut asked = Asked::of(&question.fields, &cached.rule);
            asked.directives = Directives::default();
            asked.has_authorization |= super::cached::names_client(&shard, &question.fields);
            let visit = Visit { route, cached, cluster };
            let mut fill = Fill::new(&visit, &question, &asked, shard.now());
            fill.is_alone = true;
            fill.has_asked = validate::can_validate(&stale);
            fill.stale = Some(stale);
            fill.ticket.replace(Some(guard));
            fill.status.set(Status::forwarded(Forward::Stale));
            let answer = Answer::default();
            let mut down = Downstream {
                stream: &nobody,
                inbound: &mut Inbound::default(),
                listener,
                client: &client,
                secured: None,
                kept: &RefCell::default(),
                address,
                may_keep: false,
                answer: &answer,
            };
            down.answer.body_done.set(true);
            down.answer.has_come.set(true);
            let mut work = shard.workspace();
            work.request = request;
            let to = visit.to(&fill);
            let mut record = Record::open(address.ip(), Duration::ZERO);
            // What comes of it is the cache's; there is nobody to tell.
            let to = To { is_prepared: true, ..to };
            let _ = forward::run(&shard, to, &mut work, &mut down, &mut record).await;
            shard.give(work);
        };
        if Caught(task).await.is_err() {
            shard.count(|counters| counters.panics += 1);
        }
    });
    Ok(())
}
