//! A result, an input or a text that is too large, or cannot be stored, fails its own step permanently with a reason, and affects
//! nothing else.

use serde_json::{Value, json, value::RawValue};
use tasker_queue::Outgoing;
use tasker_wire::{Answer, Outcome, StepState, TaskState, limits, outcome::Failure};

use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, by, success, template, workflow},
};

fn raw(text: impl Into<String>) -> Outcome {
    Outcome::success(RawValue::from_string(text.into()).unwrap(), None)
}

/// A JSON string whose text has a given number of bytes.
fn of_bytes(bytes: usize) -> Outcome {
    raw(format!("\"{}\"", "x".repeat(bytes - 2)))
}

const JOIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("alone", &[]), ("join", &["a", "b"]), ("after", &["join"])];

#[tokio::test]
async fn inputs_that_are_too_large_together_fail_the_step_that_they_are_for() {
    let rig = Rig::still().await;
    rig.register(&template("w", JOIN)).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    for name in ["a", "b"] {
        assert_eq!(rig.answer(&runs[name], of_bytes(limits::INPUT_BYTES / 2 + 1)).await, Answer::Accepted);
    }
    let join = rig.step(task, "join").await;
    assert_eq!((join.state, join.attempt), (StepState::Error, 1));
    let error = join.error.unwrap();
    assert_eq!((&error["error_type"], &error["retryable"]), (&json!("input_too_large"), &json!(false)));
    assert!(error["message"].as_str().unwrap().contains("6291458 bytes"), "{error}");
    assert_eq!(rig.state(task).await, TaskState::Running, "another branch goes on");
    assert_eq!(rig.attempts(task, "join").await, [json!([1, 1, "failure", true])]);
    rig.answer(&runs["alone"], success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    assert_eq!(rig.step(task, "after").await.state, StepState::Pending);
    rig.check().await;

    // An operator can continue without it.
    rig.engine.resolve_step(rig.step_id(task, "a").await, None, by("x")).await.unwrap_err();
    rig.engine.resolve_step(rig.step_id(task, "join").await, None, by("not needed")).await.unwrap();
    assert_eq!(rig.receive().await.step_name, "after");
    rig.check().await;
}

#[tokio::test]
async fn inputs_just_within_the_limit_are_dispatched() {
    let rig = Rig::still().await;
    rig.register(&template("w", JOIN)).await;
    rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    for name in ["a", "b"] {
        rig.answer(&runs[name], of_bytes(limits::INPUT_BYTES / 2)).await;
    }
    let join = rig.receive().await;
    assert_eq!(join.dependency_results.values().map(|r| r.get().len()).sum::<usize>(), limits::INPUT_BYTES);
}

#[tokio::test]
async fn results_of_further_ancestors_are_included_nearest_first_up_to_the_limit() {
    let rig = Rig::still().await;
    let chain: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])];
    rig.register(&template("w", chain)).await;
    rig.submit("w", json!({})).await;
    let third = limits::INPUT_BYTES / 3;
    // The parent of d is c; b fits beside it, and a is one byte too large.
    for bytes in [limits::INPUT_BYTES - 2 * third + 1, third, third] {
        let run = rig.receive().await;
        rig.answer(&run, of_bytes(bytes)).await;
    }
    let d = rig.receive().await;
    assert_eq!(d.dependency_results.keys().collect::<Vec<_>>(), ["b", "c"]);
    rig.check().await;
}

#[tokio::test]
async fn too_large_inputs_of_several_tasks_at_once_fail_each_its_own_step() {
    let rig = Rig::still().await;
    rig.register(&template("w", JOIN)).await;
    let mut tasks = Vec::new();
    for n in 0..3 {
        tasks.push(rig.submit("w", json!({"n": n})).await);
    }
    let mut batch = Vec::new();
    for run in rig.receive_up_to(100).await {
        let bytes = if run.step_name == "alone" { 10 } else { limits::INPUT_BYTES / 2 + 1 };
        batch.push(run.complete(of_bytes(bytes), "w", 1));
    }
    assert!(rig.complete(batch).await.iter().all(|a| *a == Answer::Accepted));
    for task in tasks {
        assert_eq!(rig.state(task).await, TaskState::Error);
        assert_eq!(rig.step(task, "join").await.error.unwrap()["error_type"], "input_too_large");
    }
    rig.check().await;
}

