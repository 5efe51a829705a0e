//! A start that cannot succeed says why in one sentence, and leaves nothing behind.

use std::{net::TcpListener, process::Output};

use serde_json::json;
use tasker_test_support::dev::{Dev, Place, dev_command, python_worker};

fn fails(place: &Place, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = dev_command(place, arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert_eq!(place.processes(), Vec::<i32>::new(), "nothing is left: {stderr}");
    stderr
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = Place::create();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let stderr = fails(&place, &["--port", &port]);
    assert!(stderr.contains(&port) && stderr.contains("--port"), "{stderr}");
}

#[test]
fn a_data_dir_in_use_is_named_with_its_user() {
    let place = Place::create();
    let dev = Dev::start(&place, &[]);
    let output = dev_command(&place, &[]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&dev.child.id().to_string()) && stderr.contains("--data-dir"), "{stderr}");
    assert!(dev.stop());
}

#[test]
fn missing_postgresql_is_named_with_the_remedy() {
    let place = Place::create();
    let empty = tempfile::tempdir().unwrap();
    let output = dev_command(&place, &[]).env("PG_BIN", empty.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("PG_BIN"), "{stderr}");
}

#[test]
fn a_worker_command_that_dies_at_once_is_named_with_what_it_said() {
    let place = Place::create();
    let stderr = fails(&place, &["--worker", "broken=python3 -c 'import nothing_like_this'"]);
    assert!(stderr.contains("broken") && stderr.contains("nothing_like_this"), "{stderr}");
    let stderr = fails(&place, &["--worker", "absent=/no/such/program"]);
    assert!(stderr.contains("/no/such/program"), "{stderr}");
}

#[test]
fn a_bad_template_is_reported_and_the_others_are_served() {
    let place = Place::create();
    place.template(&json!({"name": "good", "version": "1.0.0", "steps": [{"name": "a", "handler": {"callable": "gate"}}]}));
    std::fs::write(place.path("templates").join("bad.yaml"), "name: bad\nsteps: {}\n").unwrap();
    let worker = python_worker("python");
    let dev = Dev::start(&place, &["--worker", &worker]);
    let templates = dev.get("/v1/templates");
    assert_eq!(templates["total_count"], 1, "{templates}");
    assert!(dev.stop());
}
