//! `docs/templates.md` has a row for each key that a template may have, with the tests that prove what it does, or the note that says
//! that it does nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tasker_domain::template::parse;

use super::{read, tracked};

/// A template with every key. `unknown` stands in each object that has fixed keys.
fn every_key() -> Value {
    let retry = json!({"retryable": true, "max_attempts": 1, "backoff": "none", "backoff_base_ms": 1, "max_backoff_ms": 1,
        "limit": 1, "initial_delay": 1, "max_delay": 1});
    let mut batch = json!({"batch_size": 1, "parallelism": 1, "cursor_field": "id", "worker_template": "w",
        "failure_strategy": "isolate", "checkpoint_interval": 1});
    let handler = json!({"callable": "c", "method": "m", "resolver": "r", "initialization": {"k": 1}});
    let event =
        json!({"name": "e", "description": "d", "schema": {}, "delivery_mode": "fast", "condition": "always", "publisher": "p"});
    batch["unknown_of_ours"] = json!(1);
    let with_unknown = |mut object: Value| {
        object["unknown_of_ours"] = json!(1);
        object
    };
    let step = json!({"name": "w", "description": "d", "step_type": "batch_worker", "depends_on": ["b"], "worker": "pool",
        "handler": with_unknown(handler), "retry": with_unknown(retry.clone()), "timeout_seconds": 1, "result_schema": {},
        "batch_config": batch, "publishes_events": [with_unknown(event)], "system_dependency": "s", "lifecycle": {"k": 1}});
    let overlay = json!({"name": "w", "handler": with_unknown(json!({"initialization": {}})), "timeout_seconds": 1,
        "retry": with_unknown(retry)});
    let lifecycle = json!({"max_duration_minutes": 1, "max_waiting_for_dependencies_minutes": 1,
        "max_waiting_for_retry_minutes": 1, "max_steps_in_process_minutes": 1, "staleness_action": "dlq",
        "auto_fail_on_timeout": true, "auto_dlq_on_timeout": true});
    let environment = json!({"task_handler": {"k": 1}, "steps": [with_unknown(overlay)]});
    with_unknown(json!({"name": "n", "namespace": "ns", "version": "1.0.0", "description": "d", "identity_strategy": "strict",
        "input_schema": {}, "lifecycle": with_unknown(lifecycle), "metadata": {"k": 1}, "domain_events": [{"k": 1}],
        "steps": [with_unknown(step)], "environments": {"production": with_unknown(environment)},
        "system_dependencies": {"k": 1}, "task_handler": {"k": 1}, "loaded_from": "f", "schema": {"k": 1},
        "step_templates": [{}], "task_handler_class": "c", "handler_class": "c", "composition": {"k": 1}}))
}

/// The object of a place such as `/steps/0/retry/unknown_of_ours`, as the page names it: `steps[].retry`.
fn object_of(place: &str) -> String {
    let mut tokens: Vec<&str> = place.split('/').skip(1).collect();
    tokens.pop();
    if let Some(name) = tokens.get_mut(1).filter(|name| **name == "production") {
        *name = "*";
    }
    tokens.join(".").replace(".0", "[]")
}

/// By object, the keys that it may have, as the error about an unknown one lists them.
fn keys() -> BTreeMap<String, BTreeSet<String>> {
    let faults = parse(&every_key().to_string()).unwrap_err().0;
    let mut keys = BTreeMap::new();
    for fault in faults.iter().filter(|fault| fault.place.ends_with("/unknown_of_ours")) {
        let (_, known) = fault.message.split_once("the known keys are ").unwrap_or_else(|| panic!("{fault:?}"));
        keys.insert(object_of(&fault.place), known.split(", ").map(str::to_owned).collect());
    }
    keys
}

/// Keys, and what the notes say about them.
fn notes() -> BTreeSet<(String, String)> {
    fn without_unknown(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("unknown_of_ours");
                map.values_mut().for_each(without_unknown);
            }
            Value::Array(list) => list.iter_mut().for_each(without_unknown),
            _ => {}
        }
    }
    let mut template = every_key();
    without_unknown(&mut template);
    let batchable = json!({"name": "b", "type": "batchable", "handler": {"callable": "c"}});
    template["steps"].as_array_mut().unwrap().push(batchable);
    let (_, notes) = parse(&template.to_string()).unwrap_or_else(|faults| panic!("{faults:?}"));
    let key = |place: &str| place.rsplit('/').next().unwrap().to_owned();
    let without_count = |message: &str| message.split(" (").next().unwrap().to_owned();
    notes.iter().map(|note| (key(&note.place), without_count(&note.message))).collect()
}

/// The rows of the page's tables below a heading that names an object: object, key, and what proves it.
fn rows() -> Vec<(String, String, String)> {
    let page = read("docs/templates.md");
    let (mut object, mut rows) = (None, Vec::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            object = heading.split('`').nth(1).map(|name| if name == "the file" { String::new() } else { name.to_owned() });
        } else if let (Some(object), Some(row)) = (&object, line.strip_prefix("| `")) {
            let (key, _) = row.split_once('`').unwrap();
            let proof = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            rows.push((object.clone(), key.to_owned(), proof.to_owned()));
        }
    }
    rows
}

#[test]
fn every_key_of_a_template_is_a_row_with_what_proves_it() {
    let (mut keys, notes, rows) = (keys(), notes(), rows());
    // An overlay's block is the same as the step's.
    assert_eq!(keys.remove("environments.*.steps[].retry"), keys.get("steps[].retry").cloned());
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (object, key, _) in &rows {
        assert!(found.entry(object.clone()).or_default().insert(key.clone()), "{object} {key} has two rows");
    }
    assert_eq!(found, keys);

    let sources: Vec<String> =
        tracked().iter().filter(|path| path.ends_with(".rs") || path.ends_with(".py")).map(|path| read(path)).collect();
    let is_test = |name: &str| {
        let [rust, python] = [format!("fn {name}("), format!("def {name}(")];
        sources.iter().any(|source| source.contains(&rust) || source.contains(&python))
    };
    for (object, key, proof) in rows {
        let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        let unknown: Vec<&&str> = names.iter().filter(|name| !is_test(name)).collect();
        assert!(unknown.is_empty(), "{object} {key} names tests that do not exist: {unknown:?}");
        // A key has an effect, which tests prove, or a note says that it has none.
        assert!(
            !names.is_empty() || notes.contains(&(key.clone(), proof.clone())),
            "{object} {key} has neither a test nor {proof:?}"
        );
    }
}
