//! `/v1/tasks/{task}/workflow_steps`: list and show steps, and apply operator actions.

use std::collections::HashMap;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Uri},
};
use tasker_domain::action::{StepVerb, parse_step_action};
use tasker_engine::{By, OperatorError, Unserved};
use tasker_queue::Queue;
use tasker_store::{Resolution, StepDetail};
use tasker_wire::{Fault, Faults, StepId, StepState, limits, rest::StepResponse};

use crate::{
    App,
    problem::{Problem, result_of},
    request::{self, InPath, QueryReader},
    shape,
};

/// `GET /v1/tasks/{task}/workflow_steps`
pub(crate) async fn list<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(task): InPath<String>,
    uri: Uri,
) -> Result<Json<Vec<StepResponse>>, Problem> {
    QueryReader::new(&uri).finish()?;
    let task = request::task_id(&task)?;
    let steps = app.engine.store().steps(task, limits::LISTED_BYTES as i64).await?;
    let steps = steps.ok_or_else(|| Problem::not_found("task"))?;
    Ok(Json(responses(&app, steps).await?))
}

/// `GET /v1/tasks/{task}/workflow_steps/{step}`
pub(crate) async fn show<Q: Queue>(
    State(app): State<App<Q>>,
    InPath((task, step)): InPath<(String, String)>,
    uri: Uri,
) -> Result<Json<StepResponse>, Problem> {
    QueryReader::new(&uri).finish()?;
    Ok(Json(shown(&app, request::step_id(&task, &step)?).await?))
}

/// `PATCH /v1/tasks/{task}/workflow_steps/{step}`
pub(crate) async fn act<Q: Queue>(
    State(app): State<App<Q>>,
    InPath((task, step)): InPath<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<StepResponse>, Problem> {
    QueryReader::new(&uri).finish()?;
    let step = request::step_id(&task, &step)?;
    // Room for the largest result beside the other fields.
    let body = request::body(&headers, body, request::JSON, limits::BODY_BYTES).await?;
    let action = parse_step_action(&body).map_err(|faults| request::refused_json(&body, faults.into()))?;
    let by = By { actor: action.actor, reason: action.reason, metadata: action.metadata };
    let applied = match action.verb {
        StepVerb::Retry => app.engine.retry_step(step, by).await,
        StepVerb::Resolve(result) => app.engine.resolve_step(step, result, by).await,
    };
    applied.map_err(in_completion_data)?;
    let route = format!("/v1/tasks/{}/workflow_steps/{step}", step.task);
    Ok(Json(result_of("the action was applied", &route, || shown(&app, step)).await?))
}

/// Tasker's clients give the result and the metadata in an object of their own.
fn in_completion_data(error: OperatorError) -> OperatorError {
    let OperatorError::Invalid(Faults(faults)) = error else { return error };
    let placed = |fault: Fault| Fault::new(format!("/completion_data{}", fault.place), fault.message);
    OperatorError::Invalid(Faults(faults.into_iter().map(placed).collect()))
}

async fn shown<Q: Queue>(app: &App<Q>, step: StepId) -> Result<StepResponse, Problem> {
    let step = app.engine.store().step(step).await?.ok_or_else(|| Problem::not_found("step"))?;
    responses(app, vec![step]).await?.pop().ok_or_else(Problem::internal)
}

/// Reads the operator actions only if an operator resolved one of the steps.
async fn responses<Q: Queue>(app: &App<Q>, steps: Vec<StepDetail>) -> Result<Vec<StepResponse>, Problem> {
    let mut resolutions: HashMap<StepId, Resolution> = HashMap::new();
    if let Some(resolved) = steps.iter().find(|s| s.state == StepState::ResolvedManually) {
        let of_task = app.engine.store().resolutions(resolved.step.task).await?;
        resolutions.extend(of_task.into_iter().map(|r| (r.step, r)));
    }
    // All steps are of one task.
    let unserved = match steps.iter().find(|step| step.state == StepState::Enqueued) {
        Some(waiting) => app.engine.unserved(&waiting.template).await?,
        None => Unserved::default(),
    };
    let response = |step: StepDetail| {
        let resolution = resolutions.get(&step.step);
        shape::step(step, resolution, &unserved)
    };
    Ok(steps.into_iter().map(response).collect())
}
