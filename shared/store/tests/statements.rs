//! Every statement is valid against this version's schema.

use std::path::Path;

use tasker_test_support::database;

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let database = database().await;
    let client = database.client().await;
    let mut statements = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql")).unwrap() {
        let file = entry.unwrap().path();
        let sql = std::fs::read_to_string(&file).unwrap();
        if let Err(error) = client.prepare(&sql).await {
            panic!("{}: {error:?}", file.display());
        }
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
        "tasker.messages_v1('{}', '{}', 0)",
        "tasker.advance_v1('{}', '{}', '{}', '{}', '{}', '{}', null, 1, 0)",
        "tasker.complete_v1('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', null, 1, 0)",
        "tasker.hand_over_v1('{}', '{}', '{}', null, 1, 0)",
        "tasker.sweep_v1(1, null, 1, 0)",
    ] {
        assert!(client.query(&format!("select * from {call}"), &[]).await.unwrap().is_empty(), "{call}");
    }
}
