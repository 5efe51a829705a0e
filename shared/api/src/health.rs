//! `/health`: whether the process lives, and whether it can do something useful.

use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde_json::{Value, json};
use tasker_queue::Queue;

use crate::{App, problem::Problem};

/// How long the database may take to answer; whoever asks decides by it where to send requests.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /health`. With `worker_id`, so that it is also what Tasker's clients expect of a worker under the same path.
pub(crate) async fn basic<Q: Queue>(State(app): State<App<Q>>) -> Json<Value> {
    Json(json!({"status": "healthy", "timestamp": now(), "worker_id": app.settings.worker_id}))
}

/// `GET /health/live`
pub(crate) async fn live<Q: Queue>(State(app): State<App<Q>>) -> Json<Value> {
    Json(json!({"status": "alive", "timestamp": now(), "worker_id": app.settings.worker_id}))
}

/// `GET /health/ready`. Everything but the database is in this process, so it is as well as this answer.
pub(crate) async fn ready<Q: Queue>(State(app): State<App<Q>>) -> Result<Json<Value>, Problem> {
    let begin = Instant::now();
    match tokio::time::timeout(PATIENCE, app.engine.store().ping()).await {
        Ok(answer) => answer.map(drop)?,
        Err(_) => return Err(Problem::unavailable(format!("the database did not answer within {} s", PATIENCE.as_secs()))),
    }
    let database = json!({"status": "healthy", "duration_ms": begin.elapsed().as_millis() as u64});
    let process = json!({"status": "healthy", "duration_ms": 0});
    let connections = app.engine.store().connections();
    Ok(Json(json!({
        "status": "ready",
        "timestamp": now(),
        "checks": {
            "web_database": database,
            "orchestration_database": database,
            "circuit_breaker": process,
            "orchestration_system": process,
            "command_processor": process,
        },
        "info": {
            "version": env!("CARGO_PKG_VERSION"),
            "environment": app.engine.settings().environment,
            "operational_state": "Normal",
            "web_database_pool_size": connections,
            "orchestration_database_pool_size": connections,
            "circuit_breaker_state": "Closed",
        },
    })))
}

/// This process's time: it is shown, and nothing is decided by it.
fn now() -> String {
    format!("{:.6}", Timestamp::now()).replace('Z', "+00:00")
}
