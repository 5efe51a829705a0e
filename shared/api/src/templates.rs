//! `/v1/templates`: register, list, show.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tasker_domain::template::Template;
use tasker_queue::Queue;
use tasker_store::read::TemplateRevision;
use tasker_wire::{Fault, limits};

use crate::{
    App,
    problem::Problem,
    request::{self, InPath, QueryReader},
};

#[derive(Serialize)]
pub(crate) struct TemplateList {
    namespaces: Vec<NamespaceSummary>,
    templates: Vec<TemplateSummary>,
    total_count: i64,
}

#[derive(Serialize)]
struct NamespaceSummary {
    name: String,
    description: Option<String>,
    template_count: i64,
}

#[derive(Serialize)]
struct TemplateSummary {
    name: String,
    namespace: String,
    version: String,
    description: Option<String>,
    step_count: i64,
}

/// A template as it was registered.
#[derive(Serialize)]
pub(crate) struct TemplateDetail {
    name: String,
    namespace: String,
    version: String,
    revision: i32,
    description: Option<String>,
    configuration: Box<RawValue>,
    steps: Vec<StepDefinition>,
}

#[derive(Serialize)]
struct StepDefinition {
    name: String,
    description: Option<String>,
    default_retryable: bool,
    default_max_attempts: u32,
    result_schema: Option<Value>,
}

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
    let answer = json!({
        "namespace": registered.namespace, "name": registered.name, "version": registered.version,
        "revision": registered.revision, "created": registered.created, "notes": registered.notes,
    });
    Ok((status, Json(answer)).into_response())
}

/// `GET /v1/templates`. As in Tasker the namespaces and the total do not know of the filter.
pub(crate) async fn list<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<TemplateList>, Problem> {
    let mut query = QueryReader::new(&uri);
    let namespace = query.text("namespace");
    query.finish()?;
    let templates = app.engine.store().templates(namespace.as_deref()).await?;
    let namespaces = app.engine.store().namespaces().await?;
    let total_count = namespaces.iter().map(|(_, count)| count).sum();
    let namespaces =
        namespaces.into_iter().map(|(name, template_count)| NamespaceSummary { name, description: None, template_count });
    let templates = templates.into_iter().map(|template| {
        let [namespace, name, version] = template.identity;
        TemplateSummary { name, namespace, version, description: template.description, step_count: template.steps }
    });
    Ok(Json(TemplateList { namespaces: namespaces.collect(), templates: templates.collect(), total_count }))
}

/// `GET /v1/templates/{namespace}/{name}/{version}`
pub(crate) async fn show<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(identity): InPath<[String; 3]>,
    uri: Uri,
) -> Result<Json<TemplateDetail>, Problem> {
    QueryReader::new(&uri).finish()?;
    // PostgreSQL cannot even be asked for such a name.
    let [namespace, name, version] = identity;
    if [&namespace, &name, &version].iter().any(|part| part.contains('\0')) {
        return Err(Problem::not_found("template"));
    }
    let found = app.engine.store().template(&namespace, &name, &version).await?;
    let revision = found.ok_or_else(|| Problem::not_found("template"))?;
    Ok(Json(detail([namespace, name, version], revision)?))
}

fn detail([namespace, name, version]: [String; 3], revision: TemplateRevision) -> Result<TemplateDetail, Problem> {
    let template: Template = serde_json::from_str(revision.definition.get()).map_err(|error| {
        tracing::error!(%error, template_id = %revision.template_id, "a stored template cannot be read");
        Problem::internal()
    })?;
    let steps = template.steps.into_iter().map(|step| StepDefinition {
        name: step.name,
        description: step.description,
        default_retryable: step.retry.retryable,
        default_max_attempts: step.retry.max_attempts,
        result_schema: step.result_schema,
    });
    Ok(TemplateDetail {
        name,
        namespace,
        version,
        revision: revision.revision,
        description: template.description,
        configuration: revision.definition,
        steps: steps.collect(),
    })
}
