//! Rules for the deployment, checked on the topology file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

const TOPOLOGY: &str = include_str!("../../infra/topology.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topology {
    queues: BTreeMap<String, Queue>,
    secrets: BTreeMap<String, String>,
    orchestrator_environment: BTreeMap<String, String>,
    functions: BTreeMap<String, Function>,
    worker: Worker,
    pools: Vec<String>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Queue {
    visibility_seconds: u32,
    max_receive_count: u32,
    retention_seconds: u32,
    dead_letter_retention_seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    memory_mb: u32,
    timeout_seconds: u32,
    environment: BTreeMap<String, String>,
    #[serde(default)]
    routes: Vec<String>,
    reads: Option<Source>,
    schedule: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    queue: String,
    batch_size: u32,
    maximum_concurrency: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Worker {
    memory_mb: u32,
    timeout_seconds: u32,
    batch_size: u32,
    maximum_concurrency: u32,
    visibility_seconds: u32,
    max_receive_count: u32,
    retention_seconds: u32,
    dead_letter_retention_seconds: u32,
    environment: BTreeMap<String, String>,
}

fn topology() -> Topology {
    serde_saphyr::from_str(TOPOLOGY).expect("infra/topology.yaml has this shape")
}

/// Every queue with the timeout of the function that reads it.
fn read_queues() -> Vec<(String, Queue, u32)> {
    let Topology { queues, functions, worker, pools, .. } = topology();
    let timeout = |queue: &str| {
        let reader = |f: &&Function| f.reads.as_ref().is_some_and(|r| r.queue == queue);
        functions.values().find(reader).unwrap_or_else(|| panic!("nobody reads {queue}")).timeout_seconds
    };
    let mut read: Vec<_> = queues.iter().map(|(name, queue)| (name.clone(), queue.clone(), timeout(name))).collect();
    for pool in pools {
        let queue = Queue {
            visibility_seconds: worker.visibility_seconds,
            max_receive_count: worker.max_receive_count,
            retention_seconds: worker.retention_seconds,
            dead_letter_retention_seconds: worker.dead_letter_retention_seconds,
        };
        read.push((format!("worker-{pool}"), queue, worker.timeout_seconds));
    }
    read
}

#[test]
fn the_visibility_timeout_is_at_least_six_times_the_timeout_of_the_reading_function() {
    for (name, queue, timeout) in read_queues() {
        assert!(queue.visibility_seconds >= 6 * timeout, "{name}");
        assert!(queue.visibility_seconds <= 43_200, "{name}: SQS hides a message for 12 hours at most");
    }
}

#[test]
fn dead_letters_outlive_their_queues_retention_and_a_database_outage_makes_none() {
    for (name, queue, _) in read_queues() {
        assert!(queue.dead_letter_retention_seconds > queue.retention_seconds, "{name}");
        assert!(queue.dead_letter_retention_seconds <= 1_209_600, "{name}: SQS keeps a message for 14 days at most");
        assert!(queue.max_receive_count >= 5, "{name}");
    }
    assert!(
        topology().worker.max_receive_count >= 20,
        "a message that is released again and again does not become a dead letter soon"
    );
    for (name, queue) in topology().queues {
        assert_eq!(queue.max_receive_count, 100, "{name}");
    }
}

#[test]
fn functions_keep_to_what_lambda_allows_and_each_queue_is_read_once() {
    let Topology { functions, worker, .. } = topology();
    let mut read = BTreeSet::new();
    for (name, function) in &functions {
        assert!((1..=900).contains(&function.timeout_seconds) && (128..=10_240).contains(&function.memory_mb), "{name}");
        if let Some(Source { queue, batch_size, maximum_concurrency }) = &function.reads {
            assert!(read.insert(queue), "{queue} is read twice");
            assert!((1..=10).contains(batch_size) && (2..=1000).contains(maximum_concurrency), "{name}");
        }
        if !function.routes.is_empty() {
            assert!(function.timeout_seconds > 25, "{name}: a request may wait 25 s for its task");
        }
        assert!(function.schedule.as_deref().is_none_or(|s| s == "rate(1 minute)"), "{name}: sends may be due each minute");
    }
    assert!((1..=900).contains(&worker.timeout_seconds) && (128..=10_240).contains(&worker.memory_mb));
    assert!((1..=10).contains(&worker.batch_size) && (2..=1000).contains(&worker.maximum_concurrency));
    // The default timeout of a step, and the reserve of the worker.
    assert!(worker.timeout_seconds > 30 + 5, "a step of the usual timeout would never fit");
    let names: Vec<&str> = functions.keys().map(String::as_str).collect();
    assert_eq!(names, ["completion-callback", "db-migrate", "operator-api", "step-readiness", "task-intake"]);
}

#[test]
fn every_setting_that_is_given_is_read_and_every_one_that_is_needed_is_given() {
    let Topology { orchestrator_environment, functions, worker, secrets, .. } = topology();
    for (name, function) in &functions {
        assert_eq!(function.environment, orchestrator_environment, "{name}");
    }
    let source = concat!(
        include_str!("../../shared/lambda/src/settings.rs"),
        include_str!("../../shared/aws/src/queues.rs"),
        include_str!("../../workers/runtime/src/deployment.rs"),
    );
    let given: BTreeSet<&str> = orchestrator_environment.keys().chain(worker.environment.keys()).map(String::as_str).collect();
    for name in given.iter().filter(|name| name.starts_with("TASKER_")) {
        assert!(source.contains(&format!("\"{name}\"")), "nobody reads {name}");
    }
    let settings = include_str!("../../shared/lambda/src/settings.rs");
    for read in
        settings.split('"').filter(|text| text.starts_with("TASKER_") && text.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    {
        assert!(orchestrator_environment.contains_key(read), "{read} is not given");
    }
    assert_eq!(worker.environment["TASKER_TIMEOUT_SECONDS"], "{timeout_seconds}", "Lambda does not tell it");
    for secret in secrets.values() {
        assert!(orchestrator_environment.values().any(|v| v == secret), "{secret} is given to nobody");
    }
    let password = |text: &&String| text.to_lowercase().contains("password");
    assert!(orchestrator_environment.values().chain(worker.environment.values()).find(password).is_none());
}
