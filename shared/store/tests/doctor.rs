//! The doctor finds what is wrong, and nothing else.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod common;

use common::{complete, done, failed, store, submit, template};
use tasker_store::{NewTemplate, Operation, Store};
use tasker_test_support::{Database, database};
use uuid::Uuid;

/// A store whose template exists.
async fn healthy(database: &Database) -> Store {
    let store = store(database);
    let new = NewTemplate {
        template_id: Uuid::nil(),
        identity: ["ns", "name", "1.0.0"],
        revision: 1,
        definition: "{}",
        sha256: [0; 32],
        lifecycle: None,
    };
    store.insert_template(new).await.unwrap();
    store
}

async fn whats(store: &Store) -> Vec<String> {
    let found = store.examine().await.unwrap();
    assert_eq!(found.total, found.differences.len() as i64);
    found
        .differences
        .into_iter()
        .map(|d| format!("{}: {:?}, not {:?}", d.what, d.facts.unwrap_or_default(), d.stored.unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn tasks_in_every_state_are_healthy() {
    let database = database().await;
    let store = healthy(&database).await;
    let small = template(&[("a", &[]), ("b", &[0]), ("c", &[0]), ("d", &[1, 2])]);
    let tasks = [submit(&store, &small, "").await, submit(&store, &small, "").await, submit(&store, &small, "").await];
    submit(&store, &small, "").await;
    submit(&store, &template(&[]), "").await;
    for task in tasks {
        complete(&store, task, 0, 1, done("1")).await;
        complete(&store, task, 1, 1, failed(task == tasks[0])).await;
    }
    complete(&store, tasks[1], 2, 1, done("1")).await;
    store.operate(Operation::new("cancel_task", (tasks[2], None), ("me", "test")), common::SETTINGS).await.unwrap();
    let found = store.examine().await.unwrap();
    assert_eq!((found.tasks, found.steps, found.total, found.differences), (5, 16, 0, vec![]));
}

#[tokio::test]
async fn every_wrong_counter_is_found() {
    let database = database().await;
    let store = healthy(&database).await;
    submit(&store, &template(&[("a", &[]), ("b", &[0])]), "").await;
    database.execute("update tasker.tasks set active_steps = 2, failed_steps = 1, total_steps = 3").await;
    database.execute("update tasker.steps set pending_parents = 2 where name = 'b'").await;
    let expected = [
        r#"total_steps: "2", not "3""#,
        r#"active_steps: "1", not "2""#,
        r#"failed_steps: "0", not "1""#,
        r#"pending_parents: "1", not "2""#,
    ];
    assert_eq!(whats(&store).await, expected);
}

#[tokio::test]
async fn a_step_that_nobody_dispatched_is_found() {
    let database = database().await;
    let store = healthy(&database).await;
    submit(&store, &template(&[("a", &[]), ("b", &[]), ("c", &[0])]), "").await;
    database
        .execute("update tasker.steps set state = 'complete', digest = 1, duration_ms = 1, worker = 'w', wake_at = null, finished_at = now() where name = 'a'")
        .await;
    database.execute("update tasker.steps set pending_parents = 0 where name = 'c'").await;
    database.execute("update tasker.tasks set active_steps = 1").await;
    assert_eq!(whats(&store).await, [r#"dispatch: "every parent is done", not "pending""#]);
}

#[tokio::test]
async fn a_finished_task_with_live_steps_and_a_running_one_without_are_found() {
    let database = database().await;
    let store = healthy(&database).await;
    submit(&store, &template(&[("a", &[])]), "").await;
    submit(&store, &template(&[]), "").await;
    database
        .execute("update tasker.tasks set state = 'complete', active_steps = 0, finished_at = now() where state = 'running'")
        .await;
    let expected = [
        r#"active_steps: "1", not "0""#,
        r#"state: "running", not "complete""#,
        r#"state: "its task is complete", not "enqueued""#,
        r#"unfinished task: "", not "a row of in_process""#,
    ];
    assert_eq!(whats(&store).await, expected);
}

#[tokio::test]
async fn steps_and_attempts_without_their_parent_rows_are_found() {
    let database = database().await;
    let store = healthy(&database).await;
    let task = submit(&store, &template(&[("a", &[])]), "").await;
    complete(&store, task, 0, 1, failed(false)).await;
    let other = submit(&store, &template(&[("a", &[])]), "").await;
    database.execute(&format!("delete from tasker.steps where task_id = '{task}'")).await;
    database.execute(&format!("delete from tasker.tasks where task_id = '{other}'; delete from tasker.templates")).await;
    let expected = [
        r#"total_steps: "0", not "1""#,
        r#"failed_steps: "0", not "1""#,
        r#"state: "complete", not "error""#,
        r#"template: "", not "00000000-0000-0000-0000-000000000000""#,
        r#"step: "", not "an attempt under lease 1""#,
        r#"task: "", not "a step in state enqueued""#,
        r#"unfinished task: "", not "a row of in_process""#,
    ];
    assert_eq!(whats(&store).await, expected);
}

#[tokio::test]
async fn a_dispatch_that_no_recovery_and_no_sweep_would_find_is_found() {
    let database = database().await;
    let store = healthy(&database).await;
    submit(&store, &template(&[("a", &[])]), "").await;
    database.execute("delete from tasker.in_process").await;
    assert_eq!(whats(&store).await, [r#"wake_at: "its task is not in in_process", not """#]);
    database.execute("update tasker.steps set wake_at = now()").await;
    assert_eq!(whats(&store).await, [""; 0], "a sweep finds it");
}

#[tokio::test]
async fn a_complete_step_has_its_answer_once() {
    let database = database().await;
    let store = healthy(&database).await;
    let tasks = [
        submit(&store, &template(&[("a", &[])]), "").await,
        submit(&store, &template(&[("a", &[])]), "").await,
        submit(&store, &template(&[("a", &[])]), "").await,
    ];
    for task in tasks {
        complete(&store, task, 0, 1, done("1")).await;
    }
    let keep = |task| format!("insert into tasker.attempts select * from tasker.outcomes where task_id = '{task}'");
    let forget =
        |task| format!("update tasker.steps set digest = null, duration_ms = null, worker = null where task_id = '{task}'");
    // As an older version wrote it: no difference.
    database.execute(&format!("{}; {}", keep(tasks[0]), forget(tasks[0]))).await;
    assert_eq!(whats(&store).await, [""; 0]);
    database.execute(&format!("{}; {}", keep(tasks[1]), forget(tasks[2]))).await;
    let expected = [r#"answer: "", not "another applied outcome under lease 1""#, r#"answer: "", not "complete""#];
    assert_eq!(whats(&store).await, expected);
    database.execute(&format!("update tasker.steps set worker = 'w' where task_id = '{}'", tasks[2])).await;
    assert_eq!(whats(&store).await, expected, "a part of an answer is none");
}

#[tokio::test]
async fn the_first_differences_are_listed_and_all_are_counted() {
    let database = database().await;
    let store = store(&database);
    for _ in 0..101 {
        submit(&store, &template(&[]), "").await;
    }
    let found = store.examine().await.unwrap();
    assert_eq!((found.total, found.differences.len()), (101, 100));
}
