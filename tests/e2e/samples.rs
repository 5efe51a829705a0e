//! The sample workflows give the documented results.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use tasker_test_support::{
    binary,
    dev::{Dev, Place},
    root,
};

#[test]
fn the_sample_workflows_give_their_results() {
    let python = format!("python3 {}", root().join("workers/python/examples/number_handlers.py").display());
    for worker in [binary("tasker-example-rust").display().to_string(), python] {
        let place = Place::create();
        for name in ["linear", "diamond", "tree", "mixed_dag"] {
            let file = format!("{name}.yaml");
            fs::copy(root().join("config/templates").join(&file), place.path("templates").join(&file)).unwrap();
        }
        let dev = Dev::start(&place, &["--worker", &format!("rust={worker}")]);
        numbers(&dev);
        assert!(dev.stop());
    }
}

fn numbers(dev: &Dev) {
    let results = |namespace: &str, name: &str| {
        let task = dev.submit(namespace, name, json!({"even_number": 6}));
        assert_eq!(dev.finished(&task)["status"], "complete", "{name}: {:?}", dev.steps(&task));
        // In Python a result that is no object is under a key.
        let plain = |result: &Value| result.get("result").unwrap_or(result).clone();
        dev.steps(&task).iter().map(|step| plain(&step["results"]["result"])).collect::<Vec<_>>()
    };
    assert_eq!(
        results("rust_e2e_linear", "mathematical_sequence"),
        [json!(36), json!(1296), json!(1_679_616), json!(2_821_109_907_456_u64)]
    );
    assert_eq!(results("rust_e2e_diamond", "diamond_pattern").last(), Some(&json!(2_821_109_907_456_u64)));
    assert_eq!(results("rust_e2e_tree", "hierarchical_tree").last(), Some(&json!(power(64))));
    assert_eq!(results("rust_e2e_mixed_dag", "complex_dag").last(), Some(&json!(power(64))));
}

/// 6 to a power as a decimal string, by schoolbook multiplication.
fn power(exponent: u32) -> String {
    let mut digits = vec![1u32];
    for _ in 0..exponent {
        let mut carry = 0;
        for digit in &mut digits {
            let product = *digit * 6 + carry;
            (*digit, carry) = (product % 10, product / 10);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().map(|d| char::from_digit(*d, 10).unwrap()).collect()
}

/// Runs `check` with the samples of `config/templates/samples` and a worker of each language.
fn in_both_languages(check: fn(&Dev)) {
    in_both_languages_of(&[], check);
}

/// The same with further templates.
fn in_both_languages_of(further: &[Value], check: fn(&Dev)) {
    let python = format!("python3 {}", root().join("workers/python/examples/samples.py").display());
    for worker in [binary("tasker-example-rust").display().to_string(), python] {
        let place = Place::create();
        further.iter().for_each(|template| place.template(template));
        for file in fs::read_dir(root().join("config/templates/samples")).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "yaml") {
                fs::copy(&file, place.path("templates").join(file.file_name().unwrap())).unwrap();
            }
        }
        let dev = Dev::start(&place, &["--worker", &format!("default={worker}")]);
        check(&dev);
        dev.assert_healthy();
        assert!(dev.stop());
    }
}

/// The results of a task that ends as complete, with all its steps, by step.
fn results(dev: &Dev, task: &str) -> BTreeMap<String, Value> {
    let (ended, steps) = (dev.finished(task), dev.steps(task));
    assert_eq!((&ended["status"], &ended["execution_status"]), (&json!("complete"), &json!("all_complete")), "{steps:?}");
    assert!(steps.iter().all(|step| ["complete", "resolved_manually"].contains(&step["current_state"].as_str().unwrap())));
    let result = |step: &Value| (step["name"].as_str().unwrap().to_owned(), step["results"]["result"].clone());
    steps.iter().map(result).collect()
}

/// The steps that a task is submitted with, before any is made.
fn declared(dev: &Dev, namespace: &str, name: &str, context: Value) -> Value {
    let (status, body) = dev.post("/v1/tasks", &json!({"namespace": namespace, "name": name, "context": context}));
    assert_eq!(status, 201, "{body}");
    body["total_steps"].clone()
}

/// How many steps have a name that begins so.
fn workers(steps: &BTreeMap<String, Value>, pattern: &str) -> usize {
    steps.keys().filter(|name| name.starts_with(pattern)).count()
}

