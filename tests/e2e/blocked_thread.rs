//! A handler that blocks its thread, which it should not, leaves the other threads of its process to the other steps.

use serde_json::{Value, json};
use tasker_test_support::{
    binary,
    dev::{Dev, Place},
    wait_until,
};

/// Which thread reads the next step is not the same each time.
const ROUNDS: usize = 5;

#[test]
fn a_rust_handler_that_blocks_its_thread_does_not_hold_up_the_next_step() {
    let place = Place::create();
    for name in ["block", "noop"] {
        let steps = json!([{"name": "only", "handler": {"callable": name}}]);
        place.template(
            &json!({"name": name, "namespace": "rust", "version": "1.0.0", "identity_strategy": "always_unique", "steps": steps}),
        );
    }
    // As on two processors, however many there are.
    let worker = format!("rust=env TOKIO_WORKER_THREADS=2 {}", binary("tasker-example-rust").display());
    let dev = Dev::start(&place, &["--worker", &worker]);
    for round in 0..ROUNDS {
        let [began, gate] = ["began", "gate"].map(|name| place.path(&format!("{name}-{round}")));
        let blocked = dev.submit("rust", "block", json!({"began": began, "gate": gate}));
        wait_until("the handler blocks its thread", || began.exists());
        let next = json!({"namespace": "rust", "name": "noop", "context": {}});
        let (_, next) = dev.post("/v1/tasks?wait=10", &next);
        assert_eq!(next["status"], json!("complete"), "round {round}: {next}");
        assert_eq!(dev.get(&format!("/v1/tasks/{blocked}"))["status"], Value::from("running"));
        std::fs::write(gate, "").unwrap();
        assert_eq!(dev.finished(&blocked)["status"], json!("complete"));
    }
    assert!(dev.stop());
}
