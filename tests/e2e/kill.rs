//! `kill -9` of everything, of the process alone, and of its PostgreSQL, while steps are in flight.

use std::fs;

use serde_json::{Value, json};
use tasker_test_support::{
    dev::{Dev, Place, python_worker},
    kill_now, wait_until,
};

use crate::load::workers;

fn gate(max_attempts: u32) -> Value {
    json!({
        "name": format!("gate{max_attempts}"), "namespace": "e2e", "version": "1.0.0", "identity_strategy": "always_unique",
        "steps": [
            {"name": "gate", "handler": {"callable": "gate"}, "timeout_seconds": 60,
             "retry": {"max_attempts": max_attempts, "backoff": "none"}},
            {"name": "after", "dependencies": ["gate"], "handler": {"callable": "gate"}},
        ],
    })
}

fn started(place: &Place) -> usize {
    fs::read_dir(place.path("marks"))
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("started-"))
        .count()
}

#[test]
fn after_a_kill_of_everything_a_second_start_finishes_the_tasks_and_no_attempt_has_changed() {
    let place = Place::create();
    fs::create_dir(place.path("marks")).unwrap();
    place.template(&gate(1));
    place.template(&gate(2));
    let marks = place.path("marks");
    let worker = python_worker("python");
    let arguments = ["--worker", worker.as_str()];

    let mut dev = Dev::start(&place, &arguments);
    let mut tasks: Vec<(String, i64)> = (0..5).map(|_| (dev.submit("e2e", "gate1", json!({"folder": marks})), 1)).collect();
    // The second and last attempt of this one is in flight when everything is killed.
    tasks.push((dev.submit("e2e", "gate2", json!({"folder": marks, "failures": 1})), 2));
    wait_until("six steps are in flight", || started(&place) == 6);
    dev.child.kill().unwrap();
    place.kill_everything();
    dev.child.wait().unwrap();

    let dev = Dev::start(&place, &arguments);
    wait_until("the six steps are in flight again", || {
        let runs = fs::read_dir(place.path("marks")).unwrap().flatten();
        runs.filter(|e| fs::read_to_string(e.path()).is_ok_and(|text| text.lines().count() == 2)).count() == 6
    });
    fs::write(marks.join("open"), "").unwrap();
    for (task, attempts) in &tasks {
        assert_eq!(dev.finished(task)["status"], "complete");
        let steps = dev.steps(task);
        let gate = steps.iter().find(|s| s["name"] == "gate").unwrap();
        assert_eq!(gate["attempts"], *attempts, "a kill costs no attempt");
        assert_eq!(gate["results"]["result"], json!({"attempt": attempts}));
    }
    dev.assert_healthy();
    assert!(dev.stop());
    assert_eq!(place.processes(), Vec::<i32>::new(), "nothing is left");
}

#[test]
fn a_kill_of_the_process_alone_leaves_no_worker_and_its_database_is_adopted() {
    let place = Place::create();
    fs::create_dir(place.path("marks")).unwrap();
    place.template(&gate(1));
    let worker = python_worker("python");
    let arguments = ["--worker", worker.as_str()];

    let mut dev = Dev::start(&place, &arguments);
    let task = dev.submit("e2e", "gate1", json!({"folder": place.path("marks")}));
    wait_until("the step is in flight", || started(&place) == 1);
    assert_eq!(workers(&place).len(), 1);
    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    wait_until("its worker has ended by itself", || workers(&place).is_empty());

    let dev = Dev::start(&place, &arguments);
    fs::write(place.path("marks").join("open"), "").unwrap();
    assert_eq!(dev.finished(&task)["status"], "complete");
    assert!(dev.stop());
    assert_eq!(place.processes(), Vec::<i32>::new());
}

#[test]
fn when_its_postgresql_is_killed_the_system_goes_on_without_a_restart() {
    let place = Place::create();
    fs::create_dir(place.path("marks")).unwrap();
    place.template(&gate(1));
    let worker = python_worker("python");
    let dev = Dev::start(&place, &["--worker", worker.as_str()]);
    let tasks: Vec<String> = (0..5).map(|_| dev.submit("e2e", "gate1", json!({"folder": place.path("marks")}))).collect();
    wait_until("five steps are in flight", || started(&place) == 5);

    assert!(kill_now(place.postmaster()));
    fs::write(place.path("marks").join("open"), "").unwrap();
    for task in &tasks {
        assert_eq!(dev.finished(task)["status"], "complete");
        assert!(dev.steps(task).iter().all(|s| s["attempts"] == 1));
    }
    assert!(dev.logged("the database is not available") <= 1, "one line a time that it is away");
    dev.assert_healthy();
    assert!(dev.stop());
    assert_eq!(place.processes(), Vec::<i32>::new());
}
