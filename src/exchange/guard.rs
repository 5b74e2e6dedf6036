//! A fetch for the cache ends one way or the other, whatever becomes of its task.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::error::Kind;
use crate::cache::entry::Entry;
use crate::cache::fill_stream::Start;
use crate::cache::policy::NotStored;
use crate::cache::shard::Ticket;
use crate::shard::cache_handle::CacheHandle;

/// The duty to end a fetch one way or the other.
pub struct FillGuard {
    cache: Rc<CacheHandle>,
    ticket: Option<Ticket>,
    kind: Kind,
}

impl FillGuard {
    /// For a ticket that was handed out. Dropped without a word, its client has gone.
    #[must_use]
    pub const fn new(cache: Rc<CacheHandle>, ticket: Ticket) -> Self {
        Self { cache, ticket: Some(ticket), kind: Kind::ClientGone }
    }

    /// It has brought a whole entry.
    pub fn commit(mut self, entry: Arc<Entry>) {
        if let Some(ticket) = self.ticket.take() {
            self.cache.commit(&ticket, entry, false);
        }
    }

    /// What is stored is good, with other fields.
    pub fn confirm(mut self, entry: Arc<Entry>) {
        if let Some(ticket) = self.ticket.take() {
            self.cache.commit(&ticket, entry, true);
        }
    }

    /// It cannot be stored.
    pub fn release(mut self, why: NotStored, is_marked: bool) {
        if let Some(ticket) = self.ticket.take() {
            self.cache.release(&ticket, why, is_marked);
        }
    }

    /// What is stored stands in for the answer, for all requests that wait.
    pub fn stands(mut self, stale: &Arc<Entry>) {
        if let Some(ticket) = self.ticket.take() {
            ticket.stream.begin(Start::Stands(Arc::clone(stale)));
            self.cache.fail(&ticket);
        }
    }

    /// What it was given for.
    #[must_use]
    pub const fn ticket(&self) -> Option<&Ticket> {
        self.ticket.as_ref()
    }

    /// There was no answer, for this reason.
    pub fn fail(mut self, kind: Kind) {
        self.kind = kind;
    }
}

impl Drop for FillGuard {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.stream.begin(Start::Failed(self.kind));
            self.cache.fail(&ticket);
        }
    }
}
