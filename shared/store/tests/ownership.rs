//! One process at a time owns a database.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::time::Duration;

use tasker_store::{Ownership, Store, StoreError};
use tasker_test_support::{Database, database, poll};

/// Ends the sessions that hold or ask for the ownership, as a proxy may, and waits until the server has forgotten them.
async fn end_owners(database: &Database) {
    let client = database.client().await;
    let owners = "from pg_stat_activity where application_name = 'tasker-owner' and datname = current_database()";
    client.batch_execute(&format!("select pg_terminate_backend(pid) {owners}")).await.unwrap();
    let gone = format!("select {owners} having count(*) = 0");
    poll(Duration::from_millis(10), async || client.query(&gone, &[]).await.unwrap().pop()).await.unwrap();
}

#[tokio::test]
async fn an_owner_takes_its_ownership_back_from_a_session_that_the_server_keeps_for_it() {
    let database = database().await;
    let mut held = Ownership::take(&database.url).await.unwrap().unwrap();
    // The session is still alive, as if the server had not noticed a lost connection.
    assert!(matches!(held.reclaim().await, Err(StoreError::Unavailable(_))));
    held.disconnected().await;
    assert!(held.reclaim().await.unwrap().is_some());
}

#[tokio::test]
async fn an_ownership_that_another_process_took_does_not_come_back() {
    let database = database().await;
    let mut held = Ownership::take(&database.url).await.unwrap().unwrap();
    end_owners(&database).await;
    held.disconnected().await;
    let another = Ownership::take(&database.url).await.unwrap();
    assert!(another.is_some());
    assert!(held.reclaim().await.unwrap().is_none());
}

#[tokio::test]
async fn a_past_owner_can_do_nothing_from_the_moment_another_process_has_the_ownership() {
    let database = database().await;
    let past = Ownership::take(&database.url).await.unwrap().unwrap();
    let store = Store::owned(&past, &database.url, 2).unwrap();
    store.clock().await.unwrap();
    // The past owner does not know: to it, its connection is quiet.
    end_owners(&database).await;
    let owner = Ownership::take(&database.url).await.unwrap().unwrap();
    for _ in 0..3 {
        let refused = store.clock().await.unwrap_err();
        assert!(refused.is_transient(), "{refused}");
    }
    assert!(store.clock().await.unwrap_err().to_string().contains("does not hold the ownership"));
    assert!(owner.is_held().await.unwrap());
    assert!(!past.is_held().await.unwrap_or(false));
}

#[tokio::test]
async fn an_owner_that_was_replaced_for_a_while_ends_what_its_successor_left_when_it_is_back() {
    let database = database().await;
    let first = Ownership::take(&database.url).await.unwrap().unwrap();
    end_owners(&database).await;
    let second = Ownership::take(&database.url).await.unwrap().unwrap();
    let store = Store::owned(&second, &database.url, 2).unwrap();
    store.clock().await.unwrap();
    end_owners(&database).await;
    let again = first.reclaim().await.unwrap().unwrap();
    assert!(store.clock().await.unwrap_err().is_transient());
    assert!(store.clock().await.unwrap_err().to_string().contains("does not hold the ownership"));
    assert!(again.is_held().await.unwrap());
}
