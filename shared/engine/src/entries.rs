//! Recovers what DLQ entries are about: each entry by an action of its own, so that one which cannot be recovered holds up no other.

use std::sync::Arc;

use tasker_domain::digest;
use tasker_queue::Queue;
use tasker_store::{Effect, EntryPosition, MatchingEntries, MatchingEntry, StoreError};
use tasker_wire::rest::DlqFilter;

use crate::{By, Effects, Engine, OperatorAction, OperatorError, Precondition};

/// What became of the entries of a page.
#[derive(Debug, Default)]
pub struct RecoveredPage {
    pub items: Vec<(MatchingEntry, Recovery)>,
    /// Where the next page begins; `None`: no entry is left.
    pub next: Option<EntryPosition>,
}

/// What became of one entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Recovery {
    /// These steps were set back or dispatched, or would be; and what speaks against that, as sentences.
    Recovered(Effects, Vec<String>),
    /// Nothing is to be done, for this reason.
    Skipped(String),
    /// Nothing was done, because of this error.
    Failed(String),
}

impl Recovery {
    /// The steps that were set back or dispatched.
    pub fn steps(&self) -> &[Effect] {
        if let Self::Recovered(effects, _) = self { &effects.steps } else { &[] }
    }

    /// [`Effects::seen`]; empty if nothing is to be done.
    fn seen(&self) -> &str {
        if let Self::Recovered(effects, _) = self { &effects.seen } else { "" }
    }
}

impl RecoveredPage {
    /// A digest of what the page does, or would do.
    pub fn seen(&self) -> String {
        let entries = self.items.iter().map(|(entry, recovery)| format!("{} {}\n", entry.dlq_entry_id, recovery.seen()));
        digest::seen(&entries.collect::<String>())
    }
}

/// Why a page was not recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It would no longer do what the caller saw, but this.
    #[error("what the recovery would do has changed since the dry run")]
    Changed(RecoveredPage),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<Q: Queue> Engine<Q> {
    /// Recovers at most `max` pending entries that match, oldest first. Two that run at once recover each entry once: the second one finds it
    /// closed. After an error of the database the page ends.
    pub async fn recover_entries(
        self: &Arc<Self>,
        filter: &DlqFilter,
        after: Option<&EntryPosition>,
        max: u32,
        by: &By,
        dry_run: bool,
    ) -> Result<RecoveredPage, StoreError> {
        let MatchingEntries { entries, next } = self.store().matching_entries(filter, after, max).await?;
        let condition = || Precondition { dry_run, seen: None };
        Ok(self.recover_each(entries.into_iter().map(|entry| (entry, condition())).collect(), next, by).await)
    }

    /// Recovers a page if that still does what a dry run of it said, by [`RecoveredPage::seen`]. Entries that change meanwhile fail.
    pub async fn recover_seen(
        self: &Arc<Self>,
        filter: &DlqFilter,
        after: Option<&EntryPosition>,
        max: u32,
        by: &By,
        seen: &str,
    ) -> Result<RecoveredPage, RecoverError> {
        let now = self.recover_entries(filter, after, max, by, true).await?;
        if now.seen() != seen {
            return Err(RecoverError::Changed(now));
        }
        // What was to be skipped and can be recovered meanwhile was not seen, either.
        let condition = |recovery: Recovery| Precondition { dry_run: false, seen: Some(recovery.seen().to_owned()) };
        let entries = now.items.into_iter().map(|(entry, recovery)| (entry, condition(recovery))).collect();
        Ok(self.recover_each(entries, now.next, by).await)
    }

    async fn recover_each(
        self: &Arc<Self>,
        entries: Vec<(MatchingEntry, Precondition)>,
        next: Option<EntryPosition>,
        by: &By,
    ) -> RecoveredPage {
        let mut page = RecoveredPage { items: Vec::new(), next };
        for (entry, condition) in entries {
            let recovery = self.recover_entry(&entry, by, condition).await;
            let failed = matches!(recovery, Recovery::Failed(_));
            if failed {
                page.next = Some(entry.after.clone());
            }
            page.items.push((entry, recovery));
            if failed {
                break;
            }
        }
        page
    }

    async fn recover_entry(self: &Arc<Self>, entry: &MatchingEntry, by: &By, condition: Precondition) -> Recovery {
        let action = OperatorAction::RecoverTask { entry: entry.dlq_entry_id };
        match self.operate((entry.task, None), action.clone(), by.clone(), condition).await {
            Ok(effects) => {
                // What was done is not undone because nobody can say what spoke against it.
                let warnings = self.warnings((entry.task, None), &action, &effects).await.unwrap_or_default();
                Recovery::Recovered(effects, warnings)
            }
            Err(OperatorError::NotFound) => Recovery::Skipped("the entry is closed already, or its task is gone".into()),
            Err(OperatorError::Conflict { step, state }) => Recovery::Skipped(why_not(step.is_some(), &state)),
            Err(error) => Recovery::Failed(error.to_string()),
        }
    }
}

/// Why nothing is to be done about a task that runs, by the state of its step, or that has ended.
fn why_not(is_step: bool, state: &str) -> String {
    match (is_step, state) {
        (true, "enqueued") => {
            "its step is with a queue or a worker and runs when that takes it; if its message is a dead letter, redrive that"
                .into()
        }
        (true, "in_progress") => "its step runs; resolve it, or cancel the task".into(),
        (true, state) => format!("its step is {state}, and its task runs"),
        (false, "running") => "the task runs".into(),
        (false, state) => format!("the task is {state}"),
    }
}
