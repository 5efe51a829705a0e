//! The cost of the statements of the hot path with a million finished tasks in the tables: no statement scans a table or touches
//! more than a bounded number of pages, whether its query plan is old or new.
//!
//! `TASKER_TEST_TASKS` and `TASKER_TEST_STEPS` set the number of finished tasks, and of steps of each. The defaults are a million
//! and one.

#![allow(clippy::unwrap_used, reason = "a test")]

mod cost;
mod dynamic;
mod finished_tasks;
mod ordinary;
mod workload;

use cost::{Meter, Session};
use tasker_test_support::database;

/// Tasks that are inserted while a plan stays. Far fewer than a million suffice: a scan of them touches hundreds of pages.
const MANY: u64 = 40_000;

#[tokio::test]
async fn no_statement_of_the_hot_path_scans_a_million_finished_tasks() {
    let db = database().await;
    let client = db.client().await;
    finished_tasks::keep_statistics(&client).await;
    finished_tasks::do_not_log(&client).await;

    finished_tasks::watch(&client).await;
    // The query plans of the functions are made for nearly empty tables with statistics, and stay with this session.
    let mut session = Session::over(&db).await;
    workload::run(&mut session, Meter::Idle).await;
    client.batch_execute("analyze").await.unwrap();
    workload::run(&mut session, Meter::Idle).await;
    finished_tasks::insert(&client, 1..MANY, 1).await;
    session.costs.clear();
    workload::run(&mut session, Meter::Running("plans of nearly empty tables")).await;

    let (tasks, steps) = finished_tasks::size();
    let begun = std::time::Instant::now();
    finished_tasks::load(&db, MANY..tasks, steps).await;
    println!("{tasks} tasks of {steps} steps in {:.1} s", begun.elapsed().as_secs_f64());
    for statistics in ["no statistics", "fresh statistics"] {
        // The first run makes the query plans, and reads the catalogs for that.
        workload::run(&mut session, Meter::Idle).await;
        workload::run(&mut session, Meter::Running(statistics)).await;
        workload::list(&mut session, statistics).await;
        workload::dead_letters(&mut session, statistics).await;
        client.batch_execute("analyze").await.unwrap();
    }
    workload::count(&mut session, "fresh statistics").await;
    session.print();
    let faults = session.faults();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The most bytes of write-ahead log per step, with its share of the task. This finds indexes and columns that are written too
/// often. Results have one byte; full pages after a checkpoint, and commits, are not counted.
const LOG_BYTES: u64 = 1_030;

#[tokio::test]
async fn a_step_writes_a_bounded_number_of_bytes_to_the_log() {
    let db = database().await;
    let mut session = Session::over(&db).await;
    workload::succeed(&mut session, Meter::Idle).await;
    let tasks = 50;
    for _ in 0..tasks {
        workload::succeed(&mut session, Meter::Running("one at a time")).await;
    }
    let bytes = session.log_bytes() / (4 * tasks);
    println!("{bytes} bytes a step");
    assert!(bytes <= LOG_BYTES, "{bytes} bytes a step, at most {LOG_BYTES} are allowed");
}

#[tokio::test]
async fn a_table_of_one_row_is_looked_up_by_its_key() {
    let db = database().await;
    let client = db.client().await;
    finished_tasks::insert(&client, 1..2, 1).await;
    client.batch_execute("analyze; set enable_seqscan = off; set enable_bitmapscan = off").await.unwrap();
    for (table, key) in [("tasks", "tasks_pkey"), ("steps", "steps_pkey"), ("attempts", "attempts_pkey")] {
        let sql = format!("explain select * from tasker.{table} where task_id = '{}'", finished_tasks::task(1));
        let plan: String = client.query(&sql, &[]).await.unwrap().iter().map(|r| r.get::<_, String>(0) + "\n").collect();
        assert!(plan.contains(&format!("using {key} on")), "{table}: {plan}");
    }
}

/// Finished tasks for statistics that are not those of a nearly empty database.
const SOME: u64 = 20_000;

#[tokio::test]
async fn the_ordinary_step_is_cheap_whatever_the_statistics() {
    let db = database().await;
    let client = db.client().await;
    finished_tasks::keep_statistics(&client).await;
    let mut session = Session::over(&db).await;
    session.count_plans().await;
    let mut faults = ordinary::faults(&mut session, "no statistics").await;
    client.batch_execute("analyze").await.unwrap();
    faults.extend(ordinary::faults(&mut session, "statistics of nearly empty tables").await);
    // These query plans stay while the tables grow.
    finished_tasks::insert(&client, 1..SOME, 4).await;
    faults.extend(ordinary::faults(&mut session, "plans of nearly empty tables").await);
    client.batch_execute("analyze").await.unwrap();
    faults.extend(ordinary::faults(&mut session, "fresh statistics").await);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[tokio::test]
async fn many_steps_are_made_and_repeated_in_proportion_to_their_number_whatever_the_statistics() {
    let db = database().await;
    let client = db.client().await;
    finished_tasks::keep_statistics(&client).await;
    let mut young = Session::over(&db).await;
    young.count_rows().await;
    let mut faults = dynamic::faults(&db, &mut young, "no statistics").await;
    // These plans stay, because nothing is analyzed while they are used.
    client.batch_execute("truncate tasker.tasks, tasker.steps, tasker.batches, tasker.attempts; analyze").await.unwrap();
    let mut empty = Session::over(&db).await;
    empty.count_rows().await;
    faults.extend(dynamic::faults(&db, &mut empty, "plans of empty tables").await);
    finished_tasks::insert(&client, 1..SOME, 4).await;
    client.batch_execute("analyze").await.unwrap();
    let mut fresh = Session::over(&db).await;
    fresh.count_rows().await;
    faults.extend(dynamic::faults(&db, &mut fresh, "fresh statistics").await);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
