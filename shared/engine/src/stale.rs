//! Tasks that take longer than their template allows. What a defect made of their rows is repaired first; only then is a task stale.

use std::sync::{Arc, atomic::Ordering};

use serde_json::{json, value::RawValue};
use tasker_domain::{
    staleness::{Wait, stale},
    template::{Lifecycle, StalenessAction},
};
use tasker_queue::Queue;
use tasker_store::{StaleEntry, StalePosition, StoreError, WatchedTask};
use tasker_wire::TaskId;

use crate::{By, Engine, OperatorAction, OperatorError, Precondition};

/// What a look at stale tasks did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StaleLook {
    /// Tasks whose rows were wrong.
    pub repaired: usize,
    /// Entries that were opened; the tasks go on.
    pub entered: usize,
    /// Tasks that were ended.
    pub expired: usize,
}

impl<Q: Queue> Engine<Q> {
    /// Looks at all running tasks of templates with thresholds, and closes entries that are settled. It stops between two pages once
    /// `enough` says so; the next look begins anew.
    pub async fn look_for_stale(self: &Arc<Self>, enough: impl Fn() -> bool) -> Result<StaleLook, StoreError> {
        let mut look = StaleLook::default();
        let mut position = self.store.has_lifecycles().await?.then(StalePosition::start);
        while let Some(from) = position.take().filter(|_| !enough()) {
            let (watched, next) = self.store.watched_tasks(&from, false).await?;
            position = next;
            let stale: Vec<(WatchedTask, Lifecycle, Wait)> = watched.into_iter().filter_map(stale_one).collect();
            self.act_on_stale(stale, &mut look).await?;
        }
        self.store.close_dlq_entries().await?;
        Ok(look)
    }

    /// Tasks whose rows were wrong and have been repaired, since this process began.
    pub fn repaired_tasks(&self) -> u64 {
        self.repaired.load(Ordering::Relaxed)
    }

    async fn act_on_stale(
        self: &Arc<Self>,
        stale: Vec<(WatchedTask, Lifecycle, Wait)>,
        look: &mut StaleLook,
    ) -> Result<(), StoreError> {
        if stale.is_empty() {
            return Ok(());
        }
        let tasks: Vec<TaskId> = stale.iter().map(|(watched, ..)| watched.task).collect();
        let unsound = self.store.unsound(&tasks).await?;
        for (task, wrong) in &unsound {
            look.repaired += usize::from(self.repair(*task, wrong).await?);
        }
        for (watched, lifecycle, wait) in stale {
            if unsound.iter().any(|(task, _)| *task == watched.task) {
                // Its clocks begin anew.
                continue;
            }
            match lifecycle.staleness_action {
                StalenessAction::Dlq => look.entered += usize::from(self.enter(&watched, &wait).await?),
                StalenessAction::Error => look.expired += usize::from(self.expire(&watched, wait).await?),
                StalenessAction::None => {}
            }
        }
        Ok(())
    }

    async fn repair(self: &Arc<Self>, task: TaskId, wrong: &[String]) -> Result<bool, StoreError> {
        let wrong = wrong.join("; ");
        if !self.act_alone(task, OperatorAction::RepairTask, wrong.clone()).await? {
            return Ok(false);
        }
        let repaired = self.repaired.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(task_id = %task, repaired, "the rows of a stale task were wrong, which is a defect, and are repaired: {wrong}");
        Ok(true)
    }

    async fn enter(&self, watched: &WatchedTask, wait: &Wait) -> Result<bool, StoreError> {
        let about = about(watched, wait);
        let is_new = self.store.enter_stale(StaleEntry { task: watched.task, wait, about: about.get() }).await?;
        if is_new {
            tracing::warn!(task_id = %watched.task, "a task is stale: {}", sentence(watched, wait));
        }
        Ok(is_new)
    }

    async fn expire(self: &Arc<Self>, watched: &WatchedTask, wait: Wait) -> Result<bool, StoreError> {
        let reason = sentence(watched, &wait);
        let action = OperatorAction::ExpireTask { stale: about(watched, &wait) };
        let expired = self.act_alone(watched.task, action, reason.clone()).await?;
        if expired {
            tracing::warn!(task_id = %watched.task, "a stale task was ended: {reason}");
        }
        Ok(expired)
    }

    /// An action of the orchestrator itself. False: the task has moved on meanwhile, or is locked.
    async fn act_alone(self: &Arc<Self>, task: TaskId, action: OperatorAction, reason: String) -> Result<bool, StoreError> {
        let by = By { actor: "tasker".into(), reason, metadata: None };
        match self.operate((task, None), action, by, Precondition::default()).await {
            Ok(_) => Ok(true),
            // Another session has locked it; the next look tries again.
            Err(OperatorError::Store(StoreError::TimedOut(_))) => Ok(false),
            Err(OperatorError::Store(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }
}

fn stale_one(watched: WatchedTask) -> Option<(WatchedTask, Lifecycle, Wait)> {
    let lifecycle = lifecycle_of(&watched)?;
    let wait = stale(&lifecycle, &watched.facts)?;
    Some((watched, lifecycle, wait))
}

/// The thresholds of a task's template. Those that this version cannot read have no effect.
pub fn lifecycle_of(watched: &WatchedTask) -> Option<Lifecycle> {
    serde_json::from_str(watched.lifecycle.get())
        .inspect_err(
            |error| tracing::error!(task_id = %watched.task, %error, "the lifecycle of a stored template cannot be read"),
        )
        .ok()
}

fn sentence(watched: &WatchedTask, wait: &Wait) -> String {
    let what = match wait.step {
        Some(step) => format!("{} of step {}", wait.threshold.state(), watched.step_name(step)),
        None => "running".to_owned(),
    };
    let minutes = |ms: i64| ms / 60_000;
    format!("{what} for {} min, and {} allows {}", minutes(wait.waited_ms), wait.threshold.key(), minutes(wait.allowed_ms))
}

/// What the entry tells beside the snapshot of its task, and what the database compares before it ends a task.
fn about(watched: &WatchedTask, wait: &Wait) -> Box<RawValue> {
    let about = json!({
        "detail": wait.threshold.key(), "no": wait.step.map(|step| step.no), "lease": wait.step.map(|step| step.lease),
        "since_ms": wait.since_ms, "waited_ms": wait.waited_ms, "allowed_ms": wait.allowed_ms,
        "message": sentence(watched, wait), "facts": watched.seen,
    });
    serde_json::value::to_raw_value(&about).expect("numbers and texts serialize")
}
