//! The interface of a measured engine: implement these two traits to add one.

use std::time::Duration;

use anyhow::Result;

use crate::shape::Shape;

/// The longest time that a client waits for a workflow. A workflow that takes longer counts as timed out.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// An engine that runs; starting it is its constructor's.
pub trait Engine: Send + Sync + 'static {
    type Client: Client;

    /// A client of its own for each caller that waits.
    fn client(&self) -> impl Future<Output = Result<Self::Client>> + Send;

    /// Its processes without PostgreSQL's: the orchestrator first, then its workers.
    fn pids(&self) -> Vec<u32>;

    /// Ends it.
    fn stop(self) -> impl Future<Output = Result<()>> + Send;
}

/// One caller.
pub trait Client: Send + 'static {
    /// Starts a workflow, which is durable when this returns. `None` if the engine rejected it because of overload.
    fn submit(&mut self, shape: Shape) -> impl Future<Output = Result<Option<String>>> + Send;

    /// Waits until a submitted workflow is finished. False: it is not, after [`PATIENCE`].
    fn wait(&mut self, workflow: &str) -> impl Future<Output = Result<bool>> + Send;

    /// Both, by one call where the engine has one.
    fn run(&mut self, shape: Shape) -> impl Future<Output = Result<Ended>> + Send {
        async move {
            let Some(workflow) = self.submit(shape).await? else { return Ok(Ended::Refused) };
            Ok(if self.wait(&workflow).await? { Ended::Complete } else { Ended::TimedOut })
        }
    }
}

/// How one run ended, as its caller saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Complete,
    Refused,
    TimedOut,
}
