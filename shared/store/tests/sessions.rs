//! Databases as people have them: encodings, and settings of a role or a database that a session would inherit.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod common;

use std::time::Duration;

use tasker_store::{Ownership, Store, StoreError, migrate, migration_status};
use tasker_test_support::{Database, database, poll};

use common::{complete, done, store, submit, template};

/// A setting of the database, for sessions that begin from now on.
async fn set(database: &Database, setting: &str) {
    let sql = format!(
        "do $$ begin execute format('alter database %I set {}', current_database()); end $$",
        setting.replace('\'', "''")
    );
    database.execute(&sql).await;
}

/// The URL of a new database beside that of a test. It goes with the leftovers of this process.
async fn beside(database: &Database, name: &str, options: &str) -> String {
    let name = format!("tasker_test_{}_{name}", std::process::id());
    database.execute(&format!("create database {name} template template0 locale 'C' {options}")).await;
    let own: String = database.client().await.query_one("select current_database()::text", &[]).await.unwrap().get(0);
    database.url.replace(&own, &name)
}

fn refusal<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Setting(sentence)) => sentence,
        Err(other) => panic!("not a refusal: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn an_encoding_other_than_utf8_is_refused_on_every_way_in_a_sentence_that_names_it() {
    let database = database().await;
    for encoding in ["WIN1252", "SQL_ASCII", "LATIN1", "EUC_JP"] {
        let url = beside(&database, &encoding.to_lowercase(), &format!("encoding '{encoding}'")).await;
        for sentence in [
            refusal(migrate(&url).await),
            refusal(migration_status(&url).await),
            refusal(Ownership::take(&url).await),
            refusal(Store::new(&url, 1).unwrap().clock().await),
        ] {
            assert!(sentence.contains(&format!(" is {encoding}")) && sentence.contains("encoding 'UTF8'"), "{sentence}");
            assert!(!sentence.contains("db error"), "{sentence}");
        }
    }
}

#[tokio::test]
async fn a_database_that_is_serializable_by_default_makes_no_statement_fail_that_waited_for_a_lock() {
    let database = database().await;
    set(&database, "default_transaction_isolation = 'serializable'").await;
    let store = store(&database);
    let task = submit(&store, &template(&[("a", &[]), ("b", &[0])]), "me").await;
    let mut operator = database.client().await;
    let held = operator.transaction().await.unwrap();
    held.batch_execute("update tasker.steps set wake_at = wake_at; update tasker.tasks set priority = 6").await.unwrap();
    let completed = tokio::spawn({
        let store = store.clone();
        async move { complete(&store, task, 0, 1, done("{}")).await }
    });
    let observer = database.client().await;
    let waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    poll(Duration::from_millis(10), async || observer.query(waiting, &[]).await.unwrap().pop()).await.unwrap();
    held.commit().await.unwrap();
    completed.await.unwrap();
    assert_eq!(store.counts().conflicts, 0, "the statement read the row again");
}

#[tokio::test]
async fn a_read_only_database_is_refused_at_start_with_the_setting_that_makes_it_so() {
    let database = database().await;
    set(&database, "default_transaction_read_only = on").await;
    let sentence = refusal(Ownership::take(&database.url).await);
    assert!(sentence.contains("default_transaction_read_only") && sentence.contains("primary"), "{sentence}");
    assert_eq!(migrate(&database.url).await.unwrap(), Vec::<String>::new(), "there is nothing to write");
}

#[tokio::test]
async fn a_migration_waits_for_another_one_longer_than_the_role_or_the_database_lets_a_statement_run() {
    let database = database().await;
    database.execute("drop schema tasker cascade").await;
    let (other, observer) = (database.client().await, database.client().await);
    // The lock of a process that migrates.
    other.batch_execute("select pg_advisory_lock(x'7461736b6572'::bigint)").await.unwrap();
    set(&database, "statement_timeout = '100ms'").await;
    let url = database.url.clone();
    let migrated = tokio::spawn(async move { migrate(&url).await });
    let waits = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                   and query_start < clock_timestamp() - interval '200 ms'";
    poll(Duration::from_millis(10), async || observer.query(waits, &[]).await.unwrap().pop()).await.unwrap();
    drop(other);
    assert_eq!(migrated.await.unwrap().unwrap().len(), 9);
}

#[tokio::test]
async fn a_database_of_another_build_is_refused_on_every_way_in() {
    let database = database().await;
    database.execute("update tasker.schema_history set checksum = '1' where version = 3").await;
    for sentence in [refusal(migrate(&database.url).await), refusal(migration_status(&database.url).await)] {
        assert!(sentence.contains("V3__submit_and_complete is applied"), "{sentence}");
    }
}

#[tokio::test]
async fn a_migration_that_the_server_rejects_says_what_the_server_said() {
    let database = database().await;
    database.execute("drop schema tasker cascade; create schema tasker; create table tasker.templates (a int)").await;
    let sentence = refusal(migrate(&database.url).await);
    assert!(sentence.contains("V1__tables") && sentence.contains("already exists (42P07)"), "{sentence}");
    assert!(!sentence.contains("db error"), "{sentence}");
}
