//! Recovery for the queue inside this process: sends every dispatch that the queue does not hold.

use std::sync::{Arc, atomic::Ordering};

use backon::Retryable;
use tasker_queue::{Bodies, InProcess, Steps};
use tasker_store::StoreError;
use tasker_wire::{Lease, RunStep};

use crate::{Engine, PAUSES, work::Work};

impl Engine<InProcess> {
    /// Takes over a database that no other process uses. Steps that the last process had started run again under the same leases.
    pub async fn take_over(&self) -> Result<(), StoreError> {
        *self.unreturned.lock() = self.store().return_started(None).await?;
        self.recover().await
    }

    /// Takes over what was locked when this process took over the database.
    async fn return_the_rest(&self) -> Result<(), StoreError> {
        let rest = self.unreturned.lock().clone();
        if !rest.is_empty() {
            // Under their leases, which nobody else sends: a step that moved on is not touched.
            let left = self.store().return_started(Some(&rest)).await?;
            if left.len() < rest.len() {
                self.recover_soon();
            }
            *self.unreturned.lock() = left;
        }
        Ok(())
    }

    /// The steps of a pool, for its workers.
    pub fn steps(self: &Arc<Self>, pool: &str) -> Steps<Self> {
        self.queue().steps(pool, self.clone())
    }

    /// Sends every dispatch that the queue does not hold.
    pub async fn recover(&self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let (page, next) = self.store().list_unsent(last).await?;
            last = next;
            let missing: Vec<Lease> = page.into_iter().filter(|&lease| !self.queue().holds(lease)).collect();
            self.dispatch(Work::to_load(missing)).await?;
            if last.is_none() {
                return Ok(());
            }
        }
    }

    /// Sweeps until nothing is due. Recovers if an answer was lost or the queue gave up a message since the last call.
    pub async fn sweep_and_recover(self: &Arc<Self>) -> Result<(), StoreError> {
        self.return_the_rest().await?;
        // A sweep that fails because of one row must not prevent recovery.
        let swept = self.sweep_until_nothing_is_due().await;
        if !self.queue().gave_up().is_empty() | self.lost_track.swap(false, Ordering::SeqCst) {
            self.recover().await.inspect_err(|_| self.recover_soon())?;
        }
        swept
    }

    async fn sweep_until_nothing_is_due(self: &Arc<Self>) -> Result<(), StoreError> {
        while self.sweep().await? != Default::default() {}
        Ok(())
    }
}

impl Bodies for Engine<InProcess> {
    async fn load_bodies(self: &Arc<Self>, leases: &[Lease]) -> (Vec<RunStep>, Vec<Lease>) {
        let _verb = self.net.verb();
        let loaded = (|| self.load(leases)).retry(PAUSES).when(StoreError::is_transient).await;
        loaded.unwrap_or_else(|_| {
            self.recover_soon();
            Default::default()
        })
    }
}
