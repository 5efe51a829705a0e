//! One seed: tasks, scripted workers, two processes of the orchestrator over a queue with a clock, and injected faults.
//!
//! Time is virtual and moves only between calls. The seed makes every choice, except where two calls run at once: there the
//! database decides.

use std::{collections::HashSet, sync::Arc};

use anyhow::{Result, bail, ensure};
use serde_json::json;
use tasker_domain::{
    request::{TaskRequest, parse_task_request},
    template::FailureStrategy,
};
use tasker_engine::{Engine, SubmitError};
use tasker_queue::{Outgoing, Queue};
use tasker_test_support::Chance;
use tasker_wire::{Answer, CompleteStep, Evaluate, Outcome, RunStep, TaskId};
use tokio_util::sync::CancellationToken;

use crate::{
    faults::{Counts, Fault, Faults},
    history,
    model::{Actions, Growth, Workflow},
    process::{Called, Fails, Process, note_cuts},
    queue::{GRID_MS, Timed, Wire},
    rig::Rig,
    workers::Workers,
};

/// The time at which a seed starts.
pub const START_MS: u64 = 1_900_000_000_000;
/// The fewest faults of a seed.
pub const AT_LEAST: u64 = 10;
/// A seed that has not ended after so many rounds is stuck.
const ROUNDS: usize = 5_000;

/// A task of a seed.
pub struct Task {
    pub workflow: Workflow,
    pub id: Option<TaskId>,
    pub actions: Actions,
    /// It was submitted, and the answer was lost.
    pub doubtful: bool,
    /// An operator retried it after it failed.
    pub tried_again: bool,
}

/// The result of a seed.
#[derive(Debug, Default)]
pub struct Report {
    pub faults: Counts,
    pub tasks: usize,
    pub steps: usize,
    pub answers: usize,
    /// What happened, line by line. Empty for the engine's own loops.
    pub journal: Vec<String>,
}

impl Report {
    pub fn new(faults: &Faults, tasks: &[Task], answers: usize, journal: Vec<String>) -> Self {
        let steps = tasks.iter().map(|t| t.workflow.parsed().steps.len()).sum();
        Self { faults: faults.counts(), tasks: tasks.len(), steps, answers, journal }
    }
}

pub struct Driver<'a> {
    pub rig: &'a Rig,
    pub seed: u64,
    pub chance: Chance,
    pub faults: Arc<Faults>,
    pub queue: Arc<Timed>,
    pub processes: Vec<Process>,
    pub workers: Workers,
    pub tasks: Vec<Task>,
    pub now_ms: u64,
    /// The dispatches whose outcome was applied: task, step and lease.
    pub accepted: HashSet<(TaskId, i32, i32)>,
    over: CancellationToken,
}

/// The tasks of a seed: a few random workflows, several tasks of each.
pub fn tasks_of(chance: &mut Chance, growth: Growth) -> Vec<Task> {
    let workflows: Vec<Workflow> = (0..6).map(|_| Workflow::draw(chance, growth)).collect();
    let count = 20 + chance.below(2);
    let task = |_| {
        let workflow = workflows[chance.below(workflows.len())].clone();
        Task { workflow, id: None, actions: Actions::default(), doubtful: false, tried_again: false }
    };
    (0..count).map(task).collect()
}

/// Runs a seed to its end and checks the result.
pub async fn run(rig: &mut Rig, growth: Growth, seed: u64) -> Result<Report> {
    let mut chance = Chance::new(seed);
    let tasks = tasks_of(&mut chance, growth);
    rig.prepare(&tasks).await?;
    rig.set_clock(START_MS).await?;

    let faults = Arc::new(Faults::default());
    let queue = Timed::new(seed, START_MS, faults.clone());
    let over = CancellationToken::new();
    let processes = (0..2).map(|_| Process::start(rig, &queue, &over, seed)).collect();
    let workers = Workers::new(seed, faults.clone()).with_callbacks();
    let mut driver = Driver {
        rig,
        seed,
        chance,
        faults,
        queue,
        processes,
        workers,
        tasks,
        now_ms: START_MS,
        accepted: HashSet::new(),
        over: over.clone(),
    };
    let ended = driver.live().await;
    over.cancel();
    for process in driver.processes.drain(..) {
        process.end().await;
    }
    ended
}

