//! Operator actions over HTTP: what each of them answers, and that a dry run only answers.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_wire::{Answer as Said, Outcome, RunStep, limits};

use crate::rig::{Answer, Rig, failure, success};

/// The URIs of the steps a and b of a small task.
async fn steps_of(rig: &Rig, task: &str) -> [String; 2] {
    let steps = rig.get(&format!("{task}/workflow_steps")).await.body;
    [0, 1].map(|i| format!("{task}/workflow_steps/{}", steps[i]["step_uuid"].as_str().unwrap()))
}

/// A task whose first step failed for good; the URIs of the task and its steps.
async fn failed(rig: &Rig) -> (String, String, String) {
    let task = rig.submit(json!({})).await;
    let [a, b] = steps_of(rig, &task).await;
    rig.answer(failure(false)).await;
    (task, a, b)
}

fn body(action: &str, more: Value) -> Value {
    let mut body = json!({"action": action, "actor": "anna", "reason": "because"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn act(rig: &Rig, uri: &str, action: &str, more: Value) -> Answer {
    rig.post(&format!("{uri}/actions"), &body(action, more)).await
}

/// The steps of an applied action: `[name, from, to]`.
fn changed(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    effects(&answer.body)
}

fn effects(body: &Value) -> Vec<Value> {
    body["steps"].as_array().unwrap().iter().map(|s| json!([s["name"], s["from_state"], s["to_state"]])).collect()
}

async fn audit(rig: &Rig) -> Vec<Value> {
    let sql = "select json_build_array(action, no is not null, actor, reason, from_state, to_state, metadata) from tasker.audit_log \
               where action <> 'finish' order by created_at";
    rig.database.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_action_on_a_task_says_which_steps_it_changed() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let cancelled = act(&rig, &task, "cancel", json!({"metadata": {"ticket": 7}})).await;
    let both = |from_a: &str, from_b: &str, to_a: &str, to_b: &str| [json!(["a", from_a, to_a]), json!(["b", from_b, to_b])];
    assert_eq!(changed(&cancelled), both("enqueued", "pending", "cancelled", "cancelled"));
    let step = steps_of(&rig, &task).await[0].rsplit('/').next().unwrap().to_owned();
    assert_eq!(cancelled.body["steps"][0]["step_uuid"], json!(step));
    assert_eq!((&cancelled.body["action"], &cancelled.body["applied"]), (&json!("cancel"), &json!(true)));
    let reopened = act(&rig, &task, "reopen", json!({})).await;
    assert_eq!(changed(&reopened), both("cancelled", "cancelled", "enqueued", "pending"));
    assert_eq!(rig.get(&task).await.body["status"], "running");

    assert_eq!(changed(&act(&rig, &task, "pause", json!({})).await), Vec::<Value>::new());
    assert_eq!(rig.get(&task).await.body["paused"], true);
    rig.answer(success("1")).await;
    let resumed = act(&rig, &task, "resume", json!({})).await;
    assert_eq!(changed(&resumed), [json!(["b", "pending", "enqueued"])]);
    rig.answer(failure(false)).await;
    assert_eq!(changed(&act(&rig, &task, "note", json!({"metadata": [1]})).await), Vec::<Value>::new());
    assert_eq!(changed(&act(&rig, &task, "resolve", json!({})).await), Vec::<Value>::new());
    assert_eq!(rig.get(&task).await.body["status"], "resolved_manually");
    let row = |action: &str, from: &str, to: &str, metadata: Value| {
        json!([format!("{action}"), false, "anna", "because", from, to, metadata])
    };
    let rows = [
        row("cancel_task", "running", "cancelled", json!({"ticket": 7})),
        row("reopen_task", "cancelled", "running", Value::Null),
        row("pause_task", "running", "running", Value::Null),
        row("resume_task", "running", "running", Value::Null),
        row("note", "error", "error", json!([1])),
        row("resolve_task", "error", "resolved_manually", Value::Null),
    ];
    assert_eq!(audit(&rig).await, rows);
}

#[tokio::test]
async fn every_action_on_a_step_says_which_steps_it_changed() {
    let rig = Rig::new().await;
    let (task, a, b) = failed(&rig).await;
    let retried = act(&rig, &a, "retry", json!({"inputs": {"n": 1.50}, "metadata": "m"})).await;
    assert_eq!(changed(&retried), [json!(["a", "error", "enqueued"])]);
    let run = rig.answer(success("1")).await;
    assert_eq!(run.step_inputs.unwrap().get(), r#"{"n":1.5}"#);
    rig.answer(success("2")).await;
    assert_eq!(rig.get(&task).await.body["status"], "complete");

    let redone = act(&rig, &a, "redo", json!({})).await;
    assert_eq!(changed(&redone), [json!(["a", "complete", "enqueued"]), json!(["b", "complete", "pending"])]);
    let resolved = act(&rig, &a, "resolve", json!({"result": {"ok": true}})).await;
    assert_eq!(changed(&resolved), [json!(["a", "enqueued", "resolved_manually"]), json!(["b", "pending", "enqueued"])]);
    // What was dispatched under the lease before was taken out of the queue.
    let run = rig.receive().await;
    assert_eq!((run.step_name.as_str(), run.dependency_results["a"].get()), ("b", r#"{"ok":true}"#));
    assert_eq!(changed(&act(&rig, &b, "note", json!({})).await), Vec::<Value>::new());
    let skipped = act(&rig, &b, "skip", json!({})).await;
    assert_eq!(
        (&skipped.body["action"], changed(&skipped)),
        (&json!("skip"), vec![json!(["b", "enqueued", "resolved_manually"])])
    );
    assert_eq!(rig.get(&b).await.body["results"]["result"], Value::Null);
    assert_eq!(rig.get(&task).await.body["status"], "complete");
    let row = |action: &str, from: &str, to: &str, metadata: Value| json!([action, true, "anna", "because", from, to, metadata]);
    let rows = [
        row("retry_step", "error", "enqueued", json!({"inputs": {"n": 1.5}, "metadata": "m"})),
        row("redo_step", "complete", "enqueued", json!({"reset": 2, "deleted": 0, "inputs": null, "metadata": null})),
        row("resolve_step", "enqueued", "resolved_manually", Value::Null),
        row("note", "enqueued", "enqueued", Value::Null),
        row("resolve_step", "enqueued", "resolved_manually", Value::Null),
    ];
    assert_eq!(audit(&rig).await, rows);
}

#[tokio::test]
async fn a_dry_run_changes_no_row_and_says_what_the_action_then_does() {
    let rig = Rig::new().await;
    let (task, a, b) = failed(&rig).await;
    for (uri, action, more) in [
        (&a, "note", json!({})),
        (&a, "retry", json!({"inputs": {}})),
        (&task, "note", json!({})),
        (&task, "pause", json!({})),
        (&a, "resolve", json!({"result": 1})),
        (&task, "resume", json!({})),
        (&b, "skip", json!({})),
        (&a, "redo", json!({})),
        (&task, "cancel", json!({})),
        (&task, "reopen", json!({})),
    ] {
        let mut dry = more.clone();
        dry["dry_run"] = true.into();
        let before = rig.all_rows().await;
        let promised = act(&rig, uri, action, dry).await;
        assert_eq!((promised.status.as_u16(), &promised.body["applied"]), (200, &json!(false)), "{action}: {promised:?}");
        assert_eq!(rig.all_rows().await, before, "{action}");
        let mut real = more;
        real["seen"] = promised.body["seen"].clone();
        let done = act(&rig, uri, action, real).await;
        assert_eq!(changed(&done), effects(&promised.body), "{action}");
        assert_eq!((&done.body["applied"], &done.body["seen"]), (&json!(true), &promised.body["seen"]));
        assert_ne!(rig.all_rows().await, before, "{action}");
    }
}

#[tokio::test]
async fn what_has_changed_since_the_dry_run_is_a_conflict_that_says_what_the_action_would_do_now() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let old = act(&rig, &task, "cancel", json!({"dry_run": true})).await.body["seen"].clone();
    rig.answer(success("1")).await;
    let before = rig.all_rows().await;
    let refused = act(&rig, &task, "cancel", json!({"seen": old})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "CHANGED"));
    let now = &refused.body["error"]["details"];
    assert_eq!((&now["action"], &now["applied"], &now["warnings"]), (&json!("cancel"), &json!(false), &json!([])));
    assert_eq!(effects(now), [json!(["b", "enqueued", "cancelled"])]);
    assert_ne!(now["seen"], old);
    assert_eq!(rig.all_rows().await, before);
    assert_eq!(changed(&act(&rig, &task, "cancel", json!({"seen": now["seen"]})).await), effects(now));
    // The same form sent twice: nothing is left to cancel.
    let again = act(&rig, &task, "cancel", json!({"seen": now["seen"]})).await;
    assert_eq!((again.status.as_u16(), again.code(), effects(&again.body["error"]["details"])), (409, "CHANGED", vec![]));
}

#[tokio::test]
async fn a_task_that_failed_again_is_not_the_one_that_was_seen() {
    let rig = Rig::new().await;
    let (task, a, _) = failed(&rig).await;
    let old = act(&rig, &task, "resolve", json!({"dry_run": true})).await.body["seen"].clone();
    act(&rig, &a, "retry", json!({})).await;
    rig.answer(failure(false)).await;
    let refused = act(&rig, &task, "resolve", json!({"seen": old})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "CHANGED"));
    assert_eq!(rig.get(&task).await.body["status"], "error");
}

#[tokio::test]
async fn actions_whose_answer_was_lost_may_be_sent_again() {
    let rig = Rig::new().await;
    let (task, a, _) = failed(&rig).await;
    let twice = async |uri: &str, action: &str, more: Value| {
        let first = act(&rig, uri, action, more.clone()).await;
        assert_eq!(first.status, 200, "{first:?}");
        let before = rig.all_rows().await;
        let second = act(&rig, uri, action, more).await;
        assert_eq!(rig.all_rows().await, before, "{action}");
        second
    };
    let retried = twice(&a, "retry", json!({})).await;
    assert_eq!((retried.status.as_u16(), retried.code()), (409, "CONFLICT"), "it runs already");
    for (uri, action, more) in [
        (&a, "resolve", json!({"result": 1})),
        (&task, "pause", json!({})),
        (&task, "resume", json!({})),
        (&task, "cancel", json!({})),
    ] {
        assert_eq!(changed(&twice(uri, action, more).await), Vec::<Value>::new(), "{action}");
    }
}

#[tokio::test]
async fn a_state_that_does_not_allow_an_action_is_named_with_what_to_do() {
    let rig = Rig::new().await;
    let (task, a, b) = failed(&rig).await;
    let refuse = async |uri: &str, action: &str| {
        let answer = act(&rig, uri, action, json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (409, "CONFLICT"), "{answer:?}");
        let error = &answer.body["error"];
        (error["message"].as_str().unwrap().to_owned(), error["details"].clone())
    };
    let of_task = |status: &str| json!({"status": status, "step_uuid": null});
    let (message, details) = refuse(&task, "reopen").await;
    assert_eq!(
        (message.as_str(), details),
        ("not possible: the task is error; it has no cancelled step, retry or redo the failed one", of_task("error"))
    );
    let (message, details) = refuse(&b, "retry").await;
    assert_eq!(details, json!({"status": "pending", "step_uuid": b.rsplit('/').next()}));
    assert!(message.ends_with(" is pending; it waits, and the explanation of its task says what for"), "{message}");
    act(&rig, &a, "retry", json!({})).await;
    assert_eq!(refuse(&task, "resolve").await.1, of_task("running"));
    act(&rig, &task, "cancel", json!({})).await;
    let (message, details) = refuse(&a, "retry").await;
    assert_eq!((message.as_str(), details), ("not possible: the task is cancelled; reopen it first", of_task("cancelled")));
}

#[tokio::test]
async fn an_unknown_task_or_step_is_not_found() {
    let rig = Rig::new().await;
    let (one, other) = (rig.submit(json!({"n": 1})).await, rig.submit(json!({"n": 2})).await);
    let id = one.rsplit('/').next().unwrap();
    let nobody = format!("/v1/tasks/{}", id.replace("0000000", "0ffffff"));
    let nowhere = "/v1/tasks/01990000-0000-7000-8000-000000000000";
    let [step, _] = steps_of(&rig, &one).await;
    let step = step.rsplit('/').next().unwrap();
    for dry_run in [false, true] {
        for (uri, actions) in [
            (nobody.clone(), &["cancel", "note"][..]),
            (nowhere.to_owned(), &["cancel", "reopen", "resolve", "pause", "resume", "note"]),
            (format!("{other}/workflow_steps/{step}"), &["retry"]),
            (format!("{one}/workflow_steps/{}", id.replace("0000000", "0ffffff")), &["retry", "redo", "resolve", "skip", "note"]),
        ] {
            for action in actions {
                let answer = act(&rig, &uri, action, json!({"dry_run": dry_run})).await;
                assert_eq!((answer.status.as_u16(), answer.code()), (404, "NOT_FOUND"), "{action} {uri}");
            }
        }
    }
    assert_eq!(rig.count("audit_log").await, 0);
    assert_eq!(rig.post("/v1/tasks/x/actions", &body("cancel", json!({}))).await.code(), "INVALID_UUID");
}

#[tokio::test]
async fn every_fault_of_an_action_is_named_with_its_place_and_nothing_is_done() {
    let rig = Rig::new().await;
    let (task, a, _) = failed(&rig).await;
    let before = rig.all_rows().await;
    let large = |key: &str, bytes: usize| {
        let value = if key == "inputs" { json!({"x": "x".repeat(bytes)}) } else { json!("x".repeat(bytes)) };
        body(if key == "result" { "resolve" } else { "retry" }, json!({ key: value })).to_string()
    };
    for (uri, body, places) in [
        (&task, "{}".to_owned(), vec!["/action", "/actor", "/reason"]),
        (
            &task,
            r#"{"action": "retry", "actor": "a\nb", "reason": "", "inputs": {}, "seen": 1}"#.into(),
            vec!["/action", "/actor", "/inputs", "/reason", "/seen"],
        ),
        (
            &a,
            r#"{"action": "cancel", "actor": 1, "reason": "x", "dry_run": "yes", "sene": "x"}"#.into(),
            vec!["/action", "/actor", "/dry_run", "/sene"],
        ),
        (
            &a,
            r#"{"action": "retry", "actor": "x", "reason": "x", "inputs": [1], "result": 1}"#.into(),
            vec!["/inputs", "/result"],
        ),
        (
            &a,
            r#"{"action": "resolve", "actor": "x", "reason": "x", "result": 1, "result_of_lease": 1, "inputs": {}}"#.into(),
            vec!["/inputs", "/result_of_lease"],
        ),
        (&a, r#"{"action": "resolve", "actor": "x", "reason": "x", "result_of_lease": 7}"#.into(), vec!["/result_of_lease"]),
        (&a, r#"{"action": "resolve", "actor": "x", "reason": "x", "result": {"a": "\u0000"}}"#.into(), vec!["/result/a"]),
        (&a, large("result", limits::RESULT_BYTES), vec!["/result"]),
        (&a, large("inputs", limits::CONTEXT_BYTES), vec!["/inputs"]),
        (&a, large("metadata", limits::METADATA_BYTES), vec!["/metadata"]),
    ] {
        let answer = rig.with_body("POST", &format!("{uri}/actions"), body.clone()).await;
        let mut found = answer.places();
        found.sort_unstable();
        assert_eq!((answer.status.as_u16(), found), (400, places), "{:.200}", body);
    }
    let answer = rig.with_body("POST", &format!("{a}/actions"), "{").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "JSON_ERROR"));
    assert_eq!(rig.all_rows().await, before);
}

/// A step whose worker succeeded after it had been given up; its failure under the second lease was final.
async fn late_success(rig: &Rig, result: &str) -> (String, String, RunStep) {
    let task = rig.submit(json!({})).await;
    let [a, _] = steps_of(rig, &task).await;
    let late = rig.answer(Outcome::Started {}).await;
    rig.database.advance_clock(Duration::from_secs(3_600)).await;
    rig.engine.sweep().await.unwrap();
    rig.answer(failure(false)).await;
    assert_eq!(rig.complete(&late, success(result)).await, Said::Stale);
    (task, a, late)
}

#[tokio::test]
async fn a_success_that_came_too_late_is_a_warning_and_may_settle_the_step() {
    let rig = Rig::new().await;
    let (task, a, late) = late_success(&rig, r#"{"paid": 12.50}"#).await;
    let warning =
        json!(["step a succeeded under lease 1, too late to be applied, so its handler may act twice; resolve the step with \
                          result_of_lease 1 to use that result instead"]);
    for action in ["retry", "redo"] {
        assert_eq!(act(&rig, &a, action, json!({"dry_run": true})).await.body["warnings"], warning, "{action}");
    }
    let refused = act(&rig, &a, "retry", json!({"seen": "something else"})).await;
    assert_eq!(refused.body["error"]["details"]["warnings"], warning);
    let settled = act(&rig, &a, "resolve", json!({"result_of_lease": late.lease})).await;
    assert_eq!((changed(&settled).len(), &settled.body["warnings"]), (2, &json!([])));
    assert_eq!(rig.receive().await.dependency_results["a"].get(), r#"{"paid": 12.50}"#);
    assert_eq!(audit(&rig).await[0][6], json!({"result_of_lease": 1}));
    assert_eq!(rig.get(&task).await.body["status"], "running");
}

#[tokio::test]
async fn a_success_after_its_own_lease_was_given_up_may_settle_the_step() {
    for is_final in [true, false] {
        let rig = Rig::new().await;
        let task = rig.submit(json!({})).await;
        let [a, _] = steps_of(&rig, &task).await;
        let run = rig.answer(failure(!is_final)).await;
        assert_eq!(rig.complete(&run, success("1")).await, Said::Stale);
        assert_eq!(rig.complete(&run, success("2")).await, Said::Stale, "the first one is kept");
        assert_eq!(rig.complete(&run, failure(!is_final)).await, Said::Duplicate, "the outcome that was applied");
        let warnings = act(&rig, &a, "retry", json!({"dry_run": true})).await.body["warnings"].clone();
        assert!(warnings[0].as_str().unwrap().contains("succeeded under lease 1, too late to be applied"), "{warnings}");
        act(&rig, &a, "resolve", json!({"result_of_lease": 1})).await;
        assert_eq!(rig.receive().await.dependency_results["a"].get(), "1");
    }
}

#[tokio::test]
async fn a_late_result_that_was_not_kept_is_said_and_cannot_settle_the_step() {
    let rig = Rig::new().await;
    let (_, a, _) = late_success(&rig, &json!("x".repeat(300_000)).to_string()).await;
    let warnings = act(&rig, &a, "retry", json!({"dry_run": true})).await.body["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().ends_with("; its result was too large to be kept"), "{warnings}");
    let refused = act(&rig, &a, "resolve", json!({"result_of_lease": 1})).await;
    assert_eq!((refused.status.as_u16(), refused.places()), (400, vec!["/result_of_lease"]));
}

#[tokio::test]
async fn another_attempt_of_a_step_that_allows_one_is_a_warning() {
    let rig = Rig::new().await;
    let step = json!({"name": "once", "handler": {"callable": "once"}, "retry": {"max_attempts": 1}});
    let template = json!({"name": "once", "namespace_name": "ns", "version": "1.0.0", "steps": [step]});
    assert_eq!(rig.post("/v1/templates", &template).await.status, 201);
    let task = rig.post("/v1/tasks", &json!({"name": "once", "namespace": "ns"})).await;
    let task = task.headers["location"].to_str().unwrap().to_owned();
    let step = rig.get(&format!("{task}/workflow_steps")).await.body[0]["step_uuid"].clone();
    let step = format!("{task}/workflow_steps/{}", step.as_str().unwrap());
    rig.answer(failure(true)).await;
    let retried = act(&rig, &step, "retry", json!({})).await;
    assert_eq!(retried.body["warnings"], json!(["step once allows one attempt (max_attempts 1), and this is a further one"]));
    assert_eq!(act(&rig, &step, "skip", json!({})).await.body["warnings"], json!([]));
}

#[tokio::test]
async fn the_audit_log_keeps_what_an_action_replaced() {
    let rig = Rig::new().await;
    let (_, a, _) = failed(&rig).await;
    act(&rig, &a, "retry", json!({"inputs": {"n": 1}})).await;
    rig.answer(success("7")).await;
    assert_eq!(rig.get(&a).await.body["inputs"], json!({"n": 1}));
    act(&rig, &a, "redo", json!({"inputs": {"n": 2}})).await;
    act(&rig, &a, "resolve", json!({"result": {"by": "hand"}})).await;
    let sql = "select json_build_object('action', action, 'to', to_state, 'changes', changes) from tasker.audit_log \
               where action <> 'finish' order by created_at";
    let rows: Vec<Value> = rig.database.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let [retry, redo, resolve] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(
        (&retry["to"], &redo["to"], &resolve["to"]),
        (&json!("enqueued"), &json!("enqueued"), &json!("resolved_manually"))
    );
    let (before, after) = (&retry["changes"]["before"], &retry["changes"]["after"]);
    assert_eq!(
        (&before["state"], &before["inputs"], &before["error"]["message"]),
        (&json!("error"), &Value::Null, &json!("it broke"))
    );
    assert_eq!((&after["state"], &after["inputs"], &after["error"]), (&json!("enqueued"), &json!({"n": 1}), &Value::Null));
    let (before, after) = (&redo["changes"]["before"], &redo["changes"]["after"]);
    assert_eq!((&before["result"], &before["inputs"], &after["inputs"]), (&json!(7), &json!({"n": 1}), &json!({"n": 2})));
    let steps = redo["changes"]["steps"].as_array().unwrap();
    let changed: Vec<Value> = steps.iter().map(|s| json!([s["name"], s["before"], s["after"]])).collect();
    assert_eq!(changed, [json!(["a", "complete", "enqueued"]), json!(["b", "enqueued", "pending"])]);
    assert_eq!(redo["changes"]["not_listed"], 0);
    assert_eq!(resolve["changes"]["after"]["result"], json!({"by": "hand"}));
}

#[tokio::test]
async fn a_result_that_the_schema_forbids_settles_nothing() {
    let rig = Rig::new().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let step = json!({"name": "only", "handler": {"callable": "only"}, "result_schema": schema});
    let template = json!({"name": "checked", "namespace_name": "ns", "version": "1.0.0", "steps": [step]});
    assert_eq!(rig.post("/v1/templates", &template).await.status, 201);
    let task = rig.post("/v1/tasks", &json!({"name": "checked", "namespace": "ns"})).await;
    let task = task.headers["location"].to_str().unwrap().to_owned();
    let step = rig.get(&format!("{task}/workflow_steps")).await.body[0]["step_uuid"].as_str().unwrap().to_owned();
    let step = format!("{task}/workflow_steps/{step}");
    let refused = act(&rig, &step, "resolve", json!({"result": {"n": "str"}})).await;
    assert_eq!((refused.status.as_u16(), refused.places()), (400, vec!["/result"]));
    let text = refused.body.to_string();
    assert!(text.contains("does not match result_schema: /n: "), "{text}");
    let refused = act(&rig, &step, "resolve", json!({"result": 7})).await;
    assert!(refused.body.to_string().contains("does not match result_schema: 7 is not of type"), "{:?}", refused.body);
    assert_eq!(act(&rig, &step, "resolve", json!({"result": {"n": 1}})).await.status, 200);
}
