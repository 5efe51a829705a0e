//! After the commit: what must be sent is sent, and who waits is woken.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tasker_domain::{Verdict, token};
use tasker_queue::{Outgoing, Queue, SendError, SendResult};
use tasker_store::{Change, Completion, RunRow, StoreError, TaskHeader};
use tasker_wire::{
    Evaluate, RunStep, limits,
    message::{Lease, VERSION},
    outcome::Failure,
};

use crate::{BODIES, Engine, templates::LoadedTemplate};

/// When a hand-over that nobody answered is sent again; doubles with each time.
const RESEND_MS: i64 = 15 * 60 * 1000;
/// The longest pause between two re-sends.
const RESEND_MAX_MS: i64 = 6 * 3600 * 1000;

impl<Q: Queue> Engine<Q> {
    /// Sends what changes of the database ask for. What is lost here is sent by a sweep, or by recovery.
    pub(crate) async fn dispatch(self: &Arc<Self>, changes: Vec<Change>) -> Result<(), StoreError> {
        let dispatched = self.dispatch_here(changes).await;
        if dispatched.is_err() {
            // Whatever the error was: what is handed over and not sent is known to nobody.
            self.lost_track.store(true, Ordering::SeqCst);
        }
        dispatched
    }

    async fn dispatch_here(self: &Arc<Self>, mut changes: Vec<Change>) -> Result<(), StoreError> {
        loop {
            let (messages, unloaded, mut too_large) = self.messages(changes).await?;
            too_large.extend(self.send(messages).await);
            self.load_and_send(unloaded).await?;
            if too_large.is_empty() {
                return Ok(());
            }
            // A sweep answers two lists, each ascending; and one that sends again may meet the hand-over that it had sent.
            too_large.sort_by_key(|c| c.key);
            too_large.dedup_by_key(|c| c.key.step);
            // Failing these steps may make others ready (never their children), so go on with the answer.
            changes = self.track(self.store.complete(&too_large, self.hand_over_settings()).await)?;
        }
    }

    /// Loads hand-overs of which only the keys are known, a page at a time, and sends them.
    pub(crate) async fn load_and_send(self: &Arc<Self>, keys: Vec<Lease>) -> Result<(), StoreError> {
        for page in keys.chunks(BODIES) {
            let changes = self.track(self.store.messages(page, limits::INPUT_BYTES as i64).await)?;
            Box::pin(self.dispatch(changes)).await?;
        }
        Ok(())
    }

