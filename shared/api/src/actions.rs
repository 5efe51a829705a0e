//! `POST /v1/tasks/{task}/actions` and `POST /v1/tasks/{task}/workflow_steps/{step}/actions`: operator actions, and what they would do.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Uri},
};
use serde_json::value::RawValue;
use tasker_domain::action::{Operation, Requested, StepOperation, TaskOperation, parse_operation};
use tasker_engine::{By, Effects, OperatorAction, Precondition};
use tasker_queue::Queue;
use tasker_wire::{
    StepId, StepState, TaskId, limits,
    rest::{ActionResponse, EffectResponse},
};

use crate::{
    App,
    problem::Problem,
    request::{self, InPath, QueryReader},
};

/// `POST /v1/tasks/{task}/actions`
pub(crate) async fn on_task<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(task): InPath<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ActionResponse>, Problem> {
    let task = request::task_id(&task)?;
    let requested: Requested<TaskOperation> = read(&uri, &headers, body).await?;
    let action = match requested.operation {
        TaskOperation::Cancel => OperatorAction::CancelTask,
        TaskOperation::Reopen => OperatorAction::ReopenTask,
        TaskOperation::Resolve => OperatorAction::ResolveTask,
        TaskOperation::Pause => OperatorAction::PauseTask,
        TaskOperation::Resume => OperatorAction::ResumeTask,
        TaskOperation::Note => OperatorAction::Note,
    };
    carry_out(&app, (task, None), action, requested).await
}

/// `POST /v1/tasks/{task}/workflow_steps/{step}/actions`
pub(crate) async fn on_step<Q: Queue>(
    State(app): State<App<Q>>,
    InPath((task, step)): InPath<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ActionResponse>, Problem> {
    let step = request::step_id(&task, &step)?;
    let mut requested: Requested<StepOperation> = read(&uri, &headers, body).await?;
    let (inputs, result) = (requested.inputs.take(), requested.result.take());
    let action = match requested.operation {
        StepOperation::Retry => OperatorAction::RetryStep { inputs },
        StepOperation::Redo => OperatorAction::RedoStep { inputs },
        StepOperation::Resolve => OperatorAction::ResolveStep { result },
        StepOperation::Skip => OperatorAction::ResolveStep { result: None::<Box<RawValue>> },
        StepOperation::Note => OperatorAction::Note,
    };
    carry_out(&app, (step.task, Some(step)), action, requested).await
}

async fn read<T: Operation>(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<Requested<T>, Problem> {
    QueryReader::new(uri).finish()?;
    // Room for the largest result beside the other fields.
    let body = request::body(headers, body, request::JSON, limits::BODY_BYTES).await?;
    parse_operation(&body).map_err(|faults| request::refused_json(&body, faults.into()))
}

async fn carry_out<Q: Queue, T>(
    app: &App<Q>,
    target: (TaskId, Option<StepId>),
    action: OperatorAction,
    requested: Requested<T>,
) -> Result<Json<ActionResponse>, Problem> {
    let Requested { actor, reason, metadata, seen, dry_run, .. } = requested;
    let (verb, by) = (action.verb(), By { actor, reason, metadata });
    let effects = app.engine.operate(target, action, by, Precondition { seen, dry_run }).await?;
    Ok(Json(response(verb, !dry_run, effects)))
}

pub(crate) fn response(action: &str, applied: bool, Effects { steps, seen }: Effects) -> ActionResponse {
    let word = |state: StepState| state.as_str().to_owned();
    let effect = |effect: tasker_store::Effect| EffectResponse {
        step_uuid: effect.step.uuid(),
        name: effect.name,
        from_state: effect.was.map(word),
        to_state: effect.state.map_or_else(|| "deleted".to_owned(), word),
    };
    ActionResponse { action: action.to_owned(), applied, seen, steps: steps.into_iter().map(effect).collect() }
}
