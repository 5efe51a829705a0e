//! Why a task and its steps are where they are: for each step that is not done a sentence that says what it does or waits for, when the
//! engine changes that by itself, and what an operator can do.
//!
//! A function of what the rows said at one time. It promises nothing that the engine does not do.

mod facts;
mod stale;
mod step;
mod waits;
mod words;

pub use facts::{BatchFacts, Ending, EntryFacts, PauseFacts, Paused, StepFacts, TaskFacts, ThresholdFacts};

use std::collections::BTreeSet;

use jiff::Timestamp;
use tasker_wire::{Remedy, StepNo, StepReason, TaskReason, TaskState, ids::position};

use crate::template::{StepKind, Workflow, WorkflowStep};
use stale::Foretold;
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
    /// When the engine does by itself what the sentence says; a time that has passed: with the next sweep, or look for stale tasks.
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
            let foretold = stale::foretold(facts, workflow);
            let ends_at = foretold.as_ref().filter(|foretold| foretold.ends).map(|foretold| foretold.at);
            let view = View { facts, workflow, pool_of: &pool_of, ends_at };
            let (steps, undecided) = explain_steps(&view);
            (of_task(&view, &steps, &undecided, foretold), steps)
        }
        None => {
            let sentence = "The template is missing, or written for a newer version: no step is dispatched.".to_owned();
            (Said::new(TaskReason::NoTemplate, sentence), Vec::new())
        }
    };
    Explanation {
        now: facts.now,
        namespace: facts.namespace.clone(),
        template: facts.name.clone(),
        state: facts.state,
        task,
        not_listed: not_done(facts) + facts.tolerated - steps.len() as i64,
        steps,
    }
}

fn not_done(facts: &TaskFacts) -> i64 {
    facts.open.values().sum::<i32>().into()
}

/// The steps, and the numbers of those of which it is not decided yet which steps they follow.
fn explain_steps(view: &View) -> (Vec<ExplainedStep>, BTreeSet<StepNo>) {
    let own: Vec<Option<Said<StepReason>>> = view.facts.steps.iter().map(|step| view.own(step)).collect();
    let holders = Holders::of(view, &own);
    let explained = |(step, own): (&StepFacts, &Option<Said<StepReason>>)| ExplainedStep {
        no: step.no,
        name: step.name.clone(),
        said: own.clone().unwrap_or_else(|| holders.explain(step)),
    };
    let mut steps: Vec<ExplainedStep> = view.facts.steps.iter().zip(&own).map(explained).collect();
    steps.sort_by_key(|step| step.said.reason);
    let undecided = view.facts.steps.iter().filter(|step| holders.is_undecided(step)).map(|step| step.no).collect();
    (steps, undecided)
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

fn of_task(view: &View, steps: &[ExplainedStep], undecided: &BTreeSet<StepNo>, foretold: Option<Foretold>) -> Said<TaskReason> {
    let facts = view.facts;
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
        TaskState::Running => running(view, steps, undecided, foretold),
    }
}

fn failed(facts: &TaskFacts, end: &str, steps: &[ExplainedStep]) -> Said<TaskReason> {
    let (first, failed) = failures(facts, steps);
    let waiting = not_done(facts) - i64::from(facts.failed_steps);
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
    let entered = stale::entered(facts);
    Said::new(TaskReason::Failed, format!("Failed {end}{how} {first}{rest} Nothing moves by itself.{entered}"))
        .on(failed)
        .act(act)
}

