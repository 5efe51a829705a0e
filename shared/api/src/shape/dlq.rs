//! DLQ entries, their numbers and causes, stale tasks, and what a recovery did.

use tasker_domain::{
    staleness::{Wait, waits},
    template::Lifecycle,
};
use tasker_engine::{RecoveredPage, Recovery, lifecycle_of};
use tasker_store::{EntryCause, EntryCounts, EntryDetail, EntryPosition, MatchingEntry, UrgentEntry, WatchedTask};
use tasker_wire::rest::{
    DlqCause, DlqEntry, DlqInvestigationQueueEntry, DlqStats, RecoverResponse, RecoveredEntry, StalenessMonitoring,
};

use super::naive;

/// The steps of a recovered entry that are listed.
const CHANGED_STEPS: usize = 100;

pub(crate) fn dlq_entry(entry: EntryDetail) -> DlqEntry {
    DlqEntry {
        dlq_entry_uuid: entry.dlq_entry_id,
        task_uuid: entry.task.uuid(),
        original_state: entry.original_state,
        dlq_reason: entry.reason.into(),
        dlq_timestamp: naive(entry.created_at),
        resolution_status: entry.status.into(),
        resolution_timestamp: entry.resolved_at.map(naive),
        resolution_notes: entry.notes,
        resolved_by: entry.resolved_by,
        task_snapshot: entry.snapshot.map(Into::into),
        metadata: entry.metadata.map(Into::into),
        created_at: naive(entry.created_at),
        updated_at: naive(entry.updated_at),
        namespace: entry.namespace,
        template: entry.template,
        step: entry.step,
        reason_detail: entry.reason_detail,
        fingerprint: entry.fingerprint,
    }
}

pub(crate) fn dlq_stats(counts: EntryCounts) -> DlqStats {
    DlqStats {
        dlq_reason: counts.reason.into(),
        total_entries: counts.total,
        pending: counts.pending,
        manually_resolved: counts.manually_resolved,
        permanent_failures: counts.permanently_failed,
        cancelled: counts.cancelled,
        oldest_entry: counts.oldest.map(naive),
        newest_entry: counts.newest.map(naive),
        avg_resolution_time_minutes: counts.resolution_minutes,
    }
}

pub(crate) fn dlq_cause(cause: EntryCause) -> DlqCause {
    DlqCause {
        fingerprint: cause.fingerprint,
        entries: cause.entries,
        namespace: cause.namespace,
        template: cause.template,
        step: cause.step,
        dlq_reason: cause.reason.into(),
        reason_detail: cause.reason_detail,
        first_entry: naive(cause.first),
        last_entry: naive(cause.last),
        dlq_entry_uuid: cause.dlq_entry_id,
        task_uuid: cause.task.uuid(),
    }
}

pub(crate) fn urgent_entry(entry: UrgentEntry) -> DlqInvestigationQueueEntry {
    DlqInvestigationQueueEntry {
        dlq_entry_uuid: entry.dlq_entry_id,
        task_uuid: entry.task.uuid(),
        original_state: entry.original_state,
        dlq_reason: entry.reason.into(),
        dlq_timestamp: naive(entry.created_at),
        minutes_in_dlq: entry.minutes,
        namespace_name: Some(entry.namespace),
        task_name: Some(entry.template),
        current_state: entry.current_state,
        time_in_state_minutes: entry.state_minutes,
        priority_score: entry.priority_score,
    }
}

/// The most urgent of these tasks, each once and by the threshold that is nearest or most exceeded. A task is found by each of its steps.
pub(crate) fn staleness(mut watched: Vec<WatchedTask>, limit: usize) -> Vec<StalenessMonitoring> {
    watched.sort_by_key(|task| task.task.uuid());
    watched.dedup_by_key(|task| task.task.uuid());
    let mut tasks: Vec<(f64, StalenessMonitoring)> =
        watched.iter().filter_map(|task| monitored(task, lifecycle_of(task)?)).collect();
    tasks.sort_by(|(one, a), (other, b)| other.total_cmp(one).then(a.task_uuid.cmp(&b.task_uuid)));
    tasks.into_iter().map(|(_, task)| task).take(limit).collect()
}

fn monitored(task: &WatchedTask, lifecycle: Lifecycle) -> Option<(f64, StalenessMonitoring)> {
    let share = |wait: &Wait| wait.waited_ms as f64 / wait.allowed_ms as f64;
    let waits = waits(&lifecycle, &task.facts);
    let wait = waits.iter().max_by(|one, other| share(one).total_cmp(&share(other)))?;
    let minutes = |ms: i64| i32::try_from(ms / 60_000).unwrap_or(i32::MAX);
    let health = match share(wait) {
        _ if task.facts.is_paused => "healthy",
        _ if wait.is_stale() => "stale",
        0.8.. => "warning",
        _ => "healthy",
    };
    let document = StalenessMonitoring {
        task_uuid: task.task.uuid(),
        namespace_name: Some(task.namespace.clone()),
        task_name: Some(task.name.clone()),
        current_state: wait.threshold.state().to_owned(),
        time_in_state_minutes: minutes(wait.waited_ms),
        task_age_minutes: minutes(task.facts.now_ms - task.created_ms),
        staleness_threshold_minutes: minutes(wait.allowed_ms),
        health_status: health.to_owned(),
        priority: task.priority.unwrap_or(0),
    };
    // A paused task comes last.
    Some((if task.facts.is_paused { -1.0 } else { share(wait) }, document))
}

pub(crate) fn recovered(page: RecoveredPage, applied: bool) -> RecoverResponse {
    let seen = page.seen();
    let next =
        page.next.map(|EntryPosition { before, created_at, dlq_entry_id }| format!("{before}|{created_at}|{dlq_entry_id}"));
    RecoverResponse { applied, seen, items: page.items.into_iter().map(recovered_entry).collect(), next }
}

fn recovered_entry((entry, recovery): (MatchingEntry, Recovery)) -> RecoveredEntry {
    let (outcome, why, effects, warnings) = match recovery {
        Recovery::Recovered(effects, warnings) => ("recovered", None, effects.steps, warnings),
        Recovery::Skipped(why) => ("skipped", Some(why), Vec::new(), Vec::new()),
        Recovery::Failed(why) => ("failed", Some(why), Vec::new(), Vec::new()),
    };
    RecoveredEntry {
        dlq_entry_uuid: entry.dlq_entry_id,
        task_uuid: entry.task.uuid(),
        namespace: entry.namespace,
        template: entry.template,
        step: entry.step,
        dlq_reason: entry.reason.to_string(),
        reason_detail: entry.reason_detail,
        fingerprint: entry.fingerprint,
        outcome: outcome.to_owned(),
        why,
        warnings,
        steps: effects.len(),
        changed: effects.into_iter().take(CHANGED_STEPS).map(super::action::effect).collect(),
    }
}
