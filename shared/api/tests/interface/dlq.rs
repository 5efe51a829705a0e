//! Tasks and steps that wait for an operator, over HTTP.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::rig::{Rig, failure};

/// A task whose first step failed for good; its id.
async fn failed(rig: &Rig, n: i64) -> String {
    let task = rig.submit(json!({"n": n})).await;
    rig.answer(failure(false)).await;
    task.rsplit('/').next().unwrap().to_owned()
}

fn recover(more: Value) -> Value {
    let mut body = json!({"filter": {"namespace": "ns"}, "actor": "anna", "reason": "fixed"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn an_entry_is_listed_shown_and_investigated_in_taskers_words() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("/v1/dlq").await.body, json!([]));
    let task = failed(&rig, 1).await;
    let listed = rig.get("/v1/dlq?resolution_status=pending&limit=50&offset=0").await.body;
    let entry = &listed[0];
    assert_eq!((&entry["task_uuid"], &entry["dlq_reason"]), (&json!(task), &json!("MaxRetriesExceeded")));
    assert_eq!((&entry["resolution_status"], &entry["original_state"]), (&json!("Pending"), &json!("running")));
    assert_eq!((&entry["step"], &entry["reason_detail"]), (&json!("a"), &json!("upstream")));
    assert_eq!(rig.get(&format!("/v1/dlq/task/{task}")).await.body, *entry);
    let path = format!("/v1/dlq/entry/{}", entry["dlq_entry_uuid"].as_str().unwrap());
    assert_eq!(rig.get(&path).await.body, *entry);

    let body = json!({"resolution_status": "PermanentlyFailed", "resolution_notes": "the bank is gone", "resolved_by": "op", "metadata": null});
    let done = rig.patch(&path, &body).await;
    assert_eq!((done.status.as_u16(), &done.body["success"]), (200, &json!(true)));
    let after = rig.get(&path).await.body;
    assert_eq!((&after["resolution_status"], &after["resolved_by"]), (&json!("PermanentlyFailed"), &json!("op")));
    assert!(after["resolution_timestamp"].is_string());
    rig.patch(&path, &json!({"metadata": {"ticket": 1.50}})).await;
    let after = rig.get(&path).await.body;
    assert_eq!((&after["metadata"], &after["resolution_notes"]), (&json!({"ticket": 1.5}), &json!("the bank is gone")));
    for (query, expected) in [("pending", 0), ("Pending", 0), ("permanently_failed", 1), ("PermanentlyFailed", 1), ("", 1)] {
        let listed = rig.get(&format!("/v1/dlq?resolution_status={query}")).await.body;
        assert_eq!(listed.as_array().unwrap().len(), expected, "{query}");
    }
}

#[tokio::test]
async fn an_entry_does_not_wait_again_beside_another_one() {
    let rig = Rig::new().await;
    let task = failed(&rig, 1).await;
    let first = rig.get(&format!("/v1/dlq/task/{task}")).await.body["dlq_entry_uuid"].as_str().unwrap().to_owned();
    rig.post("/v1/dlq/recover", &recover(json!({}))).await;
    rig.answer(failure(false)).await;
    let again = rig.patch(&format!("/v1/dlq/entry/{first}"), &json!({"resolution_status": "Pending"})).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "CONFLICT"));
}

#[tokio::test]
async fn numbers_causes_and_urgency_are_those_of_the_entries() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("/v1/dlq/stats").await.body, json!([]));
    for n in 0..3 {
        failed(&rig, n).await;
    }
    let stats = rig.get("/v1/dlq/stats").await.body;
    assert_eq!((&stats[0]["total_entries"], &stats[0]["pending"], stats.as_array().unwrap().len()), (&json!(3), &json!(3), 1));
    let causes = rig.get("/v1/dlq/causes").await.body;
    assert_eq!((&causes[0]["entries"], &causes[0]["step"], causes.as_array().unwrap().len()), (&json!(3), &json!("a"), 1));
    let listed = rig.get(&format!("/v1/dlq?fingerprint={}", causes[0]["fingerprint"].as_str().unwrap())).await.body;
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let queue = rig.get("/v1/dlq/investigation-queue?limit=2").await.body;
    assert_eq!(queue.as_array().unwrap().len(), 2);
    assert!(queue[0]["priority_score"].as_f64().unwrap() >= 500.0 && queue[0]["task_name"] == "small", "{queue}");
}

