//! Evaluate and sweep: dispatch what time makes due, and what was lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tasker_domain::{
    Policy, Verdict,
    decide::{decide, decide_failure, decide_lost},
};
use tasker_queue::Queue;
use tasker_store::{Change, Completion, Lost, StoreError};
use tasker_wire::{Answer, Evaluate, Failure, Lease, Outcome, limits};

use crate::{Engine, work::Work};

/// A sweep that takes so long was paused, or the database was: much may have been answered meanwhile.
const PAUSE: Duration = Duration::from_secs(5);

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Dispatched steps: due retries, repeated dispatches, and steps that a pause had held.
    pub sent: usize,
    /// Started steps past their deadline, and callbacks that did not arrive.
    pub overdue: usize,
}

impl<Q: Queue> Engine<Q> {
    /// Dispatches the retries that are due. A wake-up that is early is sent again for the remaining time.
    pub async fn evaluate(self: &Arc<Self>, wake_ups: Vec<Evaluate>) -> Result<(), StoreError> {
        self.to_its_end(|engine| async move {
            let leases: Vec<Lease> = wake_ups.iter().map(|e| Lease { step: e.step_id, number: e.lease }).collect();
            let changes = match engine.store.dispatch(&leases, engine.dispatch_settings()).await {
                Err(StoreError::TimedOut(_)) => {
                    // The sweep, which waits for no lock, finds those that are locked.
                    let locked = engine.locked_steps(&leases).await?;
                    let free: Vec<Lease> = leases.into_iter().filter(|lease| !locked.contains(&lease.step)).collect();
                    engine.store.dispatch(&free, engine.dispatch_settings()).await?
                }
                changes => changes?,
            };
            engine.dispatch(Work::of(changes)).await.map(drop)
        })
        .await
    }

    /// Dispatches a bounded number of steps that time made due, or whose messages were lost. Returns zeros when nothing is left.
    pub async fn sweep(self: &Arc<Self>) -> Result<Swept, StoreError> {
        self.to_its_end(|engine| async move {
            let begun = Instant::now();
            let changes = engine.store.sweep(limits::SWEEP_ROWS, engine.dispatch_settings()).await?;
            let (mut overdue, mut rest) = (Vec::new(), Vec::new());
            for change in changes {
                match change {
                    Change::Lost(lost) | Change::Expired(lost) => overdue.push(lost),
                    other => rest.push(other),
                }
            }
            let sent = rest.iter().filter(|c| matches!(c, Change::Run(_) | Change::RunKey(_))).count();
            // First what is already dispatched, so no failure below can lose it.
            engine.dispatch(Work::of(rest)).await?;
            let mut work = Work::default();
            if !overdue.is_empty() {
                if begun.elapsed() > PAUSE {
                    engine.was_paused(begun.elapsed());
                }
                let grace = engine.grace().await?;
                for lost in overdue {
                    work.record(engine.overdue(&lost, grace).await?);
                }
            }
            let answers = engine.dispatch(work).await?;
            // A locked step is due again at once; only a later call may look at it.
            let overdue = answers.iter().filter(|answer| **answer != Answer::Locked).count();
            Ok(Swept { sent, overdue })
        })
        .await
    }

    /// The verdict on a step past its deadline. If only a jump of the clock or a pause may have made it late, it gets its time again.
    async fn overdue(&self, lost: &Lost, grace: Option<Duration>) -> Result<Completion<'static>, StoreError> {
        let template = self.templates.get(&self.store, &lost.template).await?;
        let step = template.as_ref().and_then(|template| template.step(lost.lease.step));
        let verdict = match (step, grace) {
            (None, _) => look_later(lost),
            (Some(_), Some(length)) if lost.awaits_callback => Verdict::AwaitCallback(length.as_millis() as u64),
            (Some(step), Some(_)) => decide(&Outcome::Started {}, &step.policy, lost.attempt, 0.0),
            (Some(step), None) => decide_overdue(lost, &step.policy, self.jitter(lost.lease)),
        };
        let failure_effect = step.map(|step| step.policy.failure_effect).unwrap_or_default();
        Ok(Completion { if_due: true, failure_effect, ..Completion::by_orchestrator(lost.lease, lost.attempt, verdict) })
    }
}

fn decide_overdue(lost: &Lost, policy: &Policy, jitter: f64) -> Verdict<'static> {
    if lost.awaits_callback {
        let failure = Failure::retryable("timeout", "the callback that the handler announced did not come in time");
        return decide_failure(failure, policy, lost.attempt, jitter);
    }
    decide_lost(lost.losses + 1, policy, lost.attempt, jitter)
}

/// Postpones a step whose template is missing, because nothing can be decided about it. Otherwise a few hundred such steps
/// would occupy every sweep.
fn look_later(lost: &Lost) -> Verdict<'static> {
    tracing::error!(task_id = %lost.lease.step.task, template_id = %lost.template.template_id, "a task's template is missing");
    let ms = limits::HOLD_MS as u64;
    if lost.awaits_callback { Verdict::AwaitCallback(ms) } else { Verdict::Started(ms) }
}
