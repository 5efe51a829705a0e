//! Two completers at once, so that their transactions overlap where it matters: at a step that both count down.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use tasker_domain::{CompleteStep, Outcome, TaskId};
use tasker_engine::By;
use tokio_postgres::types::Type;

use crate::{driver::Driver, faults::Fault, process::Fails};

/// Looks at the server until a completer waits.
const LOOKS: usize = 60;

impl Driver<'_> {
    /// Gives a batch to two completers at once: parents of one step to both of them when there are some, else some answers twice.
    pub async fn two_completers(&mut self, batch: Vec<CompleteStep>) -> Result<()> {
        if let Some((task, child, one)) = self.siblings(&batch) {
            let (a, b): (Vec<_>, Vec<_>) = batch.into_iter().partition(|done| done.step_id == one);
            return self.meet(task, child, a, b).await;
        }
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for done in batch {
            let to = self.chance.below(3);
            if to != 0 {
                a.push(done.clone());
            }
            if to != 1 {
                b.push(done);
            }
        }
        self.faults.note(Fault::TwoCompleters);
        let (one, other) = (self.processes[0].engine.clone(), self.processes[1].engine.clone());
        let cancel = a.first().filter(|_| self.chance.permille(80) && self.may_cancel()).map(|done| done.task_id);
        let Some(task) = cancel else {
            let (x, y) = tokio::join!(biased; one.complete(a.clone()), other.complete(b.clone()));
            self.heard(&a, &x.context("two completers")?)?;
            return self.heard(&b, &y.context("two completers")?);
        };
        self.faults.note(Fault::CancelledInFlight);
        let by = By { actor: "operator".into(), reason: "in flight".into(), metadata: None };
        let (x, y, cancelled) =
            tokio::join!(biased; one.complete(a.clone()), other.complete(b.clone()), other.cancel_task(task, by));
        self.heard(&a, &x.context("a completer beside a cancel")?)?;
        self.heard(&b, &y.context("a completer beside a cancel")?)?;
        match cancelled {
            Ok(()) => self.task_mut(task).deeds.cancelled = true,
            Err(e) => ensure!(e.of_store().is_none(), "a cancel beside completers: {e}"),
        }
        Ok(())
    }

    /// Moves two parents of one step to the front, so that they come together. Whether there were some.
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

    /// A step of which two parents succeed in this batch, and one of them.
    fn siblings(&self, batch: &[CompleteStep]) -> Option<(TaskId, usize, tasker_domain::StepId)> {
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

    /// Lets two completers wait for the same step, one behind the other.
    async fn meet(&mut self, task: TaskId, child: usize, a: Vec<CompleteStep>, b: Vec<CompleteStep>) -> Result<()> {
        let sql = "select from tasker.steps where task_id = $1 and name = $2 for update";
        self.ground.sql.batch_execute("begin").await?;
        let name = crate::model::step_name(child);
        self.ground.sql.query_typed(sql, &[(&task.uuid(), Type::UUID), (&name, Type::TEXT)]).await?;
        let mut calls = Vec::new();
        let mut waiting = 0;
        for (n, batch) in [&a, &b].into_iter().enumerate() {
            let (engine, batch) = (self.processes[n].engine.clone(), batch.clone());
            calls.push(tokio::spawn(async move { engine.complete(batch).await }));
            waiting = self.ground.waiting(n as i64 + 1, LOOKS).await?;
        }
        self.ground.sql.batch_execute("commit").await?;
        self.faults.note(if waiting == 2 { Fault::Met } else { Fault::TwoCompleters });
        for (batch, call) in [a, b].iter().zip(calls) {
            let answers = tokio::time::timeout(Duration::from_secs(20), call).await.context("two completers hang")??;
            self.heard(batch, &answers.context("two completers met")?)?;
        }
        Ok(())
    }
}
