//! Two calls at once, whose transactions overlap where it matters: completers that count down the same step, evaluations that
//! dispatch the same step, and a sweep while another one holds its rows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tasker_engine::Engine;
use tasker_wire::{Answer, CompleteStep, Evaluate, Outcome, TaskId};
use tokio_postgres::types::Type;

use crate::{
    driver::{Driver, check_answers},
    faults::Fault,
    operators::{by, done},
    queue::Wire,
};

/// The maximum number of polls until a call waits or ends. It is never reached.
const LOOKS: usize = 5_000;

/// One of two calls at once.
enum Call {
    Complete(Vec<CompleteStep>),
    Cancel(TaskId),
    Evaluate(Vec<Evaluate>),
    Sweep,
}

/// The result of one.
enum Returned {
    Answers(Vec<CompleteStep>, Vec<Answer>),
    Cancelled(TaskId, bool),
    Nothing,
}

impl Driver<'_> {
    /// Gives a batch to two completers at once. Two parents of one step go to different completers, if the batch has such;
    /// otherwise some completions go to both, or to one while an operator cancels a task of the batch.
    pub async fn two_completers(&mut self, batch: Vec<CompleteStep>) -> Result<()> {
        let rest = self.complete_at_once(batch).await?;
        if rest.is_empty() { Ok(()) } else { self.complete(rest).await }
    }

    /// Answers the completions that are left. A completer applies several outcomes of one step in several statements, and the
    /// machine would decide whether the second of them comes before another completer's first.
    async fn complete_at_once(&mut self, batch: Vec<CompleteStep>) -> Result<Vec<CompleteStep>> {
        let (mut a, mut b, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        if let Some((task, child, one)) = self.siblings(&batch) {
            // What is in a batch decides which function applies it, so the second completer gets only the one parent, or successes of
            // other tasks too, or anything of other tasks. All outcomes of a step go to the same completer.
            let more = self.chance.below(4);
            for done in batch {
                let may = more > 1 || more == 1 && matches!(done.outcome, Outcome::Success { .. });
                let any = may && done.task_id != task && !holds(&a, &done);
                let to_b = done.step_id == one || any && (holds(&b, &done) || self.chance.permille(700));
                let to = if to_b { &mut b } else { &mut a };
                if holds(to, &done) { &mut rest } else { to }.push(done);
            }
            let name = crate::model::step_name(child);
            let both_waited = self.at_once(task, &name, vec![Call::Complete(a), Call::Complete(b)]).await?;
            self.faults.note(if both_waited { Fault::Met } else { Fault::TwoCompleters });
            return Ok(rest);
        }
        // Both completers get the first completion, so they wait for each other at its step.
        let Some(step) = batch.first().map(|done| done.step_id) else { return Ok(rest) };
        let name = crate::model::step_name(self.workers.step(step).expect("a step that was run"));
        // Of three calls that wait for a row only the order of the first is certain, so a cancel runs beside one completer.
        let cancels = self.chance.permille(100) && self.may_cancel();
        for (n, done) in batch.into_iter().enumerate() {
            let to = if n == 0 { 2 } else { self.chance.below(3) };
            let to_a = (cancels || to != 0) && !holds(&a, &done);
            let to_b = !cancels && to != 1 && !holds(&b, &done);
            if to_a {
                a.push(done.clone());
            }
            if to_b {
                b.push(done.clone());
            }
            if !to_a && !to_b {
                rest.push(done);
            }
        }
        let mut calls = vec![Call::Complete(a)];
        if cancels {
            self.faults.note(Fault::CancelledInFlight);
            calls.insert(self.chance.below(2), Call::Cancel(step.task));
        } else {
            self.faults.note(Fault::TwoCompleters);
            calls.push(Call::Complete(b));
        }
        self.at_once(step.task, &name, calls).await?;
        Ok(rest)
    }

    /// Gives the same wake-ups to two processes at once.
    pub async fn two_evaluations(&mut self, wake_ups: Vec<Evaluate>) -> Result<()> {
        let Some(step) = wake_ups.first().map(|wake_up| wake_up.step_id) else { return Ok(()) };
        self.faults.note(Fault::TwoEvaluations);
        let name = crate::model::step_name(self.workers.step(step).expect("a step that failed"));
        let calls = vec![Call::Evaluate(wake_ups.clone()), Call::Evaluate(wake_ups)];
        self.at_once(step.task, &name, calls).await.map(drop)
    }

    /// Lets a process sweep while another one holds its rows. A sweep reads the tasks only after it has locked their steps.
    pub async fn two_sweeps(&mut self) -> Result<()> {
        self.faults.note(Fault::TwoSweeps);
        self.rig.sql.batch_execute("begin; lock table tasker.tasks in access exclusive mode").await?;
        self.one_behind_the_other(vec![Call::Sweep, Call::Sweep]).await.map(drop)
    }

    /// Moves two parents of one step to the front, so that they come together. False: there are none.
    pub fn siblings_first(&self, answers: &mut [CompleteStep]) -> bool {
        let Some((task, child, one)) = self.siblings(answers) else { return false };
        let parent = |done: &CompleteStep| {
            let place =
                self.queue.place(task).filter(|_| done.task_id == task && matches!(done.outcome, Outcome::Success { .. }));
            let no = self.workers.step(done.step_id);
            place.zip(no).is_some_and(|(place, no)| self.tasks[place].workflow.steps[child].parents.contains(&no))
        };
        let Some(first) = answers.iter().position(|done| done.step_id == one) else { return false };
        answers.swap(0, first);
        let Some(second) = answers.iter().position(|done| done.step_id != one && parent(done)) else { return false };
        answers.swap(1, second);
        true
    }

    /// A task and a step of it of which two parents succeed in this batch, and one of the parents.
    fn siblings(&self, batch: &[CompleteStep]) -> Option<(TaskId, usize, tasker_wire::StepId)> {
        let mut parents: HashMap<TaskId, Vec<(usize, &CompleteStep)>> = HashMap::new();
        for done in batch.iter().filter(|d| matches!(d.outcome, Outcome::Success { .. })) {
            parents.entry(done.task_id).or_default().push((self.workers.step(done.step_id)?, done));
        }
        let mut found: Vec<_> = parents
            .into_iter()
            .filter_map(|(task, done)| {
                let place = self.queue.place(task)?;
                let is_parent = |child: usize, no| self.tasks[place].workflow.steps[child].parents.contains(&no);
                let child = (0..self.tasks[place].workflow.steps.len())
                    .find(|&child| done.iter().filter(|(no, _)| is_parent(child, *no)).count() > 1)?;
                let (_, one) = done.iter().find(|(no, _)| is_parent(child, *no))?;
                Some((place, (task, child, one.step_id)))
            })
            .collect();
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().next().map(|(_, found)| found)
    }

    /// Lets calls wait for the same step, one after the other, and then continue. True: all of them waited.
    async fn at_once(&mut self, task: TaskId, step: &str, calls: Vec<Call>) -> Result<bool> {
        let sql = "select from tasker.steps where task_id = $1 and name = $2 for update";
        self.rig.sql.batch_execute("begin").await?;
        self.rig.sql.query_typed(sql, &[(&task.uuid(), Type::UUID), (&step, Type::TEXT)]).await?;
        self.one_behind_the_other(calls).await
    }

    /// Makes calls while a transaction of the driver holds what they need, and then ends it. True: all of them waited.
    async fn one_behind_the_other(&mut self, calls: Vec<Call>) -> Result<bool> {
        let (mut running, mut waiting) = (Vec::new(), 0);
        let mark = self.queue.journal.lines();
        let first = self.chance.below(self.processes.len());
        for (n, call) in calls.into_iter().enumerate() {
            let running_call = tokio::spawn(make(self.processes[(first + n) % self.processes.len()].engine.clone(), call));
            waiting = self.rig.waiting(waiting + 1, LOOKS, || running_call.is_finished()).await?;
            running.push(running_call);
        }
        self.rig.sql.batch_execute("commit").await?;
        let all_waited = waiting == running.len() as i64;
        self.queue.journal.note(format!("{} calls at once, of which {waiting} waited", running.len()));
        for call in running {
            match tokio::time::timeout(Duration::from_secs(20), call).await.context("calls at once hang")??? {
                Returned::Answers(batch, answers) => check_answers(&mut self.accepted, &batch, &answers)?,
                Returned::Cancelled(task, cancelled) => {
                    let place = self.queue.place(task).expect("a step of it was sent");
                    self.tasks[place].actions.cancelled |= cancelled;
                }
                Returned::Nothing => {}
            }
        }
        self.queue.called(true);
        self.queue.journal.sort_since(mark);
        Ok(all_waited)
    }
}

fn holds(batch: &[CompleteStep], done: &CompleteStep) -> bool {
    batch.iter().any(|other| other.step_id == done.step_id)
}

async fn make(engine: Arc<Engine<Wire>>, call: Call) -> Result<Returned> {
    match call {
        Call::Complete(batch) => {
            let answers = engine.complete(batch.clone()).await.context("a completer beside another")?;
            Ok(Returned::Answers(batch, answers))
        }
        Call::Evaluate(wake_ups) => {
            engine.evaluate(wake_ups).await.context("an evaluation beside another")?;
            Ok(Returned::Nothing)
        }
        Call::Sweep => {
            engine.sweep().await.context("a sweep beside another")?;
            Ok(Returned::Nothing)
        }
        Call::Cancel(task) => Ok(Returned::Cancelled(task, done(engine.cancel_task(task, by()).await)?)),
    }
}
