//! The safety net of the queue inside this process: a dispatch that the database has and this process does not know.
//!
//! A verb sends what it has committed, and one that fails makes the next sweep recover. So what is found here is a defect: it is sent
//! again, logged and counted. No dispatch is taken for lost while its verb may still send it: it must be unknown at two looks, the verbs
//! that were under way at the first one must have ended, and at the second one it must still be dispatched under the same lease.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tasker_queue::InProcess;
use tasker_store::{Change, StoreError};
use tasker_wire::{Lease, TaskId, limits};

use crate::{BODIES, Engine, work::Work};

/// Pages of unfinished tasks that one look reads. The next look continues.
const PAGES: usize = 10;

#[derive(Default)]
pub(crate) struct Net {
    /// Every verb holds the mark of its time while it runs.
    mark: Mutex<Arc<()>>,
    looked: Mutex<Looked>,
    lost: AtomicU64,
}

/// What the last look left for the next one.
#[derive(Default)]
struct Looked {
    /// Where to continue.
    last: Option<TaskId>,
    unknown: Vec<Lease>,
    /// The mark of the verbs that began before its end.
    mark: Arc<()>,
}

impl Net {
    /// To be held while a verb runs.
    pub fn verb(&self) -> Arc<()> {
        self.mark.lock().clone()
    }
}

impl<Q> Engine<Q> {
    /// Dispatches that were lost inside this process and sent again, since it began.
    pub fn lost_dispatches(&self) -> u64 {
        self.net.lost.load(Ordering::Relaxed) + self.settings.in_process.as_ref().map_or(0, InProcess::lost)
    }
}

impl Engine<InProcess> {
    /// Looks at a bounded number of unfinished tasks for dispatches that this process does not know, and sends those again that it did not
    /// know at the last look either.
    pub async fn look_for_lost(&self) -> Result<(), StoreError> {
        // A verb that failed is known to have lost track before it ends; what it did not send is recovered, and is no defect.
        if Arc::strong_count(&self.net.looked.lock().mark) > 1 || self.has_lost_track() {
            return Ok(());
        }
        let unknown = std::mem::take(&mut self.net.looked.lock().unknown);
        let unknown: Vec<Lease> = unknown.into_iter().filter(|&lease| !self.queue().holds(lease)).collect();
        for page in unknown.chunks(BODIES) {
            self.send_lost(page).await.inspect_err(|_| self.recover_soon())?;
        }
        self.note_unknown().await
    }

    async fn send_lost(&self, unknown: &[Lease]) -> Result<(), StoreError> {
        let mut changes = self.store().load_run_steps(unknown, limits::INPUT_BYTES as i64).await?;
        let unknown: HashSet<Lease> = unknown.iter().copied().collect();
        // A step under another lease has moved on.
        changes.retain(|change| lease_of(change).is_none_or(|lease| unknown.contains(&lease)));
        for Lease { step, number: lease } in changes.iter().filter_map(lease_of) {
            tracing::error!(task_id = %step.task, step_id = %step, lease, "a dispatch was lost inside this process; it is sent again");
            self.net.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.dispatch(Work::of(changes)).await.map(drop)
    }

    async fn note_unknown(&self) -> Result<(), StoreError> {
        let (mut last, mut unknown) = (self.net.looked.lock().last, Vec::new());
        for _ in 0..PAGES {
            let (page, next) = self.store().list_unsent(last).await?;
            unknown.extend(page.into_iter().filter(|&lease| !self.queue().holds(lease)));
            last = next;
            if last.is_none() {
                break;
            }
        }
        // After the reads: the verbs that committed what they saw have the old mark.
        let mark = std::mem::take(&mut *self.net.mark.lock());
        *self.net.looked.lock() = Looked { last, unknown, mark };
        Ok(())
    }
}

/// The lease of a message.
fn lease_of(change: &Change) -> Option<Lease> {
    match change {
        Change::Run(row) => Some(row.lease),
        Change::RunKey(lease) => Some(*lease),
        _ => None,
    }
}