    /// Makes messages of changes. Wakes who waits for what finished. Answers also what is still to be loaded and what cannot run.
    pub(crate) async fn messages(
        &self,
        changes: Vec<Change>,
    ) -> Result<(Vec<Outgoing>, Vec<Lease>, Vec<Completion>), StoreError> {
        let mut headers: HashMap<tasker_wire::TaskId, (TaskHeader, Arc<LoadedTemplate>)> = HashMap::new();
        let (mut messages, mut unloaded, mut too_large) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Finished(task, state) => {
                    tracing::debug!(task_id = %task, %state, "task finished");
                    self.waiters.wake(task);
                }
                Change::Task(header) => {
                    let Some(plan) = self.track(self.plans.get(&self.store, &header.plan).await)? else {
                        tracing::error!(task_id = %header.task, template_id = %header.plan.template_id, "a task's template is missing");
                        continue;
                    };
                    headers.insert(header.task, (header, plan));
                }
                Change::Run(row) => {
                    let Some((header, plan)) = headers.get(&row.key.step.task) else { continue };
                    if row.result_bytes > limits::INPUT_BYTES as i64 {
                        too_large.push(input_too_large(&row));
                        continue;
                    }
                    messages.extend(self.run_step(row, header, plan));
                }
                Change::RunKey(key) => unloaded.push(key),
                Change::Early(key, ms) => messages.push(wake_up(key, ms)),
                _ => {}
            }
        }
        Ok((messages, unloaded, too_large))
    }

    fn run_step(&self, row: RunRow, header: &TaskHeader, plan: &LoadedTemplate) -> Option<Outgoing> {
        let step_id = row.key.step;
        let step = plan.step(step_id)?;
        let results = row.results.as_deref().map(|r| serde_json::from_str(r).expect("the database answers a JSON object"));
        let message = RunStep {
            v: VERSION,
            task_id: header.task,
            step_id,
            step_name: step.name.clone(),
            lease: row.key.number,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            token: token::sign(&header.plan, row.key, row.attempt, &self.settings.signing_keys),
            timeout_seconds: step.policy.timeout_seconds,
            report_start: step.report_start,
            correlation_id: header.correlation_id,
            traceparent: header.traceparent.clone(),
            namespace: plan.workflow.namespace.clone(),
            handler: step.handler.clone(),
            context: header.context.clone(),
            dependency_results: results.unwrap_or_default(),
            step_inputs: row.inputs,
            checkpoint: row.checkpoint,
            resend: row.resends,
        };
        let pool = self.pool(step.worker.as_deref(), &plan.workflow.namespace);
        tracing::debug!(
            task_id = %message.task_id,
            step_id = %message.step_id,
            step = message.step_name,
            lease = message.lease,
            attempt = message.attempt,
            correlation_id = %message.correlation_id,
            traceparent = message.traceparent,
            "step handed over"
        );
        Some(Outgoing::RunStep { pool, step: Box::new(message) })
    }

    /// Where a step goes: the pool it names, else that of its namespace, else `default`, else the only one there is.
    fn pool(&self, worker: Option<&str>, namespace: &str) -> String {
        let pools = &self.settings.pools;
        if let Some(named) = worker {
            return named.to_owned();
        }
        if pools.contains(namespace) {
            return namespace.to_owned();
        }
        match pools.iter().next() {
            Some(only) if pools.len() == 1 => only.clone(),
            _ => "default".to_owned(),
        }
    }

    /// Sends, and moves the time of the next look at what the queue accepted, where the queue lives outside this process.
    /// Answers the failures of the steps whose messages no queue can carry.
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Completion> {
        if messages.is_empty() {
            return Vec::new();
        }
        let keys: Vec<Option<(Lease, i64)>> = messages.iter().map(resend_at).collect();
        let attempts: Vec<i32> = messages.iter().map(attempt).collect();
        let results = self.queue.send(messages).await;
        let too_large = |((key, attempt), result): ((&Option<_>, &i32), &SendResult)| match (key, result) {
            (Some((key, _)), Err(e @ SendError::TooLarge { .. })) => Some(cannot_run(*key, *attempt, too_large_for_queue(e))),
            _ => None,
        };
        let too_large: Vec<Completion> = keys.iter().zip(&attempts).zip(&results).filter_map(too_large).collect();
        let mut refused = results.iter().filter_map(|r| r.as_ref().err()).filter(|e| matches!(e, SendError::Refused(_)));
        if let Some(e) = refused.next() {
            let (refused, of) = (1 + refused.count(), results.len());
            tracing::warn!(refused, of, error = %e, "the queue refused messages; a sweep sends them again");
        }
        let accepted: Vec<(Lease, i64)> = keys.into_iter().zip(&results).filter_map(|(k, r)| k.filter(|_| r.is_ok())).collect();
        if self.settings.send_lease.is_some() && !accepted.is_empty() {
            // Should this fail, a sweep sends them once more: the same lease, so it costs a message and nothing else.
            let _ = self.store.sent(&accepted).await;
        }
        too_large
    }
}

/// A wake-up for a retry that is due in so many milliseconds.
pub(crate) fn wake_up(key: Lease, ms: u64) -> Outgoing {
    let wake_up = Evaluate { v: VERSION, step_id: key.step, lease: key.number };
    Outgoing::Evaluate { wake_up, delay: Duration::from_millis(ms) }
}

fn resend_at(message: &Outgoing) -> Option<(Lease, i64)> {
    let Outgoing::RunStep { step: run, .. } = message else { return None };
    let ms = RESEND_MS.saturating_mul(1 << run.resend.clamp(0, 16)).min(RESEND_MAX_MS);
    Some((run.lease(), ms))
}

fn attempt(message: &Outgoing) -> i32 {
    if let Outgoing::RunStep { step: run, .. } = message { run.attempt } else { 0 }
}

fn input_too_large(row: &RunRow) -> Completion {
    let message = format!(
        "the results of its parents have {} bytes together; at most {} are handed to a step. Return references to large data",
        row.result_bytes,
        limits::INPUT_BYTES
    );
    cannot_run(row.key, row.attempt, message)
}

fn too_large_for_queue(error: &SendError) -> String {
    format!("with its context, settings and the results of its parents {error}. Return references to large data")
}

/// The permanent failure of a step that cannot be handed to a worker.
fn cannot_run(key: Lease, attempt: i32, message: String) -> Completion {
    let failure = Failure::permanent("input_too_large", message);
    Completion {
        key,
        attempt,
        verdict: Verdict::Error { failure, tolerated: false },
        metadata: None,
        digest: 0,
        worker: "tasker".into(),
        duration_ms: 0,
        if_due: false,
    }
}
