//! What a workflow costs the database: a statement for each submit, and one for each batch of answers.

use serde_json::json;
use tasker_engine::SubmitError;

use crate::world::{World, success, template};

#[tokio::test]
async fn a_submit_and_a_completion_are_one_statement_each() {
    let world = World::still().await;
    world.register(&template("linear", &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])])).await;
    // The first task of a template also loads it.
    world.submit("linear", json!({"first": true})).await;
    world.receive().await;

    let statements = || world.engine.store().counts().statements;
    let before = statements();
    world.submit("linear", json!({})).await;
    assert_eq!(statements() - before, 1);
    for n in 2..=5 {
        let run = world.receive().await;
        world.answer(&run, success(json!(n))).await;
        assert_eq!(statements() - before, n);
    }
    assert_eq!(world.engine.store().counts().conflicts, 0);
    world.check().await;
}

#[tokio::test]
async fn submits_that_come_together_are_inserted_together() {
    let world = World::still().await;
    world.register(&template("one", &[("a", &[])])).await;
    world.submit("one", json!({"first": true})).await;
    let before = world.engine.store().counts().statements;
    // Every second one asks for the same as the one before.
    let requests = (0..200).map(|n| world.try_submit(json!({"name": "one", "idempotency_key": format!("{}", n / 2)})));
    let answers = futures::future::join_all(requests).await;
    let statements = world.engine.store().counts().statements - before;
    assert!(statements <= 10, "{statements} statements");
    let created = answers.iter().filter(|a| a.is_ok()).count();
    let duplicates = answers.iter().filter(|a| matches!(a, Err(SubmitError::Duplicate { .. }))).count();
    assert_eq!((created, duplicates), (100, 100));
    world.start(200, |_| success(json!(1)));
    world.until("select count(*) = 0 from tasker.tasks where state = 'running'").await;
    world.check().await;
}

#[tokio::test]
async fn looks_that_come_together_are_one_statement() {
    let world = World::still().await;
    world.register(&template("one", &[("a", &[])])).await;
    let mut tasks = Vec::new();
    for n in 0..50 {
        tasks.push(world.submit("one", json!({"n": n})).await);
    }
    let before = world.engine.store().counts().statements;
    let shown = futures::future::join_all(tasks.iter().map(|&task| world.engine.store().task_detail(task))).await;
    let statements = world.engine.store().counts().statements - before;
    assert!(statements <= 4, "{statements} statements");
    for (task, shown) in tasks.iter().zip(shown) {
        let shown = shown.unwrap().unwrap();
        assert_eq!((shown.task.task, shown.steps.len()), (*task, 1));
    }
}

#[tokio::test]
async fn answers_that_wait_together_are_applied_together() {
    let world = World::still().await;
    world.register(&template("one", &[("a", &[])])).await;
    let mut tasks = Vec::new();
    for n in 0..500 {
        tasks.push(world.submit("one", json!({"n": n})).await);
    }
    let before = world.engine.store().counts().statements;
    world.start(500, |_| success(json!(1)));
    world.until("select count(*) = 0 from tasker.tasks where state = 'running'").await;
    // Three batches of at most 200, and what the sweeper looks at meanwhile.
    let statements = world.engine.store().counts().statements - before;
    assert!(statements < 50, "{statements} statements");
    world.check().await;
}

#[tokio::test]
async fn a_look_that_finds_nothing_is_one_statement() {
    let world = World::still().await;
    let before = world.engine.store().counts().statements;
    world.engine.sweep().await.unwrap();
    assert_eq!(world.engine.store().counts().statements - before, 1);
}
