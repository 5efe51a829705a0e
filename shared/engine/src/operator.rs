//! The operator actions.

use std::sync::Arc;

use serde_json::value::RawValue;
use tasker_domain::json;
use tasker_queue::Queue;
use tasker_store::{Change, StoreError};
use tasker_wire::{Fault, Faults, StepId, TaskId, limits};

use crate::{Engine, work::Work};

/// Who acts, and why. Both are written to the audit log.
#[derive(Debug, Clone)]
pub struct By {
    pub actor: String,
    pub reason: String,
    /// More data, as JSON. Kept if the action resolves a step.
    pub metadata: Option<Box<RawValue>>,
}

/// Why an action was rejected.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("not found")]
    NotFound,
    /// Its state does not allow the action.
    #[error("{} is {state}", step.map_or_else(|| "the task".to_owned(), |s| format!("step {s}")))]
    Conflict {
        /// The step whose state does not allow it. `None`: the task's state does not.
        step: Option<StepId>,
        state: String,
    },
    /// The given result cannot be stored.
    #[error("{0}")]
    Invalid(Faults),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<Q: Queue> Engine<Q> {
    /// Cancels a running task. Has no effect on a cancelled task; any other finished task is a conflict.
    pub async fn cancel_task(self: &Arc<Self>, task: TaskId, by: By) -> Result<(), OperatorError> {
        self.to_its_end(|engine| async move {
            let changes = engine.store.cancel_task(task, &by.actor, &by.reason).await?;
            engine.carry_out(changes).await?;
            if let Some(queue) = &engine.settings.in_process {
                queue.forget(task);
            }
            Ok(())
        })
        .await
    }

    /// Resets the attempts of a step that failed, waits for a retry or was cancelled, and dispatches it.
    pub async fn retry_step(self: &Arc<Self>, step: StepId, by: By) -> Result<(), OperatorError> {
        self.to_its_end(|engine| async move {
            let by = (by.actor.as_str(), by.reason.as_str());
            let changes = engine.store.retry_step(step.task, step.no, by, engine.dispatch_settings()).await?;
            engine.carry_out(changes).await
        })
        .await
    }

    /// Resolves an unfinished or failed step. Its children receive `result`, or null.
    pub async fn resolve_step(
        self: &Arc<Self>,
        step: StepId,
        result: Option<Box<RawValue>>,
        by: By,
    ) -> Result<(), OperatorError> {
        refuse("/completion_data/result", result.as_deref(), limits::RESULT_BYTES)?;
        refuse("/completion_data/metadata", by.metadata.as_deref(), limits::METADATA_BYTES)?;
        self.to_its_end(|engine| async move {
            let texts = (result.as_deref().map(RawValue::get), by.metadata.as_deref().map(RawValue::get));
            let by = (by.actor.as_str(), by.reason.as_str());
            let changes = engine.store.resolve_step((step.task, step.no), texts, by, engine.dispatch_settings()).await?;
            engine.carry_out(changes).await?;
            if let Some(queue) = &engine.settings.in_process {
                queue.forget_step(step);
            }
            Ok(())
        })
        .await
    }

    async fn carry_out(&self, changes: Vec<Change>) -> Result<(), OperatorError> {
        match changes.first() {
            Some(Change::Done(_)) => {}
            Some(Change::Conflict(step, state)) => return Err(OperatorError::Conflict { step: *step, state: state.clone() }),
            _ => return Err(OperatorError::NotFound),
        }
        self.dispatch(Work::of(changes)).await?;
        Ok(())
    }
}

/// Rejects a text that is too large or cannot be stored.
fn refuse(place: &str, text: Option<&RawValue>, bytes: usize) -> Result<(), OperatorError> {
    let Some(text) = text.map(RawValue::get) else { return Ok(()) };
    if text.len() > bytes {
        let message = format!("has {} bytes; at most {bytes} are kept", text.len());
        return Err(OperatorError::Invalid(Fault::new(place, message).into()));
    }
    json::check(text).map_err(|f| OperatorError::Invalid(Fault::new(format!("{place}{}", f.place), f.message).into()))
}
