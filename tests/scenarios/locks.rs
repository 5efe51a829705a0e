//! Locks in the database: deadlocks, rows that others hold, and readers that are blocked.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tasker_engine::Engine;
use tasker_queue::InProcess;
use tasker_store::StoreError;
use tasker_wire::{Answer, RunStep, TaskState};
use tokio::task::JoinHandle;

use crate::rig::{PATIENCE, Rig, request_of, success, template};

const CHAIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];

fn complete(engine: &Arc<Engine<InProcess>>, run: &RunStep) -> JoinHandle<Result<Vec<Answer>, StoreError>> {
    let (engine, batch) = (engine.clone(), vec![run.complete(success(json!(1)), "w", 1)]);
    tokio::spawn(async move { engine.complete(batch).await })
}

const LOCK: &str = "select from tasker.steps where task_id = $1 and no = $2 for update";
const WAITING: &str = "select count(*) > 0 from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock' and query like '%tasker.complete%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_met_by_making_the_whole_statement_again() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    let b = rig.step_id(task, "b").await.no;
    // Another session locks the child first and then the step. The product never uses this order.
    let mut client = rig.db.client().await;
    let other = client.transaction().await.unwrap();
    other.batch_execute("set local deadlock_timeout = '1min'").await.unwrap();
    other.query(LOCK, &[&task.uuid(), &b]).await.unwrap();
    let completing = complete(&rig.engine, &a);
    rig.until(WAITING).await;
    other.query(LOCK, &[&task.uuid(), &a.step_id.no]).await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(completing.await.unwrap().unwrap(), [Answer::Accepted]);
    assert!(rig.engine.store().counts().conflicts >= 1);
    assert_eq!(rig.receive().await.step_name, "b");
    assert_eq!(rig.attempts(task, "a").await.len(), 1);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_strands_nothing_between_commit_and_send() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    let mut client = rig.db.client().await;
    let other = client.transaction().await.unwrap();
    other.query(LOCK, &[&task.uuid(), &a.step_id.no]).await.unwrap();
    let completing = complete(&rig.engine, &a);
    rig.until(WAITING).await;
    completing.abort();
    assert!(completing.await.unwrap_err().is_cancelled());
    other.commit().await.unwrap();
    assert_eq!(rig.receive().await.step_name, "b");
    rig.check().await;
}

#[tokio::test]
async fn a_request_waits_for_a_locked_row_only_so_long_as_the_row_is_locked() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    let request = r#"{"name": "w", "idempotency_key": "k"}"#;
    let mut client = rig.db.client().await;
    // A submit of the same identity, which is rolled back at the end.
    let other = client.transaction().await.unwrap();
    let task = rig.submit("w", json!({})).await;
    let copy = format!(
        "insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, identity, context, tags, initiator, \
         source_system, reason, correlation_id, total_steps, created_at, state, active_steps, failed_steps) \
         select gen_random_uuid(), template_id, namespace, name, version, environment, $1, context, tags, initiator, source_system, \
         reason, correlation_id, total_steps, created_at, state, active_steps, failed_steps from tasker.tasks where task_id = '{task}'"
    );
    let identity = tasker_domain::request::key_identity("default", "w", "k").to_vec();
    other.execute(&copy, &[&identity]).await.unwrap();
    let engine = rig.engine.clone();
    let submitting = tokio::spawn(async move { engine.submit(request_of(request), None).await });
    rig.until(&WAITING.replace("tasker.complete", "tasker.submit")).await;
    other.rollback().await.unwrap();
    let submitted = tokio::time::timeout(Duration::from_secs(30), submitting).await.unwrap().unwrap().unwrap();
    assert!(submitted.created);
    rig.check().await;
}

#[tokio::test]
async fn blocked_readers_do_not_delay_accepted_steps() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let run = rig.receive().await;
    let stranger = rig.db.client().await;
    stranger.batch_execute("begin; lock table tasker.templates").await.unwrap();
    let store = rig.engine.store();
    let readers = futures::future::join_all((0..10).map(|_| store.templates(None)));
    let moving = async {
        // The readers occupy all connections that they may use.
        rig.until("select count(*) >= 2 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
            .await;
        let answer = tokio::time::timeout(PATIENCE, rig.answer(&run, success(json!(1)))).await.unwrap();
        assert_eq!(answer, Answer::Accepted);
        stranger.batch_execute("rollback").await.unwrap();
    };
    let (read, ()) = tokio::join!(readers, moving);
    assert!(read.iter().all(Result::is_ok), "{read:?}");
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}
