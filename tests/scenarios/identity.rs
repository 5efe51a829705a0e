//! When two requests mean the same task, and which version of a template a request means.

use std::collections::HashSet;

use serde_json::{Value, json};
use tasker_engine::{SubmitError, Submitted};
use tasker_wire::{Outcome, TaskState, message::RunStep};

use crate::rig::{Rig, request_of, success};

fn template(name: &str, version: &str, strategy: &str) -> String {
    let steps = json!([{"name": "a", "handler": {"callable": "a"}}]);
    json!({"name": name, "version": version, "identity_strategy": strategy, "steps": steps}).to_string()
}

async fn rig(strategy: &str) -> Rig {
    let rig = Rig::still().await;
    rig.register(&template("w", "1.0.0", strategy)).await;
    rig
}

async fn submit(rig: &Rig, request: &str) -> Result<Submitted, SubmitError> {
    rig.engine.submit(request_of(request), None).await
}

fn duplicate_of(first: &Submitted, second: Result<Submitted, SubmitError>) -> TaskState {
    match second {
        Err(SubmitError::Duplicate { task, state }) if task == first.task => state,
        other => panic!("not a duplicate of {first:?}: {other:?}"),
    }
}

#[tokio::test]
async fn strict_means_the_same_context_however_it_is_written() {
    let rig = rig("strict").await;
    let first = submit(&rig, r#"{"name": "w", "context": {"a": 1, "b": {"c": [1, 2], "d": "é"}}}"#).await.unwrap();
    for same in [
        r#"{"name": "w", "context": {"a": 1, "b": {"c": [1, 2], "d": "é"}}}"#,
        r#"{"context":{"b":{"d":"\u00e9","c":[1.0,2]},"a":1e0},"name":"w","initiator":"somebody else","priority":9}"#,
        "{\"name\": \"w\",\n\t\"context\": {\n \"b\" : {\"d\": \"é\", \"c\": [1,   2]}, \"a\": 1}}",
        r#"{"name": "w", "version": "1.0.0", "context": {"a": 1, "b": {"c": [1, 2], "d": "é"}}}"#,
    ] {
        assert_eq!(duplicate_of(&first, submit(&rig, same).await), TaskState::Running, "{same}");
    }
    for other in [r#"{"a": 1, "b": {"c": [2, 1], "d": "é"}}"#, r#"{"a": 1}"#, r#"{"a": "1", "b": {"c": [1, 2], "d": "é"}}"#] {
        assert!(submit(&rig, &format!(r#"{{"name": "w", "context": {other}}}"#)).await.unwrap().created, "{other}");
    }
    rig.check().await;
}

#[tokio::test]
async fn strict_distinguishes_numbers_that_are_one_double() {
    let rig = rig("strict").await;
    let numbers = [
        "1000000000000000000000",
        "1000000000000000000001",
        "12345678901234567890",
        "12345678901234567891",
        "-9223372036854775809",
        "-9223372036854775810",
        "0.1",
        "0.1000000000000000055511151231257827",
    ];
    let request = |number: &str| format!(r#"{{"name": "w", "context": {{"id": [{number}]}}}}"#);
    for number in numbers {
        assert!(submit(&rig, &request(number)).await.unwrap().created, "{number}");
    }
    for same in ["1e21", "1000000000000000000001.0", "1234567890123456789e1", "-922337203685477581E+1", "0.10"] {
        let second = submit(&rig, &request(same)).await;
        assert!(matches!(second, Err(SubmitError::Duplicate { .. })), "{same}: {second:?}");
    }
    let contexts = rig.receive_up_to(numbers.len()).await;
    assert_eq!(contexts[1].context.get(), r#"{"id": [1000000000000000000001]}"#);
    rig.check().await;
}

#[tokio::test]
async fn handlers_receive_every_digit_of_settings_results_and_checkpoints() {
    let rig = Rig::still().await;
    let digits = "12345678901234567890123";
    let raw = |text: String| serde_json::value::RawValue::from_string(text).unwrap();
    rig.register(&format!(
        "{{name: w, version: 1.0.0, steps: [{{name: a, handler: {{callable: a, initialization: {{n: {digits}}}}}}},
          {{name: b, dependencies: [a], handler: {{callable: b}}}}]}}"
    ))
    .await;
    rig.submit("w", json!({})).await;
    let run = rig.receive().await;
    // As over a queue outside the process.
    let text = serde_json::to_string(&run).unwrap();
    assert!(text.contains(&format!(r#""initialization":{{"n":{digits}}}"#)), "{text}");
    assert_eq!(serde_json::from_str::<RunStep>(&text).unwrap().handler.initialization["n"].get(), digits);
    let (cursor, accumulated) = (raw(digits.into()), Some(raw(format!("[{digits}]"))));
    rig.answer(&run, Outcome::Checkpoint { cursor, items_processed: 1, accumulated }).await;
    let run = rig.receive().await;
    let checkpoint = run.checkpoint.as_ref().unwrap().get();
    assert!(checkpoint.contains(&format!(r#""cursor":{digits}"#)) && checkpoint.contains(&format!("[{digits}]")), "{checkpoint}");
    rig.answer(&run, Outcome::success(raw(format!(r#"{{"n": -{digits}.5}}"#)), None)).await;
    let run = rig.receive().await;
    assert_eq!(run.dependency_results["a"].get(), format!(r#"{{"n": -{digits}.5}}"#));
    rig.check().await;
}

#[tokio::test]
async fn a_duplicate_gets_the_existing_task_and_its_state() {
    let rig = rig("strict").await;
    let request = r#"{"name": "w", "context": {}}"#;
    let first = submit(&rig, request).await.unwrap();
    assert_eq!(duplicate_of(&first, submit(&rig, request).await), TaskState::Running);
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(duplicate_of(&first, submit(&rig, request).await), TaskState::Complete);
    assert_eq!(rig.count("select count(*) from tasker.tasks").await, 1);
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.check().await;
}

#[tokio::test]
async fn a_strict_identity_includes_name_and_version_and_a_key_identity_excludes_the_version() {
    let rig = rig("strict").await;
    rig.register(&template("w", "2.0.0", "strict")).await;
    rig.register(&template("v", "1.0.0", "strict")).await;
    for request in [
        json!({"name": "w", "version": "1.0.0"}),
        json!({"name": "w"}),
        json!({"name": "v"}),
        json!({"name": "v", "idempotency_key": "k"}),
        json!({"name": "w", "version": "1.0.0", "idempotency_key": "k"}),
    ] {
        assert!(rig.try_submit(request.clone()).await.unwrap().created, "{request}");
    }
    let same_key = rig.try_submit(json!({"name": "w", "version": "2.0.0", "idempotency_key": "k"})).await;
    assert!(matches!(same_key, Err(SubmitError::Duplicate { .. })), "a key is scoped to namespace and name");
    rig.check().await;
}

#[tokio::test]
async fn a_key_of_the_callers_is_required_where_the_template_says_so() {
    let rig = rig("caller_provided").await;
    let refused = rig.try_submit(json!({"name": "w"})).await;
    assert!(matches!(&refused, Err(SubmitError::Invalid(faults)) if faults.0[0].place == "/idempotency_key"), "{refused:?}");
    assert_eq!(rig.count("select count(*) from tasker.tasks").await, 0);
    let first = rig.try_submit(json!({"name": "w", "idempotency_key": "k", "context": {"n": 1}})).await.unwrap();
    duplicate_of(&first, rig.try_submit(json!({"name": "w", "idempotency_key": "k", "context": {"n": 2}})).await);
    assert!(rig.try_submit(json!({"name": "w", "idempotency_key": "l"})).await.unwrap().created);
    rig.check().await;
}

#[tokio::test]
async fn a_key_wins_over_every_strategy() {
    let rig = rig("always_unique").await;
    for _ in 0..2 {
        assert!(rig.try_submit(json!({"name": "w"})).await.unwrap().created, "always unique");
    }
    let first = rig.try_submit(json!({"name": "w", "idempotency_key": "k"})).await.unwrap();
    duplicate_of(&first, rig.try_submit(json!({"name": "w", "idempotency_key": "k"})).await);

    rig.register(&template("s", "1.0.0", "strict")).await;
    for key in ["k", "l"] {
        assert!(rig.try_submit(json!({"name": "s", "idempotency_key": key})).await.unwrap().created, "the same context twice");
    }
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_requests_of_one_identity_at_once_make_one_task() {
    let rig = rig("strict").await;
    let other = crate::rig::engine(&rig.db, tasker_queue::InProcess::default());
    for n in 0..20 {
        let request = json!({"name": "w", "context": {"n": n}}).to_string();
        let submits = (0..16).map(|i| {
            let engine = if i % 2 == 0 { rig.engine.clone() } else { other.clone() };
            let request = request_of(&request);
            tokio::spawn(async move { engine.submit(request, None).await })
        });
        let mut tasks = HashSet::new();
        let mut created = 0;
        for submit in submits.collect::<Vec<_>>() {
            match submit.await.unwrap() {
                Ok(submitted) => {
                    created += 1;
                    tasks.insert(submitted.task);
                }
                Err(SubmitError::Duplicate { task, .. }) => {
                    tasks.insert(task);
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!((created, tasks.len()), (1, 1));
    }
    assert_eq!(rig.count("select count(*) from tasker.tasks").await, 20);
    assert_eq!(rig.count("select count(*) from tasker.steps").await, 20);
    assert_eq!(rig.engine.queue().waiting() + other.queue().waiting(), 20);
    rig.check().await;
}

#[tokio::test]
async fn without_a_version_the_highest_release_is_meant_and_kept() {
    let rig = Rig::still().await;
    for version in ["1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1"] {
        rig.register(&template("w", version, "always_unique")).await;
    }
    let version = |request: Value| {
        let rig = &rig;
        async move {
            let task = rig.try_submit(request).await.unwrap().task;
            rig.rows(&format!("select version from tasker.tasks where task_id = '{task}'")).await[0]["version"].clone()
        }
    };
    assert_eq!(version(json!({"name": "w"})).await, "1.10.0");
    assert_eq!(version(json!({"name": "w", "version": "1.9.0"})).await, "1.9.0");
    assert_eq!(version(json!({"name": "w", "version": "2.0.0-rc.1"})).await, "2.0.0-rc.1");
    rig.register(&template("w", "2.0.0", "always_unique")).await;
    assert_eq!(version(json!({"name": "w"})).await, "2.0.0", "seen at once");

    for (request, versions) in [
        (json!({"name": "w", "version": "3.0.0"}), 5),
        (json!({"name": "nobody"}), 0),
        (json!({"name": "w", "namespace": "elsewhere"}), 0),
    ] {
        match rig.try_submit(request.clone()).await {
            Err(SubmitError::UnknownTemplate { known, .. }) => assert_eq!(known.len(), versions, "{request}"),
            other => panic!("{request}: {other:?}"),
        }
    }
    rig.check().await;
}

#[tokio::test]
async fn a_template_of_pre_releases_only_runs_when_its_version_is_named() {
    let rig = Rig::still().await;
    rig.register(&template("w", "1.0.0-beta", "always_unique")).await;
    assert!(matches!(rig.try_submit(json!({"name": "w"})).await, Err(SubmitError::UnknownTemplate { .. })));
    assert!(rig.try_submit(json!({"name": "w", "version": "1.0.0-beta"})).await.unwrap().created);
}

#[tokio::test]
async fn a_context_against_the_templates_schema_makes_no_task() {
    let rig = Rig::still().await;
    let schema = json!({"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}});
    let steps = json!([{"name": "a", "handler": {"callable": "a"}}]);
    let template = json!({"name": "w", "version": "1.0.0", "input_schema": schema, "steps": steps});
    rig.register(&template.to_string()).await;
    for (context, place) in [(json!({}), "/context"), (json!({"amount": "much"}), "/context/amount")] {
        let refused = rig.try_submit(json!({"name": "w", "context": context})).await;
        assert!(matches!(&refused, Err(SubmitError::Invalid(faults)) if faults.0[0].place == place), "{refused:?}");
    }
    assert_eq!(rig.count("select count(*) from tasker.tasks").await, 0);
    let task = rig.submit("w", json!({"amount": 1})).await;
    let run: RunStep = rig.receive().await;
    assert_eq!(run.task_id, task);
}