#[tokio::test]
async fn a_stale_task_is_monitored_before_and_after() {
    let rig = Rig::new().await;
    let mut template = crate::rig::template("slow", "1.0.0");
    template["lifecycle"] = json!({"max_duration_minutes": 100, "max_steps_in_process_minutes": 30, "staleness_action": "none"});
    assert_eq!(rig.post("/v1/templates", &template).await.status, 201);
    rig.submit(json!({})).await;
    let created = rig.post("/v1/tasks", &json!({"name": "slow", "namespace": "ns", "context": {}})).await;
    let client = rig.database.client().await;
    for (age, state, minutes, health) in
        [(0, "steps_in_process", 30, "healthy"), (26, "steps_in_process", 30, "warning"), (31, "steps_in_process", 30, "stale")]
    {
        let sql = "update tasker.tasks set created_at = now() - interval '1 min' * $1; update tasker.steps set dispatched_at = now() - interval '1 min' * $1";
        client.batch_execute(&sql.replace("$1", &age.to_string())).await.unwrap();
        let list = rig.get("/v1/dlq/staleness").await.body;
        let [task] = &list.as_array().unwrap()[..] else { panic!("{list}") };
        assert_eq!(task["task_uuid"], created.body["task_uuid"]);
        let shown =
            ["current_state", "staleness_threshold_minutes", "health_status", "time_in_state_minutes"].map(|key| &task[key]);
        assert_eq!(shown, [&json!(state), &json!(minutes), &json!(health), &json!(age)]);
    }
}

#[tokio::test]
async fn a_recovery_reports_every_entry_and_says_where_to_go_on() {
    let rig = Rig::new().await;
    let tasks = [failed(&rig, 1).await, failed(&rig, 2).await, failed(&rig, 3).await];
    let dry = rig.post("/v1/dlq/recover", &recover(json!({"dry_run": true}))).await.body;
    assert_eq!((&dry["applied"], dry["items"].as_array().unwrap().len(), &dry["next"]), (&json!(false), 3, &Value::Null));
    let changed: Vec<Value> =
        dry["items"][0]["changed"].as_array().unwrap().iter().map(|s| json!([s["name"], s["to_state"]])).collect();
    assert_eq!(changed, [json!(["a", "enqueued"])]);
    let refused = rig.post("/v1/dlq/recover", &recover(json!({"seen": "other"}))).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "CHANGED"));
    assert_eq!(refused.body["error"]["details"], dry, "as it would be now");
    let first = rig.post("/v1/dlq/recover", &recover(json!({"max": 2}))).await.body;
    let rest = rig.post("/v1/dlq/recover", &recover(json!({"after": first["next"]}))).await.body;
    let items: Vec<&Value> = [&first, &rest].into_iter().flat_map(|page| page["items"].as_array().unwrap()).collect();
    let shown: Vec<_> =
        items.iter().map(|item| (item["task_uuid"].as_str().unwrap(), item["outcome"].as_str().unwrap())).collect();
    assert_eq!(shown, tasks.each_ref().map(|task| (task.as_str(), "recovered")));
    assert_eq!((&items[0]["steps"], &items[0]["why"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn wrong_requests_are_refused_with_all_faults_and_change_nothing() {
    let rig = Rig::new().await;
    failed(&rig, 1).await;
    let before = rig.all_rows().await;
    let refused = rig.post("/v1/dlq/recover", &json!({"filter": {}, "actor": "anna", "reason": "x"})).await;
    assert_eq!((refused.status.as_u16(), refused.places()), (400, vec!["/filter"]));
    assert!(refused.body.to_string().contains("selects no entries: give one or more of"), "{refused:?}");
    for after in ["x", "now()|now()|x", "1|2|3"] {
        let refused = rig.post("/v1/dlq/recover", &recover(json!({"after": after}))).await;
        assert_eq!(refused.status, 400, "{after}");
    }
    let refused = rig.get("/v1/dlq?resolution_status=done&limit=101&fingerprint=x&dlq_reason=y&offst=1").await;
    assert_eq!(refused.places().len(), 5, "{refused:?}");
    let nobody = Uuid::now_v7();
    for path in [format!("/v1/dlq/task/{nobody}"), format!("/v1/dlq/entry/{nobody}")] {
        assert_eq!(rig.get(&path).await.status, 404, "{path}");
    }
    assert_eq!(rig.get("/v1/dlq/entry/x").await.status, 400);
    assert_eq!(rig.patch(&format!("/v1/dlq/entry/{nobody}"), &json!({"resolution_status": "Cancelled"})).await.status, 404);
    let refused = rig.patch(&format!("/v1/dlq/entry/{nobody}"), &json!({"resolution_status": "fixed", "notes": 1})).await;
    assert_eq!(refused.places(), ["/notes", "/resolution_status"]);
    assert_eq!(rig.all_rows().await, before);
}
