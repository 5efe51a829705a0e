//! Runs the samples of `config/templates/samples` over real worker processes of both languages: their templates, their handlers, and the same
//! results from both. A hundred lines stand in for the engine: they run parents first, make the steps that decisions and batches name,
//! and retry immediately while attempts are left.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../../runtime/tests/common/mod.rs"]
mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use common::{Rig, step};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tasker_domain::template::{self, Step, StepKind, Template, Workflow, WorkflowStep};
use tasker_wire::{Outcome, RunStep, outcome::Failure};
use tasker_worker::WorkerSettings;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sample(file: &str) -> Template {
    let text = std::fs::read_to_string(root().join("config/templates/samples").join(file)).unwrap();
    let (template, notes) = template::parse(&text).unwrap();
    // What a hint does is what this sample shows.
    if file != "resolver_hints.yaml" {
        assert_eq!(notes, [], "every key of {file} has an effect");
    }
    template
}

/// The end of a task, and the engine that brings it there.
struct Task<'a> {
    rig: &'a Rig,
    context: Value,
    /// What an operator gives as the results of steps that failed.
    resolved: BTreeMap<&'static str, Value>,
    results: BTreeMap<String, Value>,
    attempts: BTreeMap<String, i32>,
    /// How often steps yielded.
    yields: usize,
    /// What decisions named.
    named: BTreeSet<String>,
    /// Own inputs of workers by the names of their steps, in the order of their making.
    workers: Vec<(String, Value)>,
    failed: BTreeMap<String, Failure>,
}