#[tokio::test]
async fn a_sweep_fails_steps_whose_inputs_became_too_large() {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    rig.register(&template("w", JOIN)).await;
    let (first, second) = (rig.submit("w", json!({"n": 1})).await, rig.submit("w", json!({"n": 2})).await);
    // A pause holds the join of the first task; that of the second is dispatched, and its process dies before it loads the
    // inputs.
    rig.execute(&format!("update tasker.tasks set paused_at = tasker.clock() where task_id = '{first}'")).await;
    for run in rig.engine.queue().runs() {
        let bytes = if run.step_name == "alone" { 10 } else { limits::INPUT_BYTES / 4 };
        rig.answer(&run, of_bytes(bytes)).await;
    }
    let larger = format!("update tasker.steps set result_bytes = {} where name = 'a'", limits::INPUT_BYTES + 1);
    rig.execute(&format!("{larger}; update tasker.tasks set paused_at = null")).await;
    rig.pass(std::time::Duration::from_secs(24 * 3600)).await;
    rig.engine.sweep().await.unwrap();
    for task in [first, second] {
        assert_eq!(rig.step(task, "join").await.error.unwrap()["error_type"], "input_too_large");
        assert_eq!(rig.state(task).await, TaskState::Error);
    }
    rig.check().await;
}

#[tokio::test]
async fn a_result_of_6_mb_is_kept_and_one_byte_more_is_a_permanent_failure() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    assert_eq!(rig.answer(&runs["a"], of_bytes(limits::RESULT_BYTES)).await, Answer::Accepted);
    assert_eq!(rig.answer(&runs["b"], of_bytes(limits::RESULT_BYTES + 1)).await, Answer::Accepted);
    let (a, b) = (rig.step(task, "a").await, rig.step(task, "b").await);
    assert_eq!(a.state, StepState::Complete);
    assert_eq!((b.state, b.attempt, b.error.unwrap()["error_type"].clone()), (StepState::Error, 1, json!("result_too_large")));
    assert_eq!(rig.answer(&runs["b"], of_bytes(limits::RESULT_BYTES + 1)).await, Answer::Duplicate);
    rig.check().await;
}

fn ten_steps() -> String {
    let names: Vec<String> = (0..10).map(|i| format!("s{i}")).collect();
    let steps: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), [].as_slice())).collect();
    template("ten", &steps)
}

#[tokio::test]
async fn text_that_cannot_be_kept_fails_its_own_step_in_a_batch_of_ten() {
    let rig = Rig::still().await;
    rig.register(&ten_steps()).await;
    let task = rig.submit("ten", json!({})).await;
    let poison = [
        r#"{"a": "\u0000"}"#.to_owned(),
        r#"{"a": 1, "a": 2}"#.to_owned(),
        r#"["\ud800"]"#.to_owned(),
        "1e400".to_owned(),
        "[".repeat(5_000) + &"]".repeat(5_000),
    ];
    let runs = rig.receive_up_to(10).await;
    let outcome = |i: usize| poison.get(i).map_or_else(|| success(json!(i)), |text| raw(text.clone()));
    let batch = runs.iter().enumerate().map(|(i, run)| run.complete(outcome(i), "w", 1)).collect();
    assert_eq!(rig.complete(batch).await, [Answer::Accepted; 10]);
    for (i, run) in runs.iter().enumerate() {
        let step = rig.step(task, &run.step_name).await;
        let error = step.error.map(|e| e["error_type"].clone());
        let expected =
            if i < poison.len() { (StepState::Error, Some(json!("invalid_result"))) } else { (StepState::Complete, None) };
        assert_eq!((step.state, error), expected, "{}", run.step_name);
    }
    rig.check().await;
}

