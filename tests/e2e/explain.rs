//! A running server says why steps do not run, and what it says comes true.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use tasker_test_support::{
    dev::{Dev, Place, python_worker},
    wait_until,
};

fn template() -> Value {
    let once = json!({"max_attempts": 1});
    let later = json!({"max_attempts": 2, "backoff": "linear", "backoff_base_ms": 3_600_000, "max_backoff_ms": 3_600_000});
    json!({
        "name": "stuck", "namespace_name": "shop", "version": "1.0.0", "identity_strategy": "always_unique",
        "steps": [
            {"name": "again", "handler": {"callable": "brief"}, "retry": later},
            {"name": "refuse", "handler": {"callable": "refuse"}, "retry": once},
            {"name": "after", "dependencies": ["refuse"], "handler": {"callable": "noop"}},
            {"name": "lost", "worker": "gamma", "handler": {"callable": "noop"}},
            {"name": "split", "type": "batchable", "handler": {"callable": "divide"}, "batch_config": {"worker_template": "work", "parallelism": 1}},
            {"name": "work", "type": "batch_worker", "dependencies": ["split"], "handler": {"callable": "gate"}},
        ],
    })
}

/// The steps that are explained, by name.
fn explained(dev: &Dev, task: &str) -> BTreeMap<String, Value> {
    let steps = dev.get(&format!("/v1/tasks/{task}/explain"))["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().map(|step| (step["name"].as_str().unwrap().to_owned(), step)).collect()
}

/// Waits until exactly these reasons are said of these steps.
fn until(dev: &Dev, task: &str, expected: &[(&str, &str)]) -> BTreeMap<String, Value> {
    let mut steps = BTreeMap::new();
    wait_until(&format!("{expected:?} is said"), || {
        steps = explained(dev, task);
        let said: Vec<(&str, &str)> =
            steps.iter().map(|(name, step)| (name.as_str(), step["reason"].as_str().unwrap())).collect();
        said == expected
    });
    steps
}

fn ctl(dev: &Dev, arguments: &[&str]) -> String {
    let output = dev.ctl(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_reason_is_said_until_it_no_longer_holds() {
    let place = Place::create();
    place.template(&template());
    let worker = python_worker("python");
    let dev = Dev::start(&place, &["--worker", &worker]);
    let context = json!({"folder": place.dir.path(), "failures": 1});

    // A paused template: what is ready is held.
    ctl(&dev, &["pause", "shop/stuck", "--reason", "the bank is away", "--actor", "sam"]);
    let task = dev.submit("shop", "stuck", context);
    let all_held = ["again", "lost", "refuse", "split"].map(|name| (name, "held"));
    let held = until(&dev, &task, &[("after", "waiting_for_parents"), all_held[0], all_held[1], all_held[2], all_held[3]]);
    let sentence = held["split"]["sentence"].as_str().unwrap();
    assert!(sentence.starts_with("split is ready, and held by the pause of template shop/stuck since "), "{sentence}");
    assert!(sentence.ends_with(" by sam: the bank is away."), "{sentence}");
    let shown = ctl(&dev, &["task", "explain", &task]);
    assert!(shown.contains("  tasker-ctl resume shop/stuck --reason …\n"), "{shown}");

    // It ends, as was told; a moment later everything waits for something else.
    ctl(&dev, &["resume", "shop/stuck", "--reason", "it is back"]);
    let steps = until(
        &dev,
        &task,
        &[
            ("after", "blocked"),
            ("again", "waiting_for_retry"),
            ("lost", "no_workers"),
            ("refuse", "failed"),
            ("work_001", "waiting_for_worker"),
            ("work_002", "waiting_for_place"),
            ("work_003", "waiting_for_place"),
        ],
    );
    assert_eq!(steps["after"]["waits_for"], json!(["refuse"]));
    assert_eq!(steps["after"]["act"]["step"], "refuse");
    assert_eq!(steps["work_003"]["waits_for"], json!(["work_001"]));
    assert!(steps["again"]["changes_at"].is_string() && steps["lost"]["changes_at"].is_null(), "{steps:#?}");
    let shown = ctl(&dev, &["task", "explain", &task]);
    for expected in [
        "refuse failed in attempt 1 of 1: ",
        ": refused for good, and no attempt follows. after waits for it.",
        &format!("  tasker-ctl step retry {task} refuse --reason …"),
        "lost waits for a worker of pool gamma; none is known",
        ": not yet; attempt 2 of 2 begins in ",
        "work_002 waits for a place: its batch runs 1 worker at once, now work_001.",
        "after waits for 1 of 1 parents: refuse; refuse failed for good. It never starts by itself.",
        " 2 steps wait for such steps only, and follow. 1 step never starts by itself. Then nothing moves by itself, and the task fails.",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    let document: Value = serde_json::from_str(&ctl(&dev, &["task", "explain", &task, "--output", "json"])).unwrap();
    assert_eq!((&document["reason"], &document["steps_omitted"]), (&json!("failing"), &json!(0)));

    // The place is passed on, the retry comes by hand, and what blocked is skipped.
    fs::write(place.path("open"), "").unwrap();
    ctl(&dev, &["step", "retry", &task, "again", "--reason", "now"]);
    ctl(&dev, &["step", "skip", &task, "refuse", "--reason", "not needed"]);
    until(&dev, &task, &[("again", "waiting_for_retry"), ("lost", "no_workers")]);
    ctl(&dev, &["step", "skip", &task, "again", "--reason", "not needed"]);
    ctl(&dev, &["step", "skip", &task, "lost", "--reason", "nobody does it"]);
    assert_eq!(dev.finished(&task)["status"], "complete");
    let shown = ctl(&dev, &["task", "explain", &task]);
    assert!(shown.starts_with("Complete since ") && shown.lines().count() == 1, "{shown}");
    dev.assert_healthy();
    assert!(dev.stop());
}
