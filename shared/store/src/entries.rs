//! DLQ entries as operators see them.

use jiff::Timestamp;
use serde_json::value::RawValue;
use tasker_wire::{
    TaskId, limits,
    rest::{DlqFilter, DlqReason, DlqStatus},
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    change::{raw_column, task_id},
    pool::Param,
    row::from_row,
    store::sql,
};

/// An entry about a task or step that waits, or waited, for an operator.
#[derive(Debug)]
pub struct EntryDetail {
    pub dlq_entry_id: Uuid,
    pub task: TaskId,
    pub namespace: String,
    pub template: String,
    pub step: Option<String>,
    pub original_state: String,
    pub reason: DlqReason,
    pub reason_detail: String,
    pub fingerprint: String,
    pub status: DlqStatus,
    /// `None` if the snapshots of the page are too large together.
    pub snapshot: Option<Box<RawValue>>,
    pub notes: Option<String>,
    pub resolved_by: Option<String>,
    pub metadata: Option<Box<RawValue>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
}

/// What an investigation writes. What is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct EntryChange<'a> {
    pub status: Option<DlqStatus>,
    pub notes: Option<&'a str>,
    pub actor: Option<&'a str>,
    /// JSON.
    pub metadata: Option<&'a str>,
}

/// What became of an investigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryChanged {
    Yes,
    NotFound,
    /// It cannot wait again, because its task has another entry of its reason that waits.
    OtherPending,
    /// It cannot wait again, because nobody can do anything about its task, which is in this state.
    Ended(String),
}

/// The entries of one reason in numbers.
#[derive(Debug)]
pub struct EntryCounts {
    pub reason: DlqReason,
    pub total: i64,
    pub pending: i64,
    pub manually_resolved: i64,
    pub permanently_failed: i64,
    pub cancelled: i64,
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    /// The mean of those that are resolved.
    pub resolution_minutes: Option<f64>,
}

/// Pending entries of one fingerprint.
#[derive(Debug)]
pub struct EntryCause {
    pub fingerprint: String,
    pub entries: i64,
    pub namespace: String,
    pub template: String,
    pub step: Option<String>,
    pub reason: DlqReason,
    pub reason_detail: String,
    pub first: Timestamp,
    pub last: Timestamp,
    /// The newest of them.
    pub dlq_entry_id: Uuid,
    pub task: TaskId,
}

/// A pending entry, and how urgent it is.
#[derive(Debug)]
pub struct UrgentEntry {
    pub dlq_entry_id: Uuid,
    pub task: TaskId,
    pub namespace: String,
    pub template: String,
    pub original_state: String,
    pub reason: DlqReason,
    pub created_at: Timestamp,
    pub minutes: f64,
    pub priority_score: f64,
    /// `None`: there is no such task any more.
    pub current_state: Option<String>,
    pub state_minutes: Option<i32>,
}

/// A pending entry that matches a filter.
#[derive(Debug)]
pub struct MatchingEntry {
    pub dlq_entry_id: Uuid,
    pub task: TaskId,
    pub namespace: String,
    pub template: String,
    pub step: Option<String>,
    pub reason: DlqReason,
    pub reason_detail: String,
    pub fingerprint: String,
    /// Where a page after this entry begins.
    pub after: EntryPosition,
}

/// Where a page of entries begins: after an entry, among those opened before a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPosition {
    pub before: String,
    pub created_at: String,
    pub dlq_entry_id: Uuid,
}

/// A page of matching entries.
#[derive(Debug, Default)]
pub struct MatchingEntries {
    pub entries: Vec<MatchingEntry>,
    /// Where the next page begins; `None`: no entry is left.
    pub next: Option<EntryPosition>,
}

/// How urgent an entry is by its reason; one point a minute is added. A failure is certain, staleness may be slowness.
const SCORES: [(DlqReason, i32); 5] = [
    (DlqReason::DependencyCycleDetected, 1_000),
    (DlqReason::MaxRetriesExceeded, 500),
    (DlqReason::WorkerUnavailable, 200),
    (DlqReason::StalenessTimeout, 100),
    (DlqReason::ManualDlq, 50),
];

impl EntryDetail {
    fn read(row: &Row) -> Self {
        from_row!(row, Self {
            dlq_entry_id, namespace, template, step, original_state, reason_detail, fingerprint, notes, resolved_by, created_at, updated_at,
            resolved_at;
            task: task_id(row.get("task_id")), reason: reason(row), status: status(row), snapshot: raw_column(row, "snapshot_text"),
            metadata: raw_column(row, "metadata_text"),
        })
    }
}

impl Store {
    /// A page of entries, newest first, with a bounded number of bytes of snapshots.
    pub async fn dlq_entries(
        &self,
        status: Option<DlqStatus>,
        filter: &DlqFilter,
        limit: u32,
        offset: u32,
    ) -> Result<Vec<EntryDetail>, StoreError> {
        let (status, reason) = (status.map(DlqStatus::as_str), filter.dlq_reason.map(DlqReason::as_str));
        let age = i64::from(filter.older_than_seconds.unwrap_or(0));
        let (rows, skip) = (i64::from(limit), i64::from(offset));
        let params: [Param<'_>; 11] = [
            &status,
            &reason,
            &filter.namespace,
            &filter.template,
            &filter.step,
            &filter.fingerprint,
            &age,
            &rows,
            &skip,
            &(limits::LISTED_BYTES as i64),
            &limits::COUNTED_ROWS,
        ];
        Ok(self.read(sql!("list_dlq_entries"), &params).await?.iter().map(EntryDetail::read).collect())
    }

    /// The newest entry of a task.
    pub async fn dlq_entry_of_task(&self, task: TaskId) -> Result<Option<EntryDetail>, StoreError> {
        self.dlq_entry_by(Some(task.uuid()), None).await
    }

