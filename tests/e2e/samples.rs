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
    let results = |namespace: &str, name: &str, count: usize| {
        let task = submit(dev, namespace, name, json!({"even_number": 6}));
        let ended = dev.finished(&task);
        assert_eq!(
            (&ended["status"], &ended["total_steps"]),
            (&json!("complete"), &json!(count)),
            "{name}: {:?}",
            dev.steps(&task)
        );
        // In Python a result that is no object is under a key.
        let plain = |result: &Value| result.get("result").unwrap_or(result).clone();
        dev.steps(&task).iter().map(|step| plain(&step["results"]["result"])).collect::<Vec<_>>()
    };
    assert_eq!(
        results("rust_e2e_linear", "mathematical_sequence", 4),
        [json!(36), json!(1296), json!(1_679_616), json!(2_821_109_907_456_u64)]
    );
    assert_eq!(results("rust_e2e_diamond", "diamond_pattern", 4).last(), Some(&json!(2_821_109_907_456_u64)));
    assert_eq!(results("rust_e2e_tree", "hierarchical_tree", 8).last(), Some(&json!(power(64))));
    assert_eq!(results("rust_e2e_mixed_dag", "complex_dag", 7).last(), Some(&json!(power(64))));
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
        let dev = Dev::start(&place, &["--environment", "test", "--worker", &format!("default={worker}")]);
        check(&dev);
        dev.assert_healthy();
        assert!(dev.stop());
    }
}

/// Submits a task as a client does that names itself, and marks each of its requests in the context.
fn submit(dev: &Dev, namespace: &str, name: &str, context: Value) -> String {
    created(dev, namespace, name, context)["task_uuid"].as_str().unwrap().to_owned()
}

fn created(dev: &Dev, namespace: &str, name: &str, mut context: Value) -> Value {
    context["_test_run_id"] = json!(uuid::Uuid::now_v7());
    let request = json!({"namespace": namespace, "name": name, "version": "1.0.0", "context": context, "initiator": "integration-test",
        "source_system": "test", "reason": "Integration test execution", "tags": ["integration-test"], "priority": 5,
        "correlation_id": uuid::Uuid::now_v7(), "requested_at": "2026-01-01T00:00:00"});
    let (status, body) = dev.post("/v1/tasks", &request);
    assert_eq!(status, 201, "{body}");
    body
}

fn names(steps: &BTreeMap<String, Value>) -> Vec<&str> {
    steps.keys().map(String::as_str).collect()
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
    created(dev, namespace, name, context)["total_steps"].clone()
}

#[test]
fn orders_pipelines_and_registrations_give_the_same_in_both_languages() {
    in_both_languages(|dev| {
        let order = json!({
            "cart_items": [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}],
            "customer_info": {"email": "ada@example.com", "name": "Ada"},
            "payment_info": {"method": "credit_card", "token": "tok_test_valid", "amount": 124.76},
        });
        let order = results(dev, &submit(dev, "ecommerce", "order_processing", order));
        let expected = ["create_order", "process_payment", "send_order_confirmation", "update_inventory", "validate_cart"];
        assert_eq!((names(&order), &order["create_order"]["total"]), (expected.to_vec(), &json!(124.76)));
        let pipeline = results(dev, &submit(dev, "data_pipeline", "analytics_pipeline", json!({"pipeline_id": "p"})));
        let expected = [
            "aggregate_metrics",
            "extract_customer_data",
            "extract_inventory_data",
            "extract_sales_data",
            "generate_insights",
            "transform_customers",
            "transform_inventory",
            "transform_sales",
        ];
        assert_eq!((names(&pipeline), &pipeline["generate_insights"]["health_score"]), (expected.to_vec(), &json!(80)));
        for (plan, billing) in [("pro", "active"), ("free", "skipped_free_plan"), ("enterprise", "active")] {
            let user = json!({"user_info": {"email": "ada@example.com", "name": "Ada", "plan": plan, "source": "api_test"}});
            let user = results(dev, &submit(dev, "microservices", "user_registration", user));
            let expected = [
                "create_user_account",
                "initialize_preferences",
                "send_welcome_sequence",
                "setup_billing_profile",
                "update_user_status",
            ];
            assert_eq!((names(&user), &user["update_user_status"]["billing"]), (expected.to_vec(), &json!(billing)), "{plan}");
        }
    });
}

