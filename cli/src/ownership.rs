//! Keeping the ownership of the database while the system runs.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tasker_engine::{Engine, InProcess};
use tokio_util::sync::CancellationToken;

/// Between two tries to get it back.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Takes the ownership, or says in a sentence that another process has it.
pub async fn take(database_url: &str) -> Result<tasker_store::Ownership> {
    let Some(held) = tasker_store::Ownership::take(database_url).await? else {
        bail!("another tasker process works on this database; stop it, or give another --database-url or --data-dir");
    };
    Ok(held)
}

/// Keeps it until `end`. While it is lost the engine hands nothing over; once it is back the engine recovers.
pub async fn keep(
    mut held: tasker_store::Ownership,
    database_url: String,
    engine: Arc<Engine<InProcess>>,
    end: CancellationToken,
) {
    loop {
        tokio::select! {
            () = held.lost() => {}
            () = end.cancelled() => return,
        }
        engine.queue().set_stopped(true);
        tracing::warn!("the ownership of the database was lost with its connection; no step is handed over until it is back");
        held = tokio::select! {
            held = again(&database_url) => held,
            () = end.cancelled() => return,
        };
        tracing::info!("the ownership of the database is back");
        engine.queue().set_stopped(false);
        engine.recover_soon();
    }
}

async fn again(database_url: &str) -> tasker_store::Ownership {
    loop {
        tokio::time::sleep(TRY_AGAIN).await;
        if let Ok(Some(held)) = tasker_store::Ownership::reclaim(database_url).await {
            return held;
        }
    }
}
