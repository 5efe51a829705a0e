//! Why a task and its steps are where they are: for each step that is not done a sentence that says what it does or waits for, when the
//! engine changes that by itself, and what an operator can do.
//!
//! A function of what the rows said at one time. It promises nothing that the engine does not do.

mod facts;
mod step;
mod waits;
mod words;

pub use facts::{BatchFacts, Ending, EntryFacts, PauseFacts, Paused, StepFacts, TaskFacts};

use jiff::Timestamp;
use tasker_wire::{Remedy, StepNo, StepReason, TaskReason, TaskState};

use crate::template::{Workflow, WorkflowStep};
use step::View;
use waits::Holders;
use words::{counted, since, span};

/// A task and its steps explained.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The time of the facts.
    pub now: Timestamp,
    pub namespace: String,
    /// Its name.
    pub template: String,
    pub state: TaskState,
    pub task: Said<TaskReason>,
    /// The steps that are not done, then the tolerated ones. Those that hold up others come first.
    pub steps: Vec<ExplainedStep>,
    /// The steps beyond those.
    pub not_listed: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedStep {
    pub no: StepNo,
    pub name: String,
    pub said: Said<StepReason>,
}

/// What is said of a task or a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Said<R> {
    pub reason: R,
    pub sentence: String,
    /// The names of the steps that it waits for, at most [`tasker_wire::limits::LISTED_NAMES`].
    pub waits_for: Vec<String>,
    /// When the engine does by itself what the sentence says; a time that has passed: with the next sweep.
    pub changes_at: Option<Timestamp>,
    pub act: Option<Act>,
}

/// What an operator can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub remedy: Remedy,
    /// The step that it is about.
    pub step: Option<String>,
    pub sentence: String,
}

/// The pool that runs a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    /// Why nobody runs its steps, such as `waits for a worker of pool x; none is known`; `None` if it has workers, or nothing is known.
    pub unserved: Option<String>,
}

/// Explains a task. `workflow` is what its template means in its environment; `pool_of` says which pool runs a step.
pub fn explain(facts: &TaskFacts, workflow: Option<&Workflow>, pool_of: impl Fn(&WorkflowStep) -> Pool) -> Explanation {
    let (task, steps) = match workflow {
        Some(workflow) => {
            let steps = explain_steps(&View { facts, workflow, pool_of: &pool_of });
            (of_task(facts, &steps), steps)
        }
        None => {
            let sentence = "The template is missing, or written for a newer version: no step is dispatched.".to_owned();
            (Said::new(TaskReason::NoTemplate, sentence), Vec::new())
        }
    };
    let all = i64::from(facts.open.values().sum::<i32>()) + facts.tolerated;
    Explanation {
        now: facts.now,
        namespace: facts.namespace.clone(),
        template: facts.name.clone(),
        state: facts.state,
        task,
        not_listed: all - steps.len() as i64,
        steps,
    }
}

fn explain_steps(view: &View) -> Vec<ExplainedStep> {
    let own: Vec<Option<Said<StepReason>>> = view.facts.steps.iter().map(|step| view.own(step)).collect();
    let holders = Holders::of(view, &own);
    let explained = |(step, own): (&StepFacts, &Option<Said<StepReason>>)| ExplainedStep {
        no: step.no,
        name: step.name.clone(),
        said: own.clone().unwrap_or_else(|| holders.explain(step)),
    };
    let mut steps: Vec<ExplainedStep> = view.facts.steps.iter().zip(&own).map(explained).collect();
    steps.sort_by_key(|step| step.said.reason);
    steps
}

impl<R> Said<R> {
    fn new(reason: R, sentence: String) -> Self {
        Self { reason, sentence, waits_for: Vec::new(), changes_at: None, act: None }
    }

    fn act(self, act: impl Into<Option<Act>>) -> Self {
        Self { act: act.into(), ..self }
    }

    fn at(self, changes_at: Option<Timestamp>) -> Self {
        Self { changes_at, ..self }
    }

    fn on(self, mut waits_for: Vec<String>) -> Self {
        waits_for.truncate(tasker_wire::limits::LISTED_NAMES);
        Self { waits_for, ..self }
    }
}

impl Act {
    fn new(remedy: Remedy, sentence: impl Into<String>) -> Self {
        Self { remedy, step: None, sentence: sentence.into() }
    }

    fn reopen() -> Self {
        Self::new(Remedy::Reopen, "Reopen the task: its cancelled steps get a new budget.")
    }
}

