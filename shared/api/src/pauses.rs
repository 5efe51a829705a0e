//! `/v1/pauses`: paused namespaces and templates.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Uri},
};
use tasker_domain::action::{PauseRequest, check_scope, parse_pause};
use tasker_engine::{By, PauseChange};
use tasker_queue::Queue;
use tasker_store::{PauseScope, StoreError};
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
    change("pause", request, warning, |by, dry_run| app.engine.pause(scope.clone(), by, dry_run)).await
}

async fn resume<Q: Queue>(app: &App<Q>, scope: PauseScope, request: PauseRequest) -> Result<Json<PauseResponse>, Problem> {
    change("resume", request, None, |by, dry_run| app.engine.resume(scope.clone(), by, dry_run)).await
}

/// Makes a change, unless its dry run no longer says what the caller saw. What is held changes with every step that becomes ready, so
/// this compares before it acts, and not under a lock.
async fn change<F: Future<Output = Result<PauseChange, StoreError>>>(
    word: &str,
    PauseRequest { actor, reason, seen, dry_run }: PauseRequest,
    warning: Option<String>,
    make: impl Fn(By, bool) -> F,
) -> Result<Json<PauseResponse>, Problem> {
    let by = By { actor, reason, metadata: None };
    if let Some(seen) = seen.filter(|_| !dry_run) {
        let now = make(by.clone(), true).await?;
        if now.seen() != seen {
            return Err(Problem::changed_pause(shape::pause_change(word, false, now, warning)));
        }
    }
    Ok(Json(shape::pause_change(word, !dry_run, make(by, dry_run).await?, warning)))
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
