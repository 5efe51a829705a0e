//! `/health`: whether the process is alive, and whether it is ready for requests.

use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use jiff::Timestamp;
use tasker_queue::Queue;
use tasker_store::Blocker;
use tasker_wire::rest::{Health, HealthCheck, Readiness, ReadinessChecks, ReadinessInfo};

use crate::{App, problem::Problem};

/// How long the database may take to answer. A load balancer decides from the response where to send requests.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /health`. It has a `worker_id`, because Tasker's clients expect the same document from a worker.
pub(crate) async fn basic<Q: Queue>(State(app): State<App<Q>>) -> Json<Health> {
    Json(health("healthy", &app))
}

/// `GET /health/live`
pub(crate) async fn live<Q: Queue>(State(app): State<App<Q>>) -> Json<Health> {
    Json(health("alive", &app))
}

fn health<Q>(status: &str, app: &App<Q>) -> Health {
    Health { status: status.into(), timestamp: now(), worker_id: app.settings.worker_id.clone() }
}

/// `GET /health/ready`. 503 names every problem: of the database, and those that other parts of this process have reported.
pub(crate) async fn ready<Q: Queue>(State(app): State<App<Q>>) -> Result<Json<Readiness>, Problem> {
    let begin = Instant::now();
    let mut problems = app.settings.problems.list();
    let mut locks = Vec::new();
    match tokio::time::timeout(PATIENCE, app.engine.store().blockers()).await {
        Ok(Err(error)) if error.is_transient() => problems.push("the database is not available".into()),
        Ok(blockers) => {
            for Blocker { text, all } in blockers? {
                // Locked rows delay only their own tasks.
                if all { &mut problems } else { &mut locks }.push(format!("another session holds {text}"));
            }
        }
        Err(_) => problems.push(format!("the database did not answer within {} s", PATIENCE.as_secs())),
    }
    if !problems.is_empty() {
        return Err(Problem::unready(problems));
    }
    let healthy = |duration_ms| HealthCheck { duration_ms, status: "healthy".into() };
    let database = healthy(begin.elapsed().as_millis() as u64);
    let process = healthy(0);
    let connections = app.engine.store().connections();
    Ok(Json(Readiness {
        checks: ReadinessChecks {
            circuit_breaker: process.clone(),
            command_processor: process.clone(),
            orchestration_database: database.clone(),
            orchestration_system: process,
            web_database: database,
        },
        info: ReadinessInfo {
            circuit_breaker_state: "Closed".into(),
            clock_jumps: app.engine.clock_jumps(),
            lost_dispatches: app.engine.lost_dispatches(),
            locks,
            environment: app.engine.settings().environment.clone(),
            operational_state: "Normal".into(),
            orchestration_database_pool_size: connections,
            version: env!("CARGO_PKG_VERSION").into(),
            web_database_pool_size: connections,
        },
        status: "ready".into(),
        timestamp: now(),
    }))
}

/// The clock of this process, for display only.
fn now() -> String {
    format!("{:.6}", Timestamp::now()).replace('Z', "+00:00")
}
