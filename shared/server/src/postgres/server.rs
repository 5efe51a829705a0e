//! The server process of a cluster: started or adopted, watched, and stopped.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tasker_store::StoreError;
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{NoTls, error::SqlState};

use super::{
    cluster::Cluster,
    pid_file::{self, Holder},
};

/// How long a start may take. Recovery after a crash reads the whole write-ahead log.
const START: Duration = Duration::from_secs(300);
/// How long the remaining processes of a killed server may hold its shared memory.
const LEFTOVERS: Duration = Duration::from_secs(30);
/// How long a graceful stop may take. It writes all data to the disk.
const STOP: Duration = Duration::from_secs(60);
/// How long an immediate stop may take.
const STOP_AT_ONCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A larger log is renamed when the server starts.
const LOG_BYTES: u64 = 16 * 1024 * 1024;

const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "port=5432",
    "unix_socket_permissions=0700",
    "max_connections=50",
    "shared_buffers=128MB",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "max_wal_size=1GB",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "logging_collector=off",
    "log_destination=stderr",
    "log_checkpoints=off",
];

/// A server that accepts connections.
pub enum Server {
    /// Started by us.
    Ours(Child),
    /// Started by a process that has ended.
    Adopted(Pid),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Rolls back open transactions and writes all data to the disk.
    InOrder,
    /// Like a crash: the next start recovers from the write-ahead log.
    AtOnce,
}

/// The result of one attempt to start.
enum Attempt {
    Ready(Server),
    /// Processes of an earlier server are still ending.
    InTheWay(String),
}

