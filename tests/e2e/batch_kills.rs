//! A batch of ten thousand with ten places, whose process is killed three times.

use std::{collections::BTreeSet, time::Instant};

use serde_json::json;
use tasker_test_support::{
    binary,
    dev::{Dev, Place, Starting, dev_command},
    wait_until,
};

const WORKERS: i64 = 10_000;
const PLACES: i64 = 10;

#[test]
fn a_batch_of_ten_thousand_survives_three_kills_and_applies_each_cursor_once() {
    let place = Place::create();
    let split = json!({"callable": "split_dataset", "initialization": {"batch_size": 1, "max_workers": WORKERS}});
    place.template(&json!({"name": "batch", "namespace_name": "kills", "version": "1.0.0", "steps": [
        {"name": "split", "type": "batchable", "handler": split},
        {"name": "count_batch", "type": "batch_worker", "dependencies": ["split"], "handler": {"callable": "count_batch"},
            "batch_config": {"worker_template": "count_batch", "parallelism": PLACES}},
        {"name": "add_up", "type": "deferred_convergence", "dependencies": ["count_batch"], "handler": {"callable": "add_up_counts"}},
    ]}));
    let worker = format!("default={}", binary("tasker-example-rust").display());
    let arguments = ["--worker", worker.as_str()];
    let mut dev = Dev::start(&place, &arguments);
    let begun = Instant::now();
    let task = dev.submit("kills", "batch", json!({"dataset_size": WORKERS}));
    for quarter in 1..4 {
        let done = WORKERS / 4 * quarter;
        wait_until("a quarter more is done", || {
            dev.get(&format!("/v1/tasks/{task}"))["completed_steps"].as_i64().is_some_and(|completed| completed >= done)
        });
        place.kill_everything();
        dev.child.wait().unwrap();
        println!("killed after {:.1?} with at least {done} steps done", begun.elapsed());
        dev = Starting::launch(dev_command(&place, &arguments)).ready();
    }
    assert_eq!(dev.finished(&task)["status"], "complete");
    println!("{WORKERS} workers in {PLACES} places took {:.1?}, with three kills", begun.elapsed());

    let steps = dev.steps(&task);
    let cursors: BTreeSet<&str> = steps
        .iter()
        .filter(|step| step["name"].as_str().unwrap().starts_with("count_batch_"))
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!((cursors.len(), steps.len()), (WORKERS as usize, WORKERS as usize + 2));
    // A step that was killed while it ran is run again under the same attempt: no failure is applied, and one success.
    for step in &steps {
        assert_eq!((&step["current_state"], &step["attempts"]), (&json!("complete"), &json!(1)), "{step}");
    }
    let last = steps.iter().find(|step| step["name"] == "add_up").unwrap();
    assert_eq!(last["results"]["result"], json!({"total_processed": WORKERS, "worker_count": WORKERS}));
    dev.assert_healthy();
    assert!(dev.stop());
}
