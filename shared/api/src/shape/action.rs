//! What operator actions change, and pauses.

use tasker_engine::{Effects, PauseChange};
use tasker_store::{Effect, Pause};
use tasker_wire::rest::{ActionResponse, PauseEntry, PauseResponse, StepEffect, Word};

use super::micros;

/// The `to_state` of a step that the action deletes.
const DELETED: &str = "deleted";

pub(crate) fn action(word: &str, applied: bool, effects: Effects, warnings: Vec<String>) -> ActionResponse {
    let Effects { steps, seen } = effects;
    ActionResponse { action: word.to_owned(), applied, seen, steps: steps.into_iter().map(effect).collect(), warnings }
}

pub(super) fn effect(Effect { step, name, was, state, .. }: Effect) -> StepEffect {
    StepEffect {
        step_uuid: step.uuid(),
        name,
        from_state: was.map(Word::Known),
        to_state: state.map_or_else(|| Word::Unknown(DELETED.to_owned()), Word::Known),
    }
}

pub(crate) fn pause(Pause { scope, actor, reason, created_at }: Pause) -> PauseEntry {
    PauseEntry { namespace: scope.namespace, template: scope.template, actor, reason, created_at: micros(created_at) }
}

pub(crate) fn pause_change(word: &str, applied: bool, change: PauseChange, warning: Option<String>) -> PauseResponse {
    PauseResponse {
        action: word.to_owned(),
        applied,
        seen: change.seen(),
        pause: change.pause.map(pause),
        held_steps: change.held_steps,
        warnings: warning.into_iter().collect(),
    }
}