#[tokio::test]
async fn what_only_the_database_refuses_fails_its_own_step_in_a_batch_of_ten() {
    let rig = Rig::still().await;
    rig.register(&ten_steps()).await;
    // Stands for a text that our own check misses.
    rig.execute(
        "create function tasker.refuse() returns trigger language plpgsql as $$ begin
               if new.result::text like '%poison%' then raise 'no such text' using errcode = '22P02'; end if;
               return new; end $$;
             create trigger refuse before update on tasker.steps for each row execute function tasker.refuse()",
    )
    .await;
    let task = rig.submit("ten", json!({})).await;
    let runs = rig.receive_up_to(10).await;
    let result = |i: usize| if i == 6 { json!("poison") } else { json!(i) };
    let batch: Vec<_> = runs.iter().enumerate().map(|(i, run)| run.complete(success(result(i)), "w", 1)).collect();
    assert_eq!(rig.complete(batch.clone()).await, [Answer::Accepted; 10]);
    assert_eq!(rig.complete(batch).await, [Answer::Duplicate; 10], "the poison too");
    for (i, run) in runs.iter().enumerate() {
        let step = rig.step(task, &run.step_name).await;
        assert_eq!(step.state, if i == 6 { StepState::Error } else { StepState::Complete });
    }
    let error = rig.step(task, &runs[6].step_name).await.error.unwrap();
    assert_eq!((&error["error_type"], &error["retryable"]), (&json!("invalid_result"), &json!(false)));
    assert!(error["message"].as_str().unwrap().contains("no such text"), "{error}");
    assert_eq!(rig.state(task).await, TaskState::Error);
    rig.check().await;
}

#[tokio::test]
async fn a_failure_is_stored_without_the_characters_that_cannot_be_stored() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let mut run = rig.receive().await;
    run.step_name = "x".into();
    let failure = Failure {
        error_code: Some("\0'; drop table tasker.steps; --".into()),
        context: Some(json!({"\u{1b}[31m": "a\0b"})),
        delay_seconds: Some(f64::NAN),
        ..Failure::permanent("odd\0", "line\n\0\u{7f}\"quoted\" \u{2028}")
    };
    let mut completion = run.complete(Outcome::Failure(failure), "w\0\u{1f980}", u64::MAX);
    completion.worker.push_str(&"x".repeat(1000));
    assert_eq!(rig.complete(vec![completion]).await, [Answer::Accepted]);
    let error = rig.step(task, "a").await.error.unwrap();
    assert_eq!(error["message"], "line\n\u{7f}\"quoted\" \u{2028}");
    assert_eq!(error["error_code"], "'; drop table tasker.steps; --");
    assert_eq!(error.get("context"), None::<&Value>);
    rig.check().await;
}

#[tokio::test]
async fn the_error_about_a_huge_invalid_result_is_short() {
    let rig = Rig::still().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}}});
    rig.register(&workflow("w", json!([{"name": "a", "result_schema": schema}]))).await;
    let task = rig.submit("w", json!({})).await;
    let huge = "x".repeat(1024 * 1024);
    rig.answer(&rig.receive().await, success(json!({"n": huge, "m": huge}))).await;
    let error = rig.step(task, "a").await.error.unwrap();
    assert_eq!(error["error_type"], "result_schema");
    assert!(error["message"].as_str().unwrap().chars().count() <= limits::ERROR_CHARS);
    assert_eq!(rig.state(task).await, TaskState::Error);
    rig.check().await;
}

#[tokio::test]
async fn a_step_whose_message_no_queue_can_carry_fails_at_once_and_the_others_go_on() {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    rig.engine.queue().find_too_large(|message| matches!(message, Outgoing::RunStep { step, .. } if step.step_name == "b"));
    let task = rig.submit("w", json!({})).await;
    let [a] = &rig.engine.queue().runs()[..] else { panic!("a is sent") };
    let b = rig.step(task, "b").await;
    assert_eq!(b.state, StepState::Error);
    let error = b.error.unwrap();
    assert_eq!((&error["error_type"], &error["retryable"]), (&json!("input_too_large"), &json!(false)));
    assert!(error["message"].as_str().unwrap().contains("at most 1048576"), "{error}");
    rig.answer(a, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    rig.check().await;
}
