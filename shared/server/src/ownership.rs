//! Holds the ownership of the database while the server runs.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tasker_engine::Engine;
use tasker_queue::InProcess;
use tokio_util::sync::CancellationToken;

/// The pause between two attempts to reclaim the ownership.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Takes the ownership. An error if another process has it.
pub async fn take(database_url: &str) -> Result<tasker_store::Ownership> {
    let Some(held) = tasker_store::Ownership::take(database_url).await? else {
        bail!("another tasker process uses this database; stop it, or give another --database-url or --data-dir");
    };
    Ok(held)
}

/// Holds the ownership until `end`. While it is lost, no step is dispatched; once it is reclaimed, the engine recovers. If another process
/// takes it first, this cancels `taken` and returns, because that process now runs the tasks.
pub async fn keep(
    mut held: tasker_store::Ownership,
    database_url: String,
    engine: Arc<Engine<InProcess>>,
    end: CancellationToken,
    taken: CancellationToken,
) {
    loop {
        tokio::select! {
            () = held.lost() => {}
            () = end.cancelled() => return,
        }
        engine.queue().set_stopped(true);
        tracing::warn!(
            "the connection that holds the ownership of the database was lost; no step is dispatched until it is reclaimed"
        );
        let again = tokio::select! {
            again = again(&held, &database_url) => again,
            () = end.cancelled() => return,
        };
        let Some(again) = again else {
            return taken.cancel();
        };
        held = again;
        tracing::info!("the ownership of the database is reclaimed");
        engine.queue().set_stopped(false);
        engine.recover_soon();
    }
}

/// Retries until the database answers. `None` if another process has the ownership.
async fn again(lost: &tasker_store::Ownership, database_url: &str) -> Option<tasker_store::Ownership> {
    loop {
        tokio::time::sleep(TRY_AGAIN).await;
        if let Ok(answer) = lost.reclaim(database_url).await {
            return answer;
        }
    }
}
