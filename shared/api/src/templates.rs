//! `/v1/templates`: register, list, show.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tasker_domain::did_you_mean;
use tasker_queue::Queue;
use tasker_wire::{
    Fault, limits,
    rest::{RegisteredTemplate, TemplateDetail, TemplateListResponse},
};

use crate::{
    App,
    problem::Problem,
    request::{self, InPath, QueryReader},
    shape,
};

/// `POST /v1/templates`
pub(crate) async fn register<Q: Queue>(
    State(app): State<App<Q>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    QueryReader::new(&uri).finish()?;
    let body = request::body(&headers, body, request::TEMPLATE, limits::TEMPLATE_BYTES).await?;
    let text = std::str::from_utf8(&body).map_err(|e| {
        Problem::malformed(Fault::new("", format!("the body is not UTF-8 from byte {} on", e.valid_up_to())).into())
    })?;
    let registered = app.engine.register_template(text).await?;
    let status = if registered.created { StatusCode::CREATED } else { StatusCode::OK };
    let answer = RegisteredTemplate {
        created: registered.created,
        name: registered.name,
        namespace: registered.namespace,
        notes: registered.notes,
        revision: registered.revision,
        version: registered.version,
    };
    Ok((status, Json(answer)).into_response())
}

/// `GET /v1/templates`
pub(crate) async fn list<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<TemplateListResponse>, Problem> {
    let mut query = QueryReader::new(&uri);
    let namespace = query.text("namespace");
    query.finish()?;
    let templates = app.engine.store().templates(namespace.as_deref()).await?;
    Ok(Json(shape::templates(templates, app.engine.store().namespaces().await?)))
}

/// The problem of a template that is not registered, with a near version or name.
async fn unknown<Q: Queue>(app: &App<Q>, [namespace, name, version]: &[String; 3]) -> Result<Problem, Problem> {
    let versions = app.engine.store().latest_revisions(namespace, name).await?;
    let hint = match versions.is_empty() {
        true => app.engine.near_template(namespace, name).await?,
        false => did_you_mean(version, versions.iter().map(|revision| revision.version.as_str())),
    };
    Ok(Problem::not_found_near("template", &hint))
}

/// `GET /v1/templates/{namespace}/{name}/{version}`
pub(crate) async fn show<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(identity): InPath<[String; 3]>,
    uri: Uri,
) -> Result<Json<TemplateDetail>, Problem> {
    QueryReader::new(&uri).finish()?;
    // PostgreSQL rejects such a parameter.
    if identity.iter().any(|part| part.contains('\0')) {
        return Err(Problem::not_found("template"));
    }
    let [namespace, name, version] = &identity;
    let found = app.engine.store().template(namespace, name, version).await?;
    let Some(revision) = found else { return Err(unknown(&app, &identity).await?) };
    let template_id = revision.template_id;
    let unreadable = |error| {
        tracing::error!(%error, %template_id, "a stored template cannot be read");
        Problem::internal()
    };
    shape::detail(identity, revision).map(Json).map_err(unreadable)
}
