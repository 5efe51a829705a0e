//! `GET /v1/doctor`: compares stored counters with the rows they count, and steps with what was decided.

use axum::{Json, extract::State, http::Uri};
use tasker_queue::Queue;
use tasker_store::Blocker;
use tasker_wire::rest::DoctorReport;

use crate::{App, problem::Problem, request::QueryReader, shape};

/// `GET /v1/doctor`
pub(crate) async fn examine<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<DoctorReport>, Problem> {
    QueryReader::new(&uri).finish()?;
    let store = app.engine.store();
    // First, because a locked table ends the examination.
    let blockers = store.blockers().await?;
    if let Some(Blocker { text, .. }) = blockers.iter().find(|blocker| blocker.all) {
        return Err(Problem::unavailable(format!("another session holds {text}; the rows cannot be read until it ends")));
    }
    let found = app.engine.examine().await?;
    Ok(Json(shape::report(found, blockers, app.engine.unserved_pools().await?)))
}
