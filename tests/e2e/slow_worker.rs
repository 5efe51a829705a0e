//! Many ready steps and one slow worker process.

use serde_json::{Value, json};
use tasker_test_support::dev::{Dev, Place, python_worker};

/// Each takes 50 ms: with a hundred at once, five seconds of work.
const STEPS: usize = 10_000;

#[test]
fn ten_thousand_ready_steps_on_one_slow_child_finish_with_their_first_attempt() {
    let place = Place::create();
    let steps: Vec<Value> = (0..STEPS).map(|n| json!({"name": format!("s{n}"), "handler": {"callable": "brief"}})).collect();
    place.template(&json!({"name": "slow", "namespace": "e2e", "version": "1.0.0", "steps": steps}));
    let worker = python_worker("python");
    let dev = Dev::start(&place, &["--worker", worker.as_str(), "--max-concurrent-handlers", "100"]);
    let task = dev.submit("e2e", "slow", json!({}));
    let ended = dev.finished(&task);
    assert_eq!((&ended["status"], &ended["completed_steps"]), (&json!("complete"), &json!(STEPS)));
    let steps = dev.steps(&task);
    assert_eq!(steps.len(), STEPS);
    assert!(steps.iter().all(|s| s["attempts"] == 1 && s["results"]["result"] == json!({"attempt": 1})));
    dev.assert_healthy();
    assert!(dev.stop());
}