impl Driver<'_> {
    async fn live(&mut self) -> Result<Report> {
        self.drive().await?;
        self.operators_try_again().await?;
        self.drive().await?;
        history::check(self.rig, self.seed, &self.tasks, &self.accepted, true).await?;
        let engine = self.processes[1].engine.clone();
        repeat_old_answers(self.rig, &engine, &mut self.chance, (&self.workers, &self.tasks), &self.faults).await?;
        self.rig.examine(&self.processes[0].engine).await?;
        ensure!(self.faults.total() >= AT_LEAST, "only {} faults", self.faults.total());
        Ok(Report::new(&self.faults, &self.tasks, self.workers.answers.len(), self.queue.journal.take()))
    }

    /// Runs until every task has finished and no message is under way.
    async fn drive(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            self.faults.settle();
            let due = self.queue.due(self.now_ms);
            let anything = !due.is_empty();
            self.deliver(due).await?;
            self.queue.check_sends()?;
            if self.chance.permille(400) {
                self.submit_next().await?;
            }
            if self.chance.permille(60) {
                self.operate().await?;
            }
            if !anything && self.pass().await? {
                return Ok(());
            }
        }
        bail!("not ended after {ROUNDS} rounds:\n{}", history::dump(self.rig).await?)
    }

    /// Moves time to the next event, and perhaps sweeps. True: every task has finished and nothing is left to happen.
    async fn pass(&mut self) -> Result<bool> {
        let next = self.queue.next_ms();
        let mut wake = None;
        if next.is_none() || self.chance.permille(300) {
            let running;
            (running, wake) = self.rig.outlook().await?;
            let unsent = self.tasks.iter().any(|t| t.id.is_none());
            if next.is_none() && wake.is_none() && !unsent {
                ensure!(
                    running == 0,
                    "{running} tasks are running and nothing will move them:\n{}",
                    history::dump(self.rig).await?
                );
                return Ok(true);
            }
        }
        let Some(at) = next.into_iter().chain(wake).min() else { return Ok(false) };
        let mut at = at.max(self.now_ms) + if self.chance.permille(850) { self.chance.below(6_000) as u64 } else { 0 };
        if !self.faults.enough() && self.chance.permille(30) {
            self.faults.note(Fault::ClockJumped);
            at += self.chance.below(40 * 60_000) as u64;
        }
        let at = at.next_multiple_of(GRID_MS);
        if at != self.now_ms {
            self.now_ms = at;
            self.rig.set_clock(at).await?;
            self.queue.set_clock(at);
        }
        if wake.is_some_and(|wake| wake <= at) || self.chance.permille(50) {
            self.sweep().await?;
        }
        Ok(false)
    }

    async fn deliver(&mut self, due: Vec<Outgoing>) -> Result<()> {
        let (mut runs, mut answers, mut wake_ups) = (Vec::new(), Vec::new(), Vec::new());
        for message in due {
            match message {
                Outgoing::RunStep { step: run, .. } => runs.push(*run),
                Outgoing::CompleteStep(answer) => answers.push(Arc::unwrap_or_clone(answer)),
                Outgoing::Evaluate { wake_up: evaluate, .. } => wake_ups.push(evaluate),
            }
        }
        for run in runs {
            self.work(&run);
        }
        // Batches of successes have a function of their own.
        if self.chance.permille(500) {
            answers.sort_by_key(|done| !matches!(done.outcome, Outcome::Success { .. }));
        }
        while !answers.is_empty() {
            let siblings = self.chance.permille(700) && self.siblings_first(&mut answers);
            let most = 1 + self.chance.below(20) + usize::from(siblings);
            let rest = answers.split_off(answers.len().min(most));
            let batch = std::mem::replace(&mut answers, rest);
            if batch.len() > 1 && (siblings || self.chance.permille(200)) {
                self.two_completers(batch).await?;
            } else {
                self.complete(batch).await?;
            }
        }
        if !wake_ups.is_empty() {
            self.evaluate(wake_ups).await?;
        }
        Ok(())
    }

    fn work(&mut self, run: &RunStep) {
        let act = self.workers.run(run, &self.tasks);
        let carry = |done: CompleteStep, ms| {
            self.queue.carry(Outgoing::CompleteStep(Arc::new(done)), std::time::Duration::from_millis(ms));
        };
        if let Some(report) = act.report {
            carry(report, 0);
        }
        if let Some(answer) = act.answer {
            if matches!(answer.outcome, Outcome::Checkpoint { .. }) && !self.faults.enough() && self.chance.permille(500) {
                // The queue delivers it again when the step runs under its next lease.
                self.faults.note(Fault::Doubled);
                let again = Outgoing::RunStep { pool: "default".into(), step: Box::new(run.clone()) };
                self.queue.put_back(again, act.ms);
            }
            match act.is_certain {
                true => self.queue.put_back(Outgoing::CompleteStep(Arc::new(answer)), act.ms),
                false => carry(answer, act.ms),
            }
        }
    }

    /// Calls a verb of one process, and perhaps injects a fault into the call.
    pub async fn call<T, E: Fails, F: Future<Output = Result<T, E>>>(
        &mut self,
        statement: &'static str,
        verb: impl FnOnce(Arc<Engine<Wire>>) -> F,
    ) -> Result<Called<Result<T, E>>> {
        let n = self.chance.below(self.processes.len());
        let process = &self.processes[n];
        process.inject(&mut self.chance, &self.faults, statement);
        let (called, cuts, mut dead) = process.call(verb(process.engine.clone())).await?;
        note_cuts(&self.faults, &cuts);
        self.queue.called(cuts.is_empty() && !dead);
        self.queue.journal.note(format!("{statement} by process {n}, {cuts:?}, dead {dead}"));
        let with_the_cut = !cuts.is_empty() && (self.chance.permille(400) || self.rig.dies_when_cut());
        if with_the_cut && !dead {
            self.faults.note(Fault::Killed);
            dead = true;
        }
        if dead {
            let fresh = Process::start(self.rig, &self.queue, &self.over, self.seed);
            std::mem::replace(&mut self.processes[n], fresh).end().await;
            // Nobody acknowledged the messages it worked on.
            return Ok(Called::Lost);
        }
        Ok(called)
    }

    async fn submit_next(&mut self) -> Result<()> {
        let Some(place) = self.tasks.iter().position(|t| t.id.is_none()) else { return Ok(()) };
        let request = request(self.seed, place, &self.tasks[place].workflow);
        let called = self.call("tasker.submit_", |engine| async move { engine.submit(request, None).await }).await?;
        let task = &mut self.tasks[place];
        match called {
            Called::Lost => task.doubtful = true,
            Called::Answered(Ok(submitted)) => task.id = Some(submitted.task),
            Called::Answered(Err(SubmitError::Duplicate { task: id, .. })) if task.doubtful => task.id = Some(id),
            Called::Answered(Err(e)) => bail!("submit: {e}"),
        }
        Ok(())
    }

    pub async fn complete(&mut self, batch: Vec<CompleteStep>) -> Result<()> {
        let given = batch.clone();
        let grows = |done: &CompleteStep| {
            matches!(done.outcome, Outcome::Success { decision: Some(_), .. } | Outcome::Success { batches: Some(_), .. })
        };
        let statement = match batch.iter().any(grows) {
            true => "tasker.expand_",
            false if self.may_end_a_batch(&batch) => "tasker.fail_batch_",
            false => "tasker.complete_",
        };
        match self.call(statement, |engine| async move { engine.complete(given).await }).await? {
            Called::Answered(Ok(answers)) => check_answers(&mut self.accepted, &self.tasks, &batch, &answers),
            _ => {
                for answer in batch {
                    self.queue.put_back(Outgoing::CompleteStep(Arc::new(answer)), 30_000);
                }
                Ok(())
            }
        }
    }

    /// Whether a worker fails with whose failure its batch ends.
    fn may_end_a_batch(&self, batch: &[CompleteStep]) -> bool {
        batch.iter().any(|done| {
            let place = self.queue.place(done.task_id).filter(|_| matches!(done.outcome, Outcome::Failure(_)));
            place.is_some_and(|p| self.tasks[p].workflow.strategy(done.step_id.no) == Some(FailureStrategy::FailFast))
        })
    }

    async fn evaluate(&mut self, wake_ups: Vec<Evaluate>) -> Result<()> {
        if self.chance.permille(250) {
            return self.two_evaluations(wake_ups).await;
        }
        let given = wake_ups.clone();
        if let Called::Lost = self.call("dispatch_v1", |engine| async move { engine.evaluate(given).await }).await? {
            for wake_up in wake_ups {
                self.queue.put_back(Outgoing::Evaluate { wake_up, delay: std::time::Duration::ZERO }, 30_000);
            }
        }
        Ok(())
    }

    async fn sweep(&mut self) -> Result<()> {
        if self.chance.permille(250) {
            return self.two_sweeps().await;
        }
        self.call("sweep_v1", |engine| async move { engine.sweep().await }).await.map(drop)
    }
}

