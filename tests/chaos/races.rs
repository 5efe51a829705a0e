//! Two calls at once, whose transactions overlap where it matters: completers that count down the same step, evaluations that
//! dispatch the same step, and a sweep while another one holds its rows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tasker_engine::Engine;
use tasker_wire::{
    Answer, CompleteStep, Evaluate, Outcome, StepId, StepNo, TaskId,
    ids::{position, step_no},
};
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
            let both_waited = self.at_once(task.step(child), vec![Call::Complete(a), Call::Complete(b)]).await?;
            self.faults.note(if both_waited { Fault::Met } else { Fault::TwoCompleters });
            return Ok(rest);
        }
        // Both completers get the first completion, so they wait for each other at its step.
        let Some(step) = batch.first().map(|done| done.step_id) else { return Ok(rest) };
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
        self.at_once(step, calls).await?;
        Ok(rest)
    }

    /// Gives the same wake-ups to two processes at once.
    pub async fn two_evaluations(&mut self, wake_ups: Vec<Evaluate>) -> Result<()> {
        let Some(step) = wake_ups.first().map(|wake_up| wake_up.step_id) else { return Ok(()) };
        self.faults.note(Fault::TwoEvaluations);
        let calls = vec![Call::Evaluate(wake_ups.clone()), Call::Evaluate(wake_ups)];
        self.at_once(step, calls).await.map(drop)
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
        let Some(place) = self.queue.place(task) else { return false };
        let workflow = &self.tasks[place].workflow;
        let child = position(child).expect("the number of a step");
        let other =
            |done: &CompleteStep| done.task_id == task && is_success(done) && workflow.joins(child, (one.no, done.step_id.no));
        let Some(first) = answers.iter().position(|done| done.step_id == one) else { return false };
        answers.swap(0, first);
        let Some(second) = answers.iter().position(other) else { return false };
        answers.swap(1, second);
        true
    }

    /// A task and a step of it of which two parents succeed in this batch, and one of the parents.
    fn siblings(&self, batch: &[CompleteStep]) -> Option<(TaskId, StepNo, StepId)> {
        let mut done: BTreeMap<usize, Vec<StepId>> = BTreeMap::new();
        for step in batch.iter().filter(|done| is_success(done)).map(|done| done.step_id) {
            done.entry(self.queue.place(step.task)?).or_default().push(step);
        }
        done.into_iter().find_map(|(place, done)| {
            let workflow = &self.tasks[place].workflow;
            (0..workflow.parsed().steps.len()).find_map(|child| {
                let is_joined = |one: &&StepId| done.iter().any(|other| workflow.joins(child, (one.no, other.no)));
                done.iter().find(is_joined).map(|one| (one.task, step_no(child), *one))
            })
        })
    }

    /// Lets calls wait for the same step, one after the other, and then continue. True: all of them waited.
    async fn at_once(&mut self, step: StepId, calls: Vec<Call>) -> Result<bool> {
        let sql = "select from tasker.steps where task_id = $1 and no = $2 for update";
        self.rig.sql.batch_execute("begin").await?;
        self.rig.sql.query_typed(sql, &[(&step.task.uuid(), Type::UUID), (&step.no, Type::INT4)]).await?;
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
                Returned::Answers(batch, answers) => check_answers(&mut self.accepted, &self.tasks, &batch, &answers)?,
                Returned::Cancelled(task, cancelled) => {
                    let place = self.queue.place(task).expect("a step of it was sent");
                    // A repeated cancel has no effect, and says nothing else.
                    if cancelled && !self.tasks[place].actions.cancelled {
                        self.tasks[place].actions.cancel();
                    }
                }
                Returned::Nothing => {}
            }
        }
        self.queue.called(true);
        self.queue.journal.sort_since(mark);
        Ok(all_waited)
    }
}

fn is_success(done: &CompleteStep) -> bool {
    matches!(done.outcome, Outcome::Success { .. })
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
