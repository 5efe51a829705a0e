//! The server process of a cluster: started or adopted, watched, and stopped in order.

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
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{NoTls, error::SqlState};

use super::{
    cluster::Cluster,
    pid_file::{self, Holder},
};

/// How long a start may take: reading back the log after a crash takes as long as the log is long.
const START: Duration = Duration::from_secs(300);
/// How long what is left of a killed server may keep its memory.
const LEFTOVERS: Duration = Duration::from_secs(30);
/// How long an ordered stop may take; it writes out what is in memory.
const STOP: Duration = Duration::from_secs(60);
/// How long a stop without order may take.
const STOP_AT_ONCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Bytes of a log that is kept when a new one is begun.
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
    /// It survived the process that started it.
    Adopted(Pid),
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It rolls back what is open and writes everything out.
    InOrder,
    /// As by a crash: the next start reads back the log.
    AtOnce,
}

/// How one try to start ended.
enum Try {
    Ready(Server),
    /// The remains of an earlier server are in the way, and will go.
    InTheWay(String),
}

impl Server {
    /// Adopts the cluster's living server, or starts one.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let reason = match start_once(cluster).await? {
                Try::Ready(server) => return Ok(server),
                Try::InTheWay(reason) => reason,
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

    /// Stops the server; it is gone when this returns. One that does not obey in time is stopped less gently.
    pub async fn stop(mut self, cluster: &Cluster, how: Stop) -> Result<()> {
        let steps = [(Signal::SIGINT, STOP), (Signal::SIGQUIT, STOP_AT_ONCE), (Signal::SIGKILL, STOP_AT_ONCE)];
        for (signal, patience) in steps.into_iter().skip(usize::from(how == Stop::AtOnce)) {
            let Some(pid) = self.pid() else { return Ok(()) };
            if kill(pid, signal).is_err() {
                // It has ended already; a child must still be waited for.
                self.ended(cluster).await;
                return Ok(());
            }
            if timeout(patience, self.ended(cluster)).await.is_ok() {
                return Ok(());
            }
        }
        bail!("PostgreSQL did not end; its log is {}", cluster.log.display())
    }

    fn pid(&self) -> Option<Pid> {
        match self {
            Self::Ours(child) => child.id().map(|id| Pid::from_raw(id.cast_signed())),
            Self::Adopted(pid) => Some(*pid),
        }
    }
}

async fn start_once(cluster: &Cluster) -> Result<Try> {
    match pid_file::holder(&cluster.dir) {
        Holder::Server(pid) => adopt(cluster, pid).await,
        Holder::Stranger if !pid_file::remove_stale(&cluster.dir)? => Ok(Try::InTheWay("its shared memory is in use".into())),
        Holder::Stranger | Holder::Nobody => spawn(cluster).await,
    }
}

async fn adopt(cluster: &Cluster, pid: Pid) -> Result<Try> {
    let begun = Instant::now();
    while pid_file::is_server(pid, &cluster.dir) {
        if accepts(cluster).await? {
            return Ok(Try::Ready(Server::Adopted(pid)));
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
    // It was on its way out.
    Ok(Try::InTheWay("it is ending".into()))
}

async fn spawn(cluster: &Cluster) -> Result<Try> {
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
            return Ok(Try::Ready(Server::Ours(child)));
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
    // Its own group: Ctrl-C at the terminal is for us, and we end it when nothing needs it any more.
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

fn why_it_ended(log: &mut File, from: u64, status: ExitStatus, cluster: &Cluster) -> Result<Try> {
    let mut said = Vec::new();
    log.seek(SeekFrom::Start(from))?;
    log.take(64 * 1024).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    let fatal = said.lines().rev().find_map(|line| line.split_once("FATAL:")).map(|(_, message)| message.trim());
    match fatal {
        // Both pass by themselves: what is left of a killed server notices its death and ends.
        Some(message) if message.contains("shared memory block") || message.contains("lock file") => {
            Ok(Try::InTheWay(message.to_owned()))
        }
        Some(message) => bail!("PostgreSQL does not start: {message} (its log is {})", cluster.log.display()),
        None => bail!("PostgreSQL does not start ({status}); its log is {}", cluster.log.display()),
    }
}

/// Whether the server takes connections; an error when it answers that it never will take ours.
async fn accepts(cluster: &Cluster) -> Result<bool> {
    let Ok(answer) = timeout(Duration::from_secs(2), tokio_postgres::connect(&cluster.url(), NoTls)).await else {
        return Ok(false);
    };
    let Err(error) = answer else { return Ok(true) };
    match error.code() {
        None | Some(&SqlState::CANNOT_CONNECT_NOW) => Ok(false),
        Some(&SqlState::TOO_MANY_CONNECTIONS) => Ok(true),
        Some(_) => Err(error).with_context(|| format!("PostgreSQL of {} does not let us in", cluster.dir.display())),
    }
}
