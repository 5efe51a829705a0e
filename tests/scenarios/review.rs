//! What an adversary would try: another task's token, a failure that cannot be stored, steps that no sweep can decide about.

use std::time::Duration;

use serde_json::json;
use tasker_queue::InProcess;
use tasker_wire::{Answer, Outcome, StepState, TaskState, limits};
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, World, engine, failure, run, success, template, workflow};

#[tokio::test]
async fn a_token_of_one_task_answers_for_no_step_of_another() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[])])).await;
    let (mine, theirs) = (world.submit("w", json!({})).await, world.submit("w", json!({})).await);
    let runs = [world.receive().await, world.receive().await];
    let run = runs.iter().find(|r| r.task_id == mine).unwrap();
    let mut completion = run.complete(success(json!("forged")), "scripted", 1);
    completion.task_id = theirs;
    world.complete(vec![completion]).await;
    assert_eq!(world.step(theirs, "a").await.state, StepState::Enqueued);
    assert_eq!(world.state(theirs).await, TaskState::Running);
    world.check().await;
}

#[tokio::test]
async fn what_is_said_of_a_huge_bad_result_is_short() {
    let world = World::still().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}}});
    world.register(&workflow("w", json!([{"name": "a", "result_schema": schema}]))).await;
    let task = world.submit("w", json!({})).await;
    let huge = "x".repeat(1024 * 1024);
    world.answer(&world.receive().await, success(json!({"n": huge, "m": huge}))).await;
    let error = world.step(task, "a").await.error.unwrap();
    assert_eq!(error["error_type"], "result_schema");
    assert!(error["message"].as_str().unwrap().chars().count() <= limits::ERROR_CHARS);
    assert_eq!(world.state(task).await, TaskState::Error);
    world.check().await;
}

#[tokio::test]
async fn steps_whose_template_is_unreadable_do_not_keep_the_sweep_from_others() {
    let world = World::still().await;
    let wide: Vec<_> = (0..limits::SWEEP_ROWS + 1).map(|i| json!({"name": format!("s{i}"), "timeout_seconds": 1})).collect();
    world.register(&workflow("wide", json!(wide))).await;
    world.register(&workflow("w", json!([{"name": "a", "timeout_seconds": 2}]))).await;
    world.stop_clock().await;
    let stuck = world.submit("wide", json!({})).await;
    let task = world.submit("w", json!({})).await;
    let mut received = 0;
    while received < wide.len() + 1 {
        let runs = world.receive_up_to(1000).await;
        received += runs.len();
        world.complete(runs.iter().map(|r| r.complete(Outcome::Started {}, "scripted", 0)).collect()).await;
    }
    world.execute("update tasker.templates set definition = '{}' where name = 'wide'").await;
    // A new process, which has not read the template.
    let engine = engine(&world.db, InProcess::default());
    world.pass(Duration::from_secs(15)).await;
    while engine.sweep().await.unwrap() != Default::default() {}
    assert_eq!(world.step(task, "a").await.lease, 2, "the one that can be decided about is handed over again");
    assert_eq!(world.step(stuck, "s0").await.state, StepState::InProgress);
    world.check().await;
}

