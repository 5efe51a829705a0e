//! Two parents complete at the same instant, on two connections: their child is dispatched once, with both results.

use serde_json::json;
use tasker_wire::{Answer, RunStep, TaskId, TaskState};

use crate::rig::{Rig, success, template};

const STEPS: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("join", &["a", "b"])];

async fn parents(rig: &Rig, n: usize) -> (TaskId, RunStep, RunStep) {
    let task = rig.submit("join", json!({"n": n})).await;
    let mut runs = rig.receive_all().await;
    (task, runs.remove("a").unwrap(), runs.remove("b").unwrap())
}

async fn assert_started_once_with_both(rig: &Rig, task: TaskId) {
    let runs = rig.receive_all().await;
    assert_eq!(runs.len(), 1, "the child starts once");
    let join = &runs["join"];
    assert_eq!((join.task_id, join.lease), (task, 1));
    assert_eq!((join.dependency_results["a"].get(), join.dependency_results["b"].get()), ("\"of a\"", "\"of b\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_is_dispatched_once_in_a_thousand_races() {
    let rig = Rig::still().await;
    rig.register(&template("join", STEPS)).await;
    for n in 0..1000 {
        let (task, a, b) = parents(&rig, n).await;
        let answers = tokio::join!(rig.answer(&a, success(json!("of a"))), rig.answer(&b, success(json!("of b"))));
        assert_eq!(answers, (Answer::Accepted, Answer::Accepted));
        assert_started_once_with_both(&rig, task).await;
    }
    rig.check().await;
}

/// Waits until so many sessions of the product wait for a row.
async fn until_waiting(rig: &Rig, sessions: usize) {
    let waiting = format!(
        "select count(*) = {sessions} from pg_stat_activity \
         where datname = current_database() and wait_event_type = 'Lock' and query like '%tasker.complete%'"
    );
    rig.until(&waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_when_both_wait_for_the_row_of_the_child() {
    let mut rig = Rig::still().await;
    rig.register(&template("join", STEPS)).await;
    let (task, a, b) = parents(&rig, 0).await;
    let no = rig.step_id(task, "join").await.no;
    // Both statements have begun before either can see the other's result.
    let mut client = rig.db.client().await;
    let lock = client.transaction().await.unwrap();
    lock.query("select from tasker.steps where task_id = $1 and no = $2 for update", &[&task.uuid(), &no]).await.unwrap();
    let complete = |run: &RunStep, result| {
        let (engine, batch) = (rig.engine.clone(), vec![run.complete(success(json!(result)), "w", 1)]);
        tokio::spawn(async move { engine.complete(batch).await.unwrap() })
    };
    let both = (complete(&a, "of a"), complete(&b, "of b"));
    until_waiting(&rig, 2).await;
    lock.commit().await.unwrap();
    assert_eq!((both.0.await.unwrap(), both.1.await.unwrap()), (vec![Answer::Accepted], vec![Answer::Accepted]));
    assert_started_once_with_both(&rig, task).await;
    rig.restart().await;
    rig.answer(&rig.receive().await, success(json!(null))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

/// Reproduces the race, to show that the tests above would find it: the statement that waited does not see the other result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_in_the_statement_that_counts_down_misses_the_other_result() {
    let rig = Rig::still().await;
    rig.register(&template("join", STEPS)).await;
    let (task, a, b) = parents(&rig, 0).await;
    let no = rig.step_id(task, "join").await.no;
    let mut client = rig.db.client().await;
    let lock = client.transaction().await.unwrap();
    lock.query("select from tasker.steps where task_id = $1 and no = $2 for update", &[&task.uuid(), &no]).await.unwrap();
    let naive = |run: &RunStep, client: tokio_postgres::Client| {
        let sql = format!(
            "/* tasker.complete, naively */ with own as (
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
    let both = (naive(&a, rig.db.client().await), naive(&b, rig.db.client().await));
    until_waiting(&rig, 2).await;
    lock.commit().await.unwrap();
    let missing = (both.0.await.unwrap(), both.1.await.unwrap());
    assert_eq!(missing.0.or(missing.1), Some(1), "the one that made the child ready does not see the other's result");
}
