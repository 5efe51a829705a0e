//! Whether a task becomes stale, and what is done then.

use jiff::Timestamp;
use tasker_wire::{StepState, TaskState, ids::position};

use super::{
    EntryFacts, TaskFacts, ThresholdFacts,
    words::{ahead, clock, counted, since},
};
use crate::{
    staleness::{Threshold, WaitingStep, next_stale},
    template::{StalenessAction, Workflow},
};

const REASON: &str = "staleness_timeout";

/// What the look for stale tasks does if nothing moves before.
pub(super) struct Foretold {
    /// When the task becomes stale. The next look comes after it.
    pub at: Timestamp,
    /// Whether the task is ended; otherwise it gets an entry, and goes on.
    pub ends: bool,
    pub sentence: String,
}

pub(super) fn foretold(facts: &TaskFacts, workflow: &Workflow) -> Option<Foretold> {
    let ThresholdFacts { lifecycle, facts: clocks, entered } = facts.bounds.as_ref()?;
    let (wait, at_ms) = next_stale(lifecycle, clocks)?;
    let at = Timestamp::from_millisecond(at_ms).ok()?;
    let is_entered = || open_entry(facts).is_some() || entered.iter().any(|entry| wait.is_entered(entry));
    let (ends, then) = match lifecycle.staleness_action {
        StalenessAction::Error => (true, "ends it as error, and cancels its unfinished steps"),
        StalenessAction::Dlq if !is_entered() => (false, "opens a DLQ entry, and it goes on"),
        StalenessAction::Dlq | StalenessAction::None => return None,
    };
    let name = wait.step.map(|step| name(facts, workflow, step)).unwrap_or_default();
    let (what, unless) = match wait.threshold {
        Threshold::StepsInProcess => (format!("{name} is in process"), format!("{name} moves")),
        Threshold::WaitingForRetry => (format!("{name} waits for its retry"), format!("{name} moves")),
        Threshold::WaitingForDependencies => (format!("{name} waits for parents, and no step ends,"), "a step ends".to_owned()),
        Threshold::Duration => ("it runs".to_owned(), "it ends".to_owned()),
    };
    let allowed = format!("{what} for more than {} ({})", counted(wait.allowed_ms / 60_000, "minute"), wait.threshold.key());
    let sentence = match wait.is_stale() {
        true => format!(" It is stale since {}: {allowed}. The next look {then}.", clock(at, facts.now)),
        false => {
            let ahead = ahead(at, facts.now);
            format!(" Unless {unless} before, it is stale {ahead}: {allowed}. The next look after that {then}.")
        }
    };
    Some(Foretold { at, ends, sentence })
}

/// What is said of a task because it is or was stale.
pub(super) fn entered(facts: &TaskFacts) -> String {
    let Some(entry) = open_entry(facts) else { return String::new() };
    let waits = |no| facts.steps.iter().any(|step| step.no == no && step.state == StepState::WaitingForRetry);
    let act = match facts.state {
        TaskState::Error => "recovers or investigates",
        TaskState::Running if entry.no.is_some_and(waits) => "recovers or investigates",
        TaskState::Running => "investigates",
        _ => return String::new(),
    };
    format!(" DLQ entry {REASON} {} because of {}: an operator {act} it.", since(entry.since, facts.now), entry.detail)
}

fn open_entry(facts: &TaskFacts) -> Option<&EntryFacts> {
    facts.entries.iter().find(|entry| entry.reason == REASON)
}

fn name(facts: &TaskFacts, workflow: &Workflow, step: WaitingStep) -> String {
    let listed = facts.steps.iter().find(|listed| listed.no == step.no).map(|listed| &listed.name);
    let declared = || position(step.no).and_then(|at| workflow.steps.get(at)).map(|declared| &declared.name);
    listed.or_else(declared).cloned().unwrap_or_default()
}
