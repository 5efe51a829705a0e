//! Every statement is valid against this version's schema.

use std::path::Path;

use tasker_test_support::database;
use tasker_wire::limits;

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let database = database().await;
    let client = database.client().await;
    let mut statements = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql")).unwrap() {
        let file = entry.unwrap().path();
        let sql = std::fs::read_to_string(&file).unwrap();
        // The settings of a session are several statements.
        let checked = if file.file_name().unwrap().to_string_lossy().starts_with("session") {
            client.batch_execute(&sql).await
        } else {
            client.prepare(&sql).await.map(drop)
        };
        checked.unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        statements += 1;
    }
    assert!(statements > 10, "only {statements} statements were found");
}

#[tokio::test]
async fn every_function_answers_and_plans() {
    // A body of plpgsql is read only when it runs: an empty call reads most of it.
    let database = database().await;
    let client = database.client().await;
    for call in [
        "tasker.load_run_steps_v1('{}', '{}', 0)",
        "tasker.advance_v1('{}', '{}', '{}', '{}', '{}', '{}', '{}', null, 1, 0)",
        "tasker.complete_v1('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', null, 1, 0)",
        "tasker.complete_many_v1('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', null, 1, 0)",
        "tasker.dispatch_v1('{}', '{}', '{}', null, 1, 0)",
        "tasker.sweep_v1(1, null, 1, 0)",
    ] {
        assert!(client.query(&format!("select * from {call}"), &[]).await.unwrap().is_empty(), "{call}");
    }
}

#[tokio::test]
async fn a_pause_holds_a_step_as_long_in_the_database_as_in_rust() {
    let database = database().await;
    let row = database.client().await.query_one("select tasker.hold_ms()", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), limits::HOLD_MS);
}

#[tokio::test]
async fn a_row_of_an_answer_costs_nothing_to_make() {
    // The planner has replaced the constructor by its columns: no function is called, no row is put together.
    let database = database().await;
    let sql = "explain verbose select c.* from unnest('{1}'::int[]) u(idx), tasker.change_row('accepted', idx => u.idx) c";
    let rows = database.client().await.query(sql, &[]).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(plan[0].starts_with("Function Scan on pg_catalog.unnest") && !plan.join("").contains("change"), "{plan:#?}");
}
