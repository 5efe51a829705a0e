//! After the commit: what must be sent is sent, and who waits is woken.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tasker_domain::{
    Destination, Evaluate, Message, Outgoing, Queue, RunStep, Verdict, limits,
    message::{HandOver, VERSION},
    outcome::Failure,
    token::{self, Covered},
};
use tasker_store::{Change, Completion, RunRow, StoreError, TaskHeader};

use crate::{BODIES, Engine, plans::LoadedPlan};

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
            self.send(messages).await;
            self.load_and_send(unloaded).await?;
            if too_large.is_empty() {
                return Ok(());
            }
            // A sweep answers two lists, each ascending.
            too_large.sort_by_key(|c| c.key);
            // Failing these steps may make others ready (never their children), so go on with the answer.
            changes = self.track(self.store.complete(&too_large, self.hand_over_settings()).await)?;
        }
    }

    /// Loads hand-overs of which only the keys are known, a page at a time, and sends them.
    pub(crate) async fn load_and_send(self: &Arc<Self>, keys: Vec<HandOver>) -> Result<(), StoreError> {
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
    ) -> Result<(Vec<Outgoing>, Vec<HandOver>, Vec<Completion>), StoreError> {
        let mut headers: HashMap<tasker_domain::TaskId, (TaskHeader, Arc<LoadedPlan>)> = HashMap::new();
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
                    let Some((header, plan)) = headers.get(&row.key.task) else { continue };
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

    fn run_step(&self, row: RunRow, header: &TaskHeader, plan: &LoadedPlan) -> Option<Outgoing> {
        let step_id = row.key.task.step(row.key.no);
        let step = plan.step(step_id)?;
        let covered = Covered { step: step_id, lease: row.key.lease, attempt: row.attempt };
        let results = row.results.as_deref().map(|r| serde_json::from_str(r).expect("the database answers a JSON object"));
        let message = RunStep {
            v: VERSION,
            task_id: header.task,
            step_id,
            step_name: step.name.clone(),
            lease: row.key.lease,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            token: token::sign(&header.plan, covered, &self.settings.signing_keys),
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
        let to = Destination::Worker(self.pool(step.worker.as_deref(), &plan.workflow.namespace));
        Some(Outgoing { to, message: Message::RunStep(Box::new(message)), delay: Duration::ZERO })
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
    async fn send(&self, messages: Vec<Outgoing>) {
        if messages.is_empty() {
            return;
        }
        let keys: Vec<Option<(HandOver, i64)>> = messages.iter().map(|m| resend_at(&m.message)).collect();
        let results = self.queue.send(messages).await;
        let refused = results.iter().filter(|r| r.is_err()).count();
        if let Some(Err(e)) = results.iter().find(|r| r.is_err()) {
            tracing::warn!(refused, of = results.len(), error = %e, "the queue refused messages; a sweep sends them again");
        }
        let accepted: Vec<(HandOver, i64)> =
            keys.into_iter().zip(&results).filter_map(|(k, r)| k.filter(|_| r.is_ok())).collect();
        if self.queue.send_lease().is_some() && !accepted.is_empty() {
            // Should this fail, a sweep sends them once more: the same lease, so it costs a message and nothing else.
            let _ = self.store.sent(&accepted).await;
        }
    }
}

/// A wake-up for a retry that is due in so many milliseconds.
pub(crate) fn wake_up(key: HandOver, ms: u64) -> Outgoing {
    let message = Message::Evaluate(Evaluate { v: VERSION, step_id: key.task.step(key.no), lease: key.lease });
    Outgoing { to: Destination::Readiness, message, delay: Duration::from_millis(ms) }
}

fn resend_at(message: &Message) -> Option<(HandOver, i64)> {
    let Message::RunStep(run) = message else { return None };
    let ms = RESEND_MS.saturating_mul(1 << run.resend.clamp(0, 16)).min(RESEND_MAX_MS);
    Some((run.hand_over(), ms))
}

fn input_too_large(row: &RunRow) -> Completion {
    let message = format!(
        "the results of its parents have {} bytes together; at most {} are handed to a step. Return references to large data",
        row.result_bytes,
        limits::INPUT_BYTES
    );
    let failure = Failure::permanent("input_too_large", message);
    Completion {
        key: row.key,
        attempt: row.attempt,
        verdict: Verdict::Error { failure, tolerated: false },
        metadata: None,
        digest: 0,
        worker: "tasker".into(),
        duration_ms: 0,
        if_due: false,
    }
}
