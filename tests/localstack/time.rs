//! What time makes ready.

use std::time::Duration;

use serde_json::json;

use crate::cell::{Cell, Options, emulator};

/// A step that fails as often as the context says, by a handler of the samples; `pause` is the template's.
fn retrying(name: &str, pause_ms: u64) -> String {
    format!(
        "name: {name}\nnamespace_name: shop\nversion: 1.0.0\nidentity_strategy: always_unique\nsteps:\n  - name: reserve\n    worker: rust\n    \
         handler: {{callable: reserve_inventory}}\n    retry: {{max_attempts: 3, backoff: linear, backoff_base_ms: {pause_ms}, max_backoff_ms: {pause_ms}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_comes_by_its_message_and_one_beyond_a_quarter_of_an_hour_by_the_schedule() {
    let Some(emulator) = emulator() else { return };
    let cell = Cell::deploy(emulator, Options::default()).await;
    cell.register(&retrying("soon", 2_000)).await;
    cell.register(&retrying("late", 3_600_000)).await;
    let request =
        |name: &str| json!({"name": name, "namespace": "shop", "context": {"items": [], "inventory": {"lock_contention": 1}}});

    let soon = cell.submit(&request("soon")).await;
    let done = cell.finished(&soon).await;
    assert_eq!(done["status"], "complete", "{done}");
    let answered = "select count(*) from tasker.attempts where task_id = ";
    assert_eq!(cell.value(&format!("{answered}'{soon}'")).await.as_deref(), Some("2"));
    assert!(cell.log("step-readiness").contains("step dispatched"), "by its message, for there is no schedule here");

    let late = cell.submit(&request("late")).await;
    cell.until_true(&format!("select state = 'waiting_for_retry' from tasker.steps where task_id = '{late}'")).await;
    assert_eq!(cell.depth("readiness").await, 0, "no message can wait for so long");
    assert_eq!(cell.sweep().await, json!({"sent": 0, "overdue": 0}), "it is not due");
    // Its pause is spread by 15 % at most.
    cell.database.advance_clock(Duration::from_secs(4_200)).await;
    assert_eq!(cell.sweep().await, json!({"sent": 1, "overdue": 0}));
    assert_eq!(cell.finished(&late).await["status"], "complete");
    cell.check().await;
}
