//! The facts that explain a task.

use std::iter::zip;

use tasker_domain::{
    explain::{BatchFacts, Ending, EntryFacts, PauseFacts, Paused, StepFacts, TaskFacts, ThresholdFacts},
    staleness::Entered,
    token::TemplateRef,
};
use tasker_wire::{TaskId, ids::position, limits};
use tokio_postgres::Row;

use crate::{
    Store, StoreError,
    change::{step_state, task_state},
    row::from_row,
    staleness,
    store::sql,
    task::column,
};

impl Store {
    /// What explains a task, with at most [`limits::EXPLAINED_STEPS`] of its steps, and its template. `None` if there is no such task.
    pub async fn explain(&self, task: TaskId) -> Result<Option<(TaskFacts, TemplateRef)>, StoreError> {
        let rows = self.read(sql!("explain"), &[&task.uuid(), &limits::EXPLAINED_STEPS]).await?;
        Ok(rows.first().map(|row| (facts(row), from_row!(row, TemplateRef { template_id, environment }))))
    }
}

fn facts(row: &Row) -> TaskFacts {
    let ended = row.get::<_, Option<String>>("ended_by").map(|actor| Ending { actor, reason: row.get("ended_reason") });
    let open = zip(column::<i32>(row, "open_no"), column::<i32>(row, "open_steps"));
    from_row!(row, TaskFacts {
        now, namespace, name, created_at, finished_at, total_steps, active_steps, failed_steps, tolerated;
        state: task_state(row.get("state")),
        ended: ended,
        pauses: pauses(row),
        entries: entries(row),
        bounds: bounds(row),
        batches: batches(row),
        open: open.filter_map(|(no, steps)| Some((position(no)?, steps))).collect(),
        steps: steps(row),
    })
}

fn pauses(row: &Row) -> Vec<PauseFacts> {
    let (by, reason): (Vec<Option<String>>, Vec<Option<String>>) = (column(row, "pause_by"), column(row, "pause_reason"));
    let since = column(row, "pause_since");
    let pause = |(at, what): (usize, &str)| PauseFacts {
        of: match what {
            "task" => Paused::Task,
            "template" => Paused::Template,
            _ => Paused::Namespace,
        },
        since: since[at],
        actor: by[at].clone().unwrap_or_default(),
        reason: reason[at].clone().unwrap_or_default(),
    };
    column(row, "pause_of").into_iter().enumerate().map(pause).collect()
}

fn entries(row: &Row) -> Vec<EntryFacts> {
    let (no, detail): (Vec<_>, Vec<String>) = (column(row, "entry_no"), column(row, "entry_detail"));
    let since = column(row, "entry_since");
    let entry = |(at, reason): (usize, _)| EntryFacts { no: no[at], reason, detail: detail[at].clone(), since: since[at] };
    column(row, "entry_reason").into_iter().enumerate().map(entry).collect()
}

/// Thresholds that this version cannot read have no effect.
fn bounds(row: &Row) -> Option<ThresholdFacts> {
    let lifecycle = serde_json::from_str(row.get::<_, Option<&str>>("lifecycle")?).ok()?;
    let (no, lease, at_ms) = (column(row, "entered_no"), column(row, "entered_lease"), column(row, "entered_ms"));
    let entered = |(at, threshold)| Entered { threshold, no: no[at], lease: lease[at], at_ms: at_ms[at] };
    let entered = column(row, "entered_detail").into_iter().enumerate().map(entered).collect();
    Some(ThresholdFacts { lifecycle, facts: staleness::facts(row), entered })
}

fn batches(row: &Row) -> Vec<BatchFacts> {
    let (parallelism, open) = (column(row, "batch_parallelism"), column(row, "batch_open"));
    let batch = |(at, no): (usize, _)| Some(BatchFacts { pattern: position(no)?, parallelism: parallelism[at], open: open[at] });
    column(row, "batch_no").into_iter().enumerate().filter_map(batch).collect()
}

fn steps(row: &Row) -> Vec<StepFacts> {
    let (names, states): (Vec<String>, Vec<&str>) = (column(row, "s_name"), column(row, "s_state"));
    let (attempt, max_attempts) = (column(row, "s_attempt"), column(row, "s_max_attempts"));
    let (parents, pending_parents) = (column(row, "s_parents"), column(row, "s_pending_parents"));
    let (tolerated, awaits_callback) = (column(row, "s_tolerated"), column(row, "s_awaits_callback"));
    let (wake_at, held_at) = (column(row, "s_wake_at"), column(row, "s_held_at"));
    let (dispatched_at, started_at) = (column(row, "s_dispatched_at"), column(row, "s_started_at"));
    let (resends, losses) = (column(row, "s_resends"), column(row, "s_losses"));
    let checkpoints: Vec<Option<String>> = column(row, "s_checkpoint");
    let (kinds, messages): (Vec<Option<String>>, Vec<Option<String>>) = (column(row, "s_error_type"), column(row, "s_message"));
    let hint_seconds = column(row, "s_hint");
    let step = |(at, no): (usize, _)| StepFacts {
        no,
        name: names[at].clone(),
        state: step_state(states[at]),
        attempt: attempt[at],
        max_attempts: max_attempts[at],
        parents: parents[at],
        pending_parents: pending_parents[at],
        tolerated: tolerated[at],
        awaits_callback: awaits_callback[at],
        wake_at: wake_at[at],
        held_at: held_at[at],
        dispatched_at: dispatched_at[at],
        started_at: started_at[at],
        resends: resends[at],
        losses: losses[at],
        checkpoint: checkpoints[at].clone(),
        failure: kinds[at].clone().map(|kind| [kind, messages[at].clone().unwrap_or_default()]),
        hint_seconds: hint_seconds[at],
    };
    column(row, "s_no").into_iter().enumerate().map(step).collect()
}