#[test]
fn orders_pipelines_and_registrations_give_the_same_in_both_languages() {
    in_both_languages(|dev| {
        let order = json!({
            "cart_items": [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}],
            "customer_info": {"email": "ada@example.com", "name": "Ada"},
            "payment_info": {"method": "credit_card", "token": "tok_test_valid", "amount": 124.76},
        });
        let order = results(dev, &dev.submit("ecommerce", "order_processing", order));
        assert_eq!((order.len(), &order["create_order"]["total"]), (5, &json!(124.76)));
        let pipeline = results(dev, &dev.submit("data_pipeline", "analytics_pipeline", json!({"pipeline_id": "p"})));
        assert_eq!((pipeline.len(), &pipeline["generate_insights"]["health_score"]), (8, &json!(80)));
        let user = json!({"user_info": {"email": "ada@example.com", "name": "Ada", "plan": "pro"}});
        let user = results(dev, &dev.submit("microservices", "user_registration", user));
        assert_eq!((user.len(), &user["update_user_status"]["billing"]), (5, &json!("active")));
    });
}

#[test]
fn what_a_person_gives_as_the_result_of_a_step_is_what_the_next_one_goes_on_with() {
    in_both_languages(|dev| {
        let task = dev.submit("manual_completion", "document_review", json!({"title": "Notes", "text": "one two three"}));
        assert_eq!(dev.finished(&task)["status"], "error");
        let result = json!({"approved": true, "reviewer": "Ada"}).to_string();
        let resolved = dev.ctl(&["step", "resolve", &task, "human_review", "--reason", "I read it", "--result", &result]);
        assert!(resolved.status.success(), "{}", String::from_utf8_lossy(&resolved.stderr));
        let published = json!({"title": "Notes", "published": true, "reviewer": "Ada"});
        assert_eq!(results(dev, &task)["publish_document"], published);
    });
}

#[test]
fn a_decision_makes_the_approvals_that_an_amount_needs() {
    in_both_languages(|dev| {
        for (amount, chosen) in [
            (500, &["auto_approve"][..]),
            (999, &["auto_approve"]),
            (1000, &["manager_approval"]),
            (3000, &["manager_approval"]),
            (5000, &["finance_review", "manager_approval"]),
            (10_000, &["finance_review", "manager_approval"]),
        ] {
            let request = json!({"amount": amount, "requester": "Ada", "purpose": "books"});
            let steps = results(dev, &dev.submit("conditional_approval", "approval_routing", request));
            let mut expected = vec!["finalize_approval", "routing_decision", "validate_request"];
            expected.extend(chosen);
            expected.sort_unstable();
            assert_eq!(steps.keys().collect::<Vec<_>>(), expected, "{amount}");
            assert_eq!(steps["finalize_approval"]["approval_count"], chosen.len());
        }
        let request = json!({"amount": 1500, "requester": "Ada", "purpose": "books"});
        assert_eq!(declared(dev, "conditional_approval", "approval_routing", request), 2);
    });
}

#[test]
fn batches_make_a_worker_for_each_cursor_and_one_without_work_for_none() {
    in_both_languages(|dev| {
        for (file, count, processed) in [("products.csv", 5, 1000), ("products_empty.csv", 1, 0)] {
            let context = json!({"csv_file_path": root().join("config/templates/samples").join(file)});
            let steps = results(dev, &dev.submit("csv_processing", "product_inventory", context));
            assert_eq!(workers(&steps, "process_csv_batch_"), count);
            assert_eq!(steps["aggregate_csv_results"]["processed"], processed);
        }
        for (numbers, chosen, other) in [(json!([2, 4, 6, 8, 10, 12]), "even", "odd"), (json!([1, 3, 5, 7, 9, 2]), "odd", "even")]
        {
            let steps = results(dev, &dev.submit("combined_workflow", "diamond_decision_batch", json!({"numbers": numbers})));
            assert_eq!(workers(&steps, &format!("process_{chosen}_batch_")), 3);
            assert!(!steps.keys().any(|name| name.contains(other) && *name != format!("branch_{other}s")), "{steps:?}");
        }
        assert_eq!(declared(dev, "combined_workflow", "diamond_decision_batch", json!({"numbers": [2, 4]})), 4);
        for (size, count) in [(500, 1), (50, 1), (1500, 2), (5000, 5), (50_000, 10)] {
            let steps = results(dev, &dev.submit("data_processing", "large_dataset", json!({"dataset_size": size})));
            assert_eq!(workers(&steps, "count_batch_"), count, "{size}");
            let expected = json!({"total_processed": size, "worker_count": if size < 1000 { 0 } else { count }});
            assert_eq!(steps["add_up_counts"], expected);
        }
        assert_eq!(declared(dev, "data_processing", "large_dataset", json!({"dataset_size": 1500})), 1);
    });
}

