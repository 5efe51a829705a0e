//! `/v1/tasks/{task}/actions` and `/v1/tasks/{task}/workflow_steps/{step}/actions`: operator actions, and what they would do.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Uri},
};
use tasker_domain::action::{ActionRequest, GivenResult, StepOperation, TaskVerb, parse_step_operation, parse_task_action};
use tasker_engine::{By, OperatorAction, OperatorError, Precondition};
use tasker_queue::Queue;
use tasker_wire::{StepId, TaskId, limits, rest::ActionResponse};

use crate::{
    App,
    problem::Problem,
    request::{self, InPath, QueryReader},
    shape,
};

/// `POST /v1/tasks/{task}/actions`
pub(crate) async fn on_task<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(task): InPath<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ActionResponse>, Problem> {
    QueryReader::new(&uri).finish()?;
    let task = request::task_id(&task)?;
    let body = read(&headers, body).await?;
    let request = parse_task_action(&body).map_err(|faults| request::refused_json(&body, faults.into()))?;
    act(&app, (task, None), request, task_action).await
}

/// `POST /v1/tasks/{task}/workflow_steps/{step}/actions`
pub(crate) async fn on_step<Q: Queue>(
    State(app): State<App<Q>>,
    InPath((task, step)): InPath<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ActionResponse>, Problem> {
    QueryReader::new(&uri).finish()?;
    let step = request::step_id(&task, &step)?;
    let body = read(&headers, body).await?;
    let request = parse_step_operation(&body).map_err(|faults| request::refused_json(&body, faults.into()))?;
    act(&app, (step.task, Some(step)), request, step_action).await
}

/// Room for the largest result beside the other fields.
async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    request::body(headers, body, request::JSON, limits::BODY_BYTES).await
}

async fn act<Q: Queue, A>(
    app: &App<Q>,
    (task, step): (TaskId, Option<StepId>),
    request: ActionRequest<A>,
    action_of: impl Fn(A) -> (&'static str, OperatorAction),
) -> Result<Json<ActionResponse>, Problem> {
    let ActionRequest { action, actor, reason, metadata, seen, dry_run } = request;
    let (word, action) = action_of(action);
    let by = By { actor, reason, metadata };
    let done = app.engine.operate((task, step), action.clone(), by, Precondition { seen, dry_run }).await;
    let (effects, is_changed) = match done {
        Ok(effects) => (effects, false),
        Err(OperatorError::Changed(effects)) => (effects, true),
        Err(OperatorError::NotFound) if step.is_none() => return Err(Problem::not_found("task")),
        Err(error) => return Err(refused(error, step)),
    };
    let applied = !dry_run && !is_changed;
    let warnings = match app.engine.warnings((task, step), &action, &effects).await {
        // What was done is not undone because nobody can say what spoke against it.
        Err(_) if applied => Vec::new(),
        warnings => warnings?,
    };
    let response = shape::action(word, applied, effects, warnings);
    if is_changed { Err(Problem::changed(response)) } else { Ok(Json(response)) }
}

/// Says what an operator may do instead.
fn refused(error: OperatorError, step: Option<StepId>) -> Problem {
    let hint = match &error {
        OperatorError::Conflict { step: None, state } if state == "cancelled" => "; reopen it first",
        OperatorError::Conflict { step: None, state } if state == "error" => {
            "; it has no cancelled step, retry or redo the failed one"
        }
        OperatorError::Conflict { step: None, state } if step.is_some() && state == "complete" => "; its steps can be redone",
        OperatorError::Conflict { step: Some(_), state } => match &state[..] {
            "complete" | "resolved_manually" => "; redo it to run it and all that comes after it again",
            "enqueued" | "in_progress" => "; wait until it ends, or resolve it",
            "pending" => "; it waits, and the explanation of its task says what for",
            _ => "",
        },
        _ => "",
    };
    Problem::from(error).with_hint(hint)
}

fn task_action(verb: TaskVerb) -> (&'static str, OperatorAction) {
    match verb {
        TaskVerb::Cancel => ("cancel", OperatorAction::CancelTask),
        TaskVerb::Reopen => ("reopen", OperatorAction::ReopenTask),
        TaskVerb::Resolve => ("resolve", OperatorAction::ResolveTask),
        TaskVerb::Pause => ("pause", OperatorAction::PauseTask),
        TaskVerb::Resume => ("resume", OperatorAction::ResumeTask),
        TaskVerb::Note => ("note", OperatorAction::Note),
    }
}

fn step_action(operation: StepOperation) -> (&'static str, OperatorAction) {
    match operation {
        StepOperation::Retry(inputs) => ("retry", OperatorAction::RetryStep { inputs }),
        StepOperation::Redo(inputs) => ("redo", OperatorAction::RedoStep { inputs }),
        StepOperation::Resolve(GivenResult::Nothing) => ("resolve", OperatorAction::ResolveStep { result: None }),
        StepOperation::Resolve(GivenResult::Value(result)) => ("resolve", OperatorAction::ResolveStep { result: Some(result) }),
        StepOperation::Resolve(GivenResult::OfLease(lease)) => ("resolve", OperatorAction::ResolveStepAsLate { lease }),
        StepOperation::Skip => ("skip", OperatorAction::ResolveStep { result: None }),
        StepOperation::Note => ("note", OperatorAction::Note),
    }
}
