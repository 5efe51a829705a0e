//! What a workflow costs the database: one statement per submit and per batch of completions, and few rows per look-up.

use serde_json::json;
use tasker_engine::SubmitError;

use crate::rig::{Rig, success, template};

#[tokio::test]
async fn a_submit_and_a_completion_are_one_statement_each() {
    let rig = Rig::still().await;
    rig.register(&template("linear", &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])])).await;
    // The first task of a template also loads the template.
    rig.submit("linear", json!({"first": true})).await;
    rig.receive().await;

    let statements = || rig.engine.store().counts().statements;
    let before = statements();
    rig.submit("linear", json!({})).await;
    assert_eq!(statements() - before, 1);
    for n in 2..=5 {
        let run = rig.receive().await;
        rig.answer(&run, success(json!(n))).await;
        assert_eq!(statements() - before, n);
    }
    assert_eq!(rig.engine.store().counts().conflicts, 0);
    rig.check().await;
}

#[tokio::test]
async fn concurrent_submits_are_inserted_by_one_statement() {
    let rig = Rig::still().await;
    rig.register(&template("one", &[("a", &[])])).await;
    rig.submit("one", json!({"first": true})).await;
    let before = rig.engine.store().counts().statements;
    // Every second request repeats the previous one.
    let requests = (0..200).map(|n| rig.try_submit(json!({"name": "one", "idempotency_key": format!("{}", n / 2)})));
    let answers = futures::future::join_all(requests).await;
    let statements = rig.engine.store().counts().statements - before;
    assert!(statements <= 10, "{statements} statements");
    let created = answers.iter().filter(|a| a.is_ok()).count();
    let duplicates = answers.iter().filter(|a| matches!(a, Err(SubmitError::Duplicate { .. }))).count();
    assert_eq!((created, duplicates), (100, 100));
    rig.start(200, |_| success(json!(1)));
    rig.until("select count(*) = 0 from tasker.tasks where state = 'running'").await;
    rig.check().await;
}

#[tokio::test]
async fn concurrent_reads_of_tasks_share_one_statement() {
    let rig = Rig::still().await;
    rig.register(&template("one", &[("a", &[])])).await;
    let mut tasks = Vec::new();
    for n in 0..50 {
        tasks.push(rig.submit("one", json!({"n": n})).await);
    }
    let before = rig.engine.store().counts().statements;
    let shown = futures::future::join_all(tasks.iter().map(|&task| rig.engine.store().task_detail(task))).await;
    let statements = rig.engine.store().counts().statements - before;
    assert!(statements <= 4, "{statements} statements");
    for (task, shown) in tasks.iter().zip(shown) {
        let shown = shown.unwrap().unwrap();
        assert_eq!((shown.task.task, shown.steps.len()), (*task, 1));
    }
}

#[tokio::test]
async fn answers_that_wait_together_are_applied_together() {
    let rig = Rig::still().await;
    rig.register(&template("one", &[("a", &[])])).await;
    let mut tasks = Vec::new();
    for n in 0..500 {
        tasks.push(rig.submit("one", json!({"n": n})).await);
    }
    let before = rig.engine.store().counts().statements;
    rig.start(500, |_| success(json!(1)));
    rig.until("select count(*) = 0 from tasker.tasks where state = 'running'").await;
    // Three batches of at most 200, and the sweeps meanwhile.
    let statements = rig.engine.store().counts().statements - before;
    assert!(statements < 50, "{statements} statements");
    rig.check().await;
}

#[tokio::test]
async fn a_look_that_finds_nothing_is_one_statement() {
    let rig = Rig::still().await;
    let before = rig.engine.store().counts().statements;
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.engine.store().counts().statements - before, 1);
}

/// A query plan that was made for empty tables stays with its connection while the tables grow.
#[tokio::test]
async fn plans_made_for_empty_tables_serve_full_ones() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let tables = ["steps", "tasks", "attempts"];
    for table in tables {
        rig.execute(&format!("vacuum analyze tasker.{table}")).await;
    }
    let calls = "select count(*) from tasker.complete_v1(array[gen_random_uuid()], array[16384], array[1], array[1], array['complete'], \
                   array[0::bigint], array['1'], array[null], array[null], array[1::bigint], array['w'], array[1::bigint], array[false], null, 1, 1); \
                 select count(*) from tasker.dispatch_v1(array[gen_random_uuid()], array[16384], array[1], null, 1, 1); \
                 select count(*) from tasker.advance_v1(array[gen_random_uuid()], array[-1], array[0], \
                   array[gen_random_uuid()], array[16384], array[1], null, null, 1, 1); \
                 do $$ declare one uuid := gen_random_uuid(); other uuid := gen_random_uuid(); begin \
                   for n in 1..2 loop \
                     perform tasker.submit_one_v1(case n when 1 then one else other end, null, '{}', null, '{}', '', '', '', \
                       gen_random_uuid(), null, null, gen_random_uuid(), 'n', 'y', '1', 'e', 1, 3, array[16384, 32768, 49152], \
                       array['a', 'b', 'c'], array[1, 1, 1], array['{}', '{16384}', '{32768}'], array['{32768}', '{49152}', '{}'], \
                       array['{}', '{}', '{16384}'], null); \
                   end loop; \
                   for n in 1..3 loop \
                     perform tasker.complete_one_v1(one, n * 16384, 1, 1, '1', null, 1, 'w', 1, null, 1, 1000); \
                     perform tasker.complete_many_v1(array[other], array[n * 16384], array[1], array[1], array['1'], array[null], \
                       array[1::bigint], array['w'], array[1::bigint], null, 1, 1000); \
                     assert (n < 3) = exists (select from tasker.in_process where task_id in (one, other)); \
                   end loop; \
                 end $$";
    rig.execute(calls).await;
    rig
        .execute(
            "insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, context, tags, initiator, \
               source_system, reason, correlation_id, total_steps, created_at, state, active_steps, failed_steps, finished_at) \
             select gen_random_uuid(), gen_random_uuid(), 'n', 'x', '1', 'e', '{}', '{}', '', '', '', gen_random_uuid(), 4, now(), \
               'complete', 0, 0, now() from generate_series(1, 10000); \
             insert into tasker.steps (task_id, no, name, state, lease, attempt, max_attempts, pending_parents, parents, children, \
               further_ancestors, finished_at) \
             select t.task_id, n * 16384, n, 'complete', 1, 1, 1, 0, '{}', '{}', '{}', now() \
             from tasker.tasks t, generate_series(1, 4) n where t.name = 'x'; \
             update tasker.steps set state = 'waiting_for_retry', wake_at = now() - interval '1 h', finished_at = null where name = '1'",
        )
        .await;
    let read = "select (sum(pg_stat_get_xact_tuples_returned(c::regclass)) + sum(pg_stat_get_xact_tuples_fetched(c::regclass)))::int8 \
                from unnest(array['tasker.steps_pkey', 'tasker.tasks_pkey', 'tasker.steps_wake']) c";
    rig.execute("begin").await;
    let before = rig.count(read).await;
    rig.execute(calls).await;
    let rows = rig.count(read).await - before;
    rig.execute("rollback").await;
    assert!(rows < 100, "{rows} index entries were read for a few look-ups by key");
}