#[test]
fn what_a_person_gives_as_the_result_of_a_step_is_what_the_next_one_goes_on_with() {
    in_both_languages(|dev| {
        let task = submit(dev, "manual_completion", "document_review", json!({"title": "Notes", "text": "one two three"}));
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
            (json!(0.01), &["auto_approve"][..]),
            (json!(500), &["auto_approve"]),
            (json!(999), &["auto_approve"]),
            (json!(1000), &["manager_approval"]),
            (json!(2500.0), &["manager_approval"]),
            (json!(5000), &["finance_review", "manager_approval"]),
            (json!(10_000.0), &["finance_review", "manager_approval"]),
        ] {
            let request = json!({"amount": amount, "requester": "Ada", "purpose": "books"});
            let steps = results(dev, &submit(dev, "conditional_approval", "approval_routing", request));
            let mut expected = vec!["finalize_approval", "routing_decision", "validate_request"];
            expected.extend(chosen);
            expected.sort_unstable();
            assert_eq!(names(&steps), expected, "{amount}");
            assert_eq!(steps["finalize_approval"]["approval_count"], chosen.len());
        }
        let request = json!({"amount": 1500, "requester": "Ada", "purpose": "books"});
        assert_eq!(declared(dev, "conditional_approval", "approval_routing", request), 2);
    });
}

/// The template `product_inventory`, which makes nothing for an empty file.
fn without_placeholder() -> Value {
    let yaml = fs::read_to_string(root().join("config/templates/samples/product_inventory.yaml")).unwrap();
    let mut template: Value = serde_saphyr::from_str(&yaml).unwrap();
    template["name"] = json!("without_placeholder");
    template["steps"][0]["handler"]["initialization"] = json!({"batch_size": 200});
    template
}

