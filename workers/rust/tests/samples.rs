//! Runs the sample workflows over real worker processes: their templates, their handlers, and the expectations of the demo.
//! A dozen lines stand in for the engine: they run parents first, and retry immediately while attempts are left.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../../runtime/tests/common/mod.rs"]
mod common;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use common::{Rig, step};
use num_bigint::BigUint;
use serde::Deserialize;
use serde_json::{Value, json};
use tasker_domain::template::{self, Workflow};
use tasker_wire::{Outcome, RunStep, outcome::Failure};
use tasker_worker::WorkerSettings;

const RUST: &str = env!("CARGO_BIN_EXE_tasker-example-rust");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn workflow(file: &str) -> Workflow {
    let text = std::fs::read_to_string(root().join("config/templates").join(file)).unwrap();
    let (template, notes) = template::parse(&text).unwrap();
    assert_eq!(notes, [], "every key of {file} has an effect");
    template.workflow("development").unwrap()
}

/// The end of a task: results by step, attempts by step, and the failure that ended it.
#[derive(Default)]
struct Task {
    results: BTreeMap<String, Value>,
    attempts: BTreeMap<String, i32>,
    failed: Option<(String, Failure)>,
}

/// Runs a task, each step by its worker.
async fn run(workflow: &Workflow, context: Value, benches: &BTreeMap<&str, Arc<Rig>>) -> Task {
    assert_eq!(workflow.refuse_context(&context), []);
    let mut task = Task::default();
    for planned in &workflow.steps {
        let parents = planned.parents.iter().map(|&parent| &workflow.steps[parent].name);
        if !parents.clone().all(|name| task.results.contains_key(name)) {
            continue;
        }
        let bench = &benches[planned.worker.as_deref().unwrap()];
        for attempt in 1..=planned.policy.max_attempts {
            *task.attempts.entry(planned.name.clone()).or_default() = attempt;
            let ancestors =
                task.results.iter().map(|(name, result)| (name.clone(), serde_json::value::to_raw_value(result).unwrap()));
            let message = RunStep {
                attempt,
                max_attempts: planned.policy.max_attempts,
                timeout_seconds: planned.policy.timeout_seconds,
                step_name: planned.name.clone(),
                dependency_results: ancestors.collect(),
                ..step(bench.fresh_number(), &planned.handler.callable, context.clone())
            };
            let no = message.step_id.no;
            bench.steps.put([message]);
            match bench.answer(no).await.outcome {
                Outcome::Success { result, .. } => {
                    task.results.insert(planned.name.clone(), serde_json::from_str(result.get()).unwrap());
                    break;
                }
                Outcome::Failure(failure) => {
                    if !failure.retryable || attempt == planned.policy.max_attempts {
                        task.failed = Some((planned.name.clone(), failure));
                        break;
                    }
                }
                other => panic!("{}: {other:?}", planned.name),
            }
        }
    }
    task
}

async fn rust_bench() -> BTreeMap<&'static str, Arc<Rig>> {
    [("rust", Arc::new(Rig::with(RUST, WorkerSettings::new("rust")).await))].into()
}

#[tokio::test]
async fn the_linear_sample_of_6_gives_its_four_numbers() {
    let task = run(&workflow("linear.yaml"), json!({"even_number": 6}), &rust_bench().await).await;
    let results: Vec<Value> = task.results.into_values().collect();
    assert_eq!(results, [json!(36), json!(1296), json!(1_679_616), json!(2_821_109_907_456_u64)]);
}

#[tokio::test]
async fn the_diamond_gives_n_to_the_16th_as_a_number_or_beyond_2_to_the_53rd_as_a_string() {
    let (workflow, benches) = (workflow("diamond.yaml"), rust_bench().await);
    let task = run(&workflow, json!({"even_number": 6}), &benches).await;
    assert_eq!(task.results["diamond_end"], json!(2_821_109_907_456_u64));
    let task = run(&workflow, json!({"even_number": 100}), &benches).await;
    assert_eq!(task.results["diamond_end"], json!(format!("1{}", "0".repeat(32))));
}

#[tokio::test]
async fn the_tree_and_the_mixed_graph_give_n_to_the_64th_as_a_decimal_string() {
    let benches = rust_bench().await;
    for (file, last) in [("tree.yaml", "tree_final_convergence"), ("mixed_dag.yaml", "dag_finalize")] {
        let workflow = workflow(file);
        for n in [2_u32, 6, 100] {
            let task = run(&workflow, json!({ "even_number": n }), &benches).await;
            assert_eq!(task.results[last], json!(BigUint::from(n).pow(64).to_string()), "{file} of {n}");
        }
    }
}

#[tokio::test]
async fn an_unknown_handler_and_a_missing_parent_are_failures_that_say_what_is_there() {
    let benches = rust_bench().await;
    let bench = &benches["rust"];
    bench.steps.put([step(0, "nobody", json!({})), step(1, "dag_finalize", json!({})), step(2, "echo", json!({"a": [1, 2.50]}))]);
    let unknown = bench.failure(0).await;
    assert_eq!((unknown.error_type.as_str(), unknown.retryable), ("handler_not_found", false));
    assert!(unknown.message.contains("registered here: ") && unknown.message.contains(", assess_risk, "), "{}", unknown.message);
    assert!(bench.failure(1).await.message.contains("the result of `dag_validate` is null, which is not a whole number"));
    assert_eq!(bench.success(2).await, json!({"a": [1, 2.5]}));
}

/// One order of the demo.
#[derive(Deserialize)]
struct Order {
    order: Value,
    expect: Expected,
}

#[derive(Deserialize)]
struct Expected {
    status: String,
    attempts: i32,
    #[serde(default)]
    retried: BTreeMap<String, i32>,
    failed_step: Option<String>,
    error_contains: Option<String>,
}

#[tokio::test]
async fn every_order_of_the_demo_ends_as_it_expects() {
    let orders: Vec<Order> = serde_json::from_slice(&std::fs::read(root().join("config/demo/orders.json")).unwrap()).unwrap();
    assert_eq!(orders.len(), 20);
    let workflow = workflow("order_fulfillment.yaml");
    let sources = root().join("workers/python");
    let python = format!("PYTHONPATH={0}/src python3 {0}/examples/order_handlers.py", sources.display());
    let mut benches = rust_bench().await;
    benches.insert("python", Arc::new(Rig::with(&python, WorkerSettings::new("python")).await));
    let tasks = orders.iter().map(|Order { order, .. }| {
        let mut context = order.clone();
        context["work_ms"] = json!(0);
        run(&workflow, context, &benches)
    });
    for (task, Order { order, expect }) in futures::future::join_all(tasks).await.into_iter().zip(&orders) {
        let id = &order["order_id"];
        assert_eq!(task.attempts.values().sum::<i32>(), expect.attempts, "{id}");
        let retried: BTreeMap<String, i32> = task.attempts.into_iter().filter(|(_, attempts)| *attempts > 1).collect();
        assert_eq!(retried, expect.retried, "{id}");
        match task.failed {
            None => assert_eq!(expect.status, "complete", "{id}"),
            Some((name, failure)) => {
                assert_eq!((expect.status.as_str(), &Some(name)), ("error", &expect.failed_step), "{id}");
                assert!(failure.message.contains(expect.error_contains.as_deref().unwrap()), "{id}: {}", failure.message);
            }
        }
    }
}
