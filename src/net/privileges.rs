//! Root gives its rights up: another user, no way back, and only the right to ports below 1024 kept, for reloads.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{
    AccessFlags, Gid, Group, Uid, User, access, fchown, fchownat, initgroups, setgid, setuid,
};

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

    /// A socket or a folder that root has made, and that the user is to have. A link is not followed: where it leads is
    /// for its folder's owner to say, and that is not root.
    pub fn own(&self, path: &Path) {
        let (user, group) = (Some(self.user.uid), Some(self.group));
        if let Err(error) = fchownat(AT_FDCWD, path, user, group, AtFlags::AT_SYMLINK_NOFOLLOW) {
            notice::warn(format_args!("{} stays root's: {error}", path.display()));
        }
    }

    /// A file that root has opened and that the user will open again.
    pub fn own_file(&self, file: &File) {
        let is_roots = file.metadata().is_ok_and(|found| found.is_file() && found.uid() == 0);
        if is_roots && let Err(error) = fchown(file, Some(self.user.uid), Some(self.group)) {
            notice::warn(format_args!("a log stays root's: {error}"));
        }
    }

    /// Whether this process, which is the user by now, may make and remove files there.
    #[must_use]
    pub fn may_write(folder: &Path) -> bool {
        access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
    }

    /// Becomes it, with every thread of this process. Only the calling thread, and threads that it starts, keep the right to
    /// ports below 1024.
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
        // More than that must not be left, whatever happens.
        drop_others().map_err(io::Error::other)?;
        // What a new process has of it.
        let ambient = CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]);
        if let Err(error) = caps::set(None, CapSet::Ambient, &ambient) {
            notice::warn(format_args!(
                "ports below 1024 cannot be opened after an upgrade any more: {error}"
            ));
        }
        notice::note(format_args!("this process is user \"{}\" now", self.user.name));
        Ok(())
    }
}

/// Of what root may, the right to low ports is left.
fn drop_others() -> Result<(), caps::errors::CapsError> {
    let may = caps::read(None, CapSet::Permitted)?;
    let low_ports = |one: &Capability| *one == Capability::CAP_NET_BIND_SERVICE;
    let kept: CapsHashSet = may.into_iter().filter(low_ports).collect();
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::set(None, set, &kept)?;
    }
    Ok(())
}

/// A worker opens no listeners: its thread needs nothing of what the coordinator has kept.
pub fn give_up_on_this_thread() {
    let none = CapsHashSet::new();
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        if let Err(error) = caps::set(None, set, &none) {
            notice::warn(format_args!("a worker keeps the right to low ports: {error}"));
        }
    }
}
