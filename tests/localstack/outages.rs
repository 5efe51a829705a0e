//! Processes are killed, and what the functions need goes away: tasks finish later, and nothing else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cell::{Cell, Options, emulator, order, refused_deployment},
    proxy::Proxy,
};

/// A little more than a message may be on its way to a queue before it is sent again.
const SEND_LEASE: Duration = Duration::from_secs(31);

fn kill(pid: i32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// What was not sent is sent by the schedule, a send lease later, and no attempt is used by that.
async fn all_end_by_sweeps(cell: &Cell) {
    cell.until("all tasks have ended", || async {
        cell.database.advance_clock(SEND_LEASE).await;
        cell.sweep().await;
        cell.value("select bool_and(state = 'complete') from tasker.tasks").await.filter(|v| v == "true")
    })
    .await;
    assert_eq!(cell.value("select max(attempt) from tasker.steps").await.as_deref(), Some("1"));
    cell.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_in_a_step_costs_no_attempt() {
    let Some(emulator) = emulator() else { return };
    let set = ["worker.visibility_seconds=3", "worker.max_receive_count=20"];
    let cell = Cell::deploy(emulator, Options { set: &set, ..Options::default() }).await;
    let task = cell.submit(&order("O-1", json!({"work_ms": 1_500}))).await;
    // The first step runs in the process of the Python worker, for a second and a half.
    let pid = cell.until("the worker runs", || async { cell.processes("worker-python").first().copied() }).await;
    cell.until("the step runs", || async { cell.log("worker-python").contains("worker ready").then_some(()) }).await;
    kill(pid);
    assert_eq!(cell.finished(&task).await["status"], "complete");
    let most = format!("select max(attempt) from tasker.steps where task_id = '{task}'");
    assert_eq!(cell.value(&most).await.as_deref(), Some("1"));
    assert_ne!(cell.processes("worker-python"), [pid]);
    cell.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_killed_between_its_commit_and_its_send_delays_and_loses_nothing() {
    let Some(emulator) = emulator() else { return };
    let set = ["queues.completions.visibility_seconds=3", "queues.intake.visibility_seconds=3"];
    let cell = Cell::deploy(emulator, Options { set: &set, ..Options::default() }).await;

    // Intake by HTTP: the caller hears nothing, the task is there, and the same request says so.
    cell.arm("die-before-send", "");
    let request = order("O-1", json!({}));
    let (status, answer) = cell.post("/v1/tasks", &request, &[]).await;
    assert!(status.is_server_error() && !cell.is_armed("die-before-send"), "{status}: {answer}");
    let (status, again) = cell.post("/v1/tasks?on_duplicate=return", &request, &[]).await;
    assert_eq!(status.as_u16(), 200, "{again}");
    // Intake by the queue: the message comes again, and is a duplicate of itself.
    cell.arm("die-before-send", "");
    cell.send("intake", &[order("O-2", json!({})).to_string()]).await;
    cell.until("the failpoint struck", || async { (!cell.is_armed("die-before-send")).then_some(()) }).await;
    cell.until("the queue of intake is empty", || async { (cell.depth("intake").await == 0).then_some(()) }).await;
    assert_eq!(cell.value("select count(*) from tasker.tasks").await.as_deref(), Some("2"));
    assert_eq!(cell.value("select count(*) from tasker.attempts").await.as_deref(), Some("0"), "nobody was told of their roots");

    // A completion: the next one is killed after it was committed.
    cell.arm("die-before-send", "");
    cell.database.advance_clock(SEND_LEASE).await;
    // Whoever sweeps is killed first, for it sends as well.
    let killed = cell.sweep().await;
    assert_eq!(killed["errorType"], "Runtime.ExitError", "{killed}");
    cell.database.advance_clock(SEND_LEASE).await;
    cell.arm("die-before-send", "");
    let killed = cell.sweep().await;
    assert_eq!(killed["errorType"], "Runtime.ExitError", "{killed}");
    cell.database.advance_clock(SEND_LEASE).await;
    assert_eq!(cell.sweep().await["sent"], 2);
    cell.until_true("select count(*) >= 2 from tasker.attempts").await;
    cell.arm("die-before-send", "");
    cell.until("completion-callback was killed", || async { (!cell.is_armed("die-before-send")).then_some(()) }).await;
    all_end_by_sweeps(&cell).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queues_refuse_tasks_are_taken_and_everything_drains_when_they_are_back() {
    let Some(emulator) = emulator() else { return };
    let proxy = Proxy::to(emulator.endpoint.strip_prefix("http://").unwrap()).await;
    let set = [format!("orchestrator_environment.AWS_ENDPOINT_URL_SQS=http://{}", proxy.address)];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let cell = Cell::deploy(emulator, Options { set: &set, ..Options::default() }).await;
    cell.submit(&order("O-1", json!({}))).await;
    proxy.close();
    for n in 2..5 {
        cell.submit(&order(&format!("O-{n}"), json!({}))).await;
    }
    assert!(proxy.refused() > 0);
    proxy.open();
    all_end_by_sweeps(&cell).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_many_receives_brings_nothing_into_a_dead_letter_queue() {
    let Some(emulator) = emulator() else { return };
    let proxy = Proxy::to(&emulator.database).await;
    let set = ["queues.completions.visibility_seconds=2", "queues.intake.visibility_seconds=2"];
    let database = Some(proxy.address.to_string());
    let cell = Cell::deploy(emulator, Options { set: &set, database, ..Options::default() }).await;
    let task = cell.submit(&order("O-1", json!({"work_ms": 1_000}))).await;
    proxy.close();
    let (status, problem) = cell.post("/v1/tasks", &order("O-2", json!({})), &[]).await;
    assert_eq!((status.as_u16(), &problem["error"]["code"]), (503, &json!("SERVICE_UNAVAILABLE")), "{problem}");
    cell.send("intake", &[order("O-3", json!({})).to_string()]).await;
    // Said once for each time that messages come back.
    let receives = |function: &str| cell.log(function).matches("messages are delivered again later").count();
    cell.until("six receives of each", || async {
        (receives("completion-callback") >= 6 && receives("task-intake") >= 6).then_some(())
    })
    .await;
    proxy.open();
    assert_eq!(cell.finished(&task).await["status"], "complete");
    cell.until_true("select count(*) = 2 and bool_and(state = 'complete') from tasker.tasks").await;
    for queue in ["completions", "intake"] {
        assert_eq!(cell.depth(&format!("{queue}-dlq")).await, 0, "{queue}");
    }
    assert_eq!(cell.value("select max(attempt) from tasker.steps").await.as_deref(), Some("1"));
    cell.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_under_the_certificate_of_another_authority_is_refused() {
    let Some(mut emulator) = emulator() else { return };
    emulator.authority.set_file_name("other-ca.crt");
    let (said, log) = refused_deployment(&emulator).await;
    assert!(said.contains("certificate"), "{said}");
    assert!(!said.contains("planted-password") && !log.contains("planted-password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_rotated_while_functions_run_is_found_by_them() {
    let Some(emulator) = emulator() else { return };
    let cell = Cell::deploy(emulator, Options::default()).await;
    let task = cell.submit(&order("O-1", json!({}))).await;
    assert_eq!(cell.finished(&task).await["status"], "complete");
    // As a rotation does it: the new password is pending, then it holds, then it is said to be current.
    let name = format!("{}/database", cell.prefix);
    let new = json!({"username": cell.login.user, "password": "planted-password-new"}).to_string();
    let pending = json!({"SecretId": name, "SecretString": new, "VersionStages": ["AWSPENDING"],
        "ClientRequestToken": "11111111-2222-3333-4444-555555555555"});
    let put: Value = cell.aws_json("secretsmanager.PutSecretValue", &pending).await;
    assert_eq!(put["VersionStages"], json!(["AWSPENDING"]), "{put}");
    let user = &cell.login.user;
    cell.database.execute(&format!("alter role {user} password 'planted-password-new'")).await;
    let sessions = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'");
    cell.database.execute(&sessions).await;
    // A session that was ended while nobody used it may cost a 503, which says that the same request may be sent again.
    let task = cell.until("a task is taken", || async {
        let (status, task) = cell.post("/v1/tasks?on_duplicate=return", &order("O-2", json!({})), &[]).await;
        assert!(status.is_success() || status.as_u16() == 503, "{status}: {task}");
        task["task_uuid"].as_str().map(str::to_owned)
    });
    let task = task.await;
    assert_eq!(cell.finished(&task).await["status"], "complete");
    for function in ["task-intake", "completion-callback", "operator-api"] {
        assert!(!cell.log(function).contains("planted-password-new"), "{function}");
    }
    cell.check().await;
}
