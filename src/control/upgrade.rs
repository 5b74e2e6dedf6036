//! A new binary in place of the running one: it gets the listening sockets, and this process drains once it serves. If
//! it does not come to that, this process goes on.

use crossbeam_channel::{Receiver, Sender};

use super::reload::Helpers;
use super::start::Workers;
use crate::base::clock::{Moment, monotonic};
use crate::base::limits::HEIR_PATIENCE;
use crate::net::handover::{Heir, HeirNews, ManagerNews, tell};
use crate::net::notice;

/// An upgrade that is under way.
pub(super) struct RunningUpgrade {
    heir: Heir,
    by: Moment,
    reply: Option<Sender<Result<u32, String>>>,
    has_disk: bool,
}

impl RunningUpgrade {
    /// Starts the new process. The task that waits for the reply hears what comes of it.
    pub(super) fn start(
        workers: &Workers,
        helpers: &Helpers,
        reply: Option<Sender<Result<u32, String>>>,
    ) -> Option<Self> {
        let admin = helpers.admin.as_ref().and_then(|admin| admin.socket());
        match workers.bequeath(admin) {
            Ok(heir) => {
                notice::note(format_args!("upgrade: process {} is starting", heir.pid()));
                Some(Self { heir, by: monotonic().after(HEIR_PATIENCE), reply, has_disk: false })
            }
            Err(error) => {
                refuse(reply, format!("upgrade: the program cannot be started: {error}"));
                None
            }
        }
    }

    /// What the new process says.
    pub(super) const fn news(&self) -> &Receiver<HeirNews> {
        &self.heir.news
    }

    /// Hears it. `Some` ends the upgrade: whether the new process serves.
    pub(super) fn hear(&mut self, news: HeirNews, workers: &Workers) -> Option<bool> {
        match news {
            HeirNews::Disk => {
                self.has_disk = true;
                self.heir.give_disk(workers.disk_closer());
                None
            }
            HeirNews::Ready => {
                let pid = self.heir.pid();
                notice::note(format_args!("upgrade: process {pid} serves now; this one drains"));
                tell(ManagerNews::Successor(pid));
                if let Some(reply) = self.reply.take() {
                    let _ = reply.send(Ok(pid));
                }
                Some(true)
            }
            HeirNews::Refused(why) => {
                self.fail(&format!("the new process does not serve: {}", why.trim_end()));
                Some(false)
            }
            HeirNews::Gone => {
                self.fail("the new process ended before it served: its messages say why");
                Some(false)
            }
        }
    }

    /// This process is to end: the new one, which does not serve yet, too.
    pub(super) fn cancel(&mut self) {
        self.fail("this process is to end");
    }

    /// Called now and then: a new process that takes too long is ended. True if that was so.
    pub(super) fn is_overdue(&mut self) -> bool {
        // What it has said by now is heard first.
        let is_late = monotonic() >= self.by && self.heir.news.is_empty();
        if is_late {
            self.fail("the new process did not serve in time, and was ended");
        }
        is_late
    }

    fn fail(&mut self, why: &str) {
        self.heir.end();
        let disk =
            if self.has_disk { "; the cache goes on without its disk until a restart" } else { "" };
        refuse(self.reply.take(), format!("upgrade: {why}; this process goes on{disk}"));
    }
}

fn refuse(reply: Option<Sender<Result<u32, String>>>, why: String) {
    notice::warn(&why);
    if let Some(reply) = reply {
        let _ = reply.send(Err(why));
    }
}