#[test]
fn work_continues_at_its_checkpoint_or_where_its_last_attempt_failed() {
    in_both_languages(|dev| {
        let attempts = |task: &str, worker: &str| {
            dev.steps(task).iter().find(|step| step["name"] == worker).map(|step| step["attempts"].clone()).unwrap()
        };
        // The first attempt fails after 60 items, with its last checkpoint at 50. Every item is noted each time that it is taken.
        for (resume_by, resumed_at) in [("failure", 60), ("checkpoint", 50)] {
            let task = dev.submit("batch_resumption", "batch_resumption", json!({"dataset_size": 100, "resume_by": resume_by}));
            let range = &results(dev, &task)["process_range_001"];
            assert_eq!(range["began_at"], json!({"1": 0, "2": resumed_at}), "{resume_by}");
            assert_eq!(range["items"], json!((0..60).chain(resumed_at..100).collect::<Vec<u64>>()), "{resume_by}");
        }
        for (items, each, fail_after, total, checkpoints, began_at) in [
            (100, 25, None, 5050, 3, json!({"1": 0})),
            (100, 20, Some(50), 5050, 4, json!({"1": 0, "2": 40})),
            (50, 5, None, 1275, 9, json!({"1": 0})),
            (10, 20, None, 55, 0, json!({"1": 0})),
        ] {
            let mut context = json!({"total_items": items, "items_per_checkpoint": each});
            if let Some(after) = fail_after {
                context["fail_after_items"] = json!(after);
            }
            let task = dev.submit("checkpoint_yield", "checkpoint_yield", context);
            let results = results(dev, &task);
            let (added, worker) = (&results["aggregate_items"], &results["sum_items_001"]["batch_metadata"]);
            let sums = ["total_processed", "running_total", "checkpoints_used"].map(|key| added[key].as_i64().unwrap());
            assert_eq!(sums, [items, total, checkpoints]);
            assert_eq!((&worker["began_at"], &worker["items"]), (&began_at, &json!((0..items).collect::<Vec<_>>())));
            assert_eq!(attempts(&task, "sum_items_001"), began_at.as_object().unwrap().len());
        }
        let task = dev.submit("checkpoint_yield", "checkpoint_yield", json!({"total_items": 0, "items_per_checkpoint": 10}));
        assert_eq!(results(dev, &task)["aggregate_items"]["total_processed"], 0);
        let context = json!({"total_items": 100, "items_per_checkpoint": 25, "fail_after_items": 30, "permanent_failure": true});
        let task = dev.submit("checkpoint_yield", "checkpoint_yield", context);
        assert_eq!(dev.finished(&task)["status"], "error");
        assert_eq!(attempts(&task, "sum_items_001"), 1);
    });
}

#[test]
fn a_batch_whose_workers_all_failed_is_not_added_up_as_nothing() {
    let worker = json!({"callable": "sum_items", "initialization": {"items_per_checkpoint": 25}});
    let tolerant = json!({"name": "sums", "namespace_name": "tolerant", "version": "1.0.0", "identity_strategy": "always_unique",
    "steps": [
        {"name": "analyze_items", "type": "batchable", "handler": {"callable": "analyze_items"}},
        {"name": "sum_items", "type": "batch_worker", "dependencies": ["analyze_items"], "handler": worker,
            "batch_config": {"worker_template": "sum_items", "failure_strategy": "continue_on_failure"}},
        {"name": "aggregate_items", "type": "deferred_convergence", "dependencies": ["sum_items"],
            "handler": {"callable": "aggregate_items"}},
    ]});
    in_both_languages_of(&[tolerant], |dev| {
        let task = dev.submit("tolerant", "sums", json!({"total_items": 50}));
        assert_eq!(results(dev, &task)["aggregate_items"]["running_total"], 1275);
        let task = dev.submit("tolerant", "sums", json!({"total_items": 50, "fail_after_items": 30, "permanent_failure": true}));
        assert_eq!(dev.finished(&task)["execution_status"], "blocked_by_failures");
        let steps = dev.steps(&task);
        let sum = steps.iter().find(|step| step["name"] == "aggregate_items").unwrap();
        assert_eq!((&sum["current_state"], &sum["attempts"]), (&json!("error"), &json!(1)), "{sum}");
        assert!(sum.to_string().contains("succeeded, and 1 failed"), "{sum}");
    });
}

