//! A private PostgreSQL for one data dir: found on the machine, made at first, kept between runs, started again when it dies.
//!
//! It may outlive a process that is killed; the next one adopts it. This module starts and stops a server and never looks into it.

mod account;
mod cluster;
mod find;
mod pid_file;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::{cluster::Cluster, server::Server};
use crate::data_dir::DataDir;

/// How long to wait before another try to start a server that died.
const PAUSE: Duration = Duration::from_secs(1);

/// A PostgreSQL that runs for as long as this process, and that nobody else uses.
pub struct PrivatePostgres {
    url: String,
    stop: CancellationToken,
    supervisor: JoinHandle<Result<()>>,
}

impl PrivatePostgres {
    /// Starts the PostgreSQL of a data dir, or adopts the one that still runs, and waits until it accepts connections.
    ///
    /// Not to be dropped half-way: a server that was being started would live on.
    pub async fn start(data: &DataDir) -> Result<Self> {
        let cluster = Cluster::open(data).await?;
        let server = Server::start(&cluster).await?;
        let url = cluster.url();
        let stop = CancellationToken::new();
        let supervisor = tokio::spawn(supervise(cluster, server, stop.clone()));
        Ok(Self { url, stop, supervisor })
    }

    /// Where to connect; it holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it in order and waits until it is gone.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.supervisor.await.context("the task that watches PostgreSQL failed")?
    }
}

async fn supervise(cluster: Cluster, mut server: Server, stop: CancellationToken) -> Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                let stopped = server.stop(&cluster).await;
                cluster.forget_socket();
                return stopped;
            }
            () = server.ended(&cluster) => {}
        }
        tracing::warn!(log = %cluster.log.display(), "PostgreSQL ended by itself; starting it again");
        match start_again(&cluster, &stop).await {
            Some(again) => server = again,
            None => return Ok(()),
        }
    }
}

/// Tries until it succeeds; `None` when we are to stop.
async fn start_again(cluster: &Cluster, stop: &CancellationToken) -> Option<Server> {
    while !stop.is_cancelled() {
        match Server::start(cluster).await {
            Ok(server) => return Some(server),
            Err(error) => tracing::error!(%error, "PostgreSQL does not come back"),
        }
        let _ = tokio::time::timeout(PAUSE, stop.cancelled()).await;
    }
    None
}
