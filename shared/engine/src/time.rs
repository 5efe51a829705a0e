//! What only time or recovery makes ready.

use std::sync::Arc;

use tasker_domain::{
    Evaluate, Policy, Queue, Verdict, decide, limits,
    message::HandOver,
    outcome::{Failure, Outcome, decide_lost},
};
use tasker_store::{Change, Completion, Lost, StoreError};

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
            let keys: Vec<HandOver> =
                wake_ups.iter().map(|e| HandOver { task: e.step_id.task, no: e.step_id.no, lease: e.lease }).collect();
            let changes = engine.track(engine.store.hand_over(&keys, engine.hand_over_settings()).await)?;
            engine.dispatch(changes).await
        })
        .await
    }

    /// Takes up what time has made ready, or somebody lost. Bounded; returns zeros when there is nothing left.
    pub async fn sweep(self: &Arc<Self>) -> Result<Swept, StoreError> {
        let engine = self.clone();
        to_its_end(async move {
            let changes = engine.track(engine.store.sweep(limits::SWEEP_ROWS, engine.hand_over_settings()).await)?;
            let (mut overdue, mut rest) = (Vec::new(), Vec::new());
            for change in changes {
                match change {
                    Change::Lost(lost) => overdue.extend(engine.overdue(lost, lost_worker).await?),
                    Change::Expired(lost) => overdue.extend(engine.overdue(lost, expired_callback).await?),
                    other => rest.push(other),
                }
            }
            let sent = rest.iter().filter(|c| matches!(c, Change::Run(_) | Change::RunKey(_))).count();
            let swept = Swept { sent, overdue: overdue.len() };
            engine.dispatch(rest).await?;
            overdue.sort_by_key(|c: &Completion| c.key);
            for batch in chunks(overdue) {
                engine.apply(batch).await?;
            }
            Ok(swept)
        })
        .await
    }

    async fn overdue(&self, lost: Lost, decide: fn(&Lost, &Policy, f64) -> Verdict) -> Result<Option<Completion>, StoreError> {
        let Some(plan) = self.plans.get(&self.store, &lost.plan).await? else {
            return Ok(None);
        };
        let Some(step) = plan.step(lost.key.task.step(lost.key.no)) else {
            return Ok(None);
        };
        let verdict = decide(&lost, &step.policy, self.jitter(lost.key));
        Ok(Some(Completion {
            key: lost.key,
            attempt: lost.attempt,
            verdict,
            digest: 0,
            worker: "tasker".into(),
            duration_ms: 0,
            if_due: true,
        }))
    }
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
