//! Root gives its rights up: another user, no way back, and only the right to ports below 1024 kept, for reloads.

use std::io;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Group, Uid, User, chown, initgroups, setgid, setuid};

use super::notice;

/// Whom a process becomes.
#[derive(Debug)]
pub struct RunAs {
    user: User,
    group: Gid,
}

impl RunAs {
    /// Looks a user up, and a group; without one it is the user's own.
    ///
    /// # Errors
    /// A sentence: there is no such user or group, or this process may not become it.
    pub fn find(user: &str, group: Option<&str>) -> Result<Self, String> {
        let found = User::from_name(user).map_err(|error| format!("server.user: {error}"))?;
        let user = found.ok_or_else(|| format!("server.user: there is no user \"{user}\""))?;
        let group = match group {
            None => user.gid,
            Some(name) => {
                let found =
                    Group::from_name(name).map_err(|error| format!("server.group: {error}"))?;
                found.ok_or_else(|| format!("server.group: there is no group \"{name}\""))?.gid
            }
        };
        let own = Uid::effective();
        if !own.is_root() && own != user.uid {
            let name = &user.name;
            return Err(format!(
                "server.user: only root can become \"{name}\": this process is user {own}"
            ));
        }
        Ok(Self { user, group })
    }

    /// A file that root has made and that the user must be able to remove.
    pub fn own(&self, path: &Path) {
        if let Err(error) = chown(path, Some(self.user.uid), Some(self.group)) {
            notice::warn(format_args!("{} stays root's: {error}", path.display()));
        }
    }

    /// Becomes it, with every thread of this process; what it keeps is the calling thread's alone, and its children's.
    ///
    /// # Errors
    /// What the system says: then nothing is as it should be, and the process must not go on.
    pub fn assume(&self) -> io::Result<()> {
        nix::sys::prctl::set_no_new_privs()?;
        if !Uid::effective().is_root() {
            return Ok(());
        }
        nix::sys::prctl::set_keepcaps(true)?;
        let name = std::ffi::CString::new(self.user.name.as_str())?;
        initgroups(&name, self.group)?;
        setgid(self.group)?;
        setuid(self.user.uid)?;
        let kept = CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]);
        let held = keep(&kept);
        if let Err(error) = &held {
            notice::warn(format_args!(
                "ports below 1024 cannot be opened by a reload any more: {error}"
            ));
        }
        notice::note(format_args!("this process is user \"{}\" now", self.user.name));
        Ok(())
    }
}

/// Of what root may, these are left, over an upgrade too.
fn keep(kept: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let may: CapsHashSet =
            caps::read(None, CapSet::Permitted)?.intersection(kept).copied().collect();
        caps::set(None, set, &may)?;
    }
    caps::set(None, CapSet::Ambient, kept)
}
