//! The steps that wait for no other step: what they do, or what prevents them.

use jiff::Timestamp;
use tasker_wire::{
    Remedy, StepNo, StepReason, StepState, TaskState,
    ids::{is_worker, position},
    limits,
};

use super::{
    Act, EntryFacts, PauseFacts, Paused, Pool, Said, StepFacts, TaskFacts,
    words::{ahead, clock, counted, listed, since},
};
use crate::{
    FailureEffect,
    template::{Workflow, WorkflowStep},
};

pub(super) struct View<'a> {
    pub facts: &'a TaskFacts,
    pub workflow: &'a Workflow,
    pub pool_of: &'a dyn Fn(&WorkflowStep) -> Pool,
    /// From then on the next look for stale tasks ends the task, unless something moves before.
    pub ends_at: Option<Timestamp>,
}

impl View<'_> {
    /// What is said of a step; `None` if it waits for parents. What its task may not live to see is not promised.
    pub fn own(&self, step: &StepFacts) -> Option<Said<StepReason>> {
        let mut said = self.alone(step)?;
        if let Some(end) = self.ends_at.filter(|&end| said.changes_at.is_some_and(|at| at > end)) {
            said.sentence.push_str(&format!(
                " But the next look for stale tasks after {} ends its task, unless something moves before.",
                clock(end, self.facts.now)
            ));
            said.changes_at = Some(end);
        }
        Some(said)
    }

    fn alone(&self, step: &StepFacts) -> Option<Said<StepReason>> {
        let Some(declared) = position(step.no).and_then(|at| self.workflow.steps.get(at)) else {
            return Some(unexplained(step));
        };
        Some(match step.state {
            StepState::Error if step.tolerated => self.tolerated(step),
            StepState::Error => self.failed(step, declared),
            StepState::Cancelled => self.cancelled(step),
            StepState::InProgress if step.awaits_callback => self.awaits_callback(step, declared),
            StepState::InProgress => self.running(step, declared),
            StepState::WaitingForRetry => self.waits_for_retry(step),
            StepState::Enqueued => self.dispatched(step, declared),
            StepState::Pending if self.facts.state == TaskState::ResolvedManually => {
                let sentence = format!("{} never runs, because its task was resolved.", step.name);
                Said::new(StepReason::Abandoned, sentence)
            }
            StepState::Pending if step.wake_at.is_some() => self.held(step, "is ready"),
            StepState::Pending if step.pending_parents > 0 && is_worker(step.no) => self.waits_for_place(step),
            StepState::Pending if step.pending_parents > 0 => return None,
            StepState::Pending | StepState::Complete | StepState::ResolvedManually => unexplained(step),
        })
    }

    fn tolerated(&self, step: &StepFacts) -> Said<StepReason> {
        let sentence = format!("{}. Its batch goes on without it.", failure(step));
        Said::new(StepReason::Tolerated, sentence)
    }

    fn failed(&self, step: &StepFacts, declared: &WorkflowStep) -> Said<StepReason> {
        let waiting = declared.children.iter().filter(|child| self.facts.open.contains_key(child));
        let names: Vec<String> = waiting.map(|&child| self.workflow.steps[child].name.clone()).collect();
        let blocked = match names.len() {
            0 => String::new(),
            1 => format!(" {} waits for it.", names[0]),
            count => format!(" {} wait for it.", listed(&names, count as i64)),
        };
        let sentence = format!("{}, and no attempt follows.{blocked}{}", failure(step), self.entries(step));
        Said::new(StepReason::Failed, sentence).act(match self.facts.state {
            TaskState::ResolvedManually => None,
            TaskState::Cancelled => {
                Some(Act { sentence: format!("Reopen the task, then retry {}.", step.name), ..Act::reopen() })
            }
            _ => Some(retry(&step.name, format!("Retry {0}, or redo, resolve or skip it.", step.name))),
        })
    }

    fn cancelled(&self, step: &StepFacts) -> Said<StepReason> {
        let failed = self.failed_workers(step.no);
        // Nothing else cancels a single step. In a task that was ended it may have been cancelled with that.
        let is_alone = match self.facts.state {
            TaskState::Running => true,
            TaskState::Error => self.facts.ended.is_none(),
            _ => false,
        };
        if let (Some(first), true) = (failed.first(), is_alone) {
            let sentence = format!("{} was cancelled, because {} of its batch failed.", step.name, one_of(&failed));
            let act = retry(first, format!("Retry or resolve {first}: the cancelled workers get a new budget."));
            return Said::new(StepReason::Cancelled, sentence).act(act).on(failed);
        }
        Said::new(StepReason::Cancelled, format!("{} was cancelled.", step.name)).act(match self.facts.state {
            TaskState::Cancelled | TaskState::Error => Some(Act::reopen()),
            TaskState::ResolvedManually => None,
            _ => Some(retry(&step.name, format!("Retry {}.", step.name))),
        })
    }

    fn running(&self, step: &StepFacts, declared: &WorkflowStep) -> Said<StepReason> {
        let begun = step.started_at.or(step.dispatched_at).map(|at| since(at, self.facts.now)).unwrap_or_default();
        let what = format!("{} runs {begun} in {}", step.name, attempt(step));
        let Some(deadline) = step.wake_at else { return Said::new(StepReason::Running, format!("{what}.")) };
        let then = if step.losses + 1 < limits::LOSSES {
            match self.facts.pauses.is_empty() {
                true => "it is dispatched again under the same attempt".to_owned(),
                false => format!("it is to be dispatched again, and {} holds it then", self.pauses()),
            }
        } else {
            format!("{}: its worker was lost {} times", after_failure(step, declared), limits::LOSSES)
        };
        if deadline <= self.facts.now {
            let sentence = format!(
                "{} is silent: its worker did not report until {}. With the next sweep {then}.",
                step.name,
                clock(deadline, self.facts.now)
            );
            return Said::new(StepReason::Silent, sentence).at(step.wake_at);
        }
        let sentence = format!("{what}. If nothing is heard of it, {} {then}.", ahead(deadline, self.facts.now));
        Said::new(StepReason::Running, sentence).at(step.wake_at)
    }

    fn awaits_callback(&self, step: &StepFacts, declared: &WorkflowStep) -> Said<StepReason> {
        let then = after_failure(step, declared);
        match step.wake_at {
            Some(until) if until <= self.facts.now => {
                let until = clock(until, self.facts.now);
                let sentence =
                    format!("{} is silent: its callback did not come until {until}. With the next sweep {then}.", step.name);
                Said::new(StepReason::Silent, sentence)
            }
            until => {
                let until = until.map(|at| ahead(at, self.facts.now)).unwrap_or_default();
                let sentence = format!("{} waits for its callback. If it does not come, {until} {then}.", step.name);
                Said::new(StepReason::WaitingForCallback, sentence)
            }
        }
        .at(step.wake_at)
    }

    fn waits_for_retry(&self, step: &StepFacts) -> Said<StepReason> {
        let due = step.wake_at.unwrap_or(self.facts.now);
        if step.held_at.is_some() || (due <= self.facts.now && !self.facts.pauses.is_empty()) {
            return self.held(step, "is due for its next attempt");
        }
        let failure = failure(step);
        let asked = match step.hint_seconds {
            Some(seconds) if seconds > 0.0 => format!(", as its failure asked for at least {seconds} s"),
            _ => String::new(),
        };
        let next = format!("attempt {} of {} begins {}", step.attempt + 1, step.max_attempts, ahead(due, self.facts.now));
        if !self.facts.pauses.is_empty() {
            let sentence = format!("{failure}. It is due {}, and {} holds it then.", ahead(due, self.facts.now), self.pauses());
            return Said::new(StepReason::WaitingForRetry, sentence).act(self.end_of_pause());
        }
        Said::new(StepReason::WaitingForRetry, format!("{failure}; {next}{asked}.")).at(Some(due))
    }

    fn dispatched(&self, step: &StepFacts, declared: &WorkflowStep) -> Said<StepReason> {
        let Pool { name: pool, unserved } = (self.pool_of)(declared);
        let begun = step.dispatched_at.map(|at| since(at, self.facts.now)).unwrap_or_default();
        let sent = match step.resends {
            0 => String::new(),
            resends => format!(" Its message was sent {} times.", resends + 1),
        };
        let again = step.wake_at.map(|at| format!(" It is sent again {}.", ahead(at, self.facts.now))).unwrap_or_default();
        let entries = self.entries(step);
        if let Some(why) = unserved {
            let sentence = format!("{} {why}. It is dispatched {begun}.{sent}{entries}", step.name);
            let act = of_step(&step.name, Remedy::StartWorkers, format!("Start a worker of pool {pool}."));
            return Said::new(StepReason::NoWorkers, sentence).act(act);
        }
        if let Some(entry) = self.entry(step, "manual_dlq") {
            let EntryFacts { detail, since: given_up, .. } = entry;
            let sentence = format!(
                "The message of {} was given up {}: {detail}.{again}{entries}",
                step.name,
                since(*given_up, self.facts.now)
            );
            let act = of_step(&step.name, Remedy::ExamineDeadLetters, "See why in the dead letters, and mend that.".into());
            return Said::new(StepReason::DeadLetter, sentence).at(step.wake_at).act(act);
        }
        let progress = step.checkpoint.as_ref().map(|items| format!(" It continues after {items} items.")).unwrap_or_default();
        // Of the start of short steps nothing is reported.
        let silent = if declared.report_start { "reported its start" } else { "answered" };
        let sentence = format!(
            "{} is dispatched to pool {pool} {begun} in {}, and no worker has {silent}.{progress}{sent}{again}{entries}",
            step.name,
            attempt(step)
        );
        Said::new(StepReason::WaitingForWorker, sentence).at(step.wake_at)
    }

    /// A step that could be dispatched.
    fn held(&self, step: &StepFacts, what: &str) -> Said<StepReason> {
        if self.facts.pauses.is_empty() {
            let at = step.wake_at.map(|at| ahead(at, self.facts.now)).unwrap_or_default();
            let sentence = format!("{} {what}. The pause that held it has ended, and it is dispatched {at}.", step.name);
            return Said::new(StepReason::Resuming, sentence).at(step.wake_at);
        }
        let sentence = format!("{} {what}, and held by {}.", step.name, self.pauses());
        Said::new(StepReason::Held, sentence).act(self.end_of_pause())
    }

    /// The pauses in force.
    pub fn pauses(&self) -> String {
        let TaskFacts { namespace, name, now, .. } = self.facts;
        let pause = |PauseFacts { of, since: begun, actor, reason }: &PauseFacts| {
            let what = match of {
                Paused::Task => "the task".to_owned(),
                Paused::Template => format!("template {namespace}/{name}"),
                Paused::Namespace => format!("namespace {namespace}"),
            };
            format!("the pause of {what} {} by {actor}: {reason}", since(*begun, *now))
        };
        self.facts.pauses.iter().map(pause).collect::<Vec<_>>().join(", and by ")
    }

    /// The first pause that an operator may end.
    fn end_of_pause(&self) -> Option<Act> {
        let TaskFacts { namespace, name, pauses, .. } = self.facts;
        let (remedy, what) = match pauses.first()?.of {
            Paused::Task => (Remedy::Resume, "the task".to_owned()),
            Paused::Template => (Remedy::ResumeTemplate, format!("template {namespace}/{name}")),
            Paused::Namespace => (Remedy::ResumeNamespace, format!("namespace {namespace}")),
        };
        let others = if pauses.len() > 1 { "; the other pauses must end too" } else { "" };
        Some(Act::new(remedy, format!("Resume {what}{others}.")))
    }

    fn waits_for_place(&self, step: &StepFacts) -> Said<StepReason> {
        let batch = self.facts.batches.iter().find(|batch| Some(batch.pattern) == position(step.no));
        let Some(batch) = batch else { return unexplained(step) };
        if batch.open {
            let running = self.workers(step.no, |other| {
                matches!(other.state, StepState::Enqueued | StepState::InProgress | StepState::WaitingForRetry)
                    || other.state == StepState::Pending && other.wake_at.is_some()
            });
            let sentence = format!(
                "{} waits for a place: its batch runs {} at once, now {}.",
                step.name,
                counted(batch.parallelism.into(), "worker"),
                listed(&running, running.len() as i64)
            );
            return Said::new(StepReason::WaitingForPlace, sentence).on(running);
        }
        let failed = self.failed_workers(step.no);
        let sentence = format!("{} waits for a place, and its batch has stopped, because {} failed.", step.name, one_of(&failed));
        let act = failed.first().map(|first| retry(first, format!("Retry or resolve {first}: its batch goes on.")));
        Said::new(StepReason::BatchStopped, sentence).act(act).on(failed.clone())
    }

    fn failed_workers(&self, no: StepNo) -> Vec<String> {
        self.workers(no, |other| other.state == StepState::Error && !other.tolerated)
    }

    /// The names of the workers of the same batch that are listed and meet a condition.
    fn workers(&self, no: StepNo, which: impl Fn(&StepFacts) -> bool) -> Vec<String> {
        let siblings = self.facts.steps.iter().filter(|other| is_worker(no) && position(other.no) == position(no));
        siblings.filter(|other| which(other)).map(|other| other.name.clone()).collect()
    }

    fn entry(&self, step: &StepFacts, reason: &str) -> Option<&EntryFacts> {
        self.facts.entries.iter().find(|entry| entry.no == Some(step.no) && entry.reason == reason)
    }

    /// The open DLQ entries of a step.
    fn entries(&self, step: &StepFacts) -> String {
        let of_step = self.facts.entries.iter().filter(|entry| entry.no == Some(step.no));
        of_step.map(|entry| format!(" DLQ entry {} {}.", entry.reason, since(entry.since, self.facts.now))).collect()
    }
}

