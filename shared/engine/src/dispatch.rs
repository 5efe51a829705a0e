//! Makes messages from the changes that the database returned, and sends them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use serde_json::value::RawValue;
use tasker_domain::{Verdict, template::WorkflowStep, token};
use tasker_queue::{Outgoing, Queue};
use tasker_store::{Change, Completion, StoreError, TaskHeader};
use tasker_wire::{
    Answer, Lease, RunStep, StepId, limits,
    message::{DYNAMIC_VERSION, VERSION},
};

use crate::{
    Engine,
    templates::LoadedTemplate,
    work::{Sent, Work, wake_up},
};

/// The header of a task and its template, which all messages of the task share.
pub(crate) type Task = (TaskHeader, Arc<LoadedTemplate>);

impl<Q: Queue> Engine<Q> {
    /// Repeats until no work is left: makes messages from changes, sends them, and loads messages or records verdicts. Both can create
    /// more work: a verdict makes steps ready, and a step whose message is too large fails by a verdict. Returns the answers to the
    /// verdicts in their order. A sweep or recovery sends what is lost here.
    pub(crate) async fn dispatch(&self, mut work: Work<'_>) -> Result<Vec<Answer>, StoreError> {
        loop {
            self.messages(&mut work).await?;
            let messages = std::mem::take(&mut work.messages);
            if !messages.is_empty() {
                let sent = messages.iter().map(Sent::note).collect();
                let results = self.queue.send(messages).await;
                let accepted = work.sent(sent, &results);
                if self.settings.send_lease.is_some() && !accepted.is_empty() {
                    // If this fails, a sweep sends them again under the same lease, which costs only a message.
                    let _ = self.store.mark_sent(&accepted).await;
                }
            }
            if let Some(page) = work.next_page() {
                work.changes = self.store.load_run_steps(&page, limits::INPUT_BYTES as i64).await?;
            } else if let Some((places, round)) = work.next_round() {
                self.record(&mut work, places, round).await?;
            } else {
                if work.unsendable && work.answers.contains(&Answer::Locked) {
                    // Its failure was set aside, and no queue brings the step again.
                    self.recover_soon();
                }
                return Ok(work.answers);
            }
        }
    }

