//! Two processes, one database, and a proxy that leaves connections half open: at any time at most one of them moves steps, and it
//! moves all of them.

use std::fs;

use serde_json::json;
use tasker_test_support::{
    Proxy, database,
    dev::{Dev, Place, dev_command, http, python_worker},
    wait_until,
};
use tokio::runtime::Runtime;

const WORKER: &str = "python";

/// A gate, and a step behind it.
fn place() -> Place {
    let place = Place::create();
    place.template(&json!({
        "name": "gated", "namespace": "e2e", "version": "1.0.0", "identity_strategy": "always_unique",
        "steps": [
            {"name": "gate", "handler": {"callable": "gate"}},
            {"name": "behind", "handler": {"callable": "brief"}, "dependencies": ["gate"]},
        ],
    }));
    place
}

fn submit(dev: &Dev, folder: &Place) -> Option<String> {
    let body = json!({"namespace": "e2e", "name": "gated", "context": {"folder": folder.dir.path()}});
    let (status, _, body) = http("POST", &format!("{}/v1/tasks", dev.url), Some(body.to_string())).ok()?;
    (status == 201).then(|| body["task_uuid"].as_str().unwrap().to_owned())
}

/// Why a server is not ready, if it says so.
fn problems(dev: &Dev) -> Option<String> {
    let (status, _, body) = http("GET", &format!("{}/health/ready", dev.url), None).ok()?;
    (status == 503).then(|| body["error"]["details"]["problems"].to_string())
}

#[test]
fn an_owner_behind_a_half_open_connection_says_so_and_what_it_accepted_is_done_by_the_next_owner() {
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(database());
    let (proxy, url) = runtime.block_on(Proxy::to_database(&database.url));
    let (first_place, second_place) = (place(), place());
    let worker = python_worker(WORKER);
    let mut first = Dev::start(&first_place, &["--database-url", &url, "--worker", &worker]);
    let mut tasks = vec![submit(&first, &first_place).unwrap()];
    wait_until("the first step has started", || {
        fs::read_dir(first_place.dir.path()).unwrap().flatten().any(|e| e.file_name().to_string_lossy().starts_with("started-"))
    });

    proxy.leave_half_open(false);
    let second = Dev::start(&second_place, &["--database-url", &database.url, "--worker", &worker]);
    // It serves on new connections until it notices. Whatever it accepts must be done by somebody.
    wait_until("the first accepts no task any more", || match submit(&first, &first_place) {
        Some(task) => {
            tasks.push(task);
            false
        }
        None => true,
    });
    wait_until("the first has ended by itself", || first.child.try_wait().unwrap().is_some_and(|status| !status.success()));
    fs::write(first_place.path("open"), "").unwrap();
    for task in &tasks {
        assert_eq!(second.finished(task)["status"], "complete");
    }
    second.assert_healthy();
    assert!(second.stop());
}

#[test]
fn without_an_answer_nothing_is_handed_over_and_the_process_is_unready_until_it_is_certain_again() {
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(database());
    let (proxy, url) = runtime.block_on(Proxy::to_database(&database.url));
    let place = place();
    let dev = Dev::start(&place, &["--database-url", &url, "--worker", &python_worker(WORKER)]);
    let task = submit(&dev, &place).unwrap();
    proxy.leave_half_open(true);
    wait_until("it names its ownership as a problem", || problems(&dev).is_some_and(|text| text.contains("ownership")));
    fs::write(place.path("open"), "").unwrap();
    proxy.leave_half_open(false);
    assert_eq!(dev.finished(&task)["status"], "complete");
    wait_until("it is ready again", || problems(&dev).is_none());
    assert_eq!(dev.logged("the ownership of the database is certain again"), 1);
    assert!(dev.stop());
}

#[test]
fn a_second_process_is_refused_while_the_first_one_owns_the_database() {
    let database = Runtime::new().unwrap().block_on(database());
    let (first_place, second_place) = (place(), place());
    let first = Dev::start(&first_place, &["--database-url", &database.url]);
    let output = dev_command(&second_place, &["--database-url", &database.url]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains("another tasker process uses this database"), "{stderr}");
    assert!(first.stop());
}
