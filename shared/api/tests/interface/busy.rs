//! Overload: requests are rejected immediately, and accepted work continues.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tasker_queue::{Outgoing, Queue};
use tasker_server::drain_queue;
use tokio_util::sync::CancellationToken;

use crate::rig::{Answer, CAPACITY, MAX_REQUESTS, Rig, success};

fn assert_refused(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "BACKPRESSURE"), "{answer:?}");
    let after = (answer.headers["retry-after"].as_bytes(), &answer.body["error"]["retry_after_seconds"]);
    assert_eq!(after, (&b"1"[..], &json!(1)));
}

#[tokio::test]
async fn one_request_too_many_is_refused_and_health_is_answered() {
    let rig = Rig::new().await;
    // Requests for tasks wait for this lock.
    let mut client = rig.database.client().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("lock table tasker.tasks").await.unwrap();
    let asked: Vec<_> = (0..MAX_REQUESTS).map(|_| rig.get("/v1/tasks")).collect();
    let beyond = async {
        // One rejected request shows that the others are in progress.
        let refused = loop {
            let answer = rig.get("/v1/templates").await;
            if answer.status != 200 {
                break answer;
            }
        };
        assert_refused(&refused);
        assert_eq!(rig.get("/health").await.status, 200);
        assert_eq!(rig.get("/health/ready").await.status, 200);
        lock.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(asked), beyond);
    assert!(answers.iter().all(|a| a.status == 200), "{answers:?}");
}

#[tokio::test]
async fn requests_that_wait_for_a_task_do_not_count_against_the_limit() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let uri = format!("{task}?wait=20");
    let waiting: Vec<_> = (0..2 * MAX_REQUESTS).map(|_| rig.get(&uri)).collect();
    let finish = async {
        rig.answer(success("1")).await;
        rig.answer(success("2")).await;
    };
    let all = async { tokio::join!(futures::future::join_all(waiting), finish).0 };
    let answers = tokio::time::timeout(Duration::from_secs(15), all).await.unwrap();
    assert!(answers.iter().all(|a| a.status == 200 && a.body["status"] == "complete"), "{answers:?}");
}

#[tokio::test]
async fn new_tasks_are_rejected_while_too_many_steps_wait_and_accepted_ones_continue() {
    let rig = Rig::new().await;
    for n in 0..CAPACITY {
        rig.submit(json!({"n": n})).await;
    }
    let request = json!({"name": "small", "namespace": "ns", "context": {"n": "one more"}});
    assert_refused(&rig.post("/v1/tasks", &request).await);
    assert_eq!(rig.count("tasks").await, CAPACITY as i64, "nothing of it was done");
    assert_eq!(rig.get("/v1/tasks").await.status, 200);
    let stop = CancellationToken::new();
    let engine = rig.engine.clone();
    let running = tokio::spawn(drain_queue(engine.clone(), stop.clone()));
    for _ in 0..2 * CAPACITY {
        let run = rig.receive().await;
        let sent = engine.queue().send(vec![Outgoing::CompleteStep(Arc::new(run.complete(success("1"), "worker-7", 12)))]).await;
        assert!(sent[0].is_ok());
    }
    let accepted = async {
        while rig.post("/v1/tasks", &request).await.status != 201 {
            // A refusal waits for nothing, and so lets nothing else run.
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), accepted).await.unwrap();
    stop.cancel();
    running.await.unwrap();
}
