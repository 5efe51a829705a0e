//! What a workflow does when nothing goes wrong.

use serde_json::json;
use tasker_wire::{Answer, StepState, TaskState};

use crate::rig::{Rig, success, template, workflow};

#[tokio::test]
async fn steps_run_in_order_and_children_see_the_results_of_their_parents() {
    let rig = Rig::still().await;
    let steps = json!([
        {"name": "a"},
        {"name": "b", "dependencies": ["a"]},
        {"name": "c", "dependencies": ["a"]},
        {"name": "d", "dependencies": ["b", "c"]},
    ]);
    rig.register(&workflow("diamond", steps)).await;
    let task = rig.submit("diamond", json!({"n": 1})).await;

    let a = rig.receive().await;
    assert_eq!((a.step_name.as_str(), a.attempt, a.lease), ("a", 1, 1));
    assert_eq!(a.context.get(), r#"{"n":1}"#);
    assert_eq!(rig.answer(&a, success(json!({"from": "a"}))).await, Answer::Accepted);

    let mut both = rig.receive_all().await;
    assert_eq!(both.keys().collect::<Vec<_>>(), ["b", "c"]);
    let (b, c) = (both.remove("b").unwrap(), both.remove("c").unwrap());
    rig.answer(&b, success(json!("from b"))).await;
    assert_eq!(rig.engine.queue().waiting(), 0, "d waits for both parents");
    rig.answer(&c, success(json!("from c"))).await;

    let d = rig.receive().await;
    assert_eq!(d.dependency_results["b"].get(), r#""from b""#);
    assert_eq!(d.dependency_results["c"].get(), r#""from c""#);
    assert_eq!(d.dependency_results["a"].get(), r#"{"from":"a"}"#, "a grandparent's result comes along");
    assert_eq!(rig.state(task).await, TaskState::Running);
    rig.answer(&d, success(json!(null))).await;

    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert!(rig.steps(task).await.values().all(|s| s.state == StepState::Complete && s.attempt == 1));
    rig.check().await;
}

#[tokio::test]
async fn a_workflow_without_steps_is_complete_at_once() {
    let rig = Rig::still().await;
    rig.register(&template("empty", &[])).await;
    let task = rig.submit("empty", json!({})).await;
    assert_eq!((rig.steps(task).await.len(), rig.state(task).await), (0, TaskState::Complete));
    rig.check().await;
}

#[tokio::test]
async fn a_running_engine_finishes_what_it_is_given() {
    let rig = Rig::running(10, |run| success(json!({"step": run.step_name}))).await;
    rig.register(&template("chain", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
    let mut tasks = Vec::new();
    for n in 0..20 {
        tasks.push(rig.submit("chain", json!({"n": n})).await);
    }
    for task in tasks {
        assert_eq!(rig.finished(task).await, TaskState::Complete);
    }
    rig.check().await;
}
