//! An operator's sessions hold locks under a running system.

use std::time::{Duration, Instant};

use serde_json::json;
use tasker_test_support::{
    database,
    dev::{Dev, Place, python_worker},
    wait_until,
};

use crate::load::{Accepted, template};

/// More than the bounds of statements and requests together, on a busy machine.
const SECONDS: Duration = Duration::from_secs(30);

#[test]
fn locked_rows_stop_only_their_tasks_and_a_locked_table_refuses_requests_in_time_and_both_are_named() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(database());
    let place = Place::create();
    place.template(&template());
    let dev = Dev::start(&place, &["--database-url", &database.url, "--worker", &python_worker("python")]);
    let operator = runtime.block_on(database.client());
    let execute = |sql: &str| runtime.block_on(operator.batch_execute(sql)).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let sessions = || {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'tasker'";
        runtime.block_on(operator.query_one(sql, &[])).unwrap().get::<_, i64>(0)
    };
    execute("set application_name = 'an operator'");

    let locked = [0, 1].map(|_| dev.submit("e2e", "brief", json!({"failures": 0})));
    let [one, other] = &locked;
    let rows = |table| format!("select from tasker.{table} where task_id in ('{one}', '{other}') for update;");
    execute(&format!("begin; {} {}", rows("steps"), rows("tasks")));
    let mut others = Accepted::default();
    others.ask(&dev, 8);
    assert_eq!(others.len(), 8);
    for task in others.ids() {
        assert_eq!(dev.finished(task)["status"], "complete");
    }
    let named = |held: &serde_json::Value| held.as_str().is_some_and(|held| held.contains("application an operator"));
    wait_until("the ready check names the session", || named(&dev.get("/health/ready")["info"]["locks"][0]));
    assert!(dev.logged("application an operator") > 0, "the log names it");
    assert!(sessions() <= 4, "{}", sessions());
    execute("commit");
    for task in &locked {
        assert_eq!(dev.finished(task)["status"], "complete");
        assert!(dev.steps(task).iter().all(|step| step["attempts"] == 1));
    }

    let before = dev.get("/v1/tasks")["pagination"]["total_count"].clone();
    execute("begin; lock table tasker.steps in access exclusive mode");
    wait_until("the process is unready and names the session", || {
        let unready = dev.get("/health/ready");
        unready["error"]["code"] == "SERVICE_UNAVAILABLE" && named(&unready["error"]["message"])
    });
    for _ in 0..5 {
        let begun = Instant::now();
        let (status, body) = dev.post("/v1/tasks", &json!({"namespace": "e2e", "name": "brief", "context": {"failures": 0}}));
        assert!(status == 503 && begun.elapsed() < SECONDS, "{status} after {:?}: {body}", begun.elapsed());
    }
    assert!(sessions() <= 4, "{}", sessions());
    execute("commit");
    wait_until("tasks are accepted again", || {
        dev.post("/v1/tasks", &json!({"namespace": "e2e", "name": "brief", "context": {"failures": 0}})).0 == 201
    });
    let after = dev.get("/v1/tasks")["pagination"]["total_count"].clone();
    assert_eq!(after.as_i64(), before.as_i64().map(|n| n + 1), "a refused request created nothing");
    dev.assert_healthy();
    assert!(dev.stop());
    drop(database);
    runtime.shutdown_timeout(Duration::from_secs(5));
}
