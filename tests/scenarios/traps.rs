//! What PostgreSQL does under an orchestrator's feet: deadlocks, answers that are lost after the commit, callers that go away.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tasker_engine::Engine;
use tasker_queue::InProcess;
use tasker_store::StoreError;
use tasker_wire::{Answer, RunStep, StepState, TaskState};
use tokio::task::JoinHandle;

use crate::{
    proxy::Proxy,
    world::{World, by, engine_at, failure, request_of, success, template, workflow},
};

const CHAIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];

/// A world whose engine reaches its database over one wire, which is connected and has the template loaded.
async fn over_a_wire() -> (World, Proxy) {
    let mut world = World::still().await;
    let proxy = Proxy::to(&world.db.url).await;
    world.engine = engine_at(&proxy.url, InProcess::default());
    world.register(&template("w", CHAIN)).await;
    world.submit("w", json!({"first": true})).await;
    for _ in 0..2 {
        world.answer(&world.receive().await, success(json!(1))).await;
    }
    (world, proxy)
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_meets_itself() {
    let (world, proxy) = over_a_wire().await;
    proxy.lose_after(0);
    let task = world.submit("w", json!({})).await;
    assert!(proxy.lost());
    assert_eq!(world.count("select count(*) from tasker.tasks").await, 2);
    world.engine.recover().await.unwrap();
    let runs = world.receive_all().await;
    assert_eq!((runs["a"].task_id, runs["a"].lease), (task, 1));
    assert_eq!(world.answer(&runs["a"], success(json!(1))).await, Answer::Accepted);
    world.check().await;
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_hands_nothing_over_that_a_pause_holds() {
    let (world, proxy) = over_a_wire().await;
    world.execute("insert into tasker.pauses values ('default', '', 'me', 'because', tasker.clock())").await;
    proxy.lose_after(0);
    let task = world.submit("w", json!({})).await;
    assert!(proxy.lost());
    assert_eq!(world.step(task, "a").await.state, StepState::Pending);
    assert_eq!(world.engine.queue().waiting(), 0);
    world.check().await;
}

#[tokio::test]
async fn an_answer_whose_commit_was_not_heard_is_a_duplicate_and_its_children_are_recovered() {
    let (world, proxy) = over_a_wire().await;
    let task = world.submit("w", json!({})).await;
    let a = world.receive().await;
    let batch = vec![a.complete(success(json!(1)), "w", 1)];
    proxy.lose_after(0);
    let error = world.engine.complete(batch.clone()).await.unwrap_err();
    assert!(error.is_transient() && proxy.lost(), "{error}");
    assert_eq!(world.complete(batch).await, [Answer::Duplicate]);
    assert_eq!(world.engine.queue().waiting(), 0);
    world.engine.recover().await.unwrap();
    let runs = world.receive_all().await;
    assert_eq!((runs["b"].task_id, runs["b"].lease), (task, 1));
    assert_eq!(world.attempts(task, "a").await, [json!([1, 1, "success", true])]);
    world.check().await;
}

#[tokio::test]
async fn a_retry_whose_hand_over_was_not_heard_is_recovered_under_its_lease() {
    let (world, proxy) = over_a_wire().await;
    let task = world.submit("w", json!({})).await;
    world.answer(&world.receive().await, failure("not now")).await;
    let wake_up = world.wake_up(task, "a").await;
    proxy.lose_after(0);
    world.engine.evaluate(vec![wake_up]).await.unwrap_err();
    world.engine.evaluate(vec![wake_up]).await.unwrap();
    assert_eq!(world.engine.queue().waiting(), 0);
    world.engine.recover().await.unwrap();
    let run = world.receive_all().await.remove("a").unwrap();
    assert_eq!((run.task_id, run.lease, run.attempt), (task, 2, 2));
    world.check().await;
}

#[tokio::test]
async fn a_cancel_whose_answer_was_lost_may_be_said_again() {
    let (world, proxy) = over_a_wire().await;
    let task = world.submit("w", json!({})).await;
    proxy.lose_after(0);
    world.engine.cancel_task(task, by("x")).await.unwrap_err();
    world.engine.cancel_task(task, by("x")).await.unwrap();
    assert_eq!(world.count("select count(*) from tasker.audit_log where action = 'cancel_task'").await, 1);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_engine_that_loses_many_answers_finishes_with_the_first_attempts() {
    let (world, proxy) = over_a_wire().await;
    let step =
        |i: i32| json!({"name": format!("s{i}"), "dependencies": (0.max(i - 1)..i).map(|p| format!("s{p}")).collect::<Vec<_>>()});
    world.register(&workflow("long", (0..12).map(step).collect())).await;
    for n in 0..20 {
        world.submit("long", json!({"n": n})).await;
    }
    world.start(7, |run| success(json!(run.step_name)));
    let mut lost = 0;
    while world.count("select count(*) from tasker.tasks where state = 'running'").await > 0 {
        if lost < 8 && proxy.lost() {
            lost += 1;
            proxy.lose_after(1);
        }
    }
    println!("{lost} answers lost");
    assert!(lost > 5);
    let of_first = "from tasker.steps where state = 'complete' and attempt = 1 and lease = 1";
    assert_eq!(world.count(&format!("select count(*) {of_first}")).await, 20 * 12 + 2);
    assert_eq!(world.count("select count(*) from tasker.attempts where applied").await, 20 * 12 + 2);
    world.check().await;
}

fn complete(engine: &Arc<Engine<InProcess>>, run: &RunStep) -> JoinHandle<Result<Vec<Answer>, StoreError>> {
    let (engine, batch) = (engine.clone(), vec![run.complete(success(json!(1)), "w", 1)]);
    tokio::spawn(async move { engine.complete(batch).await })
}

const LOCK: &str = "select from tasker.steps where task_id = $1 and no = $2 for update";
const WAITING: &str = "select count(*) > 0 from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock' and query like '%complete_v1%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_met_by_making_the_whole_statement_again() {
    let world = World::still().await;
    world.register(&template("w", CHAIN)).await;
    let task = world.submit("w", json!({})).await;
    let a = world.receive().await;
    let b = world.step_id(task, "b").await.no;
    // Somebody locks the child first and the step then: the order that nothing of ours takes.
    let mut client = world.db.client().await;
    let other = client.transaction().await.unwrap();
    other.batch_execute("set local deadlock_timeout = '1min'").await.unwrap();
    other.query(LOCK, &[&task.uuid(), &b]).await.unwrap();
    let completing = complete(&world.engine, &a);
    world.until(WAITING).await;
    other.query(LOCK, &[&task.uuid(), &a.step_id.no]).await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(completing.await.unwrap().unwrap(), [Answer::Accepted]);
    assert!(world.engine.store().counts().conflicts >= 1);
    assert_eq!(world.receive().await.step_name, "b");
    assert_eq!(world.attempts(task, "a").await.len(), 1);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_strands_nothing_between_commit_and_send() {
    let world = World::still().await;
    world.register(&template("w", CHAIN)).await;
    let task = world.submit("w", json!({})).await;
    let a = world.receive().await;
    let mut client = world.db.client().await;
    let other = client.transaction().await.unwrap();
    other.query(LOCK, &[&task.uuid(), &a.step_id.no]).await.unwrap();
    let completing = complete(&world.engine, &a);
    world.until(WAITING).await;
    completing.abort();
    assert!(completing.await.unwrap_err().is_cancelled());
    other.commit().await.unwrap();
    assert_eq!(world.receive().await.step_name, "b");
    world.check().await;
}

#[tokio::test]
async fn a_violated_check_is_our_bug_and_fails_no_step() {
    let world = World::still().await;
    world.register(&template("w", CHAIN)).await;
    world.execute("alter table tasker.steps add constraint bug check (result::text <> '\"bug\"')").await;
    let task = world.submit("w", json!({})).await;
    let a = world.receive().await;
    let refused = world.engine.complete(vec![a.complete(success(json!("bug")), "w", 1)]).await;
    assert!(matches!(refused, Err(StoreError::Bug(_))), "{refused:?}");
    assert_eq!(world.step(task, "a").await.state, StepState::Enqueued);
    assert_eq!(world.count("select count(*) from tasker.attempts").await, 0);
    world.check().await;
}

#[tokio::test]
async fn a_defect_that_meets_one_answer_keeps_no_other_from_its_task() {
    let world = World::still().await;
    world.register(&template("w", CHAIN)).await;
    world.execute("alter table tasker.steps add constraint bug check (result::text <> '13')").await;
    let mut tasks = Vec::new();
    for n in 0..50 {
        tasks.push(world.submit("w", json!({"n": n})).await);
    }
    let stuck = tasks[13];
    world.start(50, |run| success(serde_json::from_str::<Value>(run.context.get()).unwrap()["n"].clone()));
    world.until("select count(*) = 1 from tasker.tasks where state = 'running'").await;
    assert_eq!((world.state(stuck).await, world.step(stuck, "a").await.attempt), (TaskState::Running, 1));
    world.check().await;
    // Mended: it goes on by itself.
    world.execute("alter table tasker.steps drop constraint bug").await;
    assert_eq!(world.finished(stuck).await, TaskState::Complete);
    assert_eq!((world.step(stuck, "a").await.attempt, world.step(stuck, "a").await.lease), (1, 1));
    world.check().await;
}

#[tokio::test]
async fn a_request_waits_for_a_locked_row_only_so_long_as_the_row_is_locked() {
    let world = World::still().await;
    world.register(&template("w", CHAIN)).await;
    let request = r#"{"name": "w", "idempotency_key": "k"}"#;
    let mut client = world.db.client().await;
    // A submit of the same identity that is rolled back in the end.
    let other = client.transaction().await.unwrap();
    let task = world.submit("w", json!({})).await;
    let copy = format!(
        "insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, identity, context, tags, initiator, \
         source_system, reason, correlation_id, total_steps, created_at, state, active_steps, failed_steps) \
         select gen_random_uuid(), template_id, namespace, name, version, environment, $1, context, tags, initiator, source_system, \
         reason, correlation_id, total_steps, created_at, state, active_steps, failed_steps from tasker.tasks where task_id = '{task}'"
    );
    let identity = tasker_domain::request::key_identity("default", "w", "k").to_vec();
    other.execute(&copy, &[&identity]).await.unwrap();
    let engine = world.engine.clone();
    let submitting = tokio::spawn(async move { engine.submit(request_of(request), None).await });
    world.until(&WAITING.replace("complete_v1", "submit_v1")).await;
    other.rollback().await.unwrap();
    let submitted = tokio::time::timeout(Duration::from_secs(30), submitting).await.unwrap().unwrap().unwrap();
    assert!(submitted.created);
    world.check().await;
}
