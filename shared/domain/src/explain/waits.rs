//! The steps that wait for parents, and which step holds each of them up.

use std::collections::{BTreeMap, BTreeSet};

use tasker_wire::{StepReason, ids::position};

use super::{
    Said, StepFacts,
    step::{View, unexplained},
    words::{ahead, listed},
};
use crate::template::StepKind;

/// By position, the step that holds up the steps there, or what waits for them: its reason, and its place in the facts.
pub(super) struct Holders<'a> {
    view: &'a View<'a>,
    own: &'a [Option<Said<StepReason>>],
    held_up_by: BTreeMap<usize, (StepReason, usize)>,
    /// The positions of which it is not yet decided which steps they follow, or those that they follow.
    undecided: BTreeSet<usize>,
    /// By position, the places in the facts of the steps that are not done.
    at: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Holders<'a> {
    /// `own`: what is said of each step that waits for no parent.
    pub fn of(view: &'a View<'a>, own: &'a [Option<Said<StepReason>>]) -> Self {
        let mut at: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, step) in view.facts.steps.iter().enumerate().filter(|(_, step)| !step.tolerated) {
            if let Some(position) = position(step.no) {
                at.entry(position).or_default().push(place);
            }
        }
        let mut holders = Self { view, own, held_up_by: BTreeMap::new(), undecided: BTreeSet::new(), at };
        // In topological order: those of the parents are known.
        for &position in view.facts.open.keys() {
            if let Some(holder) = holders.find(position) {
                holders.held_up_by.insert(position, holder);
            }
            if holders
                .open_parents(position)
                .any(|parent| holders.decides(parent, position) || holders.undecided.contains(&parent))
            {
                holders.undecided.insert(position);
            }
        }
        holders
    }

    fn find(&self, position: usize) -> Option<(StepReason, usize)> {
        let here = self.at.get(&position).into_iter().flatten();
        let own = here.filter_map(|&place| Some((self.own[place].as_ref()?.reason, place))).min();
        own.or_else(|| self.open_parents(position).filter_map(|parent| self.held_up_by.get(&parent).copied()).min())
    }

    /// The positions of the parents that are not done: of those that exist, dependencies and the deciders that may add to them.
    fn open_parents(&self, position: usize) -> impl Iterator<Item = usize> {
        let declared = self.view.workflow.steps.get(position).into_iter();
        declared
            .flat_map(|step| step.parents.iter().chain(&step.guards))
            .copied()
            .filter(|at| self.view.facts.open.contains_key(at))
    }

    /// Whether it is not yet decided which steps a step follows, or those that it follows.
    pub fn is_undecided(&self, step: &StepFacts) -> bool {
        position(step.no).is_some_and(|at| self.undecided.contains(&at))
    }

    /// Whether a parent may add to the parents of a step.
    fn decides(&self, parent: usize, position: usize) -> bool {
        let [parent_step, step] = [parent, position].map(|at| &self.view.workflow.steps[at]);
        step.guards.contains(&parent) || parent_step.kind == StepKind::Decision && step.kind == StepKind::DeferredConvergence
    }

    /// What is said of a step that waits for parents.
    pub fn explain(&self, step: &StepFacts) -> Said<StepReason> {
        let at = position(step.no).expect("its parents are known by its position");
        let parents: Vec<usize> = self.open_parents(at).collect();
        if parents.is_empty() {
            return unexplained(step);
        }
        let names: Vec<String> = parents.iter().flat_map(|&parent| self.names(parent)).collect();
        let all = listed(&names, step.pending_parents.into());
        let holder = parents.iter().filter_map(|parent| self.held_up_by.get(parent).copied()).min();
        let why = holder.map(|(reason, place)| format!("; {}", self.phrase(reason, place))).unwrap_or_default();
        let waits = format!("{} waits for {} of {} parents: {all}{why}", step.name, step.pending_parents, step.parents);
        let said = match holder {
            Some((reason, _)) if ends_never(reason) => {
                Said::new(StepReason::Blocked, format!("{waits}. It never starts by itself."))
            }
            _ if parents.iter().all(|&parent| self.decides(parent, at)) => {
                let sentence = format!("{} waits until it is decided which steps it follows, by {all}{why}.", step.name);
                Said::new(StepReason::WaitingForDecision, sentence)
            }
            _ => Said::new(StepReason::WaitingForParents, format!("{waits}.")),
        };
        said.act(holder.and_then(|(_, place)| self.own[place].as_ref()?.act.clone())).on(names)
    }

    /// The names of the steps at a position that are not done, or of their pattern if none of them is listed.
    fn names(&self, position: usize) -> Vec<String> {
        let name = |&place: &usize| self.view.facts.steps[place].name.clone();
        match self.at.get(&position) {
            Some(places) => places.iter().take(tasker_wire::limits::LISTED_NAMES).map(name).collect(),
            None => vec![self.view.workflow.steps[position].name.clone()],
        }
    }

    /// What the step does that holds others up.
    fn phrase(&self, reason: StepReason, place: usize) -> String {
        let StepFacts { name, wake_at, .. } = &self.view.facts.steps[place];
        let does = match reason {
            StepReason::Failed => "failed for good".to_owned(),
            StepReason::Cancelled => "was cancelled".to_owned(),
            StepReason::BatchStopped => "waits for a place in a batch that has stopped".to_owned(),
            StepReason::NoWorkers => "waits for a worker of a pool without one".to_owned(),
            StepReason::DeadLetter => "is dispatched, and its message was given up".to_owned(),
            StepReason::Held => "is held by a pause".to_owned(),
            StepReason::Silent => "is silent".to_owned(),
            StepReason::Resuming => "was held by a pause".to_owned(),
            StepReason::WaitingForRetry => {
                let due = wake_at.map(|at| ahead(at, self.view.facts.now)).unwrap_or_default();
                let ends_before = self.view.ends_at.is_some_and(|end| *wake_at > Some(end));
                let unless = if ends_before { ", unless the task is ended before" } else { "" };
                format!("failed, and its next attempt is due {due}{unless}")
            }
            StepReason::WaitingForCallback => "waits for its callback".to_owned(),
            StepReason::Running => "runs".to_owned(),
            StepReason::WaitingForWorker => "is dispatched".to_owned(),
            StepReason::WaitingForPlace => "waits for a place in its batch".to_owned(),
            _ => "is not dispatched".to_owned(),
        };
        format!("{name} {does}")
    }
}

/// Whether only an operator ends a step that is so.
fn ends_never(reason: StepReason) -> bool {
    matches!(reason, StepReason::Failed | StepReason::Cancelled | StepReason::BatchStopped)
}