fn running(view: &View, steps: &[ExplainedStep], undecided: &BTreeSet<StepNo>, foretold: Option<Foretold>) -> Said<TaskReason> {
    let facts = view.facts;
    let moving: Vec<&ExplainedStep> = steps.iter().filter(|step| moves(step.said.reason)).collect();
    let first = moving.first().map_or("It is not listed.", |step| step.said.sentence.as_str());
    let names = moving.iter().take(tasker_wire::limits::LISTED_NAMES).map(|step| step.name.clone()).collect();
    let act = |step: Option<&&ExplainedStep>| step.and_then(|step| step.said.act.clone());
    let said = if facts.failed_steps > 0 {
        let (failure, _) = failures(facts, steps);
        let sentence = format!("{failure}{}", beside_a_failure(view, steps, undecided));
        Said::new(TaskReason::Failing, sentence).act(act(steps.first().as_ref()))
    } else if !moving.is_empty()
        && moving.len() == facts.active_steps as usize
        && moving.iter().all(|step| step.said.reason == StepReason::Held)
    {
        Said::new(TaskReason::Held, first.to_owned()).act(act(moving.first()))
    } else {
        let (all, done) = (i64::from(facts.total_steps), i64::from(facts.total_steps) - not_done(facts));
        let sentence = format!("{done} of {} done. {first}", counted(all, "step"));
        Said::new(TaskReason::Running, sentence).act(act(moving.first()))
    };
    let sentence =
        format!("{}{}{}", said.sentence, stale::entered(facts), foretold.as_ref().map_or("", |foretold| &foretold.sentence));
    let times = steps.iter().filter_map(|step| step.said.changes_at).chain(foretold.map(|foretold| foretold.at));
    Said { sentence, ..said }.on(names).at(times.min())
}

/// What becomes of the other steps of a running task in which some failed.
fn beside_a_failure(view: &View, steps: &[ExplainedStep], undecided: &BTreeSet<StepNo>) -> String {
    use StepReason::*;
    let facts = view.facts;
    let is_paused = !facts.pauses.is_empty();
    let are_listed = steps.len() as i64 == not_done(facts) + facts.tolerated;
    let number = |count: usize| format!("{}{}", if are_listed { "" } else { "at least " }, counted(count as i64, "step"));
    let moves_alone = |step: &&ExplainedStep| match step.said.reason {
        Held => false,
        WaitingForRetry => !is_paused,
        reason => moves(reason),
    };
    let moving: Vec<&ExplainedStep> = steps.iter().filter(moves_alone).collect();
    let waits = |reason| matches!(reason, WaitingForPlace | WaitingForDecision | WaitingForParents);
    let (open, follow): (Vec<&ExplainedStep>, Vec<_>) =
        steps.iter().filter(|step| waits(step.said.reason)).partition(|step| undecided.contains(&step.no));
    let mut said = String::new();
    if let Some(first) = moving.first() {
        said += &format!(" {} can still move: {}", number(moving.len()), first.said.sentence);
    }
    if is_paused {
        let held = steps.iter().filter(|step| matches!(step.said.reason, Held | WaitingForRetry)).count();
        let waiting = held + open.len() + follow.len();
        if waiting > 0 {
            said += &format!(" {} cannot start before the end of {}.", number(waiting), view.pauses());
        }
    } else {
        if !follow.is_empty() {
            said += &{
                let count = follow.len();
                format!(" {} {} for such steps only, and {}.", number(count), verb(count, "wait"), verb(count, "follow"))
            };
        }
        let decides = |step: &&&ExplainedStep| {
            let kind = position(step.no).and_then(|at| view.workflow.steps.get(at)).map(|declared| declared.kind);
            matches!(kind, Some(StepKind::Decision | StepKind::Batchable))
        };
        if !open.is_empty() || moving.iter().chain(&follow).any(|step| decides(&step)) {
            said += " Which other steps follow is not decided yet.";
        }
    }
    let blocked = steps.iter().filter(|step| matches!(step.said.reason, Blocked | BatchStopped)).count();
    if blocked > 0 {
        let itself = if blocked == 1 { "itself" } else { "themselves" };
        said += &format!(" {} never {} by {itself}.", number(blocked), verb(blocked, "start"));
    }
    let fails = if is_paused { "" } else { ", and the task fails" };
    format!("{said} Then nothing moves by itself{fails}.")
}

/// A verb of so many subjects.
fn verb(count: usize, verb: &str) -> String {
    format!("{verb}{}", if count == 1 { "s" } else { "" })
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