/// A plan that was made for empty tables stays with its connection while they grow.
#[tokio::test]
async fn plans_made_for_empty_tables_serve_full_ones() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let tables = ["steps", "tasks", "attempts"];
    for table in tables {
        world.execute(&format!("vacuum analyze tasker.{table}")).await;
    }
    let calls = "select count(*) from tasker.complete_v1(array[gen_random_uuid()], array[16384], array[1], array[1], array['complete'], \
                   array[0::bigint], array['1'], array[null], array[null], array[1::bigint], array['w'], array[1::bigint], array[false], null, 1, 1); \
                 select count(*) from tasker.dispatch_v1(array[gen_random_uuid()], array[16384], array[1], null, 1, 1); \
                 select count(*) from tasker.advance_v1(array[gen_random_uuid()], array[-1], array[0], \
                   array[gen_random_uuid()], array[16384], array[1], null, null, 1, 1)";
    world.execute(calls).await;
    world
        .execute(
            "insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, context, tags, initiator, \
               source_system, reason, correlation_id, total_steps, created_at, state, active_steps, failed_steps, finished_at) \
             select gen_random_uuid(), gen_random_uuid(), 'n', 'x', '1', 'e', '{}', '{}', '', '', '', gen_random_uuid(), 4, now(), \
               'complete', 0, 0, now() from generate_series(1, 10000); \
             insert into tasker.steps (task_id, no, name, state, lease, attempt, max_attempts, pending_parents, parents, children, \
               further_ancestors, finished_at) \
             select t.task_id, n * 16384, n, 'complete', 1, 1, 1, 0, '{}', '{}', '{}', now() \
             from tasker.tasks t, generate_series(1, 4) n; \
             update tasker.steps set state = 'waiting_for_retry', wake_at = now() - interval '1 h', finished_at = null where no = 16384",
        )
        .await;
    let read = "select (sum(pg_stat_get_xact_tuples_returned(c::regclass)) + sum(pg_stat_get_xact_tuples_fetched(c::regclass)))::int8 \
                from unnest(array['tasker.steps_pkey', 'tasker.tasks_pkey', 'tasker.steps_wake']) c";
    world.execute("begin").await;
    let before = world.count(read).await;
    world.execute(calls).await;
    let rows = world.count(read).await - before;
    world.execute("rollback").await;
    assert!(rows < 100, "{rows} index entries were read for three look-ups by key");
}

#[tokio::test]
async fn what_a_sweep_handed_over_is_sent_though_it_fails_afterwards() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    let task = world.submit("w", json!({})).await;
    let runs = world.receive_all().await;
    world.answer(&runs["a"], failure("once")).await;
    world.answer(&runs["b"], Outcome::Started {}).await;
    world.execute("update tasker.steps set wake_at = now() - interval '1 s'").await;
    // A new process, which has not read the template, and cannot for a moment.
    let engine = engine(&world.db, InProcess::default());
    world.execute("alter table tasker.templates rename to away").await;
    assert!(engine.sweep().await.is_err());
    world.execute("alter table tasker.away rename to templates").await;
    assert_eq!(world.step(task, "a").await.state, StepState::Enqueued);
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(engine.clone(), stop.clone(), 1, |_| success(json!(1))));
    engine.wait(task, PATIENCE).await;
    assert_eq!(world.state(task).await, TaskState::Complete);
    stop.cancel();
    running.await.unwrap();
    world.check().await;
}

#[tokio::test]
async fn a_lock_that_was_not_had_in_time_is_asked_for_again() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[])])).await;
    world.submit("w", json!({})).await;
    let run = world.receive().await;
    world.execute("do $$ begin execute format('alter database %I set lock_timeout = 50', current_database()); end $$").await;
    let engine = engine(&world.db, InProcess::default());
    world.execute("begin; select from tasker.steps for update").await;
    let completion = run.complete(success(json!(1)), "scripted", 1);
    let refused = engine.complete(vec![completion.clone()]).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    world.execute("rollback").await;
    assert_eq!(engine.complete(vec![completion]).await.unwrap(), [Answer::Accepted]);
}

#[tokio::test]
async fn readers_that_stand_still_keep_no_accepted_step_waiting() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[])])).await;
    let task = world.submit("w", json!({})).await;
    let run = world.receive().await;
    let stranger = world.db.client().await;
    stranger.batch_execute("begin; lock table tasker.templates").await.unwrap();
    let store = world.engine.store();
    let readers = futures::future::join_all((0..10).map(|_| store.templates(None)));
    let moving = async {
        // All that they may take is taken.
        world
            .until("select count(*) >= 2 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
            .await;
        let answer = tokio::time::timeout(PATIENCE, world.answer(&run, success(json!(1)))).await.unwrap();
        assert_eq!(answer, Answer::Accepted);
        stranger.batch_execute("rollback").await.unwrap();
    };
    let (read, ()) = tokio::join!(readers, moving);
    assert!(read.iter().all(Result::is_ok), "{read:?}");
    assert_eq!(world.state(task).await, TaskState::Complete);
    world.check().await;
}
