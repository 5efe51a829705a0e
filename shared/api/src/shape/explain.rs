//! Why a task and its steps are where they are.

use tasker_domain::explain::{Act, ExplainedStep, Explanation, Said};
use tasker_wire::{
    TaskId,
    rest::{ActHint, ExplainResponse, StepExplanation},
};

use super::micros;

pub(crate) fn explanation(id: TaskId, explanation: Explanation) -> ExplainResponse {
    let Explanation { now, namespace, template, state, task, steps, not_listed } = explanation;
    let Said { reason, sentence, waits_for, changes_at, act } = task;
    ExplainResponse {
        task_uuid: id.uuid(),
        namespace,
        name: template,
        status: state.into(),
        explained_at: micros(now),
        reason: reason.into(),
        sentence,
        waits_for,
        changes_at: changes_at.map(micros),
        act: act.map(hint),
        steps: steps.into_iter().map(|explained| step(id, explained)).collect(),
        steps_omitted: not_listed,
    }
}

fn step(task: TaskId, ExplainedStep { no, name, said }: ExplainedStep) -> StepExplanation {
    let Said { reason, sentence, waits_for, changes_at, act } = said;
    StepExplanation {
        step_uuid: task.step(no).uuid(),
        name,
        reason: reason.into(),
        sentence,
        waits_for,
        changes_at: changes_at.map(micros),
        act: act.map(hint),
    }
}

fn hint(Act { remedy, step, sentence }: Act) -> ActHint {
    ActHint { action: remedy.into(), step, sentence }
}