impl Server {
    /// Adopts the cluster's running server, or starts one.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let reason = match start_once(cluster).await? {
                Attempt::Ready(server) => return Ok(server),
                Attempt::InTheWay(reason) => reason,
            };
            if begun.elapsed() > LEFTOVERS {
                bail!(
                    "processes of an earlier PostgreSQL still use {}: {reason}; end them, or give another --data-dir",
                    cluster.dir.display()
                );
            }
            sleep(LOOK_AGAIN * 4).await;
        }
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self, cluster: &Cluster) {
        match self {
            Self::Ours(child) => {
                let _ = child.wait().await;
            }
            Self::Adopted(pid) => {
                while pid_file::is_server(*pid, &cluster.dir) {
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// Stops the server and waits until it has ended. Uses stronger signals if it does not end in time.
    pub async fn stop(mut self, cluster: &Cluster, how: Stop) -> Result<()> {
        let steps = [(Signal::SIGINT, STOP), (Signal::SIGQUIT, STOP_AT_ONCE), (Signal::SIGKILL, STOP_AT_ONCE)];
        for (signal, patience) in steps.into_iter().skip(usize::from(how == Stop::AtOnce)) {
            let Some(pid) = self.pid() else { return Ok(()) };
            if kill(pid, signal).is_err() {
                // The process has ended, but a child must still be waited for.
                self.ended(cluster).await;
                return Ok(());
            }
            if timeout(patience, self.ended(cluster)).await.is_ok() {
                return Ok(());
            }
        }
        bail!("PostgreSQL did not stop; its log is {}", cluster.log.display())
    }

    fn pid(&self) -> Option<Pid> {
        match self {
            Self::Ours(child) => child.id().map(|id| Pid::from_raw(id.cast_signed())),
            Self::Adopted(pid) => Some(*pid),
        }
    }
}

async fn start_once(cluster: &Cluster) -> Result<Attempt> {
    match pid_file::holder(&cluster.dir) {
        Holder::Server(pid) => adopt(cluster, pid).await,
        Holder::OtherProgram if !pid_file::remove_stale(&cluster.dir)? => {
            Ok(Attempt::InTheWay("its shared memory is in use".into()))
        }
        Holder::OtherProgram | Holder::Dead => spawn(cluster).await,
    }
}

async fn adopt(cluster: &Cluster, pid: Pid) -> Result<Attempt> {
    let begun = Instant::now();
    while pid_file::is_server(pid, &cluster.dir) {
        if accepts(cluster).await? {
            return Ok(Attempt::Ready(Server::Adopted(pid)));
        }
        if begun.elapsed() > START {
            bail!(
                "PostgreSQL (process {pid}) of {} does not accept connections; its log is {}",
                cluster.dir.display(),
                cluster.log.display()
            );
        }
        sleep(LOOK_AGAIN).await;
    }
    // The server was ending.
    Ok(Attempt::InTheWay("it is ending".into()))
}

async fn spawn(cluster: &Cluster) -> Result<Attempt> {
    let mut log = open_log(&cluster.log)?;
    let from = log.seek(SeekFrom::End(0))?;
    let mut child = command(cluster, &log)?.spawn().with_context(|| cannot_run(cluster))?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return why_it_ended(&mut log, from, status, cluster);
        }
        let ready = accepts(cluster).await;
        if matches!(ready, Ok(true)) {
            return Ok(Attempt::Ready(Server::Ours(child)));
        }
        if ready.is_err() || begun.elapsed() > START {
            Server::Ours(child).stop(cluster, Stop::InOrder).await?;
            ready?;
            bail!("PostgreSQL was not ready within {} s; its log is {}", START.as_secs(), cluster.log.display());
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn cannot_run(cluster: &Cluster) -> String {
    format!("cannot run {} as the user {}", cluster.postgres.display(), cluster.account.name)
}

fn command(cluster: &Cluster, log: &File) -> Result<tokio::process::Command> {
    let mut command = cluster.account.command(&cluster.postgres);
    command.arg("-D").arg(&cluster.dir);
    for setting in SETTINGS.iter().copied().chain(cluster.settings.iter().map(String::as_str)) {
        command.args(["-c", setting]);
    }
    command.arg("-c").arg(format!("unix_socket_directories={}", cluster.socket_dir.display()));
    command.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log.try_clone()?));
    // A process group of its own: Ctrl-C reaches only us, and we stop the server when nothing needs it any more.
    command.process_group(0);
    Ok(command)
}

fn open_log(path: &Path) -> Result<File> {
    if path.metadata().is_ok_and(|m| m.len() > LOG_BYTES) {
        fs::rename(path, path.with_added_extension("old")).with_context(|| format!("cannot rename {}", path.display()))?;
    }
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn why_it_ended(log: &mut File, from: u64, status: ExitStatus, cluster: &Cluster) -> Result<Attempt> {
    let mut text = Vec::new();
    log.seek(SeekFrom::Start(from))?;
    log.take(64 * 1024).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let fatal = text.lines().rev().find_map(|line| line.split_once("FATAL:")).map(|(_, message)| message.trim());
    match fatal {
        // Both are temporary: the remaining processes of a killed server notice its death and end.
        Some(message) if message.contains("shared memory block") || message.contains("lock file") => {
            Ok(Attempt::InTheWay(message.to_owned()))
        }
        Some(message) => bail!("PostgreSQL does not start: {message} (its log is {})", cluster.log.display()),
        None => bail!("PostgreSQL does not start ({status}); its log is {}", cluster.log.display()),
    }
}

/// Whether the server accepts connections. An error if it rejects ours for good.
async fn accepts(cluster: &Cluster) -> Result<bool> {
    let Ok(answer) = timeout(Duration::from_secs(2), tokio_postgres::connect(&cluster.url(), NoTls)).await else {
        return Ok(false);
    };
    let Err(error) = answer else { return Ok(true) };
    match error.code() {
        None | Some(&SqlState::CANNOT_CONNECT_NOW) => Ok(false),
        Some(&SqlState::TOO_MANY_CONNECTIONS) => Ok(true),
        Some(_) => Err(StoreError::from(error))
            .with_context(|| format!("PostgreSQL of {} rejects our connection", cluster.dir.display())),
    }
}
