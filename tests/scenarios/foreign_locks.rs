//! Locks that other sessions hold for long: they stop nothing but what they lock, and a refused request had no effect.

use std::time::{Duration, Instant};

use serde_json::json;
use tasker_engine::{OperatorError, SubmitError};
use tasker_store::StoreError;
use tasker_wire::{Answer, TaskId, TaskState};

use crate::rig::{Rig, by, failure, success, template, workflow};

const CHAIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"])];

/// Answers and statements are given up after seconds. This is more, for a busy machine.
const SECONDS: Duration = Duration::from_secs(20);

/// The sessions of the product that run or wait.
const SESSIONS: &str = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'tasker'";

/// Locks all rows of tasks until the transaction of the returned session ends.
async fn lock(rig: &Rig, tasks: &[TaskId]) -> tokio_postgres::Client {
    let operator = rig.db.client().await;
    operator.batch_execute("set application_name = 'an operator'; begin").await.unwrap();
    for table in ["steps", "tasks"] {
        let ids: Vec<_> = tasks.iter().map(|task| task.uuid()).collect();
        operator.execute(&format!("select from tasker.{table} where task_id = any ($1) for update"), &[&ids]).await.unwrap();
    }
    operator
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_another_session_locks_do_not_hold_up_the_others() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    let mut tasks = Vec::new();
    for n in 0..10 {
        tasks.push(rig.submit("w", json!({"n": n})).await);
    }
    let operator = lock(&rig, &tasks[..2]).await;
    rig.start(4, |_| success(json!(1)));
    for &task in &tasks[2..] {
        assert_eq!(rig.finished(task).await, TaskState::Complete);
    }
    for &task in &tasks[..2] {
        assert_eq!(rig.state(task).await, TaskState::Running);
    }
    operator.batch_execute("commit").await.unwrap();
    for &task in &tasks {
        assert_eq!(rig.finished(task).await, TaskState::Complete);
        assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", true])], "its handler ran once");
    }
    rig.check().await;
}