pub(super) fn unexplained(step: &StepFacts) -> Said<StepReason> {
    let sentence = format!("{} is {}, and nothing that is known keeps it so. This is a defect.", step.name, step.state);
    let act = Act::new(Remedy::RunDoctor, "Run tasker-ctl doctor, and report what it prints.");
    Said::new(StepReason::Unexplained, sentence).act(act)
}

fn retry(step: &str, sentence: String) -> Act {
    of_step(step, Remedy::Retry, sentence)
}

fn of_step(step: &str, remedy: Remedy, sentence: String) -> Act {
    Act { step: Some(step.to_owned()), ..Act::new(remedy, sentence) }
}

/// The worker that stopped its batch. Of several that failed the rows do not tell which one did.
fn one_of(failed: &[String]) -> String {
    match failed {
        [] => "a worker".to_owned(),
        [one] => one.clone(),
        several => format!("one of {}", listed(several, several.len() as i64)),
    }
}

fn attempt(step: &StepFacts) -> String {
    format!("attempt {} of {}", step.attempt, step.max_attempts)
}

/// How the last attempt failed.
fn failure(step: &StepFacts) -> String {
    let why = step.failure.as_ref().map(|[kind, message]| format!(": {kind}: {message}")).unwrap_or_default();
    format!("{} failed in {}{why}", step.name, attempt(step))
}

/// What a retryable failure of the current attempt leads to.
fn after_failure(step: &StepFacts, declared: &WorkflowStep) -> String {
    let policy = &declared.policy;
    let attempt = attempt(step);
    match policy.failure_effect {
        _ if policy.retryable && step.attempt < policy.max_attempts => format!("{attempt} fails, and another one follows"),
        FailureEffect::Tolerated => format!("{attempt} fails, and its batch goes on without it"),
        FailureEffect::EndsBatch => format!("{attempt} fails for good, and ends its batch"),
        FailureEffect::Blocks => format!("{attempt} fails for good"),
    }
}
