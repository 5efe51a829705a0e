//! What only time or recovery makes ready.

use std::sync::Arc;

use tasker_domain::{Policy, Verdict, decide, decide::decide_lost};
use tasker_queue::Queue;
use tasker_store::{Change, Completion, Lost, StoreError};
use tasker_wire::{
    Evaluate, limits,
    message::Lease,
    outcome::{Failure, Outcome},
};

use crate::{Engine, to_its_end};

/// What a sweep took up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Messages that were sent: due retries, re-sends, steps that a pause had held.
    pub sent: usize,
    /// Started steps past their deadline, and callbacks that did not come.
    pub overdue: usize,
}

impl<Q: Queue> Engine<Q> {
    /// Hands over the retries that are due; what came early is sent again with the remainder.
    pub async fn evaluate(self: &Arc<Self>, wake_ups: Vec<Evaluate>) -> Result<(), StoreError> {
        let engine = self.clone();
        to_its_end(async move {
            let keys: Vec<Lease> = wake_ups.iter().map(|e| Lease { step: e.step_id, number: e.lease }).collect();
            let changes = engine.track(engine.store.dispatch(&keys, engine.hand_over_settings()).await)?;
            engine.dispatch(changes).await
        })
        .await
    }

    /// Takes up what time has made ready, or somebody lost. Bounded; returns zeros when there is nothing left.
    pub async fn sweep(self: &Arc<Self>) -> Result<Swept, StoreError> {
        let engine = self.clone();
        to_its_end(async move {
            let changes = engine.track(engine.store.sweep(limits::SWEEP_ROWS, engine.hand_over_settings()).await)?;
            let (mut silent, mut rest) = (Vec::new(), Vec::new());
            for change in changes {
                match change {
                    Change::Lost(lost) => silent.push((lost, lost_worker as Overdue)),
                    Change::Expired(lost) => silent.push((lost, expired_callback as Overdue)),
                    other => rest.push(other),
                }
            }
            let sent = rest.iter().filter(|c| matches!(c, Change::Run(_) | Change::RunKey(_))).count();
            let swept = Swept { sent, overdue: silent.len() };
            // First what is handed over already: nothing that fails below may strand it.
            engine.dispatch(rest).await?;
            let mut overdue = Vec::new();
            for (lost, decide) in silent {
                overdue.push(engine.overdue(&lost, decide).await?);
            }
            overdue.sort_by_key(|c: &Completion| c.key);
            for batch in chunks(overdue) {
                engine.apply(batch).await?;
            }
            Ok(swept)
        })
        .await
    }

    async fn overdue(&self, lost: &Lost, decide: Overdue) -> Result<Completion, StoreError> {
        let plan = self.plans.get(&self.store, &lost.plan).await?;
        let step = plan.as_ref().and_then(|plan| plan.step(lost.key.step));
        let verdict = match step {
            Some(step) => decide(lost, &step.policy, self.jitter(lost.key)),
            None => look_later(lost),
        };
        Ok(Completion {
            key: lost.key,
            attempt: lost.attempt,
            verdict,
            metadata: None,
            digest: 0,
            worker: "tasker".into(),
            duration_ms: 0,
            if_due: true,
        })
    }
}

/// What follows from a deadline that passed.
type Overdue = fn(&Lost, &Policy, f64) -> Verdict;

/// Without its template nothing can be decided about a step. It must not stay at the head of what a sweep finds, or a few
/// hundred of them keep every sweep from all others.
fn look_later(lost: &Lost) -> Verdict {
    tracing::error!(task_id = %lost.key.step.task, template_id = %lost.plan.template_id, "a task's template is missing");
    let ms = limits::HOLD_MS as u64;
    if lost.awaits_callback { Verdict::AwaitCallback(ms) } else { Verdict::Started(ms) }
}

fn lost_worker(lost: &Lost, policy: &Policy, jitter: f64) -> Verdict {
    decide_lost(lost.losses + 1, policy, lost.attempt, jitter)
}

fn expired_callback(lost: &Lost, policy: &Policy, jitter: f64) -> Verdict {
    let failure = Failure::retryable("timeout", "the callback that the handler announced did not come in time");
    decide(&Outcome::Failure(failure), policy, lost.attempt, jitter)
}

fn chunks(mut all: Vec<Completion>) -> impl Iterator<Item = Vec<Completion>> {
    std::iter::from_fn(move || {
        let rest = all.split_off(all.len().min(limits::COMPLETION_BATCH));
        let chunk = std::mem::replace(&mut all, rest);
        (!chunk.is_empty()).then_some(chunk)
    })
}
