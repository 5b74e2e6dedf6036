//! A fetch for the cache ends one way or the other, whatever becomes of its task.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::error::Kind;
use crate::cache::entry::Entry;
use crate::cache::flow::Start;
use crate::cache::part::Ticket;
use crate::cache::policy::Refused;
use crate::shard::desk::Desk;

/// The duty to end a fetch one way or the other.
pub struct Guard {
    desk: Rc<Desk>,
    ticket: Option<Ticket>,
    kind: Kind,
}

impl Guard {
    /// For a ticket that was handed out. Dropped without a word, its client has gone.
    #[must_use]
    pub const fn new(desk: Rc<Desk>, ticket: Ticket) -> Self {
        Self { desk, ticket: Some(ticket), kind: Kind::ClientGone }
    }

    /// It has brought a whole entry.
    pub fn commit(mut self, entry: Arc<Entry>) {
        if let Some(ticket) = self.ticket.take() {
            self.desk.commit(&ticket, entry, false);
        }
    }

    /// What is stored is good, with other fields.
    pub fn confirm(mut self, entry: Arc<Entry>) {
        if let Some(ticket) = self.ticket.take() {
            self.desk.commit(&ticket, entry, true);
        }
    }

    /// It cannot be stored.
    pub fn release(mut self, why: Refused, is_marked: bool) {
        if let Some(ticket) = self.ticket.take() {
            self.desk.release(&ticket, why, is_marked);
        }
    }

    /// What is stored stands in for the answer, for all who wait.
    pub fn stands(mut self, stale: &Arc<Entry>) {
        if let Some(ticket) = self.ticket.take() {
            ticket.flow.begin(Start::Stands(Arc::clone(stale)));
            self.desk.fail(&ticket);
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

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.flow.begin(Start::Failed(self.kind));
            self.desk.fail(&ticket);
        }
    }
}
