//! Recovers what DLQ entries are about: each entry by an action of its own, so that one which cannot be recovered holds up no other.

use std::sync::Arc;

use tasker_queue::Queue;
use tasker_store::{EntryPosition, MatchingEntries, MatchingEntry, StoreError};
use tasker_wire::rest::DlqFilter;

use crate::{By, Engine, OperatorAction, OperatorError, Precondition};

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
    /// So many steps were set back or dispatched, or would be.
    Recovered(usize),
    /// Nothing is to be done, for this reason.
    Skipped(String),
    /// Nothing was done, because of this error.
    Failed(String),
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
        let mut page = RecoveredPage { items: Vec::new(), next };
        for entry in entries {
            let recovery = self.recover_entry(&entry, by, dry_run).await;
            let failed = matches!(recovery, Recovery::Failed(_));
            if failed {
                page.next = Some(entry.after.clone());
            }
            page.items.push((entry, recovery));
            if failed {
                break;
            }
        }
        Ok(page)
    }

    async fn recover_entry(self: &Arc<Self>, entry: &MatchingEntry, by: &By, dry_run: bool) -> Recovery {
        let action = OperatorAction::RecoverTask { entry: entry.dlq_entry_id };
        match self.operate((entry.task, None), action, by.clone(), Precondition { dry_run, seen: None }).await {
            Ok(effects) => Recovery::Recovered(effects.steps.len()),
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
