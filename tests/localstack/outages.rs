//! Processes are killed, and queues and databases are unavailable: tasks finish later, and nothing else changes.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_test_support::{Proxy, kill_now};

use crate::deployment::{Deployment, Options, emulator, order, refused_deployment};

/// A little longer than a send lease.
const SEND_LEASE: Duration = Duration::from_secs(31);

/// Sweeps send what was not sent, a send lease later, at the cost of no attempt.
async fn all_end_by_sweeps(deployment: &Deployment) {
    deployment
        .until("all tasks have ended", || async {
            deployment.database.advance_clock(SEND_LEASE).await;
            deployment.sweep().await;
            deployment.value("select bool_and(state = 'complete') from tasker.tasks").await.filter(|v| v == "true")
        })
        .await;
    assert_eq!(deployment.value("select max(attempt) from tasker.steps").await.as_deref(), Some("1"));
    deployment.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_in_a_step_costs_no_attempt() {
    let Some(emulator) = emulator() else { return };
    let set = ["worker.visibility_seconds=3", "worker.max_receive_count=20"];
    let deployment = Deployment::deploy(emulator, Options { set: &set, ..Options::default() }).await;
    let task = deployment.submit(&order("O-1", json!({"work_ms": 1_500}))).await;
    // The first step runs in the Python worker for a second and a half.
    let pid = deployment.until("the worker runs", || async { deployment.processes("worker-python").first().copied() }).await;
    deployment.until("the step runs", || async { deployment.log("worker-python").contains("worker ready").then_some(()) }).await;
    assert!(kill_now(pid));
    assert_eq!(deployment.finished(&task).await["status"], "complete");
    let most = format!("select max(attempt) from tasker.steps where task_id = '{task}'");
    assert_eq!(deployment.value(&most).await.as_deref(), Some("1"));
    assert_ne!(deployment.processes("worker-python"), [pid]);
    deployment.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_killed_between_its_commit_and_its_send_delays_and_loses_nothing() {
    let Some(emulator) = emulator() else { return };
    let set = ["queues.completions.visibility_seconds=3", "queues.intake.visibility_seconds=3"];
    let deployment = Deployment::deploy(emulator, Options { set: &set, ..Options::default() }).await;

    // Intake by HTTP: the caller gets no answer, but the task exists, and a second request returns it.
    deployment.arm("die-before-send", "");
    let request = order("O-1", json!({}));
    let (status, answer) = deployment.post("/v1/tasks", &request, &[]).await;
    assert!(status.is_server_error() && !deployment.is_armed("die-before-send"), "{status}: {answer}");
    let (status, again) = deployment.post("/v1/tasks?on_duplicate=return", &request, &[]).await;
    assert_eq!(status.as_u16(), 200, "{again}");
    // Intake by the queue: the message comes again, as a duplicate.
    deployment.arm("die-before-send", "");
    deployment.send("intake", &[order("O-2", json!({})).to_string()]).await;
    deployment.until("the failpoint struck", || async { (!deployment.is_armed("die-before-send")).then_some(()) }).await;
    deployment.until("the queue of intake is empty", || async { (deployment.depth("intake").await == 0).then_some(()) }).await;
    assert_eq!(deployment.value("select count(*) from tasker.tasks").await.as_deref(), Some("2"));
    assert_eq!(
        deployment.value("select count(*) from tasker.outcomes").await.as_deref(),
        Some("0"),
        "nobody was told of their roots"
    );

    // A completion: the function is killed after its commit.
    deployment.arm("die-before-send", "");
    deployment.database.advance_clock(SEND_LEASE).await;
    // The sweep is killed first, because it sends as well.
    let killed = deployment.sweep().await;
    assert_eq!(killed["errorType"], "Runtime.ExitError", "{killed}");
    deployment.database.advance_clock(SEND_LEASE).await;
    deployment.arm("die-before-send", "");
    let killed = deployment.sweep().await;
    assert_eq!(killed["errorType"], "Runtime.ExitError", "{killed}");
    deployment.database.advance_clock(SEND_LEASE).await;
    assert_eq!(deployment.sweep().await["sent"], 2);
    deployment.until_true("select count(*) >= 2 from tasker.outcomes").await;
    deployment.arm("die-before-send", "");
    deployment
        .until("completion-callback was killed", || async { (!deployment.is_armed("die-before-send")).then_some(()) })
        .await;
    all_end_by_sweeps(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queues_refuse_tasks_are_taken_and_everything_drains_when_they_are_back() {
    let Some(emulator) = emulator() else { return };
    let proxy = Proxy::to(emulator.endpoint.strip_prefix("http://").unwrap()).await;
    let set = [format!("orchestrator_environment.AWS_ENDPOINT_URL_SQS=http://{}", proxy.address)];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let deployment = Deployment::deploy(emulator, Options { set: &set, ..Options::default() }).await;
    deployment.submit(&order("O-1", json!({}))).await;
    proxy.close();
    for n in 2..5 {
        deployment.submit(&order(&format!("O-{n}"), json!({}))).await;
    }
    assert!(proxy.refused() > 0);
    proxy.open();
    all_end_by_sweeps(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_outage_of_many_receives_makes_no_dead_letters() {
    let Some(emulator) = emulator() else { return };
    let proxy = Proxy::to(&emulator.database).await;
    let set = ["queues.completions.visibility_seconds=2", "queues.intake.visibility_seconds=2"];
    let database = Some(proxy.address.to_string());
    let deployment = Deployment::deploy(emulator, Options { set: &set, database, ..Options::default() }).await;
    let task = deployment.submit(&order("O-1", json!({"work_ms": 1_000}))).await;
    proxy.close();
    let (status, problem) = deployment.post("/v1/tasks", &order("O-2", json!({})), &[]).await;
    assert_eq!((status.as_u16(), &problem["error"]["code"]), (503, &json!("SERVICE_UNAVAILABLE")), "{problem}");
    deployment.send("intake", &[order("O-3", json!({})).to_string()]).await;
    // One log line for each batch of messages that comes back.
    let receives = |function: &str| deployment.log(function).matches("messages are delivered again later").count();
    deployment
        .until("six receives of each", || async {
            (receives("completion-callback") >= 6 && receives("task-intake") >= 6).then_some(())
        })
        .await;
    proxy.open();
    assert_eq!(deployment.finished(&task).await["status"], "complete");
    deployment.until_true("select count(*) = 2 and bool_and(state = 'complete') from tasker.tasks").await;
    for queue in ["completions", "intake"] {
        assert_eq!(deployment.depth(&format!("{queue}-dlq")).await, 0, "{queue}");
    }
    assert_eq!(deployment.value("select max(attempt) from tasker.steps").await.as_deref(), Some("1"));
    deployment.check().await;
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
    let deployment = Deployment::deploy(emulator, Options::default()).await;
    let task = deployment.submit(&order("O-1", json!({}))).await;
    assert_eq!(deployment.finished(&task).await["status"], "complete");
    // The steps of a rotation: the new password is pending, then valid, then current.
    let name = format!("{}/database", deployment.prefix);
    let new = json!({"username": deployment.login.user, "password": "planted-password-new"}).to_string();
    let pending = json!({"SecretId": name, "SecretString": new, "VersionStages": ["AWSPENDING"],
        "ClientRequestToken": "11111111-2222-3333-4444-555555555555"});
    let put: Value = deployment.aws_json("secretsmanager.PutSecretValue", &pending).await;
    assert_eq!(put["VersionStages"], json!(["AWSPENDING"]), "{put}");
    let user = &deployment.login.user;
    deployment.database.execute(&format!("alter role {user} password 'planted-password-new'")).await;
    let sessions = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'");
    deployment.database.execute(&sessions).await;
    // A session that was ended while idle may cause a 503; the client may send the request again.
    let task = deployment.until("a task is taken", || async {
        let (status, task) = deployment.post("/v1/tasks?on_duplicate=return", &order("O-2", json!({})), &[]).await;
        assert!(status.is_success() || status.as_u16() == 503, "{status}: {task}");
        task["task_uuid"].as_str().map(str::to_owned)
    });
    let task = task.await;
    assert_eq!(deployment.finished(&task).await["status"], "complete");
    for function in ["task-intake", "completion-callback", "operator-api"] {
        assert!(!deployment.log(function).contains("planted-password-new"), "{function}");
    }
    deployment.check().await;
}
