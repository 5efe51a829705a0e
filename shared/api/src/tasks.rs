//! `/v1/tasks`: submit, list, show, explain, cancel.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header::LOCATION},
    response::{IntoResponse, Response},
};
use tasker_domain::{action::parse_cancellation, did_you_mean, request::parse_task_request};
use tasker_engine::{By, SubmitError, Unserved};
use tasker_queue::Queue;
use tasker_store::TaskFilter;
use tasker_wire::{
    TaskId, TaskState, limits,
    rest::{ExplainResponse, Pagination, TaskListResponse, TaskResponse},
};

use crate::{
    App, Place,
    problem::{Problem, result_of},
    request::{self, InPath, QueryReader},
    shape,
};

/// The default for `per_page`.
const PER_PAGE: u32 = 25;

/// `POST /v1/tasks`
pub(crate) async fn create<Q: Queue>(
    State(app): State<App<Q>>,
    Extension(place): Extension<Place>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut query = QueryReader::new(&uri);
    let wait = query.wait();
    let on_duplicate = query.text("on_duplicate");
    if on_duplicate.as_deref().is_some_and(|word| word != "return") {
        query.fault("on_duplicate", "must be return, or absent");
    }
    query.finish()?;
    let body = request::body(&headers, body, request::JSON, limits::BODY_BYTES).await?;
    let request = parse_task_request(&body).map_err(|error| request::refused_json(&body, error.into()))?;
    let (status, task, began_with) = match app.engine.submit_watched(request, request::traceparent(&headers)).await {
        Ok((submitted, waiter)) => {
            if let Some(wait) = wait {
                place.leave();
                app.engine.wait_for(waiter, wait).await;
            }
            (StatusCode::CREATED, submitted.task, wait.is_none().then_some(submitted.steps as i64))
        }
        Err(SubmitError::Duplicate { task, .. }) if on_duplicate.is_some() => {
            wait_for(&app, &place, task, wait).await;
            (StatusCode::OK, task, None)
        }
        Err(error) => return Err(error.into()),
    };
    let route = format!("/v1/tasks/{task}");
    let mut shown = result_of("the task was accepted", &route, || shown(&app, task)).await?;
    // It may have more by now. Clients of Tasker count those that it was created with.
    shown.total_steps = began_with.unwrap_or(shown.total_steps);
    Ok((status, [(LOCATION, route)], Json(shown)).into_response())
}

/// `GET /v1/tasks`
pub(crate) async fn list<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<TaskListResponse>, Problem> {
    let mut query = QueryReader::new(&uri);
    let per_page = query.number("per_page", 1..=limits::PAGE).unwrap_or(PER_PAGE);
    // Pages end where counting ends. Filters reach older tasks.
    let page = query.number("page", 1..=limits::COUNTED_ROWS as u32 / per_page).unwrap_or(1);
    let status = query.text("status");
    let states = status.as_deref().and_then(states);
    if status.is_some() && states.is_none() {
        let known: Vec<&str> = TaskState::ALL.iter().map(|s| s.as_str()).chain(["completed", "pending"]).collect();
        let near = did_you_mean(status.as_deref().unwrap_or_default(), known.iter().copied());
        query.fault("status", format!("must be one of {}{near}", known.join(", ")));
    }
    let filter = TaskFilter {
        namespace: query.text("namespace"),
        name: query.text("name"),
        states,
        initiator: query.text("initiator"),
        source_system: query.text("source_system"),
    };
    query.finish()?;
    let tasks = app.engine.store().tasks(&filter, page - 1, per_page).await?;
    let total = app.engine.store().count_tasks(&filter).await?;
    let tasks = tasks.into_iter().map(shape::listed).collect();
    Ok(Json(TaskListResponse { tasks, pagination: pagination(page, per_page, total) }))
}

/// `GET /v1/tasks/{task}`
pub(crate) async fn show<Q: Queue>(
    State(app): State<App<Q>>,
    Extension(place): Extension<Place>,
    InPath(task): InPath<String>,
    uri: Uri,
) -> Result<Json<TaskResponse>, Problem> {
    let mut query = QueryReader::new(&uri);
    let wait = query.wait();
    query.finish()?;
    let task = request::task_id(&task)?;
    wait_for(&app, &place, task, wait).await;
    Ok(Json(shown(&app, task).await?))
}

/// `GET /v1/tasks/{task}/explain`
pub(crate) async fn explain<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(task): InPath<String>,
    uri: Uri,
) -> Result<Json<ExplainResponse>, Problem> {
    QueryReader::new(&uri).finish()?;
    let task = request::task_id(&task)?;
    let explanation = app.engine.explain(task).await?.ok_or_else(|| Problem::not_found("task"))?;
    Ok(Json(shape::explanation(task, explanation)))
}

/// `DELETE /v1/tasks/{task}`
pub(crate) async fn cancel<Q: Queue>(
    State(app): State<App<Q>>,
    Extension(place): Extension<Place>,
    InPath(task): InPath<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TaskResponse>, Problem> {
    let mut query = QueryReader::new(&uri);
    let wait = query.wait();
    query.finish()?;
    let task = request::task_id(&task)?;
    let body = request::body(&headers, body, request::JSON, limits::BODY_BYTES).await?;
    let why = parse_cancellation(&body).map_err(|faults| request::refused_json(&body, faults.into()))?;
    app.engine.cancel_task(task, By { actor: why.actor, reason: why.reason, metadata: None }).await?;
    wait_for(&app, &place, task, wait).await;
    Ok(Json(result_of("the task was cancelled", &format!("/v1/tasks/{task}"), || shown(&app, task)).await?))
}

async fn wait_for<Q: Queue>(app: &App<Q>, place: &Place, task: TaskId, wait: Option<Duration>) {
    if let Some(wait) = wait {
        place.leave();
        app.engine.wait(task, wait).await;
    }
}

async fn shown<Q: Queue>(app: &App<Q>, id: TaskId) -> Result<TaskResponse, Problem> {
    let task = app.engine.store().task_detail(id).await?.ok_or_else(|| Problem::not_found("task"))?;
    let unserved = match task.task.state.is_finished() {
        true => Unserved::default(),
        false => app.engine.unserved(&task.template).await?,
    };
    Ok(shape::task(task, &unserved))
}

/// The states that a word means: a stored state, or one of Tasker's two words. `pending` means every state but complete.
fn states(word: &str) -> Option<Vec<TaskState>> {
    match word {
        "completed" => Some(vec![TaskState::Complete]),
        "pending" => Some(TaskState::ALL.iter().copied().filter(|&s| s != TaskState::Complete).collect()),
        _ => TaskState::parse(word).map(|state| vec![state]),
    }
}

fn pagination(page: u32, per_page: u32, total_count: i64) -> Pagination {
    let total_pages = total_count.max(0).unsigned_abs().div_ceil(per_page.into()) as i64;
    let has_next = i64::from(page) < total_pages;
    Pagination { page, per_page, total_count, total_pages, has_next, has_previous: page > 1 }
}
