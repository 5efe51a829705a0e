//! The health of a process with a database, without one, and with one that hangs; and the doctor.

use std::time::Duration;

use serde_json::json;
use tasker_test_support::poll;

use crate::rig::Rig;

#[tokio::test]
async fn without_a_database_the_process_is_alive_and_answers_503_with_retry_after() {
    let database = tasker_test_support::database().await;
    let rig = Rig::at("postgres://nobody@127.0.0.1:1/none", database);
    assert_eq!(rig.get("/health").await.status, 200);
    assert_eq!(rig.get("/health/live").await.status, 200);
    for answer in [
        rig.get("/health/ready").await,
        rig.get("/v1/tasks").await,
        rig.get("/v1/doctor").await,
        rig.post("/v1/tasks", &json!({"name": "small"})).await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "SERVICE_UNAVAILABLE"));
        assert_eq!(
            (answer.headers["retry-after"].as_bytes(), &answer.body["error"]["retry_after_seconds"]),
            (&b"2"[..], &json!(2))
        );
        assert!(!answer.body.to_string().contains("nobody"), "{answer:?}");
    }
}

#[tokio::test]
async fn the_doctor_finds_a_healthy_database_healthy_and_names_what_differs() {
    let rig = Rig::new().await;
    rig.submit(json!({})).await;
    let healthy = rig.get("/v1/doctor").await;
    assert_eq!(healthy.body, json!({"checked": {"tasks": 1, "steps": 2}, "total": 0, "differences": [], "locks": []}));
    rig.database.execute("update tasker.tasks set active_steps = 2").await;
    let sick = rig.get("/v1/doctor").await.body;
    assert_eq!((&sick["total"], &sick["differences"][0]["what"]), (&json!(1), &json!("active_steps")));
    assert_eq!((&sick["differences"][0]["stored"], &sick["differences"][0]["facts"]), (&json!("2"), &json!("1")));
}

#[tokio::test]
async fn a_database_that_hangs_makes_the_process_unready_in_time() {
    // It accepts connections and never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/none", silent.local_addr().unwrap());
    let rig = Rig::at(&url, tasker_test_support::database().await);
    let ready = tokio::time::timeout(Duration::from_secs(4), rig.get("/health/ready")).await.unwrap();
    assert_eq!((ready.status.as_u16(), ready.headers["retry-after"].as_bytes()), (503, &b"2"[..]));
}

#[tokio::test]
async fn a_locked_row_is_named_and_a_locked_table_makes_the_process_unready() {
    let rig = Rig::new().await;
    rig.submit(json!({})).await;
    let operator = rig.database.client().await;
    operator.batch_execute("set application_name = 'a migration'; begin; select from tasker.tasks for update").await.unwrap();
    let named = |held: &serde_json::Value| held.as_str().is_some_and(|held| held.contains(", application a migration, "));
    // Only what lasts is named.
    let ready = poll(Duration::from_millis(100), async || {
        let ready = rig.get("/health/ready").await;
        ready.body["info"]["locks"][0].is_string().then_some(ready)
    });
    let ready = ready.await.unwrap();
    assert!(ready.status == 200 && named(&ready.body["info"]["locks"][0]), "{ready:?}");
    let doctor = rig.get("/v1/doctor").await;
    assert!(doctor.status == 200 && named(&doctor.body["locks"][0]), "{doctor:?}");
    operator.batch_execute("lock table tasker.tasks").await.unwrap();
    for unready in [rig.get("/health/ready").await, rig.get("/v1/doctor").await] {
        assert!(unready.status == 503 && named(&unready.body["error"]["message"]), "{unready:?}");
    }
    let refused = rig.get("/v1/tasks").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "DATABASE_LOCKED"));
    operator.batch_execute("rollback").await.unwrap();
    assert_eq!(rig.get("/health/ready").await.status, 200);
    assert_eq!(rig.get("/v1/tasks").await.status, 200);
}

#[tokio::test]
async fn a_process_is_unready_while_any_part_of_it_has_a_problem_and_names_them_all() {
    let rig = Rig::new().await;
    rig.problems.set("ownership", ["nothing is handed over".to_owned()]);
    rig.problems.set("locks", ["a table is locked".to_owned()]);
    let unready = rig.get("/health/ready").await;
    assert_eq!((unready.status.as_u16(), unready.code()), (503, "SERVICE_UNAVAILABLE"));
    assert_eq!(unready.body["error"]["message"], "a table is locked; nothing is handed over");
    assert_eq!(unready.body["error"]["details"], json!({"problems": ["a table is locked", "nothing is handed over"]}));
    assert_eq!(rig.get("/health/live").await.status, 200);
    rig.problems.set("ownership", None);
    rig.problems.set("locks", None);
    assert_eq!(rig.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn what_was_done_is_not_refused_although_it_cannot_be_shown() {
    let rig = Rig::new().await;
    let kept = rig.submit(json!({"n": 1})).await;
    let operator = rig.database.client().await;
    // No statement that changes these needs this table, but what shows a task does.
    operator.batch_execute("begin; lock table tasker.attempts").await.unwrap();
    let created = rig.post("/v1/tasks", &json!({"name": "small", "namespace": "ns", "context": {"n": 2}})).await;
    let cancelled = rig.delete(&kept).await;
    for (answer, what) in [(&created, "the task was accepted"), (&cancelled, "the task was cancelled")] {
        assert_eq!((answer.status.as_u16(), answer.code()), (504, "UNCONFIRMED"), "{answer:?}");
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(what) && message.contains("GET /v1/tasks/"), "{message}");
    }
    operator.batch_execute("rollback").await.unwrap();
    assert_eq!(rig.count("tasks").await, 2);
    assert_eq!(rig.get(&kept).await.body["status"], "cancelled");
}