#[test]
fn batches_make_a_worker_for_each_cursor_and_for_none_one_without_work_or_nothing() {
    in_both_languages_of(&[without_placeholder()], |dev| {
        let inventory = |name: &str, file: &str| {
            let context = json!({"csv_file_path": root().join("config/templates/samples").join(file)});
            results(dev, &submit(dev, "csv_processing", name, context))
        };
        for name in ["product_inventory", "without_placeholder"] {
            let steps = inventory(name, "products.csv");
            let workers = [1, 2, 3, 4, 5].map(|n| format!("process_csv_batch_00{n}"));
            let mut expected = vec!["aggregate_csv_results", "analyze_csv"];
            expected.extend(workers.iter().map(String::as_str));
            assert_eq!(names(&steps), expected);
            assert!(workers.iter().all(|worker| steps[worker]["processed"] == 200), "{steps:?}");
            let categories = json!({"garden": 200, "kitchen": 200, "office": 200, "sports": 200, "toys": 200});
            let dearest = json!({"title": "Bottle 10", "price_cents": 20_090});
            let total = json!({"processed": 1000, "inventory_cents": 458_741_530, "category_counts": categories, "dearest": dearest,
                "worker_count": 5});
            assert_eq!(steps["aggregate_csv_results"], total);
        }
        let empty = inventory("product_inventory", "products_empty.csv");
        assert_eq!(names(&empty), ["aggregate_csv_results", "analyze_csv", "process_csv_batch_000"]);
        assert_eq!(
            (&empty["aggregate_csv_results"]["processed"], &empty["aggregate_csv_results"]["worker_count"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(names(&inventory("without_placeholder", "products_empty.csv")), ["analyze_csv"]);

        for (numbers, chosen, processed, sum) in [
            (json!([2, 4, 6, 8, 10, 12]), "even", 6, 42),
            (json!([1, 3, 5, 7, 9, 11, 2, 4]), "odd", 6, 36),
            // As many odd ones as even ones.
            (json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), "even", 5, 30),
        ] {
            let steps = results(dev, &submit(dev, "combined_workflow", "diamond_decision_batch", json!({ "numbers": numbers })));
            let [analyzer, aggregate] = [format!("{chosen}_batch_analyzer"), format!("aggregate_{chosen}_results")];
            let workers = [1, 2, 3].map(|n| format!("process_{chosen}_batch_00{n}"));
            let mut expected =
                vec![&aggregate[..], "branch_evens", "branch_odds", "ddb_routing_decision", "ddb_start", &analyzer];
            expected.extend(workers.iter().map(String::as_str));
            expected.sort_unstable();
            assert_eq!(names(&steps), expected, "{numbers}");
            assert_eq!(steps[&aggregate], json!({"total_processed": processed, "total_sum": sum, "batch_count": 3}), "{numbers}");
        }
        assert_eq!(declared(dev, "combined_workflow", "diamond_decision_batch", json!({"numbers": [2, 4, 6, 8]})), 4);
        for (size, count) in [(500, 1), (50, 1), (1500, 2), (5000, 5), (50_000, 10)] {
            let steps = results(dev, &submit(dev, "data_processing", "large_dataset", json!({"dataset_size": size})));
            let workers = steps.keys().filter(|name| name.starts_with("count_batch_")).count();
            assert_eq!(workers, count, "{size}");
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
            let task = submit(dev, "batch_resumption", "batch_resumption", json!({"dataset_size": 100, "resume_by": resume_by}));
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
            let task = submit(dev, "checkpoint_yield", "checkpoint_yield", context);
            let results = results(dev, &task);
            let (added, worker) = (&results["aggregate_items"], &results["sum_items_001"]["batch_metadata"]);
            let sums = ["total_processed", "running_total", "checkpoints_used"].map(|key| added[key].as_i64().unwrap());
            assert_eq!(sums, [items, total, checkpoints]);
            assert_eq!((&worker["began_at"], &worker["items"]), (&began_at, &json!((0..items).collect::<Vec<_>>())));
            assert_eq!(attempts(&task, "sum_items_001"), began_at.as_object().unwrap().len());
        }
        let task = submit(dev, "checkpoint_yield", "checkpoint_yield", json!({"total_items": 0, "items_per_checkpoint": 10}));
        assert_eq!(results(dev, &task)["aggregate_items"]["total_processed"], 0);
        let context = json!({"total_items": 100, "items_per_checkpoint": 25, "fail_after_items": 30, "permanent_failure": true});
        let task = submit(dev, "checkpoint_yield", "checkpoint_yield", context);
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
            .map(|(namespace, context)| submit(dev, namespace, "process_refund", context));
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
        let steps = results(dev, &submit(dev, "method_dispatch", "method_dispatch", data));
        let invoked = |name: &str| steps[name]["invoked_method"].clone();
        let methods = ["validate_step", "process_step", "refund_step", "default_call_step"].map(invoked);
        assert_eq!(methods, ["validate", "process", "refund", "call"]);
        assert_eq!(
            (&steps["refund_step"]["refund_amount"], &steps["refund_step"]["refund_reason"]),
            (&json!(110.0), &json!("test_refund"))
        );
        let without = dev.finished(&submit(dev, "method_dispatch", "method_dispatch", json!({})));
        assert_eq!((&without["status"], &without["execution_status"]), (&json!("error"), &json!("blocked_by_failures")));
    });
}

#[test]
fn a_hint_how_a_handler_is_found_changes_nothing_and_its_method_runs() {
    in_both_languages(|dev| {
        for data in [json!({"amount": 100, "reason": "r"}), json!({"amount": 250, "reason": "r"}), json!({"amount": 50})] {
            let context = json!({"data": data, "action_type": "test_action"});
            let steps = results(dev, &submit(dev, "method_dispatch", "resolver_hints", context));
            assert_eq!(names(&steps), ["chain_resolution_step", "combined_hint_step", "explicit_resolver_step"]);
            let call = json!({"invoked_method": "call"});
            assert_eq!((&steps["explicit_resolver_step"], &steps["chain_resolution_step"]), (&call, &call));
            let action = json!({"invoked_method": "execute_action", "action_type": "test_action"});
            assert_eq!(steps["combined_hint_step"], action);
        }
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
    // As it is, it would fail for good.
    let mut overlaid = source("overlaid", json!({"fail_count": 9}), once.clone());
    let of_test = json!({"name": "overlaid", "handler": {"initialization": {"fail_count": 1}}, "retry": short(2)});
    overlaid["environments"]["test"]["steps"] = json!([of_test]);
    let templates = [
        source("success_only", json!({"fail_count": 0}), once.clone()),
        source("permanent_error_only", json!({"is_gone": true}), once.clone()),
        source("retryable_error_only", json!({"fail_count": 9}), short(2)),
        source("fail_twice_then_succeed", json!({"fail_count": 2}), short(5)),
        source("always_fail", json!({"fail_count": 9}), short(3)),
        source("one_attempt", json!({"fail_count": 9}), json!({"max_attempts": 0})),
        source("patient", json!({"fail_count": 1, "retry_after": 5}), short(2)),
        overlaid,
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
            ("patient", 2, "complete"),
            ("overlaid", 2, "complete"),
        ] {
            let task = submit(dev, "test_errors", name, json!({}));
            let (ended, step) = (dev.finished(&task), dev.steps(&task).remove(0));
            assert_eq!(
                (&ended["status"], &step["current_state"], &step["attempts"]),
                (&json!(state), &json!(state), &json!(attempts)),
                "{name}"
            );
            let expected = if state == "complete" { "all_complete" } else { "blocked_by_failures" };
            assert_eq!(ended["execution_status"], expected, "{name}");
            if name == "patient" {
                let at = |key: &str| step[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
                let paused = at("last_attempted_at").duration_since(at("last_failure_at"));
                assert!(paused >= jiff::SignedDuration::from_secs(5), "{step}");
            }
        }
        let task = submit(dev, "test_errors", "error_testing", json!({}));
        assert_eq!(dev.finished(&task)["execution_status"], "blocked_by_failures");
        let states: Vec<_> = dev.steps(&task).iter().map(|step| step["current_state"].clone()).collect();
        assert_eq!(states, ["complete", "error", "error"]);
        let task = submit(dev, "retries", "unreliable_source", json!({}));
        assert_eq!(results(dev, &task)["read_source"]["attempts_before_success"], 3);
    });
}
