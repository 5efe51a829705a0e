//! Retries: by a delayed message, and by the schedule.

use std::time::Duration;

use serde_json::json;

use crate::deployment::{Deployment, Options, emulator};

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
    let deployment = Deployment::deploy(emulator, Options::default()).await;
    deployment.register(&retrying("soon", 2_000)).await;
    deployment.register(&retrying("late", 3_600_000)).await;
    let request =
        |name: &str| json!({"name": name, "namespace": "shop", "context": {"items": [], "inventory": {"lock_contention": 1}}});

    let soon = deployment.submit(&request("soon")).await;
    let done = deployment.finished(&soon).await;
    assert_eq!(done["status"], "complete", "{done}");
    let answered = "select count(*) from tasker.outcomes where task_id = ";
    assert_eq!(deployment.value(&format!("{answered}'{soon}'")).await.as_deref(), Some("2"));
    assert!(deployment.log("step-readiness").contains("step dispatched"), "by its message, for there is no schedule here");

    let late = deployment.submit(&request("late")).await;
    deployment.until_true(&format!("select state = 'waiting_for_retry' from tasker.steps where task_id = '{late}'")).await;
    assert_eq!(deployment.depth("readiness").await, 0, "no message can wait for so long");
    assert_eq!(deployment.sweep().await, json!({"sent": 0, "overdue": 0}), "it is not due");
    // The jitter of its pause is 15 % at most.
    deployment.database.advance_clock(Duration::from_secs(4_200)).await;
    assert_eq!(deployment.sweep().await, json!({"sent": 1, "overdue": 0}));
    assert_eq!(deployment.finished(&late).await["status"], "complete");
    deployment.check().await;
}
