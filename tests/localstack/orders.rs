//! Orders from the request to the end, and messages that nobody can read.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::deployment::{Deployment, Options, PLANTED, emulator, order};

const FUNCTIONS: [&str; 4] = ["task-intake", "completion-callback", "worker-rust", "worker-python"];

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_through_all_functions_and_both_workers_under_one_correlation_id_and_one_trace() {
    let Some(emulator) = emulator() else { return };
    let deployment = Deployment::deploy(emulator, Options { schedule: true, zips: true, ..Options::default() }).await;
    let (trace, correlation) = ("4bf92f3577b34da6a3ce929d0e0e4736", "0191f9c0-0000-7000-8000-00000000abcd");
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let mut request = order("O-1", json!({"payment": {"card": PLANTED}}));
    request["correlation_id"] = json!(correlation);
    let headers = [("traceparent", traceparent.as_str()), ("authorization", PLANTED), ("x-secret", PLANTED)];
    let (status, task) = deployment.post("/v1/tasks", &request, &headers).await;
    assert_eq!(status, StatusCode::CREATED, "{task}");
    let id = task["task_uuid"].as_str().unwrap().to_owned();
    let done = deployment.finished(&id).await;
    assert_eq!((&done["status"], &done["completed_steps"]), (&json!("complete"), &json!(6)), "{done}");
    for function in FUNCTIONS {
        let log = deployment.log(function);
        assert!(log.contains(correlation) && log.contains(trace), "{function} says nothing of them: {log}");
    }

    // The same request means the same task.
    let (status, problem) = deployment.post("/v1/tasks", &request, &[]).await;
    assert_eq!((status, &problem["error"]["code"]), (StatusCode::CONFLICT, &json!("CONFLICT")), "{problem}");
    assert!(problem.to_string().contains(&id), "{problem}");
    let (status, same) = deployment.post("/v1/tasks?on_duplicate=return", &request, &[]).await;
    assert_eq!((status, &same["task_uuid"]), (StatusCode::OK, &json!(id)));

    // The same order in several messages of the intake queue is one task, and so is the same key.
    let two = order("O-2", json!({}));
    let mut keyed: Value = two.clone();
    keyed["idempotency_key"] = json!("one wish");
    deployment.send("intake", &[two.to_string(), two.to_string(), keyed.to_string(), keyed.to_string(), keyed.to_string()]).await;
    deployment.until("the queue of intake is empty", || async { (deployment.depth("intake").await == 0).then_some(()) }).await;
    deployment.until_true("select count(*) = 3 and bool_and(state = 'complete') from tasker.tasks").await;
    assert_eq!(deployment.value("select count(*) from tasker.outcomes").await.as_deref(), Some("18"), "each step ran once");
    for queue in ["intake", "completions", "worker-rust", "worker-python"] {
        assert_eq!(deployment.depth(&format!("{queue}-dlq")).await, 0, "{queue}");
    }

    // The schedule, which fires each minute, invokes the fifth function.
    deployment
        .until("the schedule invokes step-readiness", || async {
            (!deployment.processes("step-readiness").is_empty()).then_some(())
        })
        .await;
    deployment.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_messages_are_handled_by_kind_on_every_queue() {
    let Some(emulator) = emulator() else { return };
    let deployment = Deployment::deploy(emulator, Options::default()).await;
    let huge = format!(r#"{{"v": 1, "junk": "{}"}}"#, "x".repeat(900_000));
    let junk = ["", "{", "[]", "null", r#"{"v": 1}"#, r#"{"v": 1, "step_id": "x", "lease": 1}"#, r#"{"step_id": 7}"#];
    let junk: Vec<String> = junk.iter().filter(|j| !j.is_empty()).map(|j| (*j).to_owned()).chain([huge]).collect();
    for queue in ["readiness", "completions", "worker-rust"] {
        for body in &junk {
            deployment.send(queue, std::slice::from_ref(body)).await;
        }
        deployment.send(queue, &[r#"{"v": 3, "what": "a later version"}"#.to_owned()]).await;
    }
    let wishes = [
        (r#"{"name": "order_fulfillment"}"#, "not found"),
        (r#"{"name": "order_fulfillment", "namespace": "shop", "context": {}}"#, "order_id"),
        ("not json", "not a task request"),
        (r#"{"namme": "x"}"#, "name"),
    ];
    deployment.send("intake", &wishes.map(|(body, _)| body.to_owned())).await;
    for queue in ["readiness", "completions", "worker-rust"] {
        let dead_letters = deployment.dead_letters(queue, junk.len()).await;
        assert!(dead_letters.iter().all(|l| l.reason.as_ref().is_some_and(|r| !r.is_empty())), "{queue}: {dead_letters:?}");
        deployment
            .until("only what a later version may read is left", || async { (deployment.depth(queue).await == 1).then_some(()) })
            .await;
    }
    let dead_letters = deployment.dead_letters("intake", wishes.len()).await;
    for (body, why) in wishes {
        let dead_letter = dead_letters.iter().find(|l| l.body == body).unwrap_or_else(|| panic!("{body} in {dead_letters:?}"));
        assert!(dead_letter.reason.as_ref().unwrap().contains(why), "{dead_letter:?}");
    }
    deployment.check().await;
}
