//! Finds out from `postmaster.pid` and the kernel whether the server of a cluster is alive.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{sys::signal::kill, unistd::Pid};

/// The process that the pid file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// None, or a dead one. PostgreSQL removes such a file itself.
    Dead,
    /// The server, alive.
    Server(Pid),
    /// Another program that got the same number, as after a restart of the machine.
    OtherProgram,
}

pub fn holder(cluster: &Path) -> Holder {
    let Some(pid) = read_pid(cluster) else { return Holder::Dead };
    if is_server(pid, cluster) {
        Holder::Server(pid)
    } else if kill(pid, None).is_ok() && !is_zombie(pid) {
        Holder::OtherProgram
    } else {
        Holder::Dead
    }
}

/// Whether process `pid` is the server of this cluster. A zombie is not.
pub fn is_server(pid: Pid, cluster: &Path) -> bool {
    if !Path::new("/proc/self").exists() {
        return kill(pid, None).is_ok();
    }
    // A server keeps its command line; only its children rewrite theirs. The line is empty once the process has ended.
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&b| b == 0).any(|argument| argument == cluster.as_os_str().as_encoded_bytes())
}

fn is_zombie(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Removes a pid file whose number belongs to another program, because PostgreSQL would not start. True if it was removed.
///
/// Like PostgreSQL, it keeps the file while a process is attached to the shared memory that the file names: then a process of this
/// cluster's server is still alive.
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
    fn a_pid_file_whose_number_another_program_has_is_removed() {
        let dir = cluster_with_pid(std::process::id());
        assert_eq!(holder(dir.path()), Holder::OtherProgram);
        assert!(remove_stale(dir.path()).unwrap());
        assert_eq!(holder(dir.path()), Holder::Dead);
    }

    #[test]
    fn the_pid_file_of_a_dead_server_is_left_to_postgresql() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dir = cluster_with_pid(child.id());
        assert_eq!(holder(dir.path()), Holder::Dead);
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