#[test]
fn templates_of_one_name_in_two_namespaces_are_two_workflows() {
    in_both_languages(|dev| {
        let payment = json!({"payment_id": "pay_1", "refund_amount": 4999, "refund_reason": "customer_request"});
        let request = json!({"ticket_id": "t1", "customer_id": "cust_premium_456", "refund_amount": 4999});
        let [payment, request] = [("payments", payment), ("customer_success", request)]
            .map(|(namespace, context)| dev.submit(namespace, "process_refund", context));
        let (payment, request) = (results(dev, &payment), results(dev, &request));
        assert_eq!((payment.len(), &payment["notify_customer"]["message"]), (4, &json!("4999 were refunded")));
        let ticket = json!({"ticket_id": "t1", "status": "resolved", "approved_by": "policy"});
        assert_eq!((request.len(), &request["update_ticket_status"]), (5, &ticket));
    });
}

#[test]
fn the_method_of_a_step_decides_which_part_of_its_handler_runs() {
    in_both_languages(|dev| {
        let data = json!({"data": {"amount": 100.0, "reason": "test_refund"}});
        let steps = results(dev, &dev.submit("method_dispatch", "method_dispatch", data));
        let invoked = |name: &str| steps[name]["invoked_method"].clone();
        let methods = ["validate_step", "process_step", "refund_step", "default_call_step"].map(invoked);
        assert_eq!(methods, ["validate", "process", "refund", "call"]);
        assert_eq!(
            (&steps["refund_step"]["refund_amount"], &steps["refund_step"]["refund_reason"]),
            (&json!(110.0), &json!("test_refund"))
        );
        let without = dev.submit("method_dispatch", "method_dispatch", json!({}));
        assert_eq!(dev.finished(&without)["status"], "error");
    });
}

/// A template of one step that calls the handler of the unreliable source.
fn source(name: &str, initialization: Value, retry: Value) -> Value {
    let handler = json!({"callable": "read_source", "initialization": initialization});
    json!({"name": name, "namespace_name": "test_errors", "version": "1.0.0", "identity_strategy": "always_unique",
        "steps": [{"name": name, "handler": handler, "retry": retry}]})
}

#[test]
fn a_failure_is_repeated_as_often_as_its_template_says() {
    let short = |attempts: u32| json!({"max_attempts": attempts, "backoff_base_ms": 50, "max_backoff_ms": 100});
    let once = json!({"max_attempts": 0, "retryable": false});
    let mut mixed = source("error_testing", json!({"fail_count": 0}), once.clone());
    mixed["steps"] = ["success", "permanent", "retryable"]
        .map(|name| {
            let initialization = json!({"fail_count": if name == "retryable" { 9 } else { 0 }, "is_gone": name == "permanent"});
            source(name, initialization, short(2))["steps"][0].clone()
        })
        .into();
    let templates = [
        source("success_only", json!({"fail_count": 0}), once.clone()),
        source("permanent_error_only", json!({"is_gone": true}), once.clone()),
        source("retryable_error_only", json!({"fail_count": 9}), short(2)),
        source("fail_twice_then_succeed", json!({"fail_count": 2}), short(5)),
        source("always_fail", json!({"fail_count": 9}), short(3)),
        source("one_attempt", json!({"fail_count": 9}), json!({"max_attempts": 0})),
        mixed,
    ];
    in_both_languages_of(&templates, |dev| {
        for (name, attempts, state) in [
            ("success_only", 1, "complete"),
            ("permanent_error_only", 1, "error"),
            ("retryable_error_only", 2, "error"),
            ("fail_twice_then_succeed", 3, "complete"),
            ("always_fail", 3, "error"),
            ("one_attempt", 1, "error"),
        ] {
            let task = dev.submit("test_errors", name, json!({}));
            let (ended, step) = (dev.finished(&task), dev.steps(&task).remove(0));
            assert_eq!(
                (&ended["status"], &step["current_state"], &step["attempts"]),
                (&json!(state), &json!(state), &json!(attempts)),
                "{name}"
            );
            let expected = if state == "complete" { "all_complete" } else { "blocked_by_failures" };
            assert_eq!(ended["execution_status"], expected, "{name}");
        }
        let task = dev.submit("test_errors", "error_testing", json!({}));
        assert_eq!(dev.finished(&task)["execution_status"], "blocked_by_failures");
        let states: Vec<_> = dev.steps(&task).iter().map(|step| step["current_state"].clone()).collect();
        assert_eq!(states, ["complete", "error", "error"]);
        let task = dev.submit("retries", "unreliable_source", json!({}));
        assert_eq!(results(dev, &task)["read_source"]["attempts_before_success"], 3);
    });
}
