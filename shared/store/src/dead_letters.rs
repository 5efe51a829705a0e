//! DLQ entries about messages that were given up.

use tasker_wire::StepId;
use uuid::Uuid;

use crate::{Store, StoreError, store::sql};

/// Entries that one call closes. The next sweep continues.
const ENTRIES: i64 = 500;

impl Store {
    /// Opens an entry about a message that is a dead letter or at its last receive. `word` is the reason in detail, `known`
    /// a snapshot of the message as a JSON object. `None` if the task already has such an entry or does not exist.
    pub async fn open_dlq_entry(&self, step: StepId, word: &str, known: &str) -> Result<Option<Uuid>, StoreError> {
        let rows = self.request(sql!("open_dlq_entry"), &[&step.task.uuid(), &step.no, &word, &known]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Removes the entry about a message that was handled after all.
    pub async fn remove_dlq_entry(&self, entry: Uuid) -> Result<(), StoreError> {
        self.request(sql!("remove_dlq_entry"), &[&entry]).await.map(drop)
    }

    /// Closes entries about messages whose step has progressed since.
    pub async fn close_dlq_entries(&self) -> Result<(), StoreError> {
        self.request(sql!("close_dlq_entries"), &[&ENTRIES]).await.map(drop)
    }
}