/// Checks that completers gave possible answers.
pub fn check_answers(
    accepted: &mut HashSet<(TaskId, i32, i32)>,
    tasks: &[Task],
    batch: &[CompleteStep],
    answers: &[Answer],
) -> Result<()> {
    for (done, answer) in batch.iter().zip(answers) {
        let report = matches!(done.outcome, Outcome::Started {} | Outcome::Heartbeat {} | Outcome::PendingCallback { .. });
        let key = done.lease();
        match answer {
            Answer::Accepted if !report => {
                let first = accepted.insert((key.step.task, key.step.no, key.number));
                ensure!(first, "two answers under lease {} of step {} were applied", key.number, done.step_id);
            }
            Answer::Accepted | Answer::Duplicate | Answer::Stale => {}
            Answer::Ignored if matches!(done.outcome, Outcome::PendingCallback { .. } | Outcome::Started {}) => {}
            Answer::Refused if may_be_deleted(tasks, done.task_id) => {}
            other => bail!("an answer under lease {} of step {} is {other:?}: it was dispatched", key.number, done.step_id),
        }
    }
    Ok(())
}

/// Whether an operator may have deleted steps of a task, by doing again what had made them.
fn may_be_deleted(tasks: &[Task], id: TaskId) -> bool {
    tasks.iter().any(|task| task.id == Some(id) && task.actions.times("redo_step") > 0)
}

