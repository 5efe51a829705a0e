//! The user that PostgreSQL runs as. PostgreSQL does not run as root, so root runs it as an unprivileged user.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use anyhow::{Context, Result, bail};
use nix::unistd::{Uid, User};
use tokio::process::Command;

#[derive(Debug, Clone)]
pub struct Account {
    uid: u32,
    gid: u32,
    pub name: String,
    /// Whether this process is root and runs PostgreSQL's processes as this user.
    drops: bool,
}

impl Account {
    /// The user for a new cluster: ourselves, or for root `postgres` or else `nobody`.
    pub fn for_new() -> Result<Self> {
        let me = Uid::effective();
        if !me.is_root() {
            return Self::of(me.as_raw());
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("cannot look up users")? {
                return Ok(Self::new(&user, true));
            }
        }
        bail!(
            "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: add one, or run as another user"
        )
    }

    /// The user of an existing cluster: its owner.
    pub fn owner_of(dir: &Path) -> Result<Self> {
        let owner = dir.metadata().with_context(|| format!("cannot read {}", dir.display()))?.uid();
        let me = Uid::effective();
        if !me.is_root() && me.as_raw() != owner {
            bail!("{} belongs to another user (number {owner}); run as that user or give another --data-dir", dir.display());
        }
        if owner == 0 {
            bail!("{} belongs to root, and PostgreSQL does not run as root; give another --data-dir", dir.display());
        }
        Self::of(owner)
    }

    fn of(uid: u32) -> Result<Self> {
        let user = User::from_uid(Uid::from_raw(uid)).context("cannot look up users")?;
        let Some(user) = user else {
            bail!("user number {uid} has no name on this machine, and PostgreSQL needs one: add it to /etc/passwd")
        };
        Ok(Self::new(&user, Uid::effective().is_root()))
    }

    fn new(user: &User, drops: bool) -> Self {
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name.clone(), drops }
    }

    /// Whether a folder belongs to this user and only this user can enter it.
    pub fn owns(&self, dir: &Path) -> bool {
        dir.symlink_metadata().is_ok_and(|m| m.is_dir() && m.uid() == self.uid && m.permissions().mode() & 0o077 == 0)
    }

    /// Gives a file or folder to this user.
    pub fn take(&self, path: &Path) -> Result<()> {
        if !self.drops {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to the user {}", path.display(), self.name))
    }

    /// A command that runs as this user, in the root folder (the user may not be able to enter ours), without our PostgreSQL settings.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C").stdin(std::process::Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        if self.drops {
            // Also drops the supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether this user can enter a folder. This tries it, because modes alone do not include groups and access lists.
    pub async fn can_enter(&self, dir: &Path) -> bool {
        self.command(Path::new("true")).current_dir(dir).status().await.is_ok_and(|status| status.success())
    }
}
