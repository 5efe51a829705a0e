//! The doctor finds every row that is not as the template and the decisions of its task say.

use std::collections::BTreeMap;

use serde_json::json;
use tasker_engine::{OperatorAction, Precondition};
use tasker_wire::{RunStep, StepState, TaskId};

use crate::{
    batches::split,
    decisions::create,
    rig::{Rig, by, success, workflow},
};

/// A task whose decision chose `auto`, and whose batch has three workers and one place.
async fn decided() -> (Rig, TaskId, BTreeMap<String, RunStep>) {
    let template = workflow(
        "w",
        json!([
            {"name": "start"},
            {"name": "route", "type": "decision", "dependencies": ["start"]},
            {"name": "auto", "dependencies": ["route"]},
            {"name": "manual", "dependencies": ["route"]},
            {"name": "split", "type": "batchable", "dependencies": ["start"],
             "batch_config": {"worker_template": "work", "parallelism": 1}},
            {"name": "work", "type": "batch_worker", "dependencies": ["split"]},
            {"name": "join", "type": "deferred_convergence", "dependencies": ["auto", "manual", "work"]},
        ]),
    );
    let rig = Rig::still().await;
    rig.register(&template).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    let runs = rig.receive_all().await;
    rig.answer(&runs["route"], create(&["auto"])).await;
    rig.answer(&runs["split"], split(3)).await;
    rig.check().await;
    let runs = rig.receive_all().await;
    (rig, task, runs)
}

#[tokio::test]
async fn a_worker_that_a_pause_holds_has_its_place() {
    let (rig, task, runs) = decided().await;
    rig.engine.operate((task, None), OperatorAction::PauseTask, by("wait"), Precondition::default()).await.unwrap();
    rig.answer(&runs["work_001"], success(json!(1))).await;
    assert_eq!(rig.step(task, "work_002").await.state, StepState::Pending);
    assert_eq!(rig.count("select running::int8 from tasker.batches").await, 1, "the second worker is held");
    rig.check().await;
    rig.execute("update tasker.batches set running = 0").await;
    let found = rig.engine.examine().await.unwrap().differences;
    let running = found.iter().find(|found| found.what == "running").unwrap();
    assert_eq!((running.facts.as_deref(), running.stored.as_deref()), (Some("1"), Some("0")));
}

#[tokio::test]
async fn every_row_that_was_not_decided_so_is_found() {
    let copy =
        "insert into tasker.steps select (json_populate_record(s, json_build_object('no', s.no + 16384, 'name', 'manual'))).*
        from tasker.steps s where name = 'auto'";
    let broken = [
        ("delete from tasker.steps where name = 'work_003'", "step of null: \"it was decided\", not null"),
        (copy, "step of manual: null, not \"it exists\""),
        ("update tasker.steps set parents = parents[2:] where name = 'join'", "parents of join"),
        ("update tasker.steps set parents = parents || no - 1 where name = 'work_002'", "parents of work_002"),
        ("update tasker.steps set children = '{}' where name = 'start'", "children of start"),
        ("update tasker.steps set further_ancestors = '{}' where name = 'join'", "further_ancestors of join"),
        ("update tasker.steps set created = null where name = 'route'", "created of route: \"the step is done\", not null"),
        ("update tasker.steps set created = '{99}' where name = 'route'", "created of route: \"the step is done\", not \"{99}\""),
        ("update tasker.steps set created = '{16384}' where name = 'start'", "created of start: null, not \"{16384}\""),
        ("update tasker.batches set running = 2", "running of null: \"1\", not \"2\""),
        ("update tasker.batches set parallelism = 2", "places of null"),
        ("update tasker.batches set next = no + 2", "next of null"),
        ("update tasker.batches set open = false", "open of null: \"no worker failed\", not \"false\""),
        ("update tasker.steps set pending_parents = 0 where name = 'work_002'", "pending_parents of work_002: \"1\", not \"0\""),
    ];
    let (rig, ..) = decided().await;
    rig.execute("create table sound_steps as table tasker.steps; create table sound_batches as table tasker.batches").await;
    for (statement, expected) in broken {
        rig.execute(statement).await;
        let found = rig.engine.examine().await.unwrap();
        let word = |value: &Option<String>| json!(value).to_string();
        let of = |step: &Option<String>| step.clone().unwrap_or_else(|| "null".into());
        let said = found
            .differences
            .iter()
            .map(|d| format!("{} of {}: {}, not {}", d.what, of(&d.step), word(&d.facts), word(&d.stored)));
        let said: Vec<String> = said.collect();
        assert!(said.iter().any(|said| said.starts_with(expected)), "{statement}: {said:#?}");
        assert_eq!(found.total, said.len() as i64, "{statement}");
        let restore = "truncate tasker.steps, tasker.batches; insert into tasker.steps table sound_steps;
            insert into tasker.batches table sound_batches";
        rig.execute(restore).await;
    }
    rig.check().await;
}
