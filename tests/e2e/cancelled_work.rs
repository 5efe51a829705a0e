//! Cancelled work gives its places to other work.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasker_test_support::{
    dev::{Dev, Place, python_worker},
    wait_until,
};

const PLACES: usize = 10;

/// The handlers hang for ten minutes and do not listen, so their process is ended.
#[test]
fn ten_cancelled_handlers_give_their_places_to_new_work_within_seconds() {
    let place = Place::create();
    let step = |callable: &str| json!([{"name": "only", "handler": {"callable": callable}, "timeout_seconds": 600}]);
    for (name, callable) in [("hangs", "gate"), ("quick", "brief")] {
        place.template(&json!({"name": name, "namespace": "e2e", "version": "1.0.0", "steps": step(callable)}));
    }
    let worker = python_worker("python");
    let dev = Dev::start(&place, &["--worker", worker.as_str()]);
    let folder = place.path("gates");
    std::fs::create_dir(&folder).unwrap();
    let tasks: Vec<String> = (0..PLACES).map(|no| dev.submit("e2e", "hangs", json!({"folder": folder, "no": no}))).collect();
    wait_until("all places are taken", || std::fs::read_dir(&folder).unwrap().count() == PLACES);
    let cancelled = Instant::now();
    for task in &tasks {
        assert!(dev.ctl(&["task", "cancel", task, "--reason", "a test"]).status.success());
    }
    let quick = dev.submit("e2e", "quick", json!({}));
    assert_eq!(dev.finished(&quick)["status"], json!("complete"));
    // Far less than the handlers need, and far more than a loaded machine.
    assert!(cancelled.elapsed() < Duration::from_secs(60), "{:?}", cancelled.elapsed());
    for task in &tasks {
        assert_eq!(dev.get(&format!("/v1/tasks/{task}"))["status"], Value::from("cancelled"));
    }
    assert_eq!(dev.steps(&quick)[0]["attempts"], json!(1));
    dev.assert_healthy();
    assert!(dev.stop());
}
