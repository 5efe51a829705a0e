//! A worker that polls its pool's queue: it receives as many messages as it has free places. It keeps the messages of running steps
//! invisible, and deletes a message only when its outcome is accepted.

use std::sync::Arc;

use tasker_aws::{Clients, SqsQueue, SqsSource};
use tasker_wire::RunStep;
use tasker_worker::{Command, Executor, WorkerSettings};
use tokio_util::sync::CancellationToken;

use crate::{deployment::Deployment, inbox::Inbox};

/// Runs the steps of the pool until `shutdown`.
pub async fn serve(
    command: Command,
    deployment: Deployment,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error>> {
    let Deployment { queues, queue_url, settings } = deployment;
    let clients = Clients::waiting(SqsSource::<RunStep>::WAIT).await;
    let source = SqsSource::<RunStep>::new(clients.sqs, queue_url.clone(), shutdown.clone());
    let visibility = source.visibility().await.map_err(|error| {
        format!("the queue {queue_url} cannot be read; check TASKER_QUEUES, TASKER_POOL and the worker's permissions: {error}")
    })?;
    let settings = WorkerSettings { visibility: Some(visibility), ..settings };
    let start = Executor::child(command, &settings);
    let Some(executor) = shutdown.run_until_cancelled(start).await.transpose()? else { return Ok(()) };
    let queue = SqsQueue::new(Clients::from_env().await.sqs, queues);
    tasker_worker::run(Arc::new(Inbox::new(source)), Arc::new(queue), executor, settings, shutdown.clone()).await;
    if shutdown.is_cancelled() { Ok(()) } else { Err("the worker's loop ended unexpectedly".into()) }
}
