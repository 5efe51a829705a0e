//! What is known of messages that were given up.

use tasker_wire::StepId;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    pool::{Lane, Prepared},
};

/// Entries that are closed at once; the next sweep goes on.
const ENTRIES: i64 = 500;

impl Store {
    /// Notes that a message about a step was given up, or is about to be; `word` is the true word for it and `known` a JSON object. Answers
    /// the entry; none when the task has one already, or does not exist.
    pub async fn open_dlq_entry(&self, step: StepId, word: &str, known: &str) -> Result<Option<Uuid>, StoreError> {
        let params = [
            (&step.task.uuid() as _, Type::UUID),
            (&step.no as _, Type::INT4),
            (&word as _, Type::TEXT),
            (&known as _, Type::TEXT),
        ];
        let rows = self.pool.run(Lane::Requests, Prepared::Never, include_str!("../sql/open_dlq_entry.sql"), &params).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// The message was handled after all.
    pub async fn remove_dlq_entry(&self, entry: Uuid) -> Result<(), StoreError> {
        self.pool
            .run(Lane::Requests, Prepared::Never, include_str!("../sql/remove_dlq_entry.sql"), &[(&entry, Type::UUID)])
            .await
            .map(drop)
    }

    /// Closes entries about messages whose step has moved on since.
    pub async fn close_dlq_entries(&self) -> Result<(), StoreError> {
        self.pool
            .run(Lane::Requests, Prepared::Never, include_str!("../sql/close_dlq_entries.sql"), &[(&ENTRIES, Type::INT8)])
            .await
            .map(drop)
    }
}
