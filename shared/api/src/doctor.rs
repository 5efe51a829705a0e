//! `GET /v1/doctor`: compares stored counters with the rows they count.

use axum::{Json, extract::State, http::Uri};
use tasker_queue::Queue;
use tasker_wire::rest::DoctorReport;

use crate::{App, problem::Problem, request::QueryReader, shape};

/// `GET /v1/doctor`
pub(crate) async fn examine<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<DoctorReport>, Problem> {
    QueryReader::new(&uri).finish()?;
    let found = app.engine.store().examine().await?;
    Ok(Json(shape::report(found, app.engine.unserved_pools().await?)))
}
