//! `GET /v1/doctor`: whether what is stored is what the facts say.

use axum::{Json, extract::State, http::Uri};
use serde_json::{Value, json};
use tasker_queue::Queue;
use tasker_store::doctor::Difference;
use tasker_wire::TaskId;

use crate::{App, problem::Problem, request::QueryReader};

/// `GET /v1/doctor`
pub(crate) async fn examine<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<Value>, Problem> {
    QueryReader::new(&uri).finish()?;
    let found = app.engine.store().examine().await?;
    Ok(Json(json!({
        "checked": {"tasks": found.tasks, "steps": found.steps},
        "total": found.total,
        "differences": found.differences.into_iter().map(difference).collect::<Vec<_>>(),
    })))
}

fn difference(d: Difference) -> Value {
    // A step without a row has no name, only its id.
    let id = || TaskId::from_uuid(d.task).zip(d.no).map(|(task, no)| task.step(no).to_string());
    json!({"task_uuid": d.task, "step": d.step.clone().or_else(id), "what": d.what, "stored": d.stored, "facts": d.facts})
}
