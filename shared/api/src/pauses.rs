//! `/v1/pauses`: paused namespaces and templates.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Uri},
};
use tasker_domain::action::{PauseRequest, check_scope, parse_pause};
use tasker_engine::By;
use tasker_queue::Queue;
use tasker_store::PauseScope;
use tasker_wire::{
    limits,
    rest::{PauseListResponse, PauseResponse},
};

use crate::{
    App,
    problem::Problem,
    request::{self, InPath, QueryReader},
    shape,
};

/// `GET /v1/pauses`
pub(crate) async fn list<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<PauseListResponse>, Problem> {
    QueryReader::new(&uri).finish()?;
    let pauses = app.engine.store().pauses().await?;
    Ok(Json(PauseListResponse { pauses: pauses.into_iter().map(shape::pause).collect() }))
}

/// `PUT /v1/pauses/{namespace}`
pub(crate) async fn pause_namespace<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(namespace): InPath<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseResponse>, Problem> {
    pause(&app, scope(namespace, None)?, request(&uri, &headers, body).await?).await
}

/// `PUT /v1/pauses/{namespace}/{template}`
pub(crate) async fn pause_template<Q: Queue>(
    State(app): State<App<Q>>,
    InPath((namespace, template)): InPath<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseResponse>, Problem> {
    pause(&app, scope(namespace, Some(template))?, request(&uri, &headers, body).await?).await
}

/// `DELETE /v1/pauses/{namespace}`
pub(crate) async fn resume_namespace<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(namespace): InPath<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseResponse>, Problem> {
    resume(&app, scope(namespace, None)?, request(&uri, &headers, body).await?).await
}

/// `DELETE /v1/pauses/{namespace}/{template}`
pub(crate) async fn resume_template<Q: Queue>(
    State(app): State<App<Q>>,
    InPath((namespace, template)): InPath<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PauseResponse>, Problem> {
    resume(&app, scope(namespace, Some(template))?, request(&uri, &headers, body).await?).await
}

async fn pause<Q: Queue>(app: &App<Q>, scope: PauseScope, request: PauseRequest) -> Result<Json<PauseResponse>, Problem> {
    let warning = app.engine.unknown_scope(&scope).await?;
    let PauseRequest { actor, reason, seen, dry_run } = request;
    let by = By { actor, reason, metadata: None };
    if let Some(seen) = seen.filter(|_| !dry_run) {
        let now = app.engine.pause(scope.clone(), by.clone(), true).await?;
        refuse_change(&seen, shape::pause_change("pause", false, now, warning.clone()))?;
    }
    let change = app.engine.pause(scope, by, dry_run).await?;
    Ok(Json(shape::pause_change("pause", !dry_run, change, warning)))
}

async fn resume<Q: Queue>(app: &App<Q>, scope: PauseScope, request: PauseRequest) -> Result<Json<PauseResponse>, Problem> {
    let PauseRequest { actor, reason, seen, dry_run } = request;
    let by = By { actor, reason, metadata: None };
    if let Some(seen) = seen.filter(|_| !dry_run) {
        let now = app.engine.resume(scope.clone(), by.clone(), true).await?;
        refuse_change(&seen, shape::pause_change("resume", false, now, None))?;
    }
    let change = app.engine.resume(scope, by, dry_run).await?;
    Ok(Json(shape::pause_change("resume", !dry_run, change, None)))
}

/// What is held changes with every step that becomes ready, so this compares before it acts, and not under a lock.
fn refuse_change(seen: &str, now: PauseResponse) -> Result<(), Problem> {
    if now.seen == seen { Ok(()) } else { Err(Problem::changed_pause(now)) }
}

fn scope(namespace: String, template: Option<String>) -> Result<PauseScope, Problem> {
    check_scope(&namespace, template.as_deref())?;
    Ok(PauseScope { namespace, template })
}

async fn request(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<PauseRequest, Problem> {
    QueryReader::new(uri).finish()?;
    let body = request::body(headers, body, request::JSON, limits::BODY_BYTES).await?;
    parse_pause(&body).map_err(|faults| request::refused_json(&body, faults.into()))
}