#[tokio::test]
async fn each_row_whose_lock_blocks_a_step_is_known() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    let task = rig.submit("w", json!({})).await;
    let (a, free) = (rig.receive().await, rig.submit("w", json!({"n": 2})).await);
    let leases = [a.lease(), rig.receive().await.lease()];
    for (table, no) in [("steps", "no = 16384"), ("steps", "no = 32768"), ("tasks", "true"), ("in_process", "true")] {
        let operator = rig.db.client().await;
        operator.batch_execute("begin").await.unwrap();
        let sql = format!("select from tasker.{table} where task_id = $1 and {no} for update");
        operator.execute(&sql, &[&task.uuid()]).await.unwrap();
        assert_eq!(rig.engine.store().locked_steps(&leases).await.unwrap(), [a.lease().step], "{table} {no}");
        operator.batch_execute("commit").await.unwrap();
    }
    assert_eq!(rig.engine.store().locked_steps(&leases).await.unwrap(), [], "{free}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_retry_does_not_hold_up_the_others_and_follows_when_it_is_free() {
    let rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a", "retry": {"max_attempts": 2, "backoff": "none"}}]))).await;
    let (locked, free) = (rig.submit("w", json!({"n": 1})).await, rig.submit("w", json!({"n": 2})).await);
    for _ in 0..2 {
        let run = rig.receive().await;
        rig.answer(&run, failure("busy")).await;
    }
    let operator = lock(&rig, &[locked]).await;
    let wake_ups = vec![rig.wake_up(locked, "a").await, rig.wake_up(free, "a").await];
    rig.engine.evaluate(wake_ups).await.unwrap();
    let run = rig.receive().await;
    assert_eq!((run.task_id, run.attempt), (free, 2));
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.step(locked, "a").await.attempt, 1);
    operator.batch_execute("commit").await.unwrap();
    rig.engine.sweep_and_recover().await.unwrap();
    let run = rig.receive().await;
    assert_eq!((run.task_id, run.attempt), (locked, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_step_past_its_deadline_does_not_keep_the_sweep_busy() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    rig.register(&workflow("w", json!([{"name": "a", "timeout_seconds": 60, "retry": {"max_attempts": 1}}]))).await;
    let task = rig.submit("w", json!({})).await;
    let run = rig.receive().await;
    assert_eq!(rig.answer(&run, tasker_wire::Outcome::Started {}).await, Answer::Accepted);
    // Its next loss ends the task, whose row is locked.
    rig.execute("update tasker.steps set losses = 2, max_attempts = attempt").await;
    rig.pass(Duration::from_secs(3600)).await;
    let operator = rig.db.client().await;
    operator.batch_execute("begin").await.unwrap();
    operator.execute("select from tasker.tasks where task_id = $1 for update", &[&task.uuid()]).await.unwrap();
    // A sweep until nothing is due ends, although the step stays due.
    tokio::time::timeout(SECONDS, rig.engine.sweep_and_recover()).await.expect("it ends").unwrap();
    assert_eq!(rig.state(task).await, TaskState::Running);
    operator.batch_execute("commit").await.unwrap();
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.state(task).await, TaskState::Error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_table_is_locked_requests_are_refused_in_time_and_nothing_of_them_is_done_later() {
    let rig = Rig::running(4, |_| success(json!(1))).await;
    rig.register(&template("w", CHAIN)).await;
    let before = rig.submit("w", json!({})).await;
    rig.finished(before).await;
    let operator = rig.db.client().await;
    operator.batch_execute("begin; lock table tasker.tasks in access exclusive mode").await.unwrap();
    let begin = Instant::now();
    let submits = (0..20).map(|n| rig.try_submit(json!({"name": "w", "context": {"n": n}})));
    for answer in futures::future::join_all(submits).await {
        assert!(matches!(answer, Err(SubmitError::Store(StoreError::TimedOut(_)))), "{answer:?}");
    }
    assert!(begin.elapsed() < SECONDS, "{:?}", begin.elapsed());
    let shown = rig.engine.store().task_state(before).await;
    assert!(matches!(shown, Err(StoreError::TimedOut(_) | StoreError::Unavailable(_))), "{shown:?}");
    let cancelled = rig.engine.cancel_task(before, by("test")).await;
    assert!(matches!(cancelled, Err(OperatorError::Store(StoreError::TimedOut(_)))), "{cancelled:?}");
    assert!(rig.count(SESSIONS).await <= 4, "what was given up has ended on the server");
    operator.batch_execute("commit").await.unwrap();
    let after = rig.submit("w", json!({})).await;
    assert_eq!(rig.finished(after).await, TaskState::Complete);
    assert_eq!(rig.count("select count(*) from tasker.tasks").await, 2, "a refused request created nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_wait_for_a_locked_table_and_are_applied_once() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    let task = rig.submit("w", json!({})).await;
    let operator = rig.db.client().await;
    operator.batch_execute("begin; lock table tasker.steps in access exclusive mode").await.unwrap();
    rig.start(4, |_| success(json!(1)));
    let ended = "select count(*) from pg_stat_database where datname = current_database() and xact_rollback > 0";
    rig.until(&format!("select ({ended}) > 0")).await;
    assert!(rig.count(SESSIONS).await <= 4);
    operator.batch_execute("commit").await.unwrap();
    assert_eq!(rig.finished(task).await, TaskState::Complete);
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", true])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_that_hold_locks_for_long_are_named() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    let task = rig.submit("w", json!({})).await;
    let rows = lock(&rig, &[task]).await;
    let pid: i32 = rows.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    rig.until("select max(clock_timestamp() - xact_start) > interval '1500 ms' from pg_stat_activity where datname = current_database() and application_name = 'an operator'")
        .await;
    let blockers = rig.engine.store().blockers().await.unwrap();
    let [rows_of] = &blockers[..] else { panic!("{blockers:?}") };
    assert!(
        !rows_of.all
            && rows_of.text.starts_with(&format!(
                "locked rows of steps, tasks: pid {pid}, application an operator, idle in transaction, since "
            ))
    );
    rows.batch_execute("lock table tasker.tasks in share mode").await.unwrap();
    let blockers = rig.engine.store().blockers().await.unwrap();
    assert!(blockers[0].all && blockers[0].text.starts_with("a lock of steps, tasks: pid "), "{blockers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_locked_at_a_restart_runs_again_as_soon_as_it_is_free() {
    let mut rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a", "timeout_seconds": 120}]))).await;
    let (locked, free) = (rig.submit("w", json!({"n": 1})).await, rig.submit("w", json!({"n": 2})).await);
    for _ in 0..2 {
        let run = rig.receive().await;
        assert_eq!(rig.answer(&run, tasker_wire::Outcome::Started {}).await, Answer::Accepted);
    }
    let operator = lock(&rig, &[locked]).await;
    rig.restart().await;
    assert_eq!(rig.receive().await.task_id, free);
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 0);
    operator.batch_execute("commit").await.unwrap();
    rig.engine.sweep_and_recover().await.unwrap();
    let run = rig.receive().await;
    assert_eq!((run.task_id, run.lease, run.attempt), (locked, 1, 1));
    assert_eq!(rig.answer(&run, success(json!(1))).await, Answer::Accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_role_and_the_database_that_would_hurt_do_not_reach_our_sessions() {
    let rig = Rig::still().await;
    for (setting, value) in [
        ("statement_timeout", "100ms"),
        ("lock_timeout", "100ms"),
        ("idle_in_transaction_session_timeout", "100ms"),
        ("idle_session_timeout", "100ms"),
        ("default_transaction_isolation", "serializable"),
        ("synchronous_commit", "off"),
    ] {
        let sql = "do $$ begin execute format('alter database %I set SETTING = ''VALUE''', current_database()); end $$";
        rig.execute(&sql.replace("SETTING", setting).replace("VALUE", value)).await;
    }
    rig.execute(
        "create table public.seen (synchronous_commit text); \
         create function note() returns trigger language plpgsql as $$ begin \
           insert into public.seen values (current_setting('synchronous_commit')); return new; end $$; \
         create trigger note after insert on tasker.tasks for each row execute function note()",
    )
    .await;
    let steps: Vec<_> = (0..2000).map(|n| json!({"name": format!("s{n}"), "dependencies": ["root"]})).collect();
    let all = [vec![json!({"name": "root"})], steps].concat();
    rig.register(&workflow("wide", json!(all))).await;
    let task = rig.submit("wide", json!({})).await;
    rig.start(200, |_| success(json!(1)));
    assert_eq!(rig.finished(task).await, TaskState::Complete);
    assert_eq!(
        rig.rows("select * from public.seen").await,
        [json!({"synchronous_commit": "on"})],
        "an answered commit is on disk"
    );
}
