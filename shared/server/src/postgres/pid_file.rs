//! Whether a server of a cluster is alive, as its `postmaster.pid` and the kernel tell it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{sys::signal::kill, unistd::Pid};

/// What became of the server that last wrote the pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// There is none, or it is dead; PostgreSQL clears away the file itself.
    Nobody,
    /// It lives.
    Server(Pid),
    /// Its number now belongs to another program, as after a restart of the machine.
    Stranger,
}

/// Reads who holds the cluster.
pub fn holder(cluster: &Path) -> Holder {
    let Some(pid) = read_pid(cluster) else { return Holder::Nobody };
    if is_server(pid, cluster) {
        Holder::Server(pid)
    } else if kill(pid, None).is_ok() && !is_zombie(pid) {
        Holder::Stranger
    } else {
        Holder::Nobody
    }
}

/// Whether process `pid` is the server of this cluster. One that has ended and was not yet waited for is not.
pub fn is_server(pid: Pid, cluster: &Path) -> bool {
    if !Path::new("/proc/self").exists() {
        return kill(pid, None).is_ok();
    }
    // A server's own command line stays as we gave it; only its children rewrite theirs. It is empty once the process has ended.
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&b| b == 0).any(|argument| argument == cluster.as_os_str().as_encoded_bytes())
}

fn is_zombie(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Removes a pid file whose number belongs to a stranger: PostgreSQL would refuse to start. True when it was removed.
///
/// Like PostgreSQL it leaves the file alone while a process is attached to the shared memory that the file names, for then a server of
/// this cluster, or a part of one, is still alive.
pub fn remove_stale(cluster: &Path) -> Result<bool> {
    let path = pid_file(cluster);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let Some(shared_memory) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else { return Ok(false) };
    let Ok(table) = fs::read_to_string("/proc/sysvipc/shm") else { return Ok(false) };
    if is_attached(&table, shared_memory) {
        return Ok(false);
    }
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(true)
}

/// Whether the kernel's table (key, id, permissions, size, creator, last user, attached processes, …) has processes attached to `id`.
fn is_attached(table: &str, id: &str) -> bool {
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|row| row.get(1) == Some(&id) && row.get(6) != Some(&"0"))
}

fn read_pid(cluster: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pid_file(cluster)).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    Some(Pid::from_raw(pid.abs()))
}

fn pid_file(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster_with_pid(pid: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(pid_file(dir.path()), format!("{pid}\n{}\n0\n5432\n/tmp\n\n  12345 4000000000\nready\n", dir.path().display()))
            .unwrap();
        dir
    }

    #[test]
    fn a_number_that_another_program_got_is_a_stranger_and_its_file_is_removed() {
        let dir = cluster_with_pid(std::process::id());
        assert_eq!(holder(dir.path()), Holder::Stranger);
        assert!(remove_stale(dir.path()).unwrap());
        assert_eq!(holder(dir.path()), Holder::Nobody);
    }

    #[test]
    fn a_dead_number_holds_nothing_and_its_file_is_left_to_postgresql() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dir = cluster_with_pid(child.id());
        assert_eq!(holder(dir.path()), Holder::Nobody);
        assert!(pid_file(dir.path()).exists());
    }

    #[test]
    fn shared_memory_counts_as_used_while_a_process_is_attached() {
        let table = "key shmid perms size cpid lpid nattch uid\n 7 32 600 56 10 11 6 101\n 8 33 600 56 10 11 0 101\n";
        assert!(is_attached(table, "32"));
        assert!(!is_attached(table, "33"));
        assert!(!is_attached(table, "34"));
    }
}
