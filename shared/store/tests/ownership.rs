//! One process at a time owns a database.

use tasker_store::{Ownership, StoreError};
use tasker_test_support::database;

#[tokio::test]
async fn an_owner_takes_its_ownership_back_from_a_session_that_the_server_keeps_for_it() {
    let database = database().await;
    let mut held = Ownership::take(&database.url).await.unwrap().unwrap();
    // The session is still alive, as if the server had not noticed a lost connection.
    assert!(matches!(held.reclaim(&database.url).await, Err(StoreError::Unavailable(_))));
    held.lost().await;
    assert!(held.reclaim(&database.url).await.unwrap().is_some());
}

#[tokio::test]
async fn an_ownership_that_another_process_took_does_not_come_back() {
    let database = database().await;
    let mut held = Ownership::take(&database.url).await.unwrap().unwrap();
    database.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tasker-owner' and datname = current_database()").await;
    held.lost().await;
    let another = Ownership::take(&database.url).await.unwrap();
    assert!(another.is_some());
    assert!(held.reclaim(&database.url).await.unwrap().is_none());
}