/// Sends old outcomes again after the end: they change nothing.
pub async fn repeat_old_answers<Q: Queue>(
    rig: &Rig,
    engine: &Arc<Engine<Q>>,
    chance: &mut Chance,
    (workers, tasks): (&Workers, &[Task]),
    faults: &Faults,
) -> Result<()> {
    let before = history::fingerprint(rig).await?;
    let missing = AT_LEAST.saturating_sub(faults.total()) as usize;
    let mut echoes = Vec::new();
    for _ in 0..missing.max(3).min(workers.answers.len()) {
        echoes.push(workers.answers[chance.below(workers.answers.len())].clone());
        faults.note(Fault::OldAnswer);
    }
    let answers = engine.complete(echoes.clone()).await?;
    for (echo, answer) in echoes.iter().zip(answers) {
        let is_gone = answer == Answer::Refused && may_be_deleted(tasks, echo.task_id);
        ensure!(
            is_gone || matches!(answer, Answer::Duplicate | Answer::Stale),
            "an old answer under lease {} of step {} is {answer:?}",
            echo.lease,
            echo.step_id
        );
    }
    ensure!(before == history::fingerprint(rig).await?, "old answers moved a finished task");
    Ok(())
}

pub fn request(seed: u64, place: usize, workflow: &Workflow) -> TaskRequest {
    let request = json!({
        "name": workflow.name(), "context": {"place": place}, "idempotency_key": format!("{seed}/{place}"),
    });
    parse_task_request(request.to_string().as_bytes()).expect("a request of ours can be read")
}