impl Task<'_> {
    async fn run(&mut self, template: &Template) {
        let workflow: Workflow = template.workflow("development").unwrap();
        assert_eq!(workflow.refuse_context(&self.context), []);
        for planned in &workflow.steps {
            let declared = template.steps.iter().find(|step| step.name == planned.name).unwrap();
            match declared.kind {
                StepKind::BatchWorker => self.run_workers(planned).await,
                _ if self.exists(template, declared) => self.run_step(planned, declared.kind, &planned.name, None).await,
                _ => {}
            }
        }
    }

    /// Whether a step is there, and its parents are done.
    fn exists(&self, template: &Template, declared: &Step) -> bool {
        // Of a pattern, the steps of its workers.
        let steps = |name: &str| self.attempts.keys().filter(|step| *step == name || is_of(step, name)).collect::<Vec<_>>();
        let parents: Vec<_> = declared.dependencies.iter().map(|name| steps(name)).collect();
        let done = |steps: &Vec<&String>| steps.iter().all(|step| self.results.contains_key(*step));
        let is_there = |steps: &Vec<&String>| !steps.is_empty();
        if declared.kind == StepKind::DeferredConvergence {
            return parents.iter().any(is_there) && parents.iter().all(done);
        }
        let is_decision = |name: &String| template.steps.iter().any(|step| step.name == *name && step.kind == StepKind::Decision);
        let chosen = !declared.dependencies.iter().any(is_decision) || self.named.contains(&declared.name);
        chosen && parents.iter().all(|steps| is_there(steps) && done(steps))
    }

    async fn run_workers(&mut self, pattern: &WorkflowStep) {
        let own: Vec<_> = self.workers.iter().filter(|(name, _)| is_of(name, &pattern.name)).cloned().collect();
        for (name, inputs) in own {
            self.run_step(pattern, StepKind::BatchWorker, &name, Some(inputs)).await;
        }
    }

    /// Runs the attempts of a step.
    async fn run_step(&mut self, planned: &WorkflowStep, kind: StepKind, name: &str, inputs: Option<Value>) {
        let (mut attempt, mut checkpoint, mut last_failure) = (1, None, None);
        loop {
            let message = RunStep {
                attempt,
                max_attempts: planned.policy.max_attempts,
                step_name: name.to_owned(),
                handler: planned.handler.clone(),
                dependency_results: self.results.iter().map(|(name, result)| (name.clone(), raw(result))).collect(),
                step_inputs: inputs.as_ref().map(raw),
                checkpoint: checkpoint.as_ref().map(raw),
                last_failure: last_failure.as_ref().map(raw),
                ..step(self.rig.fresh_number(), "", self.context.clone())
            };
            self.attempts.insert(name.to_owned(), attempt);
            let no = message.step_id.no;
            self.rig.steps.put([message]);
            match self.rig.answer(no).await.outcome {
                Outcome::Success { result, decision, batches, .. } => {
                    let mut result = serde_json::from_str(result.get()).unwrap();
                    match kind {
                        StepKind::Decision => self.named.extend(decided(decision.as_deref(), &result)),
                        StepKind::Batchable => self.workers.extend(made(planned, batches.as_deref(), &mut result)),
                        _ => assert!(decision.is_none() && batches.is_none(), "{name} decides nothing"),
                    }
                    self.results.insert(name.to_owned(), result);
                    return;
                }
                Outcome::Checkpoint { cursor, items_processed, accumulated } => {
                    checkpoint = Some(json!({"cursor": cursor, "items_processed": items_processed, "accumulated": accumulated}));
                    self.yields += 1;
                }
                Outcome::Failure(failure) if failure.retryable && attempt < planned.policy.max_attempts => {
                    last_failure = Some(json!(failure));
                    attempt += 1;
                }
                Outcome::Failure(failure) => {
                    self.failed.insert(name.to_owned(), failure);
                    self.results.extend(self.resolved.get(name).map(|result| (name.to_owned(), result.clone())));
                    return;
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

fn raw(value: impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(&value).unwrap()
}

/// Whether a step is a worker of a pattern.
fn is_of(worker: &str, pattern: &str) -> bool {
    worker.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('_'))
}

/// The steps that a decision named, in either form.
fn decided(decision: Option<&RawValue>, result: &Value) -> Vec<String> {
    let names = match decision {
        Some(decision) => serde_json::from_str::<Value>(decision.get()).unwrap()["create"].clone(),
        None if result["decision_point_outcome"]["type"] == "create_steps" => {
            result["decision_point_outcome"]["step_names"].clone()
        }
        None => panic!("{result} decides nothing"),
    };
    serde_json::from_value(names).unwrap()
}

/// The workers that an analyzer made, in either form. Their cursors are taken out of its result.
fn made(analyzer: &WorkflowStep, batches: Option<&RawValue>, result: &mut Value) -> Vec<(String, Value)> {
    let pattern = analyzer.handler.initialization.get("worker_template_name").map(|name| name.value());
    let batches = batches.map(|batches| serde_json::from_str::<Value>(batches.get()).unwrap());
    let cursors = match &batches {
        Some(batches) => batches["cursors"].as_array().cloned(),
        None => result["batch_processing_outcome"]
            .get_mut("cursor_configs")
            .map(|cursors| cursors.take().as_array().cloned().unwrap()),
    };
    let Some(cursors) = cursors else {
        let said = batches.as_ref().unwrap_or(&result["batch_processing_outcome"]["type"]);
        assert_eq!(said, "no_batches");
        let nothing = json!({"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0});
        return pattern.map(|pattern| worker(pattern.as_str().unwrap(), &nothing, true)).into_iter().collect();
    };
    // The only sample whose template does not say it.
    let pattern = pattern.map_or("process_range".to_owned(), |pattern| pattern.as_str().unwrap().to_owned());
    let outcome = &result["batch_processing_outcome"];
    assert!(outcome.is_null() || outcome["worker_template_name"] == *pattern, "{outcome}");
    cursors.iter().map(|cursor| worker(&pattern, cursor, false)).collect()
}

fn worker(pattern: &str, cursor: &Value, is_no_op: bool) -> (String, Value) {
    let position = |own: &str, taskers: &str| cursor.get(own).unwrap_or(&cursor[taskers]).clone();
    let id = cursor["batch_id"].as_str().unwrap();
    let cursor = json!({
        "batch_id": id, "start_cursor": position("start", "start_cursor"), "end_cursor": position("end", "end_cursor"),
        "batch_size": cursor["batch_size"],
    });
    let metadata = json!({"cursor_field": "id", "failure_strategy": "fail_fast"});
    (format!("{pattern}_{id}"), json!({"cursor": cursor, "batch_metadata": metadata, "is_no_op": is_no_op}))
}

/// The workers of both languages.
async fn rigs() -> [Rig; 2] {
    let python = root().join("workers/python");
    let python = format!("PYTHONPATH={0}/src python3 {0}/examples/samples.py", python.display());
    let settings = || WorkerSettings::new("default");
    [Rig::with(env!("CARGO_BIN_EXE_tasker-example-rust"), settings()).await, Rig::with(&python, settings()).await]
}

/// The ends of a task in both languages, which are the same but for what only analyzers, decisions and workers say.
async fn both<'a>(rigs: &'a [Rig; 2], file: &str, context: Value, resolved: &[(&'static str, Value)]) -> [Task<'a>; 2] {
    let template = sample(file);
    let mut tasks = [&rigs[0], &rigs[1]].map(|rig| Task {
        rig,
        context: context.clone(),
        resolved: resolved.iter().cloned().collect(),
        results: BTreeMap::new(),
        attempts: BTreeMap::new(),
        yields: 0,
        named: BTreeSet::new(),
        workers: Vec::new(),
        failed: BTreeMap::new(),
    });
    for task in &mut tasks {
        task.run(&template).await;
    }
    let [rust, python] = &tasks;
    assert_eq!(rust.attempts, python.attempts, "{file}");
    assert_eq!((&rust.named, rust.yields), (&python.named, python.yields), "{file}");
    assert_eq!(rust.workers, python.workers, "{file}");
    for (name, failure) in &rust.failed {
        let other = &python.failed[name];
        assert_eq!((failure.retryable, &failure.error_code), (other.retryable, &other.error_code), "{file}: {name}");
        assert_eq!(failure.message, other.message, "{file}: {name}");
    }
    let says_more = |name: &str| {
        let kind = template.steps.iter().find(|step| step.name == name).map(|step| step.kind);
        !matches!(kind, Some(StepKind::Standard | StepKind::DeferredConvergence))
    };
    for (name, result) in rust.results.iter().filter(|(name, _)| !says_more(name)) {
        assert_eq!(result, &python.results[name], "{file}: {name}");
    }
    tasks
}

#[tokio::test]
async fn the_amount_of_a_request_decides_who_approves_it() {
    let rigs = rigs().await;
    for (amount, chosen) in [
        (json!(0.01), &["auto_approve"][..]),
        (json!(500), &["auto_approve"]),
        (json!(1000), &["manager_approval"]),
        (json!(4999.99), &["manager_approval"]),
        (json!(5000), &["finance_review", "manager_approval"]),
        (json!(10_000.5), &["finance_review", "manager_approval"]),
    ] {
        let context = json!({"amount": amount, "requester": "Ada", "purpose": "books"});
        for task in both(&rigs, "approval_routing.yaml", context, &[]).await {
            assert_eq!(task.named.iter().map(String::as_str).collect::<Vec<_>>(), chosen, "{amount}");
            assert_eq!(task.results.len(), 3 + chosen.len());
            let end = &task.results["finalize_approval"];
            assert_eq!((&end["final_status"], &end["approval_count"]), (&json!("approved"), &json!(chosen.len())));
            assert_eq!(task.results[chosen[0]]["approved_amount"], amount);
        }
    }
    let context = json!({"amount": 5, "requester": " ", "purpose": "books"});
    for task in both(&rigs, "approval_routing.yaml", context, &[]).await {
        assert_eq!(task.failed["validate_request"].error_code.as_deref(), Some("validation_error"));
        assert_eq!(task.results.len(), 0);
    }
}

#[tokio::test]
async fn a_thousand_rows_are_added_up_by_five_workers_and_none_by_one_without_work() {
    let rigs = rigs().await;
    let file = |name: &str| json!({"csv_file_path": root().join("config/templates/samples").join(name)});
    for task in both(&rigs, "product_inventory.yaml", file("products.csv"), &[]).await {
        let names: Vec<&str> = task.workers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [1, 2, 3, 4, 5].map(|number| format!("process_csv_batch_00{number}")));
        assert!(names.iter().all(|name| task.results[*name]["processed"] == 200));
        let counts = json!({"garden": 200, "kitchen": 200, "office": 200, "sports": 200, "toys": 200});
        let dearest = json!({"title": "Bottle 10", "price_cents": 20090});
        let end = json!({"processed": 1000, "inventory_cents": 458_741_530, "category_counts": counts, "dearest": dearest, "worker_count": 5});
        assert_eq!(task.results["aggregate_csv_results"], end);
    }
    for task in both(&rigs, "product_inventory.yaml", file("products_empty.csv"), &[]).await {
        assert_eq!(task.workers.len(), 1);
        assert_eq!(task.workers[0].0, "process_csv_batch_000");
        let end = &task.results["aggregate_csv_results"];
        assert_eq!((&end["processed"], &end["worker_count"]), (&json!(0), &json!(0)));
    }
    for task in both(&rigs, "product_inventory.yaml", file("nothing.csv"), &[]).await {
        assert_eq!(task.failed["analyze_csv"].error_code.as_deref(), Some("file_not_found"));
    }
}

#[tokio::test]
async fn the_second_attempt_continues_where_the_first_one_failed() {
    let rigs = rigs().await;
    for (resume_by, yields, resumed_at) in [("failure", 0, 60), ("checkpoint", 4, 50)] {
        let context = json!({"dataset_size": 100, "resume_by": resume_by});
        let items: Vec<u64> = (0..60).chain(resumed_at..100).collect();
        for task in both(&rigs, "batch_resumption.yaml", context, &[]).await {
            let began_at = json!({"1": 0, "2": resumed_at});
            let expected = json!({"total_processed": 100, "failed_at": 60, "began_at": began_at, "items": items});
            assert_eq!(task.results["process_range_001"], expected, "{resume_by}");
            assert_eq!((task.yields, task.attempts["process_range_001"]), (yields, 2), "{resume_by}");
        }
    }
    for task in both(&rigs, "batch_resumption.yaml", json!({"dataset_size": 0}), &[]).await {
        assert_eq!(task.results.keys().collect::<Vec<_>>(), ["analyze_dataset"]);
    }
}

#[tokio::test]
async fn a_worker_that_yields_adds_up_the_same_however_often_it_does() {
    let rigs = rigs().await;
    for (context, total, yields, attempts) in [
        (json!({"total_items": 100, "items_per_checkpoint": 25}), 100, 3, 1),
        (json!({"total_items": 50, "items_per_checkpoint": 5}), 50, 9, 1),
        (json!({"total_items": 10}), 10, 0, 1),
        (json!({"total_items": 100, "items_per_checkpoint": 20, "fail_after_items": 50, "fail_on_attempt": 1}), 100, 4, 2),
    ] {
        for task in both(&rigs, "checkpoint_yield.yaml", context.clone(), &[]).await {
            let sum = total * (total + 1) / 2;
            let counts = json!({"total_processed": total, "running_total": sum, "checkpoints_used": yields, "worker_count": 1});
            let mut end = task.results["aggregate_items"].clone();
            assert_eq!(end.as_object_mut().unwrap().remove("scenario"), Some(json!("with_batches")), "{context}");
            assert_eq!(end, counts, "{context}");
            assert_eq!((task.yields, task.attempts["sum_items_001"]), (yields, attempts), "{context}");
        }
    }
    for task in both(&rigs, "checkpoint_yield.yaml", json!({"total_items": 0}), &[]).await {
        assert_eq!(task.results["sum_items_000"]["no_op"], true);
        assert_eq!(task.results["aggregate_items"]["scenario"], "no_batches");
    }
}

#[tokio::test]
async fn a_permanent_failure_of_a_worker_ends_its_attempts() {
    let context = json!({"total_items": 100, "items_per_checkpoint": 25, "fail_after_items": 30, "permanent_failure": true});
    for task in both(&rigs().await, "checkpoint_yield.yaml", context, &[]).await {
        assert_eq!((task.yields, task.attempts["sum_items_001"]), (1, 1));
        assert_eq!(task.failed["sum_items_001"].error_type, "permanent_error");
    }
}

#[tokio::test]
async fn the_longer_branch_of_a_diamond_is_added_up_in_batches() {
    let rigs = rigs().await;
    for (numbers, parity, workers, sum) in [
        (json!([2, 4, 6, 8, 10, 12]), "even", 3, 42),
        (json!([1, 3, 5, 7, 9, 11, 2, 4]), "odd", 3, 36),
        (json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), "even", 3, 30),
        (json!([-3, -1, 0]), "odd", 1, -4),
    ] {
        for task in both(&rigs, "diamond_decision_batch.yaml", json!({"numbers": numbers}), &[]).await {
            assert_eq!(task.workers.len(), workers, "{numbers}");
            assert!(task.workers.iter().all(|(name, _)| name.starts_with(&format!("process_{parity}_batch_"))));
            assert_eq!(task.results[&format!("aggregate_{parity}_results")]["total_sum"], sum, "{numbers}");
            assert_eq!(task.results.len(), 4 + 1 + workers + 1, "nothing of the other branch exists");
        }
    }
}

#[tokio::test]
async fn the_step_after_a_person_goes_on_with_what_the_person_gave() {
    let rigs = rigs().await;
    let context = json!({"title": "Notes", "text": "one two three"});
    for (review, published, reviewer) in
        [(json!({"approved": true, "reviewer": "Ada"}), true, json!("Ada")), (Value::Null, false, Value::Null)]
    {
        for task in both(&rigs, "document_review.yaml", context.clone(), &[("human_review", review.clone())]).await {
            assert_eq!(task.failed["human_review"].error_code.as_deref(), Some("needs_a_person"));
            let end = json!({"title": "Notes", "published": published, "reviewer": reviewer});
            assert_eq!(task.results["publish_document"], end);
        }
    }
    for task in both(&rigs, "document_review.yaml", context, &[]).await {
        assert_eq!(task.results.keys().collect::<Vec<_>>(), ["prepare_document"]);
    }
}

#[tokio::test]
async fn a_cart_becomes_an_order_and_each_thing_that_goes_wrong_has_its_code() {
    let rigs = rigs().await;
    let order = |token: &str, amount: f64| {
        json!({
            "cart_items": [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}],
            "customer_info": {"email": "ada@example.com", "name": "Ada"},
            "payment_info": {"method": "credit_card", "token": token, "amount": amount},
        })
    };
    for task in both(&rigs, "order_processing.yaml", order("tok_test_valid", 124.76), &[]).await {
        let cart = &task.results["validate_cart"];
        let amounts = ["subtotal", "tax", "shipping", "total"].map(|key| cart[key].as_f64().unwrap());
        assert_eq!(amounts, [109.97, 8.8, 5.99, 124.76]);
        assert_eq!(task.results.len(), 5);
        assert_eq!(task.results["send_order_confirmation"]["order_id"], task.results["create_order"]["order_id"]);
    }
    for (token, amount, code, attempts) in [
        ("tok_test_declined", 124.76, "card_declined", 1),
        ("tok_test_insufficient_funds", 124.76, "insufficient_funds", 1),
        ("tok_test_network_error", 124.76, "gateway_unavailable", 2),
        ("tok_test_valid", 124.5, "amount_mismatch", 1),
    ] {
        for task in both(&rigs, "order_processing.yaml", order(token, amount), &[]).await {
            assert_eq!(task.failed["process_payment"].error_code.as_deref(), Some(code));
            assert_eq!(task.attempts["process_payment"], attempts, "{token}");
        }
    }
}

#[tokio::test]
async fn three_sources_meet_in_one_set_of_figures() {
    for task in both(&rigs().await, "analytics_pipeline.yaml", json!({"pipeline_id": "p"}), &[]).await {
        assert_eq!(task.results.len(), 8);
        let insights = ["a customer brings 61960 cents", "order Desk again"];
        assert_eq!(task.results["generate_insights"], json!({"insights": insights, "health_score": 80}));
    }
}

#[tokio::test]
async fn a_user_of_each_plan_is_set_up_in_every_service() {
    let rigs = rigs().await;
    for (plan, billing, preferences, messages) in
        [("free", "skipped_free_plan", 2, 2), ("pro", "active", 3, 2), ("enterprise", "active", 4, 3)]
    {
        let context = json!({"user_info": {"email": "ada@example.com", "name": "Ada", "plan": plan}});
        for task in both(&rigs, "user_registration.yaml", context, &[]).await {
            let end = &task.results["update_user_status"];
            let found = [&end["status"], &end["billing"], &end["preferences"], &end["messages"]];
            assert_eq!(found, [&json!("active"), &json!(billing), &json!(preferences), &json!(messages)]);
        }
    }
    let context = json!({"user_info": {"email": "ada", "name": "Ada"}});
    for task in both(&rigs, "user_registration.yaml", context, &[]).await {
        assert_eq!(task.failed["create_user_account"].error_code.as_deref(), Some("bad_email"));
    }
}

#[tokio::test]
async fn two_teams_refund_under_one_name() {
    let rigs = rigs().await;
    let payment = |id: &str| json!({"payment_id": id, "refund_amount": 4999});
    for task in both(&rigs, "refund_payment.yaml", payment("pay_1"), &[]).await {
        assert_eq!(task.results["notify_customer"], json!({"message": "4999 were refunded", "payment_id": "pay_1"}));
    }
    for task in both(&rigs, "refund_payment.yaml", payment("1"), &[]).await {
        assert_eq!(task.failed["validate_payment_eligibility"].error_code.as_deref(), Some("unknown_payment"));
    }
    let request = |customer: &str, amount: u32| json!({"ticket_id": "t", "customer_id": customer, "refund_amount": amount});
    for (customer, by) in [("cust_1", "manager@example.com"), ("cust_gold_1", "policy")] {
        for task in both(&rigs, "refund_request.yaml", request(customer, 4999), &[]).await {
            let ticket = json!({"ticket_id": "t", "status": "resolved", "approved_by": by});
            assert_eq!(task.results["update_ticket_status"], ticket);
        }
    }
    for task in both(&rigs, "refund_request.yaml", request("cust_1", 10_001), &[]).await {
        assert_eq!(task.failed["check_refund_policy"].error_code.as_deref(), Some("above_the_limit"));
    }
}

#[tokio::test]
async fn the_method_chooses_a_part_of_a_handler() {
    let rigs = rigs().await;
    for task in both(&rigs, "method_dispatch.yaml", json!({"data": {"amount": 100.0}}), &[]).await {
        let refund = json!({"invoked_method": "refund", "refund_amount": 110.0, "refund_reason": "not_specified"});
        assert_eq!(
            (&task.results["refund_step"], &task.results["default_call_step"]["invoked_method"]),
            (&refund, &json!("call"))
        );
    }
    for task in both(&rigs, "resolver_hints.yaml", json!({"action_type": "x"}), &[]).await {
        let action = json!({"invoked_method": "execute_action", "action_type": "x"});
        assert_eq!((&task.results["combined_hint_step"], task.results.len()), (&action, 3));
    }
    for task in both(&rigs, "method_dispatch.yaml", json!({}), &[]).await {
        assert_eq!(task.failed["validate_step"].error_code.as_deref(), Some("validation_error"));
    }
}

#[tokio::test]
async fn a_source_that_fails_twice_is_read_in_the_third_attempt() {
    for task in both(&rigs().await, "unreliable_source.yaml", json!({}), &[]).await {
        assert_eq!((task.attempts["read_source"], &task.results["read_source"]), (3, &json!({"attempts_before_success": 3})));
    }
}

#[tokio::test]
async fn a_data_set_is_divided_only_if_it_is_large() {
    let rigs = rigs().await;
    for (size, workers) in [(50, 0), (999, 0), (1000, 1), (1500, 2), (50_000, 10)] {
        for task in both(&rigs, "large_dataset.yaml", json!({"dataset_size": size}), &[]).await {
            let counted = json!({"total_processed": size, "worker_count": workers});
            assert_eq!((task.workers.len(), &task.results["add_up_counts"]), (workers.max(1), &counted), "{size}");
        }
    }
}

#[test]
fn every_sample_runs_in_a_test() {
    let tests = include_str!("dynamic.rs");
    for file in std::fs::read_dir(root().join("config/templates/samples")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(tests.contains(&format!("\"{name}\"")), "{name} runs in no test");
    }
}