    /// Records a round of verdicts. One that a lock of another session blocks is set aside, so the others do not wait for it.
    async fn record<'a>(&self, work: &mut Work<'a>, places: Vec<usize>, round: Vec<Completion<'a>>) -> Result<(), StoreError> {
        let leases = || round.iter().map(|verdict| verdict.lease).collect::<Vec<_>>();
        if self.locked.may_block(&round) {
            let locked = self.locked_steps(&leases()).await?;
            if !locked.is_empty() {
                work.set_aside(places, round, &locked);
                return Ok(());
            }
        }
        let begun = Instant::now();
        let applied = match &round[..] {
            [only] if matches!(only.verdict, Verdict::Expand(..)) => self.expand(only, &work.template_of(places[0])).await,
            _ => self.store.complete(&round, self.dispatch_settings()).await,
        };
        match applied {
            Ok(changes) if let [Change::TooMany(steps)] = changes[..] => {
                round.into_iter().zip(places).for_each(|(success, place)| work.too_many(place, success, steps));
            }
            Ok(changes) => {
                self.slow.recorded(round.iter().map(|verdict| verdict.lease));
                work.recorded(&places, &round, changes);
            }
            Err(StoreError::Data(reason)) => work.refused(places, round, &reason)?,
            Err(StoreError::TimedOut(reason)) => {
                let after = begun.elapsed();
                let locked = self.locked_steps(&leases()).await?;
                match &round[..] {
                    [only] if locked.is_empty() && self.slow.is_too_slow(only.lease, after) => {
                        work.too_slow(places, round, &reason)
                    }
                    _ => work.set_aside(places, round, &locked),
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Which steps of these leases a lock blocks now. Later rounds ask first for the tasks of these.
    pub(crate) async fn locked_steps(&self, leases: &[Lease]) -> Result<Vec<StepId>, StoreError> {
        let locked = self.store.locked_steps(leases).await?;
        self.locked.note(leases, &locked);
        Ok(locked)
    }

    /// Makes messages from changes, and wakes the callers that wait for a finished task.
    async fn messages(&self, work: &mut Work<'_>) -> Result<(), StoreError> {
        let mut tasks: HashMap<_, Task> = HashMap::new();
        for change in std::mem::take(&mut work.changes) {
            match change {
                Change::Finished(task, state) => {
                    tracing::debug!(task_id = %task, %state, "task finished");
                    self.waiters.wake(task);
                }
                Change::Task(header) => {
                    let Some(template) = self.templates.get(&self.store, &header.template).await? else {
                        tracing::error!(task_id = %header.task, template_id = %header.template.template_id, "a task's template is missing");
                        continue;
                    };
                    tasks.insert(header.task, (header, template));
                }
                Change::Run(row) if row.result_bytes > limits::INPUT_BYTES as i64 => {
                    let why = format!(
                        "the results of its parents have {} bytes together; a step gets at most {}. Return references to large data",
                        row.result_bytes,
                        limits::INPUT_BYTES
                    );
                    work.cannot_run(row.lease, row.attempt, why);
                }
                Change::Run(row) => {
                    let Some(task) = tasks.get(&row.lease.step.task) else { continue };
                    let Some(step) = task.1.step(row.lease.step) else { continue };
                    work.note_effect(row.lease, step.policy.failure_effect);
                    let message = self.run_step(task, step, row.lease, row.attempt);
                    let message = RunStep {
                        step_name: row.name.unwrap_or(message.step_name),
                        max_attempts: row.max_attempts,
                        dependency_results: by_name(row.results),
                        dependency_errors: by_name(row.errors),
                        step_inputs: row.inputs,
                        checkpoint: row.checkpoint,
                        last_failure: row.failure,
                        resend: row.resends,
                        ..message
                    };
                    work.messages.push(self.to_pool(step, message));
                }
                Change::RunKey(lease) => work.unloaded.push(lease),
                Change::Early(lease, ms) => work.messages.push(wake_up(lease, ms)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The first message of a step, without inputs.
    pub(crate) fn run_step(&self, (header, template): &Task, step: &WorkflowStep, lease: Lease, attempt: i32) -> RunStep {
        RunStep {
            v: if step.kind.is_dynamic() { DYNAMIC_VERSION } else { VERSION },
            task_id: header.task,
            step_id: lease.step,
            step_name: step.name.clone(),
            lease: lease.number,
            attempt,
            max_attempts: step.policy.max_attempts,
            token: token::sign(&header.template, lease, attempt, &self.settings.signing_keys),
            timeout_seconds: step.policy.timeout_seconds,
            report_start: step.report_start,
            correlation_id: header.correlation_id,
            traceparent: header.traceparent.clone(),
            namespace: template.workflow.namespace.clone(),
            handler: step.handler.clone(),
            context: header.context.clone(),
            dependency_results: Default::default(),
            dependency_errors: Default::default(),
            step_inputs: None,
            checkpoint: None,
            last_failure: None,
            resend: 0,
        }
    }

    pub(crate) fn to_pool(&self, step: &WorkflowStep, message: RunStep) -> Outgoing {
        let pool = self.pool_of(&message.namespace, step.worker.as_deref()).to_owned();
        Outgoing::RunStep { pool, step: Box::new(message) }
    }

    /// Loads the messages of dispatched steps, and returns the leases that did not fit. Sends nothing.
    pub async fn load(&self, leases: &[Lease]) -> Result<(Vec<RunStep>, Vec<Lease>), StoreError> {
        let mut work = Work::of(self.store.load_run_steps(leases, limits::INPUT_BYTES as i64).await?);
        self.messages(&mut work).await?;
        let (messages, no_room) = (std::mem::take(&mut work.messages), std::mem::take(&mut work.unloaded));
        self.dispatch(work).await?;
        let step = |message| if let Outgoing::RunStep { step, .. } = message { Some(*step) } else { None };
        Ok((messages.into_iter().filter_map(step).collect(), no_room))
    }
}

/// Results or failures by step name.
fn by_name(object: Option<String>) -> BTreeMap<String, Box<RawValue>> {
    object.map(|text| serde_json::from_str(&text).expect("the database answers a JSON object")).unwrap_or_default()
}
