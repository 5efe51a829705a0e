//! Two parents that complete at the same instant, on two connections: their child starts once, with both results.

use serde_json::json;
use tasker_wire::{Answer, RunStep, TaskId, TaskState};

use crate::world::{World, success, template};

const STEPS: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("join", &["a", "b"])];

async fn parents(world: &World, n: usize) -> (TaskId, RunStep, RunStep) {
    let task = world.submit("join", json!({"n": n})).await;
    let mut runs = world.receive_all().await;
    (task, runs.remove("a").unwrap(), runs.remove("b").unwrap())
}

async fn assert_started_once_with_both(world: &World, task: TaskId) {
    let runs = world.receive_all().await;
    assert_eq!(runs.len(), 1, "the child starts once");
    let join = &runs["join"];
    assert_eq!((join.task_id, join.lease), (task, 1));
    assert_eq!((join.dependency_results["a"].get(), join.dependency_results["b"].get()), ("\"of a\"", "\"of b\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_times() {
    let world = World::still().await;
    world.register(&template("join", STEPS)).await;
    for n in 0..1000 {
        let (task, a, b) = parents(&world, n).await;
        let answers = tokio::join!(world.answer(&a, success(json!("of a"))), world.answer(&b, success(json!("of b"))));
        assert_eq!(answers, (Answer::Accepted, Answer::Accepted));
        assert_started_once_with_both(&world, task).await;
    }
    world.check().await;
}

/// Waits until so many sessions of the product wait for a row.
async fn until_waiting(world: &World, sessions: usize) {
    let waiting = format!(
        "select count(*) = {sessions} from pg_stat_activity \
         where datname = current_database() and wait_event_type = 'Lock' and query like '%complete_v1%'"
    );
    world.until(&waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_when_both_wait_for_the_row_of_the_child() {
    let mut world = World::still().await;
    world.register(&template("join", STEPS)).await;
    let (task, a, b) = parents(&world, 0).await;
    let no = world.step_id(task, "join").await.no;
    // Both statements have begun before either can see the other's result.
    let mut client = world.db.client().await;
    let lock = client.transaction().await.unwrap();
    lock.query("select from tasker.steps where task_id = $1 and no = $2 for update", &[&task.uuid(), &no]).await.unwrap();
    let complete = |run: &RunStep, result| {
        let (engine, batch) = (world.engine.clone(), vec![run.complete(success(json!(result)), "w", 1)]);
        tokio::spawn(async move { engine.complete(batch).await.unwrap() })
    };
    let both = (complete(&a, "of a"), complete(&b, "of b"));
    until_waiting(&world, 2).await;
    lock.commit().await.unwrap();
    assert_eq!((both.0.await.unwrap(), both.1.await.unwrap()), (vec![Answer::Accepted], vec![Answer::Accepted]));
    assert_started_once_with_both(&world, task).await;
    world.restart().await;
    world.answer(&world.receive().await, success(json!(null))).await;
    assert_eq!(world.state(task).await, TaskState::Complete);
    world.check().await;
}

/// The trap itself, so that the test above is known to see it: read in the statement that waited, a result is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_in_the_statement_that_counts_down_may_be_missing() {
    let world = World::still().await;
    world.register(&template("join", STEPS)).await;
    let (task, a, b) = parents(&world, 0).await;
    let no = world.step_id(task, "join").await.no;
    let mut client = world.db.client().await;
    let lock = client.transaction().await.unwrap();
    lock.query("select from tasker.steps where task_id = $1 and no = $2 for update", &[&task.uuid(), &no]).await.unwrap();
    let naive = |run: &RunStep, client: tokio_postgres::Client| {
        let sql = format!(
            "/* complete_v1, naively */ with own as (
               update tasker.steps set state = 'complete', result = '1', wake_at = null, finished_at = now()
               where task_id = '{task}' and no = {} returning no
             ), child as (
               update tasker.steps set pending_parents = pending_parents - 1 where task_id = '{task}' and no = {no}
               returning pending_parents, parents)
             select (select count(*) from tasker.steps p where p.task_id = '{task}' and p.no = any (c.parents)
               and p.result is null and p.no not in (select o.no from own o)) from child c where c.pending_parents = 0",
            run.step_id.no
        );
        tokio::spawn(async move { client.query(&sql, &[]).await.unwrap().first().map(|r| r.get::<_, i64>(0)) })
    };
    let both = (naive(&a, world.db.client().await), naive(&b, world.db.client().await));
    until_waiting(&world, 2).await;
    lock.commit().await.unwrap();
    let missing = (both.0.await.unwrap(), both.1.await.unwrap());
    assert_eq!(missing.0.or(missing.1), Some(1), "the one that made the child ready does not see the other's result");
}