    /// An entry by its id.
    pub async fn dlq_entry(&self, entry: Uuid) -> Result<Option<EntryDetail>, StoreError> {
        self.dlq_entry_by(None, Some(entry)).await
    }

    async fn dlq_entry_by(&self, task: Option<Uuid>, entry: Option<Uuid>) -> Result<Option<EntryDetail>, StoreError> {
        Ok(self.read(sql!("get_dlq_entry"), &[&task, &entry]).await?.first().map(EntryDetail::read))
    }

    /// Writes down what an investigation found.
    pub async fn investigate(&self, entry: Uuid, change: EntryChange<'_>) -> Result<EntryChanged, StoreError> {
        let EntryChange { status, notes, actor, metadata } = change;
        let status = status.map(DlqStatus::as_str);
        let rows = self.request(sql!("investigate_dlq_entry"), &[&entry, &status, &notes, &actor, &metadata]).await?;
        Ok(match rows.first().map(|row| row.get("changed")) {
            None => EntryChanged::NotFound,
            Some(true) => EntryChanged::Yes,
            Some(false) => match rows[0].get("ended") {
                Some(state) => EntryChanged::Ended(state),
                None => EntryChanged::OtherPending,
            },
        })
    }

    /// The newest [`limits::COUNTED_ROWS`] entries in numbers.
    pub async fn dlq_counts(&self) -> Result<Vec<EntryCounts>, StoreError> {
        let read = |row: &Row| {
            from_row!(row, EntryCounts {
                total, pending, manually_resolved, permanently_failed, cancelled, oldest, newest, resolution_minutes;
                reason: reason(row),
            })
        };
        Ok(self.read(sql!("dlq_stats"), &[&limits::COUNTED_ROWS]).await?.iter().map(read).collect())
    }

    /// The causes of the newest [`limits::COUNTED_ROWS`] pending entries, the most frequent first.
    pub async fn dlq_causes(&self, causes: u32) -> Result<Vec<EntryCause>, StoreError> {
        let read = |row: &Row| {
            from_row!(row, EntryCause {
                fingerprint, entries, namespace, template, step, reason_detail, first, last, dlq_entry_id;
                reason: reason(row), task: task_id(row.get("task_id")),
            })
        };
        Ok(self.read(sql!("dlq_causes"), &[&limits::COUNTED_ROWS, &i64::from(causes)]).await?.iter().map(read).collect())
    }

    /// The most urgent of the [`limits::MATCHED_ENTRIES`] oldest pending entries.
    pub async fn urgent_entries(&self, rows: u32) -> Result<Vec<UrgentEntry>, StoreError> {
        let (reasons, scores): (Vec<&str>, Vec<i32>) = SCORES.iter().map(|(reason, score)| (reason.as_str(), *score)).unzip();
        let params: [Param<'_>; 4] = [&reasons, &scores, &i64::from(rows), &limits::MATCHED_ENTRIES];
        let read = |row: &Row| {
            from_row!(row, UrgentEntry {
                dlq_entry_id, namespace, template, original_state, created_at, minutes, priority_score, current_state, state_minutes;
                task: task_id(row.get("task_id")), reason: reason(row),
            })
        };
        Ok(self.read(sql!("investigation_queue"), &params).await?.iter().map(read).collect())
    }

    /// The next at most `rows` pending entries that match, oldest first. A page looks at [`limits::MATCHED_ENTRIES`] at most, so it may be
    /// empty and not the last one.
    pub async fn matching_entries(
        &self,
        filter: &DlqFilter,
        after: Option<&EntryPosition>,
        rows: u32,
    ) -> Result<MatchingEntries, StoreError> {
        let reason_word = filter.dlq_reason.map(DlqReason::as_str);
        let age = i64::from(filter.older_than_seconds.unwrap_or(0));
        let before = after.map(|after| after.before.as_str());
        let created_at = after.map_or("-infinity", |after| after.created_at.as_str());
        let last = after.map_or(Uuid::nil(), |after| after.dlq_entry_id);
        let limit = i64::from(rows);
        let params: [Param<'_>; 12] = [
            &reason_word,
            &filter.namespace,
            &filter.template,
            &filter.step,
            &filter.fingerprint,
            &filter.entries,
            &age,
            &before,
            &created_at,
            &last,
            &limits::MATCHED_ENTRIES,
            &limit,
        ];
        let found = self.read(sql!("matching_dlq_entries"), &params).await?;
        let entries: Vec<MatchingEntry> = found.iter().filter_map(matching).collect();
        let next = match entries.last() {
            Some(last) if entries.len() as i64 == limit => Some(last.after.clone()),
            _ => found.first().filter(|row| row.get("more")).map(|row| position(row, "last_created", "last_id")),
        };
        Ok(MatchingEntries { entries, next })
    }
}

fn matching(row: &Row) -> Option<MatchingEntry> {
    row.get::<_, Option<Uuid>>("dlq_entry_id")?;
    Some(from_row!(row, MatchingEntry {
        dlq_entry_id, namespace, template, step, reason_detail, fingerprint;
        task: task_id(row.get("task_id")), reason: reason(row), after: position(row, "created_text", "dlq_entry_id"),
    }))
}

fn position(row: &Row, created_at: &str, id: &str) -> EntryPosition {
    EntryPosition { before: row.get("before"), created_at: row.get(created_at), dlq_entry_id: row.get(id) }
}

fn reason(row: &Row) -> DlqReason {
    DlqReason::parse(row.get("reason")).expect("a CHECK allows only known reasons")
}

fn status(row: &Row) -> DlqStatus {
    DlqStatus::parse(row.get("status")).expect("a CHECK allows only known states")
}
