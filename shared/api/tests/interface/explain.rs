//! `GET /v1/tasks/{task}/explain`.

use serde_json::{Value, json};

use crate::rig::{Rig, failure};

#[tokio::test]
async fn a_task_is_explained_with_every_key() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    rig.answer(failure(false)).await;
    let explained = rig.get(&format!("{task}/explain")).await;
    assert_eq!(explained.status, 200, "{explained:?}");
    let steps = rig.get(&format!("{task}/workflow_steps")).await.body;
    let act = json!({"action": "retry", "step": "a", "sentence": "Retry a, or redo, resolve or skip it."});
    let why = explained.body["steps"][0]["sentence"].as_str().unwrap();
    assert!(why.starts_with("a failed in attempt 1 of "), "{why}");
    assert!(why.contains(", and no attempt follows. b waits for it. DLQ entry max_retries_exceeded since "), "{why}");
    let [a, b] = [0, 1].map(|at| &steps[at]["step_uuid"]);
    let expected = json!([
        {"step_uuid": a, "name": "a", "reason": "failed", "sentence": why, "waits_for": [], "changes_at": null, "act": act},
        {"step_uuid": b, "name": "b", "reason": "blocked", "waits_for": ["a"], "changes_at": null, "act": act,
            "sentence": "b waits for 1 of 1 parents: a; a failed for good. It never starts by itself."},
    ]);
    assert_eq!(explained.body["steps"], expected);
    let of_task = |key: &str| explained.body[key].clone();
    let id = task.rsplit('/').next().unwrap();
    let words = ["task_uuid", "namespace", "name", "status", "reason"].map(of_task);
    assert_eq!(words, [id, "ns", "small", "error", "failed"].map(Value::from));
    assert_eq!((of_task("waits_for"), of_task("act"), of_task("changes_at")), (json!(["a"]), act, Value::Null));
    assert_eq!(of_task("steps_omitted"), 0);
    assert!(of_task("explained_at").as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn an_unknown_task_is_not_found_and_a_wrong_id_or_query_is_refused() {
    let rig = Rig::new().await;
    for (uri, status) in [
        ("/v1/tasks/01990000-0000-7000-8000-000000000000/explain", 404),
        ("/v1/tasks/01990000-0000-7000-8000-000000000001/explain", 404),
        ("/v1/tasks/x/explain", 400),
        ("/v1/tasks/01990000-0000-7000-8000-000000000000/explain?deep=1", 400),
    ] {
        assert_eq!(rig.get(uri).await.status, status, "{uri}");
    }
}