fn of_task(facts: &TaskFacts, steps: &[ExplainedStep]) -> Said<TaskReason> {
    let end = facts.finished_at.map(|at| since(at, facts.now)).unwrap_or_default();
    let ended = || facts.ended.as_ref().map(|Ending { actor, reason }| format!(" by {actor}: {reason}")).unwrap_or_default();
    match facts.state {
        TaskState::Complete => {
            let took = facts.finished_at.map(|at| span(at, facts.created_at)).unwrap_or_default();
            let tolerated = match facts.tolerated {
                0 => String::new(),
                count => format!(" {} tolerated.", counted(count, "failed step")),
            };
            Said::new(TaskReason::Complete, format!("Complete {end}, after {took}.{tolerated}"))
        }
        TaskState::Cancelled => Said::new(TaskReason::Cancelled, format!("Cancelled {end}{}.", ended())).act(Act::reopen()),
        TaskState::ResolvedManually => {
            Said::new(TaskReason::ResolvedManually, format!("Resolved {end}{}. Nothing in it runs again.", ended()))
        }
        TaskState::Error => failed(facts, &end, steps),
        TaskState::Running => running(facts, steps),
    }
}

fn failed(facts: &TaskFacts, end: &str, steps: &[ExplainedStep]) -> Said<TaskReason> {
    let (first, failed) = failures(facts, steps);
    let waiting = facts.open.values().sum::<i32>() - facts.failed_steps;
    let rest = match waiting {
        0 => String::new(),
        waiting => {
            format!(" {} for what failed.", if waiting == 1 { "1 step waits".into() } else { format!("{waiting} steps wait") })
        }
    };
    let act = steps.first().and_then(|step| step.said.act.clone());
    let how = match &facts.ended {
        Some(Ending { actor, reason }) => format!(", ended by {actor}: {reason}."),
        None => ":".to_owned(),
    };
    Said::new(TaskReason::Failed, format!("Failed {end}{how} {first}{rest} Nothing moves by itself.")).on(failed).act(act)
}

fn running(facts: &TaskFacts, steps: &[ExplainedStep]) -> Said<TaskReason> {
    let moving: Vec<&ExplainedStep> = steps.iter().filter(|step| moves(step.said.reason)).collect();
    let first = moving.first().map_or("It is not listed.", |step| step.said.sentence.as_str());
    let names = moving.iter().take(tasker_wire::limits::LISTED_NAMES).map(|step| step.name.clone()).collect();
    let act = |step: Option<&&ExplainedStep>| step.and_then(|step| step.said.act.clone());
    let said = if facts.failed_steps > 0 {
        let (failure, _) = failures(facts, steps);
        let more = counted(facts.active_steps.into(), "step");
        let sentence =
            format!("{failure} {more} can still move: {first} After that nothing moves by itself, and the task fails.");
        Said::new(TaskReason::Failing, sentence).act(act(steps.first().as_ref()))
    } else if !moving.is_empty()
        && moving.len() == facts.active_steps as usize
        && moving.iter().all(|step| step.said.reason == StepReason::Held)
    {
        Said::new(TaskReason::Held, first.to_owned()).act(act(moving.first()))
    } else {
        let not_done: i32 = facts.open.values().sum();
        let sentence = format!("{} of {} done. {first}", facts.total_steps - not_done, counted(facts.total_steps.into(), "step"));
        Said::new(TaskReason::Running, sentence).act(act(moving.first()))
    };
    said.on(names).at(steps.iter().filter_map(|step| step.said.changes_at).min())
}

/// What is said of the first failed or cancelled step, with the number of the others, and the names of those that are listed.
fn failures(facts: &TaskFacts, steps: &[ExplainedStep]) -> (String, Vec<String>) {
    let has_ended = |step: &&ExplainedStep| matches!(step.said.reason, StepReason::Failed | StepReason::Cancelled);
    let failed: Vec<&ExplainedStep> = steps.iter().take_while(has_ended).collect();
    let first = failed.first().map_or("", |step| step.said.sentence.as_str());
    let more = match i64::from(facts.failed_steps) - 1 {
        ..=0 => String::new(),
        more => format!(" {} failed or cancelled too.", counted(more, "other step")),
    };
    (format!("{first}{more}"), failed.into_iter().map(|step| step.name.clone()).collect())
}

/// Whether a step moves without others, or would without a pause.
fn moves(reason: StepReason) -> bool {
    use StepReason::*;
    matches!(
        reason,
        NoWorkers | DeadLetter | Held | Silent | Resuming | WaitingForRetry | WaitingForCallback | Running | WaitingForWorker
    )
}
