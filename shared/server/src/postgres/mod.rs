//! A private PostgreSQL in a folder: created on first use with the programs of this machine, kept between runs.
//!
//! [`PrivatePostgres`] runs while a process lives, and is restarted when it dies. [`start`] and [`stop`] control a server that outlives
//! its starter. [`throw_away`] runs one for the duration of some work. The next start adopts a server that outlived a killed process.
//! This module never reads the stored data.

mod account;
mod cluster;
mod find;
mod pid_file;
mod server;
mod tls;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{cluster::Cluster, pid_file::Holder, server::Server};
pub use self::{cluster::Setup, server::Stop, tls::Tls};
use crate::{Result, data_dir::DataDir};

/// The pause before the next attempt to restart a server that died.
const PAUSE: Duration = Duration::from_secs(1);

/// How to connect to a server.
pub struct Address {
    /// Through the socket, without a password: for its owner and root.
    pub url: String,
    /// Over TLS, if the setup asks for it.
    pub tls: Option<Tls>,
}

/// Starts the PostgreSQL of a folder, or adopts a running one, and waits until it accepts connections. It outlives this process.
pub async fn start(dir: &Path, setup: &Setup) -> Result<Address> {
    let data = DataDir::open(dir)?;
    let cluster = Cluster::open(&data, setup).await?;
    Server::start(&cluster).await?;
    let tls = if setup.tls { Some(tls::open(&data, &cluster.url(), cluster.port).await?) } else { None };
    Ok(Address { url: cluster.url(), tls })
}

/// Stops the PostgreSQL of a folder, if there is one, and waits until it has ended.
pub async fn stop(dir: &Path, how: Stop) -> Result {
    if !dir.exists() {
        return Ok(());
    }
    let data = DataDir::open(dir)?;
    let Some(cluster) = Cluster::find(&data, &Setup::default())? else { return Ok(()) };
    if let Holder::Server(pid) = pid_file::holder(&cluster.dir) {
        Server::Adopted(pid).stop(&cluster, how).await?;
    }
    cluster.forget_socket();
    Ok(())
}

/// Whether the PostgreSQL of a folder is running.
pub fn runs(dir: &Path) -> Result<bool> {
    let data = DataDir::open(dir)?;
    let cluster = Cluster::find(&data, &Setup::default())?;
    Ok(cluster.is_some_and(|cluster| matches!(pid_file::holder(&cluster.dir), Holder::Server(_))))
}

/// Stops the PostgreSQL of a folder immediately, and removes the folder with everything in it.
pub async fn remove(dir: &Path) -> Result {
    if !dir.exists() {
        return Ok(());
    }
    stop(dir, Stop::AtOnce).await?;
    let data = DataDir::open(dir)?;
    for folder in cluster::outside(&data)?.as_deref().into_iter().chain([data.path()]) {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Runs some work with a PostgreSQL in a new folder, and always removes both afterwards.
pub async fn throw_away<T>(setup: &Setup, work: impl AsyncFnOnce(&Address) -> T) -> Result<T> {
    // Not in TMPDIR: the path of a socket must be short, and the user that PostgreSQL runs as must be able to enter.
    let dir = PathBuf::from(format!("/tmp/tasker-test-{}", &Uuid::new_v4().simple().to_string()[..12]));
    let done = match start(&dir, setup).await {
        Ok(address) => Ok(work(&address).await),
        Err(error) => Err(error),
    };
    let removed = remove(&dir).await;
    done.and_then(|done| removed.map(|()| done))
}

/// A PostgreSQL that only this process uses, and that runs while it lives.
pub struct PrivatePostgres {
    url: String,
    stop: CancellationToken,
    supervisor: JoinHandle<anyhow::Result<()>>,
    /// Unlocked last.
    _data: DataDir,
}

impl PrivatePostgres {
    /// Locks a data dir, starts its PostgreSQL or adopts a running one, and waits until it accepts connections.
    ///
    /// Do not drop the future before it ends: a server that is being started would keep running.
    pub async fn start(dir: &Path) -> Result<Self> {
        let data = DataDir::open(dir)?;
        let cluster = Cluster::open(&data, &Setup::default()).await?;
        let server = Server::start(&cluster).await?;
        let url = cluster.url();
        let stop = CancellationToken::new();
        let supervisor = tokio::spawn(supervise(cluster, server, stop.clone()));
        Ok(Self { url, stop, supervisor, _data: data })
    }

    /// The URL, which contains no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server gracefully and waits until it has ended.
    pub async fn stop(self) -> Result {
        self.stop.cancel();
        self.supervisor.await.context("the task that watches PostgreSQL failed")??;
        Ok(())
    }
}

async fn supervise(cluster: Cluster, mut server: Server, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                let stopped = server.stop(&cluster, Stop::InOrder).await;
                cluster.forget_socket();
                return stopped;
            }
            () = server.ended(&cluster) => {}
        }
        tracing::warn!(log = %cluster.log.display(), "PostgreSQL ended unexpectedly and is restarted");
        match start_again(&cluster, &stop).await {
            Some(again) => server = again,
            None => return Ok(()),
        }
    }
}

/// Retries until it succeeds. `None` if `stop` was cancelled.
async fn start_again(cluster: &Cluster, stop: &CancellationToken) -> Option<Server> {
    while !stop.is_cancelled() {
        match Server::start(cluster).await {
            Ok(server) => return Some(server),
            Err(error) => tracing::error!(%error, "PostgreSQL cannot be restarted"),
        }
        let _ = tokio::time::timeout(PAUSE, stop.cancelled()).await;
    }
    None
}
